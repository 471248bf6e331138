"""Real sockets on loopback, and an environment that names no destination."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

from llmstatsd_client import Client

VARIABLES: Final = (
    *("LLMSTATSD_SOCKET", "LLMSTATSD_HOST", "LLMSTATSD_PORT", "LLMSTATSD_DISABLE"),
    *("DD_AGENT_HOST", "DD_DOGSTATSD_PORT", "STATSD_HOST", "STATSD_PORT"),
)
DEADLINE_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.005

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Receiver:
    """A bound datagram socket that what is sent waits in."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.settimeout(DEADLINE_SECONDS)

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def receive(self) -> str:
        """The next datagram."""
        return self.socket.recv(65536).decode()

    def lines(self) -> list[str]:
        """The lines of the next datagram."""
        return self.receive().split("\n")

    def waiting(self) -> list[str]:
        """The datagrams that are there already."""
        found = []
        self.socket.settimeout(0)
        try:
            while True:
                found.append(self.receive())
        except BlockingIOError:
            return found
        finally:
            self.socket.settimeout(DEADLINE_SECONDS)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A UDP socket with room for a few thousand datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_388_608)
        sock.bind(("127.0.0.1", 0))
        yield Receiver(sock)


@pytest.fixture
def unix_path() -> Iterator[str]:
    """A path that is short, as sun_path has room for 107 bytes only."""
    path = Path(tempfile.gettempdir(), f"llmstatsd-client-{os.getpid()}.sock")
    yield str(path)
    path.unlink(missing_ok=True)


@pytest.fixture
def client(receiver: Receiver) -> Iterator[Client]:
    """A client of the receiver that raises nothing."""
    with Client(port=receiver.port) as made:
        yield made


@pytest.fixture
def strict(receiver: Receiver) -> Iterator[Client]:
    """A client of the receiver that raises everything."""
    with Client(port=receiver.port, strict=True) as made:
        yield made


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Polls until something is true, or fails at a deadline."""

    def poll(look: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not look():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {DEADLINE_SECONDS} s")
            time.sleep(POLL_SECONDS)

    return poll
