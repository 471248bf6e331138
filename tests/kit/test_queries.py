"""Expressions select by the variables that a series has labels for."""

import pytest

from llmstatsd.kit import queries

ALL = 'job=~"$job", instance=~"$instance"'


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("llm_request_total", f'{ALL}, model=~"$model", operation=~"$operation"'),
        (
            "llm_request_duration_seconds_bucket",
            f'{ALL}, model=~"$model", operation=~"$operation"',
        ),
        ("llm_error_total", f'{ALL}, model=~"$model"'),
        ("llm_total_duration_seconds_sum", f'{ALL}, model=~"$model"'),
        ("llm_total_duration_seconds_count", f'{ALL}, model=~"$model"'),
        ("llm_fallback_total", ALL),
        ("llmstatsd_datagrams_total", ALL),
        ("up", ALL),
    ],
    ids=lambda text: text if text.isidentifier() else "",
)
def test_a_variable_narrows_a_series_that_has_its_label(sample: str, expected: str) -> None:
    assert queries.chosen(sample) == f"{sample}{{{expected}}}"


def test_a_series_can_be_narrowed_by_less() -> None:
    expected = f'llm_request_total{{{ALL}, model=~"$model"}}'
    assert queries.chosen("llm_request_total", narrowed_by=queries.MODEL) == expected
    assert queries.chosen("llm_request_total", narrowed_by=()) == f"llm_request_total{{{ALL}}}"


def test_one_more_matcher_comes_last() -> None:
    assert queries.chosen("up", only='mode="idle"') == f'up{{{ALL}, mode="idle"}}'


def test_rates_are_added_up_by_labels() -> None:
    inner = f"(rate(llm_fallback_total{{{ALL}}}[$__rate_interval]))"
    assert queries.rate("llm_fallback_total") == f"sum{inner}"
    assert queries.rate("llm_fallback_total", "instance") == f"sum by (instance) {inner}"


def test_an_increase_has_its_window() -> None:
    expected = f"sum(increase(llm_fallback_total{{{ALL}}}[$__range]))"
    assert queries.increase("llm_fallback_total", window=queries.RANGE) == expected


def test_a_share_is_missing_where_the_whole_is_nothing() -> None:
    assert queries.ratio("a", "b + c") == "a / (b + c > 0)"


def test_a_quantile_keeps_the_label_of_the_buckets_and_drops_nan() -> None:
    rates = queries.rate("llm_total_duration_seconds_bucket", "model, le")
    expected = f"histogram_quantile(0.95, {rates}) >= 0"
    assert queries.p95("llm_total_duration_seconds", "model") == expected
