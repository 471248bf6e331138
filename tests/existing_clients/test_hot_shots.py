"""npm's hot-shots, unchanged, to a daemon."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import RunningDaemon, StartDaemon
from tests.existing_clients import (
    EVERYTHING,
    EXAMPLE,
    HERE,
    RUN_SECONDS,
    Taken,
    example,
    fetch,
    run,
    taken,
    taken_so_far,
)
from tests.tools import tool

SOURCE = HERE / "hot_shots"

SERIES = EVERYTHING | {
    "app_a_total 2.0",
    "app_b_total 2.0",
    "app_large 1e+21",
    "app_small 1e-07",
    "app_users",
    'app_workers{pool="a"} 5.0',
}
"""What its methods give, each called once or more."""

ASIDE = {"event": 1, "service_check": 1}

Send = Callable[..., None]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script, and hot-shots installed."""
    npm = tool("npm")
    folder = tmp_path_factory.mktemp("hot_shots")
    for name in ("package.json", "send.js"):
        shutil.copy(SOURCE / name, folder)
    quietly = ("--loglevel=error", "--no-audit", "--no-fund", "--no-package-lock")
    # its optional dependency is for unix sockets, and needs a compiler
    fetch("hot-shots", [npm, "install", "--omit=optional", "--ignore-scripts", *quietly], folder)
    return folder


@pytest.fixture
def send(folder: Path) -> Send:
    """Runs one scenario of the script."""

    def send(scenario: str, daemon: RunningDaemon, **variables: str) -> None:
        command = ["node", "send.js", str(daemon.udp[1]), scenario]
        run(command, folder, RUN_SECONDS, **variables)

    return send


@pytest.mark.parametrize(
    ("mode", "lines"),
    [("unbuffered", 20), ("buffered", 20), ("aggregated", 17), ("datadog", 20)],
)
def test_every_type_gives_its_series_in_each_mode(
    daemon: RunningDaemon, send: Send, mode: str, lines: int
) -> None:
    send(mode, daemon, DD_EXTERNAL_ENV="it-false,cn-web,pu-0123")
    assert taken(daemon, lines) == Taken(SERIES, set_aside=ASIDE)


def test_a_buffer_puts_the_lines_into_one_datagram(daemon: RunningDaemon, send: Send) -> None:
    send("buffered", daemon)
    daemon.wait_for_value(20, "llmstatsd_lines_total")
    assert daemon.value("llmstatsd_datagrams_total") == 1


def test_tags_in_the_name_for_telegraf_give_the_same_series(
    daemon: RunningDaemon, send: Send
) -> None:
    send("telegraf", daemon)
    assert taken(daemon, 18) == Taken(SERIES)


def test_the_tags_of_the_environment_are_labels_but_for_documented_series(
    daemon: RunningDaemon, send: Send
) -> None:
    send("tagged", daemon, DD_ENTITY_ID="pod-1", DD_SERVICE="chat")
    call = 'env="prod",model="gpt-4o",operation="chat"'
    assert taken(daemon, 3) == Taken(
        {
            'llm_request_total{model="gpt-4o",operation="chat"} 1.0',
            f'svc_jobs_v2_total{{dd_internal_entity_id="pod-1",{call},service="chat"}} 1.0',
            'child_svc_jobs_v2{dd_internal_entity_id="pod-1",env="test",service="chat"} 7.0',
        },
        notes={"dropped_label": 1},
    )


def test_a_timestamp_and_a_container_change_nothing(daemon: RunningDaemon, send: Send) -> None:
    send("timestamped", daemon, DD_ENV="prod")
    assert taken(daemon, 2) == Taken(
        {
            'llm_request_total{model="gpt-4o",operation="chat"} 5.0',
            'app_workers{env="prod",model="gpt-4o",operation="chat"} 7.0',
        },
        notes={"dropped_label": 1},
    )


