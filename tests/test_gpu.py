"""The figures of GPUs: what NVML says, in series, and what happens where it says nothing.

No machine that runs these tests needs a GPU: `fake_gpu/pynvml.py` stands for the library.
"""

import importlib
import importlib.util
import inspect
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from llmstatsd import gpu
from llmstatsd.gpu import CARDS_LIMIT, CardReader, GpuCollector
from tests.conftest import RunningDaemon, StartDaemon, wait_for

FAKE = Path(__file__).parent / "fake_gpu"
HOW_TO = Path(__file__).parents[1] / "docs" / "how-to" / "watch-gpus.md"

NAMES = {
    "llmstatsd_gpu_utilization_ratio",
    "llmstatsd_gpu_memory_used_bytes",
    "llmstatsd_gpu_memory_total_bytes",
    "llmstatsd_gpu_temperature_celsius",
    "llmstatsd_gpu_power_watts",
    "llmstatsd_gpu_energy_joules_total",
    "llmstatsd_gpu_info",
}

QUERIES = {
    "nvmlDeviceGetUtilizationRates": {"utilization_ratio"},
    "nvmlDeviceGetMemoryInfo": {"memory_used_bytes", "memory_total_bytes"},
    "nvmlDeviceGetPowerUsage": {"power_watts"},
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_joules"},
}
"""What is missing of a card for which this function fails."""

NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15

ALL_DAY = 86_400.0
"""An interval that no test outlives: one reading."""

Start = Callable[..., GpuCollector]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in, fresh, as the module that is imported by the name of the library."""
    spec = importlib.util.spec_from_file_location("pynvml", FAKE / "pynvml.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts collectors whose clock stands still unless told; each is stopped with the test."""
    started: list[GpuCollector] = []

    def start(
        interval_seconds: float = ALL_DAY, clock: Callable[[], float] = lambda: 0.0
    ) -> GpuCollector:
        started.append(GpuCollector(interval_seconds, clock))
        started[-1].start()
        return started[-1]

    yield start
    for collector in started:
        collector.stop()
    wait_for("the end of every thread", no_thread)


def no_thread() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "gpu"]


def values(collector: GpuCollector) -> dict[tuple[str, str], float]:
    """Values by the name of the sample and the index of the card."""
    return {
        (sample.name, sample.labels["gpu"]): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def shown(collector: GpuCollector) -> dict[tuple[str, str], float]:
    return wait_for("figures of GPUs", lambda: values(collector))


def gpus(collector: GpuCollector) -> set[str]:
    return {gpu for _, gpu in values(collector)}


def failing(nvml: ModuleType, code: int, at: int | None = None) -> Callable[..., Any]:
    """A function of the library that fails, for one card or for all."""

    def fail(handle: object = None, *_: object) -> None:
        if at is None or handle == nvml.CARDS[at]:
            raise nvml.NVMLError(code)

    return fail


# The library itself


@pytest.fixture
def real_library() -> ModuleType:
    """NVIDIA's own."""
    return importlib.import_module("pynvml")


def test_every_name_that_is_used_is_one_of_the_library(real_library: ModuleType) -> None:
    used = set(re.findall(r"\bnvml\.(\w+)", inspect.getsource(gpu)))
    assert len(used) > 10
    assert used <= set(dir(real_library))


def test_the_stand_in_is_called_as_the_library_is(
    real_library: ModuleType, nvml: ModuleType
) -> None:
    for name, value in vars(nvml).items():
        real = getattr(real_library, name, None)
        if name.startswith("NVML_"):
            assert value == real, name
        elif name.startswith("nvml"):
            assert real is not None, name
            taken = list(inspect.signature(real).parameters)
            assert len(inspect.signature(value).parameters) == len(taken), name
    error = real_library.NVMLError(GPU_IS_LOST)
    theirs, ours = (error.value, str(error)), nvml.NVMLError(GPU_IS_LOST)
    assert theirs == (ours.value, str(ours))


def test_the_library_without_a_driver_gives_no_series_and_one_debug_line(
    real_library: ModuleType,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_driver(_: str) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(real_library, "CDLL", no_driver)
    assert nothing_but_a_line(start, caplog) == "NVML: NVML Shared Library Not Found"


# Units


def test_figures_are_told_in_base_units(nvml: ModuleType, start: Start) -> None:
    found = shown(start())
    assert {name for name, _ in found} == NAMES
    first, second = (
        {name.removeprefix("llmstatsd_gpu_"): found[name, gpu] for name in NAMES} for gpu in "01"
    )
    assert 5_000_000 <= first.pop("energy_joules_total") < 6_000_000
    assert 750 <= second.pop("energy_joules_total") < 10_000
    assert first == {
        "utilization_ratio": 0.87,
        "memory_used_bytes": 64 * 2**30,
        "memory_total_bytes": 80 * 2**30,
        "temperature_celsius": 61,
        "power_watts": 612.5,
        "info": 1,
    }
    assert second == {
        "utilization_ratio": 0,
        "memory_used_bytes": 2**29,
        "memory_total_bytes": 24 * 2**30,
        "temperature_celsius": 34,
        "power_watts": 16.25,
        "info": 1,
    }


def test_the_info_names_the_card_of_each_index(nvml: ModuleType, start: Start) -> None:
    collector = start()
    shown(collector)
    *_, info = collector.collect()
    assert (info.name, info.type) == ("llmstatsd_gpu", "info")
    assert [sample.labels for sample in info.samples] == [
        {"gpu": str(index), "uuid": card.uuid, "name": card.name}
        for index, card in enumerate(nvml.CARDS)
    ]


def test_description_and_figures_name_the_same_families(nvml: ModuleType, start: Start) -> None:
    collector = start()
    shown(collector)
    described, collected = (
        [(metric.name, metric.type, metric.unit) for metric in metrics]
        for metrics in (collector.describe(), collector.collect())
    )
    assert described == collected


def test_a_registry_refuses_a_second_collector_of_the_same_names() -> None:
    registry = CollectorRegistry()
    registry.register(GpuCollector(ALL_DAY))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(GpuCollector(ALL_DAY))


# Cards that do not tell everything


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, 999])
@pytest.mark.parametrize("query", QUERIES)
def test_a_figure_that_a_card_does_not_have_is_left_out_alone(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch, query: str, code: int
) -> None:
    with_all, without = (set(card.values) for card in CardReader(nvml).read())
    assert with_all == without
    working, fails = getattr(nvml, query), failing(nvml, code, at=1)
    monkeypatch.setattr(nvml, query, lambda card: fails(card) or working(card))
    first, second = CardReader(nvml).read()
    assert set(first.values) == with_all
    assert set(second.values) == with_all - QUERIES[query]


