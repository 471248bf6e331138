"""A scrape of the same series, and what they cost in memory: llmstatsd, statsd_exporter and
prometheus_client.

Each holds so many label sets of one counter, or of one histogram with the same buckets, as make
the sample lines wanted. This process then scrapes them in turns over HTTP, plain; `bytes_per_set`
is what the process scraped has grown by since it was empty, with everything that a scrape keeps.

What a histogram takes of memory shows only where there are many: a daemon is filled with as many
label sets of one histogram with 20 finite buckets as a label may have values, and scraped too.
Nothing else is born with them, so all the growth is theirs.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, held, memory, payloads
from bench.harness import BenchError, Child, Daemon, Goal
from bench.hostile import EXPORTER_LINES_PER_SECOND, paced
from bench.peer import StatsdExporter
from bench.scraper import scraped
from llmstatsd.catalog import UNDECLARED_BUCKETS

KINDS = ("counters", "histograms")
LINES_PER_SET = {"counters": 1, "histograms": len(UNDECLARED_BUCKETS) + 3}
GOALS = {
    ("counters", "statsd_exporter"): 25.0,
    ("histograms", "statsd_exporter"): 10.0,
    ("counters", "prometheus_client"): 60.0,
    ("histograms", "prometheus_client"): 60.0,
}
GOAL_MEMORY = 3.0
"""How many times as much a counter of statsd_exporter may take at least."""

GOAL_HISTOGRAM_BYTES = 900
MOST_LABEL_SETS = 100_000
"""Each has a value of its own, and the daemon lets a label have no more."""

SUBJECT = "llmstatsd"


class Held(msgspec.Struct, frozen=True):
    """One subject with its series; `seconds` are wall seconds of each scrape after the first."""

    kind: str
    subject: str
    label_sets: int
    lines: int
    bytes: int
    first_seconds: float
    seconds: list[float]
    bytes_per_set: float


class Result(msgspec.Struct, frozen=True):
    """Everything measured; `memory` is the daemon with many histograms."""

    held: list[Held]
    memory: Held
    goals: list[Goal]


class Library(Child):
    """held.py as a child; `fill` lets it go on."""

    def __init__(self, kind: str, label_sets: int) -> None:
        self._is_filled = False
        script = str(harness.BENCH / "held.py")
        super().__init__([sys.executable, script, kind, str(label_sets)], stdin=subprocess.PIPE)
        self.url = f"http://{self.address('http')}/metrics"

    def _look_at(self, line: str) -> None:
        super()._look_at(line)
        self._is_filled = self._is_filled or line.startswith("filled")

    def fill(self) -> None:
        """Wait until everything is held."""
        if self._process.stdin:
            self._process.stdin.write("\n")
            self._process.stdin.close()
        harness.wait_until(lambda: self._is_filled, 120, "a filled registry")


Holder = Daemon | StatsdExporter | Library


def lines_of(kind: str, label_sets: int) -> Iterator[payloads.Line]:
    """One line for each label set."""
    for number in range(label_sets):
        labels = tuple(zip(held.LABELS, held.labels_of(number), strict=True))
        if kind == "counters":
            yield payloads.Line("app_jobs_total", "1", "c", labels)
        else:
            yield payloads.Line("app_run_seconds", "1.5", "h", labels)


def label_sets_for(kind: str, lines: int) -> int:
    """How many label sets make about so many sample lines, at least one."""
    return max(1, lines // LINES_PER_SET[kind])


def fill(holder: Holder, kind: str, label_sets: int) -> str:
    """Bring all label sets into being; where they are then to be scraped."""
    if isinstance(holder, Library):
        holder.fill()
        return holder.url
    pages = memory.pages(lines_of(kind, label_sets), label_sets, f"exporters: {kind}")
    if isinstance(holder, Daemon):
        holder.feed(pages)
        return holder.url
    holder.feed(paced(pages, EXPORTER_LINES_PER_SECOND))
    return f"http://127.0.0.1:{holder.tcp_port}/metrics"


def started(subject: str, kind: str, label_sets: int) -> Holder:
    """A fresh process."""
    if subject == SUBJECT:
        return Daemon("--statsd-lane=compiled", *memory.RAISED_LIMITS)
    return StatsdExporter() if subject == StatsdExporter.name else Library(kind, label_sets)


def check_all_held(holder: Holder, label_sets: int, lines: int) -> None:
    """Raises BenchError where the daemon has put some of the label sets together."""
    if isinstance(holder, Daemon):
        told = memory.fed_daemon_scrape(holder, label_sets).lines("app_")
        if told != lines:
            raise BenchError(f"{told} lines of {lines} were born")


def measure(subjects: Sequence[str], kind: str, label_sets: int, scrapes: int) -> list[Held]:
    """Fill them all, and scrape them in turns, so that a machine's moods hit all alike."""
    lines = label_sets * LINES_PER_SET[kind]
    with contextlib.ExitStack() as running:
        holders = []
        for subject in subjects:
            holders.append(holder := started(subject, kind, label_sets))
            running.enter_context(holder)
        before = [holder.rss_bytes() for holder in holders]
        urls = [fill(holder, kind, label_sets) for holder in holders]
        turns = harness.progress(range(scrapes + 1), f"scrapes: {kind}")
        rounds = [[scraped(url, 1) for url in urls] for _ in turns]
        grown = [holder.rss_bytes() - empty for holder, empty in zip(holders, before, strict=True)]
        for holder in holders:
            check_all_held(holder, label_sets, lines)
    seconds = [[turn[at].seconds[0] for turn in rounds] for at in range(len(subjects))]
    return [
        Held(
            kind,
            subject,
            label_sets,
            lines,
            rounds[-1][at].bytes,
            seconds[at][0],
            seconds[at][1:],
            grown[at] / label_sets,
        )
        for at, subject in enumerate(subjects)
    ]


