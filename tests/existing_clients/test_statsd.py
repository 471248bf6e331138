"""PyPI's statsd, unchanged, to a daemon."""

from statsd import StatsClient

from tests.conftest import RunningDaemon
from tests.existing_clients import taken_so_far


def test_every_type_gives_its_series(daemon: RunningDaemon) -> None:
    host, port = daemon.udp
    plain = StatsClient(host, port)
    with plain.pipeline() as client:
        for _ in range(10):
            client.incr("llm.request")
            client.timing("llm.request.duration", 250)
        client.gauge("app.queue", 5)
        client.gauge("app.queue", 2, delta=True)
        client.incr("app.sampled", 3, rate=1)
        client.set("app.users", "alice")
    plain.close()
    unknown = {"model": "unknown", "operation": "unknown"}
    daemon.wait_for_value(10, "llm_request_total", **unknown)
    daemon.wait_for_value(2.5, "llm_request_duration_seconds_sum", **unknown)
    daemon.wait_for_value(7, "app_queue")
    daemon.wait_for_value(3, "app_sampled_total")
    now = taken_so_far(daemon)
    assert (now.refused, now.notes) == ({}, {})
