"""A new configuration while samples come in: taken over whole or not at all, nothing is lost."""

import asyncio
import itertools
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from llmstatsd import config
from llmstatsd.catalog import ERROR_TYPES
from llmstatsd.config import Config
from llmstatsd.daemon import Daemon
from llmstatsd.reload import Reloads, changes_series, follow, taken_over
from llmstatsd.series import snapshot
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.slowpath import SlowPath
from llmstatsd.series.store import Store
from llmstatsd.wire import Dialect
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.test_fallback import until

TOKENS = "llm_tokens_total"
DURATIONS = "llm_request_duration_seconds"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The daemon's file, at first of defaults only."""
    path = tmp_path / "llmstatsd.toml"
    path.write_text("")
    return path


def reload(daemon: RunningDaemon) -> None:
    """Reload by the signal, and wait for its end."""
    before = daemon.value("llmstatsd_config_reloads_total") or 0
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(
        "a reload", lambda: (daemon.value("llmstatsd_config_reloads_total") or 0) > before or None
    )


def total(text: str, name: str) -> float:
    """The sum of the samples of a name."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


RULES = (
    f'series.{DURATIONS}.buckets = [0.5, 1, 10, 100]\nseries.{TOKENS}.extra_labels = ["team"]\n',
    '[limits]\nlabel_values = 2\n[aliases.model]\n"m1*" = "m1"\n[pinned]\nmodel = ["m7", "new"]\n',
    '[limits]\nlabel_sets = 3\n[statsd]\nlibrato_tags = false\n[pinned]\nmodel = ["m3"]\n',
    "",
)
"""Configurations that change buckets, labels, aliases, pinned values, limits and dialects."""


def lines(number: int) -> bytes:
    return (
        f"{TOKENS}:3|c|#model:m{number % 19},team:t{number % 3}\n"
        f"{DURATIONS}:{number % 16 / 8}|h|#model:m{number % 5},operation:chat\n"
        f"jobs:1|c|#x:{number % 7}\nlast:{number}|g"
    ).encode()


class Senders:
    """Threads that send until `stop`, LIMIT datagrams each at most, and know how many they sent."""

    LIMIT = 50_000
    TOGETHER = 20
    PAUSE_SECONDS = 0.001

    def __init__(self, *send: Callable[[bytes], object]) -> None:
        self.sent = [0] * len(send)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=each) for each in enumerate(send)]
        for thread in self._threads:
            thread.start()

    def _work(self, at: int, send: Callable[[bytes], object]) -> None:
        while not self._stopping.is_set() and self.sent[at] < self.LIMIT:
            for _ in range(self.TOGETHER):
                send(lines(self.sent[at]))
                self.sent[at] += 1
            self._stopping.wait(self.PAUSE_SECONDS)

    def stop(self) -> int:
        """End, and give the number of datagrams sent by all."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive()
        return sum(self.sent)


def all_counted(daemon: RunningDaemon, sent: int) -> str:
    """A scrape in which every sample of so many datagrams of Senders counts once."""
    wait_for(
        "all lines", lambda: total(daemon.scrape(), "llmstatsd_lines_total") == 4 * sent or None
    )
    text = daemon.scrape()
    assert total(text, TOKENS) == 3 * sent
    assert total(text, "jobs_total") == sent
    assert total(text, f"{DURATIONS}_count") == sent
    assert total(text, "llmstatsd_refused_lines_total") == 0
    assert total(text, "llmstatsd_config_reload_success") == 1
    return text


RELOADS = 12


