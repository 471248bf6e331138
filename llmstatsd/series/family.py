"""One series name: its label sets, its budgets, and where a label set finds its cell."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple

from llmstatsd.catalog import ERROR_TYPES, OTHER, SeriesType
from llmstatsd.series.cardinality import (
    FOLD_REASONS,
    FOLDED_BY_LINES,
    FOLDED_BY_SETS,
    FOLDED_BY_VALUES,
    HeaviestValues,
    LabelBudget,
    Watches,
)
from llmstatsd.series.instruments import (
    AnyCell,
    Instruments,
    LabelSet,
    MemberCount,
    SetCell,
)
from llmstatsd.series.limits import Limits

Instrument = Literal["counter", "gauge", "set", "histogram"]
"""What a series does with values; a set is a gauge for Prometheus."""

HISTOGRAM_EXTRA_LINES: Final = 3
"""A histogram's lines beside its finite buckets: `+Inf`, `_sum` and `_count`."""

SHARED_NAMES_LIMIT: Final = 16
"""Combinations of label names of an undeclared series that its label sets share."""

CLOSED_VALUES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("llm_error_total", "type"): ERROR_TYPES
}
"""Labels of documented series that take no other values, so that they need no budget."""


def type_of(instrument: Instrument) -> SeriesType:
    """The type Prometheus is told."""
    return "gauge" if instrument == "set" else instrument


def lines_of(instrument: Instrument, buckets: tuple[float, ...]) -> int:
    """Exposition lines of one label set."""
    return len(buckets) + HISTOGRAM_EXTRA_LINES if instrument == "histogram" else 1


Pinned = Mapping[str, tuple[str, ...]]
"""The values per label name that the configuration keeps for ever."""


def values_from_start(series: str, labels: Sequence[str], pinned: Pinned) -> list[Sequence[str]]:
    """The values of each label that are known before any sample; none for a label in use only."""
    return [CLOSED_VALUES.get((series, label)) or pinned.get(label, ()) for label in labels]


class Ledger:
    """What all series share: the budgets of exposition lines, set members and watches on folding.

    `charged` counts against `limit`; `free` are the lines of pinned label sets, which do not.
    `born` counts the label sets ever born.
    """

    __slots__ = ("born", "charged", "free", "limit", "members", "watches")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.charged = 0
        self.free = 0
        self.born = 0
        self.watches = Watches()
        self.members = MemberCount()

    def has_room(self, lines: int) -> bool:
        """Whether a label set of so many lines may still be born."""
        return self.charged + lines <= self.limit

    def close(self) -> None:
        """Let no more lines be charged at any time than are now."""
        self.limit = min(self.limit, self.charged)


class Fold:
    """What is counted with every sample that a budget sent into `other`.

    `only_label` is the label that became `other`, where its budget of values alone is the reason.
    """

    __slots__ = ("_by_reason", "_heaviest", "_reason", "only_label")

    def __init__(
        self,
        by_reason: dict[str, int],
        reason: str,
        heaviest: list[tuple[HeaviestValues, str]],
        only_label: str | None,
    ) -> None:
        self._by_reason = by_reason
        self._reason = reason
        self._heaviest = heaviest
        self.only_label = only_label

    def count(self, samples: int = 1) -> None:
        """So many samples were folded."""
        self._by_reason[self._reason] += samples
        for values, value in self._heaviest:
            values.add(value, samples)


class SameFold:
    """Counts the samples of label sets that differ in one value of one label, which folds.

    It holds until something leaves the family: until then a budget that is full stays so.
    """

    __slots__ = ("_budget", "_by_reason")

    def __init__(self, family: "Family", label: str) -> None:
        self._budget = family.budgets[label]
        self._by_reason = family.folded

    def folds(self, value: str) -> bool:
        """Whether this value of the label becomes `other`."""
        return not self._budget.admits(value)

    def count(self, value: str) -> None:
        """One sample of a value that folds."""
        heaviest = self._budget.note_folded(value)
        if heaviest is not None:
            heaviest.add(value)
        self._by_reason[FOLDED_BY_VALUES] += 1


class Placement(NamedTuple):
    """The cell a label set meets, the label set it got, and how it was folded, if it was."""

    cell: AnyCell
    key: LabelSet
    is_born: bool
    fold: Fold | None


