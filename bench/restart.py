"""Restarts while four senders go on: what is lost, and how long a start and a stop take.

A parent holds the sockets as systemd does, two senders send to each, and daemons that keep a state
file take turns. Ended by SIGTERM, all of them together have to count exactly what was sent, for
each series. Ended by kill -9 at any moment, what is missing is told apart for each of them: the
senders are held until all that waits is counted. It must be no more than an interval's, and the
next start has to say so.
"""

import gc
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, sender
from bench.generator import PAGE, Page
from bench.harness import BenchError, Goal, Scrape
from bench.holder import SETTLE_SECONDS, Held, Load, Sent, Watch
from llmstatsd import garbage
from llmstatsd.series import lanes, snapshot
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.state import encoded
from llmstatsd.wire.statsd import Dialect

LANES = ("compiled", "portable")

RECEIVE_BUFFER_BYTES = 32 << 20
"""For more than three seconds of 25,000 datagrams, where systemd/llmstatsd.socket has a quarter.

So nothing is lost on a machine that does much else as well, where a start may take that long.
"""

RATE = 50_000.0
LINES = 4
"""In a datagram, as a call's lines usually are; one in each is more system calls than two shared
cores have time for beside the daemons."""

INTERVAL_SECONDS = 1.0
SEED = 7

GOAL_RATE_SHARE = 0.95
"""Of the lines a second that were asked for; the rest is what the machine makes of it."""

NOT_CLEAN = "the last stop was not clean"
LARGE_STARTS = 3
LARGE_LINES_PER_DATAGRAM = 20
STEP_ROUNDS = 5


class Traffic(NamedTuple):
    """Lines a second of all senders, lines in a datagram, and label sets of either series."""

    rate: float = RATE
    lines: int = LINES
    customers: int = 1000

    @property
    def flags(self) -> tuple[str, ...]:
        """Budgets of a daemon that has room for them."""
        return roomy(self.customers)


class Restarts(msgspec.Struct, frozen=True):
    """Restarts by SIGTERM; a gap lasts from the signal to the next daemon's ready line."""

    lane: str
    lines_per_second: float
    sent: int
    lines_per_datagram: int
    counted: int
    dropped: int
    wrong_samples: int
    stop_seconds: list[float]
    gap_seconds: list[float]
    buffer_bytes: int
    fullest_bytes: int


class Kill(msgspec.Struct, frozen=True):
    """One kill -9: the age of the state file then, and lines lost.

    `since_written` and `in_interval` are the lines that were sent since that writing and within an
    interval before the kill.
    """

    age_seconds: float
    lost: int
    since_written: int
    in_interval: int
    is_told: bool


class Kills(msgspec.Struct, frozen=True):
    """All kills of a lane; lines are of all of them."""

    lane: str
    interval_seconds: float
    sent: int
    counted: int
    dropped: int
    kills: list[Kill]


class Large(msgspec.Struct, frozen=True):
    """A daemon with many label sets, and the steps in which its store is read for the file.

    Bare starts are those of a daemon without state, in turns with the others.

    A gate step is how long the store's gate is held, which a lane waits for that meets new lines;
    a turn is that and the encoding, which the portable lane waits for. CPU seconds, the longest of
    each round: wall time holds what else the machine does.
    """

    lane: str
    label_sets: int
    file_bytes: int
    bare_start_seconds: list[float]
    start_seconds: list[float]
    stop_seconds: list[float]
    gate_seconds: list[float]
    turn_seconds: list[float]
    gather_seconds: list[float]


class Result(msgspec.Struct, frozen=True):
    """Everything measured."""

    restarts: list[Restarts]
    kills: list[Kills]
    large: list[Large]
    goals: list[Goal]


def roomy(customers: int) -> tuple[str, ...]:
    """Flags for budgets in which so many label sets of either series find room."""
    return (
        f"--limits-label-values={customers + 10}",
        f"--limits-label-sets={2 * customers + 1000}",
        "--limits-exposition-lines=10000000",
    )


def expected(sent: Sent, traffic: Traffic) -> dict[str, dict[str, float]]:
    """Every sample that these datagrams have to make, by sample name and label text."""
    every = 2 * traffic.customers
    counts = [0] * every
    for datagrams in sent.datagrams:
        rounds, rest = divmod(datagrams * traffic.lines, every)
        counts = [count + rounds + (at < rest) for at, count in enumerate(counts)]
    samples: dict[str, dict[str, float]] = {name: {} for name in SAMPLES}
    for customer in range(traffic.customers):
        labels = f'{{{sender.LABEL}="{customer:05d}"}}'
        jobs, waits = counts[2 * customer : 2 * customer + 2]
        values = (jobs, waits, waits * sender.value_of(customer))
        for name, value, is_there in zip(SAMPLES, values, (jobs, waits, waits), strict=True):
            if is_there:
                samples[name][labels] = value
    return samples


