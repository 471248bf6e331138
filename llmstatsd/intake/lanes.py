"""Datagrams by compiled lanes: one socket and one thread for each, which works without the GIL.

Between the socket and the cells there is no queue: a lane reads up to 64 datagrams at once and
adds them up before it reads again, so the kernel's receive buffer is the only place to wait.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from llmstatsd.intake.copies import Copy, sender_of
from llmstatsd.intake.sockets import DatagramSocket, IntakeStats

RECEIVE_TIMEOUT_SECONDS: Final = 0.1
"""How long a lane without datagrams waits before it looks whether it shall stop."""

GIVEN_WAY_NICE: Final = 10
"""What the nice value grows by of a thread that gives way to lanes: a tenth of their weight.

By the kernel's sched(7) a step is about a quarter more or less.
"""

SWITCH_TURNS: Final = 2
SWITCH_STEP_SECONDS: Final = 0.005
"""How often it is looked whether lanes went round, which takes two receive timeouts at most."""

STOP_STEP_SECONDS: Final = 0.005
"""How often it is looked whether lanes have ended."""

_TIMEVAL: Final = struct.Struct("@ll")  # struct timeval of sys/time.h


class Lane(Protocol):
    """What takes the datagrams of one socket."""

    @property
    def feeder(self) -> object:
        """A capsule with the struct Feeder of batch.h."""


class LaneFailedError(Exception):
    """A lane ended by a bug, which is the cause."""


def give_way() -> None:
    """Let this thread, and those it starts from now on, leave processors to lanes that run.

    Where all processors are busy a scrape then takes longer instead of costing datagrams.
    Linux keeps a nice value for each thread, and lets anyone raise it, but not lower it again.
    """
    thread = threading.get_native_id()
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, nice + GIVEN_WAY_NICE)


class LaneIntake:
    """Bound datagram sockets, each read by a thread of its own into a lane of its own."""

    def __init__(self, sockets: Sequence[DatagramSocket], lanes: Sequence[Lane]) -> None:
        from llmstatsd.intake.compiled import Receiver

        self.sockets = tuple(sockets)
        self.stats = IntakeStats()
        self._receivers = [
            Receiver(
                each.socket.fileno(),
                lane.feeder,
                each.senders.table if each.senders else b"",
                each.transport == "unix",
            )
            for each, lane in zip(sockets, lanes, strict=True)
        ]
        self._lanes = tuple(lanes)  # the feeders live as long as they do
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._has_ended = asyncio.Event()

    async def start(self) -> None:
        """Begin to receive."""
        for each in self.sockets:
            each.socket.setblocking(True)
            timeout = _TIMEVAL.pack(0, int(RECEIVE_TIMEOUT_SECONDS * 1e6))
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        loop = asyncio.get_running_loop()
        for number, receiver in enumerate(self._receivers, 1):
            thread = threading.Thread(
                target=self._work, args=(receiver.run, loop), name=f"lane-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    async def run(self) -> None:
        """Wait until `stop`; LaneFailedError when a lane ends before, the others are stopped."""
        await self._has_ended.wait()
        if self._failure is not None:
            await self.stop()
            raise LaneFailedError("a compiled lane ended by a bug of its own") from self._failure

    def turns(self) -> tuple[int, ...]:
        """How often each lane went round: all grow, datagrams or not, as long as all live."""
        return tuple(receiver.turns for receiver in self._receivers)

    async def feed_to(self, lanes: Sequence[Lane]) -> None:
        """Feed other lanes; when this returns, those of before are not fed any more."""
        feeders = [lane.feeder for lane in lanes]
        for receiver, feeder in zip(self._receivers, feeders, strict=True):
            receiver.feed_to(feeder)
        before = self.turns()
        # A turn that had begun may end by the lane of before, and the one after it does not.
        while any(  # noqa: ASYNC110 - the threads cannot set an event without the GIL
            thread.is_alive() and now - then < SWITCH_TURNS
            for thread, now, then in zip(self._threads, self.turns(), before, strict=False)
        ):
            await asyncio.sleep(SWITCH_STEP_SECONDS)
        self._lanes = tuple(lanes)

    def tap(self, is_open: bool) -> None:
        """Begin to copy what is taken in, or end that; twice is as good as once."""
        for receiver in self._receivers:
            receiver.tap(is_open)

    def tapped(self, most: int) -> list[Copy]:
        """Some of what was copied since, at most so many of each socket, one after the other."""
        return [
            Copy(data, is_cut, each.transport, sender_of(sender))
            for receiver, each in zip(self._receivers, self.sockets, strict=True)
            for data, is_cut, sender in receiver.tapped(most)
        ]

    def settle(self) -> None:
        """Bring the stats of the sockets up to date with what the threads have counted."""
        for receiver, each in zip(self._receivers, self.sockets, strict=True):
            stats = each.stats
            stats.datagrams, stats.bytes, stats.foreign, stats.too_long = receiver.counts

    def fail(self, error: BaseException) -> None:
        """End all lanes by a bug of one, or of who feeds a lane without a thread."""
        self._failure = error
        self._has_ended.set()

    async def stop(self) -> None:
        """Stop reading and take in all that was sent before."""
        for receiver, each in zip(self._receivers, self.sockets, strict=True):
            receiver.stop(*each.waiting_limit())
        # To wait for them in a thread would need one, for which there may be no memory.
        while any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110
            await asyncio.sleep(STOP_STEP_SECONDS)
        self._has_ended.set()

    def _work(self, run: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 whatever ends a lane, the loop must know
            loop.call_soon_threadsafe(self.fail, error)