@pytest.mark.usefixtures("each_lane")
class TestUnderLoad:
    """Over both lanes. Senders over a unix socket and TCP wait where the daemon does not read."""

    @staticmethod
    def flags(path: Path, place: str) -> tuple[str, ...]:
        return "--config", str(path), "--statsd-unix", place, "--statsd-tcp", "127.0.0.1:0"

    def test_sums_are_exact_and_no_total_goes_down(
        self, start_daemon: StartDaemon, path: Path, tmp_path: Path
    ) -> None:
        place = str(tmp_path / "in.sock")
        daemon = start_daemon(*self.flags(path, place))
        names = ("llmstatsd_lines_total", "llmstatsd_datagrams_total", TOKENS, "jobs_total")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as two,
            socket.create_connection(daemon.tcp) as stream,
        ):
            one.connect(place)
            two.connect(place)
            senders = Senders(one.send, two.send, lambda data: stream.sendall(data + b"\n"))
            before = dict.fromkeys(names, 0.0)
            for number in range(RELOADS):
                path.write_text(RULES[number % len(RULES)])
                ended = daemon.value("llmstatsd_config_reloads_total")
                daemon.process.send_signal(signal.SIGHUP)
                while True:
                    text = daemon.scrape()
                    now = {name: total(text, name) for name in names}
                    assert all(now[name] >= before[name] for name in names), (before, now)
                    before = now
                    if total(text, "llmstatsd_config_reloads_total") != ended:
                        break
            sent = senders.stop()
        text = all_counted(daemon, sent)
        sums = [sum(number % 16 / 8 for number in range(count)) for count in senders.sent]
        assert total(text, f"{DURATIONS}_sum") == sum(sums)
        assert total(text, "last") in [count - 1 for count in senders.sent]
        assert total(text, "llmstatsd_datagrams_total") == sum(senders.sent[:2])
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.end() == 0

    def test_a_storm_of_signals_changes_no_sum(
        self, start_daemon: StartDaemon, path: Path, tmp_path: Path
    ) -> None:
        place = str(tmp_path / "in.sock")
        daemon = start_daemon(*self.flags(path, place))
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one,
            socket.create_connection(daemon.tcp) as stream,
        ):
            one.connect(place)
            senders = Senders(one.send, lambda data: stream.sendall(data + b"\n"))
            for number in range(200):
                path.write_text(RULES[number % len(RULES)])
                daemon.process.send_signal(signal.SIGHUP)
                if number % 40 == 0:
                    daemon.scrape()
            sent = senders.stop()
        path.write_text("")
        reload(daemon)
        all_counted(daemon, sent)
        assert "Traceback" not in daemon.log.read_text()
        assert daemon.end() == 0

    def test_a_failed_reload_keeps_everything_and_says_why(
        self, start_daemon: StartDaemon, path: Path
    ) -> None:
        path.write_text('[aliases.model]\n"a*" = "a"\n')
        daemon = start_daemon("--config", str(path))
        daemon.send(b"llm.tokens:1|c|#model:abc")
        daemon.wait_for_value(1, TOKENS, model="a")
        loaded_at = daemon.value("llmstatsd_config_last_reload_success_timestamp_seconds")
        path.write_text("[limits]\nlabel_values = 0\n[aliases.model]\n")
        reload(daemon)
        assert daemon.value("llmstatsd_config_reload_success") == 0
        now = daemon.value("llmstatsd_config_last_reload_success_timestamp_seconds")
        assert now == loaded_at
        why = f"{path}: limits.label_values = 0; allowed: "
        wait_for("the reason", lambda: why in daemon.log.read_text())
        daemon.send(b"llm.tokens:1|c|#model:abd")
        daemon.wait_for_value(2, TOKENS, model="a")
        path.unlink()
        reload(daemon)
        assert daemon.value("llmstatsd_config_reload_success") == 0
        path.write_text("")
        reload(daemon)
        assert daemon.value("llmstatsd_config_reload_success") == 1
        now = daemon.value("llmstatsd_config_last_reload_success_timestamp_seconds")
        assert now is not None
        assert loaded_at is not None
        assert now > loaded_at
        daemon.send(b"llm.tokens:1|c|#model:abe")
        daemon.wait_for_value(1, TOKENS, model="abe")
        assert daemon.value(TOKENS, model="a") == 2

    def test_new_rules_hold_and_numbers_go_on(self, start_daemon: StartDaemon, path: Path) -> None:
        daemon = start_daemon("--config", str(path))
        daemon.send(
            b"llm.tokens:1|c|#model:a\nllm.tokens:2|c|#model:b\ndepth:7|g\njobs#k=v:1|c",
            b"llm.request.duration:12000|ms|#model:a,operation:chat",
        )
        daemon.wait_for_datagrams(2)
        path.write_text(
            f"[series.{DURATIONS}]\nbuckets = [1, 10, 30, 100]\n"
            f'[series.{TOKENS}]\nextra_labels = ["team"]\n[statsd]\nlibrato_tags = false\n'
            '[aliases.model]\nb = "c"\n[pinned]\nmodel = ["p"]\n'
        )
        reload(daemon)
        assert daemon.value(TOKENS, model="a", team="unknown") == 1
        assert daemon.value(TOKENS, model="c", team="unknown") == 2
        assert daemon.value("llm_error_total", model="p", type="timeout") == 0
        assert daemon.value("depth") == 7
        assert daemon.value("jobs_total", k="v") == 1
        labels = {"model": "a", "operation": "chat"}
        assert daemon.value(f"{DURATIONS}_bucket", le="30.0", **labels) == 1
        daemon.send(b"depth:+1|g\njobs#k=v:1|c\nllm.tokens:5|c|#model:b,team:x")
        daemon.wait_for_value(5, TOKENS, model="c", team="x")
        assert daemon.value("depth") == 8
        assert daemon.value("jobs_k_v_total") == 1
        assert daemon.value("llmstatsd_lines_total") == 8

    def test_a_reload_is_in_the_state_file_too(
        self, start_daemon: StartDaemon, path: Path, tmp_path: Path
    ) -> None:
        state = ("--state", str(tmp_path / "state"), "--config", str(path))
        daemon = start_daemon(*state)
        daemon.send(b"llm.tokens:1|c|#model:a")
        daemon.wait_for_datagrams(1)
        path.write_text('[aliases.model]\na = "b"\n')
        reload(daemon)
        daemon.send(b"llm.tokens:1|c|#model:a")
        assert daemon.end() == 0
        after = start_daemon(*state)
        assert after.value(TOKENS, model="b") == 2
        assert after.value("llmstatsd_lines_total") == 2

    def test_a_lane_of_each_socket_follows(self, start_daemon: StartDaemon, path: Path) -> None:
        daemon = start_daemon("--config", str(path), "--statsd-lanes", "3")
        for number in range(6):
            path.write_text(RULES[number % len(RULES)])
            reload(daemon)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(50):
                    sender.sendto(b"jobs:1|c", daemon.udp)
            daemon.wait_for_value(50 * (number + 1), "jobs_total")
        assert daemon.end() == 0


