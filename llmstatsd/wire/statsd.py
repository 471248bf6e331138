"""StatsD and DogStatsD lines: `name:value|type|field|field...`.

All meaning lies in the pair (name, suffix): type, rate, tags. Only the value varies.
So a line is read in two halves, a `Meaning` and its values, and a caller may keep the meaning.

Sources: the metric types of etsy/statsd (`docs/metric_types.md`), the DogStatsD datagram
format 1.0 to 1.6 as Datadog documents it, and the tag styles in the name as
prometheus/statsd_exporter describes them (Librato, InfluxDB, SignalFX).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from llmstatsd.wire.number import is_plain, parse_number
from llmstatsd.wire.reasons import (
    BAD_NAME,
    BAD_RATE,
    BAD_TYPE,
    BAD_VALUE,
    MALFORMED,
    MIXED_TAGS,
    NEGATIVE,
    RATE_IGNORED,
    TAG_WITHOUT_VALUE,
    UNKNOWN_FIELD,
    Refusal,
)

COUNTER: Final = "c"
GAUGE: Final = "g"
TIMER: Final = "ms"
HISTOGRAM: Final = "h"
DISTRIBUTION: Final = "d"
SET: Final = "s"

TYPES: Final = frozenset({COUNTER, GAUGE, TIMER, HISTOGRAM, DISTRIBUTION, SET})
_RATED: Final = TYPES - {GAUGE, SET}
_NEVER_NEGATIVE: Final = _RATED

MILLISECONDS_PER_SECOND: Final = 1000.0

RATE_MINIMUM: Final = 1e-9
"""Smallest sampling rate: a weight of a billion, so that no count can overflow a double."""

CHAIN_GROUPS_LIMIT: Final = 16
"""Most different pairs of type and rate in one legacy chain; one with more is malformed."""

_HAS_WORD: Final = re.compile(r"[A-Za-z0-9]").search

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which of the optional readings of a line are switched on.

    `absolute_signed_gauges`: a signed gauge value is a value, as in DogStatsD; otherwise it is
    a change of the gauge, as in StatsD.
    """

    librato: bool = True
    influxdb: bool = True
    signalfx: bool = True
    absolute_signed_gauges: bool = False


class Sample(NamedTuple):
    """One observation as the wire tells it: base units, tags as sent, weight 1/rate.

    `value` is a number, or a set's member as text. `relative` is True for a change of a gauge.
    """

    name: str
    type: str
    value: float | str
    rate: float
    tags: Tags
    relative: bool


class Meaning(NamedTuple):
    """All that (name, suffix) says. `name` is as sent, without the tags inside it."""

    name: str
    type: str
    rate: float
    tags: Tags
    notes: tuple[str, ...]


class Value(NamedTuple):
    """A value in the unit of the wire (milliseconds for `ms`)."""

    number: float | str
    relative: bool


class Reading(NamedTuple):
    """A meaning and the values that one line gives it (several when packed)."""

    meaning: Meaning
    values: list[Value]

    def samples(self) -> Iterator[Sample]:
        """The samples in base units: `ms` in seconds."""
        name, kind, rate, tags, _ = self.meaning
        for number, relative in self.values:
            in_seconds = kind == TIMER and not isinstance(number, str)
            value = number / MILLISECONDS_PER_SECOND if in_seconds else number  # type: ignore[operator]
            yield Sample(name, kind, value, rate, tags, relative)


def read_statsd(line: str, dialect: Dialect) -> list[Reading] | Refusal:
    """The readings of one line; more than one only for a legacy chain `a:1|c:2|ms`.

    Links of one type and rate make one reading, so that the work grows with the length alone.
    """
    name, colon, rest = line.partition(":")
    value, pipe, suffix = rest.partition("|")
    if not colon or not pipe or "|" in name:
        return Refusal(MALFORMED)
    parts = _split_chain(value, suffix)
    if isinstance(parts, Refusal):
        return parts
    last = read_meaning(name, parts[-1][1], dialect)
    if isinstance(last, Refusal):
        return last
    groups: dict[tuple[str, float], Reading] = {}
    notes = set(last.notes)
    for number, (part_value, part_suffix) in enumerate(parts, 1):
        meaning = last if number == len(parts) else _chained(part_suffix, last)
        if isinstance(meaning, Refusal):
            return meaning
        values = read_values(meaning.type, part_value, dialect)
        if isinstance(values, Refusal):
            return values
        notes.update(meaning.notes)
        key = (meaning.type, meaning.rate)
        groups.setdefault(key, Reading(meaning, [])).values.extend(values)
        if len(groups) > CHAIN_GROUPS_LIMIT:
            return Refusal(MALFORMED)
    return with_notes(list(groups.values()), tuple(sorted(notes)))


def with_notes(readings: list[Reading], notes: tuple[str, ...]) -> list[Reading]:
    """The readings of one line, whose notes all ride on the first: notes are a line's."""
    return [
        Reading(meaning._replace(notes=() if number else notes), values)
        for number, (meaning, values) in enumerate(readings)
    ]


def _chained(suffix: str, last: Meaning) -> Meaning | Refusal:
    """An earlier link has its own type and rate; name and tags are read once, with the last."""
    kind, *rates = suffix.split("|")
    if kind not in TYPES:
        return Refusal(BAD_TYPE)
    meaning = _read_fields(last.name, kind, rates, None)
    return meaning if isinstance(meaning, Refusal) else meaning._replace(tags=last.tags)


def is_chain(suffix: str) -> bool:
    """Whether more values stand in a suffix: a `:` in its type, or in a rate right after it."""
    #   c:2|ms   or   c|@0.5:3|c
    kind, _, fields = suffix.partition("|")
    return ":" in kind or _is_chained_rate(fields.partition("|")[0])


