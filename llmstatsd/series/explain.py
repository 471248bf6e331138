"""What became of a line, told a moment after it was taken in, and without changing anything.

A line is read once more by `wire`, and the store is asked where its samples are. So this tells what
the slow path did as long as nothing has left the store since; a line that there was no memory for
is told as if there had been.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from llmstatsd.catalog import ERROR_TYPES
from llmstatsd.series.naming import label_value
from llmstatsd.series.shape import Shape
from llmstatsd.series.slowpath import shown
from llmstatsd.series.store import Store
from llmstatsd.wire.datagram import (
    SetAside,
    begins_as_json,
    may_hold_prompt,
    read_line,
    read_whole_event,
    split_lines,
)
from llmstatsd.wire.event import KNOWN_FIELDS
from llmstatsd.wire.reasons import Refusal
from llmstatsd.wire.statsd import Dialect, Reading

Verdict = Literal["accepted", "refused", "set_aside"]
VERDICTS: Final[tuple[Verdict, ...]] = ("accepted", "refused", "set_aside")

VALUES_LIMIT: Final = 8
"""Most values of one series that a line is told with; all are counted."""

FIELD_LENGTH_LIMIT: Final = 64
"""Most characters of a field of an event that are told."""


class Met(msgspec.Struct, frozen=True):
    """A series that a line met: where its samples are, in the unit of the series.

    `folded` are the labels that became `other`, with what they would be; `fold_reason` is the
    budget that is full. `values` are the first VALUES_LIMIT of `samples`, members for a set;
    `weight` is what each counts for; `is_change` says that they change a gauge.
    """

    series: str
    type: str
    labels: dict[str, str]
    folded: dict[str, str]
    fold_reason: str | None
    samples: int
    values: tuple[float | str, ...]
    weight: float
    is_change: bool


class Explained(NamedTuple):
    """One line: `why` is the reason of a refusal or the kind of what is set aside."""

    text: str
    verdict: Verdict
    why: str | None
    notes: tuple[str, ...]
    met: tuple[Met, ...]


_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def explain(
    store: Store,
    dialect: Dialect,
    datagram: bytes,
    most: int,
    *,
    is_cut: bool = False,
    turn: int = 0,
) -> Iterator[Explained]:
    """What became of `most` lines of a datagram at most that are not empty; never raises.

    Where it has more, `turn` says with which one to begin: counted up from call to call, each line
    has its turn.

    Of a cut one, the lines that are whole in it; none of a cut event, whose end nobody knows.
    """
    is_private = begins_as_json(datagram)
    if is_cut and datagram[:1] == b"{":
        return
    whole = read_whole_event(datagram)
    if whole is not None:
        yield _explained(store, whole, datagram, is_event=True)
        return
    if is_cut:
        datagram = datagram.rpartition(b"\n")[0]
    lines = split_lines(datagram)
    first = turn % len(lines) if len(lines) > most else 0
    is_private = is_private or any(map(may_hold_prompt, lines[:first]))
    for line in lines[first : first + most]:
        is_private = is_private or may_hold_prompt(line)
        yield _explained(store, read_line(line, dialect), line, is_event=is_private)


def _explained(
    store: Store, outcome: list[Reading] | Refusal | SetAside, line: bytes, *, is_event: bool
) -> Explained:
    text = _event_shown(line) if is_event else shown(line)
    if isinstance(outcome, SetAside):
        return Explained(text, "set_aside", outcome.kind, (), ())
    if isinstance(outcome, Refusal):
        return Explained(text, "refused", outcome.reason, (), ())
    shapes = store.preview(reading.meaning for reading in outcome)
    if isinstance(shapes, Refusal):
        return Explained(text, "refused", shapes.reason, (), ())
    notes: set[str] = set()
    met = tuple(_met(shape, reading, notes) for shape, reading in zip(shapes, outcome, strict=True))
    return Explained(text, "accepted", None, tuple(sorted(notes)), met)


def _met(shape: Shape, reading: Reading, notes: set[str]) -> Met:
    wanted, more = shape.label_set([label_value(text) for _, text in reading.meaning.tags])
    notes.update(more)
    (names, values), reason = shape.family.where(wanted)
    labels = dict(zip(names, values, strict=True))
    folded = (
        {name: text for name, text in zip(*wanted, strict=True) if labels.get(name) != text}
        if reason
        else {}
    )
    samples = list(reading.samples())
    return Met(
        shape.family.name,
        shape.family.type,
        labels,
        folded,
        reason,
        len(samples),
        tuple(sample.value for sample in samples[:VALUES_LIMIT]),
        shape.weight,
        samples[0].relative,
    )


def _event_shown(text: bytes) -> str:
    """An event by the fields that the daemon knows: others may hold a prompt, or an answer.

    What is no JSON object has its size alone told.
    """
    try:
        fields = _object.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return f"{len(text)} bytes of an event"
    known = [
        f'"{name}":{_field_shown(name, raw)}'
        for name, raw in fields.items()
        if name in KNOWN_FIELDS
    ]
    if len(known) < len(fields):
        known.append("…")
    return shown(f"{{{','.join(known)}}}".encode())


def _field_shown(name: str, raw: msgspec.Raw) -> str:
    """A number, a text or a word; what is made of others may hold anything, and so may an error."""
    text = bytes(raw).decode(errors="replace")
    if text[:1] in ("{", "[") or (name == "error" and text.strip('"') not in ERROR_TYPES):
        return "…"
    return text if len(text) <= FIELD_LENGTH_LIMIT else f"{text[:FIELD_LENGTH_LIMIT]}…"
