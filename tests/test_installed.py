"""What `make install` leaves, and the service that it makes, under a systemd of its own."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_SECONDS, wait_for
from tests.machine import Machine
from tests.tools import tool

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "systemd" / "install.sh"
SERVICE = "llmstatsd.service"
UNITS = (SERVICE, "llmstatsd.socket", "llmstatsd-web.socket")
HELP = (
    "share/man/man1/llmstatsd.1",
    "share/bash-completion/completions/llmstatsd",
    "share/zsh/site-functions/_llmstatsd",
    "share/fish/vendor_completions.d/llmstatsd.fish",
)
RESTARTS = 8


def make(target: str, destination: Path, **variables: str) -> str:
    """What make says of a target, below a destination, with the packages of this environment."""
    given = {"VENV": sys.prefix, "DESTDIR": str(destination), **variables}
    command = [tool("make"), f"--directory={ROOT}", target]
    ended = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in given.items())],
        check=False,
        capture_output=True,
        text=True,
        umask=0o077,  # as careful administrators have it
        timeout=900,  # it compiles the extension if that is not built yet
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return str(ended.stdout)


def files(folder: Path) -> set[str]:
    """The files below a folder, without those of the environment."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path.relative_to(folder).as_posix() for path in found}
    return {name for name in names if "/lib/llmstatsd/" not in name}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that a package would be made of."""
    destination = tmp_path_factory.mktemp("installed")
    make("install", destination)
    return destination


def test_everything_is_where_it_is_looked_for(installed: Path) -> None:
    assert files(installed) == {
        "etc/llmstatsd/llmstatsd.toml",
        "usr/local/bin/llmstatsd",
        *(f"usr/local/lib/systemd/system/{unit}" for unit in UNITS),
        *(f"usr/local/{name}" for name in HELP),
    }
    link = installed / "usr/local/bin/llmstatsd"
    assert link.resolve() == installed / "usr/local/lib/llmstatsd/bin/llmstatsd"


def test_no_file_names_the_folder_that_it_was_made_in(installed: Path) -> None:
    for path in installed.rglob("*"):
        # The names in compiled files are put right by Python as it loads them.
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc":
            assert os.fsencode(installed) not in path.read_bytes(), path
            assert b"llmstatsd.new" not in path.read_bytes(), path


def test_everybody_may_read_it_and_root_alone_write(installed: Path) -> None:
    for path in (installed / "usr", installed / "etc"):
        for each in [path, *path.rglob("*")]:
            mode = each.lstat().st_mode
            assert stat.S_ISLNK(mode) or (mode & 0o066) == 0o044, each


def test_the_environment_is_its_own(installed: Path) -> None:
    """Nothing of it is a link into the source, and the compiled lane is there."""
    home = installed / "usr/local/lib/llmstatsd"
    program = "import llmstatsd.series.compiled as module; print(module.__file__)"
    command = [str(home / "bin/python"), "-I", "-c", program]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
    assert Path(said.strip()).is_relative_to(home)


def test_another_prefix_an_operators_file_and_an_upgrade(tmp_path: Path) -> None:
    """The configuration stays through install, upgrade and uninstall; everything else goes."""
    own = tmp_path / "etc/llmstatsd/llmstatsd.toml"
    own.parent.mkdir(parents=True)
    own.write_text("# an operator's\n")
    old = tmp_path / "opt/monitoring/lib/llmstatsd/of-an-older-version"
    old.parent.mkdir(parents=True)
    old.touch()
    said = make("install", tmp_path, PREFIX="/opt/monitoring")
    assert f"kept: {own}" in said
    assert not old.exists()
    # systemd looks for units below /usr and /usr/local, and below no other prefix.
    unit = (tmp_path / "etc/systemd/system" / SERVICE).read_text()
    assert "\nExecStart=/opt/monitoring/bin/llmstatsd serve --config /etc/llmstatsd/" in unit
    said = make("uninstall", tmp_path, PREFIX="/opt/monitoring")
    assert f"kept: {own.parent}" in said
    assert files(tmp_path) == {"etc/llmstatsd/llmstatsd.toml"}
    assert not old.parent.exists()
    assert own.read_text() == "# an operator's\n"


@pytest.fixture
def script_environment(tmp_path: Path) -> dict[str, str]:
    places = {"PREFIX": "/usr/local", "SYSCONFDIR": "/etc", "UNITDIR": "/etc/systemd/system"}
    return {**os.environ, **places, "DESTDIR": str(tmp_path), "PYTHON": sys.executable}


def refused(environment: dict[str, str]) -> str:
    ended = subprocess.run(
        [SCRIPT, "install"], check=False, capture_output=True, text=True, env=environment
    )
    assert ended.returncode in (1, 2)
    return ended.stderr


def test_a_program_of_another_installation_is_not_replaced(
    tmp_path: Path, script_environment: dict[str, str]
) -> None:
    other = tmp_path / "usr/local/bin/llmstatsd"
    other.parent.mkdir(parents=True)
    other.write_text("of pip")
    assert f"{other} is there and not of this installation" in refused(script_environment)
    subprocess.run([SCRIPT, "uninstall"], check=True, env=script_environment)
    assert other.read_text() == "of pip"


@pytest.mark.parametrize("folder", ["home", "root", "run/user"])
def test_a_home_is_no_prefix(folder: str, script_environment: dict[str, str]) -> None:
    prefix = f"/{folder}/somebody"
    assert "it sees no home folder" in refused({**script_environment, "PREFIX": prefix})


@pytest.mark.parametrize("prefix", ["usr", "/usr local", ""])
def test_a_prefix_is_absolute_and_one_word(prefix: str, script_environment: dict[str, str]) -> None:
    assert "not an absolute path" in refused({**script_environment, "PREFIX": prefix})


def test_who_may_not_write_is_told_what_to_set(script_environment: dict[str, str]) -> None:
    """Root may write everywhere, so it is nobody who asks; a Python that fails is a second bar."""
    nobody = 65534 if os.geteuid() == 0 else None
    ended = subprocess.run(
        ["sh", "-s", "install"],
        check=False,
        capture_output=True,
        input=SCRIPT.read_bytes(),
        cwd="/",
        env={**script_environment, "DESTDIR": "", "PYTHON": "/bin/false"},
        user=nobody,
        group=nobody,
        extra_groups=None if nobody is None else [],
    )
    assert ended.returncode == 1
    assert b"cannot write to /usr/local/lib: be root, or set PREFIX" in ended.stderr


@pytest.mark.parametrize(
    "script", [SCRIPT, Path(__file__).with_name("boot.sh")], ids=["install", "boot"]
)
def test_shellcheck_finds_nothing(script: Path) -> None:
    checked = subprocess.run(
        [tool("shellcheck"), script], check=False, capture_output=True, text=True
    )
    assert not checked.stdout


def test_bash_completes_commands_and_flags(installed: Path, tmp_path: Path) -> None:
    """The installed file in a real bash, where the program is the installed one."""
    program = tmp_path / "llmstatsd"
    home = installed / "usr/local/lib/llmstatsd/bin"
    program.write_text(f'#!/bin/sh\nexec {home}/python {home}/llmstatsd "$@"\n')
    program.chmod(0o755)
    completion = installed / "usr/local" / HELP[1]
    asked = """
        . "$0"
        complete_line() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _llmstatsd_completion llmstatsd
            echo "${COMPREPLY[@]}"
        }
        complete -p llmstatsd
        complete_line llmstatsd he
        complete_line llmstatsd serve --statsd-un
    """
    said = subprocess.run(
        [tool("bash"), "-c", asked, completion],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    ).stdout.splitlines()
    assert said[0].endswith(" llmstatsd")
    assert said[1:] == [
        "healthcheck",
        "--statsd-unix --statsd-unix-mode --statsd-unix-group",
    ]


def test_zsh_and_fish_are_given_the_same(installed: Path) -> None:
    zsh, fish = ((installed / "usr/local" / name).read_text() for name in HELP[2:])
    assert zsh.startswith("#compdef llmstatsd\n")
    assert "_LLMSTATSD_COMPLETE=zsh_complete" in zsh
    assert "_LLMSTATSD_COMPLETE=fish_complete" in fish
    assert "complete --no-files --command llmstatsd" in fish


@pytest.fixture(scope="module")
def machine(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the service was installed and started."""
    made = Machine(tmp_path_factory.mktemp("machine"), installed)
    try:
        run_script(made, "start")
        yield made
    finally:
        made.close()


