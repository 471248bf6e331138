"""UDP by asyncio-dgram: one socket, a short bounded queue, one consumer.

uvloop hands over at most a few dozen datagrams in one turn of the loop, and the consumer takes all
of them before the next turn. So under a flood the datagrams wait, and are lost, in one place: the
kernel's receive buffer, whose drops are read from the socket.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncio_dgram
from asyncio_dgram.aio import DatagramServer, Protocol

from llmstatsd.address import every_interface

QUEUE_DATAGRAMS: Final = 1024
"""Bound of the queue between asyncio-dgram and the consumer.

libuv reads at most 32 datagrams in a turn of the loop, so reaching this bound means that the
consumer does not run; what comes then is dropped and counted.
"""

BATCH_BYTES: Final = 65_536
"""Bytes from which on no further datagram joins those that are fed together."""

DATAGRAM_LIMIT_BYTES: Final = 65_535
"""Largest UDP payload with its headers, by the 16-bit length field of RFC 768."""

DRAIN_STEP_DATAGRAMS: Final = 64
"""Datagrams taken from the kernel in one turn of the loop while draining."""

SMALLEST_BUFFER_CHARGE: Final = 256
"""Bytes the kernel accounts for the smallest datagram at the least (its `sk_buff`)."""

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_SO_MEMINFO: Final = 55  # include/uapi/asm-generic/socket.h
_MEMINFO: Final = struct.Struct("=9I")  # SK_MEMINFO_* of include/uapi/linux/sock_diag.h
_QUEUED, _DROPS = 0, 8


class Memory(NamedTuple):
    """The kernel's account of a receive buffer: bytes waiting, and datagrams dropped so far.

    The kernel counts drops in 32 bits; Prometheus takes the wrap for a restart.
    """

    queued_bytes: int
    drops: int


@dataclass(slots=True)
class IntakeStats:
    """What this stage tells of itself: the bounded queue's drops and its highest fill."""

    queue_dropped: int = 0
    queue_high_water: int = 0


class UdpIntake:
    """One bound UDP socket; `feed` gets the datagrams of one turn of the loop together."""

    def __init__(
        self,
        host: str,
        port: int,
        receive_buffer_bytes: int,
        feed: Callable[[Sequence[bytes]], None],
    ) -> None:
        """Bind the socket now; OSError names what the system says. Port 0 takes a free one."""
        self.stats = IntakeStats()
        self.asked_buffer_bytes = receive_buffer_bytes
        self._feed = feed
        self._socket = _bind(host, port, receive_buffer_bytes)
        self._spare = self._socket.dup()  # outlives the transport, to drain and to ask for drops
        # Linux accounts for twice of what is granted.
        self.buffer_bytes = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        """The receive buffer granted, in the terms it was asked for."""
        self._queue: asyncio.Queue[tuple[bytes | None, Any]] = asyncio.Queue(QUEUE_DATAGRAMS)
        self._stream: DatagramServer | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that the socket really has."""
        host, port = self._spare.getsockname()[:2]
        return host, port

    def memory(self) -> Memory | None:
        """The kernel's account; None where there is no SO_MEMINFO, and after the end."""
        try:
            raw = self._spare.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return None
        fields = _MEMINFO.unpack(raw)
        return Memory(fields[_QUEUED], fields[_DROPS])

    async def start(self) -> None:
        """Begin to receive."""
        errors: asyncio.Queue[Exception] = asyncio.Queue(QUEUE_DATAGRAMS)
        drained = asyncio.Event()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _BoundedProtocol(self._queue, errors, drained, self.stats), sock=self._socket
        )
        # asyncio-dgram's stub says protocol where its code says transport.
        self._stream = DatagramServer(transport, self._queue, errors, drained)  # type: ignore[arg-type]

    async def run(self) -> None:
        """Feed datagrams until `stop`."""
        stream, queue, feed = self._stream, self._queue, self._feed
        if stream is None:
            raise RuntimeError("the intake has not been started")
        while True:
            try:
                datagram, _ = await stream.recv()
            except asyncio_dgram.TransportClosed:
                return
            except OSError:
                continue  # an ICMP error of some sender; a receiver has nothing to do about it
            waiting = queue.qsize()
            if waiting >= self.stats.queue_high_water:
                self.stats.queue_high_water = waiting + 1
            # What came in the same turn of the loop costs no further wake-up.
            feed([datagram, *self._waiting(BATCH_BYTES - len(datagram))])

    async def stop(self) -> None:
        """Stop reading and feed all that was sent before: the queue, then what the kernel holds."""
        memory = self.memory()
        if self._stream is None:
            self._socket.close()
        else:
            self._stream.close()
        while batch := self._waiting(BATCH_BYTES):
            self._feed(batch)
        waiting = memory.queued_bytes if memory else self.buffer_bytes
        await self._drain(waiting // SMALLEST_BUFFER_CHARGE)

    def close(self) -> None:
        """Give the socket up; until then its losses can be read."""
        self._spare.close()

    def _waiting(self, most_bytes: int) -> list[bytes]:
        """What waits in the queue, until it has so many bytes."""
        queue = self._queue
        batch = []
        while most_bytes > 0 and not queue.empty():
            datagram, _ = queue.get_nowait()
            if datagram is None:
                break  # asyncio-dgram's mark of the end: the stream is closed
            batch.append(datagram)
            most_bytes -= len(datagram)
        return batch

    async def _drain(self, most: int) -> None:
        self._spare.setblocking(False)
        for taken in range(most):
            try:
                datagram = self._spare.recv(DATAGRAM_LIMIT_BYTES)
            except BlockingIOError:
                return
            self._feed([datagram])
            if taken % DRAIN_STEP_DATAGRAMS == 0:
                await asyncio.sleep(0)


class _BoundedProtocol(Protocol):
    """asyncio-dgram's protocol over a bounded queue: what does not fit is counted, not raised."""

    def __init__(
        self,
        queue: "asyncio.Queue[tuple[bytes | None, Any]]",
        errors: "asyncio.Queue[Exception]",
        drained: asyncio.Event,
        stats: IntakeStats,
    ) -> None:
        super().__init__(queue, errors, drained)
        self._put = queue.put_nowait
        self._put_error = errors.put_nowait
        self._stats = stats

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            self._put((data, addr))
        except asyncio.QueueFull:
            self._stats.queue_dropped += 1

    def error_received(self, exc: Exception) -> None:
        with suppress(asyncio.QueueFull):
            self._put_error(exc)


def _bind(host: str, port: int, receive_buffer_bytes: int) -> socket.socket:
    """A socket on the first address of a name that this machine has, IPv4 before IPv6.

    Senders prefer IPv4 too, so that both mean the same `localhost`.
    """
    found = socket.getaddrinfo(
        host or every_interface(), port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )
    places = sorted(found, key=lambda info: info[0] != socket.AF_INET)
    for number, (family, *_, place) in enumerate(places, 1):
        try:
            return _bound(family, place, receive_buffer_bytes)
        except OSError as error:
            if error.errno not in _NOT_HERE or number == len(places):
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _bound(
    family: socket.AddressFamily, place: tuple[Any, ...], receive_buffer_bytes: int
) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if family == socket.AF_INET6:
            only_ipv6 = place[0] != "::"
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound
