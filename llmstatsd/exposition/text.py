"""Prometheus text 0.0.4 and OpenMetrics 1.0 from cells, in short steps.

What never changes of a cell (names, labels, bounds) is rendered once and kept with the cell; a
scrape formats only numbers. Both formats show the same names and numbers, and differ in the head
of a family. Everything that is not a cell comes from prometheus_client's collectors by its own
encoder.

Formats: Prometheus, "Exposition formats"; OpenMetrics 1.0 specification.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client.exposition import (
    CONTENT_TYPE_PLAIN_0_0_4,
    choose_encoder,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from llmstatsd.series import naming
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import (
    AnyCell,
    Histogram,
    LabelSet,
)
from llmstatsd.series.store import Store

STEP_LINES: Final = 3000
"""Lines that a twin renders in one step: half a millisecond or less."""

PORTABLE_STEP_LINES: Final = 1500
"""The same for the reference, in Python."""

FIRST_STEP_LINES: Final = 200
"""The same for cells that no scrape has rendered before, which takes several times as long."""

_END: Final = b"# EOF\n"


class Format(NamedTuple):
    """The format a scraper asked for; `encode` renders what prometheus_client collects."""

    content_type: str
    openmetrics: bool
    encode: Callable[[Collector], bytes]


TEXT: Final = Format(CONTENT_TYPE_PLAIN_0_0_4, False, generate_latest)
OPENMETRICS: Final = Format(openmetrics.CONTENT_TYPE_LATEST, True, openmetrics.generate_latest)


def negotiate(accept: str) -> Format:
    """The format for an `Accept` header: OpenMetrics where prometheus_client would choose it.

    The version is always 1.0 and names need no escaping, whatever else a scraper would take.
    """
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        return TEXT  # a version in the header that is none
    return OPENMETRICS if content_type.startswith("application/openmetrics-text") else TEXT


Render = Callable[[list[Any], int, int, str], bytes]
"""Renders the lines of some cells of one series: from the list, its start and end, the name."""


class Renderers(NamedTuple):
    """How one twin renders cells: those with a single number, and histograms."""

    single: Render
    histogram: Render
    step_lines: int = STEP_LINES


class Exposition:
    """All families of a store, and after them those of the collectors, in order."""

    def __init__(
        self,
        store: Store,
        collectors: Sequence[Collector] = (),
        renderers: Renderers | None = None,
    ) -> None:
        self._store = store
        self._renderers = renderers or PORTABLE
        self._collectors = tuple(collectors)
        self._copies: dict[Family, list[AnyCell]] = {}

    def show(self, store: Store) -> None:
        """Show another store from the next scrape on."""
        self._store = store
        self._copies = {}

    def chunks(self, chosen: Format, names: frozenset[str] | None = None) -> Iterator[bytes]:
        """The body in steps; between two steps the caller may do other work.

        `names` keeps only samples of these names, as `name[]=` does in prometheus_client.
        """
        families = list(self._store.families.values())
        self._copies = {each: self._copies[each] for each in families if each in self._copies}
        for family in families:
            if family.cells or not family.is_extra:
                yield from self._family_chunks(family, chosen, names)
        for collector in self._collectors:
            for metric in collector.collect():
                if names is not None:
                    metric.samples = [sample for sample in metric.samples if sample.name in names]
                if names is None or metric.samples:
                    yield chosen.encode(_Only(metric)).removesuffix(_END)
        if chosen.openmetrics:
            yield _END

    def _cells_of(self, family: Family) -> list[AnyCell]:
        """The cells as they are now, which no birth between two steps changes.

        A copy is kept until a cell is born or leaves: to make and free one of a hundred thousand
        takes 5 ms, all in one step. It costs 8 bytes for each cell, and keeps those that leave
        until the next scrape of their series.
        """
        copy = self._copies.get(family, [])
        if not _is_true_copy(copy, family):
            copy = self._copies[family] = list(family.cells.values())
        return copy

    def _family_chunks(
        self, family: Family, chosen: Format, names: frozenset[str] | None
    ) -> Iterator[bytes]:
        if names is not None and (not family.cells or names.isdisjoint(sample_names(family))):
            return
        is_histogram = family.type == "histogram"
        render = self._renderers.histogram if is_histogram else self._renderers.single
        yield _head(family, chosen).encode()
        cells = self._cells_of(family)
        for start, end in _steps(cells, family.lines_per_set, self._renderers.step_lines):
            text = render(cells, start, end, family.name)
            yield text if names is None else _with_names(text.decode(), names).encode()


def _is_true_copy(copy: list[AnyCell], family: Family) -> bool:
    """Whether no cell was born and none left since.

    What is born stands behind all others, so where the last is the same none of them is new; and
    where as many are left none is missing.
    """
    try:
        last = next(reversed(family.cells.values()), None)
    except RuntimeError:
        return False  # a lane's thread gave birth to one right now
    return len(copy) == len(family.cells) and (not copy or copy[-1] is last)


def _steps(cells: list[AnyCell], lines_per_set: int, step_lines: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(cells):
        lines = step_lines if cells[start].rendered else FIRST_STEP_LINES
        end = min(start + max(1, lines // lines_per_set), len(cells))
        yield start, end
        start = end


def sample_names(family: Family) -> tuple[str, ...]:
    """The names of the samples a family exposes."""
    if family.type == "histogram":
        return tuple(family.name + ending for ending in ("_bucket", "_count", "_sum"))
    return (family.name,)


def _with_names(text: str, names: frozenset[str]) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.replace("{", " ", 1).split(" ", 1)[0] in names)


def _head(family: Family, chosen: Format) -> str:
    is_openmetrics = chosen.openmetrics
    name = naming.family_name(family.name, family.type) if is_openmetrics else family.name
    unit = f"# UNIT {name} seconds\n" if is_openmetrics and name.endswith("_seconds") else ""
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n{unit}"


def _render_single(cells: list[Any], start: int, end: int, name: str) -> bytes:
    return "".join([_single(cell, name) for cell in cells[start:end]]).encode()


def _single(cell: Any, name: str) -> str:
    if not cell.rendered:
        cell.rendered = f"{name}{braces(labels_of(cell.label_set))} "
    return f"{cell.rendered}{cell.value!r}\n"


def _render_histograms(cells: list[Any], start: int, end: int, name: str) -> bytes:
    return "".join([_histogram(cell, name) for cell in cells[start:end]]).encode()


PORTABLE: Final = Renderers(_render_single, _render_histograms, PORTABLE_STEP_LINES)
"""The reference, in Python."""


def _histogram(cell: Histogram, name: str) -> str:
    template: str = cell.rendered
    if not template:
        template = cell.rendered = _histogram_template(cell, name)
    counts = list(accumulate(cell.counts))
    if not isinstance(counts[-1], int):
        # Sampling rates gave broken weights; OpenMetrics wants whole counts.
        counts = [round(count) for count in counts]
    return template % (*counts, counts[-1], cell.sum)


def _histogram_template(cell: Histogram, name: str) -> str:
    labels = [label.replace("%", "%%") for label in labels_of(cell.label_set)]
    before, after = split_by_le(labels)
    buckets = [f"{name}_bucket{braces([*before, le, *after])} %d\n" for le in le_of(cell.bounds)]
    shown = braces(labels)
    return "".join([*buckets, f"{name}_count{shown} %d\n", f"{name}_sum{shown} %r\n"])


def le_of(bounds: Sequence[float]) -> list[str]:
    """The label `le` of each bucket, as prometheus_client writes bounds, `+Inf` at the end."""
    return [f'le="{bound}"' for bound in (*map(floatToGoString, bounds), "+Inf")]


def split_by_le(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sorted labels: those that stand before `le`, and those behind it."""
    before = [label for label in labels if label < "le="]
    return before, list(labels[len(before) :])


def labels_of(label_set: LabelSet) -> list[str]:
    """The labels as a sample shows them, sorted by name."""
    return [f'{name}="{naming.escaped(value)}"' for name, value in zip(*label_set, strict=True)]


def braces(labels: Sequence[str]) -> str:
    """Labels as a sample shows them; nothing when there are none."""
    return "{" + ",".join(labels) + "}" if labels else ""


class _Only(Collector):
    """One family, so that its text is a step of its own."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]