def goals(all_held: Sequence[Held]) -> list[Goal]:
    """How many times as long the others take, and how much more memory."""
    found = {(each.kind, each.subject): each for each in all_held}
    reached = []
    for (kind, other), limit in GOALS.items():
        ours, theirs = found.get((kind, SUBJECT)), found.get((kind, other))
        if ours and theirs:
            ratio = median(theirs.seconds) / median(ours.seconds)
            reached.append(Goal(f"scrape of {kind}: {other} / llmstatsd", ratio, ">=", limit))
    ours = found.get(("counters", SUBJECT))
    theirs = found.get(("counters", StatsdExporter.name))
    if ours and theirs:
        ratio = theirs.bytes_per_set / ours.bytes_per_set
        reached.append(
            Goal("memory of a counter: statsd_exporter / llmstatsd", ratio, ">=", GOAL_MEMORY)
        )
    return reached


def memory_goal(many: Held) -> Goal:
    """What a histogram may take."""
    buckets = len(UNDECLARED_BUCKETS)
    what = f"memory of a histogram of {buckets} buckets, bytes"
    return Goal(what, many.bytes_per_set, "<=", GOAL_HISTOGRAM_BYTES)


def text(result: Result) -> str:
    """A row per kind and subject."""
    rows = [
        (
            f"{each.kind}: {each.subject}",
            f"{each.label_sets:,}",
            f"{each.lines:,}",
            f"{each.bytes:,}",
            harness.milliseconds(each.first_seconds),
            harness.milliseconds(median(each.seconds)),
            f"{each.bytes_per_set:,.0f}",
        )
        for each in (*result.held, result.memory)
    ]
    header = ("scrape, wall ms", "label sets", "lines", "bytes", "first", "later", "bytes each")
    return f"{harness.table(header, rows)}\n\n{harness.goals_table(result.goals)}"


@click.command()
@click.option("--lines", default=100_000, type=click.IntRange(1, MOST_LABEL_SETS), help="Samples.")
@click.option("--scrapes", default=5, type=click.IntRange(1, 99), help="After the first.")
@click.option(
    "--histograms", default=MOST_LABEL_SETS, type=click.IntRange(1, MOST_LABEL_SETS),
    help="Label sets of which the memory is taken.",
)  # fmt: skip
@harness.json_option
def main(lines: int, scrapes: int, histograms: int, json_path: str | None) -> None:
    """Measure a scrape beside statsd_exporter, where it is installed, and prometheus_client."""
    subjects = [SUBJECT, "prometheus_client"]
    if StatsdExporter.program():
        subjects.insert(1, StatsdExporter.name)
    all_held = [
        each
        for kind in KINDS
        for each in measure(subjects, kind, label_sets_for(kind, lines), scrapes)
    ]
    [many] = measure([SUBJECT], "histograms", histograms, scrapes=1)
    result = Result(all_held, many, [*goals(all_held), memory_goal(many)])
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
