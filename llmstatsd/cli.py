"""The command line: parses, calls, and turns what went wrong into an exit code.

Exit codes: 0 done or a clean stop, 2 wrong usage, 3 bad configuration or a socket that cannot be
bound.
"""

import io
import itertools
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from llmstatsd import __version__, address, config, send
from llmstatsd.catalog import ERROR_TYPES
from llmstatsd.top.view import SORTS, View
from llmstatsd.window import WINDOWS
from llmstatsd_client.settings import PAYLOAD_BYTES_LIMIT

if TYPE_CHECKING:
    from llmstatsd.ask import Daemon


class BadConfiguration(click.ClickException):
    """Ends the command with exit code 3 and every problem on stderr."""

    exit_code = config.EXIT_BAD_CONFIGURATION


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from llmstatsd.series import lanes

        lane, python = lanes.choose("auto").name, platform.python_version()
        click.echo(f"llmstatsd {__version__} (lane: {lane}, Python {python})")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show version and lane, then exit.",
)
def main() -> None:
    """LLM call metrics for Prometheus: UDP datagrams in, bounded and exact series out."""


def _flag(option: config.Option) -> click.Option:
    """The flag of a scalar option; its text goes to `config.load` unread."""
    return click.Option(
        [option.flag, f"{option.section}_{option.name}"],
        metavar=option.type.upper(),
        help=f"{option.help}  [{option.allowed}; default: {option.default_text}]",
    )


_CONFIG_FILE: Final = click.Option(
    ["--config", "path"], metavar="FILE", type=click.Path(path_type=Path), help="A TOML file."
)


_SERVE_OPTIONS: Final = [option for option in config.options() if not option.is_kit]
_KIT_OPTIONS: Final = [option for option in config.options() if option.is_kit]


@main.command(params=[_CONFIG_FILE, *map(_flag, _SERVE_OPTIONS)])
@click.pass_context
def serve(context: click.Context, /, path: Path | None, **given: str | None) -> None:
    """Receive datagrams and serve /metrics until SIGTERM or SIGINT; SIGHUP reloads.

    A flag beats its LLMSTATSD_* variable, a variable beats the file, the file beats the default.
    """
    loaded = _load(path, os.environ, _flags(_SERVE_OPTIONS, given))

    from llmstatsd import daemon  # the other commands start without the servers

    flags = _flags(_SERVE_OPTIONS, given)
    context.exit(daemon.run(loaded, partial(config.load, path, dict(os.environ), flags)))


def _flags(
    known: Iterable[config.Option], given: Mapping[str, str | None]
) -> dict[str, str | None]:
    return {option.flag: given[f"{option.section}_{option.name}"] for option in known}


_FOLDER: Final = click.Option(
    ["--out", "folder"],
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write to; it is made if need be.",
)
_FORCE: Final = click.Option(
    ["--force"], is_flag=True, help="Write over files that were changed by hand, too."
)


@main.command(params=[_FOLDER, _FORCE, _CONFIG_FILE, *map(_flag, _KIT_OPTIONS)])
def kit(path: Path | None, folder: Path, force: bool, **given: str | None) -> None:
    """Write the monitoring kit: Prometheus rules, Grafana dashboards, deployments.

    Its alerts stand on the thresholds and buckets of the configuration. A file that was changed by
    hand is kept; if there is something new for it, nothing is written, unless --force is given.
    """
    loaded = _load(path, os.environ, _flags(_KIT_OPTIONS, given))

    from llmstatsd.kit import contents  # the other commands start without YAML
    from llmstatsd.kit import folder as kit_folder

    documents = contents.contents(loaded)
    try:
        written = kit_folder.write(documents, folder, force=force)
    except kit_folder.ChangedError as error:
        names = "".join(f"\n  {name}" for name in error.paths)
        raise click.UsageError(
            f"Changed by hand, and there is something new for them; --force replaces them:{names}"
        ) from error
    except OSError as error:
        raise click.UsageError(f"cannot write to {folder}: {error.strerror or error}") from error
    for name in written.files:
        click.echo(f"written: {name}")
    for name in written.kept:
        click.echo(f"kept, changed by hand: {name}")
    click.echo(f"{folder}: {len(documents)} files, {len(written.files)} of them written")


