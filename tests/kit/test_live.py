"""The kit runs: a daemon under load, Prometheus, Alertmanager, and every expression asked.

Rates are those of five minutes of which only seconds have data, and Prometheus extrapolates the
increase to the moment of the evaluation. All series begin at 0 with the first scrape, so that it is
one and the same factor for all of them: ratios and quantiles are exact.
"""

import re
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from llmstatsd.config import Config
from llmstatsd.kit.recording import recording_rules
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, wait_for
from tests.kit import copies
from tests.kit.asking import complaints, has_data
from tests.kit.conftest import Site, address, send
from tests.kit.listed import ALERTS, CHOICES, RECORDS, SHOWN, Expression
from tests.kit.sums import EXTRAPOLATED_LIMIT, FIGURES, RATES, SECONDS, durations, quantile
from tests.kit.traffic import (
    FAILING,
    LOCAL,
    RATE_LIMITED,
    SLOW,
    Call,
    healthy,
    outage,
)
from tests.servers import Alertmanager, Prometheus


class Running(NamedTuple):
    """What runs, and the calls that were sent."""

    daemon: RunningDaemon
    prometheus: Prometheus
    alertmanager: Alertmanager
    calls: list[Call]


class Quiet(NamedTuple):
    """What Prometheus said under a healthy load."""

    alerts: list[dict[str, Any]]
    ever_fired: set[str]


@pytest.fixture(scope="module")
def running(site: Site) -> Running:
    """Everything is up and scraped, and has seen no call yet."""
    daemon, alertmanager = site.start_daemon(), site.start_alertmanager()
    addresses = {copies.DAEMON: address(daemon), copies.ALERTMANAGER: alertmanager.address}
    prometheus = site.start_prometheus("prometheus.yml", addresses, 1)
    return Running(daemon, prometheus, alertmanager, [])


def _settle(running: Running) -> None:
    """Wait until Prometheus has all calls, and alerts have had the time to fire."""
    count = len(running.calls)
    wait_for("the requests", lambda: running.prometheus.value("sum(llm_request_total)") == count)
    running.prometheus.wait_for_evaluations(copies.FOR_SECONDS)


@pytest.fixture(scope="module")
def quiet(running: Running) -> Quiet:
    """Seen under the healthy load; `LlmstatsdMissing` is true before the first scrape."""
    load = healthy()
    send(running.daemon, load.datagrams())
    running.calls.extend(load.calls)
    _settle(running)
    fired = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[5m]))'
    ever_fired = {name for (name,) in running.prometheus.values(fired, "alertname")}
    alerts = running.prometheus.data("alerts")["alerts"]
    return Quiet(alerts, ever_fired - {"LlmstatsdMissing"})


@pytest.fixture(scope="module")
def live(running: Running, quiet: Quiet) -> Running:
    """After the outage."""
    load = outage()
    send(running.daemon, load.datagrams())
    running.calls.extend(load.calls)
    _settle(running)
    return running


def test_the_copy_differs_in_intervals_and_addresses_alone(
    live: Running, kit: Path, site: Site
) -> None:
    scraping = {
        "global.scrape_interval",
        "global.evaluation_interval",
        "scrape_configs.0.scrape_interval",
        "alerting.alertmanagers.0.static_configs.0.targets.0",
    }
    target = {"scrape_configs.0.static_configs.0.targets.0"}
    rules = yaml.safe_load((kit / "prometheus" / "alert-rules.yml").read_text())["groups"][0]
    assert copies.differences(kit, site.kit) == {
        "prometheus/prometheus.yml": scraping | target,
        "prometheus/prometheus-remote-write.yml": scraping | target,
        "prometheus/prometheus-many-hosts.yml": scraping,
        "prometheus/targets/hosts.yml": {"0.targets.0"},
        "prometheus/alert-rules.yml": {
            f"groups.0.rules.{number}.for" for number in range(len(rules["rules"]))
        },
    }


def test_the_target_is_up_as_the_job_of_the_kit(live: Running) -> None:
    instance = address(live.daemon)
    assert live.prometheus.values("up", "job", "instance") == {("llm-metrics", instance): 1}
    (target,) = live.prometheus.data("targets")["activeTargets"]
    assert target["scrapeUrl"] == f"http://{instance}/metrics"


