"""Panels on what fails: of what, with which model, and how much of it is allowed."""

from typing import Final

from llmstatsd.config import Config
from llmstatsd.kit.frame import PERFORMANCE, panel_link
from llmstatsd.kit.limits import Limits
from llmstatsd.kit.panels import (
    AREAS,
    BARS,
    Column,
    Limit,
    Panel,
    Target,
    graph,
    stat,
    table,
)
from llmstatsd.kit.promql import number
from llmstatsd.kit.queries import (
    INSTANCE,
    MODEL,
    RANGE,
    error_ratio,
    increase,
    quantile,
    rate,
    ratio,
    recorded,
)
from llmstatsd.kit.recording import BURN_WINDOWS

_BURN: Final = "job:llm_error_per_llm_request:ratio_rate"

_NO_RULES: Final = "Prometheus does not load recording-rules.yml"


def at_a_glance(config: Config, limits: Limits) -> list[Panel]:
    """How bad is it, and does anybody know."""
    return [
        stat(
            "Error ratio",
            "Share of the requests that fail.",
            error_ratio(),
            unit="percentunit",
            limits=[limits["HighErrorRatio"]],
            width=4,
        ),
        stat(
            "Errors per second",
            "Failed attempts.",
            rate("llm_error_total"),
            unit="reqps",
            width=4,
        ),
        stat(
            "Rate limited",
            "Share of the requests that the provider refuses for their rate.",
            _rate_limited(),
            unit="percentunit",
            limits=[limits["RateLimited"]],
            width=4,
        ),
        stat(
            "Fallbacks",
            "Share of the requests to any model that a fallback answers.",
            _fallback_share(),
            unit="percentunit",
            limits=[limits["FallbackSpike"]],
            width=4,
        ),
        stat(
            "Budget burn over 1 h",
            _says_objective(config),
            f"max({_burn(config, '1h')})",
            unit="none",
            limits=[limits["ErrorBudgetBurnSlow"], limits["ErrorBudgetBurnFast"]],
            missing=_NO_RULES,
            width=4,
        ),
        stat(
            "Firing alerts",
            "Alerts of the job that fire now; red lines in the graphs are when they did.",
            'count(ALERTS{alertstate="firing", job=~"$job"}) or vector(0)',
            unit="none",
            limits=[Limit(1, "any alert", config.kit.runbooks_url)],
            width=4,
        ),
    ]


def errors(limits: Limits) -> list[Panel]:
    """Of what it fails, and whether one model or one host is to blame."""
    return [
        graph(
            "Error Rate by type",
            "Failed attempts per second: what is wrong.",
            Target(rate("llm_error_total", "type"), "{{type}}"),
            unit="reqps",
            style=BARS,
        ),
        graph(
            "Error ratio by model",
            "Share of a model's requests that fail: whether one model is to blame.",
            Target(error_ratio("model"), "{{model}}"),
            unit="percentunit",
            limits=[limits["HighErrorRatio"]],
        ),
        _worst_models(limits),
        graph(
            "Error rate by model",
            "Failed attempts per second by model.",
            Target(rate("llm_error_total", "model"), "{{model}}"),
            unit="reqps",
            style=BARS,
        ),
        graph(
            "Error ratio by instance",
            "Share of a host's requests that fail: whether one host is to blame.",
            Target(error_ratio("instance"), "{{instance}}"),
            unit="percentunit",
            limits=[limits["HighErrorRatio"]],
        ),
    ]


def _worst_models(limits: Limits) -> Panel:
    requests = increase("llm_request_total", "model", RANGE, narrowed_by=MODEL)
    failed = increase("llm_error_total", "model", RANGE)
    refused = increase("llm_rate_limit_exceeded_total", "model", RANGE)
    durations = increase(
        "llm_request_duration_seconds_bucket", "model, le", RANGE, narrowed_by=MODEL
    )
    return table(
        "Worst models",
        "Models over the whole time range and every operation, most errors first.",
        "model",
        Column("Requests", requests, "locale", decimals=0),
        Column("Errors", failed, "locale", decimals=0),
        Column("Error ratio", ratio(failed, requests), "percentunit", limits["HighErrorRatio"]),
        Column("Rate limited", ratio(refused, requests), "percentunit", limits["RateLimited"]),
        Column("p95", quantile("0.95", durations), "s", limits["HighModelLatency"]),
        sorted_by="Errors",
        link=panel_link(
            PERFORMANCE,
            "Performance of this model",
            "var-model=${__data.fields.Model:percentencode}"
            "&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}",
        ),
    )


def fallbacks(limits: Limits) -> list[Panel]:
    """What applications and providers do when there is too much or too little."""
    return [
        graph(
            "Fallback Rate",
            "Calls per second that a fallback model or provider answered, by host.",
            Target(rate("llm_fallback_total", "instance"), "{{instance}}"),
            unit="reqps",
            style=AREAS,
        ),
        graph(
            "Fallback share",
            "Share of the requests to any model that a fallback answers.",
            Target(_fallback_share(), "fallbacks"),
            unit="percentunit",
            limits=[limits["FallbackSpike"]],
        ),
        graph(
            "Rate limits",
            "Attempts per second that the provider refused for their rate (HTTP 429), by model.",
            Target(rate("llm_rate_limit_exceeded_total", "model"), "{{model}}"),
            unit="reqps",
            style=BARS,
        ),
        graph(
            "Rate limited share",
            "Share of a model's requests that the provider refuses for their rate.",
            Target(_rate_limited("model"), "{{model}}"),
            unit="percentunit",
            limits=[limits["RateLimited"]],
        ),
    ]


def budget(config: Config, limits: Limits) -> list[Panel]:
    """Whether the errors are more than the objective allows, and whether traffic explains them."""
    return [
        graph(
            "Budget burn",
            f"{_says_objective(config)} An alert fires when two windows are above its line:"
            " 1 h and 5 m, or 6 h and 30 m.",
            *(
                Target(_burn(config, window), f"{{{{job}}}} over {window}")
                for window in BURN_WINDOWS
            ),
            unit="none",
            axis="times too fast",
            limits=[limits["ErrorBudgetBurnSlow"], limits["ErrorBudgetBurnFast"]],
            missing=_NO_RULES,
        ),
        graph(
            "Requests by operation",
            "Finished attempts per second: whether there is more to fail than usual.",
            Target(rate("llm_request_total", "operation"), "{{operation}}"),
            unit="reqps",
            style=AREAS,
        ),
    ]


def _rate_limited(by: str = "") -> str:
    return ratio(
        rate("llm_rate_limit_exceeded_total", by),
        rate("llm_request_total", by, narrowed_by=MODEL),
    )


def _fallback_share() -> str:
    return ratio(rate("llm_fallback_total"), rate("llm_request_total", narrowed_by=INSTANCE))


def _burn(config: Config, window: str) -> str:
    return f"{recorded(_BURN + window)} / (1 - {number(config.thresholds.objective_ratio)})"


def _says_objective(config: Config) -> str:
    objective = config.thresholds.objective_ratio * 100
    return (
        "How many times too fast the error budget is used up: at 1, just"
        f" {objective:.15g} % of the requests succeed. Of every model and instance."
    )
