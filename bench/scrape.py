"""A scrape: rendered beside prometheus_client, over HTTP under a flood, and how long it pauses.

Three measurements per size:

- rendering in this process, the text format, by both lanes and by prometheus_client's
  `generate_latest` over real Counter and Histogram objects. All hold the documented series of many
  models, counters and histograms in the proportion in which LLM calls make them (about 123 sample
  lines a model), and have seen the same calls. They take turns, and all bodies must say the same.
  What was there before the first turn is frozen, so no garbage collection pays for the others;
- scrapes over HTTP, one after the other without a rest, of the daemon, statsd_exporter and
  prometheus_client with as many histograms as make the lines, while one-line datagrams of everyday
  calls come in, whose own series have been born before. Then the same load comes for the same time
  and nobody scrapes: what is lost more during the scrapes is what they have cost. Everything sent
  must be counted or lost. A third time nobody scrapes the daemon, but two processes that have
  nothing to do with it compute meanwhile, see below. These take turns, and losses are medians over
  the rounds;
- the longest pause of the event loop up to 100,000 lines, see pause.py.

The daemon is loaded at a moderate rate and at nine tenths of the highest at which it loses nothing
on this machine, see search.py; statsd_exporter at one that it keeps. prometheus_client takes in
no datagrams.

The generator, the thread that receives, the one that renders and this process, which reads the
body, all want a processor. Two cores are both busy at the highest rate before anybody scrapes, so
that a loss there may show the lack of a third core and not a lock that a scrape holds: the
generator, which shares no lock with the daemon, falls behind its rate as well. What two processes
that compute cost, which cannot hold a lock of the daemon either, stands beside it for comparison.
The moderate rate leaves room for everybody, and would show a lock.
"""

import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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

from bench import exporters, harness, hostile, loads, native, pause, payloads, search, throughput
from bench.generator import Page
from bench.harness import BenchError, Daemon, Goal
from bench.loads import Case
from bench.native import Sent
from bench.peer import StatsdExporter
from bench.scraper import Scraped, scraped
from llmstatsd.catalog import CATALOG, ERROR_TYPES, Documented
from llmstatsd.exposition.lanes import renderers
from llmstatsd.exposition.text import TEXT, Exposition
from llmstatsd.series import lanes
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect

GOAL_RENDER_RATIO = {"compiled": 60, "portable": 12}
GOAL_PAUSE_MS = 5
GOAL_MORE_LOSS = 0.001
"""The share of the datagrams that may be lost because of scrapes."""

REFERENCE = "prometheus_client"
SAME_LIMIT = 20_000  # bodies up to so many lines are compared sample by sample: parsing is slow
OTHERS_LINES = 1_000_000
"""Others make no more lines than that of one kind, and a body at least: they take seconds."""

PAUSE_LINES_MOST = 100_000
PAUSE_DATAGRAMS_PER_SECOND = 5000.0
PAUSE_SCRAPES = 5
SHARE_OF_HIGHEST = 0.9
"""Of the highest rate without loss: at the very edge the load itself loses now and then."""

MODERATE = "moderate"
NEAR_HIGHEST = f"{SHARE_OF_HIGHEST:.0%} of the highest"
NO_SCRAPE = "no scrape"
OTHERS_COMPUTE = "others compute"
KINDS = {"plain": "identity", "gzip": "gzip"}
"""Kinds of scrapes, and what each accepts as an encoding."""

RAISED = Limits(label_values=100_000, label_sets=1_000_000, exposition_lines=10_000_000)
CACHE_ENTRIES = 16_384
COMPUTING_PROCESSES = 2
"""As many as a scrape makes busy: the thread that renders, and who reads."""


class Render(msgspec.Struct, frozen=True):
    """CPU seconds of each whole body of one subject.

    `first_seconds` is the first body, in which the daemon renders what later ones only reuse.
    prometheus_client keeps nothing: its first body counts among `seconds` too.
    """

    wanted_lines: int
    subject: str
    lines: int
    bytes: int
    first_seconds: float
    seconds: list[float]


