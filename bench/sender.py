"""A sender of restart.py: paced, without end but for its bounds, and its count is known always.

It shares a small file with who started it: the orders for all senders, and of each what it has sent
and which order it has followed. So the count stands even while the sender waits in the kernel.
"""

import mmap
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.generator import BATCH, Page

COUNTED, OBSERVED = "restart_jobs", "restart_wait"
LABEL = "customer"

STEP_SECONDS = 1e-3
"""A paced sender hands the kernel what is due in this time at once."""

LONGEST_SECONDS = 1800.0

END = -1
"""The last order. Of the others odd ones mean to hold, and even ones to go on."""

NUMBER_BYTES = 8


class Shared:
    """The numbers that senders share with who started them; each has one writer."""

    def __init__(self, path: str, senders: int) -> None:
        self._size = (1 + 2 * senders) * NUMBER_BYTES
        with Path(path).open("r+b") as file:
            file.truncate(self._size)
            self._map = mmap.mmap(file.fileno(), self._size)
        self._numbers = memoryview(self._map).cast("q")
        self.senders = senders

    @property
    def order(self) -> int:
        """What all of them shall do."""
        return self._numbers[0]

    @order.setter
    def order(self, number: int) -> None:
        """Give an order, which is another than the one before."""
        self._numbers[0] = number

    def sent(self, at: int) -> int:
        """Datagrams that a sender has handed to the kernel, all of a system call or none."""
        return self._numbers[1 + 2 * at]

    def followed(self, at: int) -> int:
        """The order that a sender has followed last."""
        return self._numbers[2 + 2 * at]

    def note(self, at: int, sent: int, followed: int) -> None:
        """What a sender has done."""
        self._numbers[1 + 2 * at] = sent
        self._numbers[2 + 2 * at] = followed


def value_of(customer: int) -> float:
    """What a customer's lines observe: doubles hold every sum of them exactly."""
    return (customer % 8 + 1) / 4


def lines_of(customers: int) -> Iterator[str]:
    """The lines that every sender sends round and round: two of each customer."""
    for customer in range(customers):
        yield f"{COUNTED}:1|c|#{LABEL}:{customer:05d}"
        yield f"{OBSERVED}:{value_of(customer)}|h|#{LABEL}:{customer:05d}"


def datagrams_of(customers: int, lines: int) -> list[bytes]:
    """The same lines, so many in each datagram, which have to go into them without a rest."""
    every = list(lines_of(customers))
    return ["\n".join(every[at : at + lines]).encode() for at in range(0, len(every), lines)]


def connected(place: str) -> socket.socket:
    """A blocking socket connected to a port of 127.0.0.1, or to a path."""
    is_unix = place.startswith("/")
    sock = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(place if is_unix else ("127.0.0.1", int(place)))
    return sock


def send(sock: socket.socket, page: Page, shared: Shared, at: int, rate: float, most: int) -> None:
    """Send the page round and round, at so many datagrams a second, until the last order.

    Without one it ends after `most` datagrams or LONGEST_SECONDS.
    """
    sent, position, held = 0, 0, 0.0
    began = time.monotonic()
    while (order := shared.order) != END and sent < most:
        now = time.monotonic()
        if now - began > LONGEST_SECONDS:
            raise TimeoutError(f"no order to end within {LONGEST_SECONDS:g} s")
        if order % 2:
            shared.note(at, sent, order)
            time.sleep(STEP_SECONDS)
            held += time.monotonic() - now
            continue
        due = min(int((now - began - held) * rate) - sent, BATCH, len(page) - position, most - sent)
        if due <= 0:
            shared.note(at, sent, order)
            time.sleep(STEP_SECONDS)
            continue
        page.send(sock.fileno(), position, due)
        sent += due
        position = (position + due) % len(page)
        shared.note(at, sent, order)
    shared.note(at, sent, END)


@click.command()
@click.argument("place")
@click.argument("shared_path")
@click.option("--senders", default=1, help="How many share the file.")
@click.option("--at", default=0, help="Which of them this is.")
@click.option("--rate", default=1000.0, type=click.FloatRange(1), help="Datagrams/s.")
@click.option("--lines", default=1, type=click.IntRange(1, 40), help="Lines per datagram.")
@click.option("--customers", default=50, type=click.IntRange(1, 100_000), help="Label sets.")
@click.option("--most", default=100_000_000, type=click.IntRange(1), help="Datagrams, at most.")
def main(
    place: str,
    shared_path: str,
    senders: int,
    at: int,
    rate: float,
    lines: int,
    customers: int,
    most: int,
) -> None:
    """Send to a port of 127.0.0.1 or to a unix socket."""
    with connected(place) as sock:
        page = Page(datagrams_of(customers, lines))
        send(sock, page, Shared(shared_path, senders), at, rate, most)


if __name__ == "__main__":
    main()
