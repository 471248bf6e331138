"""The recording rules: the three documented rates, and aggregates named level:metric:operation.

The naming is that of https://prometheus.io/docs/practices/rules/: the level lists the labels that
are left, the job aside; `_total` is dropped under a rate.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from llmstatsd.config import Config
from llmstatsd.kit.promql import RATE_WINDOW, bound

GROUP: Final = "llm_rules"

QUANTILES: Final = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}

BURN_WINDOWS: Final = ("5m", "30m", "1h", "6h")
"""Ranges of the error ratio: those of both burn alerts."""

DROPPED: Final = "instance:llmstatsd_dropped_datagrams:rate5m"
"""Name of the recorded rate of datagrams lost at an instance's socket."""


class RecordingRule(NamedTuple):
    """`record` is the name of the new series, `expr` the expression that it keeps."""

    record: str
    expr: str


def recording_rules(config: Config) -> list[RecordingRule]:
    """Every recording rule, each after the ones that it reads."""
    rules = [*_documented(), *_by_model(config), *_error_ratios(), *_dropped()]
    return [RecordingRule(record, expr) for record, expr in rules]


def _documented() -> Iterator[tuple[str, str]]:
    yield "llm:request_rate_5m", f"rate(llm_request_total[{RATE_WINDOW}])"
    yield "llm:error_rate_5m", f"rate(llm_error_total[{RATE_WINDOW}])"
    yield "llm:token_rate_5m", f"rate(llm_tokens_total[{RATE_WINDOW}])"


def _by_model(config: Config) -> Iterator[tuple[str, str]]:
    """Sums over instances and operations; a share is missing where there are no requests."""
    requests, errors, tokens = (
        "model:llm_request:rate5m",
        "model:llm_error:rate5m",
        "model:llm_tokens:rate5m",
    )
    yield requests, "sum by (job, model) (llm:request_rate_5m)"
    yield errors, "sum by (job, model) (llm:error_rate_5m)"
    yield tokens, "sum by (job, model) (llm:token_rate_5m)"
    yield "model:llm_error_per_llm_request:ratio_rate5m", f"{errors} / ({requests} > 0)"
    yield "model:llm_tokens_per_llm_request:ratio_rate5m", f"{tokens} / ({requests} > 0)"

    buckets = "model:llm_request_duration_seconds_bucket:rate5m"
    durations = f"rate(llm_request_duration_seconds_bucket[{RATE_WINDOW}])"
    yield buckets, f"sum by (job, model, le) ({durations})"
    for name, quantile in QUANTILES.items():
        record = f"model:llm_request_duration_seconds:{name}_rate5m"
        yield record, f"histogram_quantile({quantile}, {buckets})"
    fast = f'{buckets}{{le="{bound(config.thresholds.latency_seconds)}"}}'
    yield (
        "model:llm_slow_request_per_llm_request:ratio_rate5m",
        f'1 - {fast} / ignoring (le) ({buckets}{{le="+Inf"}} > 0)',
    )


def _error_ratios() -> Iterator[tuple[str, str]]:
    """The share of failed requests over each range that burn alerts look at."""
    yield "job:llm_request:rate5m", "sum by (job) (llm:request_rate_5m)"
    for window in BURN_WINDOWS:
        errors = f"sum by (job) (rate(llm_error_total[{window}]))"
        requests = f"sum by (job) (rate(llm_request_total[{window}]))"
        yield f"job:llm_error_per_llm_request:ratio_rate{window}", f"{errors} / ({requests} > 0)"


def _dropped() -> Iterator[tuple[str, str]]:
    """Drops of kernel and queue together; the kernel's are not known on every system."""
    kernel, queue = (
        f"sum by (job, instance) (rate(llmstatsd_{place}_dropped_datagrams_total[{RATE_WINDOW}]))"
        for place in ("kernel", "queue")
    )
    yield DROPPED, f"({kernel} or 0 * {queue}) + {queue}"
