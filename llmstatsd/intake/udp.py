"""Datagrams by asyncio-dgram: a few sockets, a short bounded queue, one consumer.

uvloop hands over at most a few dozen datagrams in one turn of the loop, and the consumer takes all
of them before the next turn. So under a flood the datagrams wait, and are lost, in one place: the
kernel's receive buffer, whose drops are read from the socket.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import asyncio_dgram
from asyncio_dgram.aio import DatagramServer, Protocol

from llmstatsd.intake.copies import Copies, Copy
from llmstatsd.intake.sockets import (
    DATAGRAM_LIMIT_BYTES,
    SMALLEST_BUFFER_CHARGE,
    DatagramSocket,
    IntakeStats,
    Waiting,
)

QUEUE_DATAGRAMS: Final = 1024
"""Bound of the queue between asyncio-dgram and the consumer.

libuv reads at most 32 datagrams in a turn of the loop, so reaching this bound means that the
consumer does not run; what comes then is dropped and counted.
"""

BATCH_BYTES: Final = 65_536
"""Bytes from which on no further datagram joins those that are fed together."""

DRAIN_STEP_DATAGRAMS: Final = 64
"""Datagrams taken from the kernel in one turn of the loop while draining."""


class UdpIntake:
    """Bound datagram sockets; `feed` gets the datagrams of one turn of the loop together."""

    def __init__(
        self,
        sockets: Sequence[DatagramSocket],
        feed: Callable[[Sequence[bytes]], None],
        stats: IntakeStats | None = None,
    ) -> None:
        self.sockets = tuple(sockets)
        self.stats = stats or IntakeStats()
        self._feed = feed
        self._copies: Copies | None = None  # while a tap is open
        self._queue: asyncio.Queue[tuple[bytes | None, Any]] = asyncio.Queue(QUEUE_DATAGRAMS)
        self._streams: list[DatagramServer] = []

    async def start(self) -> None:
        """Begin to receive, from all sockets into one queue."""
        errors: asyncio.Queue[Exception] = asyncio.Queue(QUEUE_DATAGRAMS)
        drained = asyncio.Event()
        for each in self.sockets:
            protocol = _BoundedProtocol(self._queue, errors, drained, self.stats, each)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                partial(_itself, protocol),
                sock=each.socket.dup(),  # a transport closes its socket when it ends
            )
            # asyncio-dgram's stub says protocol where its code says transport.
            stream = DatagramServer(transport, self._queue, errors, drained)  # type: ignore[arg-type]
            self._streams.append(stream)

    async def run(self) -> None:
        """Feed datagrams until `stop`."""
        if not self._streams:
            raise RuntimeError("the intake has not been started")
        stream, queue = self._streams[0], self._queue
        while True:
            try:
                first = await stream.recv()
            except asyncio_dgram.TransportClosed:
                return
            except OSError:
                continue  # an ICMP error of some sender; a receiver has nothing to do about it
            waiting = queue.qsize()
            if waiting >= self.stats.queue_high_water:
                self.stats.queue_high_water = waiting + 1
            # What came in the same turn of the loop costs no further wake-up.
            self._take_in([first, *self._waiting(BATCH_BYTES - len(first[0]))])

    def feed_to(self, feed: Callable[[Sequence[bytes]], None]) -> None:
        """Feed something else from now on."""
        self._feed = feed

    def tap(self, is_open: bool) -> None:
        """Begin to copy what is taken in, or end that; twice is as good as once."""
        if not is_open:
            self._copies = None
        elif self._copies is None:
            transports = {each.transport for each in self.sockets}  # all come by one queue
            self._copies = Copies(transports.pop() if len(transports) == 1 else None)

    def tapped(self, most: int) -> list[Copy]:
        """Some of what was copied since it was asked last, evenly, the oldest first."""
        return self._copies.take(most) if self._copies is not None else []

    def settle(self) -> None:
        """Bring everything that is counted up to date: here it always is."""

    def turns(self) -> tuple[int, ...]:
        """Nothing goes round here but the loop itself, which is asked by running on it."""
        return ()

    async def stop(self) -> None:
        """Stop reading and feed all that was sent before: the queue, then what the kernel holds."""
        waiting = [each.waiting_limit() for each in self.sockets]
        for stream in self._streams:
            stream.close()
        while batch := self._waiting(BATCH_BYTES):
            self._take_in(batch)
        for each, most in zip(self.sockets, waiting, strict=True):
            await self._drain(each, most)

    def _take_in(self, batch: Sequence[tuple[bytes, Any]]) -> None:
        self._feed([datagram for datagram, _ in batch])
        if self._copies is not None:
            self._copies.put(batch)

    def _waiting(self, most_bytes: int) -> list[tuple[Any, Any]]:
        """What waits in the queue, datagrams with their senders, until they have so many bytes."""
        queue = self._queue
        batch = []
        while most_bytes > 0 and not queue.empty():
            received = queue.get_nowait()
            if received[0] is None:
                continue  # asyncio-dgram's mark of the end: a stream is closed
            batch.append(received)
            most_bytes -= len(received[0])
        return batch

    async def _drain(self, source: DatagramSocket, most: Waiting) -> None:
        source.socket.setblocking(False)
        left = most.bytes
        for taken in range(most.datagrams):
            if left <= 0:
                return
            try:
                # One byte more shows whether it is too long.
                datagram, sender = source.socket.recvfrom(DATAGRAM_LIMIT_BYTES + 1)
            except BlockingIOError:
                return
            left -= len(datagram) + SMALLEST_BUFFER_CHARGE
            if source.take(datagram, _host(sender)):
                self._take_in([(datagram, sender)])
            if taken % DRAIN_STEP_DATAGRAMS == 0:
                await asyncio.sleep(0)


def _host(sender: Any) -> str | None:
    """The IP address of a sender; None for one on a unix socket."""
    return sender[0] if isinstance(sender, tuple) else None


def _itself(protocol: "_BoundedProtocol") -> "_BoundedProtocol":
    return protocol


class _BoundedProtocol(Protocol):
    """asyncio-dgram's protocol over a bounded queue: what does not fit is counted, not raised."""

    def __init__(
        self,
        queue: "asyncio.Queue[tuple[bytes | None, Any]]",
        errors: "asyncio.Queue[Exception]",
        drained: asyncio.Event,
        stats: IntakeStats,
        source: DatagramSocket,
    ) -> None:
        super().__init__(queue, errors, drained)
        self._source = source
        self._queue = queue
        self._put = queue.put_nowait
        self._put_error = errors.put_nowait
        self._stats = stats

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._queue.full():
            self._stats.queue_dropped += 1
        elif self._source.take(data, _host(addr)):
            self._put((data, addr))

    def error_received(self, exc: Exception) -> None:
        with suppress(asyncio.QueueFull):
            self._put_error(exc)
