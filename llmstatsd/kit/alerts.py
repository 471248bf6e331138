"""The alert rules: what each says, when, how urgent it is, and where its runbook is."""

import re
from typing import Final, NamedTuple

from llmstatsd.catalog import CATALOG
from llmstatsd.config import Config
from llmstatsd.kit.promql import JOB, RATE_WINDOW, bound, number
from llmstatsd.kit.recording import DROPPED

GROUP: Final = "llm_alerts"

BURN_FACTORS: Final = {"ErrorBudgetBurnFast": 14.4, "ErrorBudgetBurnSlow": 6.0}
"""How many times too fast the error budget burns when an alert fires.

Google, SRE Workbook, chapter 5: 14.4 takes 2 % of a budget for 30 days in an hour, 6 takes 5 % in
six hours.
"""


STATE_SECONDS: Final = 600.0
"""The least age at which a state file is called old: a disk may be slow for a while."""


class Alert(NamedTuple):
    """`lasting` is how long `expr` has to hold before the alert fires.

    Severity `critical` is worth waking somebody, `warning` is for working hours.
    `description` is a template that shows the labels and the value.
    """

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        """The page's file name: HighErrorRate has `high-error-rate.md`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.name).lower() + ".md"


def alerts(config: Config) -> list[Alert]:
    """Every alert rule in the order of the file."""
    return [
        *_documented(config),
        *_errors(config),
        *_latency(config),
        *_calls(config),
        *_daemon(config),
        *_data(config),
    ]


def _documented(config: Config) -> list[Alert]:
    """The two that are a contract; each speaks of a single series."""
    thresholds = config.thresholds
    return [
        Alert(
            "HighErrorRate",
            f"rate(llm_error_total[{RATE_WINDOW}]) > {number(thresholds.error_rate)}",
            "5m",
            "warning",
            "High LLM error rate",
            "{{ $labels.model }} on {{ $labels.instance }} fails with {{ $labels.type }}"
            ' {{ $value | printf "%.2f" }} times per second.',
        ),
        Alert(
            "HighLatency",
            f"histogram_quantile(0.95, rate(llm_request_duration_seconds_bucket[{RATE_WINDOW}]))"
            f" > {number(thresholds.latency_seconds)}",
            "5m",
            "warning",
            "High LLM latency",
            "One in 20 {{ $labels.operation }} calls of {{ $labels.model }} on"
            " {{ $labels.instance }} takes longer than {{ $value | humanizeDuration }}.",
        ),
    ]


def _enough_requests(config: Config, labels: str, window: str = RATE_WINDOW) -> str:
    """Holds where a window has a minimum of requests: one failed call of two is no outage."""
    most = f"sum by ({labels}) (increase(llm_request_total[{window}]))"
    return f"{most} >= {config.thresholds.minimum_requests}"


def _errors(config: Config) -> list[Alert]:
    ratio = number(config.thresholds.error_ratio)
    return [
        Alert(
            "HighErrorRatio",
            f"model:llm_error_per_llm_request:ratio_rate5m > {ratio}\n"
            f"and on (job, model) {_enough_requests(config, 'job, model')}",
            "5m",
            "warning",
            "High share of failed LLM requests",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} fail.",
        ),
        _burn(config, "ErrorBudgetBurnFast", "1h", "5m", "2m"),
        _burn(config, "ErrorBudgetBurnSlow", "6h", "30m", "15m"),
    ]


def _burn(config: Config, name: str, long: str, short: str, lasting: str) -> Alert:
    """Two windows, so that it fires on a trend and ends soon after it (Google, SRE Workbook, 5)."""
    factor = number(BURN_FACTORS[name])
    ratio = "job:llm_error_per_llm_request:ratio_rate"
    budget = f"{factor} * (1 - {number(config.thresholds.objective_ratio)})"
    return Alert(
        name,
        f"{ratio}{long} > {budget}\n"
        f"and {ratio}{short} > {budget}\n"
        f"and on (job) {_enough_requests(config, 'job', long)}",
        lasting,
        "critical",
        f"The LLM error budget burns {factor} times too fast",
        f"{{{{ $value | humanizePercentage }}}} of all requests failed over {long}, more than"
        f" {factor} times what an objective of"
        f" {config.thresholds.objective_ratio * 100:.15g}% allows.",
    )


def _latency(config: Config) -> list[Alert]:
    thresholds = config.thresholds
    loads = "sum by (job, model, le) (rate(llm_model_load_duration_seconds_bucket[15m]))"
    return [
        Alert(
            "HighModelLatency",
            "model:llm_request_duration_seconds:p95_rate5m"
            f" > {number(thresholds.latency_seconds)}\n"
            f"and on (job, model) {_enough_requests(config, 'job, model')}",
            "5m",
            "warning",
            "A model answers slowly",
            "One in 20 calls of {{ $labels.model }} takes longer than"
            " {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "SlowModelLoad",
            f"histogram_quantile(0.95, {loads}) > {number(thresholds.model_load_seconds)}",
            "5m",
            "warning",
            "A model loads slowly",
            "One in 20 loads of {{ $labels.model }} takes longer than"
            " {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "TopBucketSaturated",
            f"(\n{_saturated(config)}\n) > {number(thresholds.saturated_ratio)}",
            "10m",
            "warning",
            "Durations above the last bucket",
            "{{ $value | humanizePercentage }} of {{ $labels.series }} of {{ $labels.model }} lie"
            " above the last bucket, so that quantiles of it are too low.",
        ),
    ]


def _saturated(config: Config) -> str:
    """The share of observations above the last bound, for every documented histogram.

    A series is subtracted from its own count: an instance with other buckets adds nothing, where a
    ratio of sums would take all of its observations for slow ones.
    """
    shares = []
    for series in CATALOG.values():
        if series.type == "histogram":
            name, last = series.name, bound(config.buckets(series.name)[-1])
            every = f"rate({name}_count[15m])"
            above = f'{every} - ignoring (le) rate({name}_bucket{{le="{last}"}}[15m])'
            share = f"sum by (job, model) ({above}) / (sum by (job, model) ({every}) > 0)"
            shares.append(f'  label_replace({share}, "series", "{name}", "", "")')
    return "\n  or\n".join(shares)


def _calls(config: Config) -> list[Alert]:
    thresholds = config.thresholds
    limited = f"sum by (job, model) (rate(llm_rate_limit_exceeded_total[{RATE_WINDOW}]))"
    fallbacks = f"sum by (job) (rate(llm_fallback_total[{RATE_WINDOW}]))"
    return [
        Alert(
            "RateLimited",
            f"{limited} / (model:llm_request:rate5m > 0)"
            f" > {number(thresholds.rate_limited_ratio)}\n"
            f"and on (job, model) {_enough_requests(config, 'job, model')}",
            "5m",
            "warning",
            "A provider refuses LLM requests for their rate",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} meet its"
            " rate limit.",
        ),
        Alert(
            "FallbackSpike",
            f"{fallbacks} / (job:llm_request:rate5m > 0) > {number(thresholds.fallback_ratio)}\n"
            f"and on (job) {_enough_requests(config, 'job')}",
            "5m",
            "warning",
            "Many LLM requests are answered by a fallback",
            "{{ $value | humanizePercentage }} of all requests are answered by a fallback.",
        ),
        _stopped(thresholds.minimum_requests),
    ]


def _stopped(minimum_requests: int) -> Alert:
    """Fires on silence after traffic, where a daemon is scraped that would have seen some.

    The hour before ends when the ten minutes and the wait of five began, so that it is whole until
    the alert fires.
    """
    return Alert(
        "TrafficStopped",
        f"sum by (job) (increase(llm_request_total[1h] offset 15m)) / 12 >= {minimum_requests}\n"
        "unless on (job) sum by (job) (rate(llm_request_total[10m])) > 0\n"
        "and on (job) max by (job) (max_over_time(up[5m])) == 1",
        "5m",
        "critical",
        "No LLM requests any more",
        "No request for 10 minutes; in the hour before there were {{ $value | humanize }} in five"
        " minutes.",
    )


def _daemon(config: Config) -> list[Alert]:
    slow = number(config.thresholds.scrape_duration_seconds)
    return [
        Alert(
            "LlmstatsdDown",
            f'up{{job="{JOB}"}} == 0',
            "2m",
            "critical",
            "llmstatsd cannot be scraped",
            "Scrapes of {{ $labels.instance }} fail: nothing is seen of what its"
            " applications call.",
        ),
        Alert(
            "LlmstatsdMissing",
            f'absent(up{{job="{JOB}"}})',
            "5m",
            "critical",
            "No llmstatsd is scraped",
            "Prometheus has no target of the job {{ $labels.job }}.",
        ),
        Alert(
            "ScrapeSlow",
            f'avg_over_time(scrape_duration_seconds{{job="{JOB}"}}[5m]) > {slow}',
            "10m",
            "warning",
            "Scrapes of llmstatsd are slow",
            "A scrape of {{ $labels.instance }} takes {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "ConfigReloadFailed",
            "llmstatsd_config_reload_success == 0",
            "5m",
            "warning",
            "llmstatsd failed to load its configuration anew",
            "{{ $labels.instance }} goes on with the configuration of before.",
        ),
        Alert(
            "StateNotWritten",
            _state_not_written(number(_state_seconds(config))),
            "5m",
            "warning",
            "llmstatsd does not write its state file",
            "The state of {{ $labels.instance }} has not been written for"
            " {{ $value | humanizeDuration }}: a crash loses what came since.",
        ),
    ]


def _state_not_written(seconds: str) -> str:
    """Both a daemon without a state and one whose writings all failed say 0 for the last one."""
    written = "llmstatsd_state_last_write_timestamp_seconds"
    return (
        f"time() - ({written} > 0) > {seconds}\n"
        f"or (time() - process_start_time_seconds > {seconds}\n"
        f"  and {written} == 0 and llmstatsd_state_write_failures_total > 0)"
    )


def _state_seconds(config: Config) -> float:
    """How old a state file is when several writings of it have not come about."""
    return max(STATE_SECONDS, 3 * config.state.interval_seconds)


def _data(config: Config) -> list[Alert]:
    thresholds = config.thresholds
    taken = f"sum by (job, instance) (rate(llmstatsd_datagrams_total[{RATE_WINDOW}]))"
    return [
        Alert(
            "DatagramsDropped",
            f"{DROPPED}\n"
            f"/ ({DROPPED} + on (job, instance) {taken} > 0)"
            f" > {number(thresholds.dropped_ratio)}",
            "5m",
            "warning",
            "llmstatsd loses datagrams",
            "{{ $value | humanizePercentage }} of the datagrams to {{ $labels.instance }} are lost"
            " before they are read.",
        ),
        Alert(
            "LinesRefused",
            _share("llmstatsd_refused_lines_total", "reason", "llmstatsd_lines_total", "10m")
            + f" > {number(thresholds.refused_ratio)}",
            "10m",
            "warning",
            "llmstatsd refuses lines",
            "{{ $value | humanizePercentage }} of the lines to {{ $labels.instance }} are refused"
            " as {{ $labels.reason }}.",
        ),
        Alert(
            "CardinalityFolded",
            _share("llmstatsd_folded_samples_total", "series", "llmstatsd_samples_total", "15m")
            + f" > {number(thresholds.folded_ratio)}",
            "15m",
            "warning",
            "Label values are folded into other",
            "{{ $value | humanizePercentage }} of the samples on {{ $labels.instance }} are of"
            " {{ $labels.series }} and folded into other.",
        ),
    ]


def _share(part: str, label: str, whole: str, window: str) -> str:
    """The part by a label, of the whole of an instance."""
    return (
        f"sum by (job, instance, {label}) (rate({part}[{window}]))\n"
        "/ on (job, instance) group_left ()\n"
        f"(sum by (job, instance) (rate({whole}[{window}])) > 0)"
    )
