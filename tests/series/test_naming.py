"""Wire names and values made valid for Prometheus."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.catalog import SeriesType
from llmstatsd.series import naming

from . import Rig


@pytest.mark.parametrize(
    ("wire", "series"),
    [
        ("llm.request", "llm_request"),
        ("llm-request/total count", "llm_request_total_count"),
        ("with:colon", "with:colon"),
        ("7days", "_7days"),
        ("äöü1", "___1"),
        ("日本x", "__x"),
        ("a\x00b\x7fc", "a_b_c"),
        ("UPPER_lower09", "UPPER_lower09"),
    ],
)
def test_a_character_that_prometheus_does_not_know_becomes_an_underscore(
    wire: str, series: str
) -> None:
    assert naming.series_name(wire) == series


def test_a_very_long_name_is_cut() -> None:
    assert naming.series_name("x" * 65_000) == "x" * naming.NAME_LENGTH_LIMIT


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=300))
def test_any_text_becomes_a_valid_series_name(text: str) -> None:
    assert re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", naming.series_name(text))


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=300))
def test_any_key_becomes_a_valid_label_name_or_none(text: str) -> None:
    label = naming.label_name(text)
    if label is not None:
        assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label)
        assert label != "le"
        assert not label.startswith("__")


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=300))
def test_any_text_becomes_a_label_value_of_one_line_and_128_characters(text: str) -> None:
    value = naming.label_value(text)
    assert 1 <= len(value) <= 128
    assert len(value.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f]", value)


@pytest.mark.parametrize(
    ("name", "wire_type", "expected"),
    [
        ("jobs", "c", "jobs_total"),
        ("jobs_total", "c", "jobs_total"),
        ("_total", "c", "_total_total"),
        ("wait", "ms", "wait_seconds"),
        ("wait_seconds", "ms", "wait_seconds"),
        ("wait", "h", "wait"),
        ("wait", "d", "wait"),
        ("depth", "g", "depth"),
        ("users", "s", "users"),
    ],
)
def test_counters_end_in_total_and_millisecond_timers_in_seconds(
    name: str, wire_type: str, expected: str
) -> None:
    assert naming.with_ending(name, wire_type) == expected


@pytest.mark.parametrize("key", ["le", "__name__", "__x", "-_x", ".-x"])
def test_a_reserved_label_name_is_none(key: str) -> None:
    assert naming.label_name(key) is None


@pytest.mark.parametrize(
    ("key", "label"),
    [("user.id", "user_id"), ("1st", "_1st"), ("_x", "_x"), ("lé", "l_"), ("LE", "LE")],
)
def test_a_label_name_is_made_valid(key: str, label: str) -> None:
    assert naming.label_name(key) == label


def test_control_characters_and_line_ends_of_a_label_value_become_underscores() -> None:
    assert naming.label_value("a\x00b\rc\x1b[0m\x7f\x85\u2028\u2029z") == "a_b_c_[0m____z"


def test_a_label_value_keeps_128_characters_and_not_one_more() -> None:
    assert naming.label_value("é" * 128) == "é" * 128
    assert naming.label_value("é" * 129) == "é" * 128


def test_backslash_quote_and_line_feed_are_escaped() -> None:
    assert naming.escaped('a\\b"c\nd') == r"a\\b\"c\nd"


@pytest.mark.parametrize(
    ("name", "series_type", "claimed"),
    [
        ("a_total", "counter", {"a", "a_total", "a_created"}),
        ("a", "gauge", {"a"}),
        ("a", "histogram", {"a", "a_bucket", "a_sum", "a_count", "a_created"}),
    ],
)
def test_a_series_claims_every_name_its_exposition_may_use(
    name: str, series_type: SeriesType, claimed: set[str]
) -> None:
    assert set(naming.claimed_names(name, series_type)) == claimed


@pytest.mark.parametrize(
    ("line", "series"),
    [
        ("llm.request:1|c", "llm_request_total"),
        ("llm.request.total:1|c", "llm_request_total"),
        ("llm-request_total:1|c", "llm_request_total"),
        ("llm.request.duration:250|ms", "llm_request_duration_seconds"),
        ("llm.request.duration.seconds:0.25|h", "llm_request_duration_seconds"),
        ("llm_request_duration_seconds:0.25|d", "llm_request_duration_seconds"),
        ("llm.fallback:1|c", "llm_fallback_total"),
    ],
)
def test_a_wire_name_meets_the_documented_series(line: str, series: str) -> None:
    rig = Rig()
    before = set(rig.store.families)
    rig.feed(line)
    assert not rig.refused()
    assert set(rig.store.families) == before
    assert rig.store.families[series].cells
