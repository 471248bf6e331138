"""Faults of a host and of those who connect: after each the daemon counts, once, and is scraped."""

import contextlib
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.tools import cannot, tool

pytestmark = pytest.mark.usefixtures("each_lane")

ONE = b"llm_fallback_total:1|c"

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"

AN_ADDRESS = "192.0.2.77"
"""Of TEST-NET-1, RFC 5737: nobody's, until a test gives it to the loopback interface."""

ADDED = (f"{AN_ADDRESS}/32", "dev", "lo")

SCRAPES = 8
"""Scrapes that are under way at once."""

BUSY_SHARE = 0.5
"""Of a core: a loop that turns without a rest takes more, and a daemon at rest next to nothing."""

A_MEBIBYTE = 1 << 20


@contextlib.contextmanager
def a_fault_of(daemon: RunningDaemon) -> Iterator[None]:
    """Let a daemon count before and after what happens to it meanwhile, and end it cleanly."""
    daemon.send(ONE)
    daemon.wait_for_value(1, "llm_fallback_total")
    yield
    before = daemon.value("llm_fallback_total")
    assert before
    daemon.send(ONE)
    daemon.wait_for_value(before + 1, "llm_fallback_total")
    assert daemon.value("llmstatsd_lines_total") == daemon.value("llmstatsd_accepted_lines_total")
    assert daemon.value("llmstatsd_lane_failures_total") == 0
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.end() == 0


def connections(
    stack: contextlib.ExitStack,
    daemon: RunningDaemon,
    count: int,
    receive_buffer_bytes: int = 65_536,
) -> list[socket.socket]:
    """So many connections to the web; those that the daemon closes at once count too."""
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    opened = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in opened:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        each.settimeout(DEADLINE_SECONDS)
        each.connect((host, int(port)))
        each.setblocking(False)
    return opened


def has_ended(connection: socket.socket) -> bool:
    """Whether the daemon has closed a connection; what it has sent before is thrown away."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_at_rest(process: psutil.Process) -> bool:
    """Whether a process takes less than BUSY_SHARE of a core for a while."""
    before, started = process.cpu_times(), time.monotonic()
    select.select([], [], [], 0.5)
    after, seconds = process.cpu_times(), time.monotonic() - started
    spent = after.user + after.system - before.user - before.system
    return spent < BUSY_SHARE * seconds


def test_without_descriptors_it_answers_whom_it_knows_and_rests(daemon: RunningDaemon) -> None:
    process = psutil.Process(daemon.process.pid)
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    with a_fault_of(daemon):
        with contextlib.ExitStack() as stack:
            known = stack.enter_context(httpx.Client(base_url=daemon.url, timeout=DEADLINE_SECONDS))
            known.get("/metrics").raise_for_status()
            left = 5
            allowed = (process.num_fds() + left, limits[1])
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, allowed)
            opened = connections(stack, daemon, 30)
            wait_for("refusals", lambda: sum(map(has_ended, opened)) >= len(opened) - left or None)
            wait_for("rest", lambda: is_at_rest(process) or None)
            daemon.send(ONE)
            counted = "\nllm_fallback_total 2.0\n"
            wait_for("a scrape", lambda: counted in known.get("/metrics").text or None)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)


def test_500_idle_connections_end_by_their_deadline_and_keep_no_datagram_out(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("--http-header-timeout-seconds", "2")
    with a_fault_of(daemon), contextlib.ExitStack() as stack:
        opened = connections(stack, daemon, 500)
        for _ in range(500):
            daemon.send(ONE)
        wait_for("their ends", lambda: all(map(has_ended, opened)) or None)
        daemon.wait_for_value(501, "llm_fallback_total")


def test_500_slow_requests_end_by_their_deadline_however_they_trickle(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("--http-header-timeout-seconds", "2")
    with a_fault_of(daemon), contextlib.ExitStack() as stack:
        opened = connections(stack, daemon, 500)
        for each in opened:
            trickle(each, b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        daemon.send(ONE)

        def have_ended() -> bool | None:
            for each in opened:
                trickle(each, b"y")
            return all(map(has_ended, opened)) or None

        wait_for("their ends", have_ended)
        daemon.wait_for_value(2, "llm_fallback_total")


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send a little, if there is still somebody to get it."""
    with contextlib.suppress(OSError):
        connection.send(data)