SAMPLES = (f"{sender.COUNTED}_total", f"{sender.OBSERVED}_count", f"{sender.OBSERVED}_sum")


def wrong_samples(scrape: Scrape, sent: Sent, traffic: Traffic) -> int:
    """How many samples are not what was sent, to the last bit; missing ones and others too."""
    wrong = 0
    for name, samples in expected(sent, traffic).items():
        shown = dict(scrape.samples(name))
        wrong += sum(shown.get(key) != samples.get(key) for key in shown.keys() | samples.keys())
    return wrong


def counted(scrape: Scrape) -> int:
    """Lines that the series hold."""
    return int(scrape.sum(SAMPLES[0]) + scrape.sum(SAMPLES[1]))


def settled(held: Held) -> Scrape:
    """A scrape when nothing waits in the kernel any more and nothing more is counted."""
    harness.wait_until(held.is_empty, SETTLE_SECONDS, "empty sockets")
    before = -1
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        scrape = held.scrape()
        now = counted(scrape)
        if now == before and held.is_empty():
            return scrape
        before = now
    raise BenchError(f"still counting after {SETTLE_SECONDS:g} s")


def restarts(
    lane: str, times: int, traffic: Traffic, pause_seconds: float, activate: Sequence[str] = ()
) -> Restarts:
    """Restart the daemon so many times by SIGTERM while all is sent.

    `activate` is a command that starts it and passes the sockets on.
    """
    flags = (f"--statsd-lane={lane}", *traffic.flags)
    stops, gaps = [], []
    with ExitStack() as running:
        held = running.enter_context(Held(RECEIVE_BUFFER_BYTES))
        load = running.enter_context(Load(held, *traffic))
        watch = running.enter_context(Watch(held, load))
        daemon = running.enter_context(held.daemon(*flags, activate=activate))
        load.begin()
        began, before = time.monotonic(), load.sent().total
        for _ in harness.progress(range(times), f"restarts, {lane}"):
            time.sleep(pause_seconds)
            asked = time.monotonic()
            ended_well(daemon.end(signal.SIGTERM), daemon.last_words())
            stops.append(time.monotonic() - asked)
            daemon = running.enter_context(held.daemon(*flags, activate=activate))
            gaps.append(time.monotonic() - asked)
        sent = load.end()
        took = time.monotonic() - began
        scrape = settled(held)
        ended_well(daemon.end(signal.SIGTERM), daemon.last_words())
        return Restarts(
            lane,
            (sent.total - before) * traffic.lines / took,
            sent.total * traffic.lines,
            traffic.lines,
            counted(scrape),
            held.memory().drops,
            wrong_samples(scrape, sent, traffic),
            stops,
            gaps,
            held.buffer_bytes,
            watch.fullest_bytes,
        )


def ended_well(code: int, words: str) -> None:
    """Raises BenchError with a daemon's last words unless it ended with 0."""
    if code:
        raise BenchError(f"a daemon ended with {code}; its last words:\n{words}")


def kills(lane: str, times: int, traffic: Traffic, interval_seconds: float) -> Kills:
    """Kill the daemon so many times while all is sent, and find what each has cost.

    The moments are random, but after a writing, so that nothing lost has been sent long before.
    """
    flags = (
        *(f"--statsd-lane={lane}", *traffic.flags),
        f"--state-interval-seconds={interval_seconds}",
    )
    rng = random.Random(SEED)
    found: list[Kill] = []
    with ExitStack() as running:
        held = running.enter_context(Held(RECEIVE_BUFFER_BYTES))
        daemon = running.enter_context(held.daemon(*flags))
        load = running.enter_context(Load(held, *traffic))
        watch = running.enter_context(Watch(held, load))
        load.begin()
        gone_on_at, lost = time.time(), 0
        for number in harness.progress(range(times), f"kills, {lane}"):
            written_after(held, gone_on_at)
            some = rng.uniform(0, 1.2) * interval_seconds * traffic.rate / traffic.lines
            load.send_on(int(some))
            daemon.end(signal.SIGKILL)
            killed_at, by_then = time.time(), load.sent().total
            written = held.head().written
            daemon = running.enter_context(held.daemon(*flags))
            sent = load.hold().total * traffic.lines
            scrape = settled(held)
            # What the kernel dropped, it has told: the kill has not cost that.
            before, lost = lost, sent - counted(scrape) - held.memory().drops * traffic.lines
            found.append(
                Kill(
                    killed_at - written,
                    lost - before,
                    (by_then - watch.sent_by(written)) * traffic.lines,
                    (by_then - watch.sent_by(killed_at - interval_seconds)) * traffic.lines,
                    NOT_CLEAN in daemon.last_words()
                    and scrape.sum("llmstatsd_state_unclean_stops_total") == number + 1,
                )
            )
            gone_on_at = time.time()
            load.go_on()
        total = load.end().total * traffic.lines
        scrape = settled(held)
        ended_well(daemon.end(signal.SIGTERM), daemon.last_words())
        return Kills(lane, interval_seconds, total, counted(scrape), held.memory().drops, found)


