"""An hour in two minutes: whether memory and descriptors stay flat while label sets come and leave.

Customers come, are busy for a while, fall silent and never return, and so do names of series; a
budget folds some of them. One part runs the series stage of each lane in a process of its own, on
a clock that goes as fast as it can, with scrapes in both formats and sweeps whose steps lie
between datagrams as in the daemon. The other part runs daemons with a short `limits.idle_seconds`,
and reads all from their scrapes.

What has left is added up as it leaves, so that every sum is known at the end, to the last bit.
Memory is compared by the medians of the second and the last third: the first warms up.
"""

import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness
from bench.generator import PAGE, Page
from bench.harness import BenchError, Daemon, Goal, Scrape
from llmstatsd.exposition import lanes as renderers
from llmstatsd.exposition.text import OPENMETRICS, TEXT, Exposition
from llmstatsd.series import lanes
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import LabelSet
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect

LANES = ("compiled", "portable")

COUNTED, OBSERVED = "soak_jobs_total", "soak_wait_seconds"

IDLE_SECONDS = 60.0
LABEL_VALUES = 75
"""Fewer than are there at a time, those that fell silent included: some fold."""

BUSY_SECONDS = 30
NEW_PER_SECOND = 2
NAME_SECONDS = 120
"""How long one of the names of series that come and leave is sent."""

SCRAPE_SECONDS = 15
CACHE_ENTRIES = 10_000
SAMPLES_PER_SECOND = 2
"""Lines of either kind that a busy customer sends."""

DAEMON_IDLE_SECONDS = 3
DAEMON_BUSY_SECONDS = 2
DAEMON_NEW_PER_SECOND = 20
DAEMON_CACHE_ENTRIES = 1000
"""Full within the first third, so that memory is at rest in the others."""
DAEMON_PAUSE_SECONDS = 0.1

GOAL_GROWTH_MIB = 2.0


class Soaked(msgspec.Struct, frozen=True):
    """What became of one soak; memory is resident, medians of the second and the last third."""

    what: str
    lane: str
    seconds: float
    lines: int
    scrapes: int
    born: int
    left: int
    folded: int
    middle_bytes: float
    last_bytes: float
    middle_descriptors: float
    last_descriptors: float
    sums: dict[str, float]
    expected_sums: dict[str, float]

    @property
    def growth_mib(self) -> float:
        """From the second third to the last."""
        return (self.last_bytes - self.middle_bytes) / 2**20

    @property
    def wrong_sums(self) -> int:
        """How many sums are not the expected ones, to the last bit."""
        return sum(self.sums[name] != value for name, value in self.expected_sums.items())


class Result(msgspec.Struct, frozen=True):
    """Everything measured."""

    soaks: list[Soaked]
    goals: list[Goal]


class Traffic:
    """Datagrams of one second after the other, and what they add up to."""

    def __init__(
        self, busy_seconds: int = BUSY_SECONDS, new_per_second: int = NEW_PER_SECOND
    ) -> None:
        self.lines = 0
        self.sums = dict.fromkeys((COUNTED, f"{OBSERVED}_count", f"{OBSERVED}_sum"), 0.0)
        self._busy_seconds = busy_seconds
        self._new_per_second = new_per_second

    def of(self, second: int) -> Iterator[bytes]:
        """The datagrams of a second, one for each customer; values are exact in binary."""
        newest = second * self._new_per_second
        for customer in range(newest - self._busy_seconds * self._new_per_second, newest):
            amount = customer % 100 + 1
            lines = [
                f"{COUNTED}:{amount}|c|#customer:{customer}",
                f"{OBSERVED}:{amount / 4}|h|#customer:{customer}",
            ] * SAMPLES_PER_SECOND
            self.sums[COUNTED] += amount * SAMPLES_PER_SECOND
            self.sums[f"{OBSERVED}_count"] += SAMPLES_PER_SECOND
            self.sums[f"{OBSERVED}_sum"] += amount / 4 * SAMPLES_PER_SECOND
            lines.append(f"soak_users:{customer}|s|#group:{customer % 7}")
            lines.append(f"soak.name{second // NAME_SECONDS}:1|c|#customer:{customer}")
            self.lines += len(lines)
            yield "\n".join(lines).encode()