def let_scrapes_be_large(daemon: RunningDaemon) -> None:
    """More than the buffers of a connection hold."""
    for model in range(90):
        lines = [f"app.wait{number}:1|ms|#model:{model}" for number in range(30)]
        daemon.send("\n".join(lines).encode())
    wait_for("a large scrape", lambda: len(daemon.scrape()) > 2 * A_MEBIBYTE or None)


@pytest.mark.memory
def test_scrapes_that_nobody_reads_hold_nobody_up(daemon: RunningDaemon) -> None:
    process = psutil.Process(daemon.process.pid)
    with a_fault_of(daemon):
        let_scrapes_be_large(daemon)
        before = process.memory_info().rss
        with contextlib.ExitStack() as stack:
            for each in connections(stack, daemon, SCRAPES - 1, receive_buffer_bytes=4096):
                each.send(REQUEST)
            for _ in range(100):
                daemon.send(ONE)
            daemon.wait_for_value(101, "llm_fallback_total")
            assert process.memory_info().rss < before + 32 * A_MEBIBYTE


def test_clients_that_reset_in_mid_scrape_leave_nothing_behind(daemon: RunningDaemon) -> None:
    process = psutil.Process(daemon.process.pid)
    with a_fault_of(daemon):
        let_scrapes_be_large(daemon)
        before = process.num_fds()
        for _ in range(10):
            with contextlib.ExitStack() as stack:
                for each in connections(stack, daemon, 5):
                    each.send(REQUEST)
                    select.select([each], [], [], DEADLINE_SECONDS)
                    # struct linger of socket(7): to close is to reset
                    linger = struct.pack("ii", 1, 0)
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            daemon.send(ONE)
        daemon.wait_for_value(11, "llm_fallback_total")
        wait_for("closed connections", lambda: process.num_fds() <= before or None)


@contextlib.contextmanager
def the_address() -> Iterator[None]:
    """Let the loopback interface have AN_ADDRESS meanwhile; a skip where that is not permitted."""
    ip = tool("ip", "iproute2")
    added = subprocess.run([ip, "address", "add", *ADDED], capture_output=True, text=True)
    if "not permitted" in added.stderr:
        cannot("only root may add an address")
    assert added.returncode == 0, added.stderr
    try:
        yield
    finally:
        subprocess.run([ip, "address", "del", *ADDED], check=True)


