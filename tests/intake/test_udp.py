"""The UDP intake of both lanes over real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from llmstatsd.intake import sockets
from llmstatsd.intake.sockets import DATAGRAM_LIMIT_BYTES
from llmstatsd.intake.udp import QUEUE_DATAGRAMS, UdpIntake
from tests import twins

from . import DEADLINE_SECONDS, Intake, intake_of


@pytest.fixture(params=twins.BOTH)
def lane(request: pytest.FixtureRequest) -> str:
    """Which lane takes the datagrams in."""
    chosen: str = request.param
    return chosen


@asynccontextmanager
async def running(
    lane: str, host: str, taken: list[bytes], count: int = 1
) -> AsyncIterator[tuple[Intake, socket.socket]]:
    bound = sockets.bind(host, 0, 1 << 18, count)
    intake = intake_of(lane, bound, taken.extend)
    await intake.start()
    task = asyncio.create_task(intake.run())
    family = socket.AF_INET6 if ":" in bound[0].address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect(bound[0].address)
        yield intake, sender
    await intake.stop()
    await asyncio.wait_for(task, DEADLINE_SECONDS)
    for each in bound:
        each.close()


async def until(count: int, taken: list[bytes]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(taken) < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_datagrams_arrive_whole_and_in_order(lane: str, host: str) -> None:
    taken: list[bytes] = []
    async with running(lane, host, taken) as (_, sender):
        sent = [b"a" * size for size in (0, 1, 1432, 8192, 65_507)]
        for datagram in sent:
            sender.send(datagram)
        await until(len(sent), taken)
    assert taken == sent
    assert max(map(len, sent)) < DATAGRAM_LIMIT_BYTES


async def test_an_empty_host_takes_both_families(lane: str) -> None:
    taken: list[bytes] = []
    async with running(lane, "", taken) as (intake, _):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(host.encode(), (host, intake.sockets[0].address[1]))
        await until(2, taken)
    assert sorted(taken) == [b"127.0.0.1", b"::1"]


async def test_what_waits_in_the_kernel_is_taken_before_the_end() -> None:
    taken: list[bytes] = []
    async with running(twins.PORTABLE, "127.0.0.1", taken) as (_, sender):
        # No turn of the loop between sending and stopping: nothing can have been read yet.
        for number in range(150):
            sender.send(b"%d" % number)
        assert taken == []
    assert taken == [b"%d" % number for number in range(150)]


@pytest.mark.parametrize(("size", "most"), [(60_000, 1000), (0, 10_000)])
async def test_a_sender_that_never_stops_does_not_keep_an_intake_from_its_end(
    lane: str, size: int, most: int
) -> None:
    """What is taken last is no more than can have waited, in datagrams and in bytes."""
    taken, is_stopping = 0, False

    def send_on(datagrams: Sequence[bytes]) -> None:
        nonlocal taken
        taken += is_stopping * len(datagrams)
        for _ in range(3):
            sender.send(bytes(size))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        bound = sockets.bind("127.0.0.1", 0, 1 << 20)
        sender.connect(bound[0].address)
        intake = intake_of(lane, bound, send_on)
        await intake.start()
        for _ in range(20):
            sender.send(bytes(size))
        is_stopping = True
        async with asyncio.timeout(DEADLINE_SECONDS):  # no turn of the loop before
            await intake.stop()
        bound[0].close()
    assert 0 < taken <= most


async def test_drops_of_the_kernel_are_read_from_the_socket() -> None:
    taken: list[bytes] = []
    async with running(twins.PORTABLE, "127.0.0.1", taken) as (intake, sender):
        [bound] = intake.sockets
        sent = 0
        while not (memory := bound.memory()) or not memory.drops:
            sender.send(b"x" * 8192)
            sent += 1
            assert sent < 10_000
        assert memory.queued_bytes > 0
        drops = memory.drops
        await until(sent - drops, taken)
        after = bound.memory()
        assert after is not None
        assert len(taken) + after.drops == sent


async def test_a_consumer_that_hangs_costs_counted_drops_and_no_memory() -> None:
    taken: list[bytes] = []
    bound = sockets.bind("127.0.0.1", 0, 1 << 22)[0]
    intake = UdpIntake([bound], taken.extend)
    await intake.start()  # and nobody runs the consumer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(bound.address)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not intake.stats.queue_dropped:
                sender.send(b"x")
                await asyncio.sleep(0)
    await intake.stop()
    bound.close()
    assert len(taken) >= QUEUE_DATAGRAMS


async def test_several_sockets_share_an_address_and_lose_nothing(lane: str) -> None:
    taken: list[bytes] = []
    sent = sorted(b"%d" % number for number in range(200))
    async with running(lane, "127.0.0.1", taken, count=3) as (intake, _):
        [address] = {each.address for each in intake.sockets}
        for datagram in sent:
            # The kernel picks the socket by the sender's address.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(datagram, address)
        await until(len(sent), taken)
    assert sorted(taken) == sent


async def test_an_icmp_error_of_a_sender_ends_no_lane(lane: str) -> None:
    taken: list[bytes] = []
    async with running(lane, "127.0.0.1", taken) as (intake, sender):
        [bound] = intake.sockets
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            nobody = gone.getsockname()
        bound.socket.sendto(b"a datagram to a closed port", nobody)
        sender.send(b"after")
        await until(1, taken)
    assert taken == [b"after"]