def written_after(held: Held, when: float) -> None:
    """Wait until the state file is of later than a Unix time."""

    def is_written() -> bool:
        return held.state.exists() and held.head().written > when

    harness.wait_until(is_written, SETTLE_SECONDS, "a writing")


def large(lane: str, label_sets: int) -> Large:
    """Start and stop a daemon with so many label sets, and read such a store in steps."""
    customers = label_sets // 2
    flags = (f"--statsd-lane={lane}", *roomy(customers))
    bare, starts, stops = [], [], []
    with Held(RECEIVE_BUFFER_BYTES) as held:
        for number in harness.progress(range(LARGE_STARTS + 1), f"{label_sets:,} label sets"):
            with harness.Daemon(*flags) as other:
                bare.append(other.start_seconds)
            with held.daemon(*flags) as daemon:
                if number:
                    starts.append(daemon.start_seconds)
                else:
                    daemon.feed(pages(customers))
                asked = time.monotonic()
                ended_well(daemon.end(signal.SIGTERM), daemon.last_words())
                stops.append(time.monotonic() - asked)
        size = held.state.stat().st_size
    gates, turns, gathers = steps(lane, customers)
    return Large(lane, label_sets, size, bare[1:], starts, stops[1:], gates, turns, gathers)


def pages(customers: int) -> list[Page]:
    """The lines of so many customers, to be sent once."""
    datagrams = sender.datagrams_of(customers, LARGE_LINES_PER_DATAGRAM)
    return [Page(datagrams[at : at + PAGE]) for at in range(0, len(datagrams), PAGE)]


def steps(lane: str, customers: int) -> tuple[list[float], list[float], list[float]]:
    """The longest gate step, the longest turn and the whole gathering, of some rounds."""
    twin = lanes.choose("compiled" if lane == "compiled" else "portable")
    limits = Limits(
        label_values=customers + 10, label_sets=2 * customers + 1000, exposition_lines=10_000_000
    )
    store = Store(limits, instruments=twin.instruments)
    hot = twin.hot_path(store, Dialect(), 1000)
    for datagram in sender.datagrams_of(customers, LARGE_LINES_PER_DATAGRAM):
        hot.feed_together([datagram])
    garbage.set_aside_cells()
    gates, turns, gathers = [], [], []
    for _ in range(STEP_ROUNDS):
        gc.collect()
        gate, turn, began = 0.0, 0.0, time.thread_time()
        reading, last, blocks = snapshot.Parts(store), began, []
        while (part := next(reading, None)) is not None:
            gate = max(gate, time.thread_time() - last)
            blocks.append(encoded(part))
            now = time.thread_time()
            turn, last = max(turn, now - last), now
        gates.append(gate)
        turns.append(turn)
        gathers.append(time.thread_time() - began)
    return gates, turns, gathers


def goals(all_restarts: Sequence[Restarts], all_kills: Sequence[Kills], rate: float) -> list[Goal]:
    """Nothing lost by SIGTERM, and by kill -9 an interval's at most."""
    reached = []
    for each in all_restarts:
        name = f"{each.lane}, {len(each.gap_seconds)} restarts"
        reached += [
            Goal(f"{name}: lines/s", each.lines_per_second, ">=", GOAL_RATE_SHARE * rate),
            Goal(f"{name}: samples that are wrong", each.wrong_samples, "<=", 0),
            Goal(f"{name}: dropped by the kernel", each.dropped, "<=", 0),
        ]
    for those in all_kills:
        name = f"{those.lane}, {len(those.kills)} kills"
        ages = [kill.age_seconds / those.interval_seconds for kill in those.kills]
        losses = [kill.lost / kill.in_interval for kill in those.kills]
        untold = sum(not kill.is_told for kill in those.kills)
        reached += [
            Goal(f"{name}: age of the file, intervals", max(ages), "<=", 1),
            Goal(f"{name}: lost / sent in an interval", max(losses), "<=", 1),
            Goal(f"{name}: untold", untold, "<=", 0),
            Goal(f"{name}: dropped by the kernel", those.dropped, "<=", 0),
        ]
    return reached