def test_an_address_that_goes_and_comes_back_is_received_on_again(
    start_daemon: StartDaemon,
) -> None:
    with the_address():
        daemon = start_daemon(udp=f"{AN_ADDRESS}:0")
        daemon.send(ONE)
        daemon.wait_for_value(1, "llm_fallback_total")
    with pytest.raises(OSError, match=r"unreachable|Invalid"):  # from where it is gone
        daemon.send(ONE)
    assert daemon.value("llm_fallback_total") == 1
    with the_address(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(ONE, daemon.udp)
        daemon.wait_for_value(2, "llm_fallback_total")
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.end() == 0


def test_a_process_held_up_under_load_counts_what_the_kernel_kept_and_what_it_dropped(
    daemon: RunningDaemon,
) -> None:
    with a_fault_of(daemon):
        sent = 1
        for _ in range(3):
            daemon.process.send_signal(signal.SIGSTOP)
            until = time.monotonic() + 1.0  # how long the load goes on: nothing is judged by it
            while time.monotonic() < until:
                for _ in range(100):
                    daemon.send(ONE)
                sent += 100
            daemon.process.send_signal(signal.SIGCONT)
            received, dropped = all_accounted_for(daemon, sent)
            assert dropped
            assert received == daemon.value("llm_fallback_total")


def all_accounted_for(daemon: RunningDaemon, sent: int) -> tuple[float, float]:
    """Datagrams received and dropped, once together they are those sent."""

    def accounts() -> tuple[float, float] | None:
        received = daemon.value("llmstatsd_datagrams_total") or 0
        dropped = daemon.value("llmstatsd_kernel_dropped_datagrams_total") or 0
        assert received + dropped <= sent
        return (received, dropped) if received + dropped == sent else None

    return wait_for("all accounted for", accounts)


@pytest.mark.memory
def test_at_a_limit_of_memory_it_folds_what_is_new_and_counts_exactly(
    start_daemon: StartDaemon,
) -> None:
    budgets = ("--limits-label-values", "100000", "--limits-label-sets", "100000")
    # Otherwise each thread reserves 64 MiB of addresses, before the limit holds.
    one_arena = {"MALLOC_ARENA_MAX": "1"}
    daemon = start_daemon(*budgets, "--limits-exposition-lines", "10000000", env=one_arena)
    process = psutil.Process(daemon.process.pid)
    # A series has to be there: where memory ends, values fold into it, and new names are refused.
    sent = send_customers(daemon, 0)
    limit = process.memory_info().vms + 8 * A_MEBIBYTE
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    while told(daemon, "llmstatsd_exposition_lines_limit") in (None, 10_000_000):
        assert sent < 100_000
        sent = send_customers(daemon, sent)
    sent = send_customers(daemon, sent)
    refused = told(daemon, "llmstatsd_refused_lines_total")
    assert refused is not None
    assert refused < 50
    assert told(daemon, "wait_count") == sent - refused
    assert told(daemon, "llmstatsd_lane_failures_total") == 0
    assert daemon.end() == 0


@pytest.mark.memory
def test_a_reload_and_a_writing_at_a_limit_of_memory_lose_nothing_and_count_nothing_twice(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    file, state = tmp_path / "llmstatsd.toml", str(tmp_path / "state")
    limits_of_many = "label_values = 100000\nlabel_sets = 100000\nexposition_lines = 10000000\n"
    file.write_text(f"[limits]\n{limits_of_many}")
    kept = ("--state", state, "--state-interval-seconds", "1", "--config", str(file))
    daemon = start_daemon(*kept, env={"MALLOC_ARENA_MAX": "1"})
    sent = 0
    while sent < 10_000:
        sent = send_customers(daemon, sent)
    process = psutil.Process(daemon.process.pid)
    limits = resource.prlimit(process.pid, resource.RLIMIT_AS)
    limit = process.memory_info().vms + 2 * A_MEBIBYTE
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limits[1]))
    # A second store needs as much as the first: several times what is left.
    file.write_text(f'[pinned]\ncustomer = ["new"]\n[limits]\n{limits_of_many}')
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(
        "a failed reload",
        lambda: "too little memory" in daemon.log.read_text() or None,
    )
    sent = send_customers(daemon, sent)
    resource.prlimit(process.pid, resource.RLIMIT_AS, limits)
    written = "llmstatsd_state_last_write_timestamp_seconds"
    lifted_at = time.time()
    wait_for("a writing", lambda: (told(daemon, written) or 0) > lifted_at or None)
    assert told(daemon, "llmstatsd_config_reload_success") == 0
    refused = told(daemon, "llmstatsd_refused_lines_total") or 0
    assert told(daemon, "wait_count") == sent - refused
    daemon.process.send_signal(signal.SIGHUP)
    wait_for("a reload", lambda: told(daemon, "llmstatsd_config_reload_success") or None)
    assert told(daemon, "wait_count") == sent - refused
    sent = send_customers(daemon, sent)
    assert told(daemon, "wait_count") == sent - refused
    assert daemon.end() == 0
    after = start_daemon(*kept)
    assert told(after, "wait_count") == sent - refused
    assert told(after, "llmstatsd_lines_total") == sent


def send_customers(daemon: RunningDaemon, sent: int) -> int:
    """Send lines that each name somebody new until they are taken; how many there are by now."""
    more = range(sent, sent + 1000)
    for start in more[::50]:
        lines = [f"wait:1|h|#customer:{number}" for number in range(start, start + 50)]
        daemon.send("\n".join(lines).encode())
    wait_for("all taken", lambda: told(daemon, "llmstatsd_lines_total") == more.stop or None)
    return more.stop


def told(daemon: RunningDaemon, name: str) -> float | None:
    """The sum over the samples of a name; None where there was no memory for the answer."""
    with contextlib.suppress(httpx.TransportError):
        wanted = {"name[]": name}
        answer = httpx.get(f"{daemon.url}/metrics", params=wanted, timeout=DEADLINE_SECONDS)
        samples = [line for line in answer.text.splitlines() if line.startswith(name)]
        if answer.is_success and samples:
            return sum(float(line.rpartition(" ")[2]) for line in samples)
    return None


