"""Cells: what one label set of a series holds, and how a value changes it.

A cell is `touched` when a value arrived since the last sweep; `seen` is the time of the sweep
that last found it so. `rendered` belongs to the exposition, which renders what never changes of a
cell once and keeps it here.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from llmstatsd.wire.statsd import MILLISECONDS_PER_SECOND

LabelSet = tuple[tuple[str, ...], tuple[str, ...]]
"""Label names, sorted, and their values in the same order."""


class AnyCell(Protocol):
    """What every cell tells, whichever twin it is of."""

    label_set: LabelSet
    kept: bool
    rendered: Any
    seen: float
    touched: bool


class Counter(AnyCell, Protocol):
    """A sum that only grows."""

    @property
    def value(self) -> float:
        """The sum."""

    def add(self, amount: float, /) -> None:
        """Add a non-negative amount."""


class Gauge(AnyCell, Protocol):
    """The last value, or the sum of changes since."""

    @property
    def value(self) -> float:
        """The value, 0 at first."""

    def set(self, value: float, /) -> None:
        """Take the value as it is."""

    def change(self, amount: float, /) -> None:
        """Add a positive or negative amount."""

    def absorb(self, value: float, /) -> None:
        """Begin at a value from before: changes since then are added, what was set stands."""


class Histogram(AnyCell, Protocol):
    """Counts per bucket and the sum of observations, in the unit of the series."""

    @property
    def bounds(self) -> Sequence[float]:
        """The finite upper bounds, ascending and inclusive."""

    @property
    def counts(self) -> Sequence[float]:
        """Observations per bucket, not cumulative, the last above the last bound."""

    @property
    def sum(self) -> float:
        """The sum of observations."""

    def observe(self, value: float, /) -> None:
        """One observation."""

    def observe_milliseconds(self, value: float, /) -> None:
        """One observation in milliseconds for a series in seconds."""

    def observe_weighted(self, value: float, weight: float, /) -> None:
        """An observation that stands for `weight` of them (1 / sampling rate)."""

    def absorb(self, counts: Sequence[float], total: float, /) -> None:
        """Add observations from before: as many counts as there are here, and their sum."""


class Cell:
    """What all cells share. Times are seconds of the clock that the sweeps are given."""

    __slots__ = ("kept", "label_set", "rendered", "seen", "touched")

    def __init__(self, label_set: LabelSet) -> None:
        self.label_set = label_set
        self.kept = False
        """True for a cell that never expires: pinned, reserved, or without labels."""
        self.rendered = ""
        self.seen = 0.0
        self.touched = True


class CounterCell(Cell):
    """A sum that only grows."""

    __slots__ = ("value",)

    def __init__(self, label_set: LabelSet) -> None:
        super().__init__(label_set)
        self.value = 0.0

    def add(self, amount: float) -> None:
        """Add a non-negative amount."""
        self.value += amount
        self.touched = True


class GaugeCell(Cell):
    """The last value, or the sum of changes since."""

    __slots__ = ("_is_set", "value")

    def __init__(self, label_set: LabelSet) -> None:
        super().__init__(label_set)
        self.value = 0.0
        self._is_set = False

    def set(self, value: float) -> None:
        """Take the value as it is."""
        self._is_set = True
        self.value = value
        self.touched = True

    def change(self, amount: float) -> None:
        """Add a positive or negative amount."""
        self.value += amount
        self.touched = True

    def absorb(self, value: float) -> None:
        """Begin at a value from before: changes since then are added, what was set stands."""
        if not self._is_set:
            # Added to nothing, -0.0 would become 0.0.
            self.set(value + self.value if self.value else value)


class HistogramCell(Cell):
    """Counts per bucket and the sum of observations, in the unit of the series.

    `bounds` are the finite upper bounds, ascending and inclusive; `counts` has one more entry,
    for what lies above the last. Counts are not cumulative. They are whole numbers unless a
    sampling rate gave a weight that is none.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...], label_set: LabelSet) -> None:
        super().__init__(label_set)
        self.bounds = bounds
        self.counts: list[float] = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One observation."""
        total = self.sum + value  # first: where memory ends, both are changed or none
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum = total
        self.touched = True

    def observe_milliseconds(self, value: float) -> None:
        """One observation in milliseconds for a series in seconds."""
        value /= MILLISECONDS_PER_SECOND
        total = self.sum + value
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum = total
        self.touched = True

    def observe_weighted(self, value: float, weight: float) -> None:
        """An observation that stands for `weight` of them (1 / sampling rate)."""
        total = self.sum + value * weight
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum = total
        self.touched = True

    def absorb(self, counts: Sequence[float], total: float) -> None:
        """Add observations from before: as many counts as there are here, and their sum."""
        counts = [own + more for own, more in zip(self.counts, counts, strict=True)]
        total += self.sum
        self.counts, self.sum = counts, total
        self.touched = True


class MemberCount:
    """How many members all sets hold in this minute, at most `LIMIT`: about 10 MB of hashes.

    The hashes are keyed, so that nobody can choose members that look alike; whoever keeps them
    for another process keeps the `key` too.
    """

    LIMIT: Final = 100_000

    __slots__ = ("held", "key")

    def __init__(self) -> None:
        self.held = 0
        # Python's hash of a text differs from process to process.
        self.key = hash("llmstatsd").to_bytes(8, signed=True)

    def hash(self, member: str) -> int:
        """64 bits that stand for a member."""
        text = member.encode(errors="surrogatepass")
        return int.from_bytes(blake2b(text, digest_size=8, key=self.key).digest())


class SetCell(Cell):
    """Distinct members in the last full minute.

    Members are kept as hashes, at most `limit` of them, and of all sets together at most
    `MemberCount.LIMIT`; what comes beyond is not seen.
    """

    __slots__ = ("count", "limit", "members", "value")

    def __init__(self, limit: int, count: MemberCount, label_set: LabelSet) -> None:
        super().__init__(label_set)
        self.limit = limit
        self.count = count
        self.members: set[int] = set()
        self.value = 0

    def insert(self, member: str) -> None:
        """Count a member once in this minute."""
        self._insert((self.count.hash(member),))
        self.touched = True

    def absorb(self, value: int, hashes: Iterable[int]) -> None:
        """Go on from a figure, and from the hashes of members of this minute.

        Where there is a figure already the higher one stays: what both have in common is unknown.
        """
        self.value = max(self.value, value)
        self._insert(hashes)
        self.touched = True

    def _insert(self, hashes: Iterable[int]) -> None:
        members, count = self.members, self.count
        for each in hashes:
            held = count.held + 1  # first, so that no memory for it leaves all as it was
            if len(members) < self.limit and held <= count.LIMIT and each not in members:
                members.add(each)
                count.held = held

    def end_minute(self) -> None:
        """Make the members of the minute that ends the value, and start again."""
        self.value = len(self.members)
        self.leave()

    def leave(self) -> None:
        """Give the places of the members back."""
        self.count.held -= len(self.members)
        self.members = set()


class Instruments(NamedTuple):
    """Makes the cells of one twin; those of a histogram from what `bounds` makes of its buckets.

    Sets hold Python objects and are the same in both twins.
    """

    counter: Callable[[LabelSet], Counter]
    gauge: Callable[[LabelSet], Gauge]
    histogram: Callable[[Any, LabelSet], Histogram]
    bounds: Callable[[tuple[float, ...]], Any]


PORTABLE: Final = Instruments(CounterCell, GaugeCell, HistogramCell, tuple)
"""The cells of the reference, in Python."""
