"""Lines over TCP, on the event loop: a line ends with a line feed, the last one with the stream.

What is read is fed at once, so the kernel's buffers are the only queue, and a sender that is faster
than the daemon waits. A read takes READ_BYTES at most, and a connection that filled one reads again
in the next turn of the loop, so that no sender keeps the others waiting.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from llmstatsd.intake.copies import Copies, Copy
from llmstatsd.intake.senders import Senders
from llmstatsd.intake.sockets import bind_first

READ_BYTES: Final = 16_384
"""Most bytes taken from a connection in a turn of the loop."""

BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted, if net.core.somaxconn allows it."""

DRAIN_SECONDS: Final = 2.0
"""Longest time at the end to take in what has been sent; senders that go on do not prolong it."""

ACCEPTING_TURNS: Final = 3
"""Turns of the loop after which a connection that it has accepted is known here: it takes one."""

_UNACKED: Final = struct.Struct("=24xI")
"""Where tcpi_unacked stands in struct tcp_info of linux/tcp.h."""

FOREIGN: Final = "foreign"
LIMIT: Final = "limit"
REFUSED_CONNECTIONS: Final = (FOREIGN, LIMIT)
"""Why a connection is closed at once: its network may not send, or there are too many."""

TOO_LONG: Final = "too_long"
CUT: Final = "cut"
REFUSED_LINES: Final = (TOO_LONG, CUT)
"""Why a line is not handed on: it is over the limit, or its connection broke off within it."""


@dataclass(slots=True)
class TcpStats:
    """What this stage counts.

    `lines` are those handed on, empty ones left out; they go to the hot path in `pieces`, together
    `piece_bytes` long, which it counts as datagrams.
    """

    accepted: int = 0
    open: int = 0
    open_limit: int = 0
    idle: int = 0
    bytes: int = 0
    lines: int = 0
    pieces: int = 0
    piece_bytes: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSED_CONNECTIONS, 0))
    refused_lines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSED_LINES, 0))


class TcpLimits(NamedTuple):
    """Concurrent connections, seconds of silence, and bytes of a line without its line feed."""

    connections: int
    idle_seconds: float
    line_bytes: int