class WallClock:
    """The wall clock of a process; its monotonic clocks stay as they are."""

    def __init__(self, folder: Path) -> None:
        tool("faketime")
        [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self._file = folder / "offset"
        self.step(0)
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, days: int) -> None:
        """Set it so many days before or after the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{days:+}d")
        new.replace(self._file)


@pytest.mark.preload
def test_a_wall_clock_that_steps_changes_no_count_no_expiry_and_no_rate_of_the_log(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    wall_clock = WallClock(tmp_path)
    daemon = start_daemon("--limits-idle-seconds", "3600", env=wall_clock.variables)
    daemon.send(ONE)
    daemon.wait_for_value(1, "llm_fallback_total")
    refused = {
        "bad_type": "a:1|x",
        "bad_value": "a:b|c",
        "negative": "a:-1|c",
        "bad_rate": "a:1|c|@2",
    }
    for step, (reason, line) in zip((400, -400, 3, -30), refused.items(), strict=True):
        wall_clock.step(step)
        daemon.send(ONE, line.encode(), b"said once")
        off = time_of(daemon, reason) - datetime.now().astimezone()
        assert abs(off.days - step) <= 1
    daemon.wait_for_value(1 + len(refused), "llm_fallback_total")
    assert daemon.value("llmstatsd_expired_label_sets_total") == 0
    assert daemon.value("llmstatsd_refused_lines_total", reason="malformed") == len(refused)
    assert daemon.log.read_text().count("malformed") == 1
    assert daemon.end() == 0


def time_of(daemon: RunningDaemon, reason: str) -> datetime:
    """When the log says that lines were refused, by the daemon's wall clock."""
    said = re.compile(rf"^(\S+ \S+),\d+ WARNING lines refused as {reason}:", re.MULTILINE)
    found = wait_for(reason, lambda: said.search(daemon.log.read_text()))
    return datetime.fromisoformat(found[1]).astimezone()


# Over a unix socket and TCP


def tcp_senders(
    stack: contextlib.ExitStack, daemon: RunningDaemon, count: int
) -> list[socket.socket]:
    """So many connections for lines."""
    place = daemon.tcp
    opened = [socket.create_connection(place, DEADLINE_SECONDS) for _ in range(count)]
    return [stack.enter_context(each) for each in opened]


