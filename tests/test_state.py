"""The state file: whole or not at all, never trusted, and never in the way of a start."""

import asyncio
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from llmstatsd import keeper, state
from llmstatsd.series import snapshot
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.limits import Limits
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.snapshot import Part, Totals
from llmstatsd.series.store import Store
from llmstatsd.state import Found, Head, StateFile, StateLockedError, encoded
from llmstatsd.wire import Dialect
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.tools import cannot


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    """A few label sets of each kind of series."""
    store = Store(Limits())
    HotPath(store, Dialect(), 16).feed(b"jobs:1|c|#x:y\nwait:2|h\ndepth:-3|g\nusers:a|s")
    return [part for part in snapshot.Parts(store) if part.name in {"jobs_total", "wait", "users"}]


HEAD = Head(1_700_000_000.5, True, Totals(born=7))


def saved(path: Path, parts: list[Part]) -> bytes:
    """What a whole file of these parts holds."""
    file = StateFile(str(path))
    file.save(HEAD, map(encoded, parts))
    file.close()
    return path.read_bytes()


def loaded(path: Path) -> Found:
    return StateFile(str(path)).load()


def test_what_is_saved_is_loaded(tmp_path: Path, parts: list[Part]) -> None:
    path = tmp_path / "state"
    saved(path, parts)
    assert loaded(path) == Found(HEAD, parts)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["state", "state.lock"]


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    assert loaded(tmp_path / "state") == Found()
    assert loaded(tmp_path / "missing" / "state") == Found()


def test_nobody_else_may_read_it(tmp_path: Path, parts: list[Part]) -> None:
    path = tmp_path / "state"
    saved(path, parts)
    assert path.stat().st_mode & 0o777 == 0o600


def assert_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    found = loaded(path)
    assert found.head is None
    assert not found.parts
    assert found.problem is not None
    assert not path.exists()
    Path(f"{path}.bad-1").unlink()


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_file_with_any_byte_changed_is_refused(
    tmp_path: Path, parts: list[Part], flip: int
) -> None:
    path = tmp_path / "state"
    data = saved(path, parts)
    for at in range(len(data)):
        assert_refused(path, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, parts: list[Part]) -> None:
    path = tmp_path / "state"
    data = saved(path, parts)
    for length in range(len(data)):
        assert_refused(path, data[:length])


def test_a_file_with_more_behind_it_is_refused(tmp_path: Path, parts: list[Part]) -> None:
    path = tmp_path / "state"
    data = saved(path, parts)
    for more in (b"\0", bytes(100), data):
        assert_refused(path, data + more)


def test_a_whole_file_of_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for frames in ([], [b"\x01"], [b"\xc1"], [b"\x80"]):
        file = StateFile(str(path))
        file.save(HEAD, frames)
        file.close()
        if frames:
            assert_refused(path, path.read_bytes())


