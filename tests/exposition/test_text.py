"""The text formats as Prometheus reads them."""

import subprocess
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from llmstatsd.catalog import CATALOG
from llmstatsd.exposition.lanes import renderers
from llmstatsd.exposition.text import (
    FIRST_STEP_LINES,
    Exposition,
    Format,
    Renderers,
    negotiate,
)
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import LabelSet
from llmstatsd.series.store import SeriesRules, Store
from tests.series import Rig

from . import (
    LINES,
    OPENMETRICS,
    TEXT,
    body,
    exposition_of,
    parsed,
    parsed_in_part,
    plain,
    samples_in,
    samples_of,
)

both_formats = pytest.mark.parametrize("chosen", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def fed(*lines: str) -> Rig:
    rig = Rig()
    rig.feed(*(lines or LINES))
    assert not rig.refused()
    return rig


class OneCounter(Collector):
    """Stands for the collectors of the daemon itself."""

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily("llmstatsd_lines", "Lines.", labels=["kind"])
        family.add_metric(["a"], 5)
        return [family]


# Both formats, read by the two parsers.


@both_formats
def test_what_is_parsed_is_what_the_cells_hold(chosen: Format) -> None:
    rig = fed()
    assert samples_of(parsed(body(rig.store, chosen), chosen)) == samples_in(rig.store)


@both_formats
def test_a_store_without_any_data_shows_the_documented_series(chosen: Format) -> None:
    families = parsed(body(Rig().store, chosen), chosen)
    assert [family.name for family in families] == [
        name.removesuffix("_total") for name, series in CATALOG.items() if not series.extra
    ]


def test_both_formats_show_the_same_names_and_numbers() -> None:
    store = fed().store
    text, openmetrics = body(store, TEXT), body(store, OPENMETRICS)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [line for line in openmetrics.splitlines() if not line.startswith("#")]


@both_formats
def test_an_extra_is_shown_only_once_data_arrives(chosen: Format) -> None:
    rig = Rig()
    extras = [name for name, series in CATALOG.items() if series.extra]
    assert not any(name.removesuffix("_total") in body(rig.store, chosen) for name in extras)
    for name in extras:
        rig.feed(f"{name}:1|{'c' if CATALOG[name].type == 'counter' else 'h'}")
    text = body(rig.store, chosen)
    assert all(f"# TYPE {name.removesuffix('_total')}" in text for name in extras)


@both_formats
def test_an_undeclared_series_is_gone_with_its_last_label_set(chosen: Format) -> None:
    rig = fed("jobs:1|c")
    assert "jobs" in body(rig.store, chosen)
    rig.sweep(0.0)
    rig.sweep(1e9)
    assert "jobs" not in body(rig.store, chosen)


# Lines, letter by letter.


def test_the_head_of_a_family_in_text() -> None:
    lines = body(Rig().store, TEXT).splitlines()
    at = lines.index("# TYPE llm_request_total counter")
    assert lines[at - 1] == (f"# HELP llm_request_total {CATALOG['llm_request_total'].help}")
    assert not any(line.startswith("# UNIT") for line in lines)
    assert not any(line.startswith("# EOF") for line in lines)


def test_the_head_of_a_family_in_openmetrics() -> None:
    lines = body(Rig().store, OPENMETRICS).splitlines()
    assert "# TYPE llm_request counter" in lines
    at = lines.index("# TYPE llm_request_duration_seconds histogram")
    assert lines[at + 1] == "# UNIT llm_request_duration_seconds seconds"
    assert lines[at - 1].startswith("# HELP llm_request_duration_seconds ")
    assert lines[-1] == "# EOF"
    assert lines.count("# EOF") == 1


def test_a_unit_stands_at_the_series_in_seconds_only() -> None:
    rig = fed("wait:1|ms", "busy_seconds:1|c", "age_seconds:1|g", "size:1|h", "jobs:1|c")
    units = {
        family.name: family.unit
        for family in parsed(body(rig.store, OPENMETRICS), OPENMETRICS)
        if family.name in {"wait_seconds", "busy_seconds", "age_seconds", "size", "jobs"}
    }
    assert units == {
        "wait_seconds": "seconds",
        "busy_seconds": "seconds",
        "age_seconds": "seconds",
        "size": "",
        "jobs": "",
    }


def test_a_set_is_a_gauge() -> None:
    rig = fed("users:anna|s")
    [family] = [f for f in parsed(body(rig.store)) if f.name == "users"]
    assert family.type == "gauge"
    assert [sample.value for sample in family.samples] == [0]


def test_bucket_bounds_are_written_as_prometheus_client_writes_them() -> None:
    bounds = (0.005, 0.25, 1.0, 2.0, 10.0, 1e6, 12345678.5, 1e16)
    rules = {"llm_request_duration_seconds": SeriesRules(buckets=bounds)}
    rig = Rig(rules=rules)
    rig.feed("llm.request.duration:1|ms")
    shown = [
        sample.labels["le"]
        for family in parsed(body(rig.store))
        for sample in family.samples
        if sample.name == "llm_request_duration_seconds_bucket"
    ]
    assert shown == [
        *("0.005", "0.25", "1.0", "2.0", "10.0", "1e+06", "1.23456785e+07", "1e+16", "+Inf"),
    ]


def test_counts_are_whole_numbers_whatever_the_sampling_rates() -> None:
    rig = fed("size:1|h|@0.3", "size:400|h|@0.7", "size:1|h|@0.3")
    lines = [line for line in body(rig.store).splitlines() if line.startswith("size_")]
    numbers = [line.rpartition(" ")[2] for line in lines if not line.startswith("size_sum")]
    assert all(number.isdecimal() for number in numbers)
    assert "size_count 8" in lines
    assert 'size_bucket{le="+Inf"} 8' in lines
    assert [int(number) for number in numbers] == sorted(int(number) for number in numbers)


def test_le_stands_where_its_name_sorts() -> None:
    rig = fed("size:1|h|#a:1,z:2")
    assert 'size_bucket{a="1",le="+Inf",z="2"} 1\n' in body(rig.store)


def test_hostile_label_values_are_escaped() -> None:
    rig = fed('jobs:1|c|#a:q"uote,b:back\\slash\\n,c:100%s%d%%')
    assert r'jobs_total{a="q\"uote",b="back\\slash\\n",c="100%s%d%%"} 1.0' in body(rig.store)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("jobs:1e280|c", "jobs_total 1e+280"),
        ("jobs:1e-280|c", "jobs_total 1e-280"),
        ("jobs:123456789|c", "jobs_total 123456789.0"),
        ("depth:-0.1|g", "depth -0.1"),
        ("jobs:1|c|@1e-9", "jobs_total 1000000000.0"),
    ],
)
@both_formats
def test_a_number_is_written_so_that_it_reads_back_exactly(
    chosen: Format, line: str, shown: str
) -> None:
    rig = fed(line)
    text = body(rig.store, chosen)
    assert shown in text.splitlines()
    assert samples_of(parsed(text, chosen)) == samples_in(rig.store)


