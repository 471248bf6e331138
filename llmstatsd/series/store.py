"""Every series the daemon holds, and the one place where a series is born or leaves.

Invariant: for any input and any budgets, the sum over all label sets of a counter (and of a
histogram's counts and sum) is the sum of the accepted weights, as long as nothing expires.
A budget never refuses a sample of a series that exists: it only decides which cell it meets.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from threading import Lock
from typing import Final

from llmstatsd.catalog import (
    CATALOG,
    ERROR_TYPES,
    OTHER,
    UNDECLARED_BUCKETS,
    UNKNOWN,
    Documented,
    SeriesType,
)
from llmstatsd.series import naming
from llmstatsd.series.cardinality import Aliases
from llmstatsd.series.family import (
    Family,
    Instrument,
    Ledger,
    Placement,
    lines_of,
    type_of,
    values_from_start,
)
from llmstatsd.series.instruments import (
    PORTABLE,
    AnyCell,
    Instruments,
    LabelSet,
    SetCell,
)
from llmstatsd.series.limits import Limits
from llmstatsd.series.route import Route, weight_of
from llmstatsd.series.shape import ERRORS, Shape
from llmstatsd.wire.reasons import (
    NAME_BUDGET,
    NAME_CLASH,
    RESERVED_NAME,
    TYPE_CONFLICT,
    Refusal,
)
from llmstatsd.wire.statsd import (
    COUNTER,
    DISTRIBUTION,
    GAUGE,
    HISTOGRAM,
    SET,
    TIMER,
    Meaning,
)

INSTRUMENT_OF: Final[dict[str, Instrument]] = {
    COUNTER: "counter",
    GAUGE: "gauge",
    SET: "set",
    TIMER: "histogram",
    HISTOGRAM: "histogram",
    DISTRIBUTION: "histogram",
}

RESERVED_NAMES: Final = frozenset(
    {
        "up",
        "scrape_duration_seconds",
        "scrape_samples_post_metric_relabeling",
        "scrape_samples_scraped",
        "scrape_series_added",
    }
)
"""Names that Prometheus gives to series of its own for every target it scrapes."""

RESERVED_PREFIXES: Final = ("llmstatsd_", "process_", "python_")
"""Names of the daemon's own series and of prometheus_client's collectors."""

SECONDS_PER_MINUTE: Final = 60.0

RESERVE_BYTES: Final = 32 << 20
"""Address space that is kept for the time when there is no more: for scrapes, and what is refused.

It is never written to, and so takes no memory.
"""

RATE_LIMITS: Final = "llm_rate_limit_exceeded_total"
BORN_WITH_MODEL: Final = (ERRORS, RATE_LIMITS)
"""Series born at 0 when a model is admitted, so that the first error is seen by `increase()`.