class Family:
    """One series name. `labels` is None where label sets may differ in their label names.

    `overflow_names` are the label names of the slot of `other`; an undeclared series fixes them
    when it first needs them. `buckets` is empty but for a histogram.
    """

    def __init__(
        self,
        name: str,
        instrument: Instrument,
        *,
        labels: tuple[str, ...] | None,
        help_text: str,
        buckets: tuple[float, ...],
        is_extra: bool,
        limits: Limits,
        pinned: Pinned,
        ledger: Ledger,
        instruments: Instruments,
    ) -> None:
        self.name = name
        self.instrument = instrument
        self.type = type_of(instrument)
        self.labels = labels
        self.help = help_text
        self.buckets = buckets
        self.is_extra = is_extra
        self.cells: dict[LabelSet, AnyCell] = {}
        self.budgets: dict[str, LabelBudget] = {}
        self.folded: dict[str, int] = dict.fromkeys(FOLD_REASONS, 0)
        self.overflow_names = labels
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._limits = limits
        self._pinned = pinned
        self._ledger = ledger
        self._new_cell = self._cell_factory(instruments)
        self.lines_per_set = lines_of(instrument, buckets)
        self._charged_sets = 1  # the slot of `other` is reserved from the start
        for label in labels or ():
            self._budget_for(label)
        ledger.charged += self.lines_per_set

    def _cell_factory(self, instruments: Instruments) -> Callable[[LabelSet], AnyCell]:
        match self.instrument:
            case "counter":
                return instruments.counter
            case "gauge":
                return instruments.gauge
            case "set":
                return partial(SetCell, self._limits.set_members, self._ledger.members)
            case "histogram":
                return partial(instruments.histogram, instruments.bounds(self.buckets))

    def takes_label(self, label: str) -> bool:
        """Whether a tag may become a label here; an undeclared series learns its labels."""
        if self.labels is not None:
            return label in self.labels
        if label in self.budgets:
            return True
        if len(self.budgets) >= self._limits.labels_per_series:
            return False
        self._budget_for(label)
        return True

    def _budget_for(self, label: str) -> None:
        self.budgets[label] = LabelBudget(
            self._limits.label_values,
            watches=None if self.labels is not None else self._ledger.watches,
            pinned=self._pinned.get(label, ()),
            closed=CLOSED_VALUES.get((self.name, label), ()),
        )

    def learn(self, labels: Iterable[str], overflow_names: tuple[str, ...] | None) -> None:
        """Know what the same series knew in another store: its labels, and its slot of `other`.

        A documented series knows its own from the configuration.
        """
        takes = [self.takes_label(label) for label in labels]
        if self.overflow_names is None and all(takes):
            self.overflow_names = overflow_names

    def place(self, wanted: LabelSet) -> Placement:
        """The cell for a label set whose names this family takes; it is born if it must be."""
        cell = self.cells.get(wanted)
        if cell is not None:
            return Placement(cell, wanted, False, None)
        names, values = wanted
        budgets = self.budgets
        kept = tuple(
            [
                value if budgets[name].admits(value) else OTHER
                for name, value in zip(names, values, strict=True)
            ]
        )
        reason = FOLDED_BY_VALUES if kept != values else None
        key = (names, kept)
        if key not in self.cells:
            crowded = self._crowded(key)
            if crowded:
                reason, key = crowded, self._overflow_set(wanted)
        fold = self._fold(reason, wanted, key) if reason and key != wanted else None
        cell = self.cells.get(key)
        if cell is not None:
            return Placement(cell, key, False, fold)
        return Placement(self._bear(key), key, True, fold)

    def preview(self) -> "Family":
        """This series as it is now, for questions that may not change it: it learns no labels."""
        if self.labels is not None:
            return self
        same: Family = object.__new__(Family)
        same.__dict__.update(self.__dict__)
        same.budgets, same._names = dict(self.budgets), {}
        return same

    def where(self, wanted: LabelSet) -> tuple[LabelSet, str | None]:
        """The label set that `place` finds for one, and why it was folded; nothing changes."""
        if wanted in self.cells:
            return wanted, None
        names, values = wanted
        kept = tuple(
            value if self.budgets[name].admits(value) else OTHER
            for name, value in zip(names, values, strict=True)
        )
        reason = FOLDED_BY_VALUES if kept != values else None
        key = (names, kept)
        if key not in self.cells and (crowded := self._crowded(key)):
            reason, key = crowded, self._overflow_under(self._names_of_other(), wanted)
        return key, reason if key != wanted else None

    def bear_at_zero(self, labels: tuple[str, ...], values: tuple[str, ...]) -> None:
        """Let a label set of a documented series be born without a sample, if budgets allow it.

        `values` stand in the order of `labels`, which are all of the series. A label set that
        exists already is as if a sample had come: it does not count as idle.
        """
        key = (labels, values)
        cell = self.cells.get(key)
        if cell is not None:
            cell.touched = True
            return
        pairs = zip(labels, values, strict=True)
        admitted = all(self.budgets[label].admits(value) for label, value in pairs)
        if admitted and not self._crowded(key):
            self._bear(key)

    def expire(self, key: LabelSet) -> None:
        """Remove a label set and free its slots."""
        self._charge(self.cells.pop(key), key, -1)
        for label, value in zip(*key, strict=True):
            self.budgets[label].release(value)

    def close(self) -> None:
        """Give back the reserved slot, when a family leaves with nothing but that."""
        self.cells.clear()
        for budget in self.budgets.values():
            budget.close()
        self._ledger.charged -= self.lines_per_set

    def _bear(self, key: LabelSet) -> AnyCell:
        """A new cell in its place; where memory ends before that, it is as if nothing had been."""
        cell = self._new_cell(key)
        cell.kept = self._is_free(key)
        held = 0
        try:
            for label, value in zip(*key, strict=True):
                self.budgets[label].hold(value)
                held += 1
            self.cells[key] = cell
        except MemoryError:
            for label, value in list(zip(*key, strict=True))[:held]:
                self.budgets[label].release(value)
            raise
        self._charge(cell, key, 1)
        self._ledger.born += 1
        return cell

    def _charge(self, cell: AnyCell, key: LabelSet, sets: int) -> None:
        if not cell.kept:
            self._charged_sets += sets
            self._ledger.charged += sets * self.lines_per_set
        elif not self.is_reserved(key):
            self._ledger.free += sets * self.lines_per_set

    def _crowded(self, key: LabelSet) -> str | None:
        if self._is_free(key):
            return None
        if self._charged_sets >= self._limits.label_sets:
            return FOLDED_BY_SETS
        return None if self._ledger.has_room(self.lines_per_set) else FOLDED_BY_LINES

    def _is_free(self, key: LabelSet) -> bool:
        if self.labels is None:
            return self.is_reserved(key)
        return all(self.budgets[name].is_free(value) for name, value in zip(*key, strict=True))

    def is_reserved(self, key: LabelSet) -> bool:
        """Whether this is the slot of `other`, which costs nothing more when it is used."""
        return key[0] == self.overflow_names and all(value == OTHER for value in key[1])

    def _overflow_set(self, wanted: LabelSet) -> LabelSet:
        self.overflow_names = self._names_of_other()
        return self._overflow_under(self.overflow_names, wanted)

    def _names_of_other(self) -> tuple[str, ...]:
        """Those of its slot; an undeclared series has them from those it knows when it needs it."""
        return (
            self.overflow_names if self.overflow_names is not None else tuple(sorted(self.budgets))
        )

    def _overflow_under(self, names: tuple[str, ...], wanted: LabelSet) -> LabelSet:
        if self.labels is None:
            return names, (OTHER,) * len(names)
        return names, tuple(
            value if self.budgets[name].is_pinned(value) else OTHER
            for name, value in zip(*wanted, strict=True)
        )

    def _fold(self, reason: str, wanted: LabelSet, key: LabelSet) -> Fold:
        kept = dict(zip(*key, strict=True))
        gone = [pair for pair in zip(*wanted, strict=True) if kept.get(pair[0]) != pair[1]]
        heaviest = [
            (heaviest, value)
            for label, value in gone
            if (heaviest := self.budgets[label].note_folded(value)) is not None
        ]
        is_one = reason == FOLDED_BY_VALUES and len(gone) == 1
        return Fold(self.folded, reason, heaviest, gone[0][0] if is_one else None)

    def label_names(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The names of a label set that has these labels; a documented series has all of its."""
        return self._shared_names(tuple(sorted(labels))) if self.labels is None else self.labels

    def _shared_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The same names as one object for all label sets that have them, to save memory."""
        shared = self._names.get(names)
        if shared is None:
            shared = names
            if len(self._names) < SHARED_NAMES_LIMIT:
                self._names[names] = names
        return shared
