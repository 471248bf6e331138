"""Copies of what comes in, for a tap: taken only while one is open, and never more than fit.

The compiled loop has the same of its own, without the GIL.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

COPIES_LIMIT: Final = 256
"""Most datagrams that wait for a tap, of each source; what comes meanwhile is not copied."""

COPY_BYTES: Final = 2048
"""Most bytes of a datagram that are copied: more than an unfragmented one has."""


class Copy(NamedTuple):
    """A datagram, or its first COPY_BYTES; `transport` is None where that is not known."""

    data: bytes
    is_cut: bool
    transport: str | None


class Tapped(Protocol):
    """What can be tapped: an intake."""

    def tap(self, is_open: bool, /) -> None:
        """Begin to copy what is taken in, or end that; twice is as good as once."""

    def tapped(self) -> list[Copy]:
        """What was copied since it was asked last, the oldest first."""


class Copies:
    """A bounded number of copies of one intake; `put` is called while a tap is open only."""

    __slots__ = ("_copies", "_transport")

    def __init__(self, transport: str | None) -> None:
        self._copies: list[Copy] = []
        self._transport = transport

    def put(self, datagrams: Sequence[bytes]) -> None:
        """Copy as many as there is room for."""
        for data in datagrams[: COPIES_LIMIT - len(self._copies)]:
            self._copies.append(Copy(data[:COPY_BYTES], len(data) > COPY_BYTES, self._transport))

    def take(self) -> list[Copy]:
        """All of them, which leave."""
        copies, self._copies = self._copies, []
        return copies
