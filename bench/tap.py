"""What an open tap costs a daemon under load: CPU and datagrams.

For each lane a daemon gets the same paced load twice in each round, once while nobody looks and
once while a tap is read as fast as it comes, in an order that turns with each round. CPU is that of
the whole process per line that it took in, times the rate: so a line that was lost costs nothing.
The load has run for a second before anything is measured, as a tap shows more after a quiet while.
"""

import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Final

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, loads
from bench.harness import BenchError, Daemon, Goal
from bench.loads import Case

LANES: Final = ("compiled", "portable")
LINES: Final = 20
GOAL_CPU_SHARE: Final = 0.01
"""Of a core, that an open tap takes beside the load."""


class Phase(msgspec.Struct, frozen=True):
    """One load: CPU seconds per second for lines at the rate asked for, and what became of it."""

    lane: str
    is_tapped: bool
    cores: float
    lines_per_second: float
    dropped: int
    shown_lines: int


class Result(msgspec.Struct, frozen=True):
    """All of them, in their order."""

    phases: list[Phase]


@contextmanager
def _read_tap(daemon: Daemon, shown: list[int]) -> Iterator[None]:
    """A tap that is open and read meanwhile; `shown` gets the number of its lines."""
    url = daemon.url.replace("/metrics", "/api/v1/tap")
    is_open, is_over = threading.Event(), threading.Event()

    def read() -> None:
        count = 0
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 our own URL
            for record in answer:
                is_open.set()
                count += b'"record":"line"' in record
                if is_over.is_set():
                    break
        shown.append(count)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        if not is_open.wait(10):
            raise BenchError("the tap told nothing")
        yield
    finally:
        is_over.set()  # the count of the next second ends it
        reader.join()


def _phase(daemon: Daemon, lane: str, rate: float, seconds: float, *, is_tapped: bool) -> Phase:
    case = Case(LINES, rate / LINES)
    shown: list[int] = []
    with _read_tap(daemon, shown) if is_tapped else nullcontext():
        loads.send(daemon.udp_port, case, int(case.rate), 5)
        dropped, before = daemon.dropped(), daemon.clock.seconds()
        sent = loads.send(daemon.udp_port, case, int(case.rate * seconds), 2 * seconds)
        spent = daemon.clock.seconds() - before
    daemon.wait_drained()
    lost = daemon.dropped() - dropped
    cores = spent / max(1, sent.datagrams - lost) * case.rate
    return Phase(lane, is_tapped, cores, sent.datagrams_per_second * LINES, lost, sum(shown))


def measure(rate: float, rounds: int, seconds: float) -> Result:
    """So many rounds of both lanes."""
    phases: list[Phase] = []
    steps = [(number, lane) for number in range(rounds) for lane in LANES]
    for number, lane in harness.progress(steps, "tap"):
        with Daemon(f"--statsd-lane={lane}") as daemon:
            loads.send(daemon.udp_port, Case(LINES, 1000), 500, 5)  # all is known before
            phases += [
                _phase(daemon, lane, rate, seconds, is_tapped=is_tapped)
                for is_tapped in (number % 2 == 0, number % 2 == 1)
            ]
    return Result(phases)


def text(result: Result) -> str:
    """A row per lane, and the goals."""
    rows, goals = [], []
    for lane in LANES:
        closed, tapped = (
            [each for each in result.phases if (each.lane, each.is_tapped) == (lane, is_tapped)]
            for is_tapped in (False, True)
        )
        without = median(each.cores for each in closed)
        with_tap = median(each.cores for each in tapped)
        lost = [sum(each.dropped for each in phases) for phases in (closed, tapped)]
        rows.append(
            (
                lane,
                f"{median(each.lines_per_second for each in tapped):,.0f}",
                f"{without:.3f}",
                f"{with_tap:.3f}",
                *(str(count) for count in lost),
                f"{median(each.shown_lines for each in tapped):,.0f}",
            )
        )
        goals.append(
            Goal(f"{lane}: share of a core for a tap", with_tap - without, "<=", GOAL_CPU_SHARE)
        )
        goals.append(Goal(f"{lane}: datagrams lost more with it", lost[1] - lost[0], "<=", 0))
    header = ("lane", "lines/s", "cores", "with a tap", "lost", "lost with it", "lines shown")
    return f"{harness.table(header, rows)}\n\n{harness.goals_table(goals)}"


@click.command()
@click.option("--rate", default=300_000.0, help="Lines per second.")
@click.option("--rounds", default=10, type=click.IntRange(1, 100))
@click.option("--seconds", default=4.0, type=click.FloatRange(0.1, 40))
@harness.json_option
def main(rate: float, rounds: int, seconds: float, json_path: str | None) -> None:
    """Measure what an open tap costs."""
    result = measure(rate, rounds, seconds)
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
