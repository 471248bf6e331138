"""From a datagram's bytes to cells: resolve a meaning once, add many values.

The hot path takes the datagrams that arrived together. It splits a line at its first `|` and its
first `:`, looks the pair (name, suffix) up in a bounded cache, converts the values of all lines at
once and adds each to the cell found. It only takes unsigned plain decimals of counters and
histograms, whose order does not matter. Everything else (a first sight, a packed or signed value,
an exponent, a gauge, a set, an event, anything wrong) is decided in the slow path, in the order of
arrival, by `wire` and by the store.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from llmstatsd.series.cache import Key, RouteCache
from llmstatsd.series.expiry import Sweep
from llmstatsd.series.store import Route, Store
from llmstatsd.wire.datagram import SetAside, read_line, read_whole_event
from llmstatsd.wire.number import PLAIN_LENGTH
from llmstatsd.wire.reasons import INVALID_UTF8, KINDS, MALFORMED, NOTES, REASONS, Refusal
from llmstatsd.wire.statsd import Dialect, Meaning, Reading, Value, is_chain, read_values

LANE: Final = "portable"
"""Which twin of the hot path this is: the reference in Python."""

SHOWN_LENGTH_LIMIT: Final = 200
"""Most bytes kept of a refused line to show it in the log."""

# c|T1656581400: a time stamp changes with every line and must not fill the cache.
_TIMESTAMP: Final = re.compile(r"\|T[0-9]+(?=\||$)")

_NO_SERIES: Final = ("{", "_e{", "_sc|")
"""How lines begin whose first `:` does not end a series name."""


BATCH_VALUES_MINIMUM: Final = 4
"""Values from which on converting them together is faster than one by one."""

PLAIN_LIMIT: Final = 1e16
"""Largest value that the hot path takes; what is larger goes by the number grammar."""

# A strict JSON number without sign and exponent is a number of the wire's grammar.
_numbers: Final = msgspec.json.Decoder(list[float]).decode

_NOT_UTF8: Final = Refusal(INVALID_UTF8)


@dataclass(slots=True)
class LineStats:
    """The ladder of this stage, counted since the start.

    lines = accepted + refused + set aside; `plain_lines` are those the hot path took, each one
    sample. `refused_lines` keeps the last refused line per reason, cut to 200 bytes;
    of an event it keeps only the size.
    """

    datagrams: int = 0
    bytes: int = 0
    plain_lines: int = 0
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
        return self.plain_lines + self.other_samples


class HotPath:
    """Feeds datagrams to a store. `cache_entries` bounds the resolved meanings that are kept."""

    def __init__(self, store: Store, dialect: Dialect, cache_entries: int) -> None:
        self.stats = LineStats()
        self.cache = RouteCache(cache_entries)
        self._store = store
        self._dialect = dialect
        self._is_private = False  # the lines at hand may be pieces of an event, and hold a prompt

    def feed(self, datagram: bytes) -> None:
        """Take one datagram in; never raises on any bytes."""
        self.feed_together((datagram,))

    def feed_together(self, datagrams: Sequence[bytes]) -> None:
        """Take in the datagrams that arrived together; never raises on any bytes.

        The memory needed meanwhile grows with the bytes of all of them.
        """
        if not datagrams:
            return
        stats = self.stats
        data = b"\n".join(datagrams)
        stats.datagrams += len(datagrams)
        stats.bytes += len(data) - len(datagrams) + 1
        if b"{" not in data:
            self._feed_lines(data)
            return
        for datagram in datagrams:
            self._is_private = datagram.lstrip()[:1] == b"{"
            if datagram[:1] != b"{" or not self._took_whole_event(datagram):
                self._feed_lines(datagram)
        self._is_private = False

    def expire(self, now: float) -> Iterator[None]:
        """Remove idle label sets, in short steps; `now` is seconds of a monotonic clock."""
        sweep = Sweep(self._store, now)
        yield from sweep.look()
        if not sweep.has_idle():
            return
        yield from self.cache.forget(lambda route: sweep.found_idle(route.cell))
        yield from sweep.leave()
        # There are free places now, which a value inside `other` may take.
        yield from self.cache.forget(lambda route: route.is_folded)

    def _feed_lines(self, data: bytes) -> None:
        plain = self.cache.plain
        # One character per byte: text methods are faster than those of bytes, and lossless here.
        lines = data.decode("latin-1").split("\n")
        adds: list[Callable[[float], None]] = []
        values: list[str] = []
        others: list[str] = []
        for line in lines:
            # the line is:  name:value|suffix
            head, _, suffix = line.partition("|")
            name, _, value = head.partition(":")
            try:
                adds.append(plain[name][suffix].plain)
            except KeyError:
                others.append(line)
            else:
                values.append(value)
        if values and not self._added_together(adds, values):
            self._add_one_by_one(lines)
        for line in others:
            self._take_other(line)

    def _added_together(self, adds: list[Callable[[float], None]], values: list[str]) -> bool:
        if len(values) < BATCH_VALUES_MINIMUM:
            return False
        joined = ",".join(values)
        if not joined.replace(".", "").replace(",", "").isdecimal():
            return False
        try:
            numbers = _numbers(f"[{joined}]")
        except msgspec.DecodeError:
            return False
        # A comma inside a value gives a number too many.
        if len(numbers) != len(adds) or max(numbers) > PLAIN_LIMIT:
            return False
        for add, number in zip(adds, numbers, strict=True):
            add(number)
        self.stats.plain_lines += len(numbers)
        return True

    def _add_one_by_one(self, lines: list[str]) -> None:
        plain = self.cache.plain
        for line in lines:
            head, _, suffix = line.partition("|")
            name, colon, value = head.partition(":")
            try:
                route = plain[name][suffix]
            except KeyError:
                continue  # it is among the others
            if not colon:
                self._refuse(Refusal(MALFORMED), line)
            elif _is_plain(value):
                route.plain(float(value))
                self.stats.plain_lines += 1
            else:
                self._take_value(route, value, line)

    def _took_whole_event(self, datagram: bytes) -> bool:
        outcome = read_whole_event(datagram)
        if outcome is None:
            return False
        self._settle(outcome, datagram.decode("latin-1"))
        return True

    def _take_other(self, line: str) -> None:
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
        route = self.cache.get((name, suffix))
        if route is not None:
            self._take_value(route, value, line)
            return
        outcome = read_line(line.encode("latin-1"), self._dialect)
        is_one = isinstance(outcome, list) and len(outcome) == 1 and not is_chain(suffix)
        self._settle(outcome, line, (name, suffix) if is_one and suffix[-1:] != "\r" else None)

    def _settle(
        self, outcome: list[Reading] | Refusal | SetAside, line: str, key: Key | None = None
    ) -> None:
        if isinstance(outcome, Refusal):
            self._refuse(outcome, line)
        elif isinstance(outcome, SetAside):
            self.stats.set_aside[outcome.kind] += 1
        else:
            self._take(outcome, line, key)

    def _take(self, readings: list[Reading], line: str, key: Key | None) -> None:
        if len(readings) > 1 and line[:1] != "{":  # an event has documented series only
            refusal = self._store.refusal(reading.meaning for reading in readings)
            if refusal is not None:
                self._refuse(refusal, line)
                return
        routed = []
        for reading in readings:
            route = self._resolve(key or reading.meaning, reading.meaning)
            if isinstance(route, Refusal):
                self._refuse(route, line)
                return
            routed.append((route, reading.values))
        for route, values in routed:
            self._apply(route, values)
        self._accept({note for route, _ in routed for note in route.notes})

    def _resolve(self, key: Key, meaning: Meaning) -> Route | Refusal:
        route = self.cache.get(key)
        if route is None:
            self.stats.cache_misses += 1
            resolved = self._store.route(meaning)
            if isinstance(resolved, Refusal):
                return resolved
            route = resolved
            if route.notes:
                route.plain = self._noting(route)
            self.cache.keep(key, route)
        return route

    def _take_value(self, route: Route, value: str, line: str) -> None:
        text = _decoded(value)
        values = _NOT_UTF8 if text is None else read_values(route.kind, text, self._dialect)
        if isinstance(values, Refusal):
            self._refuse(values, line)
        else:
            self._apply(route, values)
            self._accept(route.notes)

    def _apply(self, route: Route, values: list[Value]) -> None:
        for number, relative in values:
            if relative and route.change:
                route.change(number)
            else:
                route.add(number)
        self.stats.other_samples += len(values)

    def _accept(self, notes: Iterable[str]) -> None:
        self.stats.other_lines += 1
        self._note(notes)

    def _note(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.stats.notes[note] += 1

    def _noting(self, route: Route) -> Callable[[float], None]:
        # Of the route itself nothing is kept: a cycle would outlive its place in the cache.
        add, notes = route.add, route.notes

        def add_and_note(value: float) -> None:
            add(value)
            self._note(notes)

        return add_and_note

    def _refuse(self, refusal: Refusal, line: str) -> None:
        self.stats.refused[refusal.reason] += 1
        size = f"a line of {len(line)} bytes of an event"
        self.stats.refused_lines[refusal.reason] = size if self._is_private else _shown(line)


def _is_plain(value: str) -> bool:
    """Whether `float` reads the value as the number grammar does, and it is small."""
    return len(value) <= PLAIN_LENGTH and (
        value.isdecimal()
        or (value.replace(".", "", 1).isdecimal() and value[0] != "." != value[-1])
    )


def _shown(line: str) -> str:
    return line[:SHOWN_LENGTH_LIMIT].encode("latin-1").decode(errors="replace")


def _decoded(value: str) -> str | None:
    """A value, one character per byte so far, as UTF-8; None if it is none."""
    try:
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return None
