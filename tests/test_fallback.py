"""A compiled lane that ends by a bug: seen, said, and the portable lane goes on."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from llmstatsd import config
from llmstatsd.daemon import Daemon
from llmstatsd.series.slowpath import SlowPath

pytestmark = pytest.mark.compiled

DEADLINE_SECONDS = 30.0


@asynccontextmanager
async def running(**flags: str) -> AsyncIterator[Daemon]:
    given = {"--statsd-udp": "127.0.0.1:0", "--http": "127.0.0.1:0", "--gpu-enabled": "false"}
    daemon = Daemon(config.load(None, {}, {**given, **flags}))
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        await asyncio.wait_for(task, DEADLINE_SECONDS)


async def test_a_lane_that_fails_gives_way_to_the_portable_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, bool]] = []

    class Watch(logging.Handler):
        """Notes whether the daemon was ready when it said something."""

        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.getMessage(), daemon._is_ready))

    caplog.set_level("INFO", "llmstatsd")
    watch = Watch()
    logging.getLogger("llmstatsd").addHandler(watch)
    async with running(**{"--statsd-lane": "compiled", "--statsd-lanes": "2"}) as daemon:
        address = daemon._intake.sockets[0].address
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"jobs:1|c\nwait:125|ms", address)
            await until(lambda: daemon._hot_path.stats.lines == 2)
            monkeypatch.setattr(SlowPath, "begin_datagram", fail)
            sender.sendto(b"lost:1|c", address)
            await until(lambda: "ready again: lane=portable" in caplog.messages)
            assert daemon._is_ready
            sender.sendto(b"jobs:2|c\nwait:125|ms\nnew:1|c", address)
            await until(lambda: daemon._hot_path.stats.lines == 5)
        families = daemon._store.families
        [jobs] = families["jobs_total"].cells.values()
        [wait] = families["wait_seconds"].cells.values()
        assert (jobs.value, sum(wait.counts)) == (3, 2)  # type: ignore[attr-defined]
        shown = {s.name: s for f in daemon._telemetry.collect() for s in f.samples}
        assert shown["llmstatsd_build_info"].labels["lane"] == "portable"
        assert shown["llmstatsd_lane_failures_total"].value == 1
        assert shown["llmstatsd_datagrams_total"].value == 3
        assert ("not ready: the portable lane takes over", False) in seen
    logging.getLogger("llmstatsd").removeHandler(watch)
    assert "ZeroDivisionError: a bug of the lane" in caplog.text


async def test_a_bug_in_the_lane_of_tcp_ends_all_lanes_and_all_sockets_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO", "llmstatsd")
    path = str(tmp_path / "dsd.sock")
    places = {"--statsd-unix": path, "--statsd-tcp": "127.0.0.1:0"}
    async with running(**{"--statsd-lane": "compiled"}, **places) as daemon:
        assert daemon._tcp
        _, writer = await asyncio.open_connection(*daemon._tcp.address)
        writer.write(b"jobs:1|c\n")
        await until(lambda: daemon._hot_path.stats.lines == 1)
        monkeypatch.setattr(SlowPath, "begin_datagram", fail)
        writer.write(b"lost:1|c\n")
        await until(lambda: "ready again: lane=portable" in caplog.messages)
        writer.write(b"jobs:2|c\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"jobs:4|c", path)
        await until(lambda: daemon._hot_path.stats.lines == 3)
        [jobs] = daemon._store.families["jobs_total"].cells.values()
        assert jobs.value == 7  # type: ignore[attr-defined]
        writer.close()
    assert not os.path.lexists(path)  # noqa: ASYNC240 one look


async def test_a_tap_goes_on_with_the_portable_lane(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llmstatsd")
    async with running(**{"--statsd-lane": "compiled"}) as daemon:
        address = daemon._intake.sockets[0].address
        tap = daemon._taps.open("text~later")
        monkeypatch.setattr(SlowPath, "begin_datagram", fail)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"lost:1|c", address)
            await until(lambda: "ready again: lane=portable" in caplog.messages)
            seen = b""
            async with asyncio.timeout(DEADLINE_SECONDS):
                while b'"text":"later:1|c"' not in seen:
                    sender.sendto(b"later:1|c", address)
                    seen = await tap.take() or b""
        daemon._taps.close(tap)


@pytest.mark.parametrize("kind", [ZeroDivisionError, MemoryError])
async def test_a_bug_of_the_live_view_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    raised: list[Exception] = []

    def fail_once(*_: Any) -> NoReturn:
        raised.append(kind("of the live view"))
        patch.undo()
        raise raised[-1]

    async with running() as daemon:
        with monkeypatch.context() as patch:
            patch.setattr(daemon._answers, "sample", fail_once)
            await until(lambda: raised)
            await until(lambda: daemon._answers.history.tick)
        assert daemon._is_ready
    is_bug = kind is not MemoryError
    assert ("what the page shows begins anew, by a bug" in caplog.text) == is_bug


def fail(*_: Any) -> NoReturn:
    raise ZeroDivisionError("a bug of the lane")


async def until(is_true: Any) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_true():
            await asyncio.sleep(0.01)
