"""One socket that never blocks: a datagram is taken by the kernel at once, or dropped and counted.

No lock is held while sending. A socket is never closed under another thread: it is let go, and
closes when the last thread has left it.
"""

from __future__ import annotations

import _thread
import errno
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from llmstatsd_client.settings import Destination, Udp, Unix
from llmstatsd_client.stats import Counts
from llmstatsd_client.threads import start

RESOLVE_SECONDS: Final = 60.0
"""A name is looked up again after so long."""

RETRY_SECONDS: Final = 5.0
"""After an error, a name is looked up again when the last time is so long ago."""

FIRST_LOOK_SECONDS: Final = 0.25
"""Longest that the first datagram to a name waits for the address."""

_LOST_DESCRIPTOR: Final = frozenset({errno.EBADF, errno.ENOTSOCK})

Address = tuple[int, Any]
"""A family of addresses and an address of it."""

Send = Callable[[bytes], int]


class UnresolvedError(OSError):
    """There is no address to send to (yet)."""


class QuietSocket(socket.socket):
    """A datagram socket that closes without a warning when it is let go."""

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


def connected(address: Address) -> QuietSocket:
    """A socket that never blocks, connected; raises OSError."""
    family, place = address
    sock = QuietSocket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(place)
    return sock


class Sender:
    """Sends datagrams to one place and counts what became of them; any thread may.

    With `strict` a drop raises the OSError behind it, after it was counted.
    """

    def __init__(self, counts: Counts, *, strict: bool) -> None:
        self._counts = counts
        self._strict = strict
        self.reset()

    def reset(self) -> None:
        """Let the socket go; the next datagram opens one. The child of a fork begins with this."""
        self._socket: QuietSocket | None = None
        self._send: Send = self._open_and_send

    def transmit(self, datagram: bytes) -> None:
        """Send now or drop."""
        try:
            self._send(datagram)
        except OSError as error:
            self._failed(datagram, error)
        else:
            self._sent(datagram)

    def _sent(self, datagram: bytes) -> None:
        counts = self._counts
        size = len(datagram)
        counts.sent_datagrams += 1
        counts.sent_bytes += size

    def _failed(self, datagram: bytes, error: OSError) -> None:
        if self._deserves_another_try(error):
            try:
                self._send(datagram)
            except OSError as second:
                error = second
            else:
                self._sent(datagram)
                return
        self._recover(error)
        drop(self._counts, error)
        if self._strict:
            raise error

    def _deserves_another_try(self, error: OSError) -> bool:
        # A refusal tells of an earlier datagram: this one has not been sent yet.
        return isinstance(error, ConnectionRefusedError)

    def _recover(self, error: OSError) -> None:
        if not is_full(error) and not isinstance(error, ConnectionRefusedError):
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        sock = self._socket
        if sock is not None and error.errno in _LOST_DESCRIPTOR:
            # The application has closed our descriptor, and may use its number for another file.
            sock.detach()
        self.reset()

    def _open_and_send(self, datagram: bytes) -> int:
        sock = connected(self._address())
        self._socket, self._send = sock, sock.send
        return sock.send(datagram)

    def _address(self) -> Address:
        """Where to send to; raises UnresolvedError."""
        raise UnresolvedError("there is no destination")


class UdpSender(Sender):
    """Sends to an IP address."""

    def __init__(self, address: Address, counts: Counts, *, strict: bool) -> None:
        self._place = address
        super().__init__(counts, strict=strict)

    def _address(self) -> Address:
        return self._place


class UnixSender(Sender):
    """Sends to a unix datagram socket; connects again when its owner has come back."""

    def __init__(self, path: str, counts: Counts, *, strict: bool) -> None:
        self._path = path
        super().__init__(counts, strict=strict)

    def _address(self) -> Address:
        return socket.AF_UNIX, self._path

    def _deserves_another_try(self, error: OSError) -> bool:
        was_open = self._socket is not None
        if was_open and isinstance(error, ConnectionRefusedError):
            self.reset()
            return True
        return False

    def _recover(self, error: OSError) -> None:
        if not is_full(error):
            self._let_go(error)


