"""How much the daemon takes in and what that costs, beside the least that receiving can cost.

Receivers take turns, so that what else the machine does hits all of them alike:

- `sink`: recvmmsg(2) in C that throws everything away, the limit of the machine;
- `compiled` and `portable`: the daemon with either lane;
- `yardstick`: asyncio-dgram on uvloop that throws everything away, the limit of a Python service.

Three measurements, each with 1 and with 20 lines a datagram:

- CPU, user and system, per datagram that the receiver says it took in, so that a lost one costs
  nothing. A case is LINES for a load flat out, or LINES@RATE for a paced one in datagrams per
  second: flat out a receiver finds many datagrams each time it looks, paced it is woken for a few,
  and then waking up is most of the cost;
- the loss of a blast of 2,000,000 lines, flat out, in the daemon's default receive buffer;
- the highest rate that keeps the loss under 0.1 %, see search.py.

Whatever a receiver says must add up: received and dropped are what was sent, and the daemon's
lines, all of them accepted, are its datagrams times the lines in each.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, loads, native, search
from bench.harness import Daemon, Goal, Received, Yardstick
from bench.loads import LINES, Case, lines_name
from bench.native import Sent, Sink
from bench.peer import Peer
from bench.search import Highest

Receiver = Sink | Daemon | Yardstick | Peer
Subjects = Mapping[str, Callable[[], Receiver]]

SUBJECTS: Subjects = {
    "sink": Sink,
    "compiled": partial(Daemon, "--statsd-lane=compiled"),
    "portable": partial(Daemon, "--statsd-lane=portable"),
    "yardstick": Yardstick,
}
ONLY_COST = ("yardstick",)
"""Subjects whose loss and highest rate say nothing about the daemon."""

DEFAULT_CASES = ("1", "20", "1@50000", "20@5000")
GOAL_COST = {
    ("compiled", "sink"): {1: 1.15, 20: 1.6},
    ("portable", "yardstick"): {1: 1.35, 20: 5.5},
}
GOAL_RATE_SHARE = 0.9
GOAL_LINES_PER_SECOND = 6_000_000
GOAL_MORE_LOSS = 0.001


class Run(msgspec.Struct, frozen=True):
    """One fresh receiver under one load; `seconds` until it had taken in the last datagram."""

    case: Case
    subject: str
    sent: Sent
    received: Received
    seconds: float
    cpu_seconds: float
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
        return self.received.dropped / max(1, self.sent.datagrams)


class Ratio(msgspec.Struct, frozen=True):
    """One subject over another in CPU per datagram, over the rounds.

    `cheapest` compares the cheapest run of each: whatever else a machine does adds to a cost and
    never takes from it, so this is the steadier figure on a machine that is shared.
    """

    case: Case
    subject: str
    base: str
    median: float
    lowest: float
    highest: float
    cheapest: float


class Result(msgspec.Struct, frozen=True):
    """Everything measured: every run, so that nobody has to trust the summary."""

    costs: list[Run]
    ratios: list[Ratio]
    blasts: list[Run]
    highest: list[Highest]
    goals: list[Goal]


def measure(
    subject: str, started: Callable[[], Receiver], case: Case, datagrams: int, seconds: float
) -> Run:
    """Load a fresh receiver, and read what it took in and what that cost."""
    with started() as receiver:
        receiver.wait_drained()  # what it does after its start is no cost of a datagram
        before = receiver.clock.seconds()
        sent = loads.send(receiver.udp_port, case, datagrams, seconds, receiver.plain)
        took = sent.seconds + receiver.wait_drained()
        spent = receiver.clock.seconds() - before
        peak = receiver.peak_rss_bytes()
        received = receiver.finish(case.lines)
    return Run(case, subject, sent, received, took, spent, peak)


def rounds_of(
    label: str, subjects: Subjects, cases: Mapping[Case, int], rounds: int, seconds: float
) -> list[Run]:
    """Every subject once a case, every case once a round; a case's value bounds its datagrams."""
    steps = [(case, subject) for _ in range(rounds) for case in cases for subject in subjects]
    return [
        measure(subject, subjects[subject], case, cases[case], seconds)
        for case, subject in harness.progress(steps, label)
    ]


