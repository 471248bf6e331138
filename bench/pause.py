"""The longest turn of the daemon's event loop, with and without a scrape under way.

Nothing is read from a socket while a turn lasts, so the longest turn is the longest pause of the
intake. A pause cannot be seen from outside, so the whole daemon runs in this process, composed as
`llmstatsd serve` composes it, with a heartbeat that reschedules itself in every turn; scrapes and
load come from other processes.

Two figures are taken of each turn.
Wall time is what a datagram waits, and holds what else the machine does: compare it with the rest
phase, in which the load runs on and nobody scrapes.
CPU time of the loop's own thread holds only the daemon's part, and is less than its pause when
the thread waits for the interpreter lock.
"""

import asyncio
import logging
import os
import re
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import generator, harness, payloads
from bench.scraper import Scraped
from llmstatsd import config, daemon, garbage

NOTICED_SECONDS = 0.0002
MOST_TURNS_KEPT = 200_000
LOAD_SECONDS = 300.0
STEPS = 4
"""Filled, scraped plain, scraped compressed, and at rest."""

FLAGS: dict[str, object] = {
    "--statsd-udp": "127.0.0.1:0",
    "--http": "127.0.0.1:0",
    "--limits-label-values": "100000",
    "--limits-label-sets": "1000000",
    "--limits-exposition-lines": "10000000",
}


class Turn(NamedTuple):
    """A long turn of the loop: when it ended (monotonic), how long it took, its thread's CPU."""

    ended: float
    wall_seconds: float
    cpu_seconds: float


class Heartbeat:
    """Runs once in every turn of the loop and remembers the turns that took long.

    The loop never sleeps meanwhile, so the time between two beats is that of one turn.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns: deque[Turn] = deque(maxlen=MOST_TURNS_KEPT)
        self._wall = time.monotonic()
        self._cpu = time.thread_time()
        self._loop.call_soon(self._beat)

    def _beat(self) -> None:
        wall, cpu = time.monotonic(), time.thread_time()
        if wall - self._wall > NOTICED_SECONDS:
            self._turns.append(Turn(wall, wall - self._wall, cpu - self._cpu))
        self._wall, self._cpu = wall, cpu
        self._loop.call_soon(self._beat)

    def longest(self, started: float, ended: float) -> tuple[float, float]:
        """The longest turn that lay at least in part between two times, by wall and by CPU.

        Turns too short to be remembered count as 0.
        """
        within = [
            turn
            for turn in self._turns
            if turn.ended > started and turn.ended - turn.wall_seconds < ended
        ]
        wall = max((turn.wall_seconds for turn in within), default=0.0)
        return wall, max((turn.cpu_seconds for turn in within), default=0.0)


class Phase(msgspec.Struct, frozen=True):
    """The longest turn during each scrape, in seconds; in a rest phase during as long a time."""

    name: str
    wall_seconds: list[float]
    cpu_seconds: list[float]


class Pauses(msgspec.Struct, frozen=True):
    """Every phase at one size."""

    lines: int
    load_datagrams_per_second: float
    phases: list[Phase]


class Addresses(logging.Handler):
    """Catches the ready line, which names the ports that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.found: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def emit(self, record: logging.LogRecord) -> None:
        """Read one log line."""
        words = dict(re.findall(r"(statsd_udp|http)=(\S+)", record.getMessage()))
        if len(words) == 2 and not self.found.done():
            self.found.set_result(words)


async def started_daemon() -> tuple[daemon.Daemon, asyncio.Task[None], dict[str, str]]:
    """The daemon as a task of this loop, ready to receive, and its addresses."""
    addresses = Addresses()
    logger = logging.getLogger("llmstatsd")
    logger.setLevel(logging.INFO)
    logger.addHandler(addresses)
    running = daemon.Daemon(config.load(None, os.environ, FLAGS))
    garbage.begin()  # as `llmstatsd serve` does
    task = asyncio.create_task(running.run())
    return running, task, await asyncio.wait_for(addresses.found, harness.READY_SECONDS)


async def fill(target: str, models: int) -> None:
    """Bring so many models into being, a few datagrams at a time, so that none is lost."""
    with generator.connected(target) as sock:
        lines = payloads.documented_mix(models)
        for page in generator.finite_pages(lines, lines_per_datagram=20):
            for start in range(0, len(page), generator.BATCH):
                page.send(sock.fileno(), start, min(generator.BATCH, len(page) - start))
                await asyncio.sleep(0.02)


