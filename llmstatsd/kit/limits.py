"""Where the alerts stand, for the lines and colours of panels."""

from collections.abc import Mapping

from llmstatsd.config import Config
from llmstatsd.kit.alerts import BURN_FACTORS, alerts
from llmstatsd.kit.panels import Limit

Limits = Mapping[str, Limit]
"""By the name of the alert."""


def limits(config: Config) -> Limits:
    """The limits that panels show, each a single number that one alert compares with."""
    thresholds = config.thresholds
    values = {
        "HighErrorRatio": thresholds.error_ratio,
        "HighModelLatency": thresholds.latency_seconds,
        "SlowModelLoad": thresholds.model_load_seconds,
        "RateLimited": thresholds.rate_limited_ratio,
        "FallbackSpike": thresholds.fallback_ratio,
        "DatagramsDropped": thresholds.dropped_ratio,
        "LinesRefused": thresholds.refused_ratio,
        "CardinalityFolded": thresholds.folded_ratio,
        "ScrapeSlow": thresholds.scrape_duration_seconds,
        **BURN_FACTORS,
    }
    folder = config.kit.runbooks_url.rstrip("/")
    pages = {alert.name: f"{folder}/{alert.runbook}" for alert in alerts(config)}
    return {name: Limit(value, name, pages[name]) for name, value in values.items()}