def ratio(case: Case, subject: str, base: str, runs: Sequence[Run]) -> Ratio:
    """Compare each run of the subject with the base's of the same round."""
    ours, bare = (
        [run.cpu_microseconds for run in runs if (run.case, run.subject) == (case, name)]
        for name in (subject, base)
    )
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    cheapest = min(ours) / min(bare)
    return Ratio(case, subject, base, median(ratios), min(ratios), max(ratios), cheapest)


def cost_goals(ratios: Sequence[Ratio]) -> list[Goal]:
    """Those for CPU; they hold for loads flat out, the harder test of the daemon's own part."""
    return [
        Goal(
            f"CPU per datagram, {lines_name(each.case.lines)}: {each.subject} / {each.base}",
            each.median,
            "<=",
            GOAL_COST[each.subject, each.base][each.case.lines],
        )
        for each in ratios
        if not each.case.rate and each.case.lines in GOAL_COST[each.subject, each.base]
    ]


def loss_goals(blasts: Sequence[Run]) -> list[Goal]:
    """Those for the loss flat out, in shares: what the daemon loses more than the sink."""
    goals = []
    for case in dict.fromkeys(run.case for run in blasts):
        losses = {
            name: [run.loss for run in blasts if (run.case, run.subject) == (case, name)]
            for name in ("compiled", "sink")
        }
        if all(losses.values()):
            more = median(losses["compiled"]) - median(losses["sink"])
            what = f"loss flat out, {lines_name(case.lines)}: compiled - sink"
            goals.append(Goal(what, more, "<=", GOAL_MORE_LOSS))
    return goals


def rate_goals(highest: Sequence[Highest]) -> list[Goal]:
    """Those for the highest rate: against the sink's at 1 line, in lines per second at 20."""
    found = {(each.subject, each.lines): each for each in highest}
    goals = []
    if ("compiled", 1) in found and ("sink", 1) in found:
        share = found["compiled", 1].rate / found["sink", 1].rate
        goals.append(Goal("highest rate, 1 line: compiled / sink", share, ">=", GOAL_RATE_SHARE))
    if ("compiled", 20) in found:
        lines = found["compiled", 20].lines_per_second
        what = "highest rate, 20 lines: lines/s of compiled"
        goals.append(Goal(what, lines, ">=", GOAL_LINES_PER_SECOND))
    return goals


def runs_table(title: str, runs: Sequence[Run]) -> str:
    """One row per case and subject, the median of every column over the rounds."""
    rows = []
    for case, subject in dict.fromkeys((run.case, run.subject) for run in runs):
        own = [run for run in runs if (run.case, run.subject) == (case, subject)]
        rows.append((f"{case.name}: {subject}", *medians(own)))
    header = (title, "datagrams/s", "lines/s", "loss", "us/datagram", "CPU s/M lines", "peak MiB")
    return harness.table(header, rows)


def medians(runs: Sequence[Run]) -> tuple[str, ...]:
    """The cells of one row."""
    return (
        f"{median(run.received.datagrams / run.seconds for run in runs):,.0f}",
        f"{median(run.received.lines / run.seconds for run in runs):,.0f}",
        f"{median(run.loss for run in runs):.2%}",
        f"{median(run.cpu_microseconds for run in runs):.3f}",
        f"{median(run.cpu_seconds_per_million_lines for run in runs):.3f}",
        f"{median(run.peak_rss_bytes for run in runs) / 2**20:.1f}",
    )


def ratios_table(ratios: Sequence[Ratio]) -> str:
    """One row per case and pair of subjects."""
    rows = [
        (
            f"{each.case.name}: {each.subject} / {each.base}",
            f"{each.median:.2f}",
            f"{each.lowest:.2f}..{each.highest:.2f}",
            f"{each.cheapest:.2f}",
        )
        for each in ratios
    ]
    return harness.table(("CPU per datagram", "median", "range", "cheapest"), rows)


