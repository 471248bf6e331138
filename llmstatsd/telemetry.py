"""What the daemon says of itself: the `llmstatsd_*` series, in the order of the stages.

Each stage fills a small stats object; here they are read at a scrape. The series are a ladder:
what goes into a stage and does not come out of it is explained by that stage.

datagrams -> lines = accepted + refused (by reason) + set aside (by kind) -> samples
"""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from llmstatsd import __version__
from llmstatsd.catalog import CATALOG, OTHER
from llmstatsd.intake import sockets
from llmstatsd.intake.lanes import LaneIntake
from llmstatsd.intake.tcp import TcpStats
from llmstatsd.intake.udp import UdpIntake
from llmstatsd.logs import LogStats
from llmstatsd.reload import ReloadStats
from llmstatsd.series.cardinality import LabelBudget
from llmstatsd.series.family import Family
from llmstatsd.series.lanes import HotPath
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import Store
from llmstatsd.state import StateStats
from llmstatsd.web.app import WebStats

HEAVIEST_SHOWN: Final = 5
"""Most values inside `other` that are shown per label."""

HEAVIEST_SHARE: Final = 0.01
"""Share of the folded samples below which a value is not shown, so that the set shown is stable."""


UNDECLARED_SHOWN: Final = 10
"""Most undeclared series whose cardinality is shown one by one."""