# What is recorded


NOTHING_DROPPED: Final = "instance:llmstatsd_dropped_datagrams:rate5m"


def test_every_recorded_series_is_compared_with_what_was_sent() -> None:
    records = {rule.record for rule in recording_rules(Config())}
    assert records == RATES.keys() | FIGURES.keys() | {NOTHING_DROPPED}


@pytest.mark.parametrize("record", RATES)
def test_a_recorded_rate_agrees_with_what_was_sent(live: Running, record: str) -> None:
    rates = live.prometheus.values(record, *RATES[record].labels)
    sent = RATES[record].values(live.calls)
    extrapolated = sum(rates.values()) * SECONDS / sum(sent.values())
    assert 1 - 1e-9 <= extrapolated <= EXTRAPOLATED_LIMIT
    expected = {key: value * extrapolated / SECONDS for key, value in sent.items()}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("record", FIGURES)
def test_a_recorded_ratio_or_quantile_is_that_of_what_was_sent(live: Running, record: str) -> None:
    found = live.prometheus.values(record, *FIGURES[record].labels)
    assert found == pytest.approx(FIGURES[record].values(live.calls))


def test_no_datagram_was_dropped(live: Running) -> None:
    dropped = live.prometheus.values(NOTHING_DROPPED, "instance")
    assert dropped == {(address(live.daemon),): 0}


# What fires


def _about(alert: dict[str, Any]) -> tuple[str, ...]:
    """The name of an alert, and what tells it apart from others of that name."""
    labels = {**alert["labels"]}
    name = labels.pop("alertname")
    return (name, *(labels[key] for key in sorted(labels.keys() - {"job", "instance", "severity"})))


FIRING: Final = {
    ("HighErrorRate", FAILING, "server_error"),
    ("HighLatency", SLOW, "chat"),
    ("HighErrorRatio", FAILING),
    ("HighErrorRatio", RATE_LIMITED),
    ("ErrorBudgetBurnFast",),
    ("ErrorBudgetBurnSlow",),
    ("HighModelLatency", SLOW),
    ("SlowModelLoad", LOCAL),
    ("TopBucketSaturated", SLOW, "llm_request_duration_seconds"),
    ("RateLimited", RATE_LIMITED),
    ("FallbackSpike",),
    ("LinesRefused", "not_finite"),
    ("CardinalityFolded", "llm_request_total"),
    ("CardinalityFolded", "llm_tokens_total"),
}


def test_no_alert_fires_under_a_healthy_load(quiet: Quiet) -> None:
    assert quiet == ([], set())


def test_the_alerts_of_an_outage_fire_for_what_is_wrong_and_for_nothing_else(
    live: Running,
) -> None:
    assert {_about(alert) for alert in live.prometheus.firing()} == FIRING


def test_a_fired_alert_reaches_alertmanager_as_it_is(live: Running) -> None:
    def received() -> bool:
        return {_about(alert) for alert in live.alertmanager.alerts()} == FIRING

    wait_for("the alerts in Alertmanager", received)
    texts = {_about(alert): alert["annotations"] for alert in live.prometheus.firing()}
    for alert in live.alertmanager.alerts():
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert alert["annotations"].keys() == texts[_about(alert)].keys()
        assert re.search(r"\d", alert["annotations"]["description"])
        assert not re.search("<no value>|{{|NaN", str(alert["annotations"]))


def test_the_texts_of_an_alert_name_what_is_wrong_and_how_much(live: Running) -> None:
    received = {_about(alert): alert for alert in live.prometheus.firing()}
    failing = received["HighErrorRate", FAILING, "server_error"]
    assert failing["labels"]["severity"] == "warning"
    assert failing["annotations"]["summary"] == "High LLM error rate"
    assert failing["annotations"]["runbook_url"].endswith("/high-error-rate.md")
    instance = address(live.daemon)
    said = re.fullmatch(
        rf"{FAILING} on {instance} fails with server_error (0\.\d\d) times per second\.",
        failing["annotations"]["description"],
    )
    assert said
    assert 200 / SECONDS - 0.01 < float(said[1]) < 200 / SECONDS * EXTRAPOLATED_LIMIT
    slow = received["HighLatency", SLOW, "chat"]["annotations"]
    seconds = quantile(0.95, durations(live.calls, SLOW))
    assert slow["description"] == (
        f"One in 20 chat calls of {SLOW} on {instance} takes longer than {seconds:.4g}s."
    )


