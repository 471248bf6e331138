"""Go's github.com/DataDog/datadog-go, unchanged, to a daemon."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.existing_clients import (
    BUILD_SECONDS,
    EVERYTHING,
    EXAMPLE,
    HERE,
    RUN_SECONDS,
    Taken,
    environment,
    example,
    fetch,
    run,
    taken,
    taken_so_far,
)
from tests.tools import tool

SOURCE = HERE / "datadog_go"

ALL = Taken(
    EVERYTHING
    | {
        "app_large 1e+21",
        "app_small 1e-07",
        "app_step_seconds_count 1",
        "app_step_seconds_sum 0.0125",
        "app_users",
        'app_workers{pool="a"} 7.0',
    },
    set_aside={"event": 2, "service_check": 2},
)
"""What its methods give, each called once or more."""

LLM_REQUEST = 'llm_request_total{model="gpt-4o",operation="chat"}'
LLM_DURATION = 'llm_request_duration_seconds_{}{{model="gpt-4o",operation="chat"}}'

CALL = {"model": "gpt-4o", "operation": "chat"}

Send = Callable[..., None]


@pytest.fixture(scope="session")
def go() -> str:
    """Go, with the client in its module cache."""
    go = tool("go", "golang-go")
    fetch("datadog-go", [go, "mod", "download"], SOURCE)
    return go


@pytest.fixture(scope="session")
def program(go: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of this folder."""
    program = tmp_path_factory.mktemp("datadog_go") / "datadog_go"
    run([go, "build", "-o", str(program), "."], SOURCE, BUILD_SECONDS)
    return program


@pytest.fixture
def send(program: Path) -> Send:
    """Runs one scenario of the program."""

    def send(scenario: str, daemon: RunningDaemon, **variables: str) -> None:
        run([str(program), address(daemon), scenario], SOURCE, RUN_SECONDS, **variables)

    return send


def address(daemon: RunningDaemon) -> str:
    host, port = daemon.udp
    return f"{host}:{port}"


@contextmanager
def living(program: Path, daemon: RunningDaemon, scenario: str) -> Iterator[None]:
    """Run one scenario, and close the client only afterwards."""
    command = [str(program), address(daemon), scenario]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as process:
        try:
            yield
            assert process.stdin
            process.stdin.close()
            assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        ("aggregated", 17),
        ("unaggregated", 20),
        ("unbuffered", 20),
        ("extended", 15),
        ("container", 15),
    ],
)
def test_every_type_gives_its_series_in_each_mode(
    daemon: RunningDaemon, send: Send, mode: str, lines: int
) -> None:
    send(mode, daemon, DD_EXTERNAL_ENV="it-false,cn-web,pu-0123")
    assert taken(daemon, lines) == ALL


@pytest.mark.parametrize("mode", ["channels", "channels extended"])
def test_channels_give_the_same_series(daemon: RunningDaemon, program: Path, mode: str) -> None:
    """What waits in a channel when the client is closed is lost, so here it lives on."""
    with living(program, daemon, mode):
        wait_for("its series", lambda: taken_so_far(daemon) == ALL)


def test_one_message_per_payload_is_one_line_per_datagram(
    daemon: RunningDaemon, send: Send
) -> None:
    send("unbuffered", daemon)
    daemon.wait_for_value(20, "llmstatsd_lines_total")
    assert daemon.value("llmstatsd_datagrams_total") == 20


def test_the_tags_of_the_environment_are_labels_but_for_documented_series(
    daemon: RunningDaemon, send: Send
) -> None:
    send("tagged", daemon, DD_ENTITY_ID="pod-1", DD_ENV="prod", DD_SERVICE="chat", DD_VERSION="2")
    labels = 'dd_internal_entity_id="pod-1",env="prod",pool="a",service="chat",team="a",version="2"'
    assert taken(daemon, 2) == Taken(
        {f"{LLM_REQUEST} 1.0", f"app_workers{{{labels}}} 7.0"}, notes={"dropped_label": 1}
    )


def test_a_namespace_is_in_every_name(daemon: RunningDaemon, send: Send) -> None:
    send("namespace", daemon)
    assert taken(daemon, 2) == Taken({f"svc_{LLM_REQUEST} 1.0", 'svc_app_workers{pool="a"} 7.0'})


def test_a_timestamp_is_not_used(daemon: RunningDaemon, send: Send) -> None:
    send("timestamped", daemon)
    assert taken(daemon, 10) == Taken({f"{LLM_REQUEST} 10.0", 'app_workers{pool="a"} 4.0'})


def test_a_sampled_line_weighs_what_its_rate_says(daemon: RunningDaemon, send: Send) -> None:
    send("sampled", daemon)
    daemon.wait_for_value(1, "app_done")
    sent = int(daemon.value("llmstatsd_lines_total") or 0) - 1
    assert 0 < sent < 200
    assert taken_so_far(daemon) == Taken({f"{LLM_REQUEST} {4 * sent}.0", "app_done 1.0"})


