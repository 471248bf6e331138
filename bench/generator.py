"""A load generator that outruns the daemon: prepared datagrams, 64 to a system call.

A Python `sendto` loop costs about as much as receiving does, so it can never saturate a receiver.
`sendmmsg(2)` hands a whole batch to the kernel, and nothing is built between batches.

Run it as its own process, so that it works on another core than the receiver:

    python bench/generator.py --target 127.0.0.1:8125 --lines 20 --seconds 2

It ends by itself at `--datagrams` or `--seconds`, whichever comes first, and prints one JSON
object.
"""

import ctypes
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import payloads

BATCH = 64
PAGE = 1024


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("sent_bytes", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)


class Page:
    """Datagrams laid out for sendmmsg(2) once, to be sent any number of times."""

    def __init__(self, datagrams: Sequence[bytes]) -> None:
        self._datagrams = datagrams  # the headers below point into these bytes
        self._vectors = (_IoVec * len(datagrams))()
        self._headers = (_MMsgHdr * len(datagrams))()
        for vector, header, data in zip(self._vectors, self._headers, datagrams, strict=True):
            vector.base = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
            vector.length = len(data)
            header.header.iov = ctypes.pointer(vector)
            header.header.iov_count = 1

    def __len__(self) -> int:
        return len(self._datagrams)

    def send(self, fd: int, start: int, wanted: int) -> None:
        """Send `wanted` datagrams from number `start` on, over a blocking connected socket.

        Raises OSError; ConnectionError when nobody listens any more. A batch cut short means
        that as well: sendmmsg(2) then loses the error of the datagram it stopped at.
        """
        first = ctypes.byref(self._headers, start * ctypes.sizeof(_MMsgHdr))
        taken: int = _libc.sendmmsg(fd, first, wanted, 0)
        if taken < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        if taken < wanted:
            raise ConnectionError(f"{taken} of {wanted} datagrams sent: nobody listens any more")


class Bounds(msgspec.Struct, frozen=True):
    """When a load ends and how fast it goes.

    `rate` is datagrams per second, 0 for as fast as the kernel takes them.
    A paced load sends what is due each time it wakes, a few datagrams at a time.
    """

    datagrams: int
    seconds: float
    rate: float = 0.0
    batch: int = BATCH

    def due(self, sent: int, elapsed: float) -> int:
        """How many datagrams may go now; 0 means wait, a negative number that the load is over."""
        left = self.datagrams - sent
        if left <= 0 or elapsed >= self.seconds:
            return -1
        if not self.rate:
            return min(self.batch, left)
        return max(0, min(self.batch, left, int(elapsed * self.rate) + 1 - sent))


class Sent(msgspec.Struct, frozen=True):
    """What a load amounted to; `seconds` from the first system call to the last."""

    datagrams: int
    lines: int
    seconds: float
    datagrams_per_second: float


def send_load(sock: socket.socket, pages: Iterator[Page], bounds: Bounds) -> tuple[int, float]:
    """Send pages in turn over a connected socket; return the datagrams sent and the seconds."""
    fd, sent, started = sock.fileno(), 0, time.monotonic()
    for page in pages:
        position = 0
        while position < len(page):
            elapsed = time.monotonic() - started
            due = bounds.due(sent, elapsed)
            if due < 0:
                return sent, elapsed
            if due == 0:
                time.sleep(1 / bounds.rate)
                continue
            batch = min(due, len(page) - position)
            page.send(fd, position, batch)
            position += batch
            sent += batch
    return sent, time.monotonic() - started


def llm_pages(lines_per_datagram: int, seed: int) -> Iterator[Page]:
    """One page of everyday traffic, over and over."""
    return repeat(Page(payloads.datagrams(payloads.llm_lines(seed), lines_per_datagram, PAGE)))


def distinct_pages(lines_per_datagram: int, first: int = 0) -> Iterator[Page]:
    """Pages in which every line names a new model; each is built when it is asked for."""
    lines = payloads.distinct_lines(first)
    while True:
        yield Page(payloads.datagrams(lines, lines_per_datagram, PAGE))


def finite_pages(lines: Iterator[payloads.Line], lines_per_datagram: int) -> Iterator[Page]:
    """A stream of lines that ends, as pages to send once."""
    while datagrams := payloads.datagrams(lines, lines_per_datagram, PAGE):
        yield Page(datagrams)


def connected(target: str) -> socket.socket:
    """A UDP socket connected to HOST:PORT or [IPV6]:PORT; raises OSError or ValueError."""
    host, _, port = target.rpartition(":")
    family, kind, _, _, address = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_DGRAM
    )[0]
    sock = socket.socket(family, kind)
    sock.connect(address)
    return sock


@click.command()
@click.option("--target", required=True, help="HOST:PORT to send to.")
@click.option("--lines", default=1, type=click.IntRange(1, 400), help="Lines per datagram.")
@click.option("--datagrams", default=1_000_000, type=click.IntRange(1), help="Stop after so many.")
@click.option("--seconds", default=2.0, type=click.FloatRange(0, 600), help="Stop after so long.")
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="Datagrams/s; 0: flat out.")
@click.option("--batch", default=BATCH, type=click.IntRange(1, PAGE), help="Per system call.")
@click.option("--payload", default="llm", type=click.Choice(["llm", "distinct"]))
@click.option("--seed", default=1, help="Seed of the traffic; first model number of `distinct`.")
def main(
    target: str,
    lines: int,
    datagrams: int,
    seconds: float,
    rate: float,
    batch: int,
    payload: str,
    seed: int,
) -> None:
    """Send a bounded load and print what was sent as one JSON object."""
    make_pages = llm_pages if payload == "llm" else distinct_pages
    with connected(target) as sock:
        bounds = Bounds(datagrams, seconds, rate, batch)
        sent, took = send_load(sock, make_pages(lines, seed), bounds)
    report = Sent(sent, sent * lines, took, sent / took if took else 0.0)
    click.echo(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main()
