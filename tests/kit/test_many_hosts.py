"""One Prometheus over several hosts: what it adds up, what stays apart, and who is down."""

import re
import socket
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from llmstatsd import config
from tests.conftest import DEADLINE_SECONDS, wait_for
from tests.kit import copies
from tests.kit.asking import complaints, has_data
from tests.kit.conftest import Site, address, send
from tests.kit.sums import (
    EXTRAPOLATED_LIMIT,
    FIGURES,
    RATES,
    SECONDS,
    durations,
    quantile,
    requests,
)
from tests.kit.traffic import FAILING, SLOW, Call, healthy, outage
from tests.servers import Alertmanager, Prometheus

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "many-hosts.md"

APART: Final = 0.15
"""Most by which the extrapolation of two hosts' increases differs, which moves their ratios."""


class Hosts(NamedTuple):
    """Two hosts with a daemon each, and their calls by instance; `down` is a third one."""

    prometheus: Prometheus
    alertmanager: Alertmanager
    calls: dict[str, list[Call]]
    down: str

    @property
    def all_calls(self) -> list[Call]:
        """Of both hosts."""
        return [call for calls in self.calls.values() for call in calls]


@pytest.fixture(scope="module")
def down() -> Iterator[str]:
    """An address that nothing else can take, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def hosts(site: Site, down: str) -> Hosts:
    """One host had a healthy load, the other an outage, and Prometheus has seen it all."""
    daemons = [site.start_daemon(), site.start_daemon()]
    loads = [healthy(), outage()]
    instances = [address(daemon) for daemon in daemons]
    alertmanager = site.start_alertmanager()
    addresses: dict[str, str | list[str]] = {
        copies.DAEMON: [*instances, down],
        copies.ALERTMANAGER: alertmanager.address,
    }
    prometheus = site.start_prometheus("prometheus-many-hosts.yml", addresses, len(daemons))
    for daemon, load in zip(daemons, loads, strict=True):
        send(daemon, load.datagrams())
    calls = {instance: load.calls for instance, load in zip(instances, loads, strict=True)}
    hosts = Hosts(prometheus, alertmanager, calls, down)
    count = len(hosts.all_calls)
    wait_for("the requests", lambda: prometheus.value("sum(llm_request_total)") == count)
    prometheus.wait_for_evaluations(copies.FOR_SECONDS)
    return hosts


def test_the_copy_differs_in_intervals_and_addresses_alone(
    hosts: Hosts, kit: Path, site: Site
) -> None:
    found = copies.differences(kit, site.kit)
    assert found["prometheus/targets/hosts.yml"] == {f"0.targets.{n}" for n in range(3)}
    assert found["prometheus/prometheus-many-hosts.yml"] == {
        "global.scrape_interval",
        "global.evaluation_interval",
        "scrape_configs.0.scrape_interval",
        "alerting.alertmanagers.0.static_configs.0.targets.0",
    }


def test_the_hosts_are_targets_of_one_job_with_the_labels_of_their_file(hosts: Hosts) -> None:
    up = hosts.prometheus.values("up", "job", "environment", "instance")
    instances = dict.fromkeys(hosts.calls, 1.0) | {hosts.down: 0.0}
    assert up == {("llm-metrics", "production", name): is_up for name, is_up in instances.items()}


def test_counters_of_two_hosts_add_up(hosts: Hosts) -> None:
    found = hosts.prometheus.values(
        "sum by (model, operation) (llm_request_total)", "model", "operation"
    )
    assert found == requests(hosts.all_calls)


def test_counters_of_each_host_stay_its_own(hosts: Hosts) -> None:
    found = hosts.prometheus.values("sum by (instance) (llm_request_total)", "instance")
    assert found == {(instance,): len(calls) for instance, calls in hosts.calls.items()}


def test_a_ratio_is_that_of_all_requests_together(hosts: Hosts) -> None:
    found = hosts.prometheus.value("sum(llm_error_total) / sum(llm_request_total)")
    failed = [call for call in hosts.all_calls if call.error]
    assert found == len(failed) / len(hosts.all_calls)


def test_a_quantile_of_summed_buckets_is_that_of_all_calls_and_no_mean_of_quantiles(
    hosts: Hosts,
) -> None:
    buckets = f'llm_request_duration_seconds_bucket{{model="{SLOW}", operation="chat"}}'
    together = hosts.prometheus.value(f"histogram_quantile(0.5, sum by (le) ({buckets}))")
    assert together == pytest.approx(quantile(0.5, durations(hosts.all_calls, SLOW)))
    apart = hosts.prometheus.values(f"histogram_quantile(0.5, {buckets})", "instance").values()
    expected = [quantile(0.5, durations(calls, SLOW)) for calls in hosts.calls.values()]
    assert sorted(apart) == pytest.approx(sorted(expected))
    assert together
    assert statistics.mean(apart) > 2 * together


@pytest.mark.parametrize("record", [record for record in RATES if not record.startswith("llm:")])
def test_a_recorded_rate_is_that_of_both_hosts(hosts: Hosts, record: str) -> None:
    found = hosts.prometheus.values(record, *RATES[record].labels)
    sent = RATES[record].values(hosts.all_calls)
    assert found.keys() == sent.keys()
    for key, increase in sent.items():
        assert increase <= found[key] * SECONDS * (1 + 1e-9) <= increase * EXTRAPOLATED_LIMIT + 1e-9


@pytest.mark.parametrize("record", FIGURES)
def test_a_recorded_ratio_or_quantile_is_over_both_hosts(hosts: Hosts, record: str) -> None:
    found = hosts.prometheus.values(record, *FIGURES[record].labels)
    assert found == pytest.approx(FIGURES[record].values(hosts.all_calls), rel=APART)


def test_the_documented_rates_are_those_of_each_host(hosts: Hosts) -> None:
    found = hosts.prometheus.values("sum by (instance) (llm:request_rate_5m)", "instance")
    for instance, calls in hosts.calls.items():
        extrapolated = found[instance,] * SECONDS / len(calls)
        assert 1 - 1e-9 <= extrapolated <= EXTRAPOLATED_LIMIT


def test_the_alert_names_the_host_that_is_down_and_no_other(hosts: Hosts) -> None:
    def received() -> list[dict[str, Any]]:
        alerts = hosts.alertmanager.alerts()
        return [alert for alert in alerts if alert["labels"]["alertname"] == "LlmstatsdDown"]

    wait_for("the alert in Alertmanager", received)
    assert [alert["labels"]["instance"] for alert in received()] == [hosts.down]
    (alert,) = received()
    assert alert["labels"]["environment"] == "production"
    assert alert["labels"]["severity"] == "critical"


def test_an_alert_on_a_series_names_the_host_it_is_about(hosts: Hosts) -> None:
    _, failing = hosts.calls
    alerts = [alert["labels"] for alert in hosts.prometheus.firing()]
    found = {
        (labels["instance"], labels["model"])
        for labels in alerts
        if labels["alertname"] == "HighErrorRate"
    }
    assert found == {(failing, FAILING)}


# What the page says


def _blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE.read_text())


def _first_line(text: str) -> str:
    return text.splitlines()[0]


@pytest.mark.parametrize("expression", _blocks("promql"), ids=_first_line)
def test_an_expression_of_the_page_has_data(hosts: Hosts, expression: str) -> None:
    assert has_data(hosts.prometheus.query(expression)), expression
    assert complaints(hosts.prometheus, expression) == []


@pytest.mark.parametrize("text", _blocks("yaml"), ids=_first_line)
def test_a_configuration_of_the_page_is_valid(text: str, tmp_path: Path, promtool: str) -> None:
    file = tmp_path / "prometheus.yml"
    if isinstance(yaml.safe_load(text), list):
        (tmp_path / "hosts.yml").write_text(text)
        text = "{scrape_configs: [{job_name: a, file_sd_configs: [{files: [hosts.yml]}]}]}"
    file.write_text(text)
    checked = subprocess.run(
        [promtool, "check", "config", file],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("text", _blocks("toml"), ids=_first_line)
def test_a_configuration_of_the_daemon_on_the_page_is_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text(text)
    assert config.load(file, {}, {}).http.listen == "10.0.0.11:2112"


def test_victoria_metrics_has_the_flags_of_the_page(victoria_metrics: str) -> None:
    text = subprocess.run(
        [victoria_metrics, "-help"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    known = set(re.findall(r"(?m)^  (-\S+)", text.stdout + text.stderr))
    (command,) = [block for block in _blocks("sh") if block.startswith("victoria-metrics ")]
    used = {word.partition("=")[0] for word in command.split()[1:]}
    assert used | {"-dedup.minScrapeInterval"} <= known


def test_the_mean_of_quantiles_on_the_page_is_what_the_page_says() -> None:
    assert quantile(0.95, [1.0] * 99 + [60.0]) == pytest.approx(1, abs=0.05)