@dataclass(slots=True)
class Telemetry(Collector):
    """Collects every stage's stats."""

    intake: UdpIntake | LaneIntake
    hot_path: HotPath
    store: Store
    web: WebStats
    logs: LogStats = field(default_factory=LogStats)
    tcp: TcpStats = field(default_factory=TcpStats)
    state: StateStats = field(default_factory=StateStats)
    reload: ReloadStats = field(default_factory=ReloadStats)

    def collect(self) -> list[Metric]:
        """The families in stage order, all read at one time, so that the ladder adds up."""
        self.hot_path.settle()
        self.intake.settle()
        return list(self._families(self.hot_path.stats))

    def datagrams(self, lines: LineStats) -> int:
        """Datagrams received: the hot path's ladder counts the pieces of TCP among them."""
        return lines.datagrams - self.tcp.pieces

    def refused_datagrams(self) -> dict[str, int]:
        """Datagrams refused as a whole, by reason."""
        stats = [each.stats for each in self.intake.sockets]
        return {
            "foreign": sum(each.foreign for each in stats),
            "too_long": sum(each.too_long for each in stats),
        }

    def _families(self, lines: LineStats) -> Iterator[Metric]:
        yield _build_info(self.hot_path.lane)
        yield from self._intake(lines)
        yield from self._wire(lines)
        yield from self._series()
        yield from self._cardinality()
        yield from self._web()
        yield from self._config()
        yield from self._state()
        yield _counters(
            "unwritten_log_messages",
            "Log messages that were not written, by reason.",
            "reason",
            self.logs.unwritten.items(),
        )

    def _intake(self, lines: LineStats) -> Iterator[Metric]:
        intake = self.intake.stats
        yield _counter("datagrams", "Datagrams received.", self.datagrams(lines))
        yield _counter(
            "received_bytes", "Bytes of datagrams received.", lines.bytes - self.tcp.piece_bytes
        )
        yield from self._transports()
        memory = sockets.memory_of(self.intake.sockets)
        if memory is not None:
            yield _counter(
                "kernel_dropped_datagrams",
                "Datagrams the kernel dropped because the receive buffer was full.",
                memory.drops,
            )
            yield _gauge(
                "receive_queue_bytes",
                "Bytes waiting in the receive buffer, as the kernel accounts for them.",
                memory.queued_bytes,
            )
        yield _gauge(
            "receive_buffer_bytes",
            "Receive buffer granted by the kernel, of all sockets together.",
            sum(each.buffer_bytes for each in self.intake.sockets),
        )
        yield _counter(
            "queue_dropped_datagrams",
            "Datagrams dropped between the socket and the consumer: always 0 unless it hangs.",
            intake.queue_dropped,
        )
        yield _gauge(
            "queue_high_water_datagrams",
            "Most datagrams that ever waited between the socket and the consumer.",
            intake.queue_high_water,
        )
        yield _counter(
            "lane_failures",
            "Compiled lanes that ended by a bug, so that the portable one took over.",
            intake.lane_failures,
        )
        yield from self._tcp()

    def _transports(self) -> Iterator[Metric]:
        datagrams, size = {"udp": 0, "unix": 0}, {"udp": 0, "unix": 0, "tcp": self.tcp.bytes}
        for each in self.intake.sockets:
            datagrams[each.transport] += each.stats.datagrams
            size[each.transport] += each.stats.bytes
        yield _counters(
            "transport_datagrams", "Datagrams received, by socket.", "transport", datagrams.items()
        )
        yield _counters("transport_bytes", "Bytes received.", "transport", size.items())
        yield _counters(
            "refused_datagrams",
            "Datagrams refused as a whole, by reason.",
            "reason",
            self.refused_datagrams().items(),
        )

    def _tcp(self) -> Iterator[Metric]:
        tcp = self.tcp
        yield _counter("tcp_accepted_connections", "TCP connections taken.", tcp.accepted)
        yield _counters(
            "tcp_refused_connections",
            "TCP connections closed at once, by reason.",
            "reason",
            tcp.refused.items(),
        )
        yield _counter(
            "tcp_idle_connections", "TCP connections closed because they were silent.", tcp.idle
        )
        yield _gauge("tcp_open_connections", "TCP connections open now.", tcp.open)
        yield _gauge("tcp_open_connections_limit", "Most of them at once.", tcp.open_limit)
        yield _counter("tcp_lines", "Lines over TCP, empty ones not counted.", tcp.lines)
        yield _counters(
            "tcp_refused_lines",
            "Lines over TCP that were not read, by reason.",
            "reason",
            tcp.refused_lines.items(),
        )

    def _wire(self, stats: LineStats) -> Iterator[Metric]:
        yield _counter("lines", "Lines received, empty ones not counted.", stats.lines)
        yield _counter(
            "accepted_lines", "Lines all of whose samples reached a series.", stats.accepted
        )
        yield _counters(
            "refused_lines", "Lines refused, by reason.", "reason", stats.refused.items()
        )
        yield _counters(
            "set_aside_lines",
            "DogStatsD events and service checks, understood and not aggregated.",
            "kind",
            stats.set_aside.items(),
        )
        yield _counters(
            "notes", "Oddities of accepted lines, by kind.", "note", stats.notes.items()
        )
        yield _counter("samples", "Values added to series.", stats.samples)
        yield _counter(
            "cache_misses",
            "Meanings that were resolved because the cache had none.",
            stats.cache_misses,
        )
        hot_path = self.hot_path
        yield _gauge("cache_entries", "Resolved meanings in the cache.", hot_path.cache_entries)
        yield _gauge("cache_entries_limit", "Bound of the cache.", hot_path.cache_entries_limit)

    def _series(self) -> Iterator[Metric]:
        store = self.store
        yield _gauge("series_names", "Series names that exist.", len(store.families))
        yield _gauge(
            "undeclared_names",
            "Series names that the catalogue does not declare.",
            store.stats.undeclared_names,
        )
        yield _gauge(
            "undeclared_names_limit", "Budget of such names.", store.limits.undeclared_names
        )
        yield _gauge(
            "exposition_lines",
            "Exposition lines that count against the budget, reserved slots of `other` included.",
            store.ledger.charged,
        )
        yield _gauge(
            "pinned_exposition_lines",
            "Exposition lines of pinned label sets, which cost no budget.",
            store.ledger.free,
        )
        yield _gauge("exposition_lines_limit", "Budget of exposition lines.", store.ledger.limit)
        yield _counter("born_label_sets", "Label sets ever born.", store.ledger.born)
        yield _counter(
            "expired_label_sets",
            "Label sets that left because they were idle.",
            store.stats.expired_label_sets,
        )

    def _cardinality(self) -> Iterator[Metric]:
        families = shown(self.store)
        yield _label_sets(families)
        yield _gauge(
            "label_sets_limit", "Budget of label sets per series.", self.store.limits.label_sets
        )
        yield _label_values(families)
        yield _gauge(
            "label_values_limit",
            "Budget of values per series and label.",
            self.store.limits.label_values,
        )
        yield _estimates(families)
        yield _folded(families)
        yield _heaviest(families)

    def _web(self) -> Iterator[Metric]:
        stats = self.web
        yield _counter("scrapes", "Scrapes answered.", stats.scrapes)
        yield _counter("scrape_bytes", "Bytes of scrapes, before compression.", stats.bytes)
        yield _counter("scrape_seconds", "Time spent answering scrapes.", stats.seconds, "seconds")
        yield _gauge(
            "last_scrape_duration_seconds", "Duration of the last scrape.", stats.last_seconds
        )
        yield _counters(
            "web_refused",
            "Requests and connections of the web turned away, by reason.",
            "reason",
            stats.refused.items(),
        )

    def _config(self) -> Iterator[Metric]:
        reload = self.reload
        yield _counter("config_reloads", "Reloads that ended, failed ones too.", reload.reloads)
        yield _gauge(
            "config_reload_success",
            "Whether the last loading of the configuration went well: 1, or 0.",
            float(reload.is_success),
        )
        yield _gauge(
            "config_last_reload_success_timestamp_seconds",
            "Unix time at which the configuration in force was loaded.",
            reload.last_success_timestamp_seconds,
        )

    def _state(self) -> Iterator[Metric]:
        state = self.state
        yield _gauge(
            "state_last_write_timestamp_seconds",
            "Unix time of the last writing of the state file, 0 before the first.",
            state.last_write_timestamp_seconds,
        )
        yield _counter(
            "state_write_failures", "Writings of the state file that failed.", state.write_failures
        )
        yield _counter(
            "state_unclean_stops",
            "Stops without a last writing of the state file, as later starts found them.",
            state.unclean_stops,
        )
        yield _gauge(
            "state_restored_label_sets",
            "Label sets that were restored at the start.",
            state.restored_label_sets,
        )
        yield _counters(
            "state_dropped_label_sets",
            "Label sets of the state file that fit nowhere, by reason.",
            "reason",
            state.dropped.items(),
        )


