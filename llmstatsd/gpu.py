"""The `llmstatsd_gpu_*` series: figures of NVIDIA cards, read by NVML, the library of the driver.

The package nvidia-ml-py (its module is `pynvml`) is an extra. Without it, without a driver or
without a card there are no series. A call into a driver can hang for seconds, so a thread of its
own reads the figures, and a scrape shows what was read last.

Where NVML does not tell a figure of a card, that series of that card is left out. A card that is
split up (MIG) is shown as one: NVML has no utilisation of it, and tells its memory only to those
who may see the whole card.

Source of names, units and meanings: NVIDIA, "NVML API Reference Guide", Device Queries; its
"Deprecation and/or Removal Notices" for the temperature.
"""

import importlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, NamedTuple

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CARDS_LIMIT: Final = 64
"""Most cards that are read; further ones are left out."""

FRESH_INTERVALS: Final = 3
"""A reading that began longer ago than so many intervals is not shown any more."""

SHUTDOWN_SECONDS: Final = 1.0
"""Longest that the end of the daemon waits for a resting thread to shut NVML down."""

logger = logging.getLogger("llmstatsd")

Query = Callable[[ModuleType, Any], int]

_UNREADABLE: Final = (AttributeError, ValueError)
"""Raised beside NVML's own errors: another version lacks a function, a name is not UTF-8."""


class _Figure(NamedTuple):
    """One family as data; the text format adds `_total` to a counter's name.

    `query` asks NVML about a card; its answer divided by `divisor` is in the unit of the name.
    """

    family: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    unit: str
    help: str
    query: Query
    divisor: int = 1

    def metric(self, *samples: tuple[str, float]) -> Metric:
        """The family with these samples, each the index of a card and a value."""
        metric = self.family(
            f"llmstatsd_gpu_{self.name}", self.help, labels=("gpu",), unit=self.unit
        )
        for gpu, value in samples:
            metric.add_metric((gpu,), value)
        return metric


def _temperature(nvml: ModuleType, card: Any) -> int:
    """Older drivers know the second function alone, and CUDA 14 takes it away."""
    try:
        degrees: int = nvml.nvmlDeviceGetTemperatureV(card, nvml.NVML_TEMPERATURE_GPU)
    except nvml.NVMLError:
        degrees = nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)
    return degrees


_ENERGY: Final = _Figure(
    CounterMetricFamily,
    "energy_joules",
    "joules",
    "Energy that the card has used since its driver was loaded; it never goes back.",
    lambda nvml, card: nvml.nvmlDeviceGetTotalEnergyConsumption(card),  # in millijoules
    divisor=1000,
)
_FIGURES: Final = (
    _Figure(
        GaugeMetricFamily,
        "utilization_ratio",
        "ratio",
        "Share of the last sample period of the driver, up to 1 s, in which a kernel was running.",
        lambda nvml, card: nvml.nvmlDeviceGetUtilizationRates(card).gpu,  # in percent
        divisor=100,
    ),
    _Figure(
        GaugeMetricFamily,
        "memory_used_bytes",
        "bytes",
        "Memory of the card that is not free, with what the driver keeps for itself.",
        lambda nvml, card: nvml.nvmlDeviceGetMemoryInfo(card).used,
    ),
    _Figure(
        GaugeMetricFamily,
        "memory_total_bytes",
        "bytes",
        "Memory of the card.",
        lambda nvml, card: nvml.nvmlDeviceGetMemoryInfo(card).total,
    ),
    _Figure(
        GaugeMetricFamily,
        "temperature_celsius",
        "celsius",
        "Temperature of the GPU's chip.",
        _temperature,
    ),
    _Figure(
        GaugeMetricFamily,
        "power_watts",
        "watts",
        "Power that the card draws; on most products since Ampere the mean of 1 s.",
        lambda nvml, card: nvml.nvmlDeviceGetPowerUsage(card),  # in milliwatts
        divisor=1000,
    ),
    _ENERGY,
)


class Card(NamedTuple):
    """What was read of one card; `values` has the figures that NVML tells of it, by name."""

    gpu: str
    uuid: str
    name: str
    values: dict[str, float]


class _Reading(NamedTuple):
    began: float
    cards: tuple[Card, ...]


class NoCardsError(Exception):
    """There is nothing to read; the text says why."""


class _Meter:
    """Energy in millijoules of the card at one index; it never goes back.

    The driver counts from when it was loaded. A count below half of the last one began again at 0
    and is added whole; a smaller step back is an inexact reading and adds nothing. Of another card
    at the same index (cards may move up when one is lost) only what it uses from then on is added.
    """

    __slots__ = ("_last", "_total", "_uuid")

    def __init__(self, uuid: str, count: int) -> None:
        self._uuid = uuid
        self._last = self._total = count

    def add(self, uuid: str, count: int) -> int:
        """Take a count of the driver and give the total."""
        if uuid != self._uuid:
            self._uuid = uuid
        elif count < self._last / 2:
            self._total += count
        elif count > self._last:
            self._total += count - self._last
        else:
            return self._total
        self._last = count
        return self._total


