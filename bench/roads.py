"""The ways to a daemon, of which one is taken: UDP, a unix datagram socket, lines over TCP.

Over UDP no more goes out than the kernel's queue holds; over the others a sender waits by itself.
"""

import contextlib
import socket
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from bench.generator import BATCH, Page, connected
from bench.harness import Daemon, Scrape

QUEUED_BYTES: Final = 1 << 20
"""The kernel's queue holds at most so much when more is sent."""

BATCH_BYTES: Final = 1 << 18
"""Bytes of the datagrams sent at once: a batch fits into the receive buffer whatever is in it."""


class Road(Protocol):
    """One way; `flags` are those of the daemon at its other end."""

    flags: Sequence[str]

    def open(self, daemon: Daemon) -> contextlib.AbstractContextManager[socket.socket]:
        """A connected socket; `daemon` is the one at the other end."""

    def send(self, daemon: Daemon, sender: socket.socket, datagrams: Sequence[bytes]) -> int:
        """Send each once, in this order; how many pieces the daemon has to count of them."""

    def counted(self, scrape: Scrape) -> int:
        """How many pieces the daemon has counted by now."""


class Udp:
    """Datagrams to a port, no faster than they are read: nothing is lost in the kernel."""

    flags: Sequence[str] = ()

    def open(self, daemon: Daemon) -> socket.socket:
        """A connected socket."""
        return connected(daemon.statsd_udp)

    def send(self, daemon: Daemon, sender: socket.socket, datagrams: Sequence[bytes]) -> int:
        """Send each once."""
        laid_out = Page(datagrams)
        for start, count in batches(datagrams):
            daemon.wait_queue_below(QUEUED_BYTES)
            laid_out.send(sender.fileno(), start, count)
        return len(datagrams)

    def counted(self, scrape: Scrape) -> int:
        """Datagrams."""
        return int(scrape.sum("llmstatsd_datagrams_total"))


class Unix:
    """Datagrams to a file, whose kernel queue lets senders wait."""

    def __init__(self, folder: str) -> None:
        """The socket's file lies in a folder."""
        self._path = f"{folder}/in.sock"
        self.flags: Sequence[str] = (f"--statsd-unix={self._path}",)

    def open(self, daemon: Daemon) -> socket.socket:
        """A connected socket."""
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(self._path)
        return sender

    def send(self, daemon: Daemon, sender: socket.socket, datagrams: Sequence[bytes]) -> int:
        """Send each once."""
        laid_out = Page(datagrams)
        for start in range(0, len(datagrams), BATCH):
            laid_out.send(sender.fileno(), start, min(BATCH, len(datagrams) - start))
        return len(datagrams)

    def counted(self, scrape: Scrape) -> int:
        """Datagrams."""
        return int(scrape.sum("llmstatsd_datagrams_total"))


class Tcp:
    """Lines over one connection: a datagram is as many as it has, and the last one ends with it."""

    flags: Sequence[str] = ("--statsd-tcp=127.0.0.1:0",)

    def open(self, daemon: Daemon) -> socket.socket:
        """A connection."""
        host, _, port = daemon.address("statsd_tcp").rpartition(":")
        return socket.create_connection((host, int(port)))

    def send(self, daemon: Daemon, sender: socket.socket, datagrams: Sequence[bytes]) -> int:
        """Send the lines of each; lines of nothing are not counted."""
        stream = b"".join(datagram + b"\n" for datagram in datagrams)
        sender.sendall(stream)
        return sum(line not in (b"", b"\r") for line in stream.split(b"\n"))

    def counted(self, scrape: Scrape) -> int:
        """Lines that were taken, and those that are longer than a line may be."""
        names = ("llmstatsd_tcp_lines_total", "llmstatsd_tcp_refused_lines_total")
        return sum(int(scrape.sum(name)) for name in names)


def batches(page: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """The datagrams of a page as (start, count), of so many bytes and datagrams at most."""
    start = size = 0
    for at, datagram in enumerate(page):
        if at > start and (size + len(datagram) > BATCH_BYTES or at - start == BATCH):
            yield start, at - start
            start, size = at, 0
        size += len(datagram)
    yield start, len(page) - start


NAMES: Final = ("udp", "unix", "tcp")


@contextlib.contextmanager
def road(name: str) -> Iterator[Road]:
    """The one of a name, and a folder meanwhile where it needs one."""
    with tempfile.TemporaryDirectory(prefix="llmstatsd-") as folder:
        ways: dict[str, Road] = {"udp": Udp(), "unix": Unix(folder), "tcp": Tcp()}
        yield ways[name]
