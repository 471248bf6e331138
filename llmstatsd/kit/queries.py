"""Expressions for panels: the variables of a dashboard choose, and Grafana sets the windows.

`$__rate_interval` spans at least four scrapes, `$__range` is what the dashboard shows.
Every expression aggregates by the labels that its legend names, so that labels which a scrape
adds, such as a pod's name, do not split a line.
"""

from collections.abc import Collection
from typing import Final

from llmstatsd.catalog import CATALOG

RATE_INTERVAL: Final = "$__rate_interval"
RANGE: Final = "$__range"

CALL: Final = ("model", "operation")
MODEL: Final = ("model",)
INSTANCE: Final = ()
"""Which variables narrow a series beside job and instance."""

_SAMPLES: Final = ("_bucket", "_count", "_sum")


def chosen(sample: str, only: str = "", narrowed_by: Collection[str] = CALL) -> str:
    """The samples that the variables choose; `only` is one more matcher, such as `mode="idle"`.

    A variable is applied where the series has a label of its name. To compare two series, narrow
    both by the labels that both have.
    """
    has = ("job", "instance", *(label for label in _labels(sample) if label in narrowed_by))
    matchers = [f'{label}=~"${label}"' for label in has]
    return f"{sample}{{{', '.join([*matchers, only] if only else matchers)}}}"


def _labels(sample: str) -> tuple[str, ...]:
    """The documented labels; the daemon's own series have none that a variable stands for."""
    name = sample
    for suffix in _SAMPLES:
        name = name.removesuffix(suffix)
    return CATALOG[name].labels if name in CATALOG else ()


def recorded(record: str) -> str:
    """A recorded series that has lost all labels but the job."""
    return f'max by (job) ({record}{{job=~"$job"}})'


def rate(counter: str, by: str = "", only: str = "", narrowed_by: Collection[str] = CALL) -> str:
    """Per second, added up by labels."""
    return _sum(by, f"rate({chosen(counter, only, narrowed_by)}[{RATE_INTERVAL}])")


def increase(
    counter: str,
    by: str = "",
    window: str = RATE_INTERVAL,
    narrowed_by: Collection[str] = CALL,
) -> str:
    """By how much in a window, added up by labels."""
    return _sum(by, f"increase({chosen(counter, narrowed_by=narrowed_by)}[{window}])")


def total(gauge: str, by: str = "") -> str:
    """Present values, added up by labels."""
    return _sum(by, chosen(gauge))


def most(gauge: str, by: str = "") -> str:
    """The highest present value by labels."""
    return f"{_aggregated('max', by)}({chosen(gauge)})"


def _sum(by: str, vector: str) -> str:
    return f"{_aggregated('sum', by)}({vector})"


def _aggregated(how: str, by: str) -> str:
    return f"{how} by ({by}) " if by else how


def ratio(part: str, whole: str) -> str:
    """A share, missing where there is nothing of the whole, so that a graph has a gap there."""
    return f"{part} / ({whole} > 0)"


def quantile(rank: str, buckets: str) -> str:
    """A quantile of rates or increases by `le`; the comparison drops the NaN of no observations."""
    return f"histogram_quantile({rank}, {buckets}) >= 0"


def p95(histogram: str, by: str = "") -> str:
    """The 95th percentile by labels."""
    return quantile("0.95", rate(f"{histogram}_bucket", f"{by}, le" if by else "le"))


def error_ratio(by: str = "") -> str:
    """The share of requests that fail, by labels.

    Errors do not know their operation, so it must not narrow the requests either.
    """
    return ratio(rate("llm_error_total", by), rate("llm_request_total", by, narrowed_by=MODEL))
