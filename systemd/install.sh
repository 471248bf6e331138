#!/bin/sh
# Installs llmstatsd as a service of this machine, or removes it; `make install` calls it.
#
# usage: install.sh install|start|uninstall
#   PREFIX      where everything but configuration and units goes
#   SYSCONFDIR  where the configuration goes
#   UNITDIR     where the units go
#   DESTDIR     set by who makes a package: put before every path, and no service is touched
#   EXTRAS      optional dependencies with commas between them, such as gpu,isal
#   PYTHON      an interpreter with pip; the installed environment is of the same version
#   WHEELS      the folder with the packages, as `make wheels` builds them
set -eu

# Whatever root's is: the daemon reads all of this as a user of its own.
umask 022

here=$(dirname "$0")
DESTDIR=${DESTDIR:-}
for folder in "$PREFIX" "$SYSCONFDIR" "$UNITDIR" ${DESTDIR:+"$DESTDIR"}; do
    case $folder in
        /*[[:space:]]* | [!/]* | '') echo "not an absolute path without spaces: '$folder'" >&2 && exit 2 ;;
    esac
done

home=$PREFIX/lib/llmstatsd
program=$PREFIX/bin/llmstatsd
config=$SYSCONFDIR/llmstatsd/llmstatsd.toml
man=$PREFIX/share/man/man1/llmstatsd.1
bash_completion=$PREFIX/share/bash-completion/completions/llmstatsd
zsh_completion=$PREFIX/share/zsh/site-functions/_llmstatsd
fish_completion=$PREFIX/share/fish/vendor_completions.d/llmstatsd.fish
units='llmstatsd.socket llmstatsd-web.socket llmstatsd.service'

# The environment is built beside the one in use, which stays as it is until the new one is whole.
fresh=$DESTDIR$home.new

fail() {
    echo "llmstatsd: $*" >&2
    exit 1
}

# Whether a folder, or the first above it that is there, can be written to.
can_write() {
    folder=$1
    while [ ! -d "$folder" ]; do
        folder=$(dirname "$folder")
    done
    [ -w "$folder" ]
}

check_places() {
    for path in "$home" "$program" "$config" "$UNITDIR/llmstatsd.service"; do
        can_write "$(dirname "$DESTDIR$path")" ||
            fail "cannot write to $(dirname "$DESTDIR$path"): be root, or set PREFIX, SYSCONFDIR, UNITDIR or DESTDIR"
    done
    if [ -e "$DESTDIR$program" ] && ! is_ours; then
        fail "$DESTDIR$program is there and not of this installation; remove it first"
    fi
    # The unit has ProtectHome=yes.
    base=$("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    for path in "$base" "$PREFIX/"; do
        case $path in
            /home/* | /root/* | /run/user/*) fail "the service could not read $path: it sees no home folder" ;;
        esac
    done
}

is_ours() {
    [ "$(readlink "$DESTDIR$program")" = ../lib/llmstatsd/bin/llmstatsd ]
}

# The scripts of the new environment name its last place.
build_environment() {
    rm -rf "$fresh"
    mkdir -p "$(dirname "$fresh")"
    "$PYTHON" -m venv --without-pip "$fresh"
    "$PYTHON" -m pip --python "$fresh/bin/python" install --quiet --disable-pip-version-check \
        "$(echo "$WHEELS"/llmstatsd_client-*.whl)" \
        "$(echo "$WHEELS"/llmstatsd-*.whl)${EXTRAS:+[$EXTRAS]}"
    rm -f "$fresh"/bin/[Aa]ctivate*
    for file in "$fresh"/bin/* "$fresh/pyvenv.cfg"; do
        [ -L "$file" ] || sed -i "s|$fresh|$home|g" "$file"
    done
}

swap_environment() {
    rm -rf "$DESTDIR$home.old"
    [ ! -e "$DESTDIR$home" ] || mv "$DESTDIR$home" "$DESTDIR$home.old"
    mv "$fresh" "$DESTDIR$home"
    rm -rf "$DESTDIR$home.old"
}

# Standard input goes to a file of the installation, with the places that this one has.
put() {
    mkdir -p "$(dirname "$DESTDIR$1")"
    sed -e "s|/usr/local/bin/llmstatsd|$program|" -e "s|/etc/llmstatsd|$SYSCONFDIR/llmstatsd|" >"$DESTDIR$1"
}

put_units() {
    for unit in $units; do
        put "$UNITDIR/$unit" <"$here/$unit"
    done
}

# What is there is an operator's.
put_config() {
    if [ -e "$DESTDIR$config" ]; then
        echo "kept: $DESTDIR$config"
    else
        put "$config" <"$here/../configs/llmstatsd.toml"
    fi
}

# click writes the completion of the program by whose name it is called.
completion_for() {
    _LLMSTATSD_COMPLETE=$1_source "$fresh/bin/python" "$fresh/bin/llmstatsd"
}

put_help() {
    "$fresh/bin/python" -m llmstatsd.manual | put "$man"
    completion_for bash | put "$bash_completion"
    completion_for zsh | put "$zsh_completion"
    completion_for fish | put "$fish_completion"
}

has_service_manager() {
    [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]
}

# shellcheck disable=SC2086 # several words
start() {
    if ! has_service_manager; then
        echo "no service was started; with systemd: systemctl enable --now $units"
        return
    fi
    systemctl daemon-reload
    systemctl is-active --quiet llmstatsd.service && was_active=yes || was_active=
    systemctl --quiet enable $units
    systemctl start $units
    # The sockets stay open meanwhile, so that nothing that is sent gets lost.
    [ -z "$was_active" ] || systemctl restart llmstatsd.service
    systemctl --no-pager --lines=0 status llmstatsd.service
}

install() {
    check_places
    build_environment
    put_help
    put_config
    put_units
    swap_environment
    mkdir -p "$DESTDIR$PREFIX/bin"
    ln -sfn ../lib/llmstatsd/bin/llmstatsd "$DESTDIR$program"
    echo "installed: $DESTDIR$program, $("$DESTDIR$home/bin/python" -m llmstatsd --version)"
    start
}

# shellcheck disable=SC2086 # several words
uninstall() {
    if has_service_manager && [ -e "$UNITDIR/llmstatsd.service" ]; then
        systemctl --quiet disable --now $units
    fi
    if is_ours; then
        rm -f "$DESTDIR$program"
    fi
    rm -rf "$DESTDIR$home" "$DESTDIR$home.new" "$DESTDIR$home.old"
    for file in "$man" "$bash_completion" "$zsh_completion" "$fish_completion"; do
        rm -f "$DESTDIR$file"
    done
    for unit in $units; do
        rm -f "$DESTDIR$UNITDIR/$unit"
    done
    has_service_manager && systemctl daemon-reload
    echo "kept: $DESTDIR$SYSCONFDIR/llmstatsd and $DESTDIR/var/lib/llmstatsd"
}

case ${1:-} in
    install) install ;;
    start) start ;;
    uninstall) uninstall ;;
    *) echo 'usage: install.sh install|start|uninstall' >&2 && exit 2 ;;
esac