def shown(store: Store) -> list[Family]:
    """The documented series in use, and of the undeclared ones those that fold most."""
    used = [family for family in list(store.families.values()) if family.cells]
    undeclared = [family for family in used if family.name not in CATALOG]
    most = nlargest(UNDECLARED_SHOWN, undeclared, key=lambda family: sum(family.folded.values()))
    return [family for family in used if family.name in CATALOG or family in most]


def _counter(name: str, text: str, value: float, unit: str = "") -> Metric:
    return CounterMetricFamily(f"llmstatsd_{name}", text, value=value, unit=unit)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"llmstatsd_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(f"llmstatsd_{name}", text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _build_info(lane: str) -> Metric:
    about = {"version": __version__, "python": platform.python_version(), "lane": lane}
    return InfoMetricFamily("llmstatsd_build", "Version, Python and lane of the daemon.", about)


def _label_sets(families: list[Family]) -> Metric:
    gauge = GaugeMetricFamily(
        "llmstatsd_label_sets", "Label sets that a series holds.", labels=["series"]
    )
    for family in families:
        gauge.add_metric([family.name], len(family.cells))
    return gauge


def _label_values(families: list[Family]) -> Metric:
    gauge = GaugeMetricFamily(
        "llmstatsd_label_values",
        "Values that a label of a series holds, pinned ones not counted.",
        labels=["series", "label"],
    )
    for family in families:
        for label, budget in list(family.budgets.items()):
            gauge.add_metric([family.name, label], budget.held)
    return gauge


def _estimates(families: list[Family]) -> Metric:
    gauge = GaugeMetricFamily(
        "llmstatsd_label_values_estimate",
        "About how many values a label would hold without a budget, once it has folded some.",
        labels=["series", "label"],
    )
    for family in families:
        for label, budget in list(family.budgets.items()):
            if budget.folded is not None:
                gauge.add_metric([family.name, label], round(budget.estimate()))
    return gauge


def _folded(families: list[Family]) -> Metric:
    counter = CounterMetricFamily(
        "llmstatsd_folded_samples",
        "Samples that a budget sent into `other`, by reason.",
        labels=["series", "reason"],
    )
    for family in families:
        for reason, count in family.folded.items():
            counter.add_metric([family.name, reason], count)
    return counter


def _heaviest(families: list[Family]) -> Metric:
    gauge = GaugeMetricFamily(
        "llmstatsd_folded_heaviest_samples",
        f"Samples of the heaviest values inside `{OTHER}`: pin or alias them, or raise the budget.",
        labels=["series", "label", "value"],
    )
    for family in families:
        for label, budget in list(family.budgets.items()):
            for value, count in heaviest(budget):
                gauge.add_metric([family.name, label, value], count)
    return gauge


def heaviest(budget: LabelBudget) -> list[tuple[str, int]]:
    """The values inside `other` that are shown, and about how many samples each sent there."""
    watched = budget.heaviest
    return [] if watched is None else watched.top(HEAVIEST_SHOWN, HEAVIEST_SHARE)