class Phase(msgspec.Struct, frozen=True):
    """A load during scrapes of one kind, or without any; `dropped` of the datagrams sent."""

    name: str
    scraped: Scraped | None
    sent: Sent
    dropped: int

    @property
    def loss(self) -> float:
        """The share of the datagrams sent that was lost, 0..1."""
        return self.dropped / max(1, self.sent.datagrams)


class Load(msgspec.Struct, frozen=True):
    """Who is loaded, and how: `rate` is one-line datagrams per second, 0 for none."""

    subject: str
    name: str
    rate: float


class Live(msgspec.Struct, frozen=True):
    """One subject with its series under one load; `phases` take turns, in rounds."""

    load: Load
    lines: int
    phases: list[Phase]
    peak_rss_bytes: int

    def named(self, name: str) -> list[Phase]:
        """The phases of one name, one of each round."""
        return [phase for phase in self.phases if phase.name == name]

    def more_loss(self, kind: str) -> float:
        """What scrapes of a kind have cost, as a share of the datagrams sent.

        The median over the rounds, less than 0 by chance.
        """
        pairs = zip(self.named(kind), self.named(NO_SCRAPE), strict=True)
        return median(scraping.loss - resting.loss for scraping, resting in pairs)


class Result(msgspec.Struct, frozen=True):
    """Everything measured; `highest` is the search for the daemon's highest rate, if any."""

    renders: list[Render]
    highest: list[search.Highest]
    live: list[Live]
    pauses: list[pause.Pauses]
    goals: list[Goal]


class Bounds(msgspec.Struct, frozen=True):
    """How much of what is measured; rates are datagrams per second.

    `seconds` is how long a load lasts at least. Each of the `rounds` has one of each kind; others
    than the daemon get fewer where they take long, see `times`.
    No search, and no load near the highest rate, where `search_seconds` of a load is 0.
    """

    repeats: int
    rounds: int
    seconds: float
    rate: float
    exporter_rate: float
    search_seconds: float


def filled_store(twin: lanes.Twin, models: int) -> Store:
    """The daemon's store after the calls."""
    store = Store(RAISED, instruments=twin.instruments)
    hot_path = twin.hot_path(store, Dialect(), CACHE_ENTRIES)
    for line in payloads.documented_mix(models):
        hot_path.feed(line.text().encode())
    hot_path.settle()
    return store