class NameSender(Sender):
    """Sends to the address of a name, looked up by a thread of its own: never by the caller.

    The first datagram waits a moment for the first address, see `FIRST_LOOK_SECONDS`; until there
    is one, datagrams are dropped as unresolved.
    """

    def __init__(self, place: Udp, counts: Counts, *, strict: bool) -> None:
        self._place = place
        super().__init__(counts, strict=strict)

    def reset(self) -> None:
        """As `Sender.reset`, and look the name up anew; a look-up under way comes to nothing."""
        super().reset()
        self._found: Address | None = None
        self._looked_at = self._look_at = 0.0
        self._looking = _thread.allocate_lock()
        self._has_waited = False
        self._send = self._look_and_send

    def _recover(self, error: OSError) -> None:
        if is_full(error) or isinstance(error, UnresolvedError):
            return
        self._look_at = min(self._look_at, self._looked_at + RETRY_SECONDS)
        if not isinstance(error, ConnectionRefusedError):
            sock = self._socket
            if sock is not None and error.errno in _LOST_DESCRIPTOR:
                sock.detach()
            self._socket = None

    def _look_and_send(self, datagram: bytes) -> int:
        if time.monotonic() >= self._look_at:
            self._look_again()
        sock = self._socket
        if sock is None:
            sock = self._open()
        return sock.send(datagram)

    def _open(self) -> QuietSocket:
        found = self._found
        if found is None:
            raise UnresolvedError(f"{self._place.host} has no address (yet)")
        sock = self._socket = connected(found)
        if self._found is not found:  # another was found meanwhile
            self._socket = None
        return sock

    def _look_again(self) -> None:
        looking = self._looking
        if not looking.acquire(blocking=False):
            return
        self._looked_at = time.monotonic()
        self._look_at = self._looked_at + RESOLVE_SECONDS
        if not start(self._look, looking):
            looking.release()
            return
        if not self._has_waited:
            self._has_waited = True
            if looking.acquire(timeout=FIRST_LOOK_SECONDS):
                looking.release()

    def _look(self, looking: _thread.LockType) -> None:
        try:
            found = resolve(self._place)
        except (OSError, UnicodeError):
            self._look_at = min(self._look_at, time.monotonic() + RETRY_SECONDS)
        else:
            if found != self._found:
                self._found, self._socket = found, None
        finally:
            looking.release()


def drop(counts: Counts, error: OSError) -> None:
    """Count a datagram that was not sent by the cause."""
    if isinstance(error, UnresolvedError):
        counts.dropped_unresolved += 1
    elif is_full(error):
        counts.dropped_full += 1
    elif isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        counts.dropped_unreachable += 1
    else:
        counts.dropped_error += 1


def is_full(error: OSError) -> bool:
    """Whether a buffer had no room, which passes by itself."""
    return isinstance(error, BlockingIOError) or error.errno == errno.ENOBUFS


def resolve(place: Udp) -> Address:
    """The first address of a name, of IPv4 if there is one; raises OSError or UnicodeError."""
    return first_address(socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM))


def literal(place: Udp) -> Address | None:
    """The address that the host is, or None for a name; asks nobody."""
    flags = socket.AI_NUMERICHOST
    try:
        return first_address(
            socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM, flags=flags)
        )
    except (OSError, UnicodeError):
        return None


def first_address(found: Sequence[Any]) -> Address:
    """The first of what getaddrinfo found, of IPv4 if there is one."""
    family, _, _, _, place = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, place


def sender(destination: Destination, counts: Counts, *, strict: bool) -> Sender:
    """The sender for a destination; no socket is opened and no name looked up."""
    if isinstance(destination, Unix) and hasattr(socket, "AF_UNIX"):
        return UnixSender(destination.path, counts, strict=strict)
    if not isinstance(destination, Udp):
        return Sender(counts, strict=strict)
    address = literal(destination)
    if address is None:
        return NameSender(destination, counts, strict=strict)
    return UdpSender(address, counts, strict=strict)
