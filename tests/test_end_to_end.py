"""Real clients over real sockets, a real scrape, read by Prometheus' own tools."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for

pytestmark = pytest.mark.usefixtures("each_lane")

MEBIBYTES_16 = 16 << 20

OPENMETRICS = "application/openmetrics-text;version=1.0.0"

CALL = {"model": "gpt-4o", "operation": "chat"}

ONE_CALL = b"""llm_request_total:1|c|#model:gpt-4o,operation:chat
llm_request_duration_seconds:1.25|h|#model:gpt-4o,operation:chat
llm_tokens_total:321|c|#model:gpt-4o
llm_model_load_duration_seconds:0.5|h|#model:gpt-4o
llm_prompt_eval_duration:120|ms|#model:gpt-4o
llm_total_duration_seconds:2|h|#model:gpt-4o
llm_error_total:1|c|#model:gpt-4o,type:timeout
llm_rate_limit_exceeded_total:1|c|#model:gpt-4o
llm_fallback_total:1|c"""

DOCUMENTED = {
    "llm_request",
    "llm_request_duration_seconds",
    "llm_tokens",
    "llm_fallback",
    "llm_model_load_duration_seconds",
    "llm_prompt_eval_duration_seconds",
    "llm_total_duration_seconds",
    "llm_error",
    "llm_rate_limit_exceeded",
}


def test_one_datagram_gives_every_documented_series(daemon: RunningDaemon) -> None:
    daemon.send(ONE_CALL)
    daemon.wait_for_value(1, "llm_request_total", **CALL)
    families = {family.name: family for family in parse_text(daemon.scrape())}
    assert families.keys() >= DOCUMENTED
    assert daemon.value("llm_request_duration_seconds_bucket", le="2.0", **CALL) == 1
    assert daemon.value("llm_request_duration_seconds_bucket", le="1.0", **CALL) == 0
    assert daemon.value("llm_prompt_eval_duration_seconds_sum", model="gpt-4o") == 0.12
    assert daemon.value("llm_tokens_total", model="gpt-4o") == 321
    assert daemon.value("llm_error_total", model="gpt-4o", type="timeout") == 1
    assert daemon.value("llm_error_total", model="gpt-4o", type="quota") == 0
    assert daemon.value("llm_fallback_total") == 1


def test_both_formats_show_the_same_numbers(daemon: RunningDaemon) -> None:
    daemon.send(ONE_CALL)
    daemon.wait_for_datagrams(1)
    text = {s for f in parse_text(daemon.scrape()) for s in _llm_samples(f)}
    assert text
    assert text == {s for f in _openmetrics(daemon) for s in _llm_samples(f)}


def _openmetrics(daemon: RunningDaemon) -> list[Any]:
    return list(parse_openmetrics(daemon.scrape(OPENMETRICS)))  # type: ignore[no-untyped-call]


def _llm_samples(family: Any) -> list[tuple[str, tuple[tuple[str, str], ...], float]]:
    return [
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for sample in family.samples
        if sample.name.startswith("llm_")
    ]


def test_promtool_finds_nothing_to_say_of_the_documented_series(
    daemon: RunningDaemon, promtool: str
) -> None:
    daemon.send(ONE_CALL)
    daemon.wait_for_datagrams(1)
    lines = daemon.scrape().splitlines(keepends=True)
    starts = ("llm_", "# HELP llm_", "# TYPE llm_")
    documented = [line for line in lines if line.startswith(starts)]
    assert documented
    assert _promtool(promtool, "".join(documented)) == (0, "")


def test_promtool_finds_nothing_to_say_of_the_daemons_own_series(
    daemon: RunningDaemon, promtool: str
) -> None:
    said = _promtool(promtool, daemon.scrape())[1]
    assert "error while linting" not in said
    assert "llmstatsd_" not in said


def _promtool(promtool: str, scrape: str) -> tuple[int, str]:
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=scrape,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return checked.returncode, checked.stdout + checked.stderr


def test_a_json_event_from_a_shell_updates_its_series(daemon: RunningDaemon) -> None:
    event = {"model": "gpt-4o", "operation": "chat", "duration_seconds": 0.5, "error": "rate_limit"}
    daemon.send(json.dumps(event).encode())
    daemon.wait_for_value(1, "llm_request_total", **CALL)
    assert daemon.value("llm_error_total", model="gpt-4o", type="rate_limit") == 1
    assert daemon.value("llm_rate_limit_exceeded_total", model="gpt-4o") == 1


def test_the_send_command_reaches_the_daemon(daemon: RunningDaemon) -> None:
    host, port = daemon.udp
    to = ("--to", f"{host}:{port}")
    for arguments in (["llm_request_total:2|c|#model:a"], ["--model", "b", "--operation", "chat"]):
        command = [sys.executable, "-m", "llmstatsd", "send", *to, *arguments]
        subprocess.run(command, check=True, timeout=DEADLINE_SECONDS)
    daemon.wait_for_value(2, "llm_request_total", model="a", operation="unknown")
    daemon.wait_for_value(1, "llm_request_total", model="b", operation="chat")


def test_ipv6_is_served_too(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(udp="[::1]:0")
    daemon.send(b"llm_fallback_total:3|c")
    daemon.wait_for_value(3, "llm_fallback_total")


def test_a_datagram_of_the_largest_size_is_taken_whole(daemon: RunningDaemon) -> None:
    line = b"llm_tokens_total:1|c|#model:gpt-4o\n"
    count = 65_507 // len(line)
    daemon.send(line * count)
    daemon.wait_for_value(count, "llm_tokens_total", model="gpt-4o")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_cleanly(start_daemon: StartDaemon, number: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # these tests may run under nohup themselves
    try:
        daemon = start_daemon()
    finally:
        signal.signal(number, before)
    assert daemon.end(number) == 0
    assert "Traceback" not in daemon.log.read_text()


def test_under_nohup_a_terminal_that_closes_ends_nothing(
    start_daemon: StartDaemon,
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits it
    try:
        daemon = start_daemon()
    finally:
        signal.signal(signal.SIGHUP, before)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.send(b"llm_fallback_total:1|c")
    daemon.wait_for_value(1, "llm_fallback_total")
    assert daemon.end() == 0


def test_what_was_sent_before_the_signal_is_counted(daemon: RunningDaemon) -> None:
    # A stopped process lets the datagrams wait in the kernel until it goes on.
    daemon.process.send_signal(signal.SIGSTOP)
    for _ in range(500):
        daemon.send(b"llm_fallback_total:1|c")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.process.wait(DEADLINE_SECONDS) == 0
    assert "stopped: 500 datagrams, 500 lines, 0 refused, 0 dropped" in daemon.log.read_text()


def test_a_port_in_use_ends_the_start_with_3_and_the_address(daemon: RunningDaemon) -> None:
    host, port = daemon.udp
    _, _, http = daemon.url.partition("//")
    for flags in (
        ["--statsd-udp", f"{host}:{port}", "--http", "127.0.0.1:0"],
        ["--statsd-udp", "127.0.0.1:0", "--http", http],
    ):
        command = [sys.executable, "-m", "llmstatsd", "serve", *flags]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )
        assert ended.returncode == 3
        assert "Address already in use" in ended.stderr
        assert (f"{host}:{port}" if flags[3] == "127.0.0.1:0" else http) in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_bad_configuration_ends_the_start_with_3(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[limits]\nlabel_values = 0\nlabel_sats = 5\n")
    command = [sys.executable, "-m", "llmstatsd", "serve", "--config", str(file)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert ended.returncode == 3
    assert "limits.label_values" in ended.stderr
    assert "label_sets" in ended.stderr


def test_a_lane_that_is_missing_ends_the_start_with_3() -> None:
    command = [sys.executable, "-m", "llmstatsd", "serve", "--statsd-lane", "compiled"]
    addresses = ["--statsd-udp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    environ = {**os.environ, "LLMSTATSD_NO_EXTENSIONS": "1"}
    done = subprocess.run(
        [*command, *addresses], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "LLMSTATSD_NO_EXTENSIONS is set" in done.stderr


def test_the_lane_is_said_at_the_start_and_in_the_scrape(
    daemon: RunningDaemon, each_lane: str
) -> None:
    assert f"ready: lane={each_lane} " in daemon.log.read_text()
    [info] = [line for line in daemon.scrape().splitlines() if line.startswith("llmstatsd_build_")]
    assert f'lane="{each_lane}"' in info


def test_one_sample_line_per_reason_is_logged(daemon: RunningDaemon) -> None:
    daemon.send(*[b"llm_request_total:%d|x" % number for number in range(50)])
    wait_for("a logged line", lambda: "bad_type" in daemon.log.read_text() or None)
    daemon.send(b"llm_request_total:x|c")
    wait_for("another reason", lambda: "bad_value" in daemon.log.read_text() or None)
    assert daemon.log.read_text().count("bad_type") == 1


def test_any_bytes_leave_a_valid_scrape_and_lose_no_good_line(daemon: RunningDaemon) -> None:
    hostile = [
        bytes(range(256)),
        b"\xff\xfe\n" * 100,
        b"{" * 60_000,
        b'{"model":"' + b"x" * 50_000 + b'"}',
        b"|" * 1000 + b"\n" + b":" * 1000,
        b'a"b\\c:1|c|#k"\\:v"\\\n',
        b"x:1|g|#le:5,__name__:y,m:\xe2\x80\xa8<script>",
        b"",
    ]
    for datagram in hostile:
        daemon.send(datagram + b"\nllm_fallback_total:1|c" if datagram else b"")
    daemon.wait_for_value(len(hostile) - 1, "llm_fallback_total")
    list(parse_text(daemon.scrape()))
    assert _openmetrics(daemon)
    accepted = daemon.value("llmstatsd_accepted_lines_total")
    lines = daemon.value("llmstatsd_lines_total")
    assert accepted is not None
    assert lines == accepted + _refused(daemon)
    assert "Traceback" not in daemon.log.read_text()


def test_what_an_earlier_datagram_left_behind_a_shorter_one_is_not_read(
    start_daemon: StartDaemon,
) -> None:
    """A lane receives into the same memory again: here a `#` stands behind a last `|`."""
    daemon = start_daemon("--limits-label-values", "1")
    short = b"llm_tokens_total:1|c|"
    long = short + b"#model:%d,more:x,other:y"
    datagrams = [*[long % number for number in range(5)], short, b"llm_fallback_total:1|c"]
    for count, datagram in enumerate(datagrams, 1):
        daemon.send(datagram)
        daemon.wait_for_datagrams(count)
    daemon.wait_for_value(1, "llm_fallback_total")
    assert daemon.value("llmstatsd_lane_failures_total") == 0
    assert "Traceback" not in daemon.log.read_text()


def _refused(daemon: RunningDaemon) -> float:
    return sum(
        sample.value
        for family in parse_text(daemon.scrape())
        for sample in family.samples
        if sample.name == "llmstatsd_refused_lines_total"
    )


def test_a_flood_leaves_the_queue_bounded_and_every_loss_measured(daemon: RunningDaemon) -> None:
    before = daemon.value("process_resident_memory_bytes") or 0
    sent = 0
    for _ in range(40):
        for _ in range(1000):
            daemon.send(b"llm_fallback_total:1|c")
            sent += 1

    def explained() -> bool | None:
        received = daemon.value("llmstatsd_datagrams_total") or 0
        dropped = daemon.value("llmstatsd_kernel_dropped_datagrams_total") or 0
        return received + dropped == sent or None

    wait_for("every datagram received or its drop measured", explained)
    assert daemon.value("llmstatsd_queue_dropped_datagrams_total") == 0
    assert (daemon.value("llmstatsd_queue_high_water_datagrams") or 0) <= 64
    assert (daemon.value("process_resident_memory_bytes") or 0) < before + MEBIBYTES_16
    assert daemon.value("llm_fallback_total") == daemon.value("llmstatsd_datagrams_total")


def test_the_clamped_receive_buffer_is_reported_with_the_sysctl(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-receive-buffer-bytes", str(1 << 30))
    said = "net.core.rmem_max=1073741824"
    wait_for(said, lambda: said in daemon.log.read_text() or None)


def test_unknown_paths_and_methods_are_refused(daemon: RunningDaemon) -> None:
    assert httpx.get(f"{daemon.url}/nothing").status_code == 404
    assert httpx.post(f"{daemon.url}/metrics").status_code == 405
    assert httpx.get(f"{daemon.url}/-/healthy").status_code == 200
    assert httpx.get(f"{daemon.url}/-/ready").status_code == 200
    assert 'href="metrics"' in httpx.get(daemon.url).text


def test_the_host_series_can_be_switched_off(start_daemon: StartDaemon) -> None:
    assert "llmstatsd_host_" in start_daemon().scrape()
    assert "llmstatsd_host_" not in start_daemon("--host-enabled", "false").scrape()


def test_pinned_and_aliased_models_come_from_the_configuration(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text(
        """
        [aliases.model]
        "gpt-4o-*" = "gpt-4o"
        [pinned]
        model = ["claude"]
        operation = ["chat"]
        """
    )
    daemon = start_daemon("--config", str(file))
    assert daemon.value("llm_request_total", model="claude", operation="chat") == 0
    daemon.send(b"llm_tokens_total:5|c|#model:gpt-4o-2024-08-06")
    daemon.wait_for_value(5, "llm_tokens_total", model="gpt-4o")


def test_a_sender_may_be_any_socket(daemon: RunningDaemon) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"llm_fallback_total:1|c", daemon.udp)
    daemon.wait_for_value(3, "llm_fallback_total")


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(stderr: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = f"exec {sys.executable} -m llmstatsd serve --statsd-udp {address} --http {address}"
    process = subprocess.Popen(["/bin/sh", "-c", f"{command} {stderr}"])
    try:
        wait_for("ready", lambda: _is_ready(f"http://{address}/-/ready") or None)
        host, _, port = address.partition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"refused, and so logged", (host, int(port)))
        wait_for(
            "the refused line",
            lambda: 'malformed"} 1.0' in httpx.get(f"http://{address}/metrics").text or None,
        )
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