@both_formats
def test_the_next_scrape_shows_the_new_numbers(chosen: Format) -> None:
    rig = fed()
    body(rig.store, chosen)
    rig.feed(*LINES)
    assert samples_of(parsed(body(rig.store, chosen), chosen)) == samples_in(rig.store)


# Steps.


@both_formats
def test_the_body_comes_in_steps_of_a_bounded_number_of_lines(chosen: Format) -> None:
    rig = Rig(limits={"label_values": 10_000})
    step_lines = renderers(rig.used.name).step_lines
    count = 3 * step_lines
    rig.feed(*(f"jobs:1|c|#n:{n}" for n in range(count)))
    rig.feed(*(f"wait:1|h|#n:{n}" for n in range(count // 10)))
    for most_lines in (FIRST_STEP_LINES, step_lines):
        chunks = list(exposition_of(rig.store).chunks(chosen))
        longest = max(chunk.count(b"\n") for chunk in chunks)
        assert most_lines // 2 < longest <= most_lines
        assert b"".join(chunks).count(b"\njobs_total{") == rig.store.limits.label_sets


@both_formats
def test_a_scrape_stays_valid_when_series_come_and_leave_between_its_steps(chosen: Format) -> None:
    rig = Rig(limits={"label_values": 10_000, "idle_seconds": 10})
    rig.feed(*(f"jobs:1|c|#n:{n}" for n in range(1500)))
    rig.sweep(0.0)
    chunks = []
    for step, chunk in enumerate(exposition_of(rig.store).chunks(chosen)):
        chunks.append(chunk)
        rig.feed(f"new{step}:1|c", f"jobs:1|c|#n:new{step}", "llm.request:1|c|#model:new")
        rig.sweep(step * 7.0)
    families = parsed(b"".join(chunks).decode(), chosen)
    assert samples_of(families)


def test_a_scrape_that_is_broken_off_leaves_nothing_behind() -> None:
    store = fed().store
    whole = body(store)
    chunks = exposition_of(store).chunks(TEXT)
    next(chunks)
    del chunks
    assert body(store) == whole


# Collectors beside the store.


@both_formats
def test_collectors_come_after_the_store_and_before_the_end(chosen: Format) -> None:
    text = b"".join(exposition_of(fed().store, [OneCounter()]).chunks(chosen)).decode()
    lines = text.splitlines()
    at = lines.index('llmstatsd_lines_total{kind="a"} 5.0')
    assert not any(line.startswith("llm_") for line in lines[at:])
    assert text.count("# EOF") == chosen.openmetrics
    assert parsed(text, chosen)[-1].name == "llmstatsd_lines"


@both_formats
def test_names_select_from_collectors_too(chosen: Format) -> None:
    exposition = exposition_of(fed().store, [OneCounter()])

    def select(*names: str) -> list[Metric]:
        return parsed(b"".join(exposition.chunks(chosen, frozenset(names))).decode(), chosen)

    assert [f.name for f in select("llmstatsd_lines_total")] == ["llmstatsd_lines"]
    assert [f.name for f in select("llmstatsd_lines")] == []
    assert [f.name for f in select("llmstatsd_lines_total", "depth")] == [
        "depth",
        "llmstatsd_lines",
    ]


# Names.


@both_formats
def test_names_keep_the_samples_of_these_names(chosen: Format) -> None:
    rig = fed()
    names = {"jobs_total", "size_sum", "size_bucket", "llm_request_duration_seconds_count"}
    shown = samples_of(parsed_in_part(body(rig.store, chosen, names)))
    assert shown == {key: v for key, v in samples_in(rig.store).items() if key[0] in names}


@both_formats
def test_names_that_nothing_has_give_a_valid_empty_body(chosen: Format) -> None:
    text = body(fed().store, chosen, ["nothing", "jobs", "size", "", "# HELP", "jobs_total{"])
    assert text == ("# EOF\n" if chosen.openmetrics else "")


@both_formats
def test_a_family_without_samples_is_not_selected(chosen: Format) -> None:
    """As prometheus_client has it: a family is there for its samples."""
    text = body(Rig().store, chosen, ["llm_request_total", "llm_fallback_total"])
    assert [family.name for family in parsed(text, chosen)] == ["llm_fallback"]


# The copy of the cells that an exposition keeps.


class Renders:
    """Renders nothing, and keeps the lists that it was given for `jobs_total`."""

    def __init__(self, store: Store) -> None:
        self.copies: list[list[Any]] = []
        self.exposition = Exposition(store, renderers=Renderers(self._single, lambda *_: b""))

    def _single(self, cells: list[Any], _start: int, _end: int, name: str) -> bytes:
        if name == "jobs_total":
            self.copies.append(cells)
        return b""

    def copy(self) -> list[Any]:
        """The list of the next scrape."""
        list(self.exposition.chunks(TEXT))
        return self.copies[-1]


def family_of(rig: Rig) -> Family:
    return rig.store.families["jobs_total"]


def bear(rig: Rig, kind: str) -> None:
    assert family_of(rig).place((("kind",), (kind,))).is_born


def leave(rig: Rig, place: int) -> None:
    family_of(rig).expire(list(family_of(rig).cells)[place])


def test_cells_are_copied_once_for_many_scrapes() -> None:
    rig = fed("jobs:1|c|#kind:a", "jobs:1|c|#kind:b")
    renders = Renders(rig.store)
    first = renders.copy()
    rig.feed("jobs:1|c|#kind:a", "depth:1|g|#q:x")
    assert renders.copy() is first


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_copy_shows_what_left_and_what_was_born(place: int) -> None:
    rig = fed(*(f"jobs:1|c|#kind:{kind}" for kind in "abcde"))
    renders = Renders(rig.store)
    renders.copy()
    for change in ("born", "left", "left, born", "born, left", "born, last left", "left, left"):
        for event in change.split(", "):
            if event == "born":
                bear(rig, change)
            else:
                leave(rig, -1 if event == "last left" else place)
        cells = list(family_of(rig).cells.values())
        assert [*map(id, renders.copy())] == [*map(id, cells)]


def test_the_copy_shows_when_all_were_replaced() -> None:
    rig = fed("jobs:1|c|#kind:a", "jobs:1|c|#kind:b")
    renders = Renders(rig.store)
    before = renders.copy()
    for kind in "ab":
        leave(rig, 0)
        bear(rig, kind)
    assert not {*map(id, before)} & {*map(id, renders.copy())}


def test_a_series_that_is_gone_leaves_no_copy() -> None:
    rig = fed("jobs:1|c|#kind:a")
    exposition = exposition_of(rig.store)
    list(exposition.chunks(TEXT))
    family = family_of(rig)
    assert family in exposition._copies
    rig.sweep(0.0)
    rig.sweep(1e9)
    list(exposition.chunks(TEXT))
    assert family not in exposition._copies


def test_a_birth_between_two_steps_waits_for_the_next_scrape() -> None:
    rig = fed(*(f"jobs:1|c|#kind:{number}" for number in range(60)))
    exposition = exposition_of(rig.store)
    chunks = exposition.chunks(TEXT)
    text = next(chunk for chunk in chunks if b"jobs_total{" in chunk)
    rig.feed("jobs:1|c|#kind:late")
    assert b"late" not in text + b"".join(chunks)
    assert b'kind="late"' in b"".join(exposition.chunks(TEXT))


def test_a_birth_in_the_very_moment_of_the_look_makes_a_new_copy() -> None:
    class Growing(dict[LabelSet, Any]):
        def __reversed__(self) -> NoReturn:
            raise RuntimeError("dictionary changed size during iteration")

        def values(self) -> Any:
            return self

        def __iter__(self) -> Iterator[Any]:
            return iter(dict(self.items()).values())

    rig = fed("jobs:1|c|#kind:a")
    renders = Renders(rig.store)
    first = renders.copy()
    family_of(rig).cells = Growing(family_of(rig).cells)
    assert (renders.copy(), renders.copy() is first) == (first, False)


# Negotiation.


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "text/plain; version=0.0.4",
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json",
        "application/openmetrics-text;version=0.0.1",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ],
)
def test_text_0_0_4_is_what_everybody_gets_that_asks_for_nothing_else(accept: str) -> None:
    chosen = negotiate(accept)
    assert chosen.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert not chosen.openmetrics


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0",
        "application/openmetrics-text;version=1.0.0;charset=utf-8",
        PROMETHEUS_2_42,
        PROMETHEUS_3,
        "application/vnd.google.protobuf;encoding=delimited," + PROMETHEUS_2_42,
        "application/openmetrics-text;version=2.0.0",
    ],
)
def test_openmetrics_1_0_0_is_given_to_whom_it_is_asked(accept: str) -> None:
    chosen = negotiate(accept)
    assert chosen.content_type.startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert chosen.openmetrics


