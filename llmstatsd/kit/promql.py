"""Names and expressions that more than one document of the kit needs."""

from typing import Final

from prometheus_client.utils import floatToGoString

JOB: Final = "llm-metrics"
"""The job that scrapes llmstatsd: the label `job` of all its series."""

SCRAPE_INTERVAL: Final = "15s"

RATE_WINDOW: Final = "5m"
"""Range of the recorded rates: twenty scrapes, so that a few failed ones do not show."""


def bound(seconds: float) -> str:
    """A bucket's `le` as the daemon exposes it: `10.0`."""
    return str(floatToGoString(seconds))  # type: ignore[no-untyped-call]


def number(value: float) -> str:
    """A threshold as it is written in an expression: `10`, `0.05`."""
    return f"{value:.15g}"
