"""A scrape beside prometheus_client's own, over HTTP under load, and how long it stops the loop.

Three measurements per size, all on the documented series of many models, counters and
histograms in the proportion in which LLM calls make them (about 123 sample lines a model):

- rendering in this process, the text format, next to prometheus_client's `generate_latest` on a
  registry of real Counter and Histogram objects that saw the same calls; both are rendered once
  before, then in turns, and both bodies must say the same;
- a real daemon under a steady load, scraped over HTTP by another process, plain and gzip;
- the longest pause of the loop, see pause.py.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import click
import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import generator, harness, pause, payloads
from bench.harness import BenchError, Daemon
from bench.scraper import Scraped
from llmstatsd.catalog import CATALOG, ERROR_TYPES, Documented
from llmstatsd.exposition.text import Exposition, negotiate
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect

GOAL_RENDER_RATIO = 12
GOAL_PAUSE_MS = 5
SAME_LIMIT = 20_000  # bodies up to so many lines are compared sample by sample: parsing is slow
RAISED = Limits(label_values=100_000, label_sets=1_000_000, exposition_lines=10_000_000)
RAISED_FLAGS = (
    f"--limits-label-values={RAISED.label_values}",
    f"--limits-label-sets={RAISED.label_sets}",
    f"--limits-exposition-lines={RAISED.exposition_lines}",
)


class Render(msgspec.Struct, frozen=True):
    """CPU seconds of one whole body, the median and the extremes over the repeats.

    `first_seconds` is the daemon's first body, which renders what later ones only reuse.
    """

    lines: int
    bytes: int
    first_seconds: float
    seconds: list[float]
    prometheus_client_seconds: list[float]
    ratio: float
    goal_ratio: float = GOAL_RENDER_RATIO


class Live(msgspec.Struct, frozen=True):
    """Scrapes of a real daemon that takes in `load_datagrams_per_second` meanwhile."""

    lines: int
    load_datagrams_per_second: float
    plain: Scraped
    gzip: Scraped
    dropped: int
    peak_rss_bytes: int


class Size(msgspec.Struct, frozen=True):
    """Everything at one size."""

    wanted_lines: int
    render: Render
    live: Live
    pauses: pause.Pauses


def filled_store(models: int) -> Store:
    """The daemon's store after the calls."""
    store = Store(RAISED)
    hot_path = HotPath(store, Dialect(), 16_384)
    for line in payloads.documented_mix(models):
        hot_path.feed(line.text().encode())
    return store


class Reference:
    """The same series as prometheus_client objects, made and fed as an application would."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._metrics: dict[str, Counter | Histogram] = {}
        for series in CATALOG.values():
            if not series.extra:
                self._metrics[series.name] = self._metric(series)

    def _metric(self, series: Documented) -> Counter | Histogram:
        name, text, labels = series.name, series.help, series.labels
        if series.buckets is None:
            return Counter(name, text, labels, registry=self.registry)
        return Histogram(name, text, labels, registry=self.registry, buckets=series.buckets)

    def feed(self, line: payloads.Line) -> None:
        """Take in one line; a model seen for the first time brings its error series at 0."""
        labels = dict(line.labels)
        for error_type in ERROR_TYPES:
            self._metrics["llm_error_total"].labels(model=labels["model"], type=error_type)
        self._metrics["llm_rate_limit_exceeded_total"].labels(model=labels["model"])
        name = f"{line.name}_seconds" if line.type == "ms" else line.name
        metric = self._metrics[name].labels(**labels)
        value = float(line.value)
        if isinstance(metric, Counter):
            metric.inc(value)
        else:
            metric.observe(value / 1000.0 if line.type == "ms" else value)


def reference_registry(models: int) -> CollectorRegistry:
    """prometheus_client's registry after the calls."""
    reference = Reference()
    for line in payloads.documented_mix(models):
        reference.feed(line)
    return reference.registry


