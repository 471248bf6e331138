"""Restarts while senders go on, over both lanes: the bench with less of everything."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bench import restart
from bench.holder import Held
from bench.restart import Traffic
from llmstatsd import config, keeper
from llmstatsd.daemon import Daemon
from llmstatsd.state import Found, StateFile
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.tools import tool

RESTARTS = 20

# Of four senders. The smallest of buffers that a kernel grants by itself bridges two seconds.
TRAFFIC = Traffic(rate=2000, lines=4, customers=50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def assert_nothing_is_missing(found: restart.Restarts) -> None:
    """Exactly what was sent, but for datagrams that found the kernel's buffer full."""
    assert found.counted + found.dropped * TRAFFIC.lines == found.sent
    if not found.dropped:
        assert found.wrong_samples == 0


def test_twenty_restarts_under_load_count_what_was_sent(each_lane: str) -> None:
    """UDP and a unix socket, held open by a parent as systemd does."""
    found = restart.restarts(each_lane, RESTARTS, TRAFFIC, 0)
    assert len(found.stop_seconds) == RESTARTS
    assert_nothing_is_missing(found)


def test_sockets_that_systemd_passes_on_count_what_was_sent() -> None:
    """systemd-socket-activate execs the daemon at the first datagram; who started it holds on."""
    activate = tool("systemd-socket-activate", "systemd")
    command = (activate, f"--fdname={Held.names}")
    found = restart.restarts("auto", 3, TRAFFIC, 0, command)
    assert_nothing_is_missing(found)


def test_kill_9_under_load_costs_an_interval_at_most_and_is_told(each_lane: str) -> None:
    found = restart.kills(each_lane, 3, TRAFFIC, 1.0)
    lost = 0
    for kill in found.kills:
        # What is in a system call of a sender is on neither side for certain.
        assert 0 <= kill.lost <= kill.since_written + UNCERTAIN_LINES
        assert kill.is_told
        lost += kill.lost
    assert found.counted + lost + found.dropped * TRAFFIC.lines == found.sent
    assert lost > 0


UNCERTAIN_LINES = 4 * 64 * TRAFFIC.lines
"""A system call of each sender."""


def test_a_pause_between_writings_keeps_them_within_an_interval() -> None:
    assert keeper.pause_after(10, 0) == 10
    assert keeper.pause_after(10, 1) == 8
    assert keeper.pause_after(10, 4) == 4
    assert keeper.pause_after(10, 60) == 60


def test_a_kill_during_a_writing_is_told_even_before_the_first(
    start_daemon: StartDaemon, path: Path
) -> None:
    daemon = start_daemon("--state", str(path))
    daemon.send(b"jobs:3|c")
    assert daemon.end() == 0
    # Opening a pipe that nobody reads waits, so the first writing does not end.
    os.mkfifo(f"{path}.tmp")
    daemon = start_daemon("--state", str(path))
    daemon.send(b"jobs:1|c")
    daemon.wait_for_value(4, "jobs_total")
    assert daemon.value("llmstatsd_state_last_write_timestamp_seconds") == 0
    daemon.end(signal.SIGKILL)
    Path(f"{path}.tmp").unlink()
    after = start_daemon("--state", str(path))
    assert after.value("jobs_total") == 3
    assert after.value("llmstatsd_state_unclean_stops_total") == 1
    assert restart.NOT_CLEAN in after.log.read_text()
    assert after.end() == 0
    last = start_daemon("--state", str(path))
    assert last.value("llmstatsd_state_unclean_stops_total") == 1
    assert restart.NOT_CLEAN not in last.log.read_text()


def test_a_stop_during_a_writing_waits_for_it_and_writes_once_more(
    start_daemon: StartDaemon, path: Path
) -> None:
    os.mkfifo(f"{path}.tmp")
    daemon = start_daemon("--state", str(path))
    daemon.send(b"jobs:3|c")
    daemon.wait_for_value(3, "jobs_total")
    daemon.process.terminate()
    # A pipe cannot be brought to the disk: this writing fails, and takes it away.
    with Path(f"{path}.tmp").open("rb") as pipe:
        assert pipe.read()
    assert daemon.process.wait(DEADLINE_SECONDS) == 0
    after = start_daemon("--state", str(path))
    assert after.value("jobs_total") == 3
    assert restart.NOT_CLEAN not in after.log.read_text()


async def test_a_stop_while_the_state_is_read_keeps_it_and_counts_what_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = StateFile.load

    def load_and_end(file: StateFile) -> Found:
        os.kill(os.getpid(), signal.SIGTERM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for each in daemon._intake.sockets:
                sender.sendto(b"jobs:1|c", each.address)
        return load(file)

    monkeypatch.setattr(StateFile, "load", load_and_end)
    given = {"--statsd-udp": "127.0.0.1:0", "--http": "127.0.0.1:0", "--gpu-enabled": "false"}
    for number in (1, 2):
        daemon = Daemon(config.load(None, {}, given | {"--state": str(path)}))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await daemon.run()
        found = load(StateFile(str(path)))
        assert found.head is not None
        assert found.head.is_clean
        assert found.head.unclean_stops == 0
        [jobs] = [part for part in found.parts if part.name == "jobs_total"]
        assert [kept.numbers for kept in jobs.kept] == [(number,)]


@contextmanager
def flooded(daemon: RunningDaemon) -> Iterator[None]:
    """A sender that stops for nobody; some of what it sends has been counted."""
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with suppress(ConnectionRefusedError):  # the daemon has ended
                daemon.sender.send(b"jobs:1|c")

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        wait_for("the flood", lambda: daemon.value("jobs_total"))
        yield
    finally:
        over.set()
        thread.join(DEADLINE_SECONDS)


@pytest.mark.usefixtures("each_lane")
def test_a_flood_that_goes_on_and_signals_that_go_on_keep_nobody_from_a_clean_end(
    start_daemon: StartDaemon, path: Path
) -> None:
    daemon = start_daemon("--state", str(path))
    with flooded(daemon):
        for number in (signal.SIGTERM, signal.SIGINT) * 5000:
            daemon.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                daemon.process.wait(0.002)
                break
        assert daemon.process.wait(DEADLINE_SECONDS) == 0
    after = start_daemon("--state", str(path))
    assert restart.NOT_CLEAN not in after.log.read_text()
    stopped = daemon.log.read_text().partition("stopped: ")[2].partition(" datagrams")[0]
    assert after.value("jobs_total") == float(stopped)


@pytest.mark.usefixtures("each_lane")
def test_a_kill_while_a_stop_takes_the_last_in_is_told(
    start_daemon: StartDaemon, path: Path
) -> None:
    daemon = start_daemon("--state", str(path))
    wait_for("a writing", path.exists)
    with flooded(daemon):
        daemon.process.terminate()
        daemon.end(signal.SIGKILL)
    after = start_daemon("--state", str(path))
    assert restart.NOT_CLEAN in after.log.read_text()
    assert after.value("llmstatsd_state_unclean_stops_total") == 1
