"""PyPI's datadog, unchanged, to a daemon."""

from datadog.dogstatsd.base import DogStatsd

from tests.conftest import RunningDaemon
from tests.existing_clients import taken_so_far

CALL = {"model": "gpt-4o", "operation": "chat"}


def test_every_type_gives_its_series(daemon: RunningDaemon) -> None:
    host, port = daemon.udp
    client = DogStatsd(host=host, port=port, disable_telemetry=True, disable_buffering=False)
    tags = ["model:gpt-4o", "operation:chat"]
    for _ in range(20):
        client.increment("llm.request", tags=tags)
        client.histogram("llm.request.duration.seconds", 0.75, tags=tags)
        client.distribution("llm.total.duration.seconds", 1.5, tags=["model:gpt-4o"])
        client.timing("llm.prompt_eval_duration", 40, tags=["model:gpt-4o"])
    client.gauge("app.workers", 7, tags=["pool:a"])
    client.set("app.users", "alice")
    client.event("deploy", "done")
    client.service_check("app.up", 0)
    client.flush()
    daemon.wait_for_value(20, "llm_request_total", **CALL)
    daemon.wait_for_value(7, "app_workers", pool="a")
    daemon.wait_for_value(20, "llm_request_duration_seconds_count", **CALL)
    daemon.wait_for_value(30, "llm_total_duration_seconds_sum", model="gpt-4o")
    daemon.wait_for_value(20, "llm_prompt_eval_duration_seconds_count", model="gpt-4o")
    daemon.wait_for_value(1, "llmstatsd_set_aside_lines_total", kind="event")
    daemon.wait_for_value(1, "llmstatsd_set_aside_lines_total", kind="service_check")
    client.close_socket()
    now = taken_so_far(daemon)
    assert (now.refused, now.notes) == ({}, {})
