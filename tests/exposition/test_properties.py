"""For any input both formats are valid, say what the cells hold, and are what others write."""

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from llmstatsd.exposition.collector import StoreCollector
from llmstatsd.exposition.text import Format
from tests.series import Rig

from . import OPENMETRICS, TEXT, body, parsed, parsed_in_part, plain, samples_in, samples_of

formats = st.sampled_from([TEXT, OPENMETRICS])
hostile = st.text(
    st.sampled_from([*'"\\n%sd{}=,#| le+Inf', "\t", "\x00", "\x85", "\u2028", "ä", "日", "😀"])
    | st.characters(codec="utf-8", exclude_characters="\n|,"),
    min_size=1,
    max_size=10,
)
keys = st.sampled_from(["model", "type", "a", "le", "le0", "lea", "l", "quantile", "Zz"]) | hostile
names = (
    st.sampled_from(
        [
            *("llm.request", "llm.request.duration", "llm.error", "llm.cost.dollars", "jobs"),
            *("a", "a_total", "a_count", "a_sum", "a_bucket", "a_created", "a_info", "a_seconds"),
            *("__name__", "_total", "_seconds", "total", "count", "x_total_total", "le"),
        ]
    )
    | hostile
)
values = st.sampled_from(["0", "1", "0.1", "7", "1e280", "1e-300", "+3", "-2.5", "1:2", "10000000"])
rates = st.sampled_from(["", "", "|@0.1", "|@0.3", "|@1e-9"])
lines = st.builds(
    lambda name, value, kind, rate, tags: (
        f"{name}:{value}|{kind}{rate}|#" + ",".join(f"{key}:{text}" for key, text in tags)
    ),
    names,
    values,
    st.sampled_from(["c", "g", "ms", "h", "d", "s"]),
    rates,
    st.lists(st.tuples(keys, hostile), max_size=3),
)
feeds = st.lists(lines, min_size=1, max_size=12)


def fed(sent: list[str]) -> Rig:
    rig = Rig(limits={"label_values": 3, "label_sets": 4, "set_members": 2})
    for minute, line in enumerate(sent):
        rig.feed(line)
        rig.store.end_minutes(minute * 30.0)
    return rig


@settings(deadline=None, max_examples=120)
@given(feeds, formats)
def test_any_input_is_exposed_as_the_cells_hold_it(sent: list[str], chosen: Format) -> None:
    store = fed(sent).store
    assert samples_of(parsed(body(store, chosen), chosen)) == samples_in(store)


@settings(deadline=None, max_examples=80)
@given(feeds, formats)
def test_any_input_reads_as_what_prometheus_client_writes(sent: list[str], chosen: Format) -> None:
    store = fed(sent).store
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    theirs = (generate_openmetrics if chosen.openmetrics else generate_latest)(registry).decode()
    assert plain(parsed(body(store, chosen), chosen)) == plain(parsed(theirs, chosen))


@settings(deadline=None, max_examples=80)
@given(feeds, formats, st.data())
def test_any_names_select_as_a_restricted_registry(
    sent: list[str], chosen: Format, data: st.DataObject
) -> None:
    store = fed(sent).store
    shown = sorted({name for name, _ in samples_in(store)})
    near = sorted({*shown, *store.families, *(name.rsplit("_", 1)[0] for name in shown)})
    wanted = data.draw(st.sets(st.sampled_from(near) | hostile, max_size=4))
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    chosen_part = registry.restricted_registry(wanted)
    theirs = (generate_openmetrics if chosen.openmetrics else generate_latest)(chosen_part).decode()
    assert plain(parsed_in_part(body(store, chosen, wanted))) == plain(parsed_in_part(theirs))