def test_a_figure_that_no_card_has_is_no_family(
    nvml: ModuleType, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "nvmlDeviceGetPowerUsage", failing(nvml, NOT_SUPPORTED))
    collector = start()
    shown(collector)
    assert "llmstatsd_gpu_power_watts" not in {metric.name for metric in collector.collect()}


def test_a_function_that_this_version_of_the_library_lacks_leaves_out_its_figure(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(nvml, "nvmlDeviceGetPowerUsage")
    assert [set(card.values) & {"power_watts"} for card in CardReader(nvml).read()] == [
        set(),
        set(),
    ]


@pytest.mark.parametrize("code", [FUNCTION_NOT_FOUND, NOT_SUPPORTED])
def test_an_older_driver_tells_the_temperature_by_the_older_function(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(nvml, "nvmlDeviceGetTemperatureV", failing(nvml, code))
    monkeypatch.setattr(nvml, "nvmlDeviceGetTemperature", lambda _card, sensor: 50 + sensor)
    assert [card.values["temperature_celsius"] for card in CardReader(nvml).read()] == [50, 50]


def test_a_newer_library_needs_no_older_function_for_the_temperature(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(nvml, "nvmlDeviceGetTemperature")
    assert [card.values["temperature_celsius"] for card in CardReader(nvml).read()] == [61, 34]
    monkeypatch.setattr(nvml, "nvmlDeviceGetTemperatureV", failing(nvml, NOT_SUPPORTED))
    assert ["temperature_celsius" in card.values for card in CardReader(nvml).read()] == [False] * 2


def test_a_name_that_cannot_be_read_is_unknown(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "nvmlDeviceGetName", lambda _: b"\xff".decode())
    monkeypatch.setattr(nvml, "nvmlDeviceGetUUID", failing(nvml, NOT_SUPPORTED))
    names = [(card.gpu, card.uuid, card.name) for card in CardReader(nvml).read()]
    assert names == [("0", "unknown", "unknown"), ("1", "unknown", "unknown")]


def test_a_card_that_is_lost_leaves_alone_and_keeps_no_other_from_its_index(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(index: int) -> object:
        if index == 0:
            raise nvml.NVMLError(GPU_IS_LOST)
        return nvml.CARDS[index]

    reader = CardReader(nvml)
    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByIndex", handle)
    assert [(card.gpu, card.name) for card in reader.read()] == [("1", "NVIDIA L4")]


def test_a_card_that_is_taken_out_leaves(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = CardReader(nvml)
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: 1)
    assert [card.gpu for card in reader.read()] == ["0"]


def test_no_more_cards_are_read_than_the_limit(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, read in [(CARDS_LIMIT, CARDS_LIMIT), (1_000_000, CARDS_LIMIT)]:
        monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda count=count: count)
        monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByIndex", lambda _: nvml.CARDS[0])
        assert len(CardReader(nvml).read()) == read


def test_cards_that_were_all_lost_come_back_once_nvml_is_begun_anew(
    nvml: ModuleType, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun, may_begin = nvml.nvmlInit, threading.Event(), threading.Event()

    def begin_if_allowed() -> None:
        begun.set()
        if not may_begin.is_set():
            raise nvml.NVMLError(DRIVER_NOT_LOADED)
        begin()

    collector = start(interval_seconds=0.001)
    assert shown(collector)
    monkeypatch.setattr(nvml, "nvmlInit", begin_if_allowed)
    nvml.nvmlShutdown()
    wait_for("a try to begin anew", begun.is_set)
    wait_for("no figures", lambda: not values(collector))
    may_begin.set()
    assert shown(collector)


# Energy


def energies(
    monkeypatch: pytest.MonkeyPatch, nvml: ModuleType, *readings: tuple[str, int]
) -> list[float]:
    """Joules that one reader shows for the only card, whose UUID and millijoules these are."""
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: 1)
    reader, shown = CardReader(nvml), []
    for uuid, millijoules in readings:
        monkeypatch.setattr(nvml, "nvmlDeviceGetUUID", lambda _, uuid=uuid: uuid)
        monkeypatch.setattr(
            nvml, "nvmlDeviceGetTotalEnergyConsumption", lambda _, count=millijoules: count
        )
        shown.append(reader.read()[0].values["energy_joules"])
    return shown


@pytest.mark.parametrize(
    ("readings", "joules"),
    [
        ([("a", 9000), ("a", 9500), ("a", 9500)], [9, 9.5, 9.5]),
        ([("a", 0), ("a", 1)], [0, 0.001]),
        ([("a", 9000), ("a", 100), ("a", 300)], [9, 9.1, 9.3]),
        ([("a", 9000), ("a", 4499)], [9, 13.499]),
        ([("a", 9000), ("a", 4500), ("a", 9100)], [9, 9, 9.1]),
        ([("a", 9000), ("a", 8999), ("a", 9001)], [9, 9, 9.001]),
        ([("a", 9000), ("b", 700_000), ("b", 700_500)], [9, 9, 9.5]),
        ([("a", 9000), ("b", 10), ("b", 30), ("a", 9100)], [9, 9, 9.02, 9.02]),
    ],
    ids=[
        "grows",
        "from 0",
        "driver loaded again",
        "just under half",
        "half is inexact",
        "a little back",
        "another card with more",
        "another card with less",
    ],
)
def test_energy_never_goes_back(
    monkeypatch: pytest.MonkeyPatch,
    nvml: ModuleType,
    readings: list[tuple[str, int]],
    joules: list[float],
) -> None:
    assert energies(monkeypatch, nvml, *readings) == joules


# Nothing to read


def nothing_but_a_line(start: Start, caplog: pytest.LogCaptureFixture) -> str:
    """Start where there is nothing to read, and give the end of the only line of the log."""
    with caplog.at_level(logging.DEBUG):
        collector = start()
        wait_for("the end of the thread", no_thread)
    assert values(collector) == {}
    ((logger, level, line),) = caplog.record_tuples
    assert (logger, level) == ("llmstatsd", logging.DEBUG)
    return line.removeprefix("no figures of GPUs: ")


def test_without_the_library_there_are_no_series_and_one_debug_line(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nothing_but_a_line(start, caplog).startswith("nvidia-ml-py: import of pynvml")


def test_a_driver_that_is_not_loaded_gives_no_series_and_one_debug_line(
    nvml: ModuleType,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nvml, "nvmlInit", failing(nvml, nvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    assert nothing_but_a_line(start, caplog) == "NVML: NVML Shared Library Not Found"


@pytest.mark.parametrize("code", [None, GPU_IS_LOST], ids=["none", "cannot be counted"])
def test_a_driver_without_cards_gives_no_series_and_one_debug_line_and_is_shut_down(
    nvml: ModuleType,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    code: int | None,
) -> None:
    count = failing(nvml, code) if code else lambda: 0
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", count)
    assert nothing_but_a_line(start, caplog) == "NVML shows no card"
    assert not is_begun(nvml)


def is_begun(nvml: ModuleType) -> bool:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return False
    return True


def test_nothing_is_imported_or_shown_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    collector = GpuCollector(ALL_DAY)
    assert values(collector) == {}
    collector.stop()
    assert "pynvml" not in sys.modules


def test_a_bug_ends_the_figures_and_is_logged_once_with_its_traceback(
    nvml: ModuleType,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bug(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(nvml, "nvmlDeviceGetPowerUsage", bug)
    collector = start()
    wait_for("the end of the thread", no_thread)
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError
    assert values(collector) == {}


# The thread


class Clock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_reading_is_shown_for_three_intervals_and_no_longer(
    nvml: ModuleType, start: Start
) -> None:
    clock = Clock()
    collector = start(ALL_DAY, clock)
    shown(collector)
    clock.seconds += 3 * ALL_DAY
    assert gpus(collector) == {"0", "1"}
    clock.seconds += 0.001
    assert values(collector) == {}


class HangingDriver:
    """A query that does not return while the driver hangs."""

    def __init__(self, nvml: ModuleType) -> None:
        self._query = nvml.nvmlDeviceGetPowerUsage
        self.hangs = False
        self.is_inside = threading.Event()
        self.release = threading.Event()

    def __call__(self, card: object) -> int:
        if self.hangs:
            self.is_inside.set()
            self.release.wait()
        milliwatts: int = self._query(card)
        return milliwatts


@pytest.fixture
def driver(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDriver]:
    """A driver that hangs when told, until the end of the test."""
    driver = HangingDriver(nvml)
    monkeypatch.setattr(nvml, "nvmlDeviceGetPowerUsage", driver)
    yield driver
    driver.release.set()
    wait_for("the end of every thread", no_thread)


def test_a_driver_that_hangs_takes_the_series_off_the_page_and_gives_them_back(
    driver: HangingDriver, start: Start
) -> None:
    clock = Clock()
    collector = start(0.001, clock)
    shown(collector)
    driver.hangs = True
    assert driver.is_inside.wait(30)
    assert not collector.is_resting
    assert gpus(collector) == {"0", "1"}
    clock.seconds += 60
    assert values(collector) == {}
    driver.hangs = False
    driver.release.set()
    assert shown(collector)


def test_what_was_read_while_the_driver_hung_is_as_old_as_its_beginning(
    driver: HangingDriver, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    driver.hangs = True
    collector = start(ALL_DAY, clock)
    assert driver.is_inside.wait(30)
    clock.seconds += 4 * ALL_DAY
    driver.release.set()
    wait_for("the end of the reading", lambda: collector.is_resting)
    assert values(collector) == {}


def test_a_stop_does_not_wait_for_a_driver_that_hangs(
    driver: HangingDriver, nvml: ModuleType, start: Start
) -> None:
    driver.hangs = True
    collector = start()
    assert driver.is_inside.wait(30)
    collector.stop()
    assert not no_thread()
    driver.release.set()
    wait_for("the end of the thread", no_thread)
    assert not is_begun(nvml)


def test_a_stop_shuts_nvml_down_and_ends_a_thread_that_rests(
    nvml: ModuleType, start: Start
) -> None:
    collector = start()
    wait_for("the rest after a reading", lambda: collector.is_resting)
    collector.stop()
    assert no_thread()
    assert not is_begun(nvml)


# A running daemon


@pytest.fixture
def daemon_with_gpus(start_daemon: StartDaemon) -> RunningDaemon:
    """A daemon that finds the stand-in in place of the library, once it shows figures."""
    daemon = start_daemon(env={"PYTHONPATH": str(FAKE)})
    wait_for("figures of GPUs", lambda: "llmstatsd_gpu_info" in daemon.scrape())
    return daemon


def test_both_formats_of_a_scrape_show_every_series_of_every_card(
    daemon_with_gpus: RunningDaemon,
) -> None:
    text = parse_text(daemon_with_gpus.scrape())
    openmetrics = parse_openmetrics(  # type: ignore[no-untyped-call]
        daemon_with_gpus.scrape("application/openmetrics-text; version=1.0.0")
    )
    for families in (text, openmetrics):
        found = {
            (sample.name, sample.labels["gpu"])
            for family in families
            for sample in family.samples
            if family.name.startswith("llmstatsd_gpu")
        }
        assert found == {(name, gpu) for name in NAMES for gpu in "01"}


def test_the_page_on_gpus_shows_what_a_scrape_does(daemon_with_gpus: RunningDaemon) -> None:
    (block,) = re.findall(r"(?s)```\n(llmstatsd_gpu_.*?)```", HOW_TO.read_text())
    assert {line.partition("{")[0] for line in block.splitlines()} == NAMES
    page = daemon_with_gpus.scrape().splitlines()
    assert [line for line in block.splitlines() if line not in page and "energy" not in line] == []


def test_promtool_finds_nothing_to_complain_about_on_a_page_with_gpus(
    daemon_with_gpus: RunningDaemon, promtool: str
) -> None:
    page = daemon_with_gpus.scrape()
    ours = "".join(line for line in page.splitlines(keepends=True) if "llmstatsd_gpu" in line)
    check = subprocess.run(
        [promtool, "check", "metrics"], input=ours.encode(), capture_output=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


def with_module(folder: Path, source: str) -> dict[str, str]:
    """Environment in which the library is this source."""
    folder.mkdir()
    (folder / "pynvml.py").write_text(source)
    return {"PYTHONPATH": str(folder)}


SAYS_THAT_IT_ENDS = """
import sys
from pathlib import Path

exec(Path({fake!r}).read_text())
_shutdown = nvmlShutdown


def nvmlShutdown():
    _shutdown()
    print("NVML is shut down", file=sys.stderr)
"""


def test_a_daemon_shuts_nvml_down_at_a_clean_stop(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    source = SAYS_THAT_IT_ENDS.format(fake=str(FAKE / "pynvml.py"))
    daemon = start_daemon(env=with_module(tmp_path / "library", source))
    wait_for("figures of GPUs", lambda: "llmstatsd_gpu_info" in daemon.scrape())
    assert daemon.end() == 0
    log = daemon.log.read_text()
    assert "NVML is shut down" in log
    assert "Traceback" not in log


def test_a_daemon_reads_the_figures_at_the_configured_interval(start_daemon: StartDaemon) -> None:
    env = {"PYTHONPATH": str(FAKE), "LLMSTATSD_GPU_INTERVAL_SECONDS": "1"}
    daemon = start_daemon(env=env)

    def energy() -> float | None:
        return daemon.value("llmstatsd_gpu_energy_joules_total", gpu="0")

    first = wait_for("energy", energy)
    wait_for("more energy", lambda: (energy() or 0) > first)


def test_a_daemon_that_is_told_so_does_not_even_import_the_library(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    env = with_module(tmp_path / "library", f"open({str(seen)!r}, 'w').close()\nraise ImportError")
    asked = start_daemon(env=env)
    wait_for("the import", seen.exists)
    asked.end()
    seen.unlink()
    daemon = start_daemon("--gpu-enabled", "false", env=env)
    assert "llmstatsd_gpu" not in daemon.scrape()
    assert daemon.end() == 0
    assert not seen.exists()


def test_without_the_library_a_daemon_says_so_once_and_at_debug_only(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    env = with_module(tmp_path / "library", "raise ModuleNotFoundError('not there')")
    daemon = start_daemon("--log-level", "debug", env=env)
    line = "DEBUG no figures of GPUs: nvidia-ml-py: not there"
    wait_for("the line", lambda: line in daemon.log.read_text())
    assert "llmstatsd_gpu" not in daemon.scrape()
    assert daemon.end() == 0
    assert daemon.log.read_text().count("GPU") == 1
    quiet = start_daemon(env=env)
    assert quiet.end() == 0
    assert "GPU" not in quiet.log.read_text()


HANGS_AS_A_DRIVER_DOES = """
import ctypes


class NVMLError(Exception):
    pass


def nvmlInit():
    print("in the driver", flush=True, file=__import__("sys").stderr)
    ctypes.CDLL(None).sleep(3600)
"""


def test_a_daemon_scrapes_and_stops_while_the_driver_hangs(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(env=with_module(tmp_path / "library", HANGS_AS_A_DRIVER_DOES))
    wait_for("the call", lambda: "in the driver" in daemon.log.read_text())
    assert "llmstatsd_gpu" not in daemon.scrape()
    assert daemon.end() == 0