class TcpIntake:
    """A listening socket and its connections; `feed` gets the lines of a read as one datagram."""

    def __init__(
        self,
        listener: socket.socket,
        limits: TcpLimits,
        feed: Callable[[Sequence[bytes]], None],
        senders: Senders | None = None,
    ) -> None:
        """Take a listening socket over, whoever has bound it."""
        self.listener = listener
        self.limits = limits
        self.stats = TcpStats(open_limit=limits.connections)
        self.buffer = bytearray(READ_BYTES)
        """Where every connection reads to: what is in it is fed before another one reads."""
        self.connections: set[_Connection] = set()
        self._feed = feed
        self._copies: Copies | None = None  # while a tap is open
        self._senders = senders
        self._server: asyncio.Server | None = None
        self._bug: BaseException | None = None
        self._has_ended = asyncio.Event()

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that the listener really has."""
        host, port = self.listener.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        """Begin to accept and to read."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), sock=self.listener.dup(), backlog=BACKLOG
        )

    async def run(self) -> None:
        """Wait until `stop`; raises what `feed` has raised, and then nothing is read any more."""
        await self._has_ended.wait()
        if self._bug is not None:
            raise self._bug

    def feed_to(self, feed: Callable[[Sequence[bytes]], None]) -> None:
        """Feed something else from now on."""
        self._feed = feed

    def go_on(self, feed: Callable[[Sequence[bytes]], None]) -> None:
        """Feed something else from now on, after a bug too."""
        self._feed, self._bug = feed, None
        self._has_ended.clear()
        for connection in self.connections:
            connection.go_on()

    def tap(self, is_open: bool) -> None:
        """Begin to copy what is taken in, or end that; twice is as good as once."""
        if not is_open:
            self._copies = None
        elif self._copies is None:
            self._copies = Copies("tcp")

    def tapped(self, most: int) -> list[Copy]:
        """Some of what was copied since it was asked last, evenly, the oldest first."""
        return self._copies.take(most) if self._copies is not None else []

    async def stop(self) -> None:
        """Take in what has been sent, for DRAIN_SECONDS at most, and close everything.

        Who has connected by now is heard; then the listener is given up, so that whoever comes
        later is refused, or waits where a service manager holds the listener for the next daemon.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_SECONDS
        come = self._come() + _queued(self.listener)
        while self._bug is None and self._come() < come and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(ACCEPTING_TURNS):
            await asyncio.sleep(0)
        if self._server is not None:
            self._server.close()
        self.listener.close()
        while self._bug is None and self._anything_waits() and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.close()
        self._has_ended.set()

    def close(self) -> None:
        """Give the listener up."""
        self.listener.close()

    def refusal(self, host: str) -> str | None:
        """Why a connection from an IP address is not taken, None if it is."""
        if self._senders is not None and not self._senders.may_send(host):
            return FOREIGN
        return LIMIT if len(self.connections) >= self.limits.connections else None

    def take(self, lines: Sequence[bytes], sender: Any) -> bool:
        """Feed lines of a sender, whose address is as a socket tells it.

        False after a bug, which ends the reading of all connections.
        """
        lines = [line for line in lines if line and line != b"\r"]
        if not lines or self._bug is not None:
            return self._bug is None
        # The empty line before them says that a `{` begins a line and no event of several lines.
        piece = b"\n".join((b"", *lines))
        self.stats.lines += len(lines)
        self.stats.pieces += 1
        self.stats.piece_bytes += len(piece)
        try:
            self._feed((piece,))
            if self._copies is not None:
                self._copies.put([(piece, sender)])
        except Exception as error:  # noqa: BLE001 whatever it is, `run` raises it
            self._bug = error
            self._has_ended.set()
            for connection in self.connections:
                connection.pause()
        return self._bug is None

    @property
    def has_bug(self) -> bool:
        """Whether `feed` has raised, so that nothing is read until `go_on`."""
        return self._bug is not None

    def _come(self) -> int:
        """Connections taken or refused by now."""
        return self.stats.accepted + sum(self.stats.refused.values())

    def _anything_waits(self) -> bool:
        """Whether a connection has bytes to be read."""
        return _is_readable([each.descriptor for each in self.connections])


class _Connection(asyncio.BufferedProtocol):
    """One sender's stream, cut into lines; it keeps at most one line that is not whole yet."""

    def __init__(self, intake: TcpIntake) -> None:
        self._intake = intake
        self._part = bytearray()
        self._is_skipping = False
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._sender: Any = None

    @property
    def descriptor(self) -> int:
        """Of its socket; negative once that is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return -1
        number: int = transport.get_extra_info("socket").fileno()
        return number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        intake = self._intake
        peer = self._sender = transport.get_extra_info("peername")
        # A sender that has gone already has no address any more; what it sent is read.
        refusal = intake.refusal(peer[0]) if peer else None
        if refusal is not None:
            intake.stats.refused[refusal] += 1
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it
        intake.connections.add(self)
        intake.stats.accepted += 1
        intake.stats.open += 1
        self._timer = self._loop.call_later(intake.limits.idle_seconds, self._look_for_silence)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._intake.buffer

    def buffer_updated(self, nbytes: int) -> None:
        transport = self._transport
        if transport is None:
            return
        self._heard_at = self._loop.time()
        self._intake.stats.bytes += nbytes
        is_well = self._take(bytes(memoryview(self._intake.buffer)[:nbytes]))
        if is_well and nbytes == READ_BYTES:
            transport.pause_reading()
            self._loop.call_soon(self.go_on)

    def eof_received(self) -> None:
        last = bytes(self._part)
        self._part.clear()
        self._intake.take([last], self._sender)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        if self._part:
            self._intake.stats.refused_lines[CUT] += 1
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._intake.connections.discard(self)
        self._intake.stats.open -= 1

    def go_on(self) -> None:
        """Read again, unless it is closed or has to wait."""
        transport = self._transport
        if transport is not None and not transport.is_closing() and not self._intake.has_bug:
            transport.resume_reading()

    def pause(self) -> None:
        """Read no more until `go_on`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def close(self) -> None:
        """Close it; a line that is not whole is lost and counted."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, data: bytes) -> bool:
        whole, end, rest = data.rpartition(b"\n")
        lines = whole.split(b"\n") if end else []
        if lines:
            lines = self._finished(lines)
        self._keep(rest)
        return self._intake.take(lines, self._sender)

    def _finished(self, lines: list[bytes]) -> list[bytes]:
        """The lines that end in a read, the first with its beginning, without long ones."""
        if self._is_skipping:
            self._is_skipping = False
            del lines[0]
        else:
            lines[0] = bytes(self._part) + lines[0]
        self._part.clear()
        most = self._intake.limits.line_bytes
        short = [line for line in lines if len(line) <= most]
        self._intake.stats.refused_lines[TOO_LONG] += len(lines) - len(short)
        return short

    def _keep(self, rest: bytes) -> None:
        """Keep the beginning of a line, unless it is too long already."""
        if self._is_skipping:
            return
        self._part += rest
        if len(self._part) > self._intake.limits.line_bytes:
            self._intake.stats.refused_lines[TOO_LONG] += 1
            self._part.clear()
            self._is_skipping = True

    def _look_for_silence(self) -> None:
        silent = self._loop.time() - self._heard_at
        left = self._intake.limits.idle_seconds - silent
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_for_silence)
        elif self._transport is not None:
            self._intake.stats.idle += 1
            self._transport.close()


def _queued(listener: socket.socket) -> int:
    """Connections that wait to be accepted; of some 1 where the system does not tell how many.

    Linux tells it of a listener as tcpi_unacked of struct tcp_info (tcp_get_info, net/ipv4/tcp.c).
    """
    if not hasattr(socket, "TCP_INFO"):
        return int(_is_readable([listener.fileno()]))
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
    (queued,) = _UNACKED.unpack(info)
    return int(queued)


def _is_readable(descriptors: Iterable[int]) -> bool:
    """Whether one of them has something to be taken at once; negative ones are closed."""
    poll = select.poll()
    for descriptor in descriptors:
        if descriptor >= 0:
            poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket on the first address of a name that this machine has, IPv4 before IPv6.

    OSError names what the system says. Port 0 takes a free one.
    """
    return bind_first(host, port, socket.SOCK_STREAM, _listening)


def _listening(family: socket.AddressFamily, place: tuple[Any, ...]) -> socket.socket:
    is_dual = place[0] == "::"
    return socket.create_server(place, family=family, backlog=BACKLOG, dualstack_ipv6=is_dual)