def samples(body: bytes) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    """What a body says, whatever the order of its lines."""
    return {
        (sample.name, frozenset(sample.labels.items()), sample.value)
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def check_same(ours: bytes, theirs: bytes) -> int:
    """Return the sample lines of both bodies; raises BenchError when they differ."""
    counts = [sum(not row.startswith(b"#") for row in body.splitlines()) for body in (ours, theirs)]
    if counts[0] != counts[1]:
        raise BenchError(f"{counts[0]} lines here, {counts[1]} in prometheus_client")
    if counts[0] <= SAME_LIMIT and (odd := samples(ours) ^ samples(theirs)):
        raise BenchError(f"{len(odd)} samples differ from prometheus_client's: {min(odd)}")
    return counts[0]


def timed(render: Callable[[], bytes]) -> tuple[bytes, float]:
    """A body and the CPU seconds it took."""
    started = time.process_time()
    body = render()
    return body, time.process_time() - started


def measure_render(models: int, repeats: int) -> Render:
    """Render both, in turns."""
    exposition, registry = Exposition(filled_store(models)), reference_registry(models)
    chosen = negotiate("text/plain;version=0.0.4")

    def ours() -> bytes:
        return b"".join(exposition.chunks(chosen))

    def theirs() -> bytes:
        return generate_latest(registry)

    body, first = timed(ours)
    lines = check_same(body, theirs())
    own, other = [], []
    for _ in range(repeats):
        own.append(timed(ours)[1])
        other.append(timed(theirs)[1])
    return Render(lines, len(body), first, own, other, median(other) / median(own))


@contextlib.contextmanager
def steady_load(target: str, rate: float) -> Iterator[None]:
    """Everyday traffic to `target` from another process while the block runs."""
    bounds = generator.Bounds(datagrams=10_000_000, seconds=300, rate=rate)
    command = harness.generator_command(target, 1, bounds)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def scraped(url: str, scrapes: int, *flags: str) -> Scraped:
    """Let another process scrape."""
    command = [sys.executable, str(harness.BENCH / "scraper.py"), url, f"--scrapes={scrapes}"]
    done = subprocess.run([*command, *flags], check=True, stdout=subprocess.PIPE, timeout=300)
    return msgspec.json.decode(done.stdout, type=Scraped)


def measure_live(models: int, scrapes: int, rate: float) -> Live:
    """Fill a daemon, load it, scrape it."""
    lines = payloads.documented_mix(models)
    pages = generator.finite_pages(lines, lines_per_datagram=20)
    with Daemon(*RAISED_FLAGS) as daemon:
        daemon.feed(pages)
        with steady_load(daemon.statsd_udp, rate):
            plain = scraped(daemon.url, scrapes)
            gzipped = scraped(daemon.url, scrapes, "--gzip")
        held = daemon.scrape().lines("llm_")
        dropped = harness.udp_socket(daemon.udp_port).dropped
        return Live(held, rate, plain, gzipped, dropped, daemon.peak_rss_bytes())


def measure_pauses(lines: int, scrapes: int, rate: float) -> pause.Pauses:
    """Run pause.py in a process of its own, so that nothing of this one is in its heap."""
    options = (f"--lines={lines}", f"--scrapes={scrapes}", f"--rate={rate}")
    command = [sys.executable, str(harness.BENCH / "pause.py"), *options, "--json=-"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300)
    return msgspec.json.decode(done.stdout, type=pause.Pauses)


def measure(wanted: int, repeats: int, scrapes: int, rate: float) -> Size:
    """All three at one size."""
    models = payloads.models_for(wanted)
    return Size(
        wanted,
        measure_render(models, repeats),
        measure_live(models, scrapes, rate),
        measure_pauses(wanted, scrapes, rate),
    )


def render_table(sizes: list[Size]) -> str:
    """The first measurement."""
    rows = [
        (
            f"{each.render.lines:,} lines",
            f"{each.render.bytes:,}",
            harness.milliseconds(each.render.first_seconds),
            harness.milliseconds(median(each.render.seconds)),
            harness.milliseconds(median(each.render.prometheus_client_seconds)),
            f"{each.render.ratio:.1f}",
            f">= {GOAL_RENDER_RATIO}",
        )
        for each in sizes
    ]
    header = ("render, CPU ms", "bytes", "first", "llmstatsd", "prometheus_client", "ratio", "goal")
    return harness.table(header, rows)


def live_table(sizes: list[Size]) -> str:
    """The second."""
    rows = [
        (
            f"{each.live.lines:,} lines, {kind}",
            f"{each_scraped.bytes:,}",
            harness.milliseconds(median(each_scraped.seconds)),
            harness.milliseconds(max(each_scraped.seconds)),
            f"{each.live.dropped}",
            f"{each.live.peak_rss_bytes / 2**20:.1f}",
        )
        for each in sizes
        for kind, each_scraped in (("plain", each.live.plain), ("gzip", each.live.gzip))
    ]
    header = ("HTTP under load, wall ms", "bytes", "median", "slowest", "dropped", "peak MiB")
    return harness.table(header, rows)


@click.command()
@click.option("--size", "sizes", multiple=True, default=(1_000, 10_000, 100_000), type=int)
@click.option("--repeats", default=5, type=click.IntRange(1, 100), help="Bodies rendered of each.")
@click.option("--scrapes", default=5, type=click.IntRange(1, 100), help="Over HTTP, of each kind.")
@click.option("--rate", default=5000.0, type=click.FloatRange(1, 100_000), help="Datagrams/s.")
@harness.json_option
def main(
    sizes: tuple[int, ...], repeats: int, scrapes: int, rate: float, json_path: str | None
) -> None:
    """Measure scrapes at each size in sample lines."""
    # The daemon has no _created samples, and they would cost the other side time.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    steps = harness.progress(sizes, "scrape")
    results = [measure(size, repeats, scrapes, rate) for size in steps]
    pauses = pause.table([each.pauses for each in results], f"<= {GOAL_PAUSE_MS}")
    tables = (render_table(results), live_table(results), pauses)
    harness.emit(results, "\n\n".join(tables), json_path)


if __name__ == "__main__":
    main()
