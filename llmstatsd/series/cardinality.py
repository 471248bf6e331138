"""The budgets that bound what user-controlled values can make, and what they folded away."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from math import log
from sys import hash_info
from typing import Final

from llmstatsd.catalog import OTHER

FOLDED_BY_VALUES: Final = "label_values"
FOLDED_BY_SETS: Final = "label_sets"
FOLDED_BY_LINES: Final = "exposition_lines"

FOLD_REASONS: Final = (FOLDED_BY_VALUES, FOLDED_BY_SETS, FOLDED_BY_LINES)


class Aliases:
    """Rewrite rules per label: exact values, or patterns where `*` is any text; the first wins."""

    def __init__(self, rules: Mapping[str, Mapping[str, str]]) -> None:
        self._rules = {
            label: [(_matcher(pattern), value) for pattern, value in table.items()]
            for label, table in rules.items()
        }

    def has(self, label: str) -> bool:
        """Whether there are any rules for this label."""
        return label in self._rules

    def rewrite(self, label: str, value: str) -> str:
        """The value that stands for `value`, or `value` itself."""
        for matches, replacement in self._rules.get(label, ()):
            if matches(value):
                return replacement
        return value


def _matcher(pattern: str) -> Callable[[str], re.Match[str] | None]:
    only_stars = pattern.replace("[", "[[]").replace("?", "[?]")
    return re.compile(translate(only_stars)).match


class DistinctEstimate:
    """About how many different values were seen, in 1,024 bytes: HyperLogLog.

    Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", 2007: with m registers the standard
    error is 1.04 / sqrt(m), here 3.3 %; small counts by linear counting. Python's hash of a text
    is keyed anew in each process, so that nobody can choose values that all look alike.
    """

    __slots__ = ("_registers",)

    _INDEX_BITS: Final = 10
    _SIZE: Final = 1 << _INDEX_BITS
    _RANK_BITS: Final = hash_info.width - _INDEX_BITS
    _ALPHA: Final = 0.7213 / (1 + 1.079 / _SIZE)

    def __init__(self) -> None:
        self._registers = bytearray(self._SIZE)

    def add(self, value: str) -> None:
        """See a value; seeing it again changes nothing."""
        number = hash(value)
        index = number & (self._SIZE - 1)
        rest = (number >> self._INDEX_BITS) & ((1 << self._RANK_BITS) - 1)
        rank = self._RANK_BITS - rest.bit_length() + 1
        if rank > self._registers[index]:
            self._registers[index] = rank

    def count(self) -> float:
        """The estimate, 0 or more."""
        ranks = Counter(self._registers)
        raw = self._ALPHA * self._SIZE**2 / sum(count * 2.0**-rank for rank, count in ranks.items())
        empty = ranks[0]
        if raw <= 2.5 * self._SIZE and empty:
            return self._SIZE * log(self._SIZE / empty)
        return raw


class HeaviestValues:
    """The values that came most often, with at most `SLOTS` of them kept: Space-Saving.

    Source: Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements
    in Data Streams", 2005. A kept count is too high by at most the error kept beside it.
    """

    SLOTS: Final = 32

    __slots__ = ("_counts", "_errors", "_least", "_lightest", "_total")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._total = 0
        self._least = 0
        self._lightest: list[str] = []  # had the least count when they were listed

    def add(self, value: str, times: int = 1) -> None:
        """Count a value that came so many times."""
        self._total += times
        counts = self._counts
        if value in counts:
            counts[value] += times
        elif len(counts) < self.SLOTS:
            counts[value] = times
        else:
            lightest = self._next_lightest()
            self._errors.pop(lightest, None)
            self._errors[value] = least = counts.pop(lightest)
            counts[value] = least + times

    def _next_lightest(self) -> str:
        """A value with the least count; what comes in its place has a greater one."""
        while True:
            while self._lightest:
                value = self._lightest.pop()
                if self._counts.get(value) == self._least:
                    return value
            self._least = min(self._counts.values())
            self._lightest = [v for v, n in self._counts.items() if n == self._least]
            self._lightest.reverse()  # the oldest goes first

    def top(self, most: int, share: float) -> list[tuple[str, int]]:
        """At most `most` values whose sure count is at least `share` of all, heaviest first."""
        sure = [(value, n - self._errors.get(value, 0)) for value, n in list(self._counts.items())]
        heavy = [(value, count) for value, count in sure if count >= self._total * share]
        return sorted(heavy, key=lambda entry: -entry[1])[:most]


class Watches:
    """How many labels of undeclared series may have what they fold watched.

    What is watched is an estimate of its number and the values that come most often.
    A watch takes about 8 KiB, and a flood of undeclared names may fold in thousands of labels.
    """

    LIMIT: Final = 64

    __slots__ = ("_granted",)

    def __init__(self) -> None:
        self._granted = 0

    def grant(self) -> bool:
        """Whether there is one more, which is then taken."""
        if self._granted >= self.LIMIT:
            return False
        self._granted += 1
        return True

    def give_back(self) -> None:
        """A watched label is gone."""
        self._granted -= 1


class LabelBudget:
    """The values one label of one series holds, at most `limit`, and those it folded.

    Pinned values, those of a closed set, and `other` are free and always admitted. `folded` and
    `heaviest` are there once a value was folded, as far as `watches` go (None: without a bound).
    """

    __slots__ = ("_free", "_held", "_pinned", "_watches", "folded", "heaviest", "limit")

    def __init__(
        self,
        limit: int,
        watches: Watches | None,
        pinned: Sequence[str] = (),
        closed: Sequence[str] = (),
    ) -> None:
        self.limit = limit
        self._watches = watches
        self._pinned = frozenset(pinned)
        self._free = frozenset((OTHER, *pinned, *closed))
        self._held: dict[str, int] = {}
        self.folded: DistinctEstimate | None = None
        self.heaviest: HeaviestValues | None = None

    @property
    def held(self) -> int:
        """How many values have a slot."""
        return len(self._held)

    def is_pinned(self, value: str) -> bool:
        """Whether the configuration keeps this value for ever."""
        return value in self._pinned

    def is_free(self, value: str) -> bool:
        """Whether this value costs no budget."""
        return value in self._free

    def admits(self, value: str) -> bool:
        """Whether a label set with this value may be born."""
        return value in self._held or len(self._held) < self.limit or value in self._free

    def hold(self, value: str) -> None:
        """A label set with this value is born."""
        if value not in self._free:
            self._held[value] = self._held.get(value, 0) + 1

    def release(self, value: str) -> None:
        """A label set with this value left; with the last one the slot is free again."""
        if value not in self._free:
            self._held[value] -= 1
            if not self._held[value]:
                del self._held[value]

    def note_folded(self, value: str) -> HeaviestValues | None:
        """See a value that becomes `other`; the result counts its samples, if it is watched."""
        if self.folded is None and (self._watches is None or self._watches.grant()):
            self.folded, self.heaviest = DistinctEstimate(), HeaviestValues()
        if self.folded is not None:
            self.folded.add(value)
        return self.heaviest

    def close(self) -> None:
        """Give the watch back when the series leaves."""
        if self.folded is not None and self._watches is not None:
            self._watches.give_back()

    def estimate(self) -> float:
        """About how many values there would be without a limit."""
        return self.held + (self.folded.count() if self.folded else 0.0)
