"""What a store holds as records, and such records added to another store.

So counts outlive a restart, and a change of the configuration. What is kept: every label set with
its numbers, the names of undeclared series, folded samples by reason, the ladder, and of sets the
members of this minute. What is not: the estimates and the heaviest values of what folded, and how
long a label set has been idle, which begins anew.

The records of one store are read in steps while samples come in. Each label set is read as it is at
one time, but not all at the same; who wants them so reads while nothing comes in.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final

from msgspec import Struct, field

from llmstatsd.catalog import OTHER, UNKNOWN
from llmstatsd.series.cardinality import Aliases
from llmstatsd.series.family import CLOSED_VALUES, Family, Instrument
from llmstatsd.series.instruments import LabelSet, SetCell
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import BORN_WITH_MODEL, Store
from llmstatsd.wire.reasons import SERIES_REASONS, Refusal

STEP_CELLS: Final = 100
"""Label sets that are read or merged in one step, so that it stays at a millisecond or two.

The first step of a series copies the label sets that it has, in some 0.1 ms for a thousand.
"""

STEP_MODELS: Final = 25
"""Models whose error series are looked after in one step."""

MALFORMED_RECORD: Final = "malformed"
"""Why a record is dropped that no store has written."""

DROP_REASONS: Final = (*SERIES_REASONS, MALFORMED_RECORD)
"""Why records are dropped; all but the last are those for which a line is refused, too."""

_WHOLE_LIMIT: Final = 1 << 63
"""From here on a whole count is kept as a double, which is what msgpack can hold."""

Rules = Mapping[str, Mapping[str, str]]
"""Aliases by label: pattern to value."""


class Kept(Struct, frozen=True, array_like=True):
    """One label set: a number, or of a histogram the sum and then its counts.

    `members` are the hashes of a set's members in this minute.
    """

    label_set: LabelSet
    numbers: tuple[int | float, ...]
    members: tuple[int, ...] = ()


class Part(Struct, frozen=True, array_like=True):
    """Label sets of one series, at most STEP_CELLS, and what there is to know of the series.

    `labels` are in the order in which it learned them, `overflow` those of its slot of `other`.
    `folded` is empty but in the first part of a series.
    """

    name: str
    instrument: Instrument
    bounds: tuple[float, ...]
    labels: tuple[str, ...]
    overflow: tuple[str, ...] | None
    folded: dict[str, int]
    kept: list[Kept]


class Totals(Struct, frozen=True):
    """What a store holds beside its series, and what it is told apart by.

    `aliases` are the rules that every value has been through; `members_key` is that of the hashes.
    """

    ladder: LineStats = field(default_factory=LineStats)
    born: int = 0
    expired: int = 0
    aliases: dict[str, dict[str, str]] = {}
    members_key: bytes = b""


def totals(store: Store, ladder: LineStats) -> Totals:
    """The totals of a store, whose ladder is that of its hot path; refused lines stay behind."""
    own = LineStats()
    own.absorb(ladder)
    own.refused_lines.clear()
    return Totals(
        own,
        store.ledger.born,
        store.stats.expired_label_sets,
        store.aliases,
        store.ledger.members.key,
    )


class Parts:
    """Every series of a store, in steps; the store's gate is held for one step at a time.

    A step for which there is too little memory raises MemoryError, and the next one takes it again.
    """

    def __init__(self, store: Store) -> None:
        self._gate = store.gate
        with store.gate:
            self._families = list(store.families.values())
        self._at = 0
        self._label_sets: list[LabelSet] | None = None
        self._start = 0

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        with self._gate:
            return self._next()

    def _next(self) -> Part:
        if self._at == len(self._families):
            raise StopIteration
        family = self._families[self._at]
        label_sets = list(family.cells) if self._label_sets is None else self._label_sets
        start, end = self._start, self._start + STEP_CELLS
        part = _part(family, label_sets[start:end], is_first=not start)
        following = self._at + 1
        # Nothing from here on takes memory.
        if end < len(label_sets):
            self._label_sets, self._start = label_sets, end
        else:
            self._at, self._label_sets, self._start = following, None, 0
        return part


def _part(family: Family, label_sets: Iterable[LabelSet], *, is_first: bool) -> Part:
    kept = [
        _kept(family, label_set, cell)
        for label_set in label_sets
        if (cell := family.cells.get(label_set)) is not None  # it may have left
    ]
    return Part(
        family.name,
        family.instrument,
        family.buckets,
        tuple(family.budgets),
        family.overflow_names,
        dict(family.folded) if is_first else {},
        kept,
    )


def _kept(family: Family, label_set: LabelSet, cell: Any) -> Kept:
    if family.instrument == "histogram":
        counts = [count if count < _WHOLE_LIMIT else float(count) for count in cell.counts]
        return Kept(label_set, (cell.sum, *counts))
    members = tuple(cell.members) if isinstance(cell, SetCell) else ()
    return Kept(label_set, (cell.value,), members)


class Merge:
    """Adds the records of one store to another one, by the rules and within the budgets of that.

    It changes the store as lines do: who lets several threads change it holds its gate for each
    call and each step. `dropped` counts label sets by reason, `restored` those that found a cell.
    Where memory ends (MemoryError), `add` of the same part again goes on where it was, and a new
    `finish` begins anew: so nothing is missing then, and nothing is added twice.
    """

    def __init__(self, store: Store, before: Totals) -> None:
        """`before` are the totals of the store that the records are of."""
        self.restored = 0
        self.dropped: Counter[str] = Counter()
        self._store = store
        self._before = before
        self._added = 0  # records of the part at hand
        self._is_finished = False
        self._new_aliases = Aliases(_new_rules(store.aliases, before.aliases))
        members = store.ledger.members
        if not members.held and 0 < len(before.members_key) <= _KEY_BYTES_LIMIT:
            members.key = before.members_key

    def make_room(self, part: Part) -> None:
        """Let the label sets of one part be born, where they can, before others are."""
        family = self._family(part)
        if not isinstance(family, Refusal):
            for kept in part.kept:
                self._store.readmit(family, self._label_set(family, kept.label_set))

    def add(self, part: Part) -> None:
        """Add the label sets of one part; never raises on any content."""
        family = self._family(part)
        if isinstance(family, Refusal):
            self.dropped[family.reason] += len(part.kept)
            return
        places = [bisect_left(family.buckets, bound) for bound in (*part.bounds, float("inf"))]
        for kept in part.kept[self._added :]:
            added, restored = self._added + 1, self.restored + 1
            if _is_sound(part, kept):
                self._add(family, kept, places)
                self.restored = restored
            else:
                self.dropped[MALFORMED_RECORD] += 1
            self._added = added
        known = family.folded.items()
        family.folded.update({reason: n + part.folded.get(reason, 0) for reason, n in known})
        self._added = 0

    def finish(self, after: Totals | None = None) -> Iterator[None]:
        """Add the totals but for the ladder, and let what is missing of models be born, in steps.

        The ladder belongs to the hot path. `after` are the totals when all records had been read,
        if they have changed since.
        """
        store, before = self._store, after or self._before
        models: dict[tuple[str, ...], tuple[Family, LabelSet]] = {}
        for family in list(store.families.values()):
            if family.labels is not None and family.name not in BORN_WITH_MODEL:
                yield from self._find_models(family, models)
        found = list(models.values())
        for start in range(0, len(found), STEP_MODELS):
            for family, label_set in found[start : start + STEP_MODELS]:
                store.bear_errors(family, label_set)
            yield
        # Whatever was born anew was born before.
        store.ledger.born = max(store.ledger.born, before.born)
        if not self._is_finished:
            store.stats.expired_label_sets += before.expired
            self._is_finished = True

    def _family(self, part: Part) -> Family | Refusal:
        family = self._store.family(part.name, part.instrument)
        if not isinstance(family, Refusal) and family.labels is None:
            family.learn(part.labels, part.overflow)
        return family

    def _find_models(
        self, family: Family, models: dict[tuple[str, ...], tuple[Family, LabelSet]]
    ) -> Iterator[None]:
        born = {label for name in BORN_WITH_MODEL for label in self._store.families[name].budgets}
        label_sets = list(family.cells)
        for start in range(0, len(label_sets), STEP_CELLS):
            for label_set in label_sets[start : start + STEP_CELLS]:
                pairs = zip(*label_set, strict=True)
                wanted = tuple([f"{name}={value}" for name, value in pairs if name in born])
                models.setdefault(wanted, (family, label_set))
            yield

    def _add(self, family: Family, kept: Kept, places: Sequence[int]) -> None:
        cell: Any = self._store.readmit(family, self._label_set(family, kept.label_set))
        number, *counts = kept.numbers
        match family.instrument:
            case "counter":
                cell.add(number)
            case "gauge":
                cell.absorb(number)
            case "set":
                cell.absorb(number, kept.members)
            case "histogram":
                cell.absorb(_placed(counts, places, len(family.buckets) + 1), number)

    def _label_set(self, family: Family, before: LabelSet) -> LabelSet:
        """The label set that these names and values ask for here."""
        known = dict(zip(*before, strict=True))
        labels = [label for label in known if family.takes_label(label)]
        names = family.label_names(labels)
        return names, tuple([self._value(family, name, known) for name in names])

    def _value(self, family: Family, name: str, known: Mapping[str, str]) -> str:
        value = known.get(name)
        if value is None:
            value = UNKNOWN
        elif self._new_aliases.has(name) and value != OTHER:
            value = self._new_aliases.rewrite(name, value)
        closed = CLOSED_VALUES.get((family.name, name))
        return value if closed is None or value in closed else OTHER


_KEY_BYTES_LIMIT: Final = 64
"""Longest key of blake2b, by RFC 7693."""


def _new_rules(rules: Rules, before: Rules) -> dict[str, dict[str, str]]:
    """The aliases that values have not been through yet."""
    new = {
        label: {
            pattern: value
            for pattern, value in table.items()
            if before.get(label, {}).get(pattern) != value
        }
        for label, table in rules.items()
    }
    return {label: table for label, table in new.items() if table}


def _is_sound(part: Part, kept: Kept) -> bool:
    """Whether a record is one that a store can have made."""
    names, values = kept.label_set
    is_histogram = part.instrument == "histogram"
    size = len(part.bounds) + 2 if is_histogram else 1
    return (
        len(names) == len(values) == len(set(names))
        and len(kept.numbers) == size
        and all(map(isfinite, kept.numbers))
        and (part.instrument == "gauge" or all(number >= 0 for number in kept.numbers))
    )


def _placed(counts: Iterable[float], places: Sequence[int], size: int) -> list[float]:
    """Counts in buckets of other bounds: each goes where its upper bound lies.

    Where new bounds lie between two of the old, that is too high a bucket for some of them.
    """
    placed: list[float] = [0] * size
    for place, count in zip(places, counts, strict=True):
        placed[place] += count
    return placed
