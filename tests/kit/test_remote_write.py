"""What Prometheus scrapes and records arrives in VictoriaMetrics by remote write."""

from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.conftest import wait_for
from tests.kit import copies
from tests.kit.conftest import Site, address, send
from tests.kit.traffic import healthy
from tests.servers import Prometheus, PrometheusApi, VictoriaMetrics

SITE: Final = {"cluster": "main", "replica": "a"}
"""The external labels of the kit."""

Series = dict[frozenset[tuple[str, str]], float]


class Sending(NamedTuple):
    """A Prometheus that sends on what it has, and the Unix time of an evaluation of its rules."""

    prometheus: Prometheus
    store: VictoriaMetrics
    evaluated: float


@pytest.fixture(scope="module")
def sending(site: Site) -> Sending:
    """Rules have been evaluated on a healthy load."""
    daemon, alertmanager = site.start_daemon(), site.start_alertmanager()
    store = site.start_victoria_metrics()
    addresses = {
        copies.DAEMON: address(daemon),
        copies.ALERTMANAGER: alertmanager.address,
        copies.VICTORIA_METRICS: store.address,
    }
    prometheus = site.start_prometheus("prometheus-remote-write.yml", addresses, 1)
    load = healthy()
    send(daemon, load.datagrams())
    count = len(load.calls)
    wait_for("the requests", lambda: prometheus.value("sum(llm_request_total)") == count)
    prometheus.wait_for_evaluations()
    evaluated = prometheus.value("max(timestamp(model:llm_request:rate5m))")
    assert evaluated
    return Sending(prometheus, store, evaluated)


def series(server: PrometheusApi, selector: str, at: float, **added: str) -> Series:
    """The series of a selector at a time, with labels added."""
    return {
        frozenset({**sample.labels, **added}.items()): sample.value
        for sample in server.query(selector, at)
    }


def test_the_copy_differs_in_intervals_and_addresses_alone(
    sending: Sending, kit: Path, site: Site
) -> None:
    assert copies.differences(kit, site.kit)["prometheus/prometheus-remote-write.yml"] == {
        "global.scrape_interval",
        "global.evaluation_interval",
        "scrape_configs.0.scrape_interval",
        "scrape_configs.0.static_configs.0.targets.0",
        "alerting.alertmanagers.0.static_configs.0.targets.0",
        "remote_write.0.url",
    }


@pytest.mark.parametrize(
    "selector",
    [
        "llm_request_total",
        "llm_request_duration_seconds_bucket",
        '{__name__=~"llm:.+|model:.+|job:.+|instance:.+"}',
        'up{job="llm-metrics"}',
    ],
)
def test_the_store_has_the_series_of_prometheus_with_the_external_labels(
    sending: Sending, selector: str
) -> None:
    sent = series(sending.prometheus, selector, sending.evaluated, **SITE)
    assert sent

    def stored() -> bool:
        return series(sending.store, selector, sending.evaluated) == pytest.approx(sent)

    wait_for(f"{selector} in the store", stored)


@pytest.mark.parametrize(
    "expression",
    [
        "sum by (model) (llm_request_total)",
        "histogram_quantile(0.95, sum by (model, le) (llm_request_duration_seconds_bucket)) >= 0",
        "sum by (model) (model:llm_error:rate5m) / sum by (model) (model:llm_request:rate5m)",
    ],
)
def test_the_store_answers_an_expression_as_prometheus_does(
    sending: Sending, expression: str
) -> None:
    expected = series(sending.prometheus, expression, sending.evaluated)
    assert expected

    def same() -> bool:
        return series(sending.store, expression, sending.evaluated) == pytest.approx(expected)

    wait_for(f"{expression} of the store", same)