def test_who_asks_for_text_1_0_0_gets_0_0_4() -> None:
    chosen = negotiate("text/plain;version=1.0.0;escaping=allow-utf-8")
    assert chosen.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert not chosen.openmetrics


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text;version=",
        'application/openmetrics-text;version="1.0.0"',
        "application/openmetrics-text;version=1.0.0-rc",
        "application/openmetrics-text;version=１.０.０",
        "text/plain;version=x",
        "text/plain;version=1.x;q=y",
        ";;;,,,===",
        "x" * 10_000,
    ],
)
def test_no_accept_header_raises_and_every_answer_can_be_a_header(accept: str) -> None:
    negotiate(accept).content_type.encode("ascii")


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                *("application/openmetrics-text", "text/plain", "*/*", "version", "escaping"),
                *(";", ";", ",", ",", "=", "=", "q", ".", "1", "0", "1.0.0", "x", " ", "-", '"'),
                *("dots", "values", "allow-utf-8", "é", "１"),
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_any_accept_header_gets_a_format(accept: str) -> None:
    negotiate(accept).content_type.encode("ascii")


@pytest.mark.parametrize("escaping", ["dots", "values", "allow-utf-8", "underscores"])
def test_an_escaping_scheme_never_changes_names(escaping: str) -> None:
    """Every name here is valid without one."""
    chosen = negotiate(f"application/openmetrics-text;version=1.0.0;escaping={escaping}")
    text = b"".join(exposition_of(fed().store, [OneCounter()]).chunks(chosen)).decode()
    assert "llm_request_total{" in text
    assert "llmstatsd_lines_total{" in text