def test_an_aggregated_counter_is_not_sampled(daemon: RunningDaemon, send: Send) -> None:
    send("sampled count", daemon)
    assert taken(daemon, 2) == Taken({f"{LLM_REQUEST} 200.0", "app_done 1.0"})


def test_packed_values_count_each(daemon: RunningDaemon, send: Send) -> None:
    """A thousand of a name, in as many datagrams as they need."""
    send("packed", daemon)
    daemon.wait_for_value(1000, "llm_request_duration_seconds_count", **CALL)
    daemon.wait_for_value(1000, "llm_total_duration_seconds_count", model="gpt-4o")
    assert taken_so_far(daemon) == Taken(
        {
            f"{LLM_DURATION.format('count')} 1000",
            f"{LLM_DURATION.format('sum')} 1250.0",
            'llm_total_duration_seconds_count{model="gpt-4o"} 1000',
            'llm_total_duration_seconds_sum{model="gpt-4o"} 1500.0',
        }
    )
    assert (daemon.value("llmstatsd_lines_total") or 0) < 20


@pytest.mark.parametrize(
    ("scenario", "count", "total"),
    [
        pytest.param("kept", 10, 12.5, id="two of ten kept by the client"),
        pytest.param("direct", 6, 4.0, id="three given with the rate 0.5"),
    ],
)
def test_the_rate_of_packed_values_is_that_of_each(
    daemon: RunningDaemon, send: Send, scenario: str, count: int, total: float
) -> None:
    send(scenario, daemon)
    assert taken(daemon, 1) == Taken(
        {f"{LLM_DURATION.format('count')} {count}", f"{LLM_DURATION.format('sum')} {total}"}
    )


def test_totals_of_eight_goroutines_are_exact(daemon: RunningDaemon, send: Send) -> None:
    send("goroutines", daemon)
    daemon.wait_for_value(80_000, "llm_request_total", **CALL)
    daemon.wait_for_value(240_000, "llm_tokens_total", model="gpt-4o")
    assert taken_so_far(daemon) == Taken(
        {f"{LLM_REQUEST} 80000.0", 'llm_tokens_total{model="gpt-4o"} 240000.0'}
    )


def test_the_client_cleans_line_ends_alone(daemon: RunningDaemon, send: Send) -> None:
    """A tag may lack its value, and a bar ends the tags."""
    send("hostile", daemon)
    assert taken(daemon, 6) == Taken(
        {
            'llm_request_total{model="ab",operation="unknown"} 1.0',
            'llm_request_total{model="c",operation="unknown"} 1.0',
        },
        refused={"negative": 2, "not_finite": 2},
        notes={"tag_without_value": 1, "unknown_field": 1},
    )


@pytest.mark.parametrize(("absolute", "left"), [("false", 15), ("true", -5)])
def test_a_negative_gauge_is_a_change_unless_the_daemon_is_told(
    start_daemon: StartDaemon, send: Send, absolute: str, left: int
) -> None:
    daemon = start_daemon("--statsd-absolute-signed-gauges", absolute)
    send("temperature", daemon)
    assert taken(daemon, 2) == Taken({f"app_temperature {left}.0"})


def test_its_own_telemetry_gives_series_too(daemon: RunningDaemon, program: Path) -> None:
    """The client sends it every ten seconds, so the test takes as long."""
    with living(program, daemon, "telemetry"):
        own = wait_for("its own series", lambda: own_totals(daemon))
    assert own["datadog_dogstatsd_client_metrics_total"] == 16
    assert own["datadog_dogstatsd_client_metrics_by_type_total"] == 16
    assert own["datadog_dogstatsd_client_events_total"] == 2
    assert own["datadog_dogstatsd_client_service_checks_total"] == 2
    assert own["datadog_dogstatsd_client_packets_dropped_total"] == 0
    found = taken_so_far(daemon)
    assert found.series >= ALL.series
    assert (found.refused, found.notes, found.set_aside) == ({}, {}, ALL.set_aside)


def own_totals(daemon: RunningDaemon) -> dict[str, float]:
    """Of each of the client's own series the sum over its labels; none before all are there."""
    totals: dict[str, float] = {}
    for family in parse_text(daemon.scrape()):
        for sample in family.samples:
            if sample.labels.get("client") == "go":
                totals[sample.name] = totals.get(sample.name, 0) + sample.value
    last = "datadog_dogstatsd_client_aggregated_context_by_type_total"
    return totals if totals.get(last) else {}


def test_the_example_of_the_page_runs(daemon: RunningDaemon, go: str, tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(SOURCE / name, tmp_path)
    (tmp_path / "main.go").write_text(example("Go: datadog-go", daemon))
    run([go, "run", "."], tmp_path, BUILD_SECONDS)
    assert taken(daemon, 2) == Taken(EXAMPLE)