class CardReader:
    """Reads all cards; belongs to one thread, because a call may hang.

    Handles are asked for anew each time: those of a card that was lost are not safe to use.
    """

    def __init__(self, nvml: ModuleType) -> None:
        """Raise NoCardsError if NVML does not start or shows no card."""
        self._nvml = nvml
        self._unreadable = (nvml.NVMLError, *_UNREADABLE)
        self._meters: dict[int, _Meter] = {}
        try:
            nvml.nvmlInit()
        except self._unreadable as error:
            raise NoCardsError(f"NVML: {error}") from error
        if not self._count():
            self.end()
            raise NoCardsError("NVML shows no card")

    def read(self) -> tuple[Card, ...]:
        """Every card that can be reached now, by index; never raises for one that cannot."""
        cards = map(self._card, range(self._count()))
        return tuple(card for card in cards if card is not None)

    def begin_anew(self) -> None:
        """Shut NVML down and start it, which it needs once all cards were lost."""
        self.end()
        self._ask(lambda nvml: nvml.nvmlInit())

    def end(self) -> None:
        """Shut NVML down."""
        self._ask(lambda nvml: nvml.nvmlShutdown())

    def _count(self) -> int:
        count: int = self._ask(lambda nvml: nvml.nvmlDeviceGetCount()) or 0
        return min(count, CARDS_LIMIT)

    def _card(self, index: int) -> Card | None:
        card = self._ask(lambda nvml, at: nvml.nvmlDeviceGetHandleByIndex(at), index)
        if card is None:
            return None
        uuid = self._ask(lambda nvml, card: nvml.nvmlDeviceGetUUID(card), card) or "unknown"
        name = self._ask(lambda nvml, card: nvml.nvmlDeviceGetName(card), card) or "unknown"
        values = {}
        for figure in _FIGURES:
            answer = self._ask(figure.query, card)
            if answer is not None:
                if figure is _ENERGY:
                    answer = self._total_energy(index, uuid, answer)
                values[figure.name] = answer / figure.divisor
        return Card(str(index), uuid, name, values)

    def _total_energy(self, index: int, uuid: str, count: int) -> int:
        if index not in self._meters:
            self._meters[index] = _Meter(uuid, count)
        return self._meters[index].add(uuid, count)

    def _ask(self, query: Callable[..., Any], *arguments: object) -> Any:
        """NVML's answer, or None where it has none."""
        try:
            return query(self._nvml, *arguments)
        except self._unreadable:
            return None


class GpuCollector(Collector):
    """Gives at most 7 series for each of at most 64 cards, and none until `start`.

    `interval_seconds` lies between the end of a reading and the beginning of the next one.
    A reading that is too old is not shown, so that a driver that hangs shows nothing.
    `clock` gives seconds that never go back.
    `is_resting` says whether the thread is between two readings, and not in the driver.
    """

    def __init__(
        self, interval_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._reading = _Reading(-math.inf, ())
        self._stopping = threading.Event()
        self.is_resting = False
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        """Begin to read; the thread ends by itself if there is nothing to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and shut NVML down; a thread that is in the driver is left behind."""
        was_resting = self.is_resting
        self._stopping.set()
        if was_resting:
            self._thread.join(SHUTDOWN_SECONDS)

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that a registry sees clashes without a reading."""
        for figure in _FIGURES:
            yield figure.metric()
        yield _info()

    def collect(self) -> Iterator[Metric]:
        """What was read last, without asking the driver."""
        reading = self._reading
        if self._clock() - reading.began > FRESH_INTERVALS * self._interval_seconds:
            return
        for figure in _FIGURES:
            told = [card for card in reading.cards if figure.name in card.values]
            if told:
                yield figure.metric(*((card.gpu, card.values[figure.name]) for card in told))
        if reading.cards:
            yield _info(*reading.cards)

    def _run(self) -> None:
        try:
            self._read_until_stopped(CardReader(_library()))
        except NoCardsError as error:
            logger.debug("no figures of GPUs: %s", error)
        except Exception:
            logger.exception("the figures of GPUs end by a bug of llmstatsd")

    def _read_until_stopped(self, reader: CardReader) -> None:
        while not self._stopping.is_set():
            began = self._clock()
            self._reading = _Reading(began, reader.read())
            if not self._reading.cards:
                reader.begin_anew()
            self.is_resting = True
            self._stopping.wait(self._interval_seconds)
            self.is_resting = False
        reader.end()


def _info(*cards: Card) -> Metric:
    about = ("gpu", "uuid", "name")
    metric = InfoMetricFamily("llmstatsd_gpu", "Which card it is, to join on gpu.", labels=about)
    for card in cards:
        metric.add_metric((card.gpu, card.uuid, card.name), {})
    return metric


def _library() -> ModuleType:
    """Loads what only a machine with cards needs."""
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise NoCardsError(f"nvidia-ml-py: {error}") from error
