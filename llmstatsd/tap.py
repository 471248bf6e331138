"""`llmstatsd tap`: shows the lines that a daemon takes in, as it tells them over HTTP.

A line comes from whoever may send, so nothing of it reaches a terminal that could move its cursor
or turn its text around.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import click
import msgspec
from rich.cells import cell_len, set_cell_size

from llmstatsd.ask import AskError, Daemon
from llmstatsd.live.tap import CountRecord, LineRecord
from llmstatsd.series.explain import Met
from llmstatsd.terminal import NOTHING, plain

TAP_PATH: Final = "/api/v1/tap"

RETRY_SECONDS: Final = 1.0

FULL: Final = 503
"""The status of a daemon that has no place for a tap now."""

WHY_COLUMNS: Final = 19
"""As long as the longest reason or note."""

SENDER_COLUMNS: Final = len("255.255.255.255:65535")
"""An IPv6 address moves what is right of it."""

TEXT_COLUMNS: Final = 56
"""Width of the column of lines; a longer one moves what is right of it."""

_COLOURS: Final = {"accepted": "green", "refused": "red", "set_aside": "yellow"}

Record = LineRecord | CountRecord

_read: Final = msgspec.json.Decoder(Record)


def show(
    daemon: Daemon, wanted: str, *, as_json: bool, count: int | None, has_senders: bool
) -> None:
    """Print lines until there were `count`, or Ctrl-C; raises what `records` does."""
    left = count
    before: CountRecord | None = None
    is_terminal = sys.stdout.isatty()
    is_coloured = is_terminal and not os.environ.get("NO_COLOR")
    try:
        for sent, record in records(daemon, wanted, _say):
            is_line = isinstance(record, LineRecord)
            if as_json:
                click.echo(json.dumps(json.loads(sent)))  # in ASCII
            elif isinstance(record, LineRecord):
                shown = row(
                    record,
                    is_coloured=is_coloured,
                    columns=_columns(is_terminal),
                    has_senders=has_senders,
                )
                click.echo(_encodable(shown), color=is_coloured)
            else:
                left_out = count_row(before, record)
                before = record
                if left_out is not None:
                    _say(left_out)
            if left is not None and is_line:
                left -= 1
                if not left:
                    return
    except KeyboardInterrupt:
        return


def _say(text: str) -> None:
    click.echo(_encodable(plain(text)), err=True)


def _encodable(text: str) -> str:
    """What an output of few characters can show."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def records(
    daemon: Daemon, wanted: str, say: Callable[[str], None]
) -> Iterator[tuple[bytes, Record]]:
    """The records as they come, as sent and as read, for ever; `say` is told of breaks.

    Raises AskError when there is no daemon at the first time of asking, or it refuses: with status
    400 for what is no filter.
    """
    was_there = False
    is_gone = False
    while True:
        try:
            for sent, record in _one_stream(daemon, wanted):
                if is_gone:
                    say("it answers again")
                was_there, is_gone = True, False
                yield sent, record
        except AskError as error:
            if not was_there or error.status not in (None, FULL):
                raise
            if not is_gone:
                say(f"{error}; asking again")
            is_gone = True
            time.sleep(RETRY_SECONDS)


def _one_stream(daemon: Daemon, wanted: str) -> Iterator[tuple[bytes, Record]]:
    """Until the daemon ends it, as it does after a while."""
    is_empty = True
    for line in daemon.lines(TAP_PATH, filter=wanted):
        is_empty = False
        try:
            record = _read.decode(line)
        except msgspec.MsgspecError as error:
            raise AskError(f"{daemon.url} answers, and with no record of a tap") from error
        yield line, record
    if is_empty:  # or this would ask without a pause
        raise AskError(f"{daemon.url}{TAP_PATH} ends at once")


def row(
    record: LineRecord, *, is_coloured: bool, columns: int | None, has_senders: bool = False
) -> str:
    """One line for people: time, verdict, perhaps who sent it, why, the line, where its values are.

    With `columns`, cut to the width of a terminal.
    """
    at = time.localtime(record.time)
    clock = f"{time.strftime('%H:%M:%S', at)}.{int(record.time % 1 * 1000):03d}"
    verdict = f"{record.verdict:9}"
    rest = f" {plain(record.sender or NOTHING):{SENDER_COLUMNS}}" if has_senders else ""
    rest += f" {_why(record):{WHY_COLUMNS}} {_padded(plain(record.text))}"
    if record.met:
        rest += f" -> {_met(record.met)}"
    if columns is not None:
        rest = set_cell_size(rest, max(0, columns - len(clock) - 1 - len(verdict)))
    if is_coloured:
        verdict = click.style(verdict, fg=_COLOURS.get(record.verdict))
    return f"{clock} {verdict}{rest.rstrip()}"


def count_row(before: CountRecord | None, now: CountRecord) -> str | None:
    """What was left out since the count before; None if nothing was."""
    base = before
    if base is not None and (base.lines > now.lines or base.explained > now.explained):
        base = None  # of a tap before this one
    lines = now.lines - (base.lines if base else 0)
    explained = now.explained - (base.explained if base else 0)
    missed = now.missed - (base.missed if base else 0)
    if explained >= lines and not missed:
        return None
    late = f", {missed:,} not shown as this terminal is too slow" if missed else ""
    return f"-- {lines:,} lines came in, {explained:,} of them were looked at{late}"


def _columns(is_terminal: bool) -> int | None:
    """The width of the terminal by now, None where there is none."""
    return shutil.get_terminal_size().columns if is_terminal else None


def _why(record: LineRecord) -> str:
    if record.reason is not None:
        return plain(record.reason)
    folded = next((met.fold_reason for met in record.met if met.fold_reason), None)
    return plain(folded or next(iter(record.notes), ""))


def _met(met: tuple[Met, ...]) -> str:
    first = met[0]
    labels = ",".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in first.labels.items()
    )
    values = ",".join(f"{value:g}" if isinstance(value, float) else value for value in first.values)
    place = f"{first.series}{{{labels}}}" if labels else first.series
    shown = f"{place} {'±' if first.is_change else ''}{values}"
    if first.samples > len(first.values):
        shown += ",..."
    if first.weight != 1:
        shown += f" x{first.weight:g}"
    for name, value in first.folded.items():
        shown += f" ({name} was {json.dumps(value, ensure_ascii=False)})"
    if len(met) > 1:
        shown += f" +{len(met) - 1} series"
    return plain(shown)


def _padded(text: str) -> str:
    return text + " " * (TEXT_COLUMNS - cell_len(text))
