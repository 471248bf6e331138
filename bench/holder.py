"""Sockets that are held as a service manager holds them, and daemons that get them in turn."""

import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, sender
from bench.harness import BenchError, Child, Scrape
from llmstatsd.intake.sockets import DatagramSocket, Memory
from llmstatsd.state import Head, StateFile

SCRIPT = """
import os, sys
places, names, command = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
high = [os.dup2(int(each), 100 + at) for at, each in enumerate(places)]
for at, each in enumerate(high):
    os.dup2(each, 3 + at)
    os.close(each)
os.environ.update(
    LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names
)
os.execvp(command[0], command)
"""
"""Passes sockets on as sd_listen_fds(3) wants them: from descriptor 3 on, and to this very pid."""

SETTLE_SECONDS = 30.0
SAMPLE_SECONDS = 0.005
SAMPLES_KEPT = 200_000

_SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h


def passing(sockets: Sequence[socket.socket], names: str, command: Sequence[str]) -> list[str]:
    """A command that starts another one with these sockets, which it has to inherit."""
    places = ",".join(str(each.fileno()) for each in sockets)
    return [sys.executable, "-I", "-S", "-c", SCRIPT, places, names, *command]


class Held:
    """A UDP, a unix and a web socket, open as long as this is; use it as a context manager.

    Their receive buffer is asked for as systemd does, beyond net.core.rmem_max where that is
    allowed.
    """

    names = "statsd-udp:statsd-unix:web"

    def __init__(self, receive_buffer_bytes: int) -> None:
        self._opened = ExitStack()
        # Short: the path of a unix socket has room for a hundred bytes.
        self.folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="held-")))
        self.udp = self._opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        with suppress(PermissionError):
            self.udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
        # Asks for the usual way where that has failed, and tells what was granted.
        self._account = DatagramSocket(self.udp, receive_buffer_bytes, is_passed=True)
        self.unix = self._opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.unix.bind(str(self.folder / "in.sock"))
        self.web = self._opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.state = self.folder / "state"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """In the order of their names."""
        return self.udp, self.unix, self.web

    @property
    def buffer_bytes(self) -> int:
        """The receive buffer granted; the kernel accounts for twice of it."""
        return self._account.buffer_bytes

    @property
    def url(self) -> str:
        """Where whichever daemon has the sockets is scraped."""
        return f"http://127.0.0.1:{self.web.getsockname()[1]}/metrics"

    def scrape(self) -> Scrape:
        """One plain scrape; between two daemons it waits in the socket."""
        with urllib.request.urlopen(self.url, timeout=60) as response:  # noqa: S310 our own URL
            return Scrape(response.read().decode())

    def memory(self) -> Memory:
        """What waits in the UDP socket, and what the kernel has dropped there."""
        memory = self._account.memory()
        if memory is None:
            raise BenchError("this kernel does not tell what a socket has dropped (SO_MEMINFO)")
        return memory

    def is_empty(self) -> bool:
        """Whether no datagram waits in either socket."""
        return not select.select([self.udp, self.unix], [], [], 0)[0]

    def head(self) -> Head:
        """What the state file says; raises BenchError where there is none."""
        found = StateFile(str(self.state)).load()
        if found.head is None:
            raise BenchError(f"no state: {found.problem}")
        return found.head

    def daemon(self, *flags: str, activate: Sequence[str] = ()) -> "HeldDaemon":
        """A daemon that has the sockets; `activate` is a command that passes them on."""
        return HeldDaemon(self, *flags, activate=activate)


class HeldDaemon(Child):
    """`llmstatsd serve` with the sockets and the state file of a Held."""

    def __init__(self, held: Held, *flags: str, activate: Sequence[str] = ()) -> None:
        command = [*activate, *harness.serve(f"--state={held.state}", *flags)]
        fds = [each.fileno() for each in held.sockets]
        super().__init__(passing(held.sockets, held.names, command), pass_fds=fds)


