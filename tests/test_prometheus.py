"""A real Prometheus server scrapes a real daemon."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import RunningDaemon, wait_for
from tests.servers import Prometheus

pytestmark = pytest.mark.usefixtures("each_lane")

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: llm-metrics
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture
def server(daemon: RunningDaemon, prometheus: str, tmp_path: Path) -> Iterator[Prometheus]:
    """A server that scrapes the daemon each second."""
    file = tmp_path / "prometheus.yml"
    file.write_text(CONFIG.format(target=daemon.url.removeprefix("http://")))
    with closing(Prometheus(prometheus, file, tmp_path)) as started:
        yield started


def test_prometheus_stores_what_was_sent(daemon: RunningDaemon, server: Prometheus) -> None:
    daemon.send(
        b"llm_request_total:7|c|#model:gpt-4o,operation:chat",
        b"llm_request_duration_seconds:0.4|h|#model:gpt-4o,operation:chat",
        b"llm_request_duration_seconds:12|h|#model:gpt-4o,operation:chat",
    )
    daemon.wait_for_datagrams(3)
    wait_for("the counter in Prometheus", lambda: server.value("llm_request_total") == 7)
    assert server.value('up{job="llm-metrics"}') == 1
    slow = (
        'llm_request_duration_seconds_count - on() llm_request_duration_seconds_bucket{le="10.0"}'
    )
    assert server.value(slow) == 1
    assert server.value("count(llm_error_total == 0)") == 15


def test_prometheus_takes_a_scrape_that_hostile_values_went_into(
    daemon: RunningDaemon, server: Prometheus
) -> None:
    hostile = "<script>\u202e\u65e5\u672c\"\\'{}%s"
    daemon.send(f"llm_tokens_total:3|c|#model:{hostile}".encode())
    daemon.wait_for_datagrams(1)

    def stored() -> bool:
        return server.values("llm_tokens_total", "model") == {(hostile,): 3.0}

    wait_for("the hostile value in Prometheus", stored)