def highest_table(highest: Sequence[Highest]) -> str:
    """One row per subject."""
    rows = [
        (
            f"{lines_name(each.lines)}: {each.subject}",
            f"{each.rate:,.0f}",
            f"{each.lines_per_second:,.0f}",
            f"{median(each.losses):.3%}",
            "the generator's" if each.limited_by_generator else "its own",
            str(len(each.steps)),
        )
        for each in highest
    ]
    header = ("highest rate, loss < 0.1 %", "datagrams/s", "lines/s", "loss", "limit", "loads")
    return harness.table(header, rows)


def text(result: Result) -> str:
    """Everything for people."""
    parts = []
    if result.costs:
        parts += [runs_table("cost, median of rounds", result.costs), ratios_table(result.ratios)]
    if result.blasts:
        parts.append(runs_table("blast, median of rounds", result.blasts))
    if result.highest:
        parts.append(highest_table(result.highest))
    if result.goals:
        parts.append(harness.goals_table(result.goals))
    return "\n\n".join(parts)


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


class Bounds(msgspec.Struct, frozen=True):
    """How much of what is measured; 0 rounds leave out costs and blasts, 0 seconds the search."""

    rounds: int
    seconds: float
    datagrams: int
    blast_lines: int
    search_seconds: float


def run_all(subjects: Sequence[str], cases: Sequence[Case], bounds: Bounds) -> Result:
    """All three measurements."""
    counting = {name: SUBJECTS[name] for name in subjects if name not in ONLY_COST}
    cost_loads = dict.fromkeys(cases, bounds.datagrams)
    wanted = {name: SUBJECTS[name] for name in subjects}
    costs = rounds_of("costs", wanted, cost_loads, bounds.rounds, bounds.seconds)
    ratios = [
        ratio(case, subject, base, costs)
        for case in cases
        for subject, base in GOAL_COST
        if costs and {subject, base} <= set(subjects)
    ]
    blast_loads = {Case(lines): max(1, bounds.blast_lines // lines) for lines in LINES}
    blasts = rounds_of("blasts", counting, blast_loads, bounds.rounds, native.LONGEST_SECONDS)
    highest = [
        found
        for lines in (LINES if bounds.search_seconds else ())
        for found in search.highest_rates(counting, lines, bounds.search_seconds)
    ]
    for run in (*costs, *blasts):
        harness.check_exact(run.sent.datagrams, run.received)
    for found in highest:
        harness.check_exact(found.sent, found.received)
    goals = cost_goals(ratios) + loss_goals(blasts) + rate_goals(highest)
    return Result(costs, ratios, blasts, highest, goals)


@click.command()
@click.option("--rounds", default=5, type=click.IntRange(0, 100), help="0: no costs, no blasts.")
@click.option("--seconds", default=1.0, type=click.FloatRange(0.01, 60), help="Bound of a load.")
@click.option("--datagrams", default=2_000_000, type=click.IntRange(1), help="Bound of a load.")
@click.option(
    "--case", "cases", default=DEFAULT_CASES, multiple=True, callback=parse_case, show_default=True
)
@click.option(
    "--subject", "subjects", default=tuple(SUBJECTS), multiple=True, show_default=True,
    type=click.Choice(tuple(SUBJECTS)),
)  # fmt: skip
@click.option("--blast-lines", default=2_000_000, type=click.IntRange(1), help="Of a blast.")
@click.option(
    "--search-seconds", default=1.0, type=click.FloatRange(0, 10), help="Of a load; 0: no search."
)
@harness.json_option
def main(
    rounds: int,
    seconds: float,
    datagrams: int,
    cases: list[Case],
    subjects: tuple[str, ...],
    blast_lines: int,
    search_seconds: float,
    json_path: str | None,
) -> None:
    """Compare what the daemon takes in, and what it costs, with the limits of the machine."""
    bounds = Bounds(rounds, seconds, datagrams, blast_lines, search_seconds)
    result = run_all(subjects, cases, bounds)
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
