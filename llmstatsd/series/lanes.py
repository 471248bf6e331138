"""The two twins of the hot path, and which of them runs."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from llmstatsd.series import hotpath, instruments
from llmstatsd.series.expiry import expire
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect

if TYPE_CHECKING:
    pass

LaneName = Literal["auto", "compiled", "portable"]

NO_EXTENSIONS: Final = "LLMSTATSD_NO_EXTENSIONS"
"""A variable that, set to anything, switches the compiled lane off."""


class LaneMissingError(Exception):
    """The compiled lane is asked for and is not there; the text says why."""


class HotPath(Protocol):
    """What both twins do."""

    @property
    def lane(self) -> str:
        """Which twin this is."""

    @property
    def stats(self) -> LineStats:
        """The ladder so far."""

    @property
    def cache_entries(self) -> int:
        """Resolved meanings in the cache."""

    @property
    def cache_entries_limit(self) -> int:
        """Bound of the cache."""

    def feed(self, datagram: bytes, /) -> None:
        """Take one datagram in; never raises on any bytes."""

    def feed_together(self, datagrams: Sequence[bytes], /) -> None:
        """Take in the datagrams that arrived together; never raises on any bytes."""

    def go_on_from(self, ladder: LineStats, /) -> None:
        """Count on from a ladder of before."""

    def settle(self) -> None:
        """Bring everything that is counted up to date."""

    def expire(self, now: float, /) -> Iterator[None]:
        """Remove idle label sets, in short steps; `now` is seconds of a monotonic clock."""


class CompiledHotPath:
    """Several compiled lanes over one store, each with a cache of its own."""

    lane: Final = "compiled"

    def __init__(self, store: Store, dialect: Dialect, cache_entries: int, lanes: int = 1) -> None:
        from llmstatsd.series.compiled import Lane

        self.lanes = [Lane(store, dialect, cache_entries, number + 1) for number in range(lanes)]
        self._store = store
        self._before = LineStats()
        self._predecessor: HotPath | None = None

    @property
    def stats(self) -> LineStats:
        """The ladder of all lanes together, and of before; a copy."""
        together = LineStats()
        for ladder in (self._before, *[lane.stats for lane in self.lanes]):
            together.absorb(ladder)
        if self._predecessor is not None:
            together.absorb(self._predecessor.stats)
        return together

    def follow(self, predecessor: HotPath) -> None:
        """Count on from another hot path, which is still fed, until `has_followed`."""
        self._predecessor = predecessor

    def has_followed(self) -> None:
        """The other hot path is not fed any more: count on from what it has come to."""
        if self._predecessor is not None:
            self._predecessor.settle()
            together = LineStats()
            together.absorb(self._before)
            together.absorb(self._predecessor.stats)
            self._before, self._predecessor = together, None

    def go_on_from(self, ladder: LineStats) -> None:
        """Count on from a ladder of before."""
        self._before.absorb(ladder)

    @property
    def cache_entries(self) -> int:
        """Resolved meanings in the caches of all lanes."""
        return sum(map(len, self.lanes))

    @property
    def cache_entries_limit(self) -> int:
        """Bound of all caches."""
        return sum(lane.limit for lane in self.lanes)

    def feed(self, datagram: bytes) -> None:
        """Take one datagram in by the first lane; never raises on any bytes."""
        self.lanes[0].feed(datagram)

    def feed_together(self, datagrams: Sequence[bytes]) -> None:
        """Take datagrams in by the first lane; never raises on any bytes."""
        self.lanes[0].feed_together(datagrams)

    def settle(self) -> None:
        """Count the folded samples that lanes have added and not yet counted."""
        if self._predecessor is not None:
            self._predecessor.settle()
        with self._store.gate:
            for lane in self.lanes:
                lane.settle()

    def expire(self, now: float) -> Iterator[None]:
        """Remove idle label sets, in short steps; `now` is seconds of a monotonic clock."""
        return expire(self._store, self.lanes, now)


class Twin(NamedTuple):
    """One implementation: its name, its cells, and its hot path over a store of such cells."""

    name: str
    instruments: instruments.Instruments
    hot_path: Callable[[Store, Dialect, int], HotPath]


PORTABLE: Final = Twin("portable", instruments.PORTABLE, hotpath.HotPath)


def choose(wanted: LaneName) -> Twin:
    """The twin to run: with `auto` the compiled one where it is there.

    Raises LaneMissingError when `compiled` is wanted and is not there.
    """
    if wanted == "portable" or (wanted == "auto" and why_missing()):
        return PORTABLE
    reason = why_missing()
    if reason:
        raise LaneMissingError(reason)
    from llmstatsd.series.compiled import INSTRUMENTS

    return Twin("compiled", INSTRUMENTS, CompiledHotPath)


def why_missing() -> str | None:
    """Why the compiled lane cannot run, None if it can."""
    if os.environ.get(NO_EXTENSIONS):
        return f"{NO_EXTENSIONS} is set"
    try:
        import llmstatsd.series.compiled  # noqa: F401 to see whether it can be
    except ImportError as error:
        return f"the compiled extension is not installed: {error}"
    return None
