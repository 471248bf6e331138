"""Where meaning is decided: the lines that a hot path has no cached route for, or no number.

Both twins of the hot path hand over to this one. It reads a line by `wire`, asks the store for the
route of its meaning, remembers that in the cache, and adds the values.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple, Protocol

from llmstatsd.series.cache import Key
from llmstatsd.series.family import SameFold
from llmstatsd.series.naming import VALUE_LENGTH_LIMIT, label_value
from llmstatsd.series.route import Route
from llmstatsd.series.shape import Shape, Shapes
from llmstatsd.series.store import Store
from llmstatsd.wire.datagram import (
    SetAside,
    begins_as_json,
    may_hold_prompt,
    read_line,
    read_whole_event,
)
from llmstatsd.wire.reasons import INVALID_UTF8, KINDS, NOTES, OUT_OF_MEMORY, REASONS, Refusal
from llmstatsd.wire.statsd import (
    Dialect,
    Meaning,
    PlainSuffix,
    Reading,
    Value,
    is_chain,
    read_values,
    split_plain,
)

SHOWN_LENGTH_LIMIT: Final = 200
"""Most bytes kept of a refused line to show it in the log."""

FOLDED_ONCE_LIMIT: Final = 8192
"""Most keys of routes into `other` that are known to have come once: about half a megabyte."""

# c|T1656581400: a time stamp changes with every line and must not fill the cache.
_TIMESTAMP: Final = re.compile(r"\|T[0-9]+(?=\||$)")

_NO_SERIES: Final = ("{", "_e{", "_sc|")
"""How lines begin whose first `:` does not end a series name."""

_NOT_UTF8: Final = Refusal(INVALID_UTF8)
_NO_MEMORY: Final = Refusal(OUT_OF_MEMORY)


@dataclass(slots=True)
class LineStats:
    """The ladder of this stage, counted since the start.

    lines = accepted + refused + set aside; `plain_lines` are those a hot path took, with
    `plain_samples`. `refused_lines` keeps the last refused line per reason, cut to 200 bytes;
    of an event it keeps only the size.
    """

    datagrams: int = 0
    bytes: int = 0
    plain_lines: int = 0
    plain_samples: int = 0
    other_lines: int = 0
    other_samples: int = 0
    cache_misses: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    set_aside: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    notes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NOTES, 0))
    refused_lines: dict[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Lines all of whose samples reached a cell."""
        return self.plain_lines + self.other_lines

    @property
    def lines(self) -> int:
        """Lines that are not empty."""
        return self.accepted + sum(self.refused.values()) + sum(self.set_aside.values())

    @property
    def samples(self) -> int:
        """Values added to cells."""
        return self.plain_samples + self.other_samples

    def absorb(self, other: "LineStats") -> None:
        """Add what another ladder counted; reasons and kinds that are unknown here are left out."""
        for each in fields(self):
            own, more = getattr(self, each.name), getattr(other, each.name)
            if each.name == "refused_lines":
                own.update(more)
            elif isinstance(own, dict):
                own.update({key: count + more.get(key, 0) for key, count in own.items()})
            else:
                setattr(self, each.name, own + more)

    def note(self, notes: Iterable[str]) -> None:
        """Count the notes of one line."""
        for note in notes:
            self.notes[note] += 1


class Cache(Protocol):
    """What the slow path asks of a twin's cache."""

    def get(self, key: Key, /) -> Route | None:
        """The route of a key, or None if it has to be resolved."""

    def keep(self, key: Key, route: Route, /) -> None:
        """Remember a route that is not in the cache."""


class Folding(NamedTuple):
    """A line that a full budget of values sent into `other`, and what others have in common.

    A line that differs in the value of the folded tag alone, which stands between `before` and
    `after` in its suffix, goes the same route, as long as `same` folds that value and no label set
    has left. Such a value is printable ASCII of at most VALUE_LENGTH_LIMIT characters, no `,` or
    `|` in it.
    """

    name: str
    before: str
    after: str
    route: Route
    same: SameFold