class Book(Store):
    """A store that adds up what leaves it."""

    def __init__(self, limits: Limits, twin: lanes.Twin) -> None:
        super().__init__(limits, instruments=twin.instruments)
        self.left = dict.fromkeys(Traffic().sums, 0.0)

    def remove(self, family: Family, key: LabelSet) -> None:
        """Remove it, and add up what it held."""
        self._add_up(family, [family.cells[key]])
        super().remove(family, key)

    def disown(self, family: Family) -> None:
        """Disown it, and add up what it held."""
        self._add_up(family, family.cells.values())
        super().disown(family)

    def _add_up(self, family: Family, cells: Any) -> None:
        for cell in cells:
            if family.name == COUNTED:
                self.left[COUNTED] += cell.value
            elif family.name == OBSERVED:
                self.left[f"{OBSERVED}_count"] += sum(cell.counts)
                self.left[f"{OBSERVED}_sum"] += cell.sum


class Gauges:
    """Memory and descriptors of a process over time."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.bytes: list[int] = []
        self.descriptors: list[int] = []

    def read(self) -> None:
        """Take one sample."""
        self.bytes.append(self._process.memory_info().rss)
        self.descriptors.append(self._process.num_fds())


def thirds(samples: Sequence[int]) -> tuple[float, float]:
    """The medians of the second third and of the last."""
    third = len(samples) // 3
    return median(samples[third : 2 * third]), median(samples[2 * third :])


def inside(lane: str, seconds: int) -> Soaked:
    """The series stage of a lane for so many seconds of a clock that does not wait."""
    twin = lanes.choose("compiled" if lane == "compiled" else "portable")
    store = Book(Limits(idle_seconds=IDLE_SECONDS, label_values=LABEL_VALUES), twin)
    hot = twin.hot_path(store, Dialect(), CACHE_ENTRIES)
    exposition = Exposition(store, renderers=renderers.renderers(lane))
    traffic, gauges, scrapes = Traffic(), Gauges(os.getpid()), 0
    started = time.monotonic()
    for second in harness.progress(range(seconds), f"fast clock: {lane}"):
        datagrams = traffic.of(second)
        store.end_minutes(float(second))
        for _ in hot.expire(float(second)):
            hot.feed_together(list(islice(datagrams, 1)))
        for datagram in datagrams:
            hot.feed_together([datagram])
        if second % SCRAPE_SECONDS == 0:
            hot.settle()
            text = b"".join(exposition.chunks(OPENMETRICS if scrapes % 2 else TEXT)).decode()
            scrapes += 1
            check(Scrape(text), store.left, traffic.sums)
            gc.collect()
            gauges.read()
    hot.settle()
    scrape = Scrape(b"".join(exposition.chunks(TEXT)).decode())
    return Soaked(
        "on a fast clock",
        lane,
        time.monotonic() - started,
        traffic.lines,
        scrapes,
        store.ledger.born,
        store.stats.expired_label_sets,
        sum(sum(family.folded.values()) for family in store.families.values()),
        *thirds(gauges.bytes),
        *thirds(gauges.descriptors),
        summed(scrape, store.left),
        traffic.sums,
    )


def summed(scrape: Scrape, left: dict[str, float]) -> dict[str, float]:
    """What is there and what has left, by sample name."""
    return {name: scrape.sum(name) + gone for name, gone in left.items()}


def check(scrape: Scrape, left: dict[str, float], expected: dict[str, float]) -> None:
    """Raises BenchError where a sum is wrong already: the sooner it is seen the better."""
    if summed(scrape, left) != expected:
        raise BenchError(f"sums are {summed(scrape, left)}, not {expected}")


class Watched:
    """What scrapes of a daemon show of each label set, and the last that was seen of those gone.

    A customer is silent long before its label sets leave, so a scrape has seen all of it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.left = dict.fromkeys(names, 0.0)
        self.scrapes = 0
        self._seen: dict[str, dict[str, float]] = {name: {} for name in names}

    def look_at(self, scrape: Scrape) -> None:
        """Take a scrape in."""
        self.scrapes += 1
        for name, before in self._seen.items():
            now = dict(scrape.samples(name))
            self.left[name] += sum(before[labels] for labels in before.keys() - now.keys())
            self._seen[name] = now