def text(result: Result) -> str:
    """A table for each part, and the goals."""
    return "\n\n".join(
        (
            restarts_table(result.restarts),
            kills_table(result.kills),
            large_table(result.large),
            harness.goals_table(result.goals),
        )
    )


def restarts_table(every: Sequence[Restarts]) -> str:
    """A row per lane."""
    rows = [
        (
            f"{each.lane}, {each.lines_per_datagram} to a datagram",
            f"{len(each.gap_seconds)}",
            f"{each.lines_per_second:,.0f}",
            f"{each.sent:,}",
            f"{each.counted:,}",
            f"{each.dropped}",
            *(harness.milliseconds(figure) for figure in harness.spread(each.stop_seconds)),
            *(harness.milliseconds(figure) for figure in harness.spread(each.gap_seconds)),
            f"{each.fullest_bytes / each.buffer_bytes / 2:.0%}",
        )
        for each in every
    ]
    header = (
        *("SIGTERM", "times", "lines/s", "sent", "counted", "dropped"),
        *("stop ms, median", "worst", "signal to ready, median", "worst", "buffer, fullest"),
    )
    return harness.table(header, rows)


def kills_table(every: Sequence[Kills]) -> str:
    """A row per lane."""
    rows = []
    for each in every:
        ages = [kill.age_seconds for kill in each.kills]
        lost = [kill.lost for kill in each.kills]
        shares = [kill.lost / kill.in_interval for kill in each.kills]
        rows.append(
            (
                each.lane,
                f"{len(each.kills)}",
                f"{each.sent:,}",
                f"{each.counted:,}",
                f"{sum(lost):,}",
                f"{min(lost):,}",
                f"{median(lost):,.0f}",
                f"{max(lost):,}",
                f"{max(ages):.2f}",
                f"{max(shares):.2f}",
            )
        )
    header = (
        *("kill -9", "times", "sent", "counted", "lost", "least", "median", "most"),
        *("oldest file, s", "most, intervals"),
    )
    return harness.table(header, rows)


def large_table(every: Sequence[Large]) -> str:
    """A row per lane."""
    rows = [
        (
            f"{each.lane}, {each.label_sets:,} label sets",
            f"{each.file_bytes / 2**20:.1f}",
            harness.milliseconds(median(each.bare_start_seconds)),
            harness.milliseconds(median(each.start_seconds)),
            harness.milliseconds(median(each.stop_seconds)),
            harness.milliseconds(median(each.gather_seconds)),
            *(harness.milliseconds(figure) for figure in harness.spread(each.gate_seconds)),
            *(harness.milliseconds(figure) for figure in harness.spread(each.turn_seconds)),
        )
        for each in every
    ]
    header = (
        *("state", "MiB", "start without, ms", "start ms", "stop ms", "gather, CPU ms"),
        *("longest gate step, CPU ms", "worst", "longest turn, CPU ms", "worst"),
    )
    return harness.table(header, rows)


@click.command()
@click.option("--restarts", "times", default=20, type=click.IntRange(1, 1000))
@click.option("--kills", "kill_times", default=10, type=click.IntRange(1, 1000))
@click.option("--rate", default=RATE, type=click.FloatRange(100, 1_000_000), help="Lines/s.")
@click.option("--lines", default=LINES, type=click.IntRange(1, 40), help="Lines per datagram.")
@click.option("--customers", default=1000, type=click.IntRange(1, 50_000), help="Label sets, half.")
@click.option("--interval-seconds", default=INTERVAL_SECONDS, type=click.FloatRange(0.1, 60))
@click.option("--pause-seconds", default=1.0, type=click.FloatRange(0, 60), help="After a restart.")
@click.option("--label-sets", default=100_000, type=click.IntRange(2, 1_000_000))
@click.option(
    "--lane", "lanes_", default=LANES, multiple=True, show_default=True, type=click.Choice(LANES)
)
@harness.json_option
def main(
    times: int,
    kill_times: int,
    rate: float,
    lines: int,
    customers: int,
    interval_seconds: float,
    pause_seconds: float,
    label_sets: int,
    lanes_: tuple[str, ...],
    json_path: str | None,
) -> None:
    """Restart and kill daemons under load, and start and stop large ones."""
    traffic = Traffic(rate, lines, customers)
    restarted = [restarts(lane, times, traffic, pause_seconds) for lane in lanes_]
    killed = [kills(lane, kill_times, traffic, interval_seconds) for lane in lanes_]
    grown = [large(lane, label_sets) for lane in lanes_]
    result = Result(restarted, killed, grown, goals(restarted, killed, rate))
    harness.emit(result, text(result), json_path)
    if any(each.wrong_samples for each in restarted):
        raise BenchError("what was counted is not what was sent")


if __name__ == "__main__":
    main()