def test_a_newer_version_is_kept_aside(
    tmp_path: Path, parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    monkeypatch.setattr(state, "VERSION", 2)
    data = saved(path, parts)
    monkeypatch.setattr(state, "VERSION", 1)
    problem = loaded(path).problem
    assert problem is not None
    assert problem == (f"it is of version 2, and this daemon reads 1; it is kept as {path}.bad-1")
    assert Path(f"{path}.bad-1").read_bytes() == data


def test_three_bad_files_are_kept_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for number in range(5):
        path.write_text(f"bad {number}")
        os.utime(path, (number, number))
        assert loaded(path).problem is not None
    kept = {each.read_text() for each in tmp_path.iterdir()}
    assert kept == {"bad 2", "bad 3", "bad 4"}


def test_a_folder_and_a_pipe_are_kept_aside(tmp_path: Path) -> None:
    for number, make in enumerate((Path.mkdir, os.mkfifo), 1):
        path = tmp_path / "state"
        make(path)  # type: ignore[operator]
        assert loaded(path).problem == f"it is no file; it is kept as {path}.bad-{number}"


def test_a_file_that_is_too_large_is_kept_aside(
    tmp_path: Path, parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    monkeypatch.setattr(state, "FILE_BYTES_LIMIT", 10)
    saved(path, parts)
    problem = loaded(path).problem
    assert problem is not None
    assert "are more than 10" in problem


def test_a_link_in_the_place_of_the_new_file_is_not_followed(
    tmp_path: Path, parts: list[Part]
) -> None:
    path, other = tmp_path / "state", tmp_path / "other"
    other.write_text("precious")
    Path(f"{path}.tmp").symlink_to(other)
    with pytest.raises(OSError, match="symbolic"):
        saved(path, parts)
    assert other.read_text() == "precious"


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_writing_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, parts: list[Part], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "state"
    before = saved(path, parts)
    file = StateFile(str(path))
    file.lock()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            file.save(Head(1.0, False, Totals()), [])
    assert path.read_bytes() == before
    assert not Path(f"{path}.tmp").exists()
    file.save(Head(1.0, False, Totals()), [])
    assert loaded(path) == Found(Head(1.0, False, Totals()), [])
    file.close()


def test_only_one_at_a_time_keeps_its_state_in_a_file(tmp_path: Path) -> None:
    first, second = StateFile(str(tmp_path / "state")), StateFile(str(tmp_path / "state"))
    first.lock()
    with pytest.raises(StateLockedError, match="another daemon"):
        second.lock()
    with pytest.raises(StateLockedError):
        second.save(HEAD, [])
    first.close()
    second.lock()
    second.close()


@pytest.mark.parametrize(
    ("configured", "folders", "expected"),
    [
        ("", None, ""),
        ("", "", ""),
        ("", "/var/lib/a", "/var/lib/a/llmstatsd.state"),
        ("", "/var/lib/a:/var/lib/b", "/var/lib/a/llmstatsd.state"),
        ("/var/x", "/var/lib/a", "/var/x"),
    ],
)
def test_the_path_is_the_configured_one_else_in_the_first_folder_of_systemd(
    configured: str, folders: str | None, expected: str
) -> None:
    environ = {} if folders is None else {"STATE_DIRECTORY": folders}
    assert keeper.path_of(configured, environ) == expected


# The keeper


async def test_a_wall_clock_that_steps_changes_no_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = itertools.cycle((2e9, 1e9, 3e9, 1.0, 5e9))
    monkeypatch.setattr(time, "time", lambda: next(times))
    file = StateFile(str(tmp_path / "state"))
    store = Store(Limits())
    kept = keeper.Keeper(file, 0.01, lambda: (store, LineStats()), asyncio.Lock())
    task = asyncio.create_task(kept.run())
    written: set[float] = set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(written) < 3:
            await asyncio.sleep(0)
            written.add(kept.stats.last_write_timestamp_seconds)
    kept.end()
    await task
    assert kept.stats.write_failures == 0
    kept.close()


async def test_too_little_memory_for_a_writing_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    is_short = True

    def source() -> tuple[Store, LineStats]:
        if is_short:
            raise MemoryError
        return Store(Limits()), LineStats()

    file = StateFile(str(tmp_path / "state"))
    kept = keeper.Keeper(file, 0.01, source, asyncio.Lock())
    task = asyncio.create_task(kept.run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        while kept.stats.write_failures < 2:
            await asyncio.sleep(0)
    is_short = False
    kept.end()
    await task
    assert file.load().head is not None
    kept.close()


# A real daemon


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def total(daemon: RunningDaemon, series: str) -> float:
    """The sum over all label sets of a series."""
    lines = daemon.scrape().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series))


LINES = b"jobs:1|c|#model:a\nllm.request.duration:12|ms|#model:m,operation:chat\ndepth:4.5|g"


@pytest.mark.usefixtures("each_lane")
class TestRestart:
    """Over both lanes."""

    def test_a_restart_by_sigterm_loses_nothing(
        self, start_daemon: StartDaemon, path: Path
    ) -> None:
        shown: dict[str, str] = {}
        for number in (1, 2):
            daemon = start_daemon("--state", str(path))
            for line in daemon.scrape().splitlines():
                if line.startswith(("jobs", "llm_", "depth")):
                    assert number == 1 or shown.pop(line, None) == line
            assert not shown
            daemon.send(*[LINES] * 500)
            assert daemon.end() == 0
            # all was taken in before the end, as the next one shows
            after = start_daemon("--state", str(path))
            assert after.value("jobs_total", model="a") == number * 500
            assert after.value("llmstatsd_datagrams_total") == number * 500
            assert after.value("llmstatsd_lines_total") == number * 1500
            assert after.value("depth") == 4.5
            body = after.scrape().splitlines()
            shown = {each: each for each in body if each.startswith(("jobs", "llm_", "depth"))}
            assert after.end() == 0
            assert "not clean" not in after.log.read_text()


def test_a_crash_before_the_first_interval_is_known(start_daemon: StartDaemon, path: Path) -> None:
    daemon = start_daemon("--state", str(path), "--state-interval-seconds", "3600")
    wait_for("the first writing", path.exists)
    daemon.end(signal.SIGKILL)
    assert "the last stop was not clean" in start_daemon("--state", str(path)).log.read_text()


def test_a_second_daemon_on_the_same_file_ends_with_3(
    start_daemon: StartDaemon, path: Path
) -> None:
    first = start_daemon("--state", str(path))
    command = (sys.executable, "-m", "llmstatsd", "serve", "--state", str(path))
    addresses = ("--statsd-udp", "127.0.0.1:0", "--http", "127.0.0.1:0")
    second = subprocess.run(
        [*command, *addresses], stderr=subprocess.PIPE, timeout=DEADLINE_SECONDS, check=False
    )
    assert second.returncode == 3
    assert b"another daemon keeps its state" in second.stderr
    assert first.value("llmstatsd_state_write_failures_total") == 0


@pytest.mark.parametrize("content", [b"", b"no state", b"llmstats" + bytes(500)])
def test_a_bad_file_is_kept_aside_and_the_daemon_starts(
    start_daemon: StartDaemon, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    daemon = start_daemon("--state", str(path))
    assert "every series begins at 0" in daemon.log.read_text()
    assert Path(f"{path}.bad-1").read_bytes() == content
    daemon.send(b"jobs:1|c")
    assert daemon.end() == 0
    assert start_daemon("--state", str(path)).value("jobs_total") == 1


def test_buckets_and_labels_may_change_over_a_restart(
    start_daemon: StartDaemon, path: Path, tmp_path: Path
) -> None:
    daemon = start_daemon("--state", str(path))
    daemon.send(b"llm.request.duration:12000|ms|#model:m,operation:chat\nllm.tokens:5|c|#model:m")
    assert daemon.end() == 0
    config = tmp_path / "changed.toml"
    config.write_text(
        "[series.llm_request_duration_seconds]\nbuckets = [1, 10, 30, 100]\n"
        '[series.llm_tokens_total]\nextra_labels = ["team"]\n'
    )
    after = start_daemon("--state", str(path), "--config", str(config))
    assert after.value("llm_tokens_total", model="m", team="unknown") == 5
    name, labels = "llm_request_duration_seconds", {"model": "m", "operation": "chat"}
    assert after.value(f"{name}_count", **labels) == 1
    assert after.value(f"{name}_sum", **labels) == 12
    assert after.value(f"{name}_bucket", le="30.0", **labels) == 1
    assert after.value(f"{name}_bucket", le="10.0", **labels) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB in memory, mounted for this test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)],
        stderr=subprocess.PIPE,
        check=False,
    )
    if made.returncode:
        cannot(f"no file system may be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def failures(daemon: RunningDaemon) -> float:
    return daemon.value("llmstatsd_state_write_failures_total") or 0


def test_a_full_disk_is_said_and_counted_and_tried_again(
    start_daemon: StartDaemon, small_disk: Path
) -> None:
    path = small_disk / "state"
    daemon = start_daemon("--state", str(path), "--state-interval-seconds", "1")
    wait_for("the first writing", path.exists)
    before = path.read_bytes()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    daemon.send(b"jobs:1|c")
    wait_for("two failures", lambda: failures(daemon) >= 2)
    assert daemon.value("jobs_total") == 1
    assert path.read_bytes()[:8] == before[:8]
    assert not Path(f"{path}.tmp").exists()
    assert daemon.log.read_text().count("cannot write the state") == 1
    assert "No space left on device" in daemon.log.read_text()
    filler.unlink()
    daemon.send(b"jobs:1|c")
    assert daemon.end() == 0
    assert start_daemon("--state", str(path)).value("jobs_total") == 2


def test_a_start_on_a_full_disk_or_a_read_only_one_counts_on(
    start_daemon: StartDaemon, small_disk: Path
) -> None:
    path = small_disk / "state"
    daemon = start_daemon("--state", str(path))
    daemon.send(b"jobs:3|c")
    assert daemon.end() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    daemon = start_daemon("--state", str(path))
    daemon.send(b"jobs:1|c")
    daemon.wait_for_value(4, "jobs_total")
    wait_for("a failure", lambda: failures(daemon) >= 1)
    assert "Read-only file system" in daemon.log.read_text()
    assert daemon.end() == 0
    assert daemon.log.read_text().count("cannot write the state") == 2  # at first, and at last
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert start_daemon("--state", str(path)).value("jobs_total") == 3


def test_without_its_folder_the_daemon_counts_and_says_so(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--state", str(tmp_path / "missing" / "state"))
    daemon.send(b"jobs:1|c")
    daemon.wait_for_value(1, "jobs_total")
    wait_for("a failure", lambda: failures(daemon) >= 1)
    assert "cannot write the state" in daemon.log.read_text()
    assert daemon.end() == 0


def test_the_folder_that_systemd_names_is_used(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(env={"STATE_DIRECTORY": f"{tmp_path}:/nowhere"})
    daemon.send(b"jobs:1|c")
    assert daemon.end() == 0
    assert (tmp_path / keeper.FILE_NAME).exists()
