"""What the benches share: child processes, their CPU and memory, loads, results.

Every child binds loopback and ends with the bench that started it.
Each script puts the repository root first on `sys.path` and starts its children there:
a bench measures the checkout it lies in, never an installed copy.
"""

import contextlib
import ctypes
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import ClassVar, Literal, Self, TypeVar

import click
import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import generator

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
T = TypeVar("T")

RECEIVE_BUFFER_BYTES = 4_194_304
"""The daemon's default, for the others too, so that all queue alike in the kernel."""

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
END_SECONDS = 60.0
"""For an end that is measured, on a machine that does much else as well."""
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$")


class BenchError(click.ClickException):
    """A measurement could not be taken; the message says which and why."""


class CpuClock:
    """CPU seconds of another process, user and system, to the nanosecond.

    clock_getcpuclockid(3) is read where it works; elsewhere psutil, which counts in ticks of 10 ms.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        clock = ctypes.c_int()
        failed = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
        self._clock = None if failed else clock.value

    def seconds(self) -> float:
        """CPU seconds since the process started, those of ended threads too."""
        if self._clock is not None:
            return time.clock_gettime(self._clock)
        times = self._process.cpu_times()
        return float(times.user + times.system)


class UdpSocket(msgspec.Struct, frozen=True):
    """What the kernel holds for a bound UDP socket: bytes waiting, with overhead, and drops."""

    queued_bytes: int
    dropped: int


def udp_socket(port: int) -> UdpSocket:
    """Read /proc/net/udp from outside, so that asking costs the receiver nothing.

    Raises BenchError when no IPv4 socket is bound to the port.
    """
    ending = f":{port:04X}"
    for row in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[1].endswith(ending):
            return UdpSocket(int(fields[4].partition(":")[2], 16), int(fields[-1]))
    raise BenchError(f"no UDP socket is bound to port {port}")


def wait_until(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll every 5 ms; raises BenchError naming `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds:g} s")
        time.sleep(0.005)


class Process:
    """A process under measurement, until its end; use it as a context manager.

    A subclass sets `udp_port`, the port that the process receives on.
    """

    udp_port: int
    plain: ClassVar[bool] = False
    """Whether it knows no tags, and gets label values as parts of the name."""

    def __init__(
        self,
        command: Sequence[str],
        stdin: int = subprocess.DEVNULL,
        pass_fds: Collection[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            pass_fds=pass_fds,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._log: deque[str] = deque(maxlen=50)
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        self.pid = self._process.pid
        self.clock = CpuClock(self.pid)

    def _read_stderr(self) -> None:
        with self._process.stderr or contextlib.nullcontext(()) as lines:
            for line in lines:
                self._log.append(line)
                self._look_at(line)

    def _look_at(self, line: str) -> None:
        """What a subclass wants to do with a line of stderr, in the thread that reads it."""

    def last_words(self) -> str:
        """The last 50 lines that it wrote to stderr."""
        return "".join(self._log)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> str:
        """End the process and return what it wrote to stdout; a second call returns nothing."""
        if self.is_running():
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        return self._read_stdout()

    def end(self, number: int) -> int:
        """Send a signal, and give the exit code; raises BenchError when it does not end by it."""
        self._process.send_signal(number)
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"no end by signal {number} within {END_SECONDS:g} s") from error
        self._reader.join()
        self._read_stdout()
        return code

    def _read_stdout(self) -> str:
        out = self._process.stdout
        if out is None or out.closed:
            return ""
        with out:
            return out.read()

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def peak_rss_bytes(self) -> int:
        """The most resident memory the process ever had (VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else self.rss_bytes()

    def idle_cpu(self, seconds: float = 0.3) -> float:
        """CPU seconds per second that the process spends when nothing is sent."""
        before = self.clock.seconds()
        time.sleep(seconds)
        return (self.clock.seconds() - before) / seconds

    def wait_drained(self, seconds: float = 60.0) -> float:
        """Wait until the socket queue is empty and the process has come to rest.

        Rest is under 2 % of a core over 50 ms; raises BenchError when it does not come.
        Returns the seconds until the queue was empty.
        """
        started = time.monotonic()
        wait_until(lambda: not udp_socket(self.udp_port).queued_bytes, seconds, "an empty queue")
        took = time.monotonic() - started
        spent = self.clock.seconds()
        while time.monotonic() - started < seconds:
            time.sleep(0.05)
            before, spent = spent, self.clock.seconds()
            if spent - before < 0.001:
                return took
        raise BenchError(f"the receiver did not come to rest within {seconds:g} s")

    def dropped(self) -> int:
        """Datagrams that got lost on their way in; a server with a queue of its own adds those."""
        return udp_socket(self.udp_port).dropped

    def feed(self, pages: Iterable[generator.Page], high_bytes: int = 1 << 20) -> None:
        """Send every page once, waiting whenever the socket queue holds `high_bytes`.

        Nothing is lost that way, however slow the daemon: raises BenchError when the kernel
        dropped anything all the same.
        """
        with generator.connected(f"127.0.0.1:{self.udp_port}") as sock:
            for page in pages:
                for start in range(0, len(page), generator.BATCH):
                    self.wait_queue_below(high_bytes)
                    page.send(sock.fileno(), start, min(generator.BATCH, len(page) - start))
        self.wait_drained()
        if dropped := udp_socket(self.udp_port).dropped:
            raise BenchError(f"{dropped} datagrams of a paced load were lost")

    def wait_queue_below(self, high_bytes: int) -> None:
        """Wait until fewer bytes wait in the kernel."""
        port = self.udp_port
        wait_until(lambda: udp_socket(port).queued_bytes < high_bytes, 30, "room in the queue")


class Child(Process):
    """A process that says on stderr that it is ready and where, as `statsd_udp=HOST:PORT`."""

    def __init__(
        self,
        command: Sequence[str],
        stdin: int = subprocess.DEVNULL,
        pass_fds: Collection[int] = (),
    ) -> None:
        started = time.monotonic()
        self._ready_line = ""
        self._saw_ready = threading.Event()
        super().__init__(command, stdin, pass_fds)
        self._wait_ready()
        self.start_seconds = time.monotonic() - started
        self.statsd_udp = self.address("statsd_udp")
        self.udp_port = int(self.statsd_udp.rpartition(":")[2])

    def _read_stderr(self) -> None:
        super()._read_stderr()
        self._saw_ready.set()  # it has ended, and nobody needs to wait any longer

    def _look_at(self, line: str) -> None:
        if not self._ready_line and "statsd_udp=" in line:
            self._ready_line = line
            self._saw_ready.set()

    def _wait_ready(self) -> None:
        self._saw_ready.wait(READY_SECONDS)
        if not self._ready_line:
            self.stop()
            raise BenchError("a child did not get ready; its last words:\n" + self.last_words())

    def address(self, key: str) -> str:
        """A place that it named when it was ready, as HOST:PORT."""
        found = re.search(rf"\b{key}=(\S+)", self._ready_line)
        if not found:
            raise BenchError(f"no {key}= in the ready line: {self._ready_line}")
        return found[1]


class Received(msgspec.Struct, frozen=True):
    """What a receiver says it has taken in; `dropped` is what the kernel threw away before it."""

    datagrams: int
    lines: int
    dropped: int


def check_exact(sent_datagrams: int, received: Received) -> None:
    """Raises BenchError unless what was received and what was dropped make up what was sent."""
    if received.datagrams + received.dropped != sent_datagrams:
        raise BenchError(f"{sent_datagrams} datagrams were sent, but {received}")


class Yardstick(Child):
    """bench/yardstick.py as a child."""

    def __init__(self) -> None:
        buffer = f"--receive-buffer-bytes={RECEIVE_BUFFER_BYTES}"
        super().__init__([sys.executable, str(BENCH / "yardstick.py"), buffer])

    def finish(self, lines_per_datagram: int) -> Received:
        """Stop it and read its own count."""
        dropped = udp_socket(self.udp_port).dropped
        datagrams = int(msgspec.json.decode(self.stop())["datagrams"])
        return Received(datagrams, datagrams * lines_per_datagram, dropped)


class Scrape:
    """A text exposition, read just far enough to add up samples by name."""

    def __init__(self, text: str) -> None:
        self.text = text

    def samples(self, name: str) -> Iterator[tuple[str, float]]:
        """The label text in braces, or "", and the value of every sample of that name."""
        for line in self.text.splitlines():
            if line.startswith(name) and (found := _SAMPLE.match(line)) and found[1] == name:
                yield found[2] or "", float(found[3])

    def sum(self, name: str) -> float:
        """The sum over all label sets, 0.0 when there are none."""
        return sum((value for _, value in self.samples(name)), 0.0)

    def lines(self, prefix: str = "") -> int:
        """Sample lines whose name starts with `prefix`."""
        return sum(
            line.startswith(prefix) and not line.startswith("#") for line in self.text.splitlines()
        )


def serve(*flags: str) -> list[str]:
    """The command of a daemon."""
    return [sys.executable, "-m", "llmstatsd", "serve", *flags]


class Daemon(Child):
    """`python -m llmstatsd serve` on free loopback ports, with more flags as wanted."""

    program: ClassVar[Sequence[str]] = ("-m", "llmstatsd")
    """What Python runs; it takes the arguments of `llmstatsd`."""

    def __init__(self, *flags: str) -> None:
        ports = ("--statsd-udp", "127.0.0.1:0", "--http", "127.0.0.1:0")
        super().__init__([sys.executable, *self.program, "serve", *ports, *flags])
        self.url = f"http://{self.address('http')}/metrics"

    def scrape(self) -> Scrape:
        """One plain scrape, in the text format."""
        with urllib.request.urlopen(self.url, timeout=60) as response:  # noqa: S310 our own URL
            return Scrape(response.read().decode())

    def finish(self, lines_per_datagram: int) -> Received:
        """Read its own counts from a last scrape and stop it.

        Raises BenchError when its lines are not its datagrams times `lines_per_datagram`, or
        when it refused any: the ratio would then compare two different loads.
        """
        scrape = self.scrape()
        self.stop()
        received = Received(
            int(scrape.sum("llmstatsd_datagrams_total")),
            int(scrape.sum("llmstatsd_lines_total")),
            int(scrape.sum("llmstatsd_kernel_dropped_datagrams_total")),
        )
        accepted = int(scrape.sum("llmstatsd_accepted_lines_total"))
        if not received.lines == accepted == received.datagrams * lines_per_datagram:
            raise BenchError(f"unexpected lines: {accepted} accepted of {received}")
        return received


class Goal(msgspec.Struct, frozen=True):
    """A figure beside what it shall be."""

    what: str
    measured: float
    relation: Literal["<=", ">="]
    limit: float


def figure(value: float) -> str:
    """Whole numbers from a thousand on, three digits below."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def goals_table(goals: Sequence[Goal]) -> str:
    """One row per goal."""
    rows = [
        (goal.what, figure(goal.measured), f"{goal.relation} {figure(goal.limit)}")
        for goal in goals
    ]
    return table(("goals", "measured", "goal"), rows)


def generator_command(target: str, lines: int, bounds: generator.Bounds) -> list[str]:
    """The command line of the load generator as its own process, on the other core."""
    options = {
        "--target": target,
        "--lines": lines,
        "--datagrams": bounds.datagrams,
        "--seconds": bounds.seconds,
        "--rate": bounds.rate,
        "--batch": bounds.batch,
    }
    flags = [str(part) for option in options.items() for part in option]
    return [sys.executable, str(BENCH / "generator.py"), *flags]


def generate(target: str, lines: int, bounds: generator.Bounds) -> generator.Sent:
    """Run the load generator to its end."""
    done = subprocess.run(
        generator_command(target, lines, bounds),
        check=True,
        stdout=subprocess.PIPE,
        timeout=bounds.seconds + 30,
    )
    return msgspec.json.decode(done.stdout, type=generator.Sent)


def progress(steps: Sequence[T], label: str) -> Iterator[T]:
    """Iterate with a progress bar on stderr when that is a terminal, else with a line of text."""
    with click.progressbar(steps, label=label, file=sys.stderr) as bar:
        yield from bar


@contextlib.contextmanager
def progress_to(most: float, label: str) -> Iterator[Callable[[float], None]]:
    """The same for work that tells by itself how far it has come; it is called with that."""
    with click.progressbar(length=round(most), label=label, file=sys.stderr) as bar:
        yield lambda done: bar.update(min(round(done), round(most)) - bar.pos)


def emit(result: object, text: str, json_path: str | None) -> None:
    """Print the text for people, or with `json_path` "-" only the JSON; write a file otherwise."""
    encoded = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    if json_path == "-":
        click.echo(encoded)
        return
    click.echo(text)
    if json_path:
        Path(json_path).write_text(encoded + "\n")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first one left, the others right."""
    everything = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not number else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    )


def milliseconds(seconds: float) -> str:
    """A duration as a cell of a table."""
    return f"{seconds * 1000:.2f}"


def spread(figures: Sequence[float]) -> tuple[float, float]:
    """The median and the largest."""
    return median(figures), max(figures)


def json_option(command: Callable[..., T]) -> Callable[..., T]:
    """The `--json` option that every bench has."""
    return click.option(
        "--json", "json_path", metavar="FILE", help="Write JSON there; `-` prints it instead."
    )(command)
