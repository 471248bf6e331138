"""Sockets that a manager passes, what it is told, and the units that say so."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from bench.harness import ROOT, serve
from bench.holder import passing
from llmstatsd import config
from llmstatsd.daemon import Daemon
from llmstatsd.notify import Notifier
from llmstatsd.web import server
from tests.conftest import DEADLINE_SECONDS, wait_for
from tests.tools import tool

UNITS = Path(__file__).parents[1] / "systemd"


@contextmanager
def started(log: Path, names: str, *sockets: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that gets sockets as systemd passes them: from descriptor 3 on, to its own pid."""
    fds = [each.fileno() for each in sockets]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            passing(sockets, names, serve()), cwd=ROOT, stderr=stderr, pass_fds=fds
        )
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


def test_sockets_of_every_kind_are_taken_and_none_is_unlinked(
    tmp_path: Path, each_lane: str
) -> None:
    log, path = tmp_path / "log", tmp_path / "dsd.sock"
    with ExitStack() as opened:
        udp = [opened.enter_context(udp_socket()) for _ in range(2)]
        unix = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        unix.bind(str(path))
        lines = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        web = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        names = "statsd-udp:unknown::statsd-tcp:web"
        with started(log, names, *udp, unix, lines, web) as process:
            url = f"http://127.0.0.1:{web.getsockname()[1]}/metrics"
            wait_for("ready", lambda: "ready: " in log.read_text() or process.poll() is not None)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for each in udp:
                    sender.sendto(b"llm_fallback_total:1|c", each.getsockname())
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"llm_fallback_total:1|c", str(path))
            with socket.create_connection(lines.getsockname()) as sender:
                sender.sendall(b"llm_fallback_total:1|c\n")
            wait_for("four lines", lambda: "llm_fallback_total 4.0" in httpx.get(url).text)
            assert f"lane={each_lane}" in log.read_text()
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0
    assert path.is_socket()


def udp_socket() -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    return udp


def test_two_listeners_of_lines_are_one_too_many(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        started(log, "statsd-tcp:statsd-tcp", one, two) as process,
    ):
        assert process.wait(DEADLINE_SECONDS) == 3
        assert "one TCP listener" in log.read_text()


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


@asynccontextmanager
async def watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["Watched"]:
    """A daemon in this process whose manager waits 0.2 s for signs of life."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        given = {"--statsd-udp": "127.0.0.1:0", "--http": "127.0.0.1:0", "--gpu-enabled": "false"}
        daemon = Daemon(config.load(None, {}, given))
        task = asyncio.create_task(daemon.run())
        yield Watched(daemon, manager)
        daemon.stop()
        await asyncio.wait_for(task, DEADLINE_SECONDS)


class Watched(NamedTuple):
    """A daemon, and what its manager hears."""

    daemon: Daemon
    manager: socket.socket

    async def hear(self, wanted: bytes) -> None:
        """Wait until the daemon says something that begins so."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (await loop.sock_recv(self.manager, 500)).startswith(wanted):
                pass

    def has_said(self, wanted: bytes) -> bool:
        """Whether it has said so lately."""
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(self.manager.recv(500))
        return wanted in heard


async def test_the_watchdog_is_answered_while_lanes_and_web_make_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_lane: str
) -> None:
    del each_lane
    async with watched(tmp_path, monkeypatch) as seen:
        await seen.hear(b"READY=1")
        for _ in range(3):
            await seen.hear(b"WATCHDOG=1")
        await seen.hear(b"STATUS=0 lines/s, ")


@pytest.mark.compiled
async def test_the_watchdog_is_not_answered_for_a_lane_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, monkeypatch) as seen:
        await seen.hear(b"WATCHDOG=1")
        looks = 0

        def stands_still() -> tuple[int, ...]:
            nonlocal looks
            looks += 1
            return (7,)

        monkeypatch.setattr(seen.daemon._intake, "turns", stands_still)
        await until(lambda: looks >= 3)
        seen.has_said(b"WATCHDOG=1")  # of before
        await until(lambda: looks >= 9)
        assert not seen.has_said(b"WATCHDOG=1")


async def test_the_watchdog_is_not_answered_for_a_web_that_takes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PROBE_SECONDS", 0.1)
    async with watched(tmp_path, monkeypatch) as seen:
        await seen.hear(b"WATCHDOG=1")
        monkeypatch.setattr(server._Door, "connection_made", lambda _, transport: transport.abort())
        assert not await seen.daemon._web.makes_progress()
        seen.has_said(b"WATCHDOG=1")  # of before
        await seen.hear(b"STATUS=")
        assert not seen.has_said(b"WATCHDOG=1")


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not look():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@llmstatsd-nobody", "\0"])
def test_a_manager_that_is_not_there_is_no_error(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).ready()


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("llmstatsd*.s*")))
def test_a_unit_is_valid(unit: str, tmp_path: Path) -> None:
    """All of them together, with a program where they expect one."""
    analyze = tool("systemd-analyze", "systemd")
    for path in UNITS.glob("llmstatsd*.s*"):
        text = path.read_text().replace("/usr/local/bin/llmstatsd", "/bin/true")
        (tmp_path / path.name).write_text(text)
    environment = {**os.environ, "SYSTEMD_PAGER": "cat", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    checked = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / unit],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    own = [line for line in checked.stderr.splitlines() if "llmstatsd" in line]
    assert not own
    assert checked.returncode == 0, checked.stderr


def test_the_unit_is_exposed_by_at_most_one_and_a_half() -> None:
    analyze = tool("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--threshold=15"]
    unit = UNITS / "llmstatsd.service"
    environment = {**os.environ, "SYSTEMD_PAGER": "cat"}
    subprocess.run([*command, unit], check=True, capture_output=True, env=environment)