def test_a_sampled_line_weighs_what_its_rate_says(daemon: RunningDaemon, send: Send) -> None:
    """It gives gauges and sets a rate too, which means nothing."""
    send("sampled", daemon)
    assert taken(daemon, 4) == Taken(
        {
            'llm_request_total{model="gpt-4o",operation="chat"} 6.0',
            'llm_request_duration_seconds_count{model="gpt-4o",operation="chat"} 4',
            'llm_request_duration_seconds_sum{model="gpt-4o",operation="chat"} 5.0',
            "app_workers 7.0",
            "app_users",
        },
        notes={"rate_ignored": 2},
    )


def test_the_timers_send_milliseconds_and_one_of_them_as_a_distribution(
    daemon: RunningDaemon, send: Send
) -> None:
    send("timers", daemon)
    found = taken(daemon, 3)
    assert (found.refused, found.notes) == ({}, {})
    assert {line for line in found.series if "_count" in line} == {
        'llm_request_duration_seconds_count{model="gpt-4o",operation="chat"} 1',
        'llm_total_duration_seconds_count{model="gpt-4o"} 1',
        "app_step_milliseconds_count 1",
    }


def test_the_client_cleans_names_and_tags_but_not_values(daemon: RunningDaemon, send: Send) -> None:
    send("hostile", daemon)
    assert taken(daemon, 5) == Taken(
        {
            'llm_request__total{model="a_b_c_d_e:f"} 1.0',
            'llm_request_total{model="gpt-4o",operation="unknown"} 1.0',
        },
        refused={"negative": 1, "not_finite": 1, "bad_value": 1},
        notes={"tag_without_value": 1},
    )


def test_an_event_whose_lengths_are_not_bytes_is_refused(daemon: RunningDaemon, send: Send) -> None:
    """hot-shots counts UTF-16 units there, as its pull request 329 says; the format has bytes."""
    send("event_not_in_ascii", daemon)
    assert taken(daemon, 1) == Taken(set(), refused={"malformed": 1})


@pytest.mark.parametrize(("absolute", "left"), [("false", 15), ("true", -5)])
def test_a_negative_gauge_is_a_change_unless_the_daemon_is_told(
    start_daemon: StartDaemon, send: Send, absolute: str, left: int
) -> None:
    daemon = start_daemon("--statsd-absolute-signed-gauges", absolute)
    send("temperature", daemon)
    assert taken(daemon, 2) == Taken({f"app_temperature {left}.0"})


def test_its_own_telemetry_gives_series_too(
    daemon: RunningDaemon, send: Send, folder: Path
) -> None:
    send("telemetry", daemon)
    installed = folder / "node_modules" / "hot-shots" / "package.json"
    version = json.loads(installed.read_text())["version"]
    own = {"client": "nodejs", "client_transport": "udp", "client_version": version}
    daemon.wait_for_value(20, "datadog_dogstatsd_client_packets_sent_total", **own)
    assert daemon.value("datadog_dogstatsd_client_metrics_total", **own) == 18
    assert daemon.value("datadog_dogstatsd_client_events_total", **own) == 1
    assert daemon.value("datadog_dogstatsd_client_service_checks_total", **own) == 1
    by_type = {"count": 6, "gauge": 4, "timing": 3, "histogram": 1, "distribution": 1, "set": 3}
    for kind, number in by_type.items():
        name = "datadog_dogstatsd_client_metrics_by_type_total"
        assert daemon.value(name, metrics_type=kind, **own) == number
    found = taken_so_far(daemon)
    assert found.series >= SERIES
    assert (found.refused, found.notes, found.set_aside) == ({}, {}, ASIDE)


def test_the_example_of_the_page_runs(daemon: RunningDaemon, folder: Path) -> None:
    run(["node", "-e", example("Node.js: hot-shots", daemon)], folder, RUN_SECONDS)
    assert taken(daemon, 2) == Taken(EXAMPLE)
