"""What a datagram and a line cost the daemon, in multiples of the bare receive loop.

For each case a yardstick and a real daemon take turns, each a fresh process under the same load,
round after round, so that what else the machine does hits both.
CPU is the receiver's own, user and system, from before the load until it is at rest again, minus
what it spends idle; datagrams are those it says it received, so a lost one costs nothing.

A case is LINES for a flat-out load, or LINES@RATE for a paced one in datagrams per second.
The regimes differ: flat out, a receiver finds many datagrams each time it wakes; paced, it wakes
for a few, and waking up is what dominates the cost of both.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness
from bench.generator import Bounds, Sent
from bench.harness import Daemon, Received, Yardstick

GOALS = {1: 1.35, 20: 5.5}
DEFAULT_CASES = ("1", "20", "1@50000", "20@5000")


class Case(msgspec.Struct, frozen=True):
    """Lines per datagram, and datagrams per second; a rate of 0 is flat out."""

    lines: int
    rate: float

    @property
    def name(self) -> str:
        """How the tables call it."""
        pace = f"{self.rate:,.0f}/s" if self.rate else "flat out"
        return f"{self.lines} line{'s' if self.lines > 1 else ''}, {pace}"


class Run(msgspec.Struct, frozen=True):
    """One receiver under one load; `seconds` until it had taken in the last datagram."""

    case: Case
    subject: str
    sent: Sent
    received: Received
    seconds: float
    cpu_seconds: float
    idle_cpu_seconds_per_second: float
    peak_rss_bytes: int

    @property
    def cpu_microseconds(self) -> float:
        """CPU per datagram received."""
        return self.cpu_seconds / max(1, self.received.datagrams) * 1e6

    @property
    def cpu_seconds_per_million_lines(self) -> float:
        """CPU per line received."""
        return self.cpu_seconds / max(1, self.received.lines) * 1e6

    @property
    def loss(self) -> float:
        """The share of the datagrams sent that was not received, 0..1."""
        return 1 - self.received.datagrams / max(1, self.sent.datagrams)


class Ratio(msgspec.Struct, frozen=True):
    """Daemon over yardstick in CPU per datagram, over the rounds.

    `cheapest` compares the cheapest run of each: whatever else a machine does adds to a cost and
    never takes from it, so this is the steadier figure on a machine that is shared.
    """

    case: Case
    median: float
    lowest: float
    highest: float
    cheapest: float
    goal: float | None


class Result(msgspec.Struct, frozen=True):
    """Everything measured: every run, so that nobody has to trust the summary."""

    runs: list[Run]
    ratios: list[Ratio]


def measure(receiver: Yardstick | Daemon, case: Case, bounds: Bounds) -> Run:
    """Load one receiver and read what it took in and what that cost."""
    idle = receiver.idle_cpu()
    before = receiver.clock.seconds()
    sent = harness.generate(receiver.statsd_udp, case.lines, bounds)
    seconds = sent.seconds + receiver.wait_drained()
    spent = receiver.clock.seconds() - before - idle * seconds
    peak = receiver.peak_rss_bytes()
    received = receiver.finish(case.lines)
    return Run(case, type(receiver).__name__.lower(), sent, received, seconds, spent, idle, peak)


def take_turns(cases: Sequence[Case], rounds: int, datagrams: int, seconds: float) -> list[Run]:
    """Yardstick, daemon, yardstick, daemon: every case once a round."""
    steps = [
        (case, subject) for _ in range(rounds) for case in cases for subject in (Yardstick, Daemon)
    ]
    runs = []
    for case, subject in harness.progress(steps, "throughput"):
        with subject() as receiver:
            runs.append(measure(receiver, case, Bounds(datagrams, seconds, case.rate)))
    return runs


def ratio(case: Case, runs: Sequence[Run]) -> Ratio:
    """Compare each daemon run with the yardstick run just before it."""
    costs = [run.cpu_microseconds for run in runs if run.case == case]
    yardstick, daemon = costs[::2], costs[1::2]
    ratios = [ours / bare for bare, ours in zip(yardstick, daemon, strict=True)]
    cheapest = min(daemon) / min(yardstick)
    goal = GOALS.get(case.lines)
    return Ratio(case, median(ratios), min(ratios), max(ratios), cheapest, goal)


def runs_table(cases: Sequence[Case], runs: Sequence[Run]) -> str:
    """One row per case and subject, the median of every column over the rounds."""
    rows = []
    for case in cases:
        for subject in ("yardstick", "daemon"):
            own = [run for run in runs if (run.case, run.subject) == (case, subject)]
            rows.append((f"{case.name}: {subject}", *medians(own)))
    header = ("median of rounds", "datagrams/s", "lines/s", "loss", "us/datagram", "CPU s/M lines")
    return harness.table((*header, "peak MiB"), rows)


def medians(runs: Sequence[Run]) -> tuple[str, ...]:
    """The cells of one row."""
    return (
        f"{median(run.received.datagrams / run.seconds for run in runs):,.0f}",
        f"{median(run.received.lines / run.seconds for run in runs):,.0f}",
        f"{median(run.loss for run in runs):.1%}",
        f"{median(run.cpu_microseconds for run in runs):.2f}",
        f"{median(run.cpu_seconds_per_million_lines for run in runs):.2f}",
        f"{median(run.peak_rss_bytes for run in runs) / 2**20:.1f}",
    )


def ratios_table(ratios: Sequence[Ratio]) -> str:
    """One row per case, with the goal beside what was measured."""
    rows = [
        (
            each.case.name,
            f"{each.median:.2f}",
            f"{each.lowest:.2f}..{each.highest:.2f}",
            f"{each.cheapest:.2f}",
            f"<= {each.goal}" if each.goal else "none",
        )
        for each in ratios
    ]
    header = ("daemon / yardstick, CPU per datagram", "median", "range", "cheapest", "goal")
    return harness.table(header, rows)


def parse_case(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[Case]:
    """Read LINES or LINES@RATE; click reports the ValueError's text."""
    cases = []
    for value in values:
        lines, _at, rate = value.partition("@")
        try:
            cases.append(Case(int(lines), float(rate or 0)))
        except ValueError:
            raise click.BadParameter(f"{value!r} is not LINES or LINES@RATE") from None
    return cases


@click.command()
@click.option("--rounds", default=7, type=click.IntRange(1, 100))
@click.option("--datagrams", default=2_000_000, type=click.IntRange(1), help="Bound of each load.")
@click.option("--seconds", default=1.0, type=click.FloatRange(0.01, 60), help="Bound of each load.")
@click.option(
    "--case", "cases", default=DEFAULT_CASES, multiple=True, callback=parse_case, show_default=True
)
@harness.json_option
def main(
    rounds: int, datagrams: int, seconds: float, cases: list[Case], json_path: str | None
) -> None:
    """Compare the daemon's CPU per datagram with the bare receive loop's."""
    runs = take_turns(cases, rounds, datagrams, seconds)
    ratios = [ratio(case, runs) for case in cases]
    text = f"{runs_table(cases, runs)}\n\n{ratios_table(ratios)}"
    harness.emit(Result(runs, ratios), text, json_path)


if __name__ == "__main__":
    main()
