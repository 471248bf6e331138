"""A tap gets copies of what is taken in: bounded, only while it is open, and by every intake."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from llmstatsd.address import networks
from llmstatsd.intake import sockets, tcp, unix
from llmstatsd.intake.copies import COPIES_LIMIT, COPY_BYTES, Copy, Tapped
from llmstatsd.intake.senders import Senders
from llmstatsd.intake.tcp import TcpIntake, TcpLimits
from tests import twins

from . import DEADLINE_SECONDS, Intake, intake_of


@pytest.fixture(params=twins.BOTH)
def lane(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    twins.twin(name)
    return name


@asynccontextmanager
async def running(
    lane: str,
    bound: list[sockets.DatagramSocket],
    taken: list[bytes],
    *,
    is_tapped: bool = False,
) -> AsyncIterator[Intake]:
    """An intake that receives, and has ended behind it."""
    intake = intake_of(lane, bound, taken.extend)
    intake.tap(is_tapped)
    await intake.start()
    task = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        await asyncio.wait_for(intake.stop(), DEADLINE_SECONDS)
        await task
        for each in bound:
            each.close()


async def send_and_wait(
    bound: sockets.DatagramSocket, taken: list[bytes], *datagrams: bytes
) -> None:
    """Send them one after the other, each after the last one was taken."""
    with socket.socket(bound.socket.family, socket.SOCK_DGRAM) as sender:
        for data in datagrams:
            before = len(taken)
            sender.sendto(data, bound.socket.getsockname())
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(taken) == before:
                    await asyncio.sleep(0.001)


async def copies(source: Tapped, count: int) -> list[Copy]:
    """So many copies, which come a moment after their datagrams were taken in."""
    found: list[Copy] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < count:
            found += [copy._replace(sender=None) for copy in source.tapped(COPIES_LIMIT)]
            await asyncio.sleep(0.001)
    return found


async def test_copies_are_taken_while_a_tap_is_open_and_never_else(lane: str) -> None:
    taken: list[bytes] = []
    [bound] = sockets.bind("127.0.0.1", 0, 1 << 20)
    async with running(lane, [bound], taken) as intake:
        await send_and_wait(bound, taken, b"before")
        assert intake.tapped(COPIES_LIMIT) == []
        intake.tap(True)
        await send_and_wait(bound, taken, b"one", b"two")
        intake.tap(True)
        long = b"x" * COPY_BYTES
        await send_and_wait(bound, taken, long, long + b"y")
        assert await copies(intake, 4) == [
            Copy(b"one", False, "udp"),
            Copy(b"two", False, "udp"),
            Copy(long, False, "udp"),
            Copy(long, True, "udp"),
        ]
        await send_and_wait(bound, taken, b"unasked")
        intake.tap(False)
        await send_and_wait(bound, taken, b"after", b"after")
        intake.tap(True)
        assert intake.tapped(COPIES_LIMIT) == []
        await send_and_wait(bound, taken, b"again")
        assert await copies(intake, 1) == [Copy(b"again", False, "udp")]


@pytest.mark.parametrize(
    ("listening", "source", "named"),
    [
        ("127.0.0.1", "127.0.0.3", "127.0.0.3:{}"),
        ("::1", "::1", "[::1]:{}"),
        ("", "127.0.0.1", "127.0.0.1:{}"),
    ],
    ids=["ipv4", "ipv6", "both families"],
)
async def test_a_copy_names_its_sender(lane: str, listening: str, source: str, named: str) -> None:
    taken: list[bytes] = []
    [bound] = sockets.bind(listening, 0, 1 << 20)
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    port = bound.socket.getsockname()[1]
    async with running(lane, [bound], taken, is_tapped=True) as intake:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            text = named.format(sender.getsockname()[1])
            place = (source if ":" in source else "127.0.0.1", port)
            found: list[str | None] = []
            async with asyncio.timeout(DEADLINE_SECONDS):
                while text not in found:  # the kernel is not asked in the first moment
                    sender.sendto(b"x", place)
                    await asyncio.sleep(0.001)
                    found += [copy.sender for copy in intake.tapped(COPIES_LIMIT)]
                assert set(found[: found.index(text)]) <= {None}
                found = []
                while len(found) < 4 * COPIES_LIMIT:  # and the room for copies ends again and again
                    for _ in range(COPIES_LIMIT + 50):
                        sender.sendto(b"x", place)
                    await asyncio.sleep(0.001)
                    found += [copy.sender for copy in intake.tapped(COPIES_LIMIT)]
    assert set(found) == {text}


async def test_copies_of_a_socket_that_only_some_may_send_to_name_the_right_sender(
    lane: str,
) -> None:
    """Foreign ones lie between them in a batch."""
    taken: list[bytes] = []
    [bound] = sockets.bind("127.0.0.1", 0, 1 << 20, senders=Senders(networks("127.0.0.1")))
    place = bound.socket.getsockname()
    async with running(lane, [bound], taken, is_tapped=True) as intake:
        with ExitStack() as stack:
            senders = []
            for host in ("127.0.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.1"):
                sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sender.bind((host, 0))
                senders.append(sender)
            ports = [sender.getsockname()[1] for sender in senders]
            for _ in range(50):
                for sender, port in zip(senders, ports, strict=True):
                    sender.sendto(b"%d" % port, place)
            found: list[Copy] = []
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(found) < 100:
                    found += intake.tapped(COPIES_LIMIT)
                    await asyncio.sleep(0.001)
    assert {copy.sender for copy in found} == {f"127.0.0.1:{port}" for port in ports[1::2]}
    assert all(copy.sender == f"127.0.0.1:{copy.data.decode()}" for copy in found)


async def all_copied(lane: str, sent: list[bytes]) -> Intake:
    """An intake that has taken in what was sent, and has ended."""
    taken: list[bytes] = []
    [bound] = sockets.bind("127.0.0.1", 0, 1 << 22)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in sent:
            sender.sendto(data, bound.address)
    async with running(lane, [bound], taken, is_tapped=True) as intake:
        await intake.stop()
    assert taken == sent
    return intake


async def test_what_has_no_room_is_taken_in_and_not_copied(lane: str) -> None:
    sent = [b"%d" % number for number in range(COPIES_LIMIT + 100)]
    intake = await all_copied(lane, sent)
    assert [copy.data for copy in intake.tapped(COPIES_LIMIT)] == sent[:COPIES_LIMIT]
    assert intake.tapped(COPIES_LIMIT) == []


@pytest.mark.parametrize(
    ("most", "expected"), [(3, [0, 4, 8]), (5, [0, 2, 4, 6, 8]), (10, [*range(10)]), (0, [0])]
)
async def test_some_are_given_evenly_and_all_leave(
    lane: str, most: int, expected: list[int]
) -> None:
    intake = await all_copied(lane, [b"%d" % number for number in range(10)])
    assert [int(copy.data) for copy in intake.tapped(most)] == expected
    assert intake.tapped(10) == []


async def test_the_ring_goes_round(lane: str) -> None:
    taken: list[bytes] = []
    [bound] = sockets.bind("127.0.0.1", 0, 1 << 20)
    async with running(lane, [bound], taken) as intake:
        intake.tap(True)
        for begin in range(0, 3 * COPIES_LIMIT, 100):
            sent = [b"%d" % number for number in range(begin, begin + 100)]
            await send_and_wait(bound, taken, *sent)
            assert [copy.data for copy in await copies(intake, 100)] == sent


async def test_a_copy_says_by_which_socket_it_came(lane: str, tmp_path: object) -> None:
    taken: list[bytes] = []
    [bound] = sockets.bind("127.0.0.1", 0, 1 << 20)
    local = unix.bind(f"{tmp_path}/socket", 0o600, "")
    async with running(lane, [bound, local], taken) as intake:
        intake.tap(True)
        await send_and_wait(bound, taken, b"by udp")
        await send_and_wait(local, taken, b"by unix")
        told = {copy.data: copy.transport for copy in await copies(intake, 2)}
        # The portable lane has one queue for all, and does not tell them apart.
        both = ("udp", "unix") if lane == twins.COMPILED else (None, None)
        assert (told[b"by udp"], told[b"by unix"]) == both


async def test_lines_over_tcp_are_copied_too() -> None:
    taken: list[bytes] = []
    intake = TcpIntake(tcp.bind("127.0.0.1", 0), TcpLimits(8, 60, 8192), taken.extend)
    await intake.start()
    intake.tap(True)
    _, writer = await asyncio.open_connection(*intake.address)
    writer.write(b"a:1|c\nb:1|c\n")
    copied = await copies(intake, 1)
    lines = [line for copy in copied for line in copy.data.split(b"\n") if line]
    assert (lines, copied[0].transport) == ([b"a:1|c", b"b:1|c"], "tcp")
    intake.tap(False)
    writer.write(b"c:1|c\n")
    writer.close()
    await asyncio.wait_for(intake.stop(), DEADLINE_SECONDS)
    assert (len(taken), intake.tapped(COPIES_LIMIT)) == (2, [])
    intake.close()
