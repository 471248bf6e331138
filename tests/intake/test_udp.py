"""The UDP intake over real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from llmstatsd.intake.udp import DATAGRAM_LIMIT_BYTES, QUEUE_DATAGRAMS, UdpIntake

DEADLINE_SECONDS = 20.0


def ignore(_: Sequence[bytes]) -> None:
    """Feed nothing."""


@asynccontextmanager
async def running(host: str, taken: list[bytes]) -> AsyncIterator[tuple[UdpIntake, socket.socket]]:
    intake = UdpIntake(host, 0, 1 << 18, taken.extend)
    await intake.start()
    task = asyncio.create_task(intake.run())
    family = socket.AF_INET6 if ":" in intake.address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect(intake.address)
        yield intake, sender
    await intake.stop()
    await asyncio.wait_for(task, DEADLINE_SECONDS)
    intake.close()


async def until(count: int, taken: list[bytes]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(taken) < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_datagrams_arrive_whole_and_in_order(host: str) -> None:
    taken: list[bytes] = []
    async with running(host, taken) as (_, sender):
        sent = [b"a" * size for size in (0, 1, 1432, 8192, 65_507)]
        for datagram in sent:
            sender.send(datagram)
        await until(len(sent), taken)
    assert taken == sent
    assert max(map(len, sent)) < DATAGRAM_LIMIT_BYTES


async def test_an_empty_host_takes_both_families() -> None:
    taken: list[bytes] = []
    async with running("", taken) as (intake, _):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(host.encode(), (host, intake.address[1]))
        await until(2, taken)
    assert sorted(taken) == [b"127.0.0.1", b"::1"]


async def test_what_waits_in_the_kernel_is_taken_before_the_end() -> None:
    taken: list[bytes] = []
    async with running("127.0.0.1", taken) as (_, sender):
        # No turn of the loop between sending and stopping: nothing can have been read yet.
        for number in range(150):
            sender.send(b"%d" % number)
        assert taken == []
    assert taken == [b"%d" % number for number in range(150)]


async def test_drops_of_the_kernel_are_read_from_the_socket() -> None:
    taken: list[bytes] = []
    async with running("127.0.0.1", taken) as (intake, sender):
        sent = 0
        while not (memory := intake.memory()) or not memory.drops:
            sender.send(b"x" * 8192)
            sent += 1
            assert sent < 10_000
        assert memory.queued_bytes > 0
        drops = memory.drops
        await until(sent - drops, taken)
        after = intake.memory()
        assert after is not None
        assert len(taken) + after.drops == sent


async def test_a_consumer_that_hangs_costs_counted_drops_and_no_memory() -> None:
    taken: list[bytes] = []
    intake = UdpIntake("127.0.0.1", 0, 1 << 22, taken.extend)
    await intake.start()  # and nobody runs the consumer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(intake.address)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not intake.stats.queue_dropped:
                sender.send(b"x")
                await asyncio.sleep(0)
    await intake.stop()
    intake.close()
    assert len(taken) >= QUEUE_DATAGRAMS


async def test_a_clamped_buffer_is_seen_in_what_was_granted() -> None:
    intake = UdpIntake("127.0.0.1", 0, 1 << 30, ignore)
    assert intake.buffer_bytes < intake.asked_buffer_bytes
    await intake.stop()
    intake.close()


async def test_a_port_in_use_is_an_os_error() -> None:
    intake = UdpIntake("127.0.0.1", 0, 1 << 16, ignore)
    with pytest.raises(OSError, match="in use"):
        UdpIntake("127.0.0.1", intake.address[1], 1 << 16, ignore)
    await intake.stop()
    intake.close()


async def test_a_name_means_ipv4_where_it_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    intake = UdpIntake("localhost", 0, 1 << 16, ignore)
    assert intake.address[0] == "127.0.0.1"
    await intake.stop()
    intake.close()


async def test_an_address_that_is_not_here_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 0)),
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    intake = UdpIntake("both.test", 0, 1 << 16, ignore)
    assert intake.address[0] == "::1"
    await intake.stop()
    intake.close()
