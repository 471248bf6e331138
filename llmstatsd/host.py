"""The `llmstatsd_host_*` series: a few aggregated figures of the machine, read by psutil.

A figure that the system does not give (a container without parts of /proc, a disk path that is
gone) leaves its series out of that scrape.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CPU_MODES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""Values of the label `mode`, by Linux' names in proc(5); time of guests is part of `user`."""

LOOPBACK: Final = frozenset({"lo", "lo0"})

_UNREADABLE: Final = (OSError, psutil.Error, RuntimeError, LookupError, ValueError)
"""What psutil raises where the system does not tell: nothing there, or in another form."""


class _Figure(NamedTuple):
    """One family as data; the text format adds `_total` to a counter's name."""

    family: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()

    def metric(self, *samples: tuple[float, *tuple[str, ...]]) -> Metric:
        """The family with these samples, each a value and then its label values."""
        metric = self.family(
            f"llmstatsd_host_{self.name}", self.help, labels=self.labels, unit=self.unit
        )
        for value, *labels in samples:
            metric.add_metric(labels, value)
        return metric


_CPU: Final = _Figure(
    CounterMetricFamily,
    "cpu_seconds",
    "seconds",
    "Time of all cores together since boot, by mode.",
    ("mode",),
)
_MEMORY_TOTAL: Final = _Figure(
    GaugeMetricFamily, "memory_total_bytes", "bytes", "Memory of the machine."
)
_MEMORY_AVAILABLE: Final = _Figure(
    GaugeMetricFamily,
    "memory_available_bytes",
    "bytes",
    "Memory that can be had without swapping.",
)
_LOADS: Final = tuple(
    _Figure(
        GaugeMetricFamily,
        f"load{minutes}",
        "",
        f"Tasks running or waiting for a core or a disk, averaged over {minutes} min.",
    )
    for minutes in (1, 5, 15)
)
_DISK_TOTAL: Final = _Figure(
    GaugeMetricFamily, "disk_total_bytes", "bytes", "Size of the file system of host.disk_path."
)
_DISK_FREE: Final = _Figure(
    GaugeMetricFamily,
    "disk_free_bytes",
    "bytes",
    "Space on the file system of host.disk_path that an unprivileged user can fill.",
)
_RECEIVED: Final = _Figure(
    CounterMetricFamily,
    "network_receive_bytes",
    "bytes",
    "Bytes received on all network interfaces but loopback; those of bridges count as well.",
)
_SENT: Final = _Figure(
    CounterMetricFamily,
    "network_transmit_bytes",
    "bytes",
    "Bytes sent on all network interfaces but loopback; those of bridges count as well.",
)
_BOOT_TIME: Final = _Figure(
    GaugeMetricFamily,
    "boot_time_seconds",
    "seconds",
    "Unix time at which the machine was started.",
)
_FIGURES: Final = (
    _CPU,
    _MEMORY_TOTAL,
    _MEMORY_AVAILABLE,
    *_LOADS,
    _DISK_TOTAL,
    _DISK_FREE,
    _RECEIVED,
    _SENT,
    _BOOT_TIME,
)


class HostCollector(Collector):
    """Gives at most 18 series; reading them takes well under a millisecond.

    `disk_path` names the file system whose space is shown.
    It should be a local one: a network file system that hangs would hang the scrape, and the
    daemon with it.
    """

    def __init__(self, disk_path: str) -> None:
        self._disk_path = disk_path
        self._cpu_seconds: dict[str, float] = {}
        self._network = _Network()
        self._readers: tuple[Callable[[], Iterator[Metric]], ...] = (
            self._cpu,
            _memory,
            _load,
            self._disk,
            self._network.collect,
            _boot_time,
        )

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that a registry sees clashes without a reading."""
        for figure in _FIGURES:
            yield figure.metric()

    def collect(self) -> Iterator[Metric]:
        """Every figure that can be read now; never raises for one that cannot."""
        for read in self._readers:
            yield from _readable(read)

    def _cpu(self) -> Iterator[Metric]:
        """A mode never goes back: Linux lets idle and iowait shrink a little (proc(5))."""
        times = psutil.cpu_times()._asdict()
        for mode in CPU_MODES:
            if mode in times:
                before = self._cpu_seconds.get(mode, 0.0)
                self._cpu_seconds[mode] = max(before, times[mode])
        yield _CPU.metric(*((seconds, mode) for mode, seconds in self._cpu_seconds.items()))

    def _disk(self) -> Iterator[Metric]:
        usage = psutil.disk_usage(self._disk_path)
        yield _DISK_TOTAL.metric((usage.total,))
        yield _DISK_FREE.metric((usage.free,))


class _Network:
    """Sums of counters that only grow, although interfaces come and go with every container.

    Were the counters of the interfaces there simply summed, an interface that leaves would make
    the sum drop, and a rate over it would read the whole rest as new traffic.
    """

    __slots__ = ("_last", "_received", "_sent")

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._received = 0
        self._sent = 0

    def collect(self) -> Iterator[Metric]:
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        now = {
            name: (counter.bytes_recv, counter.bytes_sent)
            for name, counter in counters.items()
            if name not in LOOPBACK
        }
        for name, (received, sent) in now.items():
            last_received, last_sent = self._last.get(name, (0, 0))
            self._received += _growth(last_received, received)
            self._sent += _growth(last_sent, sent)
        self._last = now
        yield _RECEIVED.metric((self._received,))
        yield _SENT.metric((self._sent,))


def _growth(before: int, now: int) -> int:
    """A counter below its last reading began again at 0, as Prometheus reads it too."""
    return now - before if now >= before else now


def _memory() -> Iterator[Metric]:
    memory = psutil.virtual_memory()
    yield _MEMORY_TOTAL.metric((memory.total,))
    yield _MEMORY_AVAILABLE.metric((memory.available,))


def _load() -> Iterator[Metric]:
    for figure, load in zip(_LOADS, psutil.getloadavg(), strict=True):
        yield figure.metric((load,))


def _boot_time() -> Iterator[Metric]:
    yield _BOOT_TIME.metric((psutil.boot_time(),))


def _readable(read: Callable[[], Iterator[Metric]]) -> list[Metric]:
    try:
        return list(read())
    except _UNREADABLE:
        return []
