"""From a datagram's bytes to cells: resolve a meaning once, add many values. The reference.

The hot path takes the datagrams that arrived together. It splits a line at its first `|` and its
first `:`, looks the pair (name, suffix) up in a bounded cache, converts the values of all lines at
once and adds each to the cell found. It only takes values of counters and histograms, whose order
does not matter. Everything else (a first sight, a gauge, a set, an event, anything wrong) is
decided in the slow path, in the order of arrival.

Its compiled twin is `compiled.pyx`: same cells, same counts, bit by bit.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from llmstatsd.series.cache import RouteCache
from llmstatsd.series.expiry import expire
from llmstatsd.series.route import Route
from llmstatsd.series.slowpath import LineStats, SlowPath
from llmstatsd.series.store import Store
from llmstatsd.wire.number import is_plain
from llmstatsd.wire.reasons import MALFORMED, Refusal
from llmstatsd.wire.statsd import Dialect

BATCH_VALUES_MINIMUM: Final = 4
"""Values from which on converting them together is faster than one by one."""

PLAIN_LIMIT: Final = 1e16
"""Largest value converted without asking the number grammar."""

A = TypeVar("A")
R = TypeVar("R")

_Sorted = tuple[list[str], list[Callable[[float], None]], list[str], list[str]]
"""All lines; how to add the values of known ones, and those values; and the lines left over."""

# A strict JSON number without sign and exponent is a number of the wire's grammar.
_numbers: Final = msgspec.json.Decoder(list[float]).decode


class HotPath:
    """Feeds datagrams to a store. `cache_entries` bounds the resolved meanings that are kept."""

    lane: Final = "portable"
    """Which twin this is."""

    def __init__(
        self,
        store: Store,
        dialect: Dialect,
        cache_entries: int,
        stats: LineStats | None = None,
    ) -> None:
        self.stats = stats or LineStats()
        self.cache = RouteCache(cache_entries, self.stats.note)
        self._store = store
        self._slow = SlowPath(store, dialect, self.cache, self.stats)

    @property
    def cache_entries(self) -> int:
        """Resolved meanings in the cache."""
        return len(self.cache)

    @property
    def cache_entries_limit(self) -> int:
        """Bound of the cache."""
        return self.cache.limit

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
        data = self._tried_twice(b"\n".join, datagrams)
        stats.datagrams += len(datagrams)
        stats.bytes += len(data) - len(datagrams) + 1
        if b"{" not in data:
            self._feed_lines(data)
            return
        for datagram in datagrams:
            self._slow.take_datagram(datagram, self._feed_lines)

    def go_on_from(self, ladder: LineStats) -> None:
        """Count on from a ladder of before."""
        self.stats.absorb(ladder)

    def settle(self) -> None:
        """Bring everything that is counted up to date: here it always is."""

    def expire(self, now: float) -> Iterator[None]:
        """Remove idle label sets, in short steps; `now` is seconds of a monotonic clock."""
        return expire(self._store, [self.cache], now)

    def _feed_lines(self, data: bytes) -> None:
        lines, adds, values, others = self._tried_twice(self._sorted, data)
        if values and not self._added_together(adds, values):
            self._add_one_by_one(lines)
        for line in others:
            self._slow.take(line)

    def _tried_twice(self, work: Callable[[A], R], argument: A) -> R:
        """What has no effect but its result is done again with the memory kept for its end."""
        try:
            return work(argument)
        except MemoryError:
            self._store.stop_growing()
            return work(argument)

    def _sorted(self, data: bytes) -> _Sorted:
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
        return lines, adds, values, others

    def _added_together(self, adds: list[Callable[[float], None]], values: list[str]) -> bool:
        if len(values) < BATCH_VALUES_MINIMUM:
            return False
        numbers = self._tried_twice(_converted, values)
        if numbers is None or max(numbers) > PLAIN_LIMIT:
            return False
        for add, number in zip(adds, numbers, strict=True):
            add(number)
        self._count_plain(len(numbers))
        return True

    def _add_one_by_one(self, lines: list[str]) -> None:
        plain = self.cache.plain
        for line in lines:
            head, _, suffix = line.partition("|")
            name, colon, value = head.partition(":")
            try:
                known = plain[name][suffix]
            except KeyError:
                continue  # it is among the others
            if not colon:
                self._slow.refuse(Refusal(MALFORMED), line)
            elif is_plain(value):
                known.plain(float(value))
                self._count_plain(1)
            else:
                self._take_value(known.route, value, line)

    def _take_value(self, route: Route, value: str, line: str) -> None:
        try:
            self._slow.take_value(route, value, line)
        except MemoryError:
            self._slow.end_of_memory(line)

    def _count_plain(self, lines: int) -> None:
        self.stats.plain_lines += lines
        self.stats.plain_samples += lines


def _converted(values: list[str]) -> list[float] | None:
    """The numbers of plain values; None where some are not plain."""
    joined = ",".join(values)
    if not joined.replace(".", "").replace(",", "").isdecimal():
        return None
    try:
        numbers = _numbers(f"[{joined}]")
    except msgspec.DecodeError:
        return None
    # A comma inside a value gives a number too many.
    return numbers if len(numbers) == len(values) else None
