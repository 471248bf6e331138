"""The least a Python UDP service can cost: asyncio-dgram on uvloop, each datagram thrown away.

The daemon is measured in multiples of this process, so that figures from two machines compare.
It prints the address it listens on, runs until SIGTERM or `--seconds`, and then prints one
JSON object: the datagrams received and its own CPU seconds since the first of them.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time

import asyncio_dgram
import click
import msgspec
import uvloop
from asyncio_dgram.aio import DatagramStream


class Yardstick:
    """Counts datagrams and does nothing else with them."""

    def __init__(self) -> None:
        self.datagrams = 0
        self.cpu_at_first = 0.0

    async def receive(self, stream: DatagramStream) -> None:
        """Receive until cancelled."""
        await stream.recv()
        self.cpu_at_first = time.process_time()
        self.datagrams = 1
        while True:
            await stream.recv()
            self.datagrams += 1

    def report(self) -> dict[str, float]:
        """The JSON object; an idle loop sleeps, so waiting for SIGTERM adds no CPU seconds."""
        spent = time.process_time() - self.cpu_at_first if self.datagrams else 0.0
        return {"datagrams": self.datagrams, "cpu_seconds": spent}


def listening_socket(receive_buffer_bytes: int) -> socket.socket:
    """A UDP socket on a free loopback port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.bind(("127.0.0.1", 0))
    return sock


async def run(receive_buffer_bytes: int, seconds: float) -> Yardstick:
    """Receive until SIGTERM, SIGINT or the time is up."""
    sock = listening_socket(receive_buffer_bytes)
    stream = await asyncio_dgram.from_socket(sock)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    yardstick = Yardstick()
    receiving = asyncio.create_task(yardstick.receive(stream))
    host, port = sock.getsockname()
    print(f"yardstick ready: statsd_udp={host}:{port}", file=sys.stderr, flush=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), seconds)
    receiving.cancel()
    stream.close()
    return yardstick


@click.command()
@click.option("--receive-buffer-bytes", required=True, type=click.IntRange(4096))
@click.option("--seconds", default=600.0, type=click.FloatRange(0, 600), help="Longest life.")
def main(receive_buffer_bytes: int, seconds: float) -> None:
    """Receive datagrams and throw them away."""
    yardstick = uvloop.run(run(receive_buffer_bytes, seconds))
    click.echo(msgspec.json.encode(yardstick.report()).decode())


if __name__ == "__main__":
    main()