def run_script(machine: Machine, verb: str) -> str:
    """`make install` and `make uninstall` call it; it comes by its standard input."""
    places = {
        "PREFIX": "/usr/local",
        "SYSCONFDIR": "/etc",
        "UNITDIR": "/usr/local/lib/systemd/system",
    }
    return machine.run("sh", "-s", verb, given=SCRIPT.read_text(), env=places)


def python(program: str) -> tuple[str, ...]:
    """The installed interpreter with a program: the machine may have no other."""
    return ("/usr/local/lib/llmstatsd/bin/python", "-c", program)


SCRAPE = """
from urllib.request import urlopen
print(urlopen("http://127.0.0.1:2112/metrics", timeout=30).read().decode())
"""

# Over UDP and the unix socket in turns, at a pace, until standard input is closed.
SEND = """
import select, socket, sys
number = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, \\
     socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
    udp.connect(("127.0.0.1", 8125))
    unix.connect("/run/llmstatsd/dsd.sock")
    while number < 1_000_000 and not select.select([sys.stdin], [], [], 0.002)[0]:
        for sock in (udp, unix):
            sock.send(b"llm_request_total:1|c|#model:gpt-4o,operation:chat")
            number += 1
print(number)
"""


def counted(machine: Machine) -> int:
    page = machine.run(*python(SCRAPE))
    found = re.search(
        r'^llm_request_total{model="gpt-4o",operation="chat"} (\S+)$', page, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def test_the_service_is_enabled_and_ready(machine: Machine) -> None:
    assert machine.run("systemctl", "is-enabled", *UNITS).split() == ["enabled"] * 3
    assert machine.run("systemctl", "is-active", *UNITS).split() == ["active"] * 3
    assert machine.run("/usr/local/bin/llmstatsd", "healthcheck") == "ready\n"


def test_the_service_has_a_user_and_a_folder_of_its_own(machine: Machine) -> None:
    owner = machine.run("stat", "-c", "%U %a", "/run/llmstatsd", "/run/llmstatsd/dsd.sock")
    assert owner == "root 755\nroot 666\n"
    pid = machine.shown(SERVICE, "MainPID")
    assert machine.run("stat", "-c", "%u", f"/proc/{pid}") != "0\n"
    machine.run("systemctl", "restart", SERVICE)
    assert "llmstatsd.state" in machine.run("ls", "/var/lib/private/llmstatsd").split()


def test_an_upgrade_restarts_the_service_and_keeps_its_sockets(machine: Machine) -> None:
    inode = ("stat", "-c", "%i", "/run/llmstatsd/dsd.sock")
    pid, before = machine.shown(SERVICE, "MainPID"), machine.run(*inode)
    run_script(machine, "start")
    assert machine.shown(SERVICE, "ActiveState") == "active"
    assert machine.shown(SERVICE, "MainPID") != pid
    assert machine.run(*inode) == before


def test_what_is_sent_during_restarts_is_counted_exactly(machine: Machine) -> None:
    before = counted(machine)
    pids = {machine.shown(SERVICE, "MainPID")}
    with ExitStack() as running:
        senders = [running.enter_context(machine.start(*python(SEND))) for _ in range(2)]
        for _ in range(RESTARTS):
            machine.run("systemctl", "restart", SERVICE)
            pids.add(machine.shown(SERVICE, "MainPID"))
        sent = sum(int(sender.communicate(timeout=DEADLINE_SECONDS)[0]) for sender in senders)
    assert len(pids) == RESTARTS + 1
    assert sent > 2 * RESTARTS
    wait_for("all that was sent", lambda: counted(machine) - before >= sent)
    assert counted(machine) - before == sent


def has_reloaded(machine: Machine, success: str) -> bool:
    return f"\nllmstatsd_config_reload_success {success}\n" in machine.run(*python(SCRAPE))


def test_a_reload_takes_a_changed_file_over_and_refuses_a_bad_one(machine: Machine) -> None:
    config = "/etc/llmstatsd/llmstatsd.toml"
    pid = machine.shown(SERVICE, "MainPID")
    for said, success in (("label_values = 0", "0.0"), ("label_values = 7", "1.0")):
        machine.run("sed", "-i", f"s/^label_values = .*/{said}/", config)
        machine.run("systemctl", "reload", SERVICE)
        wait_for(f"success {success}", partial(has_reloaded, machine, success))
    assert machine.shown(SERVICE, "MainPID") == pid


def test_a_service_that_cannot_start_gets_what_was_sent_meanwhile(machine: Machine) -> None:
    """A bad configuration, more starts than systemd allows by default, then a good one."""
    before = counted(machine)
    config = "/etc/llmstatsd/llmstatsd.toml"
    machine.run("sed", "-i", "s/^label_values = .*/label_values = 0/", config)
    with machine.start("systemctl", "restart", SERVICE) as refused:
        refused.communicate(timeout=DEADLINE_SECONDS)
    assert refused.returncode == 1
    with machine.start(*python(SEND)) as sender:
        wait_for("six starts", lambda: int(machine.shown(SERVICE, "NRestarts")) >= 6)
        machine.run("sed", "-i", "s/^label_values = .*/label_values = 100/", config)
        wait_for("a good one", lambda: machine.shown(SERVICE, "ActiveState") == "active")
        sent = int(sender.communicate(timeout=DEADLINE_SECONDS)[0])
    wait_for("all that was sent", lambda: counted(machine) - before >= sent)
    assert counted(machine) - before == sent


def test_a_service_that_hangs_is_started_anew(machine: Machine) -> None:
    """With a shorter time for its sign of life, and the main process stopped."""
    folder = f"/run/systemd/system/{SERVICE}.d"
    machine.run("mkdir", "-p", folder)
    machine.run("tee", f"{folder}/soon.conf", given="[Service]\nWatchdogSec=3\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVICE)
    pid = machine.shown(SERVICE, "MainPID")
    machine.run("kill", "-STOP", pid)
    wait_for("its end", lambda: machine.shown(SERVICE, "NRestarts") != "0")
    wait_for("a new one", lambda: machine.shown(SERVICE, "ActiveState") == "active")
    assert machine.shown(SERVICE, "MainPID") != pid
    assert "Watchdog timeout" in machine.journal()


def test_uninstalled_it_has_gone_but_for_configuration_and_state(machine: Machine) -> None:
    """The last of the machine's tests: it takes the service away."""
    assert "kept: /etc/llmstatsd and /var/lib/llmstatsd" in run_script(machine, "uninstall")
    assert machine.shown(SERVICE, "LoadState") == "not-found"
    assert machine.shown("llmstatsd.socket", "LoadState") == "not-found"
    assert machine.run("ls", "/etc/llmstatsd") == "llmstatsd.toml\n"
    assert "llmstatsd.state" in machine.run("ls", "/var/lib/private/llmstatsd").split()
    left = machine.run("find", "/usr/local", "/etc/systemd", "-name", "*llmstatsd*")
    assert not left
