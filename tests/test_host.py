"""The host's figures: their names, and what happens to those that cannot be read."""

import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from llmstatsd.host import CPU_MODES, HostCollector

NAMES = {
    "llmstatsd_host_cpu_seconds_total",
    "llmstatsd_host_memory_total_bytes",
    "llmstatsd_host_memory_available_bytes",
    "llmstatsd_host_load1",
    "llmstatsd_host_load5",
    "llmstatsd_host_load15",
    "llmstatsd_host_disk_total_bytes",
    "llmstatsd_host_disk_free_bytes",
    "llmstatsd_host_network_receive_bytes_total",
    "llmstatsd_host_network_transmit_bytes_total",
    "llmstatsd_host_boot_time_seconds",
}

SOURCES = {
    "cpu_times": {"llmstatsd_host_cpu_seconds_total"},
    "virtual_memory": {name for name in NAMES if "_memory_" in name},
    "getloadavg": {name for name in NAMES if "_load" in name},
    "disk_usage": {name for name in NAMES if "_disk_" in name},
    "net_io_counters": {name for name in NAMES if "_network_" in name},
    "boot_time": {"llmstatsd_host_boot_time_seconds"},
}

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems give fewer figures")


def values(collector: HostCollector) -> dict[str, float]:
    """Values by sample name, with the mode after a blank."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def names(collector: HostCollector) -> set[str]:
    return {name.split()[0] for name in values(collector)}


@on_linux
def test_every_figure_is_there_in_under_25_series(tmp_path: Path) -> None:
    collector = HostCollector(str(tmp_path))
    assert names(collector) == NAMES
    assert len(values(collector)) < 25


@on_linux
def test_cpu_time_is_told_by_mode() -> None:
    modes = {name.split()[1] for name in values(HostCollector("/")) if "cpu_seconds" in name}
    assert modes == set(CPU_MODES)


def test_description_and_figures_name_the_same_families() -> None:
    collector = HostCollector("/")
    described = {(metric.name, metric.type, metric.unit) for metric in collector.describe()}
    assert {(m.name, m.type, m.unit) for m in collector.collect()} <= described
    assert {f"{name}{'_total' * (kind == 'counter')}" for name, kind, _ in described} == NAMES


def test_a_registry_refuses_a_second_collector_of_the_same_names() -> None:
    registry = CollectorRegistry()
    registry.register(HostCollector("/"))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(HostCollector("/"))


def test_both_parsers_read_what_the_collector_gives() -> None:
    registry = CollectorRegistry()
    registry.register(HostCollector("/"))
    text = list(parse_text(generate_latest(registry).decode()))
    given = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    openmetrics = list(parse_openmetrics(given))  # type: ignore[no-untyped-call]
    assert len(text) == len(openmetrics) == len(list(HostCollector("/").collect()))
    assert [family.name for family in text] == [family.name for family in openmetrics]


def test_promtool_finds_nothing_to_complain_about(promtool: str) -> None:
    registry = CollectorRegistry()
    registry.register(HostCollector("/"))
    check = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


@on_linux
@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("/proc/stat"),
        PermissionError(),
        psutil.AccessDenied(),
        NotImplementedError(),
        RuntimeError("line not found"),
        KeyError("MemTotal"),
        ValueError("could not parse"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("source", SOURCES)
def test_what_cannot_be_read_is_left_out_alone(
    monkeypatch: pytest.MonkeyPatch, source: str, error: Exception
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(psutil, source, unreadable)
    assert names(HostCollector("/")) == NAMES - SOURCES[source]


@on_linux
def test_a_disk_path_that_is_gone_comes_back_when_it_does(tmp_path: Path) -> None:
    path = tmp_path / "mount"
    collector = HostCollector(str(path))
    assert names(collector) == NAMES - SOURCES["disk_usage"]
    path.mkdir()
    assert names(collector) == NAMES


def test_modes_that_a_system_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", ["user", "nice", "system", "idle"])
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(1.0, 2.0, 3.0, 4.0))
    found = {name for name in values(HostCollector("/")) if "cpu_seconds" in name}
    assert {name.split()[1] for name in found} == {"user", "nice", "system", "idle"}


def test_cpu_time_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", ["idle", "iowait"])
    readings = iter([times(10.0, 5.0), times(9.5, 4.0), times(11.0, 6.0)])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    collector = HostCollector("/")
    seen = [values(collector)["llmstatsd_host_cpu_seconds_total iowait"] for _ in range(3)]
    assert seen == [5.0, 5.0, 6.0]


Traffic = Callable[[dict[str, tuple[int, int]]], tuple[float, float]]


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Received and sent bytes that one collector shows for interfaces with these counters."""
    collector = HostCollector("/")

    def read(interfaces: dict[str, tuple[int, int]]) -> tuple[float, float]:
        counters = {
            name: SimpleNamespace(bytes_recv=received, bytes_sent=sent)
            for name, (received, sent) in interfaces.items()
        }
        monkeypatch.setattr(psutil, "net_io_counters", lambda **_: counters)
        found = values(collector)
        return (
            found["llmstatsd_host_network_receive_bytes_total"],
            found["llmstatsd_host_network_transmit_bytes_total"],
        )

    return read


def test_network_bytes_are_summed_without_loopback(traffic: Traffic) -> None:
    assert traffic({"lo": (900, 900), "eth0": (10, 1), "eth1": (20, 2)}) == (30, 3)


def test_a_machine_without_interfaces_has_no_traffic(traffic: Traffic) -> None:
    assert traffic({}) == (0, 0)


def test_an_interface_that_leaves_takes_nothing_away(traffic: Traffic) -> None:
    traffic({"eth0": (10, 10), "veth1": (1000, 1000)})
    assert traffic({"eth0": (15, 15)}) == (1015, 1015)


def test_an_interface_that_comes_back_starts_again_at_0(traffic: Traffic) -> None:
    traffic({"veth1": (1000, 1000)})
    traffic({})
    assert traffic({"veth1": (5, 5)}) == (1005, 1005)


def test_a_counter_that_is_reset_loses_nothing(traffic: Traffic) -> None:
    traffic({"eth0": (1000, 500)})
    assert traffic({"eth0": (7, 600)}) == (1007, 600)
