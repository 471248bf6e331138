"""PyPI's aiodogstatsd, unchanged, to a daemon."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from aiodogstatsd import Client

from tests.conftest import RunningDaemon, StartDaemon, wait_for
from tests.existing_clients import EVERYTHING, EXAMPLE, RUN_SECONDS, Taken, example, run, taken

CALL = {"model": "gpt-4o", "operation": "chat"}
MODEL = {"model": "gpt-4o"}


def connected(daemon: RunningDaemon, **settings: Any) -> Client:
    host, port = daemon.udp
    return Client(host=host, port=port, **settings)


async def test_every_type_gives_its_series(daemon: RunningDaemon) -> None:
    async with connected(daemon) as client:
        for _ in range(3):
            client.increment("llm.request", tags=CALL)
            client.timing("llm.request.duration", value=1250, tags=CALL)
        client.increment("llm_tokens_total", value=321, tags=MODEL)
        client.histogram("llm.total.duration.seconds", value=1.5, tags=MODEL)
        client.distribution("llm.time_to_first_token_seconds", value=0.25, tags=CALL)
        client.gauge("app.workers", value=7, tags={"pool": "a"})
        client.gauge("app.ratio", value=1e-07)
    assert taken(daemon, 11) == Taken(EVERYTHING | {'app_workers{pool="a"} 7.0', "app_ratio 1e-07"})
    assert daemon.value("llm_request_duration_seconds_bucket", le="2.0", **CALL) == 3
    assert daemon.value("llm_request_duration_seconds_bucket", le="1.0", **CALL) == 0


async def test_a_namespace_and_constant_tags_are_in_every_series(daemon: RunningDaemon) -> None:
    tags = {"env": "prod", "model": "unset"}
    async with connected(daemon, namespace="svc", constant_tags=tags) as client:
        client.increment("llm.request", tags={"model": "llama3.2:3b"})
        client.gauge("app.workers", value=7)
    assert taken(daemon, 2) == Taken(
        {
            'svc_llm_request_total{env="prod",model="llama3.2:3b"} 1.0',
            'svc_app_workers{env="prod",model="unset"} 7.0',
        }
    )


async def test_constant_tags_leave_the_documented_series_alone(daemon: RunningDaemon) -> None:
    async with connected(daemon, constant_tags={"env": "prod"}) as client:
        client.increment("llm.request", tags=CALL)
    assert taken(daemon, 1) == Taken(
        {'llm_request_total{model="gpt-4o",operation="chat"} 1.0'}, notes={"dropped_label": 1}
    )


async def test_a_sampled_line_weighs_what_its_rate_says(daemon: RunningDaemon) -> None:
    random.seed(1)
    sent = sum(random.random() <= 0.25 for _ in range(200))
    random.seed(1)
    async with connected(daemon, sample_rate=0.25) as client:
        for _ in range(200):
            client.timing("llm.request.duration", value=500, tags=CALL)
        client.gauge("app.workers", value=7, sample_rate=1)
    assert 0 < sent < 200
    assert taken(daemon, sent + 1) == Taken(
        {
            f'llm_request_duration_seconds_count{{model="gpt-4o",operation="chat"}} {4 * sent}',
            f'llm_request_duration_seconds_sum{{model="gpt-4o",operation="chat"}} {2.0 * sent}',
            "app_workers 7.0",
        }
    )


async def test_the_timers_send_milliseconds(daemon: RunningDaemon) -> None:
    async def answer() -> int:
        return 42

    async with connected(daemon) as client:
        with client.timeit("llm.request.duration", tags=CALL):
            pass
        assert await client.timeit_task(answer(), "app.step") == 42
    count = "llm_request_duration_seconds_count"
    wait_for("both", lambda: daemon.value("llmstatsd_accepted_lines_total") == 2 or None)
    assert daemon.value(count, **CALL) == 1
    assert daemon.value("app_step_seconds_count") == 1


async def test_what_waits_at_the_end_is_sent(daemon: RunningDaemon) -> None:
    async with connected(daemon) as client:
        for _ in range(2000):
            client.increment("llm.request", tags=CALL)
    assert taken(daemon, 2000) == Taken(
        {'llm_request_total{model="gpt-4o",operation="chat"} 2000.0'}
    )


async def test_the_client_escapes_nothing_so_each_line_is_judged_alone(
    daemon: RunningDaemon,
) -> None:
    """A comma ends a tag, a bar ends the tags, a line end ends the line."""
    async with connected(daemon) as client:
        client.decrement("app.left")
        client.gauge("app.level", value=float("nan"))
        client.increment("llm.request", tags={"model": "a,b"})
        client.increment("llm.request", tags={"model": "c|d"})
        client.increment("llm.request", tags={"model": "e\nf"})
    assert taken(daemon, 6) == Taken(
        {
            'llm_request_total{model="a",operation="unknown"} 1.0',
            'llm_request_total{model="c",operation="unknown"} 1.0',
            'llm_request_total{model="e",operation="unknown"} 1.0',
        },
        refused={"negative": 1, "not_finite": 1, "malformed": 1},
        notes={"tag_without_value": 1, "unknown_field": 1},
    )


@pytest.mark.parametrize(("absolute", "left"), [("false", 15), ("true", -5)])
async def test_a_negative_gauge_is_a_change_unless_the_daemon_is_told(
    start_daemon: StartDaemon, absolute: str, left: float
) -> None:
    daemon = start_daemon("--statsd-absolute-signed-gauges", absolute)
    async with connected(daemon) as client:
        client.gauge("app.temperature", value=20)
        client.gauge("app.temperature", value=-5)
    assert taken(daemon, 2) == Taken({f"app_temperature {left}.0"})


def test_the_example_of_the_page_runs(daemon: RunningDaemon, tmp_path: Path) -> None:
    code = example("Python: aiodogstatsd", daemon)
    run([sys.executable, "-c", code], tmp_path, RUN_SECONDS)
    assert taken(daemon, 2) == Taken(EXAMPLE)
