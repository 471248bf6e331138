"""Bound datagram sockets, and what the kernel tells of them."""

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from llmstatsd.address import NOT_HERE, every_interface
from llmstatsd.intake.senders import Senders

DATAGRAM_LIMIT_BYTES: Final = 65_535
"""Largest UDP payload with its headers, by the 16-bit length field of RFC 768."""

SMALLEST_BUFFER_CHARGE: Final = 256
"""Bytes the kernel accounts for the smallest datagram at the least (its `sk_buff`)."""

_SO_MEMINFO: Final = 55  # include/uapi/asm-generic/socket.h
_MEMINFO: Final = struct.Struct("=9I")  # SK_MEMINFO_* of include/uapi/linux/sock_diag.h
_QUEUED, _DROPS = 0, 8


class Memory(NamedTuple):
    """The kernel's account of receive buffers: bytes waiting, and datagrams dropped so far.

    The kernel counts drops in 32 bits; Prometheus takes the wrap for a restart.
    """

    queued_bytes: int
    drops: int


class Waiting(NamedTuple):
    """Most that can wait in the kernel: datagrams, and the bytes that the kernel accounts for them.

    What was there at a time is at most this, so who takes no more ends, whatever comes meanwhile.
    """

    datagrams: int
    bytes: int


@dataclass(slots=True)
class IntakeStats:
    """What this stage tells of itself: the bounded queue's drops and its highest fill.

    `lane_failures` are compiled lanes that ended by a bug and gave way to the portable one.
    """

    queue_dropped: int = 0
    queue_high_water: int = 0
    lane_failures: int = 0


@dataclass(slots=True)
class SocketStats:
    """What came in by one socket: datagrams that were handed on, and those that were not.

    `foreign` ones came from no network that may send; `too_long` ones were over
    DATAGRAM_LIMIT_BYTES, which only a unix socket lets through.
    """

    datagrams: int = 0
    bytes: int = 0
    foreign: int = 0
    too_long: int = 0


class DatagramSocket:
    """A bound UDP socket, which stays open until `close`, whoever reads it meanwhile.

    `senders` are the networks that it takes datagrams from, None for all.
    """

    transport = "udp"

    def __init__(
        self,
        bound: socket.socket,
        receive_buffer_bytes: int,
        senders: Senders | None = None,
        *,
        is_passed: bool = False,
    ) -> None:
        """Take a bound socket over, whoever has bound it, and ask for its receive buffer.

        A larger one that a passed socket has stays: its manager may exceed the kernel's limit.
        """
        self.socket = bound
        self.senders = senders
        self.stats = SocketStats()
        self.asked_buffer_bytes = receive_buffer_bytes
        # Linux accounts for twice of what is granted.
        has = bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if not is_passed or has < receive_buffer_bytes:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.buffer_bytes = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        """The receive buffer granted, in the terms it was asked for."""

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that the socket really has."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def memory(self) -> Memory | None:
        """The kernel's account; None where there is no SO_MEMINFO, and after the end."""
        try:
            raw = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return None
        fields = _MEMINFO.unpack(raw)
        return Memory(fields[_QUEUED], fields[_DROPS])

    def take(self, datagram: bytes, host: str | None) -> bool:
        """Whether a datagram of a sender may be handed on; it is counted either way.

        `host` is its IP address; None where it has none, as on a unix socket.
        """
        if len(datagram) > DATAGRAM_LIMIT_BYTES:
            self.stats.too_long += 1
        elif self.senders is not None and not (host and self.senders.may_send(host)):
            self.stats.foreign += 1
        else:
            self.stats.datagrams += 1
            self.stats.bytes += len(datagram)
            return True
        return False

    def waiting_limit(self) -> Waiting:
        """Most that can wait in the kernel now."""
        memory = self.memory()
        queued = memory.queued_bytes if memory else 2 * self.buffer_bytes
        return Waiting(queued // SMALLEST_BUFFER_CHARGE, queued)

    def close(self) -> None:
        """Give the socket up; until then its losses can be read."""
        self.socket.close()


def bind(
    host: str,
    port: int,
    receive_buffer_bytes: int,
    count: int = 1,
    senders: Senders | None = None,
) -> list[DatagramSocket]:
    """So many sockets on one address, among which the kernel shares the senders out.

    OSError names what the system says. Port 0 takes a free one for all.
    """
    first = _bind(host, port, count > 1)
    bound = [DatagramSocket(first, receive_buffer_bytes, senders)]
    try:
        for _ in range(count - 1):
            again = _bind(*bound[0].address, is_shared=True)
            bound.append(DatagramSocket(again, receive_buffer_bytes, senders))
    except OSError:
        for each in bound:
            each.close()
        raise
    return bound


def memory_of(sockets: Iterable[DatagramSocket]) -> Memory | None:
    """The kernel's account of all sockets together; None where there is none."""
    accounts = [each.memory() for each in sockets]
    known = [account for account in accounts if account is not None]
    if len(known) < len(accounts):
        return None
    return Memory(sum(each.queued_bytes for each in known), sum(each.drops for each in known))


def bind_first(
    host: str,
    port: int,
    kind: socket.SocketKind,
    bind_to: Callable[[socket.AddressFamily, tuple[Any, ...]], socket.socket],
) -> socket.socket:
    """A socket on the first address of a name that this machine has, IPv4 before IPv6.

    Senders prefer IPv4 too, so that both mean the same `localhost`. `bind_to` makes the socket.
    """
    found = socket.getaddrinfo(host or every_interface(), port, type=kind, flags=socket.AI_PASSIVE)
    places = sorted(found, key=lambda info: info[0] != socket.AF_INET)
    for number, (family, *_, place) in enumerate(places, 1):
        try:
            return bind_to(family, place)
        except OSError as error:
            if error.errno not in NOT_HERE or number == len(places):
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _bind(host: str, port: int, is_shared: bool) -> socket.socket:
    return bind_first(host, port, socket.SOCK_DGRAM, partial(_bound, is_shared))


def _bound(is_shared: bool, family: socket.AddressFamily, place: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            only_ipv6 = place[0] != "::"
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound
