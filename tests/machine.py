"""A machine of namespaces with a systemd of its own as process 1, ended by its own process."""

import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import DEADLINE_SECONDS, wait_for
from tests.tools import tool

_BOOT: Final = Path(__file__).with_name("boot.sh")
_NAMESPACES: Final = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")


class Machine:
    """The host's files with a layer over them; a skip with the reason where it cannot be made.

    Whether it can is found out by making it: it takes root, mounts and a cgroup2 file system that
    can be written to, and what is allowed of that differs from container to container.
    """

    def __init__(self, folder: Path, layer: Path) -> None:
        unshare, self._nsenter = tool("unshare", "util-linux"), tool("nsenter", "util-linux")
        tool("systemctl", "systemd")
        root = folder / "machine"
        root.mkdir()
        self._cgroup = _new_cgroup()
        self._log = folder / "boot.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self._cgroup),
                    *(unshare, *_NAMESPACES, "--fork", "--kill-child"),
                    *("sh", _BOOT, root, layer),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for("systemd, or its end", lambda: self._is_up() or self._has_ended())
            reason = f"it ends: {self._log.read_text()}" if self._has_ended() else ""
        except pytest.fail.Exception:
            reason = f"systemd does not come up {self._log.read_text()}"
        except BaseException:
            self.close()
            raise
        if reason:
            self.close()
            pytest.skip(f"no machine with systemd can be made here: {reason}")

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _is_up(self) -> bool:
        # Before, a command would be one of the host: it still sees the host's files.
        try:
            if not self._first or Path(f"/proc/{self._first}/comm").read_text() != "systemd\n":
                return False
        except OSError:
            return False
        with self.start("systemctl", "is-system-running") as asked:
            return asked.communicate(timeout=DEADLINE_SECONDS)[0] in ("running\n", "degraded\n")

    @property
    def _first(self) -> str:
        """The first process of the machine as the host numbers it; nothing before and after it."""
        pid = self._process.pid
        try:
            return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        except OSError:
            return ""

    def start(self, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in it, with pipes for all that it reads and writes."""
        first = self._first
        if not first:
            pytest.fail(f"the machine has ended: {self._log.read_text()}")
        return subprocess.Popen(
            [self._nsenter, "--target", first, *_NAMESPACES, "--", *command],
            env={**os.environ, **(env or {})},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *command: str, given: str = "", env: dict[str, str] | None = None) -> str:
        """What a command in it says; a failure with the journal if it fails."""
        with self.start(*command, env=env) as started:
            said, complaint = started.communicate(given, DEADLINE_SECONDS)
        if started.returncode:
            pytest.fail(f"{command} ends with {started.returncode}: {complaint}\n{self.journal()}")
        return said

    def journal(self) -> str:
        """The last lines of its journal."""
        with self.start("journalctl", "--no-pager", "--lines=50") as started:
            return started.communicate(timeout=DEADLINE_SECONDS)[0]

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def close(self) -> None:
        """End it with all that runs in it."""
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)
        wait_for("its processes to go", self._remove_cgroup)

    def _remove_cgroup(self) -> bool:
        for path, _, _ in os.walk(self._cgroup, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()
        return not self._cgroup.exists()


def _new_cgroup() -> Path:
    """A group below that of this process: systemd takes what it finds at the top of its own."""
    mounted = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.MULTILINE)
    own = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    if mounted is None or own is None:
        pytest.skip("no machine with systemd can be made here: there is no cgroup2 file system")
    group = Path(mounted[1], own[1].lstrip("/"), f"llmstatsd-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no machine with systemd can be made here: {error}")
    return group
