"""The manual page llmstatsd(1), made of the commands and options as the command line has them.

`python -m llmstatsd.manual` writes it; `make install` puts it where man(1) looks.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Final

import click

from llmstatsd import __version__, cli, config

EXIT_CODES: Final = {
    "0": "Done, or a clean stop.",
    "1": "Not ready (`healthcheck`), no answer (`top`), a problem (`doctor`), no daemon or none"
    " that lets you look (`tap`), or a bug of ours.",
    "2": "Wrong usage, or a destination that cannot be reached.",
    "3": "Bad configuration, a socket that cannot be bound, or a state file that another daemon"
    " keeps.",
}

SIGNALS: Final = {
    "SIGTERM, SIGINT": "Count what was sent before, write the state, let requests in flight"
    " finish, and end with 0.",
    "SIGHUP": "Load the configuration anew, as a whole or not at all; ignored under `nohup`.",
}

_FILES: Final = {
    "/etc/llmstatsd/llmstatsd.toml": "The configuration of the service, with every option and its"
    " default.",
    "/var/lib/llmstatsd/llmstatsd.state": "What the service keeps over a restart; of another daemon"
    " it is the file that `--state` names.",
    "/run/llmstatsd/dsd.sock": "The unix datagram socket of the service, beside UDP on"
    " 127.0.0.1:8125.",
}

_ENVIRONMENT: Final = {
    "LLMSTATSD_SOCKET, LLMSTATSD_HOST, LLMSTATSD_PORT, LLMSTATSD_DISABLE": "Where `send` sends"
    " without `--to`, and whether it does, as of every client.",
    "STATE_DIRECTORY": "A folder for the state file, where no option names one; systemd sets it.",
    "LISTEN_FDS, LISTEN_FDNAMES, NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM": "Of systemd: passed"
    " sockets, signs of life and the form of the log.",
}

_EXAMPLES: Final = {
    "Start a daemon, count a call, and read what was counted:": (
        "llmstatsd serve --config /etc/llmstatsd/llmstatsd.toml &",
        "llmstatsd send --model gpt-4o --operation chat --duration-seconds 1.5 --tokens 230",
        "curl -s localhost:2112/metrics | grep ^llm_",
    ),
    "Try a changed configuration, and let the service take it over:": (
        "llmstatsd check /etc/llmstatsd/llmstatsd.toml && systemctl reload llmstatsd",
    ),
}

# groff_char(7): these are typographic signs where they stand bare. NUL stands before a name, which
# is not to be hyphenated: people copy it.
_SIGNS: Final = str.maketrans(
    {"\0": r"\%", "\\": r"\e", "-": r"\-", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
)
_CODE: Final = re.compile(r"`+([^`]+)`+")
_NAME: Final = re.compile(r"\b\w+_\w+")


def page() -> str:
    """The page in the man macros of groff_man(7)."""
    sections = [
        _heading("NAME"),
        rf"llmstatsd \- {_text(inspect.cleandoc(cli.main.help or ''))}",
        _heading("SYNOPSIS"),
        *_synopsis(),
        _heading("DESCRIPTION"),
        _text(
            "One daemon per host receives StatsD and DogStatsD lines and JSON events, one datagram"
            " for each LLM call, and serves Prometheus at `/metrics` on port 2112."
            " Label values are bounded, totals stay exact, and what is lost or refused is counted."
        ),
        _heading("COMMANDS"),
        *_commands(),
        _heading("FILES"),
        *_terms(_FILES),
        _heading("ENVIRONMENT"),
        _text(
            "The variable of an option stands with its flag above."
            " A flag beats its variable, a variable beats the file, the file beats the default."
        ),
        *_terms(_ENVIRONMENT),
        _heading("SIGNALS"),
        *_terms(SIGNALS),
        _heading("EXIT STATUS"),
        *_terms(EXIT_CODES),
        _heading("EXAMPLES"),
        *_examples(),
        _heading("SEE ALSO"),
        r"\fBsystemctl\fR(1), \fBpromtool\fR(1)",
    ]
    title = f'.TH LLMSTATSD 1 "" "llmstatsd {__version__}" "User Commands"'
    return "\n".join([title, *sections, ""])


def _heading(name: str) -> str:
    return f".SH {name}"


def _text(text: str) -> str:
    """One paragraph; what stands in backquotes is bold."""
    marked = _NAME.sub("\0\\g<0>", " ".join(text.split()))
    escaped = marked.translate(_SIGNS)
    bold = _CODE.sub(r"\\fB\1\\fR", escaped)
    # A dot or a quote at the start of a line would be a request.
    return rf"\&{bold}" if bold.startswith(".") else bold


def _terms(meanings: dict[str, str]) -> Iterator[str]:
    for term, meaning in meanings.items():
        yield from (".TP", rf"\fB{_text(term)}\fR", _text(meaning))


def _commands_by_name() -> list[tuple[str, click.Command]]:
    return sorted(cli.main.commands.items(), key=lambda item: (item[0] != "serve", item[0]))


def _synopsis() -> Iterator[str]:
    for name, command in _commands_by_name():
        usage = " ".join(command.collect_usage_pieces(_context(name, command)))
        yield from (rf"\fBllmstatsd {name}\fR {_text(usage)}", ".br")
    yield r"\fBllmstatsd \-\-version\fR"


def _context(name: str, command: click.Command) -> click.Context:
    parent = click.Context(cli.main, info_name="llmstatsd", **cli.main.context_settings)
    return click.Context(command, parent=parent, info_name=name)


def _commands() -> Iterator[str]:
    variables = {option.flag: option.variable for option in config.options()}
    for name, command in _commands_by_name():
        yield rf".SS llmstatsd {name}"
        for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
            yield from (_text(paragraph), ".PP")
        context = _context(name, command)
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None and isinstance(parameter, click.Option):
                flags, text = record
                spaced = flags.replace("|", " | ")  # a line can end there
                yield from (".TP", rf"\fB{_text(spaced)}\fR", _text(text))
                if variable := variables.get(parameter.opts[0]):
                    yield from (".br", _text(f"Variable: `{variable}`"))


def _examples() -> Iterator[str]:
    for title, commands in _EXAMPLES.items():
        yield from (".PP", _text(title), ".PP", ".RS", ".nf")
        yield from map(_text, commands)
        yield from (".fi", ".RE")


if __name__ == "__main__":
    click.echo(page(), nl=False)
