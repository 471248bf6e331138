"""Ten million hostile datagrams: whether each good line among them is counted, and nothing breaks.

What is sent is in garbled.py: random bytes, mutated lines of the test vectors, cut UTF-8, nested
JSON, huge numbers, long and many tags, packed values, control characters, datagrams of 65 kB and
of none. It goes out no faster than it is taken in, so that nothing is lost in the kernel and every
sum is known to the last bit. The way is UDP, a unix socket, or TCP, where a datagram is its lines.

Meanwhile one scrape follows the other, in both formats, each read by prometheus_client's parsers;
whatever the log says beside samples of refused lines is a fault; and memory must come to rest.
"""

import multiprocessing
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import click
import msgspec
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import garbled, harness, roads
from bench.generator import PAGE
from bench.harness import BenchError, Daemon, Goal, Scrape, wait_until
from bench.roads import Road

LANES = ("compiled", "portable")

WARM_SHARE = 0.2
"""Of the datagrams; by then every budget is full, and memory must not grow any more."""

GOAL_GROWTH_MIB = 8

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SCRAPE_SECONDS = 120

_EXPECTED = re.compile(
    r"INFO (llmstatsd|stopped)|WARNING lines refused as \w+: \d+, the last one: ['\"]"
)
_STRANGE_LINES_KEPT = 50


class AbusedDaemon(Daemon):
    """A daemon that keeps the lines of its log that nobody expects, a few of them."""

    def __init__(self, *flags: str) -> None:
        self.log_lines = 0
        self.strange_lines: list[str] = []
        super().__init__(*flags)

    def _look_at(self, line: str) -> None:
        super()._look_at(line)
        self.log_lines += 1
        if not _EXPECTED.search(line) and len(self.strange_lines) < _STRANGE_LINES_KEPT:
            self.strange_lines.append(line.rstrip())


class Ordeal(msgspec.Struct, frozen=True):
    """One lane's; `wrong_sums` are those of good lines, as counted and as they should be."""

    lane: str
    transport: str
    seed: int
    datagrams: int
    good_lines: int
    lines: int
    refused: int
    unexplained: int
    seconds: float
    scrapes: int
    invalid_scrapes: list[str]
    log_lines: int
    strange_lines: list[str]
    wrong_sums: dict[str, tuple[float, float]]
    warm_bytes: int
    end_bytes: int
    peak_bytes: int

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.lane}, {self.transport}"

    @property
    def growth_mib(self) -> float:
        """What memory grew by once every budget was full."""
        return (self.end_bytes - self.warm_bytes) / 2**20


class Result(msgspec.Struct, frozen=True):
    """Everything measured."""

    ordeals: list[Ordeal]
    goals: list[Goal]


def fault_of_scrape(url: str, accept: str) -> str | None:
    """Scrape once; what is wrong with it, None if nothing is."""
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 our own URL
    try:
        with urllib.request.urlopen(request, timeout=SCRAPE_SECONDS) as response:  # noqa: S310
            text = response.read().decode()
        parse = openmetrics.text_string_to_metric_families if accept else parse_text
        names = {family.name for family in parse(text)}
    except (OSError, ValueError) as error:
        return f"{accept or 'text'}: {error!r}"
    return None if "llmstatsd_datagrams" in names else f"{accept or 'text'}: {len(text)} bytes"


class Scrapes:
    """One scrape after the other by a process of its own, in both formats by turns."""

    def __init__(self, pool: ProcessPoolExecutor, url: str) -> None:
        self.made = 0
        self.invalid: list[str] = []
        self._pool = pool
        self._url = url
        self._under_way: Future[str | None] | None = None

    def go_on(self) -> None:
        """Begin the next one if none is under way."""
        if self._under_way is None or self._under_way.done():
            self.finish()
            accept = OPENMETRICS if self.made % 2 else ""
            self._under_way = self._pool.submit(fault_of_scrape, self._url, accept)

    def finish(self) -> None:
        """Wait for the one that is under way."""
        if self._under_way is not None:
            fault = self._under_way.result(SCRAPE_SECONDS)
            self.made += 1
            if fault:
                self.invalid.append(fault)
            self._under_way = None


def feed(
    road: Road, daemon: Daemon, datagrams: Iterator[bytes], each_page: Callable[[int], None]
) -> tuple[int, int]:
    """Send every datagram once, in its order, as fast as it is taken in.

    Return how many there were, and how many pieces the daemon has to count of them; after each page
    `each_page` is told how many were sent so far.
    """
    sent = pieces = 0
    with road.open(daemon) as sender:
        while page := list(islice(datagrams, PAGE)):
            pieces += road.send(daemon, sender, page)
            sent += len(page)
            each_page(sent)
    return sent, pieces


def wait_counted(road: Road, daemon: Daemon, pieces: int) -> None:
    """Wait until so many pieces are counted, and the daemon has come to rest.

    Of a stream nobody else can tell how much of it waits in the kernel.
    """
    wait_until(
        lambda: road.counted(daemon.scrape()) >= pieces, SCRAPE_SECONDS, f"{pieces} pieces counted"
    )
    daemon.wait_drained()