class Reference:
    """The same series as prometheus_client objects, made and fed as an application would."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: set[str] = set()
        self._metrics: dict[str, Counter | Histogram] = {}
        for series in CATALOG.values():
            if not series.extra:
                self._metrics[series.name] = self._metric(series)

    def _metric(self, series: Documented) -> Counter | Histogram:
        name, text, labels = series.name, series.help, series.labels
        if series.buckets is None:
            return Counter(name, text, labels, registry=self.registry)
        return Histogram(name, text, labels, registry=self.registry, buckets=series.buckets)

    def _meet(self, model: str) -> None:
        """A model seen for the first time brings its error series at 0."""
        if model not in self._models:
            self._models.add(model)
            for error_type in ERROR_TYPES:
                self._metrics["llm_error_total"].labels(model=model, type=error_type)
            self._metrics["llm_rate_limit_exceeded_total"].labels(model=model)

    def feed(self, line: payloads.Line) -> None:
        """Take in one line."""
        labels = dict(line.labels)
        self._meet(labels["model"])
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


def lane_body(exposition: Exposition) -> bytes:
    """A whole body as a scrape makes it, step by step."""
    return b"".join(exposition.chunks(TEXT))


def rendering(models: int) -> dict[str, Callable[[], bytes]]:
    """What renders the same series, by subject; the compiled lane only where it is there."""
    twins = [lanes.choose("auto"), lanes.PORTABLE]
    ways: dict[str, Callable[[], bytes]] = {
        twin.name: partial(
            lane_body,
            Exposition(filled_store(twin, models), renderers=renderers(twin.name)),
        )
        for twin in twins
    }
    return {**ways, REFERENCE: partial(generate_latest, reference_registry(models))}


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Nothing that is there now is looked at by the garbage collector while the block runs."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def times(lines: int, wanted: int) -> int:
    """How often others make so many lines, where the daemon makes them as often as wanted."""
    return max(1, min(wanted, OTHERS_LINES // lines))


def measure_renders(wanted: int, repeats: int) -> list[Render]:
    """Render all, in turns, prometheus_client less often where that takes long."""
    ways = rendering(payloads.models_for(wanted))
    repeats_of = dict.fromkeys(ways, repeats)
    repeats_of[REFERENCE] = times(wanted, repeats + 1) - 1
    with frozen():
        firsts = {subject: timed(render) for subject, render in ways.items()}
        later: dict[str, list[float]] = {subject: [] for subject in ways}
        for turn in range(repeats):
            for subject, render in ways.items():
                if turn < repeats_of[subject]:
                    later[subject].append(timed(render)[1])
    reference, seconds = firsts[REFERENCE]
    later[REFERENCE].append(seconds)
    renders = []
    for subject, (body, first) in firsts.items():
        lines = check_same(body, reference)
        renders.append(Render(wanted, subject, lines, len(body), first, later[subject]))
    return renders


def scrape_under_load(
    holder: Daemon | StatsdExporter, url: str, kind: str, rate: float, bounds: Bounds
) -> Phase:
    """Scrape over and over while the datagrams come."""
    before, case = holder.dropped(), Case(1, rate)
    with native.Blast(
        holder.udp_port,
        loads.prepared(case.lines),
        segments=case.segments,
        rate=rate,
        count=int(native.MOST_DATAGRAMS_PER_SECOND * native.LONGEST_SECONDS),
        seconds=native.LONGEST_SECONDS,
    ) as load:
        result = scraped(url, 1, KINDS[kind], seconds=bounds.seconds, rest_seconds=0)
        load.terminate()
        sent = load.finish()
    holder.wait_drained()
    return Phase(kind, result, sent, holder.dropped() - before)


def rest_under_load(
    holder: Daemon | StatsdExporter, name: str, rate: float, seconds: float
) -> Phase:
    """Scrape nothing for so long while they come."""
    step = search.take_step(holder, 1, rate, seconds)
    return Phase(name, None, step.sent, step.dropped)


def check_counted(holder: Daemon | StatsdExporter, fed: int, phases: Sequence[Phase]) -> None:
    """Raises BenchError unless each datagram after those `fed` lines was counted or lost."""
    expected = fed + sum(phase.sent.datagrams - phase.dropped for phase in phases)
    counted = hostile.lines_of(holder, hostile.told(holder))
    if counted != expected:
        raise BenchError(f"{counted} lines counted, {expected} were sent and not lost")


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Other processes do nothing but compute while the block runs."""
    code = f"import time\nwhile time.process_time() < {native.LONGEST_SECONDS}: pass"
    with contextlib.ExitStack() as stack:
        for _ in range(COMPUTING_PROCESSES):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", code]))
            stack.callback(process.terminate)
        yield


def feed_each_series(holder: Daemon | StatsdExporter) -> int:
    """Send one line of each series that the load will name; how many these are.

    A birth wants the interpreter lock in the daemon, and waits its turn while a scrape renders:
    it would tell of births, not of the scrape.
    """
    lines = {
        (line.partition(b":")[0], line.rpartition(b"#")[2]): line for line in loads.prepared(1)
    }
    holder.feed([Page(list(lines.values()))])
    return len(lines)


def one_round(
    holder: Daemon | StatsdExporter, url: str, rate: float, bounds: Bounds
) -> list[Phase]:
    """Load a server while it is scraped, while it is not, and the daemon while others compute."""
    is_ours = isinstance(holder, Daemon)
    kinds = KINDS if is_ours else ("plain",)
    phases = [scrape_under_load(holder, url, kind, rate, bounds) for kind in kinds]
    seconds = max(bounds.seconds, *(phase.sent.seconds for phase in phases))
    phases.append(rest_under_load(holder, NO_SCRAPE, rate, seconds))
    if is_ours:
        with computing():
            phases.append(rest_under_load(holder, OTHERS_COMPUTE, rate, seconds))
    return phases


