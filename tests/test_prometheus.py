"""A real Prometheus server scrapes a real daemon."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import DEADLINE_SECONDS, RunningDaemon, wait_for

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: llm-metrics
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture
def prometheus_url(daemon: RunningDaemon, prometheus: str, tmp_path: Path) -> Iterator[str]:
    """A server on loopback that scrapes the daemon each second."""
    file = tmp_path / "prometheus.yml"
    file.write_text(CONFIG.format(target=daemon.url.removeprefix("http://")))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        prometheus,
        f"--config.file={file}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(DEADLINE_SECONDS)


def query(url: str, expression: str) -> list[tuple[dict[str, str], float]]:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expression})
    except httpx.TransportError:
        return []
    if answer.status_code != 200:
        return []
    result = json.loads(answer.text)["data"]["result"]
    return [(series["metric"], float(series["value"][1])) for series in result]


def test_prometheus_stores_what_was_sent(daemon: RunningDaemon, prometheus_url: str) -> None:
    daemon.send(
        b"llm_request_total:7|c|#model:gpt-4o,operation:chat",
        b"llm_request_duration_seconds:0.4|h|#model:gpt-4o,operation:chat",
        b"llm_request_duration_seconds:12|h|#model:gpt-4o,operation:chat",
    )
    daemon.wait_for_datagrams(3)

    def stored() -> bool | None:
        found = query(prometheus_url, "llm_request_total")
        return [value for _, value in found] == [7.0] or None

    wait_for("the counter in Prometheus", stored)
    assert query(prometheus_url, 'up{job="llm-metrics"}')[0][1] == 1
    slow = (
        'llm_request_duration_seconds_count - on() llm_request_duration_seconds_bucket{le="10.0"}'
    )
    assert [value for _, value in query(prometheus_url, slow)] == [1.0]
    errors = query(prometheus_url, "count(llm_error_total == 0)")
    assert [value for _, value in errors] == [15.0]


def test_prometheus_takes_a_scrape_that_hostile_values_went_into(
    daemon: RunningDaemon, prometheus_url: str
) -> None:
    hostile = "<script>\u202e\u65e5\u672c\"\\'{}%s"
    daemon.send(f"llm_tokens_total:3|c|#model:{hostile}".encode())
    daemon.wait_for_datagrams(1)

    def stored() -> bool | None:
        found = query(prometheus_url, "llm_tokens_total")
        return [(metric["model"], value) for metric, value in found] == [(hostile, 3.0)] or None

    wait_for("the hostile value in Prometheus", stored)
