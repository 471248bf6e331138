"""The store's families for a registry of prometheus_client."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from llmstatsd.series import naming
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import Histogram
from llmstatsd.series.store import Store


class StoreCollector(Collector):
    """Gives what `/metrics` shows of a store, for programs that have a registry of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        """The families without their samples, so that a registry can see clashes."""
        for family in list(self._store.families.values()):
            yield _empty(family)

    def collect(self) -> Iterator[Metric]:
        """Every family that `/metrics` shows."""
        for family in list(self._store.families.values()):
            if family.cells or not family.is_extra:
                yield _filled(family)


def _empty(family: Family) -> Metric:
    name = naming.family_name(family.name, family.type)
    unit = "seconds" if name.endswith("_seconds") else ""
    return Metric(name, family.help, family.type, unit)


def _filled(family: Family) -> Metric:
    metric = _empty(family)
    cells: list[Any] = list(family.cells.values())
    for cell in cells:
        labels = dict(zip(*cell.label_set, strict=True))
        if family.type == "histogram":
            _add_histogram(metric, labels, cell)
        else:
            metric.add_sample(family.name, labels, cell.value)
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], cell: Histogram) -> None:
    counts = [round(count) for count in accumulate(cell.counts)]
    bounds = [*map(floatToGoString, cell.bounds), "+Inf"]
    for bound, count in zip(bounds, counts, strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, counts[-1])
    metric.add_sample(f"{metric.name}_sum", labels, cell.sum)
