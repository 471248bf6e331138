"""The documented series are a contract with dashboards and alerts: this table never changes."""

import re

import pytest

from llmstatsd import catalog
from llmstatsd.catalog import CATALOG, ERROR_TYPES, OTHER, UNKNOWN
from llmstatsd.series import naming

CONTRACT = {
    "llm_request_total": ("counter", {"model", "operation"}),
    "llm_request_duration_seconds": ("histogram", {"model", "operation"}),
    "llm_tokens_total": ("counter", {"model"}),
    "llm_fallback_total": ("counter", set()),
    "llm_model_load_duration_seconds": ("histogram", {"model"}),
    "llm_prompt_eval_duration_seconds": ("histogram", {"model"}),
    "llm_total_duration_seconds": ("histogram", {"model"}),
    "llm_error_total": ("counter", {"model", "type"}),
    "llm_rate_limit_exceeded_total": ("counter", {"model"}),
}
EXTRAS = {
    "llm_prompt_tokens_total": ("counter", {"model"}),
    "llm_completion_tokens_total": ("counter", {"model"}),
    "llm_cached_tokens_total": ("counter", {"model"}),
    "llm_time_to_first_token_seconds": ("histogram", {"model", "operation"}),
    "llm_time_per_output_token_seconds": ("histogram", {"model", "operation"}),
    "llm_cost_dollars_total": ("counter", {"model"}),
}
BUCKETS = {
    "llm_request_duration_seconds": (
        "0.05 0.1 0.25 0.5 1 2 3 5 7.5 10 15 20 30 45 60 90 120 180 300 600"
    ),
    "llm_total_duration_seconds": (
        "0.05 0.1 0.25 0.5 1 2 3 5 7.5 10 15 20 30 45 60 90 120 180 300 600"
    ),
    "llm_model_load_duration_seconds": "0.01 0.05 0.1 0.25 0.5 1 2.5 5 10 20 30 60 120 300",
    "llm_prompt_eval_duration_seconds": (
        "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 20 40 80 160"
    ),
    "llm_time_to_first_token_seconds": (
        "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 20 40 80 160"
    ),
    "llm_time_per_output_token_seconds": (
        "0.005 0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5"
    ),
}


def test_the_documented_series_are_these_and_no_others() -> None:
    declared = {name: (s.type, set(s.labels)) for name, s in CATALOG.items()}
    assert declared == CONTRACT | EXTRAS
    assert all(name == series.name for name, series in CATALOG.items())


def test_the_extras_are_these_and_no_others() -> None:
    assert {name for name, series in CATALOG.items() if series.extra} == set(EXTRAS)


def test_the_buckets_are_these() -> None:
    declared = {name: s.buckets for name, s in CATALOG.items() if s.buckets is not None}
    assert declared == {
        name: tuple(float(bound) for bound in text.split()) for name, text in BUCKETS.items()
    }


@pytest.mark.parametrize("name", ["llm_request_duration_seconds", "llm_total_duration_seconds"])
def test_10_and_600_seconds_are_boundaries_of_the_durations(name: str) -> None:
    """The documented latency alert stands on 10; 600 is the time-out of the providers' SDKs."""
    buckets = CATALOG[name].buckets or ()
    assert 10.0 in buckets
    assert buckets[-1] == 600.0


@pytest.mark.parametrize("series", CATALOG.values(), ids=lambda series: series.name)
def test_a_series_keeps_the_rules_of_its_type(series: catalog.Documented) -> None:
    assert list(series.labels) == sorted(series.labels)
    assert series.name.endswith("_total") == (series.type == "counter")
    assert bool(series.buckets) == (series.type == "histogram")
    buckets = series.buckets or ()
    assert list(buckets) == sorted(set(buckets))
    assert all(bound > 0 for bound in buckets)
    assert re.fullmatch(r"[A-Z][^\n\\]*\.", series.help)


def test_no_two_documented_series_share_a_name_in_the_exposition() -> None:
    claimed = [n for s in CATALOG.values() for n in naming.claimed_names(s.name, s.type)]
    assert len(claimed) == len(set(claimed))


def test_the_types_of_errors_are_a_closed_set() -> None:
    assert (
        *("timeout", "connection", "rate_limit", "quota", "auth", "permission", "not_found"),
        *("context_length", "content_filter", "invalid_request", "overloaded", "server_error"),
        *("invalid_response", "cancelled", "other"),
    ) == ERROR_TYPES


def test_the_reserved_values_of_labels_are_these() -> None:
    assert (UNKNOWN, OTHER) == ("unknown", "other")


def test_an_undeclared_histogram_gets_the_buckets_of_a_request() -> None:
    assert CATALOG["llm_request_duration_seconds"].buckets == catalog.UNDECLARED_BUCKETS