# Prometheus' own tool.


def lint(promtool: str, text: str) -> tuple[int, list[str]]:
    """The exit code of `promtool check metrics`, and its findings."""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr.splitlines()


def test_promtool_finds_nothing_in_the_documented_series(promtool: str) -> None:
    rig = Rig(pinned={"model": ["pinned"], "operation": ["chat"]})
    for name, series in CATALOG.items():
        kind = "c" if series.type == "counter" else "h"
        rig.feed(f'{name}:0.5|{kind}|@0.3|#model:a"b\\c%ä,operation:chat,type:timeout')
    assert all(family.cells for family in rig.store.families.values())
    assert lint(promtool, body(rig.store)) == (0, [])


def test_promtool_finds_nothing_in_a_store_without_data(promtool: str) -> None:
    assert lint(promtool, body(Rig().store)) == (0, [])


def test_promtool_finds_nothing_in_well_named_undeclared_series(promtool: str) -> None:
    rig = fed(
        "jobs:1|c|#kind:x", "wait:1|ms|#q:1", "queue_depth:1|g", "users:x|s", "size_bytes:1|h"
    )
    assert lint(promtool, body(rig.store)) == (0, [])


def test_promtool_blames_only_the_style_of_undeclared_names(promtool: str) -> None:
    """The sender chose these names; each finding is advice, and every body parses."""
    rig = fed(
        "waitTime:1|g",
        "wait.ms:1|g",
        "kilobytes_read:1|g",
        "x_count:1|g",
        "x_sum:1|g",
        "x_bucket:1|g",
        "x_total:1|g",
        "x_gauge:1|g",
        "jobs:1|c|#userId:x",
    )
    code, findings = lint(promtool, body(rig.store))
    assert code == 3
    assert sorted(finding.split(" ", 1)[0] for finding in findings) == [
        "jobs_total",
        "kilobytes_read",
        "waitTime",
        "wait_ms",
        "x_bucket",
        "x_count",
        "x_gauge",
        "x_sum",
        "x_total",
    ]
    assert not any("error while linting" in finding for finding in findings)
    assert plain(parsed(body(rig.store)))
