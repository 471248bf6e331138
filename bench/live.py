"""What the live view costs: its ring when nobody looks, 16 streams and a page under load, and time.

- CPU of the daemon with nobody looking, at rest and fed with many models, beside the same daemon
  that does not read its series once a second; the difference is what the ring costs. Memory is that
  of a ring in this process, with each second of an hour busy.
- Losses at 300,000 lines a second, in datagrams of 20, while nobody looks, while 16 streams are
  read, and while a page is open in Chromium, where that and Playwright are installed. These take
  turns. Streams and browser share the processors with daemon and generator.
- Time from sending an event to the update that shows it, on the stream and on the page in Chromium,
  at rest and under that load.
"""

import json
import random
import re
import selectors
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import browser, harness, loads, native, payloads
from bench.generator import finite_pages
from bench.harness import BenchError, Daemon, Goal
from bench.loads import Case
from bench.native import Sent
from llmstatsd.live.history import LONG_TICK_SECONDS, History
from llmstatsd.series import lanes
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect

if TYPE_CHECKING:
    from playwright.sync_api import Page

GOAL_SHARE = 0.005
"""Of a core, for the ring when nobody looks."""

GOAL_UPDATE_SECONDS = 2.0
STREAMS = 16
LINES = 20
FED = Case(LINES, 200)
"""4,000 lines a second: a busy host."""

UPDATE_SECONDS_MOST = 20.0
MARKER = "marker"
"""The model of the events whose updates are waited for."""

HOUR_TICKS = 3600
STATES = ("rest", "fed")
NOBODY, READERS, BROWSER = "nobody looks", f"{STREAMS} streams", "a page in Chromium"


class StillDaemon(Daemon):
    """A daemon that does not read its series for the ring."""

    program = (
        "-c",
        """
import time

from llmstatsd import cli
from llmstatsd.live.answers import Answers


def still(self):
    self.history.tick = int(time.monotonic() - self._begun)
    return iter(())


Answers.sample = still
cli.main()
""",
    )


class Share(msgspec.Struct, frozen=True):
    """CPU seconds per second of the daemon: with the ring, and without; one for each round."""

    state: str
    with_ring: list[float]
    without_ring: list[float]

    @property
    def cost(self) -> float:
        """What the ring adds, by medians."""
        return median(self.with_ring) - median(self.without_ring)


class Watched(msgspec.Struct, frozen=True):
    """A load while somebody looked; `told_bytes` came by streams."""

    watchers: str
    sent: Sent
    dropped: int
    told_bytes: int


class Updates(msgspec.Struct, frozen=True):
    """Seconds from sending an event to the update that shows it, on the stream or the page."""

    where: str
    state: str
    seconds: list[float]


class Result(msgspec.Struct, frozen=True):
    """Everything measured."""

    models: int
    shares: list[Share]
    ring_bytes: int
    watched: list[Watched]
    updates: list[Updates]
    goals: list[Goal]


def place(daemon: Daemon) -> tuple[str, int]:
    """Where its HTTP is."""
    host, _, port = daemon.url.partition("//")[2].partition("/")[0].rpartition(":")
    return host, int(port)


def mix(models: int) -> list[bytes]:
    """Everyday lines of so many models."""
    return payloads.datagrams(payloads.documented_mix(models), LINES, 1 << 20)


# -- What the ring costs when nobody looks


def share(daemon: Daemon, state: str, seconds: float, datagrams: Sequence[bytes]) -> float:
    """CPU seconds per second over a time."""
    before, started = daemon.clock.seconds(), time.monotonic()
    if state == "rest":
        time.sleep(seconds)
    else:
        native.blast(
            daemon.udp_port,
            datagrams,
            segments=FED.segments,
            rate=FED.rate,
            count=native.MOST_DATAGRAMS_PER_SECOND,
            seconds=seconds,
        )
    return (daemon.clock.seconds() - before) / (time.monotonic() - started)


def shares(models: int, rounds: int, seconds: float) -> list[Share]:
    """Both daemons in turns, so that what else the machine does hits both alike."""
    datagrams = mix(models)
    with Daemon() as reading, StillDaemon() as still:
        for daemon in (reading, still):
            daemon.feed(finite_pages(payloads.documented_mix(models), LINES))
        turns = [
            (state, daemon)
            for _ in range(rounds)
            for state in STATES
            for daemon in (reading, still)
        ]
        found: dict[tuple[str, Daemon], list[float]] = {turn: [] for turn in turns}
        for state, daemon in harness.progress(turns, "Nobody looks"):
            found[state, daemon].append(share(daemon, state, seconds, datagrams))
        return [Share(state, found[state, reading], found[state, still]) for state in STATES]


