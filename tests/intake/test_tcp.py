"""Streams of lines at the end of a daemon: who is heard, and who is refused."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

from llmstatsd.intake.tcp import TcpIntake, TcpLimits, bind
from tests.conftest import DEADLINE_SECONDS


async def test_a_stop_hears_who_has_connected_and_refuses_who_comes_later() -> None:
    taken: list[bytes] = []

    def feed(pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            taken.extend(line for line in piece.split(b"\n") if line)

    intake = TcpIntake(bind("127.0.0.1", 0), TcpLimits(100, 60.0, 100), feed)
    place = intake.address
    with socket.create_connection(place) as waiting, socket.create_connection(place) as endless:
        waiting.sendall(b"sent before\n")
        endless.setblocking(False)
        await intake.start()
        stopping = asyncio.create_task(intake.stop())
        refused = False
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not refused and not stopping.done():
                with suppress(BlockingIOError):  # as long as something waits, the stop goes on
                    while True:
                        endless.send(b"more\n" * 1000)
                await asyncio.sleep(0)
                try:
                    socket.create_connection(place).close()
                except ConnectionRefusedError:
                    refused = not stopping.done()
        assert refused
        endless.close()
        await asyncio.wait_for(stopping, DEADLINE_SECONDS)
    assert taken.count(b"sent before") == 1
    assert intake.stats.open == 0
    intake.close()