def test_200_signals_in_a_row_do_no_harm(start_daemon: StartDaemon, path: Path) -> None:
    daemon = start_daemon("--config", str(path))
    daemon.send(b"jobs:1|c")
    daemon.wait_for_value(1, "jobs_total")
    for number in range(200):
        path.write_text(RULES[number % len(RULES)])
        daemon.process.send_signal(signal.SIGHUP)
        if number % 20 == 0:
            daemon.send(b"jobs:1|c")
    path.write_text('[aliases.model]\na = "last"\n')
    reload(daemon)
    daemon.send(b"llm.tokens:1|c|#model:a")
    daemon.wait_for_value(1, TOKENS, model="last")
    assert daemon.value("jobs_total") == 11
    assert daemon.value("llmstatsd_config_reload_success") == 1
    assert daemon.end() == 0


def test_what_needs_a_restart_is_named_and_stays(start_daemon: StartDaemon, path: Path) -> None:
    daemon = start_daemon("--config", str(path))
    path.write_text(
        '[statsd]\ncache_entries = 99\n[http]\nconnections = 7\n[log]\nlevel = "error"\n'
    )
    reload(daemon)
    late = "these take effect with a restart only: statsd.cache_entries, http.connections"
    wait_for("what needs a restart", lambda: late in daemon.log.read_text())
    daemon.send(b"jobs:x|c")  # a warning at any other time
    daemon.wait_for_value(1, "llmstatsd_refused_lines_total", reason="bad_value")
    assert "refused" not in daemon.log.read_text().partition("restart only")[2]


