"""What series cost in memory, what a flood of distinct models costs, and start to ready.

Three measurements, each on daemons of its own:

- bytes per series: resident memory before and after many label sets are admitted and scraped
  once, so that everything a scrape keeps (rendered prefixes) is in the figure;
- distinct models: lines that all name another `model`, on default limits, fed no faster than the
  daemon takes them in; the sums must come out exact although nearly all of them fold;
- start to ready, see start.py.
"""

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, payloads, start
from bench.generator import PAGE, Page
from bench.harness import BenchError, Daemon, Scrape

GOAL_SERIES_BYTES = 1500
GOAL_GROWTH_MIB = 25
LINES_PER_DATAGRAM = 20
SUM_SECONDS = 5.0
RAISED_LIMITS = (
    "--limits-label-values=100000",
    "--limits-label-sets=1000000",
    "--limits-exposition-lines=10000000",
)


class SeriesCost(msgspec.Struct, frozen=True):
    """Growth of resident memory over the series admitted; `scraped` is after one scrape."""

    what: str
    series: int
    bytes_per_series: float
    bytes_per_series_scraped: float
    goal_bytes: int | None


class Flood(msgspec.Struct, frozen=True):
    """Memory and sums after `lines` lines with as many distinct models."""

    lines: int
    seconds: float
    start_bytes: int
    end_bytes: int
    peak_bytes: int
    sums: dict[str, float]
    expected_sums: dict[str, float]
    goal_growth_mib: int = GOAL_GROWTH_MIB

    @property
    def exact(self) -> bool:
        """Whether every sum is the expected one, to the last bit."""
        return self.sums == self.expected_sums


class Result(msgspec.Struct, frozen=True):
    """All three measurements."""

    series: list[SeriesCost]
    flood: Flood
    starts: start.Starts


def counter_lines(wanted: int) -> Iterator[payloads.Line]:
    """Lines of one undeclared counter, each a label set of its own; two labels of usual length."""
    for number in range(wanted):
        labels = (("customer", f"customer-{number:06d}"), ("region", "eu-central"))
        yield payloads.Line("app_jobs_total", "1", "c", labels)


def documented_lines(wanted: int) -> Iterator[payloads.Line]:
    """Requests of so many models: each also brings its error series into being, at 0."""
    for number in range(wanted):
        labels = (("model", f"provider/model-{number:06d}"), ("operation", "chat"))
        yield payloads.Line("llm_request_total", "1", "c", labels)


def pages(lines: Iterator[payloads.Line], wanted: int, label: str) -> Iterator[Page]:
    """The lines as pages to feed, with a progress bar over the pages."""
    per_page = PAGE * LINES_PER_DATAGRAM
    for _ in harness.progress(range(-(-wanted // per_page)), label):
        yield Page(payloads.datagrams(islice(lines, per_page), LINES_PER_DATAGRAM, PAGE))


def fed_daemon_scrape(daemon: Daemon, expected_lines: int) -> Scrape:
    """Scrape; raises BenchError unless every line sent was accepted."""
    scrape = daemon.scrape()
    accepted = int(scrape.sum("llmstatsd_accepted_lines_total"))
    if accepted != expected_lines:
        raise BenchError(f"{accepted} lines accepted, {expected_lines} were sent")
    return scrape


def series_cost(
    what: str, prefix: str, lines: Iterator[payloads.Line], wanted: int, goal: int | None
) -> SeriesCost:
    """Admit the label sets of `lines` and divide the growth by the sample lines `prefix` names."""
    with Daemon(*RAISED_LIMITS) as daemon:
        before = daemon.rss_bytes()
        daemon.feed(pages(lines, wanted, f"memory: {what}"))
        fed = daemon.rss_bytes()
        series = fed_daemon_scrape(daemon, wanted).lines(prefix)
        daemon.wait_drained()
        scraped = daemon.rss_bytes()
    if series < wanted:
        raise BenchError(f"{series} series of {wanted} were admitted: {what}")
    return SeriesCost(what, series, (fed - before) / series, (scraped - before) / series, goal)


def flood(lines: int) -> Flood:
    """Feed that many distinct models to a daemon on its default limits."""
    expected = payloads.distinct_sums(lines)
    with Daemon() as daemon:
        before, started = daemon.rss_bytes(), time.monotonic()
        daemon.feed(
            pages(islice(payloads.distinct_lines(), lines), lines, "memory: distinct models")
        )
        took = time.monotonic() - started
        scrape = fed_daemon_scrape(daemon, lines)
        daemon.wait_drained()
        sums = {name: scrape.sum(name) for name in expected}
        after, peak = daemon.rss_bytes(), daemon.peak_rss_bytes()
    return Flood(lines, took, before, after, peak, sums, expected)


def text(result: Result) -> str:
    """The three measurements with their goals."""
    rows = [
        (
            cost.what,
            f"{cost.series:,}",
            f"{cost.bytes_per_series:,.0f}",
            f"{cost.bytes_per_series_scraped:,.0f}",
            f"< {cost.goal_bytes:,}" if cost.goal_bytes else "none",
        )
        for cost in result.series
    ]
    header = ("bytes per series", "series", "fed", "fed and scraped", "goal")
    parts = (harness.table(header, rows), flood_text(result.flood), start.text(result.starts))
    return "\n\n".join(parts)


def flood_text(flood: Flood) -> str:
    """Growth, peak and whether the sums are exact."""
    growth = (flood.end_bytes - flood.start_bytes) / 2**20
    peak = (flood.peak_bytes - flood.start_bytes) / 2**20
    return (
        f"{flood.lines:,} lines, each its own model, in {flood.seconds:.1f} s: "
        f"{flood.start_bytes / 2**20:.1f} MiB at start, grown by {growth:.1f} MiB, "
        f"at most by {peak:.1f} MiB; goal < {GOAL_GROWTH_MIB} MiB\n"
        f"sums {'exact' if flood.exact else f'WRONG: {flood.sums} not {flood.expected_sums}'}"
    )


def measure(series: int, models: int, distinct_lines: int, starts: int) -> Result:
    """Take all three."""
    costs = [
        series_cost(
            "counter, two labels", "app_jobs_total{", counter_lines(series), series,
            GOAL_SERIES_BYTES,
        ),
        series_cost(
            "llm_request_total and zero-born llm_error_total", "llm_", documented_lines(models),
            models, None,
        ),
    ]  # fmt: skip
    return Result(costs, flood(distinct_lines), start.measure(starts))


@click.command()
@click.option("--series", default=50_000, type=click.IntRange(1, 100_000), help="Label sets.")
@click.option("--models", default=3_000, type=click.IntRange(1, 60_000), help="Documented models.")
@click.option("--distinct-lines", default=2_000_000, type=click.IntRange(1, 10_000_000))
@click.option("--starts", default=5, type=click.IntRange(1, 100))
@harness.json_option
def main(series: int, models: int, distinct_lines: int, starts: int, json_path: str | None) -> None:
    """Measure memory per series, memory under distinct models, and start to ready."""
    result = measure(series, models, distinct_lines, starts)
    harness.emit(result, text(result), json_path)
    if not result.flood.exact:
        raise BenchError("the sums over distinct models are not exact")


if __name__ == "__main__":
    main()
