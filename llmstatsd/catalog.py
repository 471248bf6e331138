"""The documented series as data: names, types, labels, buckets, help.

The names, labels and types are a contract with dashboards and alerts: they never change.
Bucket bounds are seconds; 10 stays a boundary of the request series because the documented
latency alert stands on it, and 600 is the time-out that the providers' SDKs use by default.
"""

from dataclasses import dataclass
from typing import Final, Literal

SeriesType = Literal["counter", "gauge", "histogram"]

UNKNOWN: Final = "unknown"
"""The value of a documented label that a line does not carry."""

OTHER: Final = "other"
"""The reserved value that stands for everything over a budget."""

REQUEST_BUCKETS: Final = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0),
    *(15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0),
)
LOAD_BUCKETS: Final = (
    *(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)
FIRST_TOKEN_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0),
)
TOKEN_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
UNDECLARED_BUCKETS: Final = REQUEST_BUCKETS
"""Buckets of a histogram that the catalogue does not know."""

ERROR_TYPES: Final = (
    *("timeout", "connection", "rate_limit", "quota", "auth", "permission", "not_found"),
    *("context_length", "content_filter", "invalid_request", "overloaded", "server_error"),
    *("invalid_response", "cancelled", OTHER),
)
"""The closed set of values of `type` on `llm_error_total`."""


@dataclass(frozen=True, slots=True)
class Documented:
    """One series of the contract.

    `labels` are sorted; `buckets` are the finite upper bounds of a histogram in seconds, else None.
    An `extra` is exposed only once data arrives. `kept_bound` has to stay among the buckets,
    whatever the configuration makes of them, because a documented alert stands on it.
    """

    name: str
    type: SeriesType
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] | None = None
    extra: bool = False
    kept_bound: float | None = None


_MODEL = ("model",)
_CALL = ("model", "operation")

_DOCUMENTED: Final = (
    Documented(
        "llm_request_total", "counter", _CALL, "Finished LLM call attempts, failed ones too."
    ),
    Documented(
        "llm_request_duration_seconds",
        "histogram",
        _CALL,
        "Duration of LLM call attempts as the application saw them.",
        REQUEST_BUCKETS,
        kept_bound=10.0,
    ),
    Documented(
        "llm_tokens_total",
        "counter",
        _MODEL,
        "Tokens by the provider's total: prompt and completion, cached ones included once.",
    ),
    Documented(
        "llm_fallback_total",
        "counter",
        (),
        "Calls that were answered by a fallback model or provider.",
    ),
    Documented(
        "llm_model_load_duration_seconds",
        "histogram",
        _MODEL,
        "Time to load the model before it could answer.",
        LOAD_BUCKETS,
    ),
    Documented(
        "llm_prompt_eval_duration_seconds",
        "histogram",
        _MODEL,
        "Time to evaluate the prompt.",
        FIRST_TOKEN_BUCKETS,
    ),
    Documented(
        "llm_total_duration_seconds",
        "histogram",
        _MODEL,
        "Total duration of a call as the model server reports it.",
        REQUEST_BUCKETS,
    ),
    Documented(
        "llm_error_total", "counter", ("model", "type"), "Failed LLM call attempts by error type."
    ),
    Documented(
        "llm_rate_limit_exceeded_total",
        "counter",
        _MODEL,
        "Call attempts that the provider refused for its rate limit (HTTP 429).",
    ),
    Documented("llm_prompt_tokens_total", "counter", _MODEL, "Prompt tokens.", extra=True),
    Documented("llm_completion_tokens_total", "counter", _MODEL, "Completion tokens.", extra=True),
    Documented(
        "llm_cached_tokens_total",
        "counter",
        _MODEL,
        "Prompt tokens read from the provider's cache.",
        extra=True,
    ),
    Documented(
        "llm_time_to_first_token_seconds",
        "histogram",
        _CALL,
        "Time from the request to the first token of the answer.",
        FIRST_TOKEN_BUCKETS,
        extra=True,
    ),
    Documented(
        "llm_time_per_output_token_seconds",
        "histogram",
        _CALL,
        "Mean time per completion token of a call.",
        TOKEN_BUCKETS,
        extra=True,
    ),
    Documented(
        "llm_cost_dollars_total", "counter", _MODEL, "Cost of calls in US dollars.", extra=True
    ),
)

CATALOG: Final[dict[str, Documented]] = {series.name: series for series in _DOCUMENTED}
"""Every documented series by its exposed name."""
