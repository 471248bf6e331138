"""Real servers on loopback and free ports; each keeps to its folder and ends by its process."""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import psutil
import pytest

from tests.conftest import DEADLINE_SECONDS, wait_for

_BAD_LINE: Final = re.compile(r"level=(?:warn|error)|\t(?:warn|error|fatal|panic)\t")


class Server:
    """A process that serves HTTP; `address` is HOST:PORT, `log` the file for all that it says."""

    def __init__(self, folder: Path, ready_path: str, *command: str) -> None:
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            self.address = wait_for(f"{command[0]} listens", self._listening)
            self.url = f"http://{self.address}"
            self._client = httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS)
            wait_for(f"{command[0]} is ready", lambda: self._is_ready(ready_path))
        except BaseException:
            self._end()
            raise

    def _listening(self) -> str | None:
        """Where the process takes connections, which has to be one place, on loopback."""
        if self._process.poll() is not None:
            pytest.fail(f"a server ended with {self._process.returncode}: {self.log.read_text()}")
        connections = psutil.Process(self._process.pid).net_connections("inet")
        places = [connection.laddr for connection in connections if connection.status == "LISTEN"]
        if not places:
            return None
        ((host, port),) = places
        assert host == "127.0.0.1"
        return f"{host}:{port}"

    def _is_ready(self, path: str) -> bool:
        try:
            return self._client.get(path).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: str | list[str]) -> Any:
        """The JSON that a path answers; anything but 200 fails with what it says."""
        answer = self._client.get(path, params=parameters)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def post(self, path: str, content: Any) -> None:
        """Send JSON to a path."""
        assert self._client.post(path, json=content).status_code == httpx.codes.OK

    def complaints(self) -> list[str]:
        """The lines of the log that are a warning or worse."""
        return [line for line in self.log.read_text().splitlines() if _BAD_LINE.search(line)]

    def close(self) -> None:
        """End the process, and wait until it has gone."""
        self._client.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_SECONDS)
        finally:
            self._process.kill()


class Sample(NamedTuple):
    """One series of an instant query; the labels hold `__name__` where there is one."""

    labels: dict[str, str]
    value: float


class BadExpressionError(Exception):
    """Prometheus cannot evaluate an expression; the text is what it says."""


class PrometheusApi(Server):
    """The HTTP API of Prometheus, which VictoriaMetrics has as well."""

    def data(self, path: str, **parameters: str | list[str]) -> Any:
        """What a path under /api/v1 answers; raises BadExpressionError."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        if answer["status"] != "success":
            raise BadExpressionError(answer["error"])
        return answer["data"]

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """The instant vector now, or at a Unix time."""
        parameters = {} if at is None else {"time": repr(at)}
        data = self.data("query", query=expression, **parameters)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The value of an expression that gives at most one series."""
        found = self.query(expression, at)
        assert len(found) <= 1, found
        return found[0].value if found else None

    def values(self, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of an expression by some of its labels, which have to tell them apart."""
        found = self.query(expression)
        by_labels = {
            tuple(sample.labels.get(label, "") for label in labels): sample.value
            for sample in found
        }
        assert len(by_labels) == len(found), f"{labels} are not all that differs in {expression}"
        return by_labels


class Prometheus(PrometheusApi):
    """A Prometheus server that runs a configuration file."""

    def __init__(self, program: str, config: Path, folder: Path) -> None:
        super().__init__(
            folder,
            "/-/ready",
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--storage.remote.flush-deadline=1s",
        )

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire now."""
        alerts = self.data("alerts")["alerts"]
        return [alert for alert in alerts if alert["state"] == "firing"]

    def wait_for_targets(self, count: int) -> None:
        """Poll until so many targets have been scraped well."""
        wait_for(f"{count} targets up", lambda: self.value("count(up == 1)") == count)

    def wait_for_evaluations(self, seconds: float = 0) -> None:
        """Poll until every rule was evaluated on data so much later than what is stored now.

        Thereby rules that read recorded series see what was stored as well: the groups are
        evaluated a few times.
        """
        stored = max(sample.value for sample in self.query("timestamp(up)"))
        wait_for("the rules", lambda: self._last_evaluation() > stored + seconds + 3)

    def _last_evaluation(self) -> float:
        groups = self.data("rules")["groups"]
        return min(_unix_time(group["lastEvaluation"]) for group in groups)


def _unix_time(text: str) -> float:
    """Of RFC 3339 with more digits of a second than Python reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text)).timestamp()


class Alertmanager(Server):
    """An Alertmanager that runs a configuration file, without a cluster."""

    def __init__(self, program: str, config: Path, folder: Path) -> None:
        super().__init__(
            folder,
            "/-/ready",
            program,
            f"--config.file={config}",
            f"--storage.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        )

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it has and that are not resolved, inhibited ones too."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return found


class VictoriaMetrics(PrometheusApi):
    """A single-node VictoriaMetrics that shows what it has received at once."""

    def __init__(self, program: str, folder: Path) -> None:
        super().__init__(
            folder,
            "/health",
            program,
            "-httpListenAddr=127.0.0.1:0",
            f"-storageDataPath={folder / 'data'}",
            "-retentionPeriod=1",
            "-search.latencyOffset=0s",
        )


@contextmanager
def answering(answer: bytes, times: int = 1) -> Iterator[str]:
    """The URL of somebody who answers that to so many requests, each on a connection of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            for _ in range(times):
                taken, _ = listener.accept()
                with taken:
                    taken.recv(4096)
                    taken.sendall(answer)

        thread = threading.Thread(target=respond)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(DEADLINE_SECONDS)
