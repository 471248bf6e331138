"""Copies of what comes in, for a tap: taken only while one is open, and never more than fit.

The compiled loop has the same of its own, without the GIL.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from llmstatsd.address import Address, ip_of

COPIES_LIMIT: Final = 256
"""Most datagrams that wait for a tap, of each source; what comes meanwhile is not copied."""

COPY_BYTES: Final = 2048
"""Most bytes of a datagram that are copied: more than an unfragmented one has."""


class Copy(NamedTuple):
    """A datagram, or its first COPY_BYTES; `transport` is None where that is not known.

    `sender` is HOST:PORT, None on a unix socket and where the kernel was not asked for it.
    """

    data: bytes
    is_cut: bool
    transport: str | None
    sender: str | None = None


class Tapped(Protocol):
    """What can be tapped: an intake."""

    def tap(self, is_open: bool, /) -> None:
        """Begin to copy what is taken in, or end that; twice is as good as once."""

    def tapped(self, most: int, /) -> list[Copy]:
        """Some of what was copied since it was asked last, evenly; `most` bounds each socket."""


def step_for(count: int, most: int) -> int:
    """How far apart those are that are taken, if at most so many of `count` shall be."""
    return max(1, -(-count // max(1, most)))


class Copies:
    """A bounded number of copies of one intake; `put` is called while a tap is open only."""

    __slots__ = ("_copies", "_transport")

    def __init__(self, transport: str | None) -> None:
        self._copies: list[tuple[bytes, Any]] = []
        self._transport = transport

    def put(self, datagrams: Iterable[tuple[bytes, Any]]) -> None:
        """Copy as many as there is room for, each with its sender as a socket tells it."""
        for data, sender in islice(datagrams, COPIES_LIMIT - len(self._copies)):
            # One byte more says that it is cut.
            self._copies.append((data[: COPY_BYTES + 1], sender))

    def take(self, most: int) -> list[Copy]:
        """At most so many, evenly; all of them leave."""
        copies, self._copies = self._copies, []
        return [
            Copy(data[:COPY_BYTES], len(data) > COPY_BYTES, self._transport, sender_of(sender))
            for data, sender in copies[:: step_for(len(copies), most)]
        ]


def sender_of(place: Any) -> str | None:
    """HOST:PORT of an address as a socket tells it; None of one on a unix socket."""
    return str(Address(str(ip_of(place[0])), place[1])) if isinstance(place, tuple) else None