def _split_chain(value: str, suffix: str) -> list[tuple[str, str]] | Refusal:
    #   a:1|c:2|ms|@0.5:3|g|#k:v   ->   (1, c|#k:v)  (2, ms|@0.5|#k:v)  (3, g|#k:v)
    fields = suffix.split("|")
    parts: list[tuple[str, str]] = []
    position = 0
    while True:
        end = position + 1
        if ":" not in fields[position] and end < len(fields) and _is_chained_rate(fields[end]):
            end += 1
        head, colon, next_value = fields[end - 1].partition(":")
        if not colon:
            break
        if end == len(fields):
            return Refusal(MALFORMED)
        parts.append((value, "|".join([*fields[position : end - 1], head])))
        value, position = next_value, end
    return [*parts, (value, "|".join(fields[position:]))]


def _is_chained_rate(field: str) -> bool:
    return field.startswith("@") and ":" in field


def read_meaning(name: str, suffix: str, dialect: Dialect) -> Meaning | Refusal:
    """What the pair means, or why it means nothing: a bad name, type, rate or mix of tags."""
    in_name = _tags_in_name(name, dialect)
    if isinstance(in_name, Refusal):
        return in_name
    name, tag_text = in_name
    if not _HAS_WORD(name):
        return Refusal(BAD_NAME)
    kind, *fields = suffix.split("|")
    if kind not in TYPES:
        return Refusal(BAD_TYPE)
    return _read_fields(name, kind, fields, tag_text)


def _read_fields(
    name: str, kind: str, fields: list[str], tag_text: str | None
) -> Meaning | Refusal:
    tags: dict[str, str] = {}
    notes: set[str] = set()
    rate = 1.0
    if tag_text is not None:
        _collect_tags(tag_text, "=", tags, notes)
    for field in fields:
        if field.startswith("@"):  # @0.1
            number = parse_number(field[1:])
            if isinstance(number, str) or not RATE_MINIMUM <= number <= 1:
                return Refusal(BAD_RATE)
            rate = number
        elif field.startswith("#"):  # #model:gpt-4o,operation:chat
            if tag_text is not None:
                return Refusal(MIXED_TAGS)
            _collect_tags(field[1:], ":", tags, notes)
        elif not _is_known_field(field):
            notes.add(UNKNOWN_FIELD)
    if kind not in _RATED:
        if rate != 1 or any(field.startswith("@") for field in fields):
            notes.add(RATE_IGNORED)
        rate = 1.0
    return Meaning(name, kind, rate, tuple(tags.items()), tuple(sorted(notes)))


def _is_known_field(field: str) -> bool:
    #  (empty)   c:container   e:external data   card:low   T1656581400
    return (
        not field
        or field.startswith(("c:", "e:", "card:"))
        or (field[0] == "T" and field[1:].isascii() and field[1:].isdigit())
    )


def _collect_tags(text: str, separator: str, tags: dict[str, str], notes: set[str]) -> None:
    for tag in text.split(","):
        key, _, value = tag.partition(separator)
        if key and value:
            tags[key] = value
        elif tag:
            notes.add(TAG_WITHOUT_VALUE)


def _tags_in_name(name: str, dialect: Dialect) -> tuple[str, str | None] | Refusal:
    openings = [
        mark
        for mark, switched_on in (
            ("#", dialect.librato),
            (",", dialect.influxdb),
            ("[", dialect.signalfx),
        )
        if switched_on
    ]
    first = min((i for i in map(name.find, openings) if i >= 0), default=-1)
    if first < 0:
        return name, None
    before, after = name[:first], name[first + 1 :]
    if name[first] == "[":  # pre[k=v,k=v]post
        text, bracket, post = after.partition("]")
        if not bracket:
            return Refusal(MALFORMED)
        mixed = any(mark in post for mark in openings)
        return Refusal(MIXED_TAGS) if mixed else (before + post, text)
    # the name is:  name#k=v,k=v   or   name,k=v,k=v
    mixed = any(mark in after for mark in openings if mark != ",")
    return Refusal(MIXED_TAGS) if mixed else (before, after)


class PlainSuffix(NamedTuple):
    """A suffix in parts, all of whose meaning but the tags' values lies in `head` and `keys`."""

    head: str
    keys: tuple[str, ...]
    values: tuple[str, ...]


def split_plain(suffix: str) -> PlainSuffix | None:
    """A suffix `head|#key:value,...` of printable ASCII that ends with its tags; None for others.

    Two lines of one name whose suffixes have head and keys in common mean the same, up to the
    values of their tags.
    """
    head, _, text = suffix.partition("|#")
    if not text or "|" in text or not (suffix.isascii() and suffix.isprintable()):
        return None
    keys, values = [], []
    for tag in text.split(","):
        key, _, value = tag.partition(":")
        if not key or not value:
            return None
        keys.append(key)
        values.append(value)
    return PlainSuffix(head, tuple(keys), tuple(values))


def read_values(kind: str, text: str, dialect: Dialect) -> list[Value] | Refusal:
    """The values of `text` for a type: packed ones apart, empty pieces skipped."""
    if kind == SET:
        return [Value(text, False)] if text else Refusal(BAD_VALUE)
    if text.isascii() and is_plain(text):
        return [Value(float(text), False)]
    values: list[Value] = []
    for piece in text.split(":"):
        if not piece:
            continue
        number = parse_number(piece)
        if isinstance(number, str):
            return Refusal(number)
        if number < 0 and kind in _NEVER_NEGATIVE:
            return Refusal(NEGATIVE)
        signed = piece[0] in "+-" and kind == GAUGE
        values.append(Value(number, signed and not dialect.absolute_signed_gauges))
    return values or Refusal(BAD_VALUE)