def reset(connection: socket.socket) -> None:
    """Close with a reset: struct linger of socket(7)."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@pytest.fixture
def with_tcp(start_daemon: StartDaemon) -> RunningDaemon:
    return start_daemon("--statsd-tcp", "127.0.0.1:0")


def test_of_more_tcp_senders_than_may_be_each_is_counted_whole_or_told_by_its_end(
    start_daemon: StartDaemon,
) -> None:
    most, further = 100, 200
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", "--statsd-tcp-connections", str(most))
    with a_fault_of(daemon):
        with contextlib.ExitStack() as stack:
            known = tcp_senders(stack, daemon, most)
            daemon.wait_for_value(most, "llmstatsd_tcp_open_connections")
            refused = tcp_senders(stack, daemon, further)
            for each in refused:
                each.setblocking(False)
            wait_for("their ends", lambda: all(map(has_ended, refused)) or None)
            for _ in range(10):
                for each in known:
                    each.sendall(ONE + b"\n" + ONE[:7])
                    each.sendall(ONE[7:] + b"\n")
            daemon.wait_for_value(1 + 20 * most, "llm_fallback_total")
            assert not daemon.value("llmstatsd_tcp_refused_lines_total", reason="cut")
            counted = daemon.value("llmstatsd_tcp_refused_connections_total", reason="limit")
            assert counted == further
        daemon.wait_for_value(0, "llmstatsd_tcp_open_connections")
        with contextlib.ExitStack() as stack:
            for each in tcp_senders(stack, daemon, most):
                each.sendall(ONE + b"\n")
        daemon.wait_for_value(1 + 21 * most, "llm_fallback_total")


def test_tcp_senders_that_reset_in_mid_line_lose_that_line_alone(with_tcp: RunningDaemon) -> None:
    daemon, count = with_tcp, 50
    with a_fault_of(daemon):
        with contextlib.ExitStack() as stack:
            opened = tcp_senders(stack, daemon, count)
            for each in opened:
                each.sendall(ONE + b"\n" + ONE + b"\n" + ONE[:-1])
            daemon.wait_for_value(1 + 2 * count, "llm_fallback_total")
            for each in opened:
                reset(each)
        daemon.wait_for_value(count, "llmstatsd_tcp_refused_lines_total", reason="cut")
        daemon.wait_for_value(0, "llmstatsd_tcp_open_connections")
        assert daemon.value("llm_fallback_total") == 1 + 2 * count


@pytest.mark.memory
def test_lines_over_tcp_that_never_end_take_no_memory_and_hold_nobody_up(
    with_tcp: RunningDaemon,
) -> None:
    daemon, count, mebibytes = with_tcp, 20, 4
    process = psutil.Process(daemon.process.pid)
    with a_fault_of(daemon), contextlib.ExitStack() as stack:
        before = process.memory_info().rss
        endless = tcp_senders(stack, daemon, count)
        (other,) = tcp_senders(stack, daemon, 1)
        for _ in range(mebibytes):
            for each in endless:
                each.sendall(b"a" * A_MEBIBYTE)
            other.sendall(ONE + b"\n")
        daemon.wait_for_value(1 + mebibytes, "llm_fallback_total")
        daemon.wait_for_value(count, "llmstatsd_tcp_refused_lines_total", reason="too_long")
        assert process.memory_info().rss < before + 16 * A_MEBIBYTE
        for each in endless:  # what follows the end of such a line counts
            each.sendall(b"\n" + ONE + b"\n")
        daemon.wait_for_value(1 + mebibytes + count, "llm_fallback_total")


def test_500_tcp_senders_that_trickle_are_counted_and_keep_nobody_out(
    with_tcp: RunningDaemon,
) -> None:
    daemon, count = with_tcp, 500
    with a_fault_of(daemon), contextlib.ExitStack() as stack:
        slow = tcp_senders(stack, daemon, count)
        for at in range(len(ONE)):
            for each in slow:
                each.send(ONE[at : at + 1])
            if at % 5 == 0:
                daemon.send(ONE)
        daemon.wait_for_value(1 + 5, "llm_fallback_total")
        for each in slow:
            each.send(b"\n")
        daemon.wait_for_value(1 + 5 + count, "llm_fallback_total")


def test_without_descriptors_a_tcp_sender_that_is_known_is_counted(
    with_tcp: RunningDaemon,
) -> None:
    daemon = with_tcp
    process = psutil.Process(daemon.process.pid)
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    with a_fault_of(daemon):
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(httpx.Client(timeout=DEADLINE_SECONDS))
            reader.get(f"{daemon.url}/metrics").raise_for_status()
            (known,) = tcp_senders(stack, daemon, 1)
            known.sendall(ONE + b"\n")
            daemon.wait_for_value(2, "llm_fallback_total")
            allowed = (process.num_fds(), limits[1])
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, allowed)
            opened = tcp_senders(stack, daemon, 30)
            for each in opened:
                each.setblocking(False)
            wait_for("rest", lambda: is_at_rest(process) or None)
            known.sendall(ONE + b"\n")
            counted = "\nllm_fallback_total 3.0\n"
            wait_for(
                "a scrape", lambda: counted in reader.get(f"{daemon.url}/metrics").text or None
            )
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        with contextlib.ExitStack() as stack:
            (new,) = tcp_senders(stack, daemon, 1)
            new.sendall(ONE + b"\n")
            daemon.wait_for_value(4, "llm_fallback_total")


def test_a_unix_socket_whose_file_is_gone_goes_on_for_who_is_connected(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "in.sock"
    daemon = start_daemon("--statsd-unix", str(path))
    with a_fault_of(daemon), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as known:
        known.connect(str(path))
        path.unlink()
        known.send(ONE)
        daemon.wait_for_value(2, "llm_fallback_total")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late,
            pytest.raises(FileNotFoundError),
        ):
            late.connect(str(path))
        other = start_daemon("--statsd-unix", str(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
            late.sendto(ONE, str(path))
            other.wait_for_value(1, "llm_fallback_total")
        known.send(ONE)
        daemon.wait_for_value(3, "llm_fallback_total")
    assert path.exists()  # it is the other one's
    assert other.end() == 0
    assert not path.exists()


def test_unix_senders_that_die_while_the_daemon_is_held_up_have_sent_what_they_sent(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    path = str(tmp_path / "in.sock")
    daemon = start_daemon("--statsd-unix", path)
    with a_fault_of(daemon):
        daemon.process.send_signal(signal.SIGSTOP)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 2000:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.setblocking(False)
                    sender.sendto(ONE, path)
                sent += 1
        daemon.process.send_signal(signal.SIGCONT)
        assert sent
        daemon.wait_for_value(1 + sent, "llm_fallback_total")
