"""Unix datagrams, TCP lines and networks that may send: real clients against a real daemon."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from datadog.dogstatsd.base import DogStatsd
from statsd import TCPStatsClient

from llmstatsd_client import Client
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for

pytestmark = pytest.mark.usefixtures("each_lane")

SENDERS = 1000


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "dsd.sock")


def connected(daemon: RunningDaemon, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(
        daemon.tcp, timeout=DEADLINE_SECONDS, source_address=(source, 0)
    )


def refused_start(*arguments: str) -> str:
    command = [sys.executable, "-m", "llmstatsd", "serve", "--statsd-udp", "127.0.0.1:0"]
    ended = subprocess.run(
        [*command, "--http", "127.0.0.1:0", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_clients_reach_the_unix_socket(start_daemon: StartDaemon, path: str) -> None:
    daemon = start_daemon("--statsd-unix", path)
    assert f"statsd_unix={path}" in daemon.log.read_text()
    client = DogStatsd(socket_path=path, disable_telemetry=True)
    client.increment("llm.fallback")
    client.close_socket()
    with Client(socket=path) as own:
        own.send(fallback=True)
    subprocess.run(
        [sys.executable, "-m", "llmstatsd", "send", "llm_fallback_total:2|c"],
        env={**os.environ, "LLMSTATSD_SOCKET": path},
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    daemon.send(b"llm_fallback_total:1|c")
    daemon.wait_for_value(5, "llm_fallback_total")
    assert daemon.value("llmstatsd_transport_datagrams_total", transport="unix") == 3
    assert daemon.value("llmstatsd_transport_datagrams_total", transport="udp") == 1
    assert daemon.value("llmstatsd_datagrams_total") == 4


def test_what_waits_in_the_unix_socket_is_counted_at_the_end(
    start_daemon: StartDaemon, path: str
) -> None:
    daemon = start_daemon("--statsd-unix", path)
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(path)
        daemon.process.send_signal(signal.SIGSTOP)
        sender.setblocking(False)
        while True:
            try:
                sender.send(b"llm_fallback_total:1|c")
            except BlockingIOError:  # nothing is dropped: the sender is told
                break
            sent += 1
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.process.wait(DEADLINE_SECONDS) == 0
    assert sent > 1
    assert f"stopped: {sent} datagrams, {sent} lines, 0 refused, 0" in daemon.log.read_text()
    assert not Path(path).exists()


def test_a_unix_datagram_over_the_limit_is_refused_and_counted(
    start_daemon: StartDaemon, path: str
) -> None:
    daemon = start_daemon("--statsd-unix", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(path)
        line = b"llm_fallback_total:1|c\n"
        sender.send(line + b"\n" * (65_536 - len(line)))
        sender.send(line + b"\n" * (65_535 - len(line)))
    daemon.wait_for_value(1, "llmstatsd_transport_datagrams_total", transport="unix")
    assert daemon.value("llmstatsd_refused_datagrams_total", reason="too_long") == 1
    assert daemon.value("llm_fallback_total") == 1
    assert daemon.value("llmstatsd_received_bytes_total") == 65_535


def test_mode_and_group_of_the_socket_are_those_configured(
    start_daemon: StartDaemon, path: str
) -> None:
    group = str(os.getgid())
    start_daemon("--statsd-unix", path, "--statsd-unix-mode", "0620", "--statsd-unix-group", group)
    found = Path(path).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o620, os.getgid())


def test_a_stale_socket_is_replaced(start_daemon: StartDaemon, path: str) -> None:
    daemon = start_daemon("--statsd-unix", path)
    daemon.end(signal.SIGKILL)
    assert Path(path).exists()
    start_daemon("--statsd-unix", path)


def test_a_socket_in_use_a_file_and_an_unknown_group_end_the_start_with_3(
    start_daemon: StartDaemon, path: str, tmp_path: Path
) -> None:
    start_daemon("--statsd-unix", path)
    said = refused_start("--statsd-unix", path)
    assert path in said
    assert "in use" in said
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        other = str(tmp_path / "stream.sock")
        stream.bind(other)
        stream.listen()
        assert "in use" in refused_start("--statsd-unix", other)
    file = tmp_path / "file"
    file.write_text("precious")
    assert "no socket" in refused_start("--statsd-unix", str(file))
    assert file.read_text() == "precious"
    free = str(tmp_path / "free.sock")
    said = refused_start("--statsd-unix", free, "--statsd-unix-group", "no-such-group")
    assert "no-such-group" in said
    assert not Path(free).exists()


def test_lines_over_tcp_are_counted_however_they_are_cut(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0")
    with connected(daemon) as sender:
        for piece in (
            b"llm_fall",
            b"back_total:1|c\r\n\nllm_fallback",
            b"_total:2|c\n{",
            b'"model"',
        ):
            sender.sendall(piece)
        sender.sendall(b':"a","tokens":5}\n{"model":\n"a"}\nllm_fallback_total:4|c')
    daemon.wait_for_value(7, "llm_fallback_total")
    assert daemon.value("llm_tokens_total", model="a") == 5
    assert daemon.value("llmstatsd_tcp_lines_total") == 6
    assert daemon.value("llmstatsd_lines_total") == 6
    assert daemon.value("llmstatsd_datagrams_total") == 0
    assert daemon.value("llmstatsd_received_bytes_total") == 0


def test_no_sender_is_ever_answered(start_daemon: StartDaemon, path: str, tmp_path: Path) -> None:
    daemon = start_daemon("--statsd-unix", path, "--statsd-tcp", "127.0.0.1:0")
    with connected(daemon) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as file:
        file.bind(str(tmp_path / "sender.sock"))
        file.connect(path)
        for sender, end in ((daemon.sender, b""), (file, b""), (stream, b"\n")):
            for line in (b"llm_fallback_total:1|c", b"nonsense", b"{}", b"GET / HTTP/1.0"):
                sender.send(line + end)
        daemon.wait_for_value(12, "llmstatsd_lines_total")
        for sender in (daemon.sender, file, stream):
            sender.setblocking(False)
            with pytest.raises(BlockingIOError):
                sender.recv(1)


def test_a_tcp_client_reaches_the_daemon(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0")
    client = TCPStatsClient(*daemon.tcp)
    for _ in range(5):
        client.incr("llm.fallback")
    client.close()
    daemon.wait_for_value(5, "llm_fallback_total")


def test_a_line_too_long_is_refused_and_the_stream_goes_on(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", "--statsd-tcp-line-bytes", "64")
    with connected(daemon) as sender:
        sender.sendall(b"a" * 1_000_000 + b"\nllm_fallback_total:1|c\n" + b"b" * 65 + b"\n")
        sender.sendall(b"llm_fallback_total:1|c\nhalf a line")
        daemon.wait_for_value(2, "llm_fallback_total")
        assert daemon.value("llmstatsd_tcp_refused_lines_total", reason="too_long") == 2
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    daemon.wait_for_value(1, "llmstatsd_tcp_refused_lines_total", reason="cut")
    assert daemon.value("llmstatsd_tcp_open_connections") == 0
    assert "Traceback" not in daemon.log.read_text()


def test_one_connection_more_and_a_silent_one_are_closed_and_counted(
    start_daemon: StartDaemon,
) -> None:
    limits = ("--statsd-tcp-connections", "1", "--statsd-tcp-idle-seconds", "1")
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", *limits)
    with connected(daemon) as first:
        first.sendall(b"llm_fallback_total:1|c\n")
        with connected(daemon) as second, suppress(ConnectionResetError):
            assert second.recv(1) == b""
        assert first.recv(1) == b""
    daemon.wait_for_value(1, "llmstatsd_tcp_idle_connections_total")
    assert daemon.value("llmstatsd_tcp_refused_connections_total", reason="limit") == 1
    assert daemon.value("llm_fallback_total") == 1


def test_a_thousand_tcp_senders_are_counted_to_the_line(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0")
    host, port = daemon.tcp

    async def send_all() -> None:
        streams = [await asyncio.open_connection(host, port) for _ in range(SENDERS)]
        for _ in range(5):
            for _, writer in streams:
                writer.write(b"llm_fallback_total:1|c\nllm_fall")
            for _, writer in streams:
                writer.write(b"back_total:1|c\n")
                await writer.drain()
        for _, writer in streams:
            writer.close()

    asyncio.run(send_all())
    daemon.wait_for_value(SENDERS * 10, "llm_fallback_total")
    assert daemon.value("llmstatsd_tcp_accepted_connections_total") == SENDERS
    daemon.wait_for_value(0, "llmstatsd_tcp_open_connections")


def test_what_was_sent_over_tcp_before_the_signal_is_counted(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0")
    daemon.process.send_signal(signal.SIGSTOP)
    with connected(daemon) as sender:
        sender.sendall(b"llm_fallback_total:1|c\n" * 2000)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.process.wait(DEADLINE_SECONDS) == 0
    assert "stopped: 0 datagrams, 2000 lines, 0 refused" in daemon.log.read_text()


@pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["ipv4", "both families"])
def test_only_the_networks_named_may_send(start_daemon: StartDaemon, host: str) -> None:
    daemon = start_daemon(
        *("--statsd-tcp", "127.0.0.1:0", "--statsd-allow-from", "10.0.0.0/8,127.0.0.1,::1"),
        udp=f"{host}:0",
    )
    place = ("127.0.0.1", daemon.udp[1])
    for source in ("127.0.0.2", "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            for _ in range(3):
                sender.sendto(b"llm_fallback_total:1|c", place)
    daemon.wait_for_value(3, "llm_fallback_total")
    daemon.wait_for_value(3, "llmstatsd_refused_datagrams_total", reason="foreign")
    assert daemon.value("llmstatsd_datagrams_total") == 3
    with connected(daemon, "127.0.0.2"):
        daemon.wait_for_value(1, "llmstatsd_tcp_refused_connections_total", reason="foreign")
    with connected(daemon) as sender:
        sender.sendall(b"llm_fallback_total:1|c\n")
    daemon.wait_for_value(4, "llm_fallback_total")


def test_an_open_door_is_warned_of_and_one_with_networks_is_not(
    start_daemon: StartDaemon,
) -> None:
    warning = "everybody who reaches"
    assert warning not in start_daemon().log.read_text()
    opened = start_daemon(udp=":0")
    wait_for("the warning", lambda: warning in opened.log.read_text() or None)
    guarded = start_daemon("--statsd-allow-from", "127.0.0.0/8", udp=":0")
    assert warning not in guarded.log.read_text()