They live as long as any documented series of the model.
"""


@dataclass(frozen=True, slots=True)
class SeriesRules:
    """What the configuration changes of one documented series."""

    buckets: tuple[float, ...] | None = None
    extra_labels: tuple[str, ...] = ()


@dataclass(slots=True)
class SeriesStats:
    """What this stage tells of itself, counted since the start."""

    expired_label_sets: int = 0
    undeclared_names: int = 0


class Store:
    """All families. `aliases` and `pinned` are by label name, `rules` by documented series.

    Where several threads change it, each holds `gate` for a short while: one batch of lines, or
    one step of a sweep.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        aliases: Mapping[str, Mapping[str, str]] | None = None,
        pinned: Mapping[str, Sequence[str]] | None = None,
        rules: Mapping[str, SeriesRules] | None = None,
        instruments: Instruments = PORTABLE,
    ) -> None:
        self.gate = Lock()
        self.limits = limits or Limits()
        self.stats = SeriesStats()
        self.ledger = Ledger(self.limits.exposition_lines)
        self.families: dict[str, Family] = {}
        self.aliases = {label: dict(table) for label, table in (aliases or {}).items()}
        self._instruments = instruments
        self._aliases = Aliases(self.aliases)
        self._pinned = {label: tuple(values) for label, values in (pinned or {}).items()}
        self._owners: dict[str, Family] = {}
        self._sets: dict[int, SetCell] = {}
        self._minute: float | None = None
        self._reserve: bytes | None = bytes(RESERVE_BYTES)
        for documented in CATALOG.values():
            self._declare(documented, (rules or {}).get(documented.name, SeriesRules()))
        for family in self.families.values():
            self._bear_pinned(family)

    def route(self, meaning: Meaning) -> Route | Refusal:
        """Where the values of a meaning go; the series and the label set are born if need be."""
        shape = self.shape(meaning)
        if isinstance(shape, Refusal):
            return shape
        return self.place(shape, [naming.label_value(text) for _, text in meaning.tags])

    def shape(self, meaning: Meaning) -> Shape | Refusal:
        """What a meaning is but for the values of its tags; the series is born if need be."""
        family = self._family(meaning.name, meaning.type)
        if isinstance(family, Refusal):
            return family
        keys = [key for key, _ in meaning.tags]
        weight = weight_of(meaning.rate)
        return Shape(family, meaning.type, weight, meaning.notes, keys, self._aliases)

    def place(self, shape: Shape, texts: Sequence[str]) -> Route:
        """Where the values of such a line go, by its tags' values in their order.

        These are valid label values; the label set is born if need be.
        """
        label_set, notes = shape.label_set(texts)
        placement = shape.family.place(label_set)
        if placement.is_born:
            try:
                self._after_birth(shape.family, placement)
            except MemoryError:
                shape.family.expire(placement.key)
                raise
        return Route(shape.kind, placement.cell, shape.weight, notes, placement.fold)

    def refusal(self, meanings: Iterable[Meaning]) -> Refusal | None:
        """Why one of the meanings of a line is refused, found before any label set is born."""
        known = len(self.families)
        for meaning in meanings:
            family = self._family(meaning.name, meaning.type)
            if isinstance(family, Refusal):
                for new in list(self.families.values())[known:]:
                    self.disown(new)
                return family
        return None

    def readmit(self, family: Family, label_set: LabelSet) -> AnyCell:
        """The cell for a label set of another store; a model's error series are not born with it.

        `bear_errors` does that, once all label sets are there: so they keep their order.
        """
        cell = family.place(label_set).cell
        if isinstance(cell, SetCell):
            self._sets[id(cell)] = cell
        return cell

    def bear_errors(self, family: Family, label_set: LabelSet) -> None:
        """Let what is born with a model be born for a label set, if budgets allow it."""
        labels = dict(zip(*label_set, strict=True))
        if family.labels is not None and labels.get("model", OTHER) != OTHER:
            self._bear_errors(labels)

    def stop_growing(self) -> None:
        """Let nothing more be born than there is room for now: memory has come to its end.

        What would be born folds into `other` from now on, so that totals stay exact.
        """
        self.give_up_reserve()
        self.ledger.close()

    def give_up_reserve(self) -> None:
        """Let others have the memory that was kept for the time when there is no more."""
        self._reserve = None

    def remove(self, family: Family, key: LabelSet) -> None:
        """Let an idle label set leave, and free its places."""
        self._count_expired(family.cells[key])
        family.expire(key)

    def disown(self, family: Family) -> None:
        """Let an undeclared name leave, with the slot of `other` if that is all it still holds."""
        for cell in family.cells.values():
            self._count_expired(cell)
        family.close()
        self.stats.undeclared_names -= 1
        self._forget(family)

    def _count_expired(self, cell: AnyCell) -> None:
        self.stats.expired_label_sets += 1
        if isinstance(cell, SetCell):
            cell.leave()
            self._sets.pop(id(cell), None)

    def end_minutes(self, now: float) -> None:
        """Give every set its figure when a minute of `now` (seconds) has ended."""
        minute = now // SECONDS_PER_MINUTE
        if self._minute is not None and minute != self._minute:
            for cell in self._sets.values():
                cell.end_minute()
        self._minute = minute

    def _declare(self, documented: Documented, rules: SeriesRules) -> None:
        instrument: Instrument = documented.type
        self._own(
            Family(
                documented.name,
                instrument,
                labels=tuple(sorted((*documented.labels, *rules.extra_labels))),
                help_text=documented.help,
                buckets=rules.buckets or documented.buckets or (),
                is_extra=documented.extra,
                limits=self.limits,
                pinned=self._pinned,
                ledger=self.ledger,
                instruments=self._instruments,
            )
        )

    def _own(self, family: Family) -> None:
        self.families[family.name] = family
        for name in naming.claimed_names(family.name, family.type):
            self._owners[name] = family

    def _forget(self, family: Family) -> None:
        self.families.pop(family.name, None)
        for name in naming.claimed_names(family.name, family.type):
            self._owners.pop(name, None)

    def _bear_pinned(self, family: Family) -> None:
        labels = family.labels or ()
        if not family.is_extra:
            for values in product(*values_from_start(family.name, labels, self._pinned)):
                family.bear_at_zero(labels, values)

    def preview(self, meanings: Iterable[Meaning]) -> list[Shape] | Refusal:
        """What `shape` says of the meanings of one line, of series that are as they are now.

        Nothing changes: what would be born is a series that this store does not hold.
        """
        unborn: dict[str, Family] = {}
        shapes = []
        for meaning in meanings:
            name, instrument = _series_of(meaning.name, meaning.type)
            family = self.families.get(name) or unborn.get(name)
            if family is None:
                refusal = self._why_not(name, instrument, unborn.values())
                if refusal is not None:
                    return refusal
                family = unborn[name] = self._new_undeclared(
                    name, instrument, Ledger(self.ledger.limit - self.ledger.charged)
                )
            if family.instrument != instrument:
                return Refusal(TYPE_CONFLICT)
            keys = [key for key, _ in meaning.tags]
            weight = weight_of(meaning.rate)
            shapes.append(
                Shape(family.preview(), meaning.type, weight, meaning.notes, keys, self._aliases)
            )
        return shapes

    def _family(self, wire_name: str, wire_type: str) -> Family | Refusal:
        return self.family(*_series_of(wire_name, wire_type))

    def family(self, name: str, instrument: Instrument) -> Family | Refusal:
        """The series of this very name, as it is exposed; it is born if need be."""
        family = self.families.get(name)
        if family is None:
            return self._undeclared(name, instrument)
        return family if family.instrument == instrument else Refusal(TYPE_CONFLICT)

    def _undeclared(self, name: str, instrument: Instrument) -> Family | Refusal:
        refusal = self._why_not(name, instrument)
        if refusal is not None:
            return refusal
        family = self._new_undeclared(name, instrument, self.ledger)
        try:
            self._own(family)
        except MemoryError:
            self._forget(family)
            family.close()
            raise
        self.stats.undeclared_names += 1
        return family

    def _new_undeclared(self, name: str, instrument: Instrument, ledger: Ledger) -> Family:
        return Family(
            name,
            instrument,
            labels=None,
            help_text="Undeclared series, as it came over the wire.",
            buckets=_undeclared_buckets(instrument),
            is_extra=True,
            limits=self.limits,
            pinned=self._pinned,
            ledger=ledger,
            instruments=self._instruments,
        )

    def _why_not(
        self, name: str, instrument: Instrument, beside: Collection[Family] = ()
    ) -> Refusal | None:
        """Why an undeclared series may not be born, beside others that would be with it."""
        if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
            return Refusal(RESERVED_NAME)
        conflict = self._conflict(name, type_of(instrument), beside)
        if conflict:
            return conflict
        lines = lines_of(instrument, _undeclared_buckets(instrument))
        has_room = self.ledger.has_room(lines + sum(each.lines_per_set for each in beside))
        names = self.stats.undeclared_names + len(beside)
        return None if names < self.limits.undeclared_names and has_room else Refusal(NAME_BUDGET)

    def _conflict(
        self, name: str, series_type: SeriesType, beside: Iterable[Family]
    ) -> Refusal | None:
        family_name = naming.family_name(name, series_type)
        unborn = {
            claimed: each
            for each in beside
            for claimed in naming.claimed_names(each.name, each.type)
        }
        for claimed in naming.claimed_names(name, series_type):
            owner = self._owners.get(claimed) or unborn.get(claimed)
            if owner is not None:
                same = naming.family_name(owner.name, owner.type) == family_name
                return Refusal(TYPE_CONFLICT if same else NAME_CLASH)
        return None

    def _after_birth(self, family: Family, placement: Placement) -> None:
        if isinstance(placement.cell, SetCell):
            self._sets[id(placement.cell)] = placement.cell
        self.bear_errors(family, placement.key)

    def _bear_errors(self, labels: Mapping[str, str]) -> None:
        for name in BORN_WITH_MODEL:
            family = self.families[name]
            names = family.labels or ()
            own = [
                ERROR_TYPES if name == ERRORS and label == "type" else (labels.get(label, UNKNOWN),)
                for label in names
            ]
            for values in product(*own):
                family.bear_at_zero(names, values)


def _series_of(wire_name: str, wire_type: str) -> tuple[str, Instrument]:
    """The series that a name and a type of the wire mean."""
    name = naming.series_name(wire_name)
    if name not in CATALOG:
        name = naming.with_ending(name, wire_type)
    return name, INSTRUMENT_OF[wire_type]


def _undeclared_buckets(instrument: Instrument) -> tuple[float, ...]:
    return UNDECLARED_BUCKETS if instrument == "histogram" else ()