def test_variables_and_flags_still_beat_the_file(start_daemon: StartDaemon, path: Path) -> None:
    env = {"LLMSTATSD_LIMITS_LABEL_VALUES": "1"}
    daemon = start_daemon("--config", str(path), "--statsd-librato-tags", "false", env=env)
    path.write_text("[limits]\nlabel_values = 50\n[statsd]\nlibrato_tags = true\n")
    reload(daemon)
    daemon.send(b"llm.tokens:1|c|#model:a\nllm.tokens:1|c|#model:b\njobs#k=v:1|c")
    daemon.wait_for_value(1, TOKENS, model="other")
    assert daemon.value("jobs_k_v_total") == 1


def test_a_reload_by_post_says_how_it_went(start_daemon: StartDaemon, path: Path) -> None:
    daemon = start_daemon("--config", str(path), "--http-reload", "true")
    daemon.send(b"jobs:1|c")
    path.write_text('[pinned]\nmodel = ["p"]\n')
    answer = httpx.post(f"{daemon.url}/-/reload", timeout=DEADLINE_SECONDS)
    assert (answer.status_code, answer.text) == (200, "reloaded")
    assert daemon.value(TOKENS, model="p") == 0
    path.write_text("nonsense")
    answer = httpx.post(f"{daemon.url}/-/reload", timeout=DEADLINE_SECONDS)
    assert answer.status_code == 500
    assert str(path) in answer.text


def test_a_signal_to_end_during_a_reload_ends_it_with_all_counted(
    start_daemon: StartDaemon, path: Path, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "state"), "--config", str(path))
    daemon = start_daemon(*state)
    daemon.send(*[b"jobs:1|c"] * 100)
    path.write_text(RULES[0])
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.end() == 0
    assert start_daemon(*state).value("jobs_total") == 100


def test_the_manager_is_told_of_a_reload(
    start_daemon: StartDaemon, path: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_SECONDS)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        daemon = start_daemon("--config", str(path), env=env)
        assert manager.recv(500) == b"READY=1"
        path.write_text(RULES[0])
        daemon.process.send_signal(signal.SIGHUP)
        heard = [manager.recv(500) for _ in range(2)]
        while heard[0].startswith(b"STATUS="):
            heard = [heard[1], manager.recv(500)]
        assert heard[0].startswith(b"RELOADING=1")
        while heard[1].startswith(b"STATUS="):
            heard[1] = manager.recv(500)
        assert heard[1] == b"READY=1"


@pytest.mark.compiled
async def test_a_lane_that_fails_after_a_reload_gives_way_with_all_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError("a bug of the lane")

    given = {"--statsd-udp": "127.0.0.1:0", "--http": "127.0.0.1:0", "--gpu-enabled": "false"}
    first = config.load(None, {}, {**given, "--statsd-lane": "compiled"})
    second = replace(first, aliases={"model": {"a": "b"}})
    daemon = Daemon(first, load=lambda: second)
    task = asyncio.create_task(daemon.run())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(daemon._intake.sockets[0].address)
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 1)
        assert await daemon.reload() is None
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 2)
        monkeypatch.setattr(SlowPath, "begin_datagram", fail)
        sender.send(b"lost:1|c")
        await until(lambda: daemon._hot_path.lane == "portable" and daemon._is_ready)
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 3)
        assert await daemon.reload() is None
        second = replace(first, aliases={"model": {"a": "c"}})
        assert await daemon.reload() is None
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 4)
    cells = daemon._store.families[TOKENS].cells
    assert {key[1]: cell.value for key, cell in cells.items()} == {  # type: ignore[attr-defined]
        ("b",): 3,
        ("c",): 1,
    }
    daemon.stop()
    await asyncio.wait_for(task, DEADLINE_SECONDS)


# The parts of it