class SlowPath:
    """Takes lines one by one, as text with one character per byte; never raises on any.

    `keep_folding` is told of lines that a twin may take without it the next time.
    """

    def __init__(
        self,
        store: Store,
        dialect: Dialect,
        cache: Cache,
        stats: LineStats,
        keep_folding: Callable[[Folding], None] | None = None,
    ) -> None:
        self.stats = stats
        self._keep_folding = keep_folding
        self._store = store
        self._dialect = dialect
        self._cache = cache
        self._shapes = Shapes()
        self._folded_once: set[int] = set()  # hashes of keys; bounded by FOLDED_ONCE_LIMIT
        self._is_private = False  # the lines at hand may be pieces of an event, and hold a prompt

    def take_datagram(self, datagram: bytes, feed_lines: Callable[[bytes], None]) -> None:
        """Take a datagram that holds a `{`: as one event if it is one, else by `feed_lines`."""
        self._is_private = begins_as_json(datagram)
        if datagram[:1] != b"{" or not self._took_whole_event(datagram):
            feed_lines(datagram)
        self._is_private = False

    def begin_datagram(self) -> None:
        """The lines that follow are those of another datagram."""
        self._is_private = False

    def take(self, line: str) -> None:
        """Take one line, with or without a CR at its end."""
        try:
            self._take(line)
        except MemoryError:
            self.end_of_memory(line)

    def end_of_memory(self, line: str) -> None:
        """Refuse a line that there was no memory for; from now on nothing more is born."""
        self._store.stop_growing()
        self.refuse(_NO_MEMORY, line)

    def _take(self, line: str) -> None:
        line = line.removesuffix("\r")
        if not line:
            return
        if line.startswith(_NO_SERIES):
            self._is_private = self._is_private or line[0] == "{"
            self._settle(read_line(line.encode("latin-1"), self._dialect), line)
            return
        name, _, rest = line.partition(":")
        value, _, suffix = rest.partition("|")
        if "|T" in suffix:
            suffix = _TIMESTAMP.sub("", suffix)
        route = self._cache.get((name, suffix))
        if route is not None:
            self.take_value(route, value, line)
            return
        plain = split_plain(suffix)
        shape = self._shapes.get(name, plain, self._store.families) if plain else None
        if plain and shape:
            self._take_shaped((name, suffix), shape, plain, value, line)
            return
        outcome = read_line(line.encode("latin-1"), self._dialect)
        is_one = isinstance(outcome, list) and len(outcome) == 1 and not is_chain(suffix)
        self._settle(outcome, line, (name, suffix) if is_one and suffix[-1:] != "\r" else None)

    def take_value(self, route: Route, value: str, line: str) -> None:
        """Take the values of a line whose route is known."""
        values = self._values(route.kind, value)
        if isinstance(values, Refusal):
            self.refuse(values, line)
        else:
            self._apply(route, values)
            self._accept(route.notes, len(values))

    def _take_shaped(
        self, key: tuple[str, str], shape: Shape, plain: PlainSuffix, value: str, line: str
    ) -> None:
        texts: Sequence[str] = plain.values
        values = self._values(shape.kind, value)
        if isinstance(values, Refusal):
            self.refuse(values, line)
            return
        self.stats.cache_misses += 1
        if len(key[1]) > VALUE_LENGTH_LIMIT:  # else none of them is as long
            texts = [label_value(text) for text in texts]
        route = self._store.place(shape, texts)
        self._keep(key, route)
        if self._keep_folding and route.fold and route.fold.only_label and route.is_commutative:
            folding = _folding(key[0], shape, plain, route, route.fold.only_label)
            if folding is not None:
                self._keep_folding(folding)
        self._apply(route, values)
        self._accept(route.notes, len(values))

    def _values(self, kind: str, value: str) -> list[Value] | Refusal:
        text = _decoded(value)
        return _NOT_UTF8 if text is None else read_values(kind, text, self._dialect)

    def count_taken(self, notes: Iterable[str]) -> None:
        """Count a line of one value that a twin took by what it was told of a folding."""
        self.stats.cache_misses += 1
        self._accept(notes, 1)

    def refuse(self, refusal: Refusal, line: str) -> None:
        """Count a line that does not count, and remember it for the log."""
        self.stats.refused[refusal.reason] += 1
        raw = line.encode("latin-1")
        self._is_private = self._is_private or may_hold_prompt(raw)
        size = f"a line of {len(raw)} bytes of an event"
        self.stats.refused_lines[refusal.reason] = size if self._is_private else shown(raw)

    def _took_whole_event(self, datagram: bytes) -> bool:
        try:
            outcome = read_whole_event(datagram)
            if outcome is None:
                return False
            self._settle(outcome, datagram.decode("latin-1"))
        except MemoryError:
            self.end_of_memory(datagram.decode("latin-1"))
        return True

    def _settle(
        self, outcome: list[Reading] | Refusal | SetAside, line: str, key: Key | None = None
    ) -> None:
        if isinstance(outcome, Refusal):
            self.refuse(outcome, line)
        elif isinstance(outcome, SetAside):
            self.stats.set_aside[outcome.kind] += 1
        else:
            self._take_readings(outcome, line, key)

    def _take_readings(self, readings: list[Reading], line: str, key: Key | None) -> None:
        if len(readings) > 1 and line[:1] != "{":  # an event has documented series only
            refusal = self._store.refusal(reading.meaning for reading in readings)
            if refusal is not None:
                self.refuse(refusal, line)
                return
        routed = []
        for reading in readings:
            route = self._resolve(key or reading.meaning, reading.meaning)
            if isinstance(route, Refusal):
                self.refuse(route, line)
                return
            routed.append((route, reading.values))
        notes = {note for route, _ in routed for note in route.notes}
        samples = sum(len(values) for _, values in routed)
        for route, values in routed:
            self._apply(route, values)
        self._accept(notes, samples)

    def _resolve(self, key: Key, meaning: Meaning) -> Route | Refusal:
        route = self._cache.get(key)
        if route is None:
            self.stats.cache_misses += 1
            shape = self._store.shape(meaning)
            if isinstance(shape, Refusal):
                return shape
            route = self._store.place(shape, [label_value(text) for _, text in meaning.tags])
            self._keep(key, route)
            if not isinstance(key, Meaning):
                self._learn(*key, meaning, shape)
        return route

    def _learn(self, name: str, suffix: str, meaning: Meaning, shape: Shape) -> None:
        plain = split_plain(suffix)
        if plain and len(plain.keys) == len(meaning.tags):  # a key that comes twice counts once
            self._shapes.keep(name, suffix, plain, shape)

    def _keep(self, key: Key, route: Route) -> None:
        """Remember a route; one into `other` only when it comes again.

        So values that come but once do not drive those from the cache that come often.
        """
        if route.is_folded and not self.came_before(key):
            return
        self._cache.keep(key, route)

    def came_before(self, key: Key) -> bool:
        """Whether a key of a route into `other` was seen here not long ago; now it has been."""
        number = hash(key)
        if number in self._folded_once:
            return True
        if len(self._folded_once) >= FOLDED_ONCE_LIMIT:
            self._folded_once.clear()
        self._folded_once.add(number)
        return False

    def _apply(self, route: Route, values: list[Value]) -> None:
        for value in values:
            try:
                _add(route, value)
            except MemoryError:  # which has changed nothing yet, and may not end here: others have
                self._store.stop_growing()
                _add(route, value)

    def _accept(self, notes: Iterable[str], samples: int) -> None:
        try:
            self._count(notes, samples)
        except MemoryError:
            self._store.stop_growing()
            self._count(notes, samples)

    def _count(self, notes: Iterable[str], samples: int) -> None:
        self.stats.note(notes)
        all_samples = self.stats.other_samples + samples
        self.stats.other_lines += 1
        self.stats.other_samples = all_samples


def _add(route: Route, value: Value) -> None:
    number, relative = value
    if relative:
        route.change(float(number))
    else:
        route.add(number)


def _folding(
    name: str, shape: Shape, plain: PlainSuffix, route: Route, label: str
) -> Folding | None:
    """What a line whose `label` folded has in common with others; None where no tag alone is it."""
    tag = shape.tag_of(label)
    if tag is None:
        return None
    tags = [f"{key}:{value}" for key, value in zip(plain.keys, plain.values, strict=True)]
    before = ",".join([*tags[:tag], f"{plain.keys[tag]}:"])
    after = "".join(f",{text}" for text in tags[tag + 1 :])
    same = SameFold(shape.family, label)
    return Folding(name, f"{plain.head}|#{before}", after, route, same)


def shown(line: bytes) -> str:
    """A line for people, cut to SHOWN_LENGTH_LIMIT bytes."""
    if len(line) <= SHOWN_LENGTH_LIMIT:
        return line.decode(errors="replace")
    return f"{line[:SHOWN_LENGTH_LIMIT].decode(errors='replace')}…"


def _decoded(value: str) -> str | None:
    """A value, one character per byte so far, as UTF-8; None if it is none."""
    try:
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return None