def _check_security(loaded: config.Config) -> None:
    from llmstatsd.web import security  # the other commands start without YAML and ssl

    try:
        security.load(loaded.http.security_file)
    except config.ConfigError as error:
        raise BadConfiguration(str(error)) from error


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate a configuration FILE without starting anything.

    Exit code 3 and every problem on stderr if the daemon would refuse it.
    """
    loaded = _load(file, {}, {})
    _check_security(loaded)
    click.echo(f"{file}: valid")
    for option, value in config.changed(loaded):
        click.echo(f"  {option.key} = {config.shown(value)}  (default {option.default_text})")
    for entry, value in config.entries(loaded):
        click.echo(f"  {entry} = {value}")


class _Place(click.ParamType[address.Address]):
    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> address.Address:
        try:
            return address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@main.command()
@click.option(
    "--config",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A TOML file for the daemon. Its state file, its security file and its other sockets are"
    " left alone.",
)
@click.option("--statsd-udp", default="127.0.0.1:8125", show_default=True, type=_Place())
@click.option("--http", default="127.0.0.1:2112", show_default=True, type=_Place())
@click.option(
    "--rate",
    default=40.0,
    show_default=True,
    type=click.FloatRange(1, 2000),
    help="Calls a second; under 20 too few models come to fold.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same calls.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 86_400),
    help="End by itself after that long.",
)
@click.option(
    "--story-seconds",
    type=click.FloatRange(1, 3600),
    help="Time in which everything happens once.  [default: 120, or --seconds if shorter]",
)
@click.pass_context
def demo(context: click.Context, /, path: Path | None, **asked: Any) -> None:
    """Start a daemon and realistic calls to several models, and say where to look.

    The calls are made up and reported by the Python client. A port that is taken is replaced by a
    free one. Ctrl-C ends everything.
    """
    _load(path, os.environ, {})

    from llmstatsd.demo import stage  # the other commands start without the senders

    try:
        stage.run(stage.Wish(config=path, **asked), click.echo, _to_stderr, _starting)
    except stage.DemoError as error:
        click.echo(f"Error: {error}", err=True)
        context.exit(error.exit_code)


def _to_stderr(line: str) -> None:
    with suppress(OSError):  # nobody reads it
        click.echo(line, err=True)


def _starting(steps: Iterable[str], number: int) -> Iterator[str]:
    with click.progressbar(
        steps,
        number,
        label="Starting",
        item_show_func=lambda step: step,
        show_eta=False,
        show_pos=True,
        file=sys.stderr,
    ) as bar:
        yield from bar


_ASKED: Final = (
    click.Option(
        ["--url"], metavar="URL", help="The daemon's; by default where this configuration listens."
    ),
    _CONFIG_FILE,
    click.Option(
        ["--ca-file"],
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Authorities to trust instead of the system's, as PEM, for an https URL.",
    ),
    click.Option(
        ["--user"],
        metavar="NAME",
        help="Who asks, where the web has passwords; the password is taken from"
        " LLMSTATSD_PASSWORD, or asked for.",
    ),
)
"""Which daemon a command asks, and as whom."""


def _asked(path: Path | None, url: str | None, ca_file: Path | None, user: str | None) -> "Daemon":
    from llmstatsd import ask

    try:
        return ask.Daemon(
            url or ask.url_of(_load(path, os.environ, {}).http.listen),
            ca_file=ca_file,
            user=user,
            password="" if user is None else _password(ask.PASSWORD_VARIABLE),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _password(variable: str) -> str:
    password = os.environ.get(variable)
    if password is None and not sys.stdin.isatty():
        raise click.UsageError(f"the password for --user is missing: set {variable}")
    if password is None:
        password = str(click.prompt("Password", hide_input=True, err=True))
    return password


@contextmanager
def _asking(questions: int) -> Iterator[Callable[[str], None]]:
    """Show at a terminal what is being asked for, and for how long; nothing is left of it."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console  # who writes to a file or a pipe starts without it
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    asked = TextColumn("asking for {task.description}", markup=False)
    columns = (SpinnerColumn(), asked, BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=questions)
        numbers = itertools.count()
        yield lambda what: progress.update(task, completed=next(numbers), description=what)