async def test_where_memory_ends_in_the_midst_each_step_is_taken_again_and_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = Store(), Store()
    sender = HotPath(old, Dialect(), 100)
    sender.feed(b"\n".join(b"jobs:2|c|#x:%d" % number for number in range(250)))
    sender.feed(b"llm.tokens:5|c|#model:a\nwait:0.5|h\ndepth:3|g")
    old.stats.expired_label_sets = 7

    async def switch() -> None:
        monkeypatch.setattr(snapshot, "_kept", failing_at_times(snapshot._kept, 130))
        monkeypatch.setattr(snapshot.Merge, "_add", failing_at_times(snapshot.Merge._add))
        monkeypatch.setattr(Store, "bear_errors", failing_at_times(Store.bear_errors))
        HotPath(new, Dialect(), 100).feed(b"jobs:1|c|#x:0\nwait:1|h")

    monkeypatch.setattr("llmstatsd.reload.TRY_SECONDS", 0)
    assert await follow(old, new, switch) == {}
    monkeypatch.undo()
    assert {part.name: part.kept for part in snapshot.Parts(new)}["depth"][0].numbers == (3,)
    cells: Mapping[str, Any] = {name: family.cells for name, family in new.families.items()}
    assert sum(cell.value for cell in cells["jobs_total"].values()) == 501
    assert [(cell.sum, sum(cell.counts)) for cell in cells["wait"].values()] == [(1.5, 2)]
    assert len(cells["llm_error_total"]) == len(ERROR_TYPES)
    assert new.stats.expired_label_sets == 7


def failing_at_times(work: Callable[..., Any], every: int = 7) -> Callable[..., Any]:
    """The same, but the first call and each `every` later end for want of memory."""
    calls = itertools.count()

    def fails_or_works(*arguments: Any) -> Any:
        if next(calls) % every == 0:
            raise MemoryError
        return work(*arguments)

    return fails_or_works


async def test_where_memory_ends_before_the_switch_nothing_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"--statsd-udp": "127.0.0.1:0", "--http": "127.0.0.1:0", "--gpu-enabled": "false"}
    first = config.load(None, {}, given)
    daemon = Daemon(first, load=lambda: replace(first, aliases={"model": {"a": "b"}}))
    task = asyncio.create_task(daemon.run())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(daemon._intake.sockets[0].address)
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 1)
        before = daemon._store
        for name in ("make_room", "__init__"):
            with monkeypatch.context() as patch:
                patch.setattr(snapshot.Merge, name, failing_at_times(NotImplemented))
                assert await daemon.reload() == "there is too little memory for a second store"
        assert daemon._store is before
        assert not daemon._telemetry.reload.is_success
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 2)
        assert await daemon.reload() is None
        sender.send(b"llm.tokens:1|c|#model:a")
        await until(lambda: daemon._hot_path.stats.lines == 3)
    cells: Mapping[Any, Any] = daemon._store.families[TOKENS].cells
    assert {key[1]: cell.value for key, cell in cells.items()} == {("b",): 3}
    daemon.stop()
    await asyncio.wait_for(task, DEADLINE_SECONDS)


def test_nothing_of_the_series_changes_by_other_options() -> None:
    old = Config()
    for flag, value in (("--http-gzip-level", "5"), ("--log-level", "error")):
        assert not changes_series(old, config.load(None, {}, {flag: value}))
    new = config.load(None, {}, {"--statsd-librato-tags": "false"})
    assert changes_series(old, new)


def test_options_that_need_a_restart_keep_their_value() -> None:
    flags = {
        "--statsd-udp": ":1",
        "--state": "/x",
        "--http-gzip-level": "5",
        "--host-disk-path": "/x",
    }
    taken, late = taken_over(Config(), config.load(None, {}, flags))
    assert late == ["statsd.udp", "state.path", "host.disk_path"]
    assert taken.statsd == Config().statsd
    assert taken.state == Config().state
    assert taken.http.gzip_level == 5


async def test_one_reload_is_under_way_and_one_waits_whoever_asks() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    begun: list[int] = []

    async def slow() -> str | None:
        number = len(begun)
        begun.append(number)
        await gates[number].wait()
        return str(number)

    reloads = Reloads(slow)
    first = asyncio.create_task(reloads.ask())
    while not begun:
        await asyncio.sleep(0)
    others = [asyncio.create_task(reloads.ask()) for _ in range(10)]
    others[0].cancel()  # who gives up ends no reload
    with suppress(asyncio.CancelledError):
        await others.pop(0)
    for gate in gates:
        gate.set()
    assert await first == "0"
    assert set(await asyncio.gather(*others)) == {"1"}
    assert begun == [0, 1]