def live_phases(
    holder: exporters.Holder, url: str, label_sets: int, load: Load, bounds: Bounds
) -> list[Phase]:
    """All phases of one that holds so many label sets."""
    others = times(label_sets * exporters.LINES_PER_SET["histograms"], bounds.rounds)
    if isinstance(holder, exporters.Library):
        return [Phase("plain", scraped(url, others), Sent(0, 0.0), 0)]
    fed = label_sets + feed_each_series(holder)
    phases = [
        phase
        for _ in range(bounds.rounds if isinstance(holder, Daemon) else others)
        for phase in one_round(holder, url, load.rate, bounds)
    ]
    check_counted(holder, fed, phases)
    return phases


def measure_live(wanted: int, load: Load, bounds: Bounds) -> Live:
    """Fill a process, load it and scrape it."""
    label_sets = exporters.label_sets_for("histograms", wanted)
    with exporters.started(load.subject, "histograms", label_sets) as holder:
        url = exporters.fill(holder, "histograms", label_sets)
        phases = live_phases(holder, url, label_sets, load, bounds)
        lines = label_sets * exporters.LINES_PER_SET["histograms"]
        return Live(load, lines, phases, holder.peak_rss_bytes())


def find_highest(bounds: Bounds) -> list[search.Highest]:
    """The highest rate that the daemon takes in without a loss, empty where it is not wanted."""
    if not bounds.search_seconds:
        return []
    subjects = {"compiled": partial(Daemon, "--statsd-lane=compiled")}
    return search.highest_rates(subjects, 1, bounds.search_seconds)


def measure_pauses(lines: int) -> pause.Pauses:
    """Run pause.py in a process of its own, so that nothing of this one is in its heap."""
    rate = f"--rate={PAUSE_DATAGRAMS_PER_SECOND}"
    options = (f"--lines={lines}", f"--scrapes={PAUSE_SCRAPES}", rate)
    command = [sys.executable, str(harness.BENCH / "pause.py"), *options, "--json=-"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300)
    return msgspec.json.decode(done.stdout, type=pause.Pauses)


def loads_of(highest: Sequence[search.Highest], bounds: Bounds) -> list[Load]:
    """Who gets which load."""
    ours = exporters.SUBJECT
    all_loads = [Load(ours, MODERATE, bounds.rate)]
    all_loads += [Load(ours, NEAR_HIGHEST, found.rate * SHARE_OF_HIGHEST) for found in highest]
    if StatsdExporter.program():
        all_loads.append(Load(StatsdExporter.name, "kept", bounds.exporter_rate))
    return [*all_loads, Load(REFERENCE, "none", 0.0)]


def measure(sizes: Sequence[int], bounds: Bounds) -> Result:
    """All three at each size."""
    highest = find_highest(bounds)
    steps = [(size, load) for size in sizes for load in loads_of(highest, bounds)]
    live = [measure_live(*step, bounds) for step in harness.progress(steps, "scrapes")]
    renders = [
        render
        for size in harness.progress(sizes, "renders")
        for render in measure_renders(size, bounds.repeats)
    ]
    pausing = [size for size in sizes if size <= PAUSE_LINES_MOST]
    pauses = [measure_pauses(size) for size in harness.progress(pausing, "pauses")]
    return Result(renders, highest, live, pauses, [*render_goals(renders), *loss_goals(live)])


def render_goals(renders: Sequence[Render]) -> list[Goal]:
    """How many times as long prometheus_client takes for the same series."""
    found = {(each.wanted_lines, each.subject): each for each in renders}
    return [
        Goal(
            f"render of {each.lines:,} lines: {REFERENCE} / {each.subject}",
            median(found[each.wanted_lines, REFERENCE].seconds) / median(each.seconds),
            ">=",
            GOAL_RENDER_RATIO[each.subject],
        )
        for each in renders
        if each.subject != REFERENCE
    ]