def scrape(url: str) -> harness.Scrape:
    """One plain scrape from a thread of this process."""
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 our own URL
        return harness.Scrape(response.read().decode())


async def scrape_phase(name: str, beat: Heartbeat, command: Sequence[str]) -> tuple[Phase, Scraped]:
    """Let another process scrape, and find the longest turn of each scrape."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise harness.BenchError(f"the scraper ended with {process.returncode}")
    scraped = msgspec.json.decode(output, type=Scraped)
    times = zip(scraped.started, scraped.seconds, strict=True)
    return phase(name, beat, [(start, start + seconds) for start, seconds in times]), scraped


async def rest_phase(beat: Heartbeat, lengths: Sequence[float]) -> Phase:
    """Scrape nothing for as long as the scrapes took, and look at it in the same portions."""
    edges = list(accumulate(lengths, initial=time.monotonic()))
    await asyncio.sleep(sum(lengths))
    return phase("no scrape", beat, list(pairwise(edges)))


def phase(name: str, beat: Heartbeat, windows: Sequence[tuple[float, float]]) -> Phase:
    """The longest turn in each window."""
    longest = [beat.longest(*window) for window in windows]
    return Phase(name, [wall for wall, _ in longest], [cpu for _, cpu in longest])


async def phases(url: str, scrapes: int, come_to: Callable[[float], None]) -> list[Phase]:
    """Plain scrapes, the very first among them, then compressed ones, and rest."""
    beat = Heartbeat()
    command = [sys.executable, str(harness.BENCH / "scraper.py"), url, f"--scrapes={scrapes}"]
    plain, scraped = await scrape_phase("plain", beat, command)
    come_to(2)
    gzip, _ = await scrape_phase("gzip", beat, [*command, "--gzip"])
    come_to(3)
    rest = await rest_phase(beat, scraped.seconds)
    come_to(STEPS)
    return [rest, plain, gzip]


async def measure(
    lines: int, scrapes: int, rate: float, come_to: Callable[[float], None] = lambda _: None
) -> Pauses:
    """Run the daemon here, fill it, load it and scrape it; `come_to` is told of STEPS steps."""
    running, task, addresses = await started_daemon()
    url = f"http://{addresses['http']}/metrics"
    try:
        await fill(addresses["statsd_udp"], payloads.models_for(lines))
        bounds = generator.Bounds(10_000_000, LOAD_SECONDS, rate)
        command = harness.generator_command(addresses["statsd_udp"], 1, bounds)
        load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        try:
            come_to(1)
            found = await phases(url, scrapes, come_to)
            held = (await asyncio.to_thread(scrape, url)).lines("llm_")
            return Pauses(held, rate, found)
        finally:
            load.terminate()
            await load.wait()
    finally:
        running.stop()
        await task


def table(every: Sequence[Pauses], goal: str) -> str:
    """One row per size and phase, in milliseconds; the goal stands beside the scrapes."""
    rows = [
        (
            f"{pauses.lines:,} lines, {each.name}",
            *(harness.milliseconds(figure) for figure in harness.spread(each.wall_seconds)),
            *(harness.milliseconds(figure) for figure in harness.spread(each.cpu_seconds)),
            goal if each.name != "no scrape" else "none",
        )
        for pauses in every
        for each in pauses.phases
    ]
    header = ("longest turn, ms", "wall, median", "worst", "CPU, median", "worst", "goal, wall")
    return harness.table(header, rows)


@click.command()
@click.option("--lines", default=100_000, type=click.IntRange(1, 1_000_000), help="Sample lines.")
@click.option("--scrapes", default=5, type=click.IntRange(1, 100), help="Of each kind.")
@click.option("--rate", default=5000.0, type=click.FloatRange(1, 100_000), help="Datagrams/s.")
@harness.json_option
def main(lines: int, scrapes: int, rate: float, json_path: str | None) -> None:
    """Find the longest turn of the loop."""
    with harness.progress_to(STEPS, "pauses") as come_to:
        pauses = uvloop.run(measure(lines, scrapes, rate, come_to))
    harness.emit(pauses, table([pauses], "none"), json_path)


if __name__ == "__main__":
    main()
