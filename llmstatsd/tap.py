"""`llmstatsd tap`: shows the lines that a daemon takes in, as it tells them over HTTP.

A line comes from whoever may send, so nothing of it reaches a terminal that could move its cursor
or turn its text around.
"""

import json
import os
import shutil
import sys
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPException
from typing import Final
from urllib.parse import quote

import click
import msgspec

from llmstatsd.ask import parts_of
from llmstatsd.live.tap import CountRecord, LineRecord
from llmstatsd.series.explain import Met

TAP_PATH: Final = "/api/v1/tap"

SILENCE_SECONDS: Final = 5.0
"""A daemon tells something each second; one that is silent for that long is gone."""

RETRY_SECONDS: Final = 1.0

RECORD_BYTES: Final = 1 << 20
"""Longest record that is read; the daemon's are far below."""

WHY_COLUMNS: Final = 19
"""As long as the longest reason or note."""

TEXT_COLUMNS: Final = 56
"""Width of the column of lines; a longer one moves what is right of it."""

_COLOURS: Final = {"accepted": "green", "refused": "red", "set_aside": "yellow"}

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what a terminal obeys or does not show."""

Record = LineRecord | CountRecord

_read: Final = msgspec.json.Decoder(Record)


class RefusedError(Exception):
    """The daemon does not let this one look, or is none; the text says why."""


class BadFilterError(RefusedError):
    """The filter is none; the text names the place and what is allowed."""


class _GoneError(Exception):
    """The daemon does not answer, or has no place now; the text says why."""


def show(url: str, wanted: str, *, as_json: bool, count: int | None) -> None:
    """Print lines until there were `count`, or Ctrl-C; raises what `records` does."""
    left = count
    before: CountRecord | None = None
    is_terminal = sys.stdout.isatty()
    is_coloured = is_terminal and not os.environ.get("NO_COLOR")
    try:
        for sent, record in records(url, wanted, _say):
            is_line = isinstance(record, LineRecord)
            if as_json:
                click.echo(json.dumps(json.loads(sent)))  # in ASCII
            elif isinstance(record, LineRecord):
                shown = row(record, is_coloured=is_coloured, columns=_columns(is_terminal))
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
    click.echo(_encodable(visible(text)), err=True)


def _encodable(text: str) -> str:
    """What an output of few characters can show."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def records(url: str, wanted: str, say: Callable[[str], None]) -> Iterator[tuple[bytes, Record]]:
    """The records as they come, as sent and as read, for ever; `say` is told of breaks.

    Raises RefusedError, also when there is no daemon at the first time of asking, and ValueError
    for what is no URL.
    """
    parts_of(url)
    asked = f"{url.rstrip('/')}{TAP_PATH}?filter={quote(wanted)}"
    was_there = False
    is_gone = False
    while True:
        try:
            for sent, record in _one_stream(asked):
                if is_gone:
                    say("it answers again")
                was_there, is_gone = True, False
                yield sent, record
        except _GoneError as error:
            if not was_there:
                raise RefusedError(f"{url}: {error}") from error
            if not is_gone:
                say(f"{url}: {error}; asking again")
            is_gone = True
            time.sleep(RETRY_SECONDS)


def _one_stream(asked: str) -> Iterator[tuple[bytes, Record]]:
    """Until the daemon ends it, as it does after a while."""
    # No proxy: through one, a daemon on this machine would not know who asks.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with closing(opener.open(asked, timeout=SILENCE_SECONDS)) as answer:
            line = answer.readline(RECORD_BYTES)
            if not line:
                raise _GoneError("it ends at once")  # or this would ask without a pause
            while line:
                yield line, _read.decode(line)
                line = answer.readline(RECORD_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error.code, error.read(RECORD_BYTES)) from error
    except msgspec.MsgspecError as error:
        raise _GoneError("what it answers is no record of a tap") from error
    except (OSError, ValueError, HTTPException) as error:
        raise _GoneError(str(getattr(error, "reason", None) or error)) from error


def _refusal(code: int, body: bytes) -> Exception:
    try:
        text = str(msgspec.json.decode(body)["error"])
    except (msgspec.MsgspecError, TypeError, KeyError, UnicodeDecodeError):
        text = f"it answers {code} to {TAP_PATH}"
    if code == 503:
        return _GoneError(text)
    return BadFilterError(text) if code == 400 else RefusedError(text)


def row(record: LineRecord, *, is_coloured: bool, columns: int | None) -> str:
    """One line for people: time, verdict, why, the line, and where its values are.

    With `columns`, cut to the width of a terminal.
    """
    at = time.localtime(record.time)
    clock = f"{time.strftime('%H:%M:%S', at)}.{int(record.time % 1 * 1000):03d}"
    verdict = f"{record.verdict:9}"
    rest = f" {_why(record):{WHY_COLUMNS}} {_padded(visible(record.text), TEXT_COLUMNS)}"
    if record.met:
        rest += f" -> {_met(record.met)}"
    if columns is not None:
        rest = _cut(rest, columns - len(clock) - 1 - len(verdict))
    if is_coloured:
        verdict = click.style(verdict, fg=_COLOURS.get(record.verdict))
    return f"{clock} {verdict}{rest.rstrip()}"


def count_row(before: CountRecord | None, now: CountRecord) -> str | None:
    """What was left out since the count before; None if nothing was."""
    base = before if before is not None and before.lines <= now.lines else None
    lines = now.lines - (base.lines if base else 0)
    explained = now.explained - (base.explained if base else 0)
    missed = now.missed - (base.missed if base else 0)
    if explained >= lines and not missed:
        return None
    late = f", {missed:,} not shown as this terminal is too slow" if missed else ""
    return f"-- {lines:,} lines came in, {explained:,} of them were looked at{late}"


def visible(text: str) -> str:
    """A text that a terminal shows as it is: what it would obey or hide is written as `\\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(each) if _is_hidden(each) else each for each in text)


def _columns(is_terminal: bool) -> int | None:
    """The width of the terminal by now, None where there is none."""
    return shutil.get_terminal_size().columns if is_terminal else None


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def _why(record: LineRecord) -> str:
    if record.reason is not None:
        return visible(record.reason)
    folded = next((met.fold_reason for met in record.met if met.fold_reason), None)
    return visible(folded or next(iter(record.notes), ""))


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
    return visible(shown)


def _width(character: str) -> int:
    """Columns of a terminal that a character takes: wide ones two, combining ones none."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _padded(text: str, columns: int) -> str:
    return text + " " * max(0, columns - sum(map(_width, text)))


def _cut(text: str, columns: int) -> str:
    """Its beginning, as far as it fits."""
    if len(text) <= columns and text.isascii():
        return text
    left = max(0, columns)
    for at, character in enumerate(text):
        left -= _width(character)
        if left < 0:
            return text[:at]
    return text