def endure(
    lane: str,
    datagrams: int,
    seed: int,
    look: Callable[[Daemon], None] = lambda _: None,
    transport: str = "udp",
) -> Ordeal:
    """Feed so many hostile datagrams to a daemon of its own; `look` at it before it is stopped.

    Over TCP a datagram is its lines. Raises BenchError when anything was not counted, or the daemon
    did not outlive it.
    """
    good = garbled.Good()
    stream = garbled.datagrams(seed, good)
    warm = int(datagrams * WARM_SHARE)
    spawn = multiprocessing.get_context("spawn")
    started = time.monotonic()
    with (
        roads.road(transport) as road,
        AbusedDaemon(f"--statsd-lane={lane}", *road.flags) as daemon,
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
        harness.progress_to(datagrams, f"hostile datagrams: {lane}") as come_to,
    ):
        scrapes = Scrapes(pool, daemon.url)

        def go_on(fed: int) -> None:
            scrapes.go_on()
            come_to(fed)

        sent, pieces = feed(road, daemon, islice(stream, warm), go_on)
        scrapes.finish()
        wait_counted(road, daemon, pieces)
        warm_bytes = daemon.rss_bytes()
        rest = islice(stream, datagrams - warm)
        more = feed(road, daemon, rest, lambda fed: go_on(warm + fed))
        scrapes.finish()
        sent, pieces = sent + more[0], pieces + more[1]
        wait_counted(road, daemon, pieces)
        scrape = check_all_counted(road, daemon, pieces)
        seconds = time.monotonic() - started
        end_bytes, peak_bytes = daemon.rss_bytes(), daemon.peak_rss_bytes()
        look(daemon)
        daemon.stop()
    return Ordeal(
        lane,
        transport,
        seed,
        sent,
        good.lines,
        *ladder(scrape),
        seconds,
        scrapes.made,
        scrapes.invalid,
        daemon.log_lines,
        daemon.strange_lines,
        {
            name: (scrape.sum(name), expected)
            for name, expected in good.sums.items()
            if scrape.sum(name) != expected
        },
        warm_bytes,
        end_bytes,
        peak_bytes,
    )


def check_all_counted(road: Road, daemon: AbusedDaemon, pieces: int) -> Scrape:
    """The last scrape; BenchError, with what the log says, unless it counts all that was sent."""
    scrape = daemon.scrape()
    dropped = int(scrape.sum("llmstatsd_kernel_dropped_datagrams_total"))
    if (road.counted(scrape), dropped) != (pieces, 0):
        said = "\n".join(daemon.strange_lines)
        counted = road.counted(scrape)
        raise BenchError(f"{counted} of {pieces} were counted, {dropped} dropped\n{said}")
    return scrape


def ladder(scrape: Scrape) -> tuple[int, int, int]:
    """Lines, those refused, and those that no stage explains."""
    names = ("lines", "refused_lines", "accepted_lines", "set_aside_lines")
    lines, refused, *others = (int(scrape.sum(f"llmstatsd_{name}_total")) for name in names)
    return lines, refused, lines - refused - sum(others)


def goals(ordeals: Sequence[Ordeal]) -> list[Goal]:
    """Nothing wrong, and memory at rest."""
    reached = []
    for each in ordeals:
        faults = {
            "sums of good lines that are wrong": len(each.wrong_sums),
            "lines that no stage explains": abs(each.unexplained),
            "invalid scrapes": len(each.invalid_scrapes),
            "lines of the log that nobody expects": len(each.strange_lines),
        }
        reached += [Goal(f"{each.name}: {what}", found, "<=", 0) for what, found in faults.items()]
        what = f"{each.name}: MiB grown after the first {WARM_SHARE:.0%}"
        reached.append(Goal(what, each.growth_mib, "<=", GOAL_GROWTH_MIB))
    return reached


def text(result: Result) -> str:
    """A row per lane, what was found, and the goals."""
    rows = [
        (
            each.name,
            str(each.seed),
            f"{each.datagrams:,}",
            f"{each.lines:,}",
            f"{each.good_lines:,}",
            f"{each.refused:,}",
            str(each.scrapes),
            str(each.log_lines),
            f"{each.warm_bytes / 2**20:.0f}",
            f"{each.end_bytes / 2**20:.0f}",
            f"{each.peak_bytes / 2**20:.0f}",
            f"{each.seconds:.0f}",
        )
        for each in result.ordeals
    ]
    header = (
        *("hostile datagrams", "seed", "datagrams", "lines", "good lines", "refused", "scrapes"),
        *("log lines", "warm MiB", "end", "peak", "seconds"),
    )
    found = [
        f"{each.name}: {fault}"
        for each in result.ordeals
        for fault in (
            *each.invalid_scrapes,
            *each.strange_lines,
            *map(str, each.wrong_sums.items()),
        )
    ]
    parts = (harness.table(header, rows), "\n".join(found), harness.goals_table(result.goals))
    return "\n\n".join(filter(None, parts))


@click.command()
@click.option("--datagrams", default=10_000_000, type=click.IntRange(1000), help="To each lane.")
@click.option("--seed", default=1, help="Of all that is sent.")
@click.option(
    "--lane", "lanes", default=LANES, multiple=True, show_default=True, type=click.Choice(LANES)
)
@click.option(
    "--transport",
    "transports",
    default=("udp",),
    multiple=True,
    show_default=True,
    type=click.Choice(roads.NAMES),
)
@harness.json_option
def main(
    datagrams: int,
    seed: int,
    lanes: tuple[str, ...],
    transports: tuple[str, ...],
    json_path: str | None,
) -> None:
    """Send hostile datagrams to both lanes, and hold every good line against what was counted."""
    ordeals = [
        endure(lane, datagrams, seed, transport=transport)
        for lane in lanes
        for transport in transports
    ]
    result = Result(ordeals, goals(ordeals))
    harness.emit(result, text(result), json_path)
    if any(each.wrong_sums or each.invalid_scrapes or each.strange_lines for each in ordeals):
        raise BenchError("hostile datagrams did harm")


if __name__ == "__main__":
    main()
