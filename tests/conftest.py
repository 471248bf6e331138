"""A real daemon as a subprocess, on loopback and free ports, ended by its own process."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import httpx
import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from tests import twins
from tests.tools import tool

DEADLINE_SECONDS: Final = 30.0
"""Longest that anything here may take on a slow, shared core."""

POLL_SECONDS: Final = 0.02

_READY: Final = re.compile(r"ready: .*statsd_udp=(\S+):(\d+) http=(\S+)")

T = TypeVar("T")

# What is ignored here the daemons would ignore too: under nohup, or in the background of a script.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test runs on the loop that the daemon runs on."""
    return {"uvloop": uvloop.new_event_loop}


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """The first result of `look` that is true, polled until the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE_SECONDS} s: {what}")
        time.sleep(POLL_SECONDS)


class RunningDaemon:
    """`llmstatsd serve` in a process of its own; `log` is the file its stderr goes to."""

    def __init__(self, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.log = folder / "stderr.log"
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "llmstatsd", "serve", *arguments],
                stderr=stderr,
                env={**os.environ, **(env or {})},
            )
        ready = wait_for("the ready line", self._ready_line)
        self.udp = (ready[1].strip("[]"), int(ready[2]))
        self.url = f"http://{ready[3]}"
        family = socket.AF_INET6 if ":" in self.udp[0] else socket.AF_INET
        self.sender = socket.socket(family, socket.SOCK_DGRAM)
        self.sender.connect(self.udp)

    def _ready_line(self) -> re.Match[str] | None:
        if self.process.poll() is not None:
            pytest.fail(f"the daemon ended with {self.process.returncode}: {self.log.read_text()}")
        return _READY.search(self.log.read_text())

    @property
    def tcp(self) -> tuple[str, int]:
        """Where it takes lines over TCP, if it was told to."""
        found = re.search(r"statsd_tcp=(\S+):(\d+)", self.log.read_text())
        assert found
        return found[1], int(found[2])

    def send(self, *datagrams: bytes) -> None:
        """Send datagrams over UDP."""
        for datagram in datagrams:
            self.sender.send(datagram)

    def scrape(self, accept: str = "") -> str:
        """The body of `/metrics`."""
        answer = httpx.get(
            f"{self.url}/metrics", headers={"accept": accept}, timeout=DEADLINE_SECONDS
        )
        answer.raise_for_status()
        return answer.text

    def value(self, name: str, **labels: str) -> float | None:
        """One sample's value as prometheus_client parses the scrape, or None."""
        for family in text_string_to_metric_families(self.scrape()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def wait_for_value(self, expected: float, name: str, **labels: str) -> None:
        """Poll until a sample has a value."""
        wait_for(
            f"{name}{labels} = {expected}", lambda: self.value(name, **labels) == expected or None
        )

    def wait_for_datagrams(self, count: int) -> None:
        """Poll until so many datagrams have been taken in."""
        self.wait_for_value(count, "llmstatsd_datagrams_total")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End the process, however the test went."""
        self.sender.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_SECONDS)


StartDaemon = Callable[..., RunningDaemon]


@pytest.fixture(scope="module", params=twins.BOTH)
def each_lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whatever daemon a module starts runs the portable lane, and once more the compiled one."""
    lane: str = request.param
    twins.twin(lane)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMSTATSD_STATSD_LANE", lane)
        yield lane


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Starts daemons with further arguments; each is ended with the test."""
    started: list[RunningDaemon] = []

    def start(
        *arguments: str, udp: str = "127.0.0.1:0", env: dict[str, str] | None = None
    ) -> RunningDaemon:
        folder = tmp_path / f"daemon{len(started)}"
        folder.mkdir()
        addresses = ("--statsd-udp", udp, "--http", "127.0.0.1:0")
        started.append(RunningDaemon(folder, *addresses, *arguments, env=env))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> RunningDaemon:
    """A daemon on its defaults but for the addresses."""
    return start_daemon()


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of Prometheus' own checker."""
    return tool("promtool", "prometheus")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The path of the Prometheus server."""
    return tool("prometheus", "prometheus")


@pytest.fixture(scope="session")
def alertmanager() -> str:
    """The path of the Alertmanager server."""
    return tool("prometheus-alertmanager", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def amtool() -> str:
    """The path of Alertmanager's own checker."""
    return tool("amtool", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def victoria_metrics() -> str:
    """The path of VictoriaMetrics, which stores what a Prometheus sends on."""
    return tool("victoria-metrics", "victoria-metrics")