def _print(text: str) -> None:
    """Text with names of others; what the terminal's encoding lacks is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    click.echo(text)


@main.command(params=[*_ASKED])
def healthcheck(*, path: Path | None, **asked: Any) -> None:
    """Say whether the daemon is ready, for containers: exit code 0 if it is, else 1 and why."""
    daemon = _asked(path, **asked)

    from llmstatsd import healthcheck as check  # the other commands start without HTTP

    reason = check.why_not_ready(daemon)
    if reason:
        raise click.ClickException(reason)
    click.echo("ready")


@main.command(
    params=[
        *_ASKED,
        click.Option(["--once"], is_flag=True, help="Print the table once as plain text, and end."),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Print the API's document `summary` once, and end.",
        ),
        click.Option(
            ["--model", "pattern"],
            default="",
            help="Show models that hold this text, or are like it with * and ?.",
        ),
        click.Option(
            ["--sort"],
            type=click.Choice(SORTS),
            default=View().sort,
            show_default=True,
            help="Greatest first, names from a to z.",
        ),
        click.Option(
            ["--window"],
            type=click.Choice(WINDOWS),
            default=View().window,
            help="How far back.",
        ),
    ]
)
@click.pass_context
def top(
    context: click.Context,
    /,
    path: Path | None,
    once: bool,
    as_json: bool,
    pattern: str,
    sort: str,
    window: Any,
    **asked: Any,
) -> None:
    """Show what a daemon is doing, by model, and keep showing it; ? explains the keys.

    Exit code 1 if --once or --json gets no answer.
    """
    if not (once or as_json or _is_terminal()):
        raise click.UsageError("top needs a terminal to draw on; --once prints the table as text")
    daemon = _asked(path, **asked)

    from llmstatsd.ask import AskError, understood  # the other commands start without these
    from llmstatsd.top import figures, watch

    view = View(window, sort, False, pattern)
    if once or as_json:
        try:
            with daemon, _asking(questions=1) as tell:
                tell("summary")
                summary = daemon.document("summary", window=window)
            _print(
                understood(
                    lambda: (
                        json.dumps(figures.narrowed(summary, view))
                        if as_json
                        else figures.once(daemon.url, summary, view)
                    )
                )
            )
        except AskError as error:
            raise click.ClickException(str(error)) from error
        return

    from llmstatsd.top import app

    context.exit(app.run(watch.Watcher(daemon, window), daemon.url, view))


@main.command(
    params=[
        *_ASKED,
        click.Option(["--json", "as_json"], is_flag=True, help="Print the report as JSON."),
    ]
)
@click.pass_context
def doctor(context: click.Context, /, path: Path | None, as_json: bool, **asked: Any) -> None:
    """Say in plain words what is wrong with a live daemon, and what to change.

    With --config its thresholds are used, and the daemon is compared with it. Exit code 0 if there
    is no problem, 1 if there is one.
    """
    daemon = _asked(path, **asked)

    from llmstatsd.ask import AskError  # the other commands start without these
    from llmstatsd.doctor import checks, facts, report
    from llmstatsd.series import lanes

    loaded = _load(path, {}, {}) if path else None
    try:
        with daemon, _asking(questions=facts.QUESTIONS) as tell:
            known = facts.gather(daemon, loaded, path, lanes.choose("auto").name, tell)
        found = checks.diagnose(known)
    except AskError as error:
        found = report.unreachable(daemon.url, str(error), is_answered=error.is_answered)
    _print(found.json() if as_json else found.text())
    context.exit(1 if found.problems else 0)


@main.command(
    params=[
        *_ASKED,
        click.Option(
            ["--filter", "wanted"],
            metavar="TERMS",
            default="",
            help="Show only lines for which all terms hold, as in 'verdict=refused model=gpt-4*'.",
        ),
        click.Option(
            ["--json", "as_json"], is_flag=True, help="Print each record as a line of JSON."
        ),
        click.Option(["--count"], type=click.IntRange(min=1), help="End after so many lines."),
        click.Option(
            ["--senders", "has_senders"],
            is_flag=True,
            help="Show who sent each line, as HOST:PORT.",
        ),
    ]
)
def tap(
    *,
    path: Path | None,
    wanted: str,
    as_json: bool,
    count: int | None,
    has_senders: bool,
    **asked: Any,
) -> None:
    """Show lines as they arrive: accepted or refused, why, and the series they met.

    Under load it shows a sample. It goes on when the daemon comes back; Ctrl-C ends it.
    """
    daemon = _asked(path, **asked)

    from llmstatsd import tap as tapping  # the other commands start without HTTP
    from llmstatsd.ask import AskError

    try:
        with daemon:
            tapping.show(daemon, wanted, as_json=as_json, count=count, has_senders=has_senders)
    except AskError as error:
        wrong_usage = error.status == 400
        raise (click.UsageError if wrong_usage else click.ClickException)(str(error)) from error


def _is_terminal() -> bool:
    """Whether a screen can be drawn, which textual does on stderr, and keys can be read."""
    is_there = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return is_there and os.environ.get("TERM", "dumb") != "dumb"


def _load(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> config.Config:
    try:
        return config.load(path, environ, flags)
    except config.ConfigError as error:
        raise BadConfiguration(str(error)) from error


class _Destination(_Place):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> address.Address:
        to = super().convert(value, param, ctx)
        if to.port == 0:
            self.fail("port 0 receives nothing", param, ctx)
        return to


_COUNT: Final = click.IntRange(min=0)

_EVENT_OPTIONS: Final = (
    click.Option(["--model"], help="Event: the model that was called."),
    click.Option(["--operation"], help="Event: chat, generate, embeddings, ..."),
    click.Option(["--duration-seconds"], type=float, help="Event: the call as you saw it."),
    click.Option(["--tokens"], type=_COUNT, help="Event: the provider's total."),
    click.Option(["--prompt-tokens"], type=_COUNT, help="Event: tokens of the prompt."),
    click.Option(["--completion-tokens"], type=_COUNT, help="Event: tokens of the answer."),
    click.Option(["--cached-tokens"], type=_COUNT, help="Event: prompt tokens out of a cache."),
    click.Option(["--cost-dollars"], type=float, help="Event: cost of the call."),
    click.Option(["--load-duration-seconds"], type=float, help="Event: loading the model."),
    click.Option(["--prompt-eval-duration-seconds"], type=float, help="Event: reading the prompt."),
    click.Option(["--total-duration-seconds"], type=float, help="Event: as the server reports it."),
    click.Option(["--time-to-first-token-seconds"], type=float, help="Event: to the first token."),
    click.Option(["--time-per-output-token-seconds"], type=float, help="Event: mean per token."),
    click.Option(["--error"], type=click.Choice(ERROR_TYPES), help="Event: why the call failed."),
    click.Option(["--rate-limited"], is_flag=True, help="Event: the provider answered 429."),
    click.Option(["--fallback"], is_flag=True, help="Event: a fallback answered."),
)


@main.command("send", params=[*_EVENT_OPTIONS])
@click.argument("lines", nargs=-1, metavar="[LINE]...")
@click.option(
    "--to",
    type=_Destination(),
    help="Where the daemon listens; an IPv6 host stands in square brackets. "
    "By default what LLMSTATSD_SOCKET, LLMSTATSD_HOST and LLMSTATSD_PORT say, else 127.0.0.1:8125.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print what was sent.")
def send_command(
    lines: tuple[str, ...], to: address.Address | None, verbose: bool, **event: Any
) -> None:
    """Send LINEs, or one event, in one datagram.

    A LINE is any line the daemon reads, such as 'llm_request_total:1|c'; the options marked
    Event make the event. The LINE - stands for the lines of standard input.
    """
    settings = send.chosen(to)
    datagrams = _datagrams(lines, event, settings.max_datagram_bytes)
    if settings.disabled:
        click.echo("nothing is sent: LLMSTATSD_DISABLE is set", err=True)
        return
    place = send.shown(settings.destination)
    try:
        send.send_datagrams(datagrams, settings.destination)
    except OSError as error:
        raise click.UsageError(f"cannot send to {place}: {error.strerror or error}") from error
    if verbose:
        for data in datagrams:
            click.echo(f"sent {len(data)} bytes to {place}:")
            click.echo(data.decode(errors="backslashreplace"))


def _datagrams(
    lines: tuple[str, ...], event: Mapping[str, object], max_datagram_bytes: int
) -> list[bytes]:
    is_event = any(value is not None and value is not False for value in event.values())
    if is_event == bool(lines):
        raise click.UsageError("Give either lines or event options.")
    try:
        if is_event:
            return send.event_datagrams(event, max_datagram_bytes)
        return [send.payload(_read(lines))]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _read(lines: tuple[str, ...]) -> Iterator[bytes]:
    for line in lines:
        if line == "-":
            # One byte more than fits is enough to refuse the rest unread.
            yield sys.stdin.buffer.read(PAYLOAD_BYTES_LIMIT + 1)
        else:
            yield os.fsencode(line)
