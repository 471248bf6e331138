"""A datagram's lines, and what each line is: samples, a reason, or something set aside."""

import re
from typing import Final, NamedTuple

from llmstatsd.wire.event import is_object, read_event
from llmstatsd.wire.reasons import EVENT, INVALID_UTF8, MALFORMED, SERVICE_CHECK, Refusal
from llmstatsd.wire.statsd import Dialect, Reading, Sample, read_statsd

#    _e{5,4}:title|text
_EVENT_HEADER: Final = re.compile(rb"_e\{([0-9]{1,5}),([0-9]{1,5})\}:").match
#    _sc|name|0|...
_SERVICE_CHECK: Final = re.compile(rb"_sc\|[^|]+\|[0-3](?:\||\Z)").match

_DEFAULT_DIALECT: Final = Dialect()


class SetAside(NamedTuple):
    """A DogStatsD event or service check: understood, counted by kind, not aggregated."""

    kind: str


class Parsed(NamedTuple):
    """What one line is. A line has samples, or one reason, or the kind that is set aside."""

    samples: tuple[Sample, ...]
    reason: str | None
    notes: tuple[str, ...]
    set_aside: str | None


def read_line(line: bytes, dialect: Dialect) -> list[Reading] | Refusal | SetAside:
    """The readings of one line that is not empty and has no line end; never raises."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return Refusal(INVALID_UTF8)
    if text[0] == "{":
        return read_event(line)
    if text.startswith(("_e{", "_sc|")):
        return _read_aside(line)
    return read_statsd(text, dialect)


def _read_aside(line: bytes) -> Refusal | SetAside:
    if line.startswith(b"_sc|"):
        return SetAside(SERVICE_CHECK) if _SERVICE_CHECK(line) else Refusal(MALFORMED)
    header = _EVENT_HEADER(line)
    if header is None:
        return Refusal(MALFORMED)
    title_bytes, text_bytes = int(header[1]), int(header[2])
    body = line[header.end() :]
    fits = body[title_bytes : title_bytes + 1] == b"|" and len(body) > title_bytes + text_bytes
    return SetAside(EVENT) if fits else Refusal(MALFORMED)


def begins_as_json(text: bytes) -> bool:
    """Whether a datagram or a line may be JSON or a piece of it, which may hold a prompt.

    No line of StatsD begins so; a byte order mark hides nothing.
    """
    return text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b'"')


def may_hold_prompt(line: bytes) -> bool:
    """Whether a line begins as JSON, or holds it, as what a server streams does (`data: {"...`)."""
    return begins_as_json(line) or b'{"' in line


def split_lines(data: bytes) -> list[bytes]:
    """The lines of a datagram that are not empty, without CR before LF."""
    return [line for line in (piece.removesuffix(b"\r") for piece in data.split(b"\n")) if line]


def parse_line(line: bytes, dialect: Dialect = _DEFAULT_DIALECT) -> Parsed:
    """What one line without its line end is; an empty one has neither samples nor a reason."""
    line = line.removesuffix(b"\r")
    return _parsed(read_line(line, dialect)) if line else Parsed((), None, (), None)


def parse_datagram(data: bytes, dialect: Dialect = _DEFAULT_DIALECT) -> list[Parsed]:
    """What each line of a datagram is, in order; empty lines yield nothing."""
    whole = read_whole_event(data)
    if whole is not None:
        return [_parsed(whole)]
    return [_parsed(read_line(line, dialect)) for line in split_lines(data)]


def read_whole_event(data: bytes) -> list[Reading] | Refusal | None:
    """The readings of a datagram that is one JSON event over several lines, else None."""
    if data[:1] != b"{" or b"\n" not in data.rstrip():
        return None
    return read_event(data) if is_object(data) else None


def _parsed(outcome: list[Reading] | Refusal | SetAside) -> Parsed:
    if isinstance(outcome, Refusal):
        return Parsed((), outcome.reason, (), None)
    if isinstance(outcome, SetAside):
        return Parsed((), None, (), outcome.kind)
    notes = {note for reading in outcome for note in reading.meaning.notes}
    samples = tuple(sample for reading in outcome for sample in reading.samples())
    return Parsed(samples, None, tuple(sorted(notes)), None)
