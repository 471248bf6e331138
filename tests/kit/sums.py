"""What a load adds up to, as the recorded series should have it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Final, NamedTuple

from llmstatsd.catalog import CATALOG, ERROR_TYPES
from tests.kit.traffic import HOUSE_MODEL, MODELS, Call

BUCKETS: Final = CATALOG["llm_request_duration_seconds"].buckets or ()

SECONDS: Final = 300
"""The range of the recorded rates."""

EXTRAPOLATED_LIMIT: Final = 1.3
"""Most that Prometheus makes of an increase by extrapolation, with seconds of data."""

LATENCY_SECONDS: Final = 10

Values = dict[tuple[str, ...], float]


class Recorded(NamedTuple):
    """The labels that tell the values of a recorded series apart, and these values."""

    labels: tuple[str, ...]
    values: Callable[[list[Call]], Values]


def _counted(calls: Iterable[Call], key: Callable[[Call], tuple[str, ...]]) -> Values:
    return dict(Counter(map(key, calls)))


def requests(calls: list[Call]) -> Values:
    """How many there were by model and operation; what is pinned is there without any."""
    none = dict.fromkeys(product(MODELS, ("chat", "generate", "embeddings")), 0.0)
    return none | _counted(calls, lambda call: (call.shown_model, call.operation))


def _errors(calls: list[Call]) -> Values:
    none = dict.fromkeys(product((*MODELS, HOUSE_MODEL), ERROR_TYPES), 0.0)
    failed = [call for call in calls if call.error]
    return none | _counted(failed, lambda call: (call.shown_model, call.error or ""))


def _tokens(calls: list[Call]) -> Values:
    tokens: Counter[tuple[str, ...]] = Counter()
    for call in calls:
        tokens[(call.shown_model,)] += call.tokens
    return dict(tokens)


def _by_model(values: Values) -> Values:
    sums: Values = dict.fromkeys(((model,) for model, *_ in values), 0.0)
    for (model, *_), value in values.items():
        sums[(model,)] += value
    return sums


def _per_request(values: Values, calls: list[Call]) -> Values:
    of_model = _by_model(requests(calls))
    return {key: value / of_model[key] for key, value in values.items()}


def durations(calls: list[Call], model: str) -> list[float]:
    """Of the calls of a model that tell it, in seconds."""
    return [
        call.duration_seconds
        for call in calls
        if call.model == model and call.duration_seconds is not None
    ]


def quantile(of: float, durations: list[float]) -> float:
    """As Prometheus defines it: linear within a bucket, and the last bound beyond it."""
    rank, before, lower = of * len(durations), 0, 0.0
    for bound in BUCKETS:
        below = sum(duration <= bound for duration in durations)
        if below >= rank:
            return lower + (bound - lower) * (rank - before) / (below - before)
        before, lower = below, bound
    return lower


def _quantiles(of: float, calls: list[Call]) -> Values:
    return {(model,): quantile(of, durations(calls, model)) for model in MODELS}


def _in_buckets(calls: list[Call]) -> Values:
    return {
        (model, str(bound).replace("inf", "+Inf")): sum(
            duration <= bound for duration in durations(calls, model)
        )
        for model, bound in product(MODELS, (*BUCKETS, math.inf))
    }


def _slow(calls: list[Call]) -> Values:
    found = {model: durations(calls, model) for model in MODELS}
    return {
        (model,): sum(duration > LATENCY_SECONDS for duration in of_model) / len(of_model)
        for model, of_model in found.items()
    }


def _failed_ratio(calls: list[Call]) -> Values:
    return {("llm-metrics",): sum(call.error is not None for call in calls) / len(calls)}


RATES: Final[dict[str, Recorded]] = {
    "llm:request_rate_5m": Recorded(("model", "operation"), requests),
    "llm:error_rate_5m": Recorded(("model", "type"), _errors),
    "llm:token_rate_5m": Recorded(("model",), _tokens),
    "model:llm_request:rate5m": Recorded(("model",), lambda calls: _by_model(requests(calls))),
    "model:llm_error:rate5m": Recorded(("model",), lambda calls: _by_model(_errors(calls))),
    "model:llm_tokens:rate5m": Recorded(("model",), _tokens),
    "model:llm_request_duration_seconds_bucket:rate5m": Recorded(("model", "le"), _in_buckets),
    "job:llm_request:rate5m": Recorded(("job",), lambda calls: {("llm-metrics",): len(calls)}),
}
"""By recorded rate: its labels, and the increase that was sent."""

FIGURES: Final[dict[str, Recorded]] = {
    "model:llm_error_per_llm_request:ratio_rate5m": Recorded(
        ("model",),
        lambda calls: _per_request(_by_model(_errors(calls)), calls),
    ),
    "model:llm_tokens_per_llm_request:ratio_rate5m": Recorded(
        ("model",),
        lambda calls: _per_request(_tokens(calls), calls),
    ),
    "model:llm_slow_request_per_llm_request:ratio_rate5m": Recorded(("model",), _slow),
    **{
        f"model:llm_request_duration_seconds:{name}_rate5m": Recorded(
            ("model",),
            partial(_quantiles, of),
        )
        for name, of in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    },
    **{
        f"job:llm_error_per_llm_request:ratio_rate{window}": Recorded(("job",), _failed_ratio)
        for window in ("5m", "30m", "1h", "6h")
    },
}
"""By recorded ratio or quantile: its labels, and its value by what was sent."""
