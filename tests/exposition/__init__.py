"""What the tests of the exposition share: bodies, and what the two parsers make of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, cast

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from llmstatsd.exposition.lanes import renderers
from llmstatsd.exposition.text import Exposition, Format, negotiate
from llmstatsd.series.instruments import LabelSet
from llmstatsd.series.store import Store
from tests.series import Rig

TEXT = negotiate("")
OPENMETRICS = negotiate("application/openmetrics-text;version=1.0.0")

Parser = Callable[[str], Iterator[Metric]]

Key = tuple[str, frozenset[tuple[str, str]]]

# One of each type, documented and not, with what is hard to print.
LINES = (
    "llm.request:3|c|#model:gpt-4o,operation:chat",
    "llm.request.duration:250:1500|ms|#model:gpt-4o,operation:chat",
    "llm_request_duration_seconds:601|h|#model:gpt-4o",
    "llm.tokens:12345|c|#model:gpt-4o",
    "llm.error:1|c|#model:gpt-4o,type:timeout",
    "llm.prompt.tokens:7|c|#model:gpt-4o",
    'jobs:0.5|c|#kind:a"b\\c,percent:100%d%s,umlaut:ä日本',
    "depth:-2.5|g",
    "depth:1e-7|g|#q:x",
    "size:5|h|@0.3|#lea:1,l:2",
)


def exposition_of(store: Store, collectors: Sequence[Collector] = ()) -> Exposition:
    """The exposition of a store by the twin under test."""
    return Exposition(store, collectors, renderers(Rig.twin.name))


def body(store: Store, chosen: Format = TEXT, names: Iterable[str] | None = None) -> str:
    """A whole scrape."""
    wanted = None if names is None else frozenset(names)
    return b"".join(exposition_of(store).chunks(chosen, wanted)).decode()


def parsed(text: str, chosen: Format = TEXT) -> list[Metric]:
    """A body's families, by the parser of its format."""
    parse = parse_openmetrics if chosen.openmetrics else parse_text
    return list(cast(Parser, parse)(text))


def parsed_in_part(text: str) -> list[Metric]:
    """The families of a selection, which the strict parser of OpenMetrics may call incomplete."""
    return list(parse_text(text))


def plain(families: Iterable[Metric]) -> list[tuple[object, ...]]:
    """Families as tuples, in their order and with all that a parser keeps of them."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            family.unit,
            [(sample.name, sample.labels, sample.value) for sample in family.samples],
        )
        for family in families
    ]


def samples_of(families: Iterable[Metric]) -> dict[Key, float]:
    """Every sample once."""
    found: dict[Key, float] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "no sample comes twice"
            found[key] = sample.value
    return found


def samples_in(store: Store) -> dict[Key, float]:
    """What a scrape of these cells must show, told anew from the formats' documents."""
    shown: dict[Key, float] = {}
    for family in store.families.values():
        cells: dict[LabelSet, Any] = dict(family.cells)
        for (names, values), cell in cells.items():
            labels = frozenset(zip(names, values, strict=True))
            if family.type != "histogram":
                shown[family.name, labels] = cell.value
                continue
            counts = [round(count) for count in accumulate(cell.counts)]
            bounds = [*map(floatToGoString, cell.bounds), "+Inf"]
            for bound, count in zip(bounds, counts, strict=True):
                shown[f"{family.name}_bucket", labels | {("le", bound)}] = count
            shown[f"{family.name}_count", labels] = counts[-1]
            shown[f"{family.name}_sum", labels] = cell.sum
    return shown