def ring_bytes(models: int, ticks: int) -> int:
    """What a ring holds after so many busy seconds, as tracemalloc counts it."""
    twin = lanes.PORTABLE
    store = Store(Limits(), instruments=twin.instruments)
    hot_path = twin.hot_path(store, Dialect(), 1 << 14)
    lines = [line.text().encode() for line in payloads.documented_mix(models)]
    for line in lines:
        hot_path.feed(line)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        history = History(store)
        list(history.take_over(store))
        for tick in harness.progress(range(1, ticks + 1), "An hour of the ring"):
            for line in islice(lines, tick % LONG_TICK_SECONDS, None, LONG_TICK_SECONDS):
                hot_path.feed(line)
            list(history.sample(store, tick))
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


# -- Who looks


class Readers:
    """So many streams, read by a thread of this process."""

    def __init__(self, where: tuple[str, int], count: int) -> None:
        self.told_bytes = 0
        self._selector = selectors.DefaultSelector()
        self._is_over = False
        self._stack = ExitStack()
        for _ in range(count):
            opened = self._stack.enter_context(socket.create_connection(where, timeout=10))
            opened.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if opened.recv(12) != b"HTTP/1.1 200":
                raise BenchError("a stream was refused")
            self._selector.register(opened, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(timeout=0.2):
                told = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                self.told_bytes += len(told)
                if not told:
                    self._selector.unregister(key.fileobj)

    def __enter__(self) -> "Readers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        self._stack.close()


@contextmanager
def open_page(daemon: Daemon, fragment: str = "") -> Iterator["Page"]:
    """The page in Chromium, once it is live."""
    with browser.chromium() as opened:
        page = opened.new_page()
        page.goto(f"{daemon.url.removesuffix('metrics')}{fragment}")
        page.get_by_text("Live", exact=True).wait_for()
        yield page


def watched(watchers: str, rate: float, seconds: float) -> Watched:
    """One load while somebody looks, or nobody."""
    with Daemon() as daemon:
        loads.send(daemon.udp_port, Case(LINES, rate), 1000, 5)  # its series are born
        daemon.wait_drained()
        readers = Readers(place(daemon), STREAMS) if watchers == READERS else None
        looking: AbstractContextManager[object] = readers or nullcontext()
        if watchers == BROWSER:
            looking = open_page(daemon)
        with looking:
            before = daemon.dropped()
            case = Case(LINES, rate)
            sent = loads.send(daemon.udp_port, case, native.MOST_DATAGRAMS_PER_SECOND, seconds)
            daemon.wait_queue_below(1)
        told = readers.told_bytes if readers else 0
        return Watched(watchers, sent, daemon.dropped() - before, told)


# -- From sending to the update


class Stream:
    """The summaries of a stream as they come."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._connection = HTTPConnection(*where, timeout=UPDATE_SECONDS_MOST)
        self._lines = self._open()

    def _open(self) -> HTTPResponse:
        self._connection.request("GET", "/api/v1/stream")
        return self._connection.getresponse()

    def wait_for(self, requests: int) -> None:
        """Until MARKER has so many; BenchError when that takes too long."""
        until = time.monotonic() + UPDATE_SECONDS_MOST
        while self._next() < requests:
            if time.monotonic() > until:
                raise BenchError("an event did not come up on the stream")

    def _next(self) -> Any:
        """How many the next summary shows."""
        name = b""
        while line := self._lines.readline():
            if line.startswith(b"event: "):
                name = line[7:].strip()
            elif name == b"summary" and line.startswith(b"data: "):
                rows: list[dict[str, Any]] = json.loads(line[6:])["models"]
                return next(
                    (row["figures"]["requests"] for row in rows if row["model"] == MARKER), 0
                )
        self._connection.close()
        self._lines = self._open()  # it has ended, as it does after a time
        return self._next()


def shown_on(page: "Page", requests: int) -> None:
    """Wait until a page of MARKER alone shows so many."""
    shown = page.locator("#tile-requests .under", has_text=re.compile(f"^{requests} in "))
    shown.wait_for(timeout=1000 * UPDATE_SECONDS_MOST)


def updates(
    daemon: Daemon, where: str, state: str, numbers: range, wait_for: Callable[[int], None]
) -> Updates:
    """Each event at another moment of the second."""
    moments = random.Random(loads.SEED)
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", daemon.udp_port))
        for number in harness.progress(numbers, f"Updates of the {where}, {state}"):
            time.sleep(moments.random())
            sender.send(f"llm_request_total:1|c|#model:{MARKER},operation:chat".encode())
            started = time.monotonic()
            wait_for(number)
            found.append(time.monotonic() - started)
    return Updates(where, state, found)


def updates_by_all(daemon: Daemon, state: str, count: int) -> Iterator[Updates]:
    """On the stream, and on the page where there is a browser."""
    yield updates(daemon, "stream", state, range(1, count + 1), Stream(place(daemon)).wait_for)
    if browser.is_there():
        with open_page(daemon, f"#model={MARKER}") as page:
            numbers = range(count + 1, 2 * count + 1)
            yield updates(daemon, "page", state, numbers, partial(shown_on, page))


def all_updates(count: int, rate: float) -> Iterator[Updates]:
    """At rest, and then under load."""
    with Daemon() as daemon:
        yield from updates_by_all(daemon, "rest", count)
    with (
        Daemon() as daemon,
        native.Blast(
            daemon.udp_port,
            loads.prepared(LINES),
            segments=Case(LINES, rate).segments,
            rate=rate,
            count=native.MOST_DATAGRAMS_PER_SECOND,
            seconds=2 * count * UPDATE_SECONDS_MOST,
        ) as load,
    ):
        yield from updates_by_all(daemon, "loaded", count)
        load.terminate()
        load.finish()


# -- The whole


def lost(watched_: Sequence[Watched], watchers: str) -> int:
    """Datagrams lost over all rounds."""
    return sum(each.dropped for each in watched_ if each.watchers == watchers)


def goals(
    shares_: Sequence[Share], watched_: Sequence[Watched], updates_: Sequence[Updates]
) -> list[Goal]:
    """Each beside its limit; what is lost when nobody looks is not the watchers' fault."""
    costs = [
        Goal(f"the ring, share of a core, {each.state}", each.cost, "<=", GOAL_SHARE)
        for each in shares_
    ]
    alone = lost(watched_, NOBODY)
    watchers = dict.fromkeys(each.watchers for each in watched_ if each.watchers != NOBODY)
    losses = [
        Goal(f"datagrams lost, {each}", lost(watched_, each), "<=", alone) for each in watchers
    ]
    times = [
        Goal(
            f"s to the update of the {each.where}, {each.state}",
            max(each.seconds),
            "<=",
            GOAL_UPDATE_SECONDS,
        )
        for each in updates_
    ]
    return [*costs, *losses, *times]


def measure(
    *, models: int, rounds: int, seconds: float, rate: float, count: int, ticks: int
) -> Result:
    """All three."""
    kinds = [NOBODY, READERS, *([BROWSER] if browser.is_there() else [])]
    found = shares(models, rounds, seconds)
    held = ring_bytes(models, ticks)
    turns: list[Callable[[], Watched]] = [
        lambda kind=kind: watched(kind, rate, seconds)  # type: ignore[misc]
        for _ in range(rounds)
        for kind in kinds
    ]
    seen = [turn() for turn in harness.progress(turns, "Under load")]
    fresh = list(all_updates(count, rate))
    return Result(models, found, held, seen, fresh, goals(found, seen, fresh))


def text(result: Result) -> str:
    """Tables for people."""
    ring = harness.table(
        (f"nobody looks, {result.models} models", "with the ring, %", "without, %", "ring, %"),
        [
            (
                each.state,
                *(
                    f"{100 * share_:.2f}"
                    for share_ in (median(each.with_ring), median(each.without_ring), each.cost)
                ),
            )
            for each in result.shares
        ],
    )
    held = f"memory of a ring after a busy hour: {result.ring_bytes / 2**20:.1f} MiB"
    rows = [
        (
            each.watchers,
            f"{each.sent.datagrams_per_second * LINES:,.0f}",
            f"{each.sent.datagrams:,}",
            f"{each.dropped:,}",
            f"{each.told_bytes / each.sent.seconds / 1000:,.0f}",
        )
        for each in result.watched
    ]
    head = ("under load", "lines/s", "datagrams", "lost", "told, kB/s")
    times = [
        (each.where, each.state, f"{median(each.seconds):.2f}", f"{max(each.seconds):.2f}")
        for each in result.updates
    ]
    fresh = harness.table(("from sending to the update, s", "load", "median", "longest"), times)
    parts = (ring, held, harness.table(head, rows), fresh, harness.goals_table(result.goals))
    return "\n\n".join(parts)


@click.command()
@click.option("--models", default=50, type=click.IntRange(1, 1000), help="Models of the ring.")
@click.option("--rounds", default=3, type=click.IntRange(1, 20))
@click.option("--seconds", default=20.0, type=click.FloatRange(0.1, 45.0), help="Of each turn.")
@click.option("--lines-per-second", default=300_000, type=click.IntRange(20, 10_000_000))
@click.option("--updates", "count", default=15, type=click.IntRange(1, 100))
@click.option(
    "--ticks", default=HOUR_TICKS, type=click.IntRange(1, HOUR_TICKS), help="Of the ring."
)
@harness.json_option
def main(
    models: int,
    rounds: int,
    seconds: float,
    lines_per_second: int,
    count: int,
    ticks: int,
    json_path: str | None,
) -> None:
    """Measure what the live view costs, and how soon it shows what was sent."""
    rate = lines_per_second / LINES
    result = measure(
        models=models, rounds=rounds, seconds=seconds, rate=rate, count=count, ticks=ticks
    )
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
