"""The daemon beside the StatsD servers that everybody knows, each one loaded in its turn.

The same calls of LLM applications go to all of them: as DogStatsD lines to those that know tags,
with the label values in the name to the others; see loads.py. What each has counted is what it
says itself, see peer.py, and is shown beside what was sent: a server that loses lines behind the
kernel's back is seen to.

Those that are not installed are named with what would install them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, native, peer, search, throughput
from bench.loads import LINES, Case, lines_name
from bench.search import Highest
from bench.throughput import Run, Subjects

OURS = ("sink", "compiled", "portable")
BASE = "sink"


class Standing(msgspec.Struct, frozen=True):
    """One subject with so many lines a datagram, the medians over the rounds.

    `ratio` is CPU per datagram counted over the sink's; `counted` is the share of the lines of a
    blast that it says it has taken in, `peak_rss_bytes` the most memory it needed for that.
    """

    subject: str
    lines: int
    cpu_microseconds: float
    ratio: float
    counted: float
    peak_rss_bytes: int
    highest: float
    highest_lines: float


class Result(msgspec.Struct, frozen=True):
    """Everything measured, and what could not be."""

    standings: list[Standing]
    missing: dict[str, str]
    costs: list[Run]
    blasts: list[Run]
    highest: list[Highest]


def standing(subject: str, lines: int, result: Result) -> Standing:
    """Sum one subject up."""

    def own(runs: Sequence[Run], name: str) -> list[Run]:
        return [run for run in runs if run.subject == name and run.case.lines == lines]

    cost = median(run.cpu_microseconds for run in own(result.costs, subject))
    base = median(run.cpu_microseconds for run in own(result.costs, BASE))
    blasts = own(result.blasts, subject)
    found = next(
        (each for each in result.highest if (each.subject, each.lines) == (subject, lines)), None
    )
    return Standing(
        subject,
        lines,
        cost,
        cost / base,
        median(run.received.lines / (run.sent.datagrams * lines) for run in blasts),
        max(run.peak_rss_bytes for run in blasts),
        found.rate if found else 0.0,
        found.lines_per_second if found else 0.0,
    )


def standings_table(standings: Sequence[Standing]) -> str:
    """One row per subject and lines a datagram."""
    rows = [
        (
            f"{lines_name(each.lines)}: {each.subject}",
            f"{each.cpu_microseconds:.2f}",
            f"{each.ratio:.2f}",
            f"{each.counted:.1%}",
            f"{each.peak_rss_bytes / 2**20:.0f}",
            f"{each.highest:,.0f}",
            f"{each.highest_lines:,.0f}",
        )
        for each in standings
    ]
    header = ("", "us/datagram", "/ sink", "blast counted", "peak MiB", "highest/s", "lines/s")
    return harness.table(header, rows)


def run_all(
    peers: Sequence[type[peer.Peer]], rounds: int, blast_lines: int, datagrams: int, seconds: float
) -> Result:
    """All three measurements of all subjects."""
    there = {each.name: each for each in peers if peer.installed(each)}
    missing = {each.name: each.install for each in peers if each.name not in there}
    subjects: Subjects = {**{name: throughput.SUBJECTS[name] for name in OURS}, **there}
    loads = {Case(lines): datagrams for lines in LINES}
    costs = throughput.rounds_of("costs", subjects, loads, rounds, 1.0)
    blasts = {Case(lines): max(1, blast_lines // lines) for lines in LINES}
    blasted = throughput.rounds_of("blasts", subjects, blasts, rounds, native.LONGEST_SECONDS)
    highest = [
        found
        for lines in (LINES if seconds else ())
        for found in search.highest_rates(subjects, lines, seconds)
    ]
    result = Result([], missing, costs, blasted, highest)
    standings = [standing(name, lines, result) for lines in LINES for name in subjects]
    return msgspec.structs.replace(result, standings=standings)


def text(result: Result) -> str:
    """Everything for people."""
    absent = [f"not installed: {name} ({how})" for name, how in result.missing.items()]
    return "\n".join((standings_table(result.standings), *absent))


BY_NAME = {each.name: each for each in peer.PEERS}


@click.command()
@click.option("--rounds", default=3, type=click.IntRange(1, 100))
@click.option("--datagrams", default=500_000, type=click.IntRange(1), help="Bound of a cost load.")
@click.option("--blast-lines", default=2_000_000, type=click.IntRange(1), help="Of a blast.")
@click.option(
    "--search-seconds", default=0.5, type=click.FloatRange(0, 10), help="Of a load; 0: no search."
)
@click.option(
    "--peer", "peers", default=tuple(BY_NAME), multiple=True, show_default=True,
    type=click.Choice(tuple(BY_NAME)),
)  # fmt: skip
@harness.json_option
def main(
    rounds: int,
    datagrams: int,
    blast_lines: int,
    search_seconds: float,
    peers: tuple[str, ...],
    json_path: str | None,
) -> None:
    """Compare the daemon with other StatsD servers, as far as they are installed."""
    chosen = [BY_NAME[name] for name in dict.fromkeys(peers)]
    result = run_all(chosen, rounds, blast_lines, datagrams, search_seconds)
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