def loss_goals(live: Sequence[Live]) -> list[Goal]:
    """What the daemon loses more because of the worse kind of scrapes, a share."""
    return [
        Goal(
            f"loss by scrapes of {each.lines:,} lines, rate {each.load.name}",
            max(map(each.more_loss, KINDS)),
            "<=",
            GOAL_MORE_LOSS,
        )
        for each in live
        if each.load.subject == exporters.SUBJECT
    ]


def render_table(renders: Sequence[Render]) -> str:
    """The first measurement."""
    rows = [
        (
            f"{each.lines:,} lines: {each.subject}",
            f"{each.bytes:,}",
            harness.milliseconds(each.first_seconds),
            harness.milliseconds(median(each.seconds)),
            harness.milliseconds(max(each.seconds)),
        )
        for each in renders
    ]
    return harness.table(("render, CPU ms", "bytes", "first", "later", "slowest"), rows)


def share(phases: Sequence[Phase]) -> str:
    """The median loss as a cell, empty where nothing was sent."""
    losses = [phase.loss for phase in phases if phase.sent.datagrams]
    return f"{median(losses):.3%}" if losses else ""


def live_rows(live: Live) -> Iterator[Sequence[str]]:
    """One row per kind of scrape."""
    for kind in KINDS:
        phases = live.named(kind)
        scrapes = [phase.scraped for phase in phases if phase.scraped]
        if scrapes:
            yield (
                f"{live.lines:,} lines: {live.load.subject}, {live.load.name}, {kind}",
                f"{median(phase.sent.datagrams_per_second for phase in phases):,.0f}",
                f"{scrapes[-1].bytes:,}",
                *map(
                    harness.milliseconds,
                    harness.spread([seconds for each in scrapes for seconds in each.seconds]),
                ),
                f"{sum(phase.dropped for phase in phases):,}",
                *map(share, (phases, live.named(NO_SCRAPE), live.named(OTHERS_COMPUTE))),
                f"{live.peak_rss_bytes / 2**20:.1f}",
            )


def live_table(live: Sequence[Live]) -> str:
    """The second."""
    header = (
        "HTTP under load, wall ms",
        *("datagrams/s", "bytes", "median", "slowest", "lost", "lost, share"),
        *("no scrape", "others compute", "peak MiB"),
    )
    return harness.table(header, [row for each in live for row in live_rows(each)])


def text(result: Result) -> str:
    """Everything for people."""
    parts = [render_table(result.renders)]
    if result.highest:
        parts.append(throughput.highest_table(result.highest))
    parts.append(live_table(result.live))
    if result.pauses:
        parts.append(pause.table(result.pauses, f"<= {GOAL_PAUSE_MS}"))
    parts.append(harness.goals_table(result.goals))
    return "\n\n".join(parts)


@click.command()
@click.option(
    "--size", "sizes", multiple=True, default=(10_000, 100_000, 1_000_000), show_default=True,
    type=click.IntRange(1, 2_000_000), help="Sample lines.",
)  # fmt: skip
@click.option("--repeats", default=5, type=click.IntRange(1, 100), help="Bodies rendered of each.")
@click.option("--rounds", default=3, type=click.IntRange(1, 100), help="Of loads of each kind.")
@click.option(
    "--seconds", default=0.4, type=click.FloatRange(0.01, 30), help="Of a load, at least."
)
@click.option("--rate", default=300_000.0, type=click.FloatRange(1), help="Moderate, datagrams/s.")
@click.option(
    "--exporter-rate", default=float(hostile.EXPORTER_LINES_PER_SECOND), type=click.FloatRange(1),
    help="Of statsd_exporter, datagrams/s.",
)  # fmt: skip
@click.option(
    "--search-seconds", default=0.3, type=click.FloatRange(0, 10), help="Of a load; 0: no search."
)
@harness.json_option
def main(
    sizes: tuple[int, ...],
    repeats: int,
    rounds: int,
    seconds: float,
    rate: float,
    exporter_rate: float,
    search_seconds: float,
    json_path: str | None,
) -> None:
    """Measure scrapes at each size in sample lines."""
    # The daemon has no _created samples, and they would cost the other side time.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    bounds = Bounds(repeats, rounds, seconds, rate, exporter_rate, search_seconds)
    result = measure(sizes, bounds)
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
