"""The store in a registry of prometheus_client."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from llmstatsd.catalog import CATALOG
from llmstatsd.exposition.collector import StoreCollector
from llmstatsd.exposition.text import Format
from llmstatsd.series.store import Store
from tests.series import Rig

from . import LINES, OPENMETRICS, TEXT, body, parsed, parsed_in_part, plain, samples_in, samples_of

both_formats = pytest.mark.parametrize("chosen", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])


def registry_of(store: Store) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    return registry


def written(registry: Collector, chosen: Format) -> str:
    """What prometheus_client itself writes."""
    encoded: bytes = (generate_openmetrics if chosen.openmetrics else generate_latest)(registry)
    return encoded.decode()


def fed(*lines: str) -> Rig:
    rig = Rig()
    rig.feed(*(lines or LINES))
    assert not rig.refused()
    return rig


@both_formats
def test_a_scrape_reads_as_what_prometheus_client_writes(chosen: Format) -> None:
    store = fed(*LINES, "users:a|s").store
    theirs = written(registry_of(store), chosen)
    assert plain(parsed(body(store, chosen), chosen)) == plain(parsed(theirs, chosen))


@both_formats
def test_counters_and_gauges_are_the_same_text_as_of_prometheus_client(chosen: Format) -> None:
    """Histograms differ in one thing: counts are written as whole numbers."""
    store = fed(*(line for line in LINES if "|h" not in line and "|ms" not in line)).store
    assert body(store, chosen) == written(registry_of(store), chosen)


@both_formats
def test_histograms_are_the_same_text_but_for_whole_counts(chosen: Format) -> None:
    store = fed("wait:250|ms|#a:1,q:2", "llm.request.duration:10001|ms|#model:m").store
    theirs = written(registry_of(store), chosen).splitlines()
    whole = [
        line.removesuffix(".0") if line.partition("{")[0].endswith(("_bucket", "_count")) else line
        for line in theirs
    ]
    assert body(store, chosen).splitlines() == whole


@both_formats
@pytest.mark.parametrize(
    "names",
    [
        (),
        ("jobs_total",),
        ("jobs",),
        ("size_bucket",),
        ("size_count", "size_sum"),
        ("size",),
        ("depth", "jobs_total", "jobs_created", "nothing"),
        ("llm_request_total", "llm_request_duration_seconds_sum"),
        ("llm_fallback_total",),
        ("llm_fallback",),
        ("llm_model_load_duration_seconds_count",),
        ("llm_cost_dollars_total",),
    ],
)
def test_names_select_as_a_restricted_registry_of_prometheus_client(
    chosen: Format, names: tuple[str, ...]
) -> None:
    store = fed().store
    theirs = written(registry_of(store).restricted_registry(names), chosen)
    assert plain(parsed_in_part(body(store, chosen, names))) == plain(parsed_in_part(theirs))


def test_the_collector_gives_what_the_cells_hold() -> None:
    store = fed().store
    assert samples_of(StoreCollector(store).collect()) == samples_in(store)


def test_the_collector_gives_extras_and_undeclared_series_once_data_arrives() -> None:
    rig = Rig()
    collector = StoreCollector(rig.store)
    documented = {name.removesuffix("_total") for name, s in CATALOG.items() if not s.extra}
    assert {family.name for family in collector.collect()} == documented
    rig.feed("jobs:1|c", "llm.cost.dollars:1|c|#model:m")
    assert {family.name for family in collector.collect()} == {
        *documented,
        "jobs",
        "llm_cost_dollars",
    }


def test_a_registry_sees_that_a_name_is_taken() -> None:
    registry = registry_of(Store())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(StoreCollector(Store()))


def test_a_description_has_no_samples() -> None:
    families = list(StoreCollector(fed().store).describe())
    assert {family.name for family in families} >= {"llm_cost_dollars", "jobs", "size", "depth"}
    assert not any(family.samples for family in families)


def test_registered_before_the_data_it_gives_the_data() -> None:
    rig = Rig()
    registry = registry_of(rig.store)
    rig.feed("llm.fallback:2|c")
    assert registry.get_sample_value("llm_fallback_total") == 2


def test_a_pinned_label_set_is_there_without_data() -> None:
    rig = Rig(pinned={"model": ["m"], "operation": ["chat"]})
    registry = registry_of(rig.store)
    labels = {"model": "m", "operation": "chat"}
    assert registry.get_sample_value("llm_request_total", labels) == 0
    assert registry.get_sample_value("llm_request_duration_seconds_count", labels) == 0
