"""What the tests of the series stage share: bytes in, cells out, and a clock that a test holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmstatsd.series.family import Family
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.instruments import AnyCell, GaugeCell, HistogramCell, LabelSet, SetCell
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import SeriesRules, Store
from llmstatsd.wire import Dialect

REQUESTS = "llm_request_total"
DURATIONS = "llm_request_duration_seconds"
TOKENS = "llm_tokens_total"
ERRORS = "llm_error_total"
RATE_LIMITS = "llm_rate_limit_exceeded_total"
FALLBACKS = "llm_fallback_total"

Values = dict[tuple[str, ...], float]
"""Numbers by label values, which stand in the order of their sorted label names."""


class RecordingStore(Store):
    """A store that keeps what its label sets held when they left."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.left: list[tuple[str, AnyCell]] = []

    def remove(self, family: Family, key: LabelSet) -> None:
        """Remove it, and keep what it held."""
        self.left.append((family.name, family.cells[key]))
        super().remove(family, key)

    def disown(self, family: Family) -> None:
        """Disown it, and keep what it held."""
        self.left += [(family.name, cell) for cell in family.cells.values()]
        super().disown(family)


class Rig:
    """A hot path over a store of its own; `limits` are the budgets that differ from the default."""

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | None = None,
        aliases: Mapping[str, Mapping[str, str]] | None = None,
        pinned: Mapping[str, Sequence[str]] | None = None,
        rules: Mapping[str, SeriesRules] | None = None,
        dialect: Dialect | None = None,
        cache_entries: int = 1024,
    ) -> None:
        self.store = RecordingStore(Limits(**(limits or {})), aliases, pinned, rules)
        self.dialect = dialect or Dialect()
        self.hot = HotPath(self.store, self.dialect, cache_entries)
        self.stats = self.hot.stats

    def feed(self, *lines: str | bytes) -> None:
        """Send one datagram of these lines."""
        self.hot.feed(
            b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
        )

    def sweep(self, now: float) -> None:
        """Expire to the end at a time in seconds."""
        for _ in self.hot.expire(now):
            pass

    def values(self, series: str) -> Values:
        """What each label set of a counter, gauge or set shows."""
        family = self.store.families[series]
        assert not any(isinstance(cell, HistogramCell) for cell in family.cells.values())
        return {key[1]: number_of(cell) for key, cell in family.cells.items()}

    def label_names(self, series: str) -> set[tuple[str, ...]]:
        """The label names in use, once per kind of label set."""
        return {names for names, _ in self.store.families[series].cells}

    def counts(self, series: str) -> Values:
        """How many observations each label set of a histogram holds."""
        return {
            key[1]: sum(cell.counts)
            for key, cell in self.store.families[series].cells.items()
            if isinstance(cell, HistogramCell)
        }

    def sums(self, series: str) -> Values:
        """The sum of observations of each label set of a histogram."""
        return {
            key[1]: cell.sum
            for key, cell in self.store.families[series].cells.items()
            if isinstance(cell, HistogramCell)
        }

    def refused(self) -> dict[str, int]:
        """Refused lines by reason, those that occurred."""
        return {reason: count for reason, count in self.stats.refused.items() if count}

    def notes(self) -> dict[str, int]:
        """Notes that occurred."""
        return {note: count for note, count in self.stats.notes.items() if count}

    def folded(self, series: str) -> dict[str, int]:
        """Folded samples by reason, those that occurred."""
        return {k: v for k, v in self.store.families[series].folded.items() if v}


def number_of(cell: AnyCell) -> float:
    """The single number of a cell that has one."""
    assert not isinstance(cell, HistogramCell)
    return cell.value


def state_of(store: Store) -> dict[tuple[str, tuple[str, ...], tuple[str, ...]], Any]:
    """Every number of a store, by series, label names and label values."""
    return {
        (family.name, *key): _content(cell)
        for family in store.families.values()
        for key, cell in family.cells.items()
    }


def _content(cell: AnyCell) -> Any:
    if isinstance(cell, HistogramCell):
        return (list(cell.counts), cell.sum)
    if isinstance(cell, SetCell):
        return (cell.value, set(cell.members))
    return ("gauge" if isinstance(cell, GaugeCell) else "counter", cell.value)
