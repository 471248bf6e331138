"""Sockets that a manager passes, what it is told, and the units that say so."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from llmstatsd.notify import Notifier
from tests.conftest import DEADLINE_SECONDS, wait_for
from tests.tools import tool

UNITS = Path(__file__).parents[1] / "systemd"


@contextmanager
def started(log: Path, names: str, *sockets: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that gets sockets as systemd passes them: from descriptor 3 on, to its own pid."""
    places = " ".join(f"{each.fileno()}" for each in sockets)
    script = (
        "import os, sys\n"
        f"high = [os.dup2(int(each), 100 + at) for at, each in enumerate('{places}'.split())]\n"
        "for at, each in enumerate(high): os.dup2(each, 3 + at); os.close(each)\n"
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)),"
        f" LISTEN_FDNAMES='{names}')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'llmstatsd', 'serve'])\n"
    )
    fds = [each.fileno() for each in sockets]
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", script], stderr=stderr, pass_fds=fds)
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


def test_passed_sockets_stand_in_for_addresses_and_hold_what_is_sent_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", 0)) as web,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        udp.bind(("127.0.0.1", 0))
        sender.sendto(b"llm_fallback_total:1|c", udp.getsockname())
        with started(log, "statsd-udp:web", udp, web) as process:
            wait_for("ready", lambda: "ready: " in log.read_text() or process.poll() is not None)
            url = f"http://127.0.0.1:{web.getsockname()[1]}/metrics"
            wait_for("the datagram", lambda: "llm_fallback_total 1.0" in httpx.get(url).text)
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0


def test_a_stream_that_does_not_listen_is_refused_with_exit_code_3(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.socket() as idle, started(log, "web", idle) as process:
        assert process.wait(DEADLINE_SECONDS) == 3
        assert "does not listen" in log.read_text()


def test_the_manager_is_told_of_readiness_reload_and_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.reloading()
        notifier.ready()
        notifier.stopping()
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@llmstatsd-nobody", "\0"])
def test_a_manager_that_is_not_there_is_no_error(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).ready()


def test_the_unit_is_exposed_by_at_most_one_and_a_half() -> None:
    analyze = tool("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--threshold=15"]
    unit = UNITS / "llmstatsd.service"
    environment = {**os.environ, "SYSTEMD_PAGER": "cat"}
    subprocess.run([*command, unit], check=True, capture_output=True, env=environment)
