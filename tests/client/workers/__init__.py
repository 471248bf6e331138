"""What the tests of worker processes share: the code of the pages, and real servers that run it.

A page is the only place of its code. A Python block whose first line names a file, `# app.py`, is
written to that file, and the command that the page gives for it is run, on another port.
"""

import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.conftest import DEADLINE_SECONDS, RunningDaemon, wait_for

HOW_TO: Final = Path(__file__).parents[3] / "docs" / "how-to"
HERE: Final = Path(__file__).parent

_FENCE: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE: Final = re.compile(r"# (.+)\n")
_ADDRESS: Final = re.compile(r"(?:Listening at:|running on) http://([\d.]+):(\d+)")
_OTHERS: Final = ("LLMSTATSD_", "DD_", "STATSD_", "PROMETHEUS_", "CELERY_", "GUNICORN_")


class Page:
    """The blocks of a how-to page."""

    def __init__(self, name: str) -> None:
        self.text = (HOW_TO / name).read_text()
        self._blocks: list[tuple[str, str]] = _FENCE.findall(self.text)

    def code(self, file: str) -> str:
        """The Python block whose first line is `# file`."""
        found = [block for language, block in self._blocks if language == "python"]
        (code,) = [block for block in found if _FILE.match(block) and _first(block) == file]
        return code

    def command(self, program: str) -> list[str]:
        """The one line of the shell that starts with a program, without the program."""
        lines = [
            line
            for language, block in self._blocks
            if language == "sh"
            for line in block.splitlines()
        ]
        (line,) = [line for line in lines if line.startswith(f"{program} ")]
        return shlex.split(line)[1:]

    def shown(self) -> list[str]:
        """Every line of `/metrics` that the page shows."""
        return [
            line for language, block in self._blocks if not language for line in block.splitlines()
        ]


def _first(block: str) -> str:
    return block.partition("\n")[0].removeprefix("# ")


class Workers:
    """A server in a group of processes of its own; `seen` is the folder that the provider fills."""

    def __init__(self, arguments: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self.seen = Path(env["SEEN"])
        self.log = folder / "workers.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for_log(self, pattern: re.Pattern[str], times: int = 1) -> re.Match[str]:
        """The first match in what it has written, once there are so many."""

        def look() -> re.Match[str] | None:
            written = self.log.read_text(errors="replace")
            found = list(pattern.finditer(written))
            assert self.process.poll() is None, written
            return found[0] if len(found) >= times else None

        return wait_for(f"{pattern.pattern} in the log", look)

    def pids(self) -> set[int]:
        """Every process that was asked so far."""
        return {int(path.name) for path in self.seen.iterdir() if path.name.isdigit()}

    def hanging(self) -> int:
        """The process of which a call hangs, once there is one."""
        (path,) = wait_for("a call that hangs", lambda: list(self.seen.glob("hangs-*")))
        return int(path.name.removeprefix("hangs-"))

    def end(self) -> int:
        """Ask it to end as a service manager does, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End it and all its children, however the test went."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)


class Site:
    """A web server's workers over HTTP, each request on a connection of its own."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        found = workers.wait_for_log(_ADDRESS)
        self._address = found[1], int(found[2])
        wait_for("a worker that listens", self._listens)

    def _listens(self) -> bool:
        with suppress(ConnectionRefusedError):
            socket.create_connection(self._address, DEADLINE_SECONDS).close()
            return True
        return False

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; raises OSError or HTTPException when the worker goes away."""
        connection = http.client.HTTPConnection(*self._address, timeout=DEADLINE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ask(self, times: int, question: str = "why") -> int:
        """Ask so many times, a few at once, and give how many were answered: all."""
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(self.get, [f"/?{question}"] * times))
        assert {status for status, _ in answers} == {200}, self.workers.log.read_text()
        return len(answers)

    def ask_until_seen(self, processes: int) -> int:
        """Ask until so many processes have answered, and give how many answers there were."""
        asked = 0

        def look() -> bool:
            nonlocal asked
            asked += self.ask(6)
            return len(self.workers.pids()) >= processes

        wait_for(f"{processes} workers that answer", look)
        return asked


@contextmanager
def running(
    arguments: Sequence[str], folder: Path, daemon: RunningDaemon, **variables: str
) -> Iterator[Workers]:
    """A Python module with workers that send to the daemon, its log in the folder."""
    seen = folder / "seen"
    seen.mkdir(exist_ok=True)
    workers = Workers(arguments, folder, environment(daemon, SEEN=str(seen), **variables))
    try:
        yield workers
    finally:
        workers.close()


def environment(daemon: RunningDaemon, **variables: str) -> dict[str, str]:
    """The variables of an application that sends to the daemon and finds the provider."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    host, port = daemon.udp
    return inherited | {
        "LLMSTATSD_HOST": host,
        "LLMSTATSD_PORT": str(port),
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }


def settle(daemon: RunningDaemon) -> None:
    """Wait until all that was sent so far is counted: a socket's queue keeps the order."""
    before = daemon.value("settled_total") or 0
    daemon.send(b"settled:1|c")
    daemon.wait_for_value(before + 1, "settled_total")


def samples(text: str, name: str) -> list[str]:
    """The lines of one sample's name in a scrape."""
    return [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line)]