def outside(lane: str, seconds: float) -> Soaked:
    """A daemon for so many seconds of the true clock."""
    traffic = Traffic(DAEMON_BUSY_SECONDS, DAEMON_NEW_PER_SECOND)
    watched = Watched(list(traffic.sums))
    flags = (
        f"--limits-idle-seconds={DAEMON_IDLE_SECONDS}",
        f"--limits-label-values={LABEL_VALUES}",
        f"--statsd-cache-entries={DAEMON_CACHE_ENTRIES}",
    )
    started, second = time.monotonic(), 0
    with (
        Daemon(f"--statsd-lane={lane}", *flags) as daemon,
        harness.progress_to(seconds, f"a daemon: {lane}") as come_to,
    ):
        gauges = Gauges(daemon.pid)
        while (passed := time.monotonic() - started) < seconds:
            come_to(passed)
            daemon.feed(pages(traffic, second))
            second += 1
            gauges.read()
            watched.look_at(daemon.scrape())
            time.sleep(DAEMON_PAUSE_SECONDS)
        scrape = daemon.scrape()
        watched.look_at(scrape)
        sums = summed(scrape, watched.left)
    return Soaked(
        "a daemon",
        lane,
        time.monotonic() - started,
        traffic.lines,
        watched.scrapes,
        int(scrape.sum("llmstatsd_born_label_sets_total")),
        int(scrape.sum("llmstatsd_expired_label_sets_total")),
        int(scrape.sum("llmstatsd_folded_samples_total")),
        *thirds(gauges.bytes),
        *thirds(gauges.descriptors),
        sums,
        traffic.sums,
    )


def pages(traffic: Traffic, second: int) -> Iterator[Page]:
    """The datagrams of a second as pages to feed."""
    datagrams = traffic.of(second)
    while page := list(islice(datagrams, PAGE)):
        yield Page(page)


def goals(soaks: Sequence[Soaked]) -> list[Goal]:
    """Sums exact, memory and descriptors flat."""
    reached = []
    for each in soaks:
        name = f"{each.what}, {each.lane}"
        descriptors = each.last_descriptors - each.middle_descriptors
        reached += [
            Goal(f"{name}: sums that are wrong", each.wrong_sums, "<=", 0),
            Goal(f"{name}: MiB grown", each.growth_mib, "<=", GOAL_GROWTH_MIB),
            Goal(f"{name}: descriptors grown", descriptors, "<=", 0),
        ]
    return reached


def text(result: Result) -> str:
    """A row per soak, and the goals."""
    rows = [
        (
            f"{each.what}: {each.lane}",
            f"{each.seconds:.0f}",
            f"{each.lines:,}",
            str(each.scrapes),
            f"{each.born:,}",
            f"{each.left:,}",
            f"{each.folded:,}",
            f"{each.middle_bytes / 2**20:.1f}",
            f"{each.last_bytes / 2**20:.1f}",
            f"{each.last_descriptors:.0f}",
        )
        for each in result.soaks
    ]
    header = (
        *("soak", "seconds", "lines", "scrapes", "born", "left", "folded"),
        *("2nd third MiB", "last third", "descriptors"),
    )
    return f"{harness.table(header, rows)}\n\n{harness.goals_table(result.goals)}"


@click.command()
@click.option("--minutes", default=60, type=click.IntRange(3, 1440), help="Of the fast clock.")
@click.option("--seconds", default=45.0, type=click.FloatRange(1, 3600), help="Of each daemon.")
@click.option(
    "--lane", "lanes_", default=LANES, multiple=True, show_default=True, type=click.Choice(LANES)
)
@harness.json_option
def main(minutes: int, seconds: float, lanes_: tuple[str, ...], json_path: str | None) -> None:
    """Let label sets come and leave for an hour of a fast clock, and in daemons."""
    soaks = []
    for lane in lanes_:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:  # its memory is its own
            soaks.append(pool.submit(inside, lane, minutes * 60).result())
        soaks.append(outside(lane, seconds))
    result = Result(soaks, goals(soaks))
    harness.emit(result, text(result), json_path)
    if any(each.wrong_sums for each in soaks):
        raise BenchError("sums are not exact")


if __name__ == "__main__":
    main()