class Sent(NamedTuple):
    """Datagrams of each sender so far."""

    datagrams: tuple[int, ...]

    @property
    def total(self) -> int:
        """Of all senders."""
        return sum(self.datagrams)


class Load:
    """Senders to both sockets of a Held, half to each, at so many lines a second in all.

    They go on whatever becomes of the daemons. Use it as a context manager, which ends them.
    """

    def __init__(
        self, held: Held, rate: float, lines: int, customers: int, senders: int = 4
    ) -> None:
        if 2 * customers % lines:
            raise BenchError(f"two lines of {customers} customers do not go into {lines} each")
        self.lines, self.customers = lines, customers
        self._shared_path = held.folder / "shared"
        self._shared_path.touch()
        self._shared = sender.Shared(str(self._shared_path), senders)
        places = [str(held.udp.getsockname()[1]), str(held.folder / "in.sock")]
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, str(harness.BENCH / "sender.py")),
                    *(places[at * len(places) // senders], str(self._shared_path)),
                    *(f"--senders={senders}", f"--at={at}", f"--rate={rate / senders / lines}"),
                    *(f"--lines={lines}", f"--customers={customers}"),
                ],
                cwd=harness.ROOT,
            )
            for at in range(senders)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.order = sender.END
        for process in self._processes:
            try:
                process.wait(harness.STOP_SECONDS)
            except subprocess.TimeoutExpired:  # it waits in the kernel, and nobody reads
                process.kill()
                process.wait()

    def sent(self) -> Sent:
        """What the kernel has taken over; a system call under way is not in it."""
        return Sent(tuple(map(self._shared.sent, range(self._shared.senders))))

    def begin(self) -> None:
        """Wait until each has sent something."""
        self._wait(lambda at: self._shared.sent(at) > 0, "a first datagram of each sender")

    def send_on(self, datagrams: int) -> None:
        """Wait until so many more have been sent."""
        goal = self.sent().total + datagrams
        harness.wait_until(lambda: self.sent().total >= goal, SETTLE_SECONDS, "the load")

    def hold(self) -> Sent:
        """Let nobody send, and give what was sent, exactly."""
        self._order(self._shared.order + 1)
        return self.sent()

    def go_on(self) -> None:
        """Let them send again."""
        self._order(self._shared.order + 1)

    def end(self) -> Sent:
        """End them, and give what was sent, exactly."""
        self._order(sender.END)
        for process in self._processes:
            if process.wait(harness.STOP_SECONDS):
                raise BenchError(f"a sender ended with {process.returncode}")
        return self.sent()

    def _order(self, number: int) -> None:
        self._shared.order = number
        self._wait(lambda at: self._shared.followed(at) == number, f"order {number}")

    def _wait(self, is_true: Callable[[int], bool], what: str) -> None:
        def failed() -> bool:
            return any(process.poll() for process in self._processes)

        def all_true() -> bool:
            return all(map(is_true, range(self._shared.senders)))

        harness.wait_until(lambda: all_true() or failed(), SETTLE_SECONDS, what)
        if failed():
            raise BenchError(f"a sender failed: {what}")


class Watch:
    """What had been sent at each time, and the fullest that the UDP socket was.

    A thread takes the samples; use it as a context manager.
    """

    def __init__(self, held: Held, load: Load) -> None:
        self._held, self._load = held, load
        self.fullest_bytes = 0
        """Accounted for in the UDP socket, of twice what was granted."""
        # Some 15 minutes.
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_KEPT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def sent_by(self, when: float) -> int:
        """Datagrams sent by a Unix time, of all senders, as the last sample before it says."""
        samples = list(self._samples)
        at = bisect_right(samples, (when, sys.maxsize))
        return samples[at - 1][1] if at else 0

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._samples.append((time.time(), self._load.sent().total))
            self.fullest_bytes = max(self.fullest_bytes, self._held.memory().queued_bytes)
