"""What the tests of the series stage share: bytes in, cells out, and a clock that a test holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmstatsd.series import lanes
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import LabelSet, SetCell
from llmstatsd.series.limits import Limits
from llmstatsd.series.slowpath import LineStats
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

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.left: list[tuple[Family, Any]] = []

    def remove(self, family: Family, key: LabelSet) -> None:
        """Remove it, and keep what it held."""
        self.left.append((family, family.cells[key]))
        super().remove(family, key)

    def disown(self, family: Family) -> None:
        """Disown it, and keep what it held."""
        self.left += [(family, cell) for cell in family.cells.values()]
        super().disown(family)


class Rig:
    """A hot path over a store of its own; `limits` are the budgets that differ from the default."""

    twin = lanes.PORTABLE
    """The twin under test: the fixture of conftest.py puts each in its turn here."""

    def __init__(
        self,
        *,
        twin: lanes.Twin | None = None,
        limits: Mapping[str, Any] | None = None,
        aliases: Mapping[str, Mapping[str, str]] | None = None,
        pinned: Mapping[str, Sequence[str]] | None = None,
        rules: Mapping[str, SeriesRules] | None = None,
        dialect: Dialect | None = None,
        cache_entries: int = 1024,
    ) -> None:
        self.used = twin or self.twin
        budgets = Limits(**(limits or {}))
        self.store = RecordingStore(
            budgets, aliases, pinned, rules, instruments=self.used.instruments
        )
        self.dialect = dialect or Dialect()
        self.hot = self.hot_path(cache_entries)

    def hot_path(self, cache_entries: int = 16) -> lanes.HotPath:
        """Another hot path over the same store."""
        return self.used.hot_path(self.store, self.dialect, cache_entries)

    @property
    def stats(self) -> LineStats:
        """The ladder so far."""
        return self.hot.stats

    def feed(self, *lines: str | bytes) -> None:
        """Send one datagram of these lines."""
        self.hot.feed(
            b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
        )
        self.hot.settle()

    def sweep(self, now: float) -> None:
        """Expire to the end at a time in seconds."""
        for _ in self.hot.expire(now):
            pass

    def values(self, series: str) -> Values:
        """What each label set of a counter, gauge or set shows."""
        family = self.store.families[series]
        assert family.type != "histogram"
        cells: dict[LabelSet, Any] = dict(family.cells)
        return {key[1]: cell.value for key, cell in cells.items()}

    def label_names(self, series: str) -> set[tuple[str, ...]]:
        """The label names in use, once per kind of label set."""
        return {names for names, _ in self.store.families[series].cells}

    def counts(self, series: str) -> Values:
        """How many observations each label set of a histogram holds."""
        return {key[1]: sum(cell.counts) for key, cell in self._histograms(series).items()}

    def sums(self, series: str) -> Values:
        """The sum of observations of each label set of a histogram."""
        return {key[1]: cell.sum for key, cell in self._histograms(series).items()}

    def _histograms(self, series: str) -> dict[LabelSet, Any]:
        family = self.store.families[series]
        return dict(family.cells) if family.type == "histogram" else {}

    def refused(self) -> dict[str, int]:
        """Refused lines by reason, those that occurred."""
        return {reason: count for reason, count in self.stats.refused.items() if count}

    def notes(self) -> dict[str, int]:
        """Notes that occurred."""
        return {note: count for note, count in self.stats.notes.items() if count}

    def folded(self, series: str) -> dict[str, int]:
        """Folded samples by reason, those that occurred."""
        return {k: v for k, v in self.store.families[series].folded.items() if v}


def state_of(store: Store) -> dict[tuple[str, tuple[str, ...], tuple[str, ...]], Any]:
    """Every number of a store, by series, label names and label values."""
    return {
        (family.name, *key): _content(family.instrument, cell)
        for family in store.families.values()
        for key, cell in family.cells.items()
    }


def _content(instrument: str, cell: Any) -> Any:
    if instrument == "histogram":
        return (list(cell.counts), cell.sum)
    if isinstance(cell, SetCell):
        return (cell.value, set(cell.members))
    return (instrument, cell.value)
