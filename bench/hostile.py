"""What the daemon does under loads that are meant to hurt, beside statsd_exporter.

- `distinct values`: every line names a model that no other line names, fed no faster than it is
  taken in; the sums over all series have to come out exact, and memory must not follow;
- `refused lines`: nothing but lines that no server can read;
- `one byte`: datagrams of one byte, so that there is nothing but their number;
- `65 kB`: the longest datagrams of UDP, a thousand everyday lines in each.

The last three are blasts, flat out. Figures are lines taken in per second of the receiver's CPU,
and its memory before and at its worst.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, loads, memory, native, payloads
from bench.generator import PAGE, Page
from bench.harness import Daemon, Goal, Scrape
from bench.peer import StatsdExporter

Receiver = Daemon | StatsdExporter

SUBJECTS: dict[str, Callable[[], Receiver]] = {
    "compiled": partial(Daemon, "--statsd-lane=compiled"),
    "portable": partial(Daemon, "--statsd-lane=portable"),
    "statsd_exporter": StatsdExporter,
}
GOAL_RATIO = 4.0
GOAL_GROWTH_MIB = memory.GOAL_GROWTH_MIB

EXPORTER_LINES_PER_SECOND = 40_000
"""What statsd_exporter keeps up with; faster, and it drops lines from a queue of its own."""

DISTINCT = "distinct values"
LINES_PER_DATAGRAM = 20
LONGEST_BYTES = payloads.PACKET_BYTES


class Ordeal(msgspec.Struct, frozen=True):
    """One subject under one load; `exact` says whether all that was sent is accounted for."""

    what: str
    subject: str
    datagrams: int
    lines: int
    dropped: int
    cpu_seconds: float
    start_bytes: int
    peak_bytes: int
    exact: bool

    @property
    def lines_per_cpu_second(self) -> float:
        """Lines taken in per second of CPU."""
        return self.lines / self.cpu_seconds if self.cpu_seconds else 0.0


class Result(msgspec.Struct, frozen=True):
    """Everything measured."""

    ordeals: list[Ordeal]
    goals: list[Goal]


def blasts() -> dict[str, list[bytes]]:
    """The loads that are not distinct values, by their name."""
    refused = "\n".join(f"no such line {number}" for number in range(LINES_PER_DATAGRAM))
    texts = [line.text() for line in islice(payloads.llm_lines(loads.SEED), 1000)]
    longest = "\n".join(texts).encode()[:LONGEST_BYTES]
    whole = longest[: longest.rindex(b"\n")]
    return {"refused lines": [refused.encode()], "one byte": [b"x"], "65 kB": [whole]}


def told(receiver: Receiver) -> Scrape:
    """What the receiver says of itself."""
    if isinstance(receiver, StatsdExporter):
        return Scrape(receiver.get("/metrics"))
    return receiver.scrape()


def lines_of(receiver: Receiver, scrape: Scrape) -> int:
    """Lines it has looked at, refused ones too."""
    is_ours = isinstance(receiver, Daemon)
    return int(scrape.sum("llmstatsd_lines_total" if is_ours else "statsd_exporter_lines_total"))


def endure(what: str, subject: str, datagrams: Sequence[bytes], count: int) -> Ordeal:
    """A blast of `count` datagrams."""
    with SUBJECTS[subject]() as receiver:
        receiver.wait_drained()
        start, before = receiver.rss_bytes(), receiver.clock.seconds()
        sent = native.blast(
            receiver.udp_port, datagrams, segments=1, count=count, seconds=native.LONGEST_SECONDS
        )
        receiver.wait_drained()
        spent, peak = receiver.clock.seconds() - before, receiver.peak_rss_bytes()
        dropped = receiver.dropped()
        lines = lines_of(receiver, told(receiver))
    per_datagram = datagrams[0].count(b"\n") + 1
    exact = lines == (sent.datagrams - dropped) * per_datagram
    return Ordeal(what, subject, sent.datagrams, lines, dropped, spent, start, peak, exact)


def paced(pages: Iterator[Page], per_second: float) -> Iterator[Page]:
    """The pages, none before its time."""
    started = time.monotonic()
    for number, page in enumerate(pages):
        due = started + number * PAGE * LINES_PER_DATAGRAM / per_second
        time.sleep(max(0.0, due - time.monotonic()))
        yield page


def endure_distinct(subject: str, lines: int) -> Ordeal:
    """Feed so many lines, each its own model."""
    with SUBJECTS[subject]() as receiver:
        receiver.wait_drained()
        start, before = receiver.rss_bytes(), receiver.clock.seconds()
        pages = memory.pages(islice(payloads.distinct_lines(), lines), lines, f"{DISTINCT}")
        if isinstance(receiver, StatsdExporter):
            pages = paced(pages, EXPORTER_LINES_PER_SECOND)
        receiver.feed(pages)
        spent, peak = receiver.clock.seconds() - before, receiver.peak_rss_bytes()
        if isinstance(receiver, StatsdExporter):
            counted = receiver.lines_counted()
            exact = counted == lines
        else:
            scrape, expected = told(receiver), payloads.distinct_sums(lines)
            counted = lines_of(receiver, scrape)
            exact = {name: scrape.sum(name) for name in expected} == expected
    datagrams = -(-lines // LINES_PER_DATAGRAM)
    return Ordeal(DISTINCT, subject, datagrams, counted, 0, spent, start, peak, exact)


def goals(ordeals: Sequence[Ordeal]) -> list[Goal]:
    """Those of the distinct values."""
    found = {each.subject: each for each in ordeals if each.what == DISTINCT}
    ours, theirs = found.get("compiled"), found.get("statsd_exporter")
    reached = []
    if ours:
        growth = (ours.peak_bytes - ours.start_bytes) / 2**20
        reached.append(Goal(f"{DISTINCT}: MiB grown", growth, "<=", GOAL_GROWTH_MIB))
    if ours and theirs:
        ratio = ours.lines_per_cpu_second / theirs.lines_per_cpu_second
        what = f"{DISTINCT}: lines per CPU second, compiled / statsd_exporter"
        reached.append(Goal(what, ratio, ">=", GOAL_RATIO))
    return reached


def text(result: Result) -> str:
    """A row per load and subject."""
    rows = [
        (
            f"{each.what}: {each.subject}",
            f"{each.lines:,}",
            f"{each.dropped:,}",
            f"{each.lines_per_cpu_second:,.0f}",
            f"{each.cpu_seconds / max(1, each.lines) * 1e6:.3f}",
            f"{each.start_bytes / 2**20:.0f}",
            f"{each.peak_bytes / 2**20:.0f}",
            "yes" if each.exact else "NO",
        )
        for each in result.ordeals
    ]
    header = ("hostile loads", "lines", "dropped", "lines/CPU s", "us/line", "MiB", "peak", "exact")
    return f"{harness.table(header, rows)}\n\n{harness.goals_table(result.goals)}"


@click.command()
@click.option("--lines", default=2_000_000, type=click.IntRange(1, 10_000_000), help="Distinct.")
@click.option("--datagrams", default=200_000, type=click.IntRange(1), help="Of each blast.")
@click.option(
    "--subject", "subjects", default=tuple(SUBJECTS), multiple=True, show_default=True,
    type=click.Choice(tuple(SUBJECTS)),
)  # fmt: skip
@harness.json_option
def main(lines: int, datagrams: int, subjects: tuple[str, ...], json_path: str | None) -> None:
    """Measure what hostile loads cost, and that nothing is lost count of."""
    there = [name for name in subjects if name != StatsdExporter.name or StatsdExporter.program()]
    ordeals = [endure_distinct(name, lines) for name in there]
    steps = [(what, name, load) for what, load in blasts().items() for name in there]
    for what, name, load in harness.progress(steps, "blasts"):
        count = datagrams if len(load[0]) < LONGEST_BYTES // 2 else max(1, datagrams // 100)
        ordeals.append(endure(what, name, load, count))
    result = Result(ordeals, goals(ordeals))
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
