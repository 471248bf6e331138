"""The kit as a user gets it, and servers that run copies of it."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.conftest import RunningDaemon
from tests.kit import copies, traffic
from tests.servers import Alertmanager, Prometheus, Server, VictoriaMetrics

FAKE_GPU: Final = Path(__file__).parents[1] / "fake_gpu"

DATAGRAMS_AT_ONCE: Final = 100
"""So many wait in the smallest receive buffer that a kernel grants by default."""

Started = TypeVar("Started", RunningDaemon, Prometheus, Alertmanager, VictoriaMetrics)


class Site:
    """Daemons and servers that end together, the last one first; `kit` is a copy of their own.

    `program` gives the path of a server, or skips the test that needs it.
    """

    def __init__(self, kit: Path, folder: Path, program: Callable[[str], str]) -> None:
        self.kit = folder / "kit"
        shutil.copytree(kit, self.kit)
        self._folders = (folder / str(number) for number in count())
        self._program = program
        self._stack = ExitStack()
        self._servers: list[Server] = []

    def _keep(self, started: Started) -> Started:
        self._stack.enter_context(closing(started))
        if isinstance(started, Server):
            self._servers.append(started)
        return started

    def _folder(self) -> Path:
        folder = next(self._folders)
        folder.mkdir()
        return folder

    def start_daemon(self) -> RunningDaemon:
        """A daemon with two GPUs, in which every label set of the traffic exists at 0."""
        folder = self._folder()
        config = folder / "llmstatsd.toml"
        config.write_text(traffic.CONFIG)
        addresses = ("--statsd-udp", "127.0.0.1:0", "--http", "127.0.0.1:0")
        env = {"PYTHONPATH": str(FAKE_GPU)}
        daemon = self._keep(RunningDaemon(folder, "--config", str(config), *addresses, env=env))
        send(daemon, traffic.BEGINNING)
        return daemon

    def start_alertmanager(self) -> Alertmanager:
        """An Alertmanager with the kit's configuration as it is."""
        config = self.kit / "alertmanager" / "alertmanager.yml"
        return self._keep(Alertmanager(self._program("alertmanager"), config, self._folder()))

    def start_victoria_metrics(self) -> VictoriaMetrics:
        """An empty VictoriaMetrics."""
        return self._keep(VictoriaMetrics(self._program("victoria_metrics"), self._folder()))

    def start_prometheus(
        self, config: str, addresses: Mapping[str, str | list[str]], targets: int
    ) -> Prometheus:
        """A Prometheus with a configuration of the kit, once so many targets are up."""
        copies.shorten(self.kit, addresses)
        prometheus = self._keep(
            Prometheus(
                self._program("prometheus"), self.kit / "prometheus" / config, self._folder()
            )
        )
        prometheus.wait_for_targets(targets)
        return prometheus

    def close(self) -> list[str]:
        """End everything, and give what the servers had to complain about before."""
        complaints = [line for server in self._servers for line in server.complaints()]
        self._stack.close()
        return complaints


def send(daemon: RunningDaemon, datagrams: Iterable[bytes]) -> None:
    """Send a load no faster than the daemon takes it, so that none of it is lost."""
    sent = daemon.value("llmstatsd_datagrams_total") or 0
    waiting = list(datagrams)
    while waiting:
        now, waiting = waiting[:DATAGRAMS_AT_ONCE], waiting[DATAGRAMS_AT_ONCE:]
        daemon.send(*now)
        sent += len(now)
        daemon.wait_for_datagrams(int(sent))


def address(daemon: RunningDaemon) -> str:
    """HOST:PORT that is scraped; it is the instance of the daemon's series."""
    return daemon.url.removeprefix("http://")


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `llmstatsd kit` writes; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("kit")
    copies.write_kit(folder)
    return folder


@pytest.fixture(scope="module")
def site(
    kit: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Site]:
    """The servers of a module; a warning or an error in the log of one of them fails it."""
    started = Site(kit, tmp_path_factory.mktemp("site"), request.getfixturevalue)
    try:
        yield started
    finally:
        complaints = started.close()
    assert complaints == []