def test_the_fast_burn_inhibits_the_slow_one_and_nothing_else(live: Running) -> None:
    def status() -> dict[tuple[str, ...], list[str]]:
        found = live.alertmanager.alerts()
        fingerprints = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in found}
        return {
            _about(alert): [fingerprints[cause] for cause in alert["status"]["inhibitedBy"]]
            for alert in found
        }

    wait_for("the alerts in Alertmanager", lambda: status().keys() == FIRING)
    inhibited = {about: causes for about, causes in status().items() if causes}
    assert inhibited == {("ErrorBudgetBurnSlow",): ["ErrorBudgetBurnFast"]}


# Every expression


def _where(expression: Expression) -> str:
    return expression.where


def test_every_kind_of_expression_is_found() -> None:
    assert min(map(len, (ALERTS, RECORDS, SHOWN, CHOICES))) > 0


@pytest.mark.parametrize("expression", RECORDS + SHOWN, ids=_where)
def test_an_expression_has_data(live: Running, expression: Expression) -> None:
    found = live.prometheus.query(expression.text)
    assert has_data(found), f"{expression.where}: no data: {expression.text}"


@pytest.mark.parametrize("expression", RECORDS + ALERTS + SHOWN, ids=_where)
def test_each_part_of_an_expression_has_data(live: Running, expression: Expression) -> None:
    found = complaints(live.prometheus, expression.text)
    assert found == [], f"{expression.where}: {found}"


@pytest.mark.parametrize("expression", CHOICES, ids=_where)
def test_a_variable_has_values_to_choose_from(live: Running, expression: Expression) -> None:
    query = re.fullmatch(r"label_values\((.*), (\w+)\)", expression.text)
    assert query, expression.text
    values = live.prometheus.data(f"label/{query[2]}/values", **{"match[]": query[1]})
    assert values, f"{expression.where}: no values: {expression.text}"


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate(llm_eror_total[5m]) > 0.1", "no data: llm_eror_total"),
        ('llm_request_duration_seconds_bucket{le="10"} > 5', "no data: llm_request_duration_sec"),
        ('llm_error_total{modle!="a"} > 5', "no label modle: llm_error_total"),
        ("sum by (job, modle) (llm_error_total)", "no label modle: llm_error_total"),
        ("count without (modle) (llm_error_total)", "no label modle: llm_error_total"),
        ("absent(upp)", "no data: upp"),
        ('up{job="llm-metric"} == 0', 'no data: up{job="llm-metric"}'),
        ("llm_error_total > 5 or llm_eror_total > 5", "no data: llm_eror_total"),
        ("up unless on (jobb) llm_fallback_total", "no label jobb: up"),
        ("up unless on (model) llm_fallback_total", "no label model: up"),
        ("llm_tokens_total / llm_request_total > 5", "no data: llm_tokens_total / llm_request"),
        ("up > 1 unless llm_tokens_total offset 1h", "no data: up > bool 1 and llm_tokens"),
        ("llm_tokens_total / ignoring (le) llm_tokens_total", "no label le: llm_tokens_total or"),
        ("histogram_quantile(0.9, sum by (job) (llm_request_duration_seconds_bucket))", "no data"),
        ("llm_error_total / on (model) llm_tokens_total > 1", "multiple matches for labels"),
        ("up * on () group_left (modle) count(up)", "no label modle: count(up)"),
        ('llm_error_total{type=~"timeout|quotta"}', 'no data: llm_error_total{type=~"quotta"}'),
        ("rate(llm_error_total)", "parse error"),
        ("llm_error_total @ 5", "'@' is left of"),
    ],
)
def test_a_part_without_data_is_found(live: Running, expression: str, complaint: str) -> None:
    found = complaints(live.prometheus, expression)
    assert any(complaint in said for said in found), found


def test_promtool_finds_nothing_to_complain_about_on_the_live_page(
    live: Running, promtool: str
) -> None:
    page = live.daemon.scrape()
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert {"llm_cost_dollars_total", "jobs_done_total", "llmstatsd_gpu_info"} <= set(
        re.findall(r"(?m)^# TYPE (\w+)", page)
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
