"""`/api/v1/tap`: what is sent is shown with what became of it, to those who may see it."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmstatsd.intake.copies import COPIES_LIMIT
from llmstatsd.live.tap import TAPS_LIMIT
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for

pytestmark = pytest.mark.usefixtures("each_lane")

Record = dict[str, Any]

CALL = b'{"model":"gpt-4o","operation":"chat","duration_seconds":1.5,"tokens":40}'


@contextmanager
def tap(daemon: RunningDaemon, wanted: str = "", **headers: str) -> Iterator[Iterator[Record]]:
    """The records of a tap that is open: its first count has come."""
    url, query = f"{daemon.url}/api/v1/tap", {"filter": wanted}
    with httpx.stream(
        "GET", url, params=query, headers=headers, timeout=DEADLINE_SECONDS
    ) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "application/x-ndjson"
        records = (json.loads(line) for line in answer.iter_lines())
        first = next(records)
        assert (first["version"], first["record"]) == (1, "count")
        yield records


def lines_of(records: Iterator[Record], count: int) -> list[Record]:
    """So many lines, counts left out."""
    found: list[Record] = []
    for record in records:
        if record["record"] == "line":
            found.append(record)
            if len(found) == count:
                break
    return found


def count_with(records: Iterator[Record], holds: Callable[[Record], bool]) -> Record:
    """The first count for which something holds; one comes each second."""
    for number, record in enumerate(records):
        if record["record"] == "count" and holds(record):
            return record
        assert number < 3000, record
    pytest.fail("the tap ended")


def test_lines_are_shown_with_their_verdict(daemon: RunningDaemon) -> None:
    with tap(daemon) as records:
        daemon.send(
            b"llm_request_total:1|c|#model:gpt-4o,operation:chat,tenant:x\na:b|c",
            b"_sc|disk|0",
            CALL,
        )
        first, refused, aside, event = lines_of(records, 4)
        assert first["text"] == "llm_request_total:1|c|#model:gpt-4o,operation:chat,tenant:x"
        assert (first["verdict"], first["reason"], first["transport"]) == ("accepted", None, "udp")
        assert first["notes"] == ["dropped_label"]
        assert first["met"] == [
            {
                "series": "llm_request_total",
                "type": "counter",
                "labels": {"model": "gpt-4o", "operation": "chat"},
                "folded": {},
                "fold_reason": None,
                "samples": 1,
                "values": [1.0],
                "weight": 1.0,
                "is_change": False,
            }
        ]
        assert (refused["verdict"], refused["reason"]) == ("refused", "bad_value")
        assert (aside["verdict"], aside["reason"]) == ("set_aside", "service_check")
        assert [met["series"] for met in event["met"]] == [
            "llm_request_total",
            "llm_request_duration_seconds",
            "llm_tokens_total",
        ]
        count = count_with(records, lambda count: count["lines"] == 4)
        assert (count["explained"], count["fitting"], count["missed"]) == (4, 4, 0)


def test_a_tap_changes_nothing_that_is_counted(daemon: RunningDaemon) -> None:
    with tap(daemon) as records:
        daemon.send(b"a:1|c\nb:x|c\nc:1|ms|#k:v")
        assert len(lines_of(records, 3)) == 3
        assert daemon.value("llmstatsd_lines_total") == 3
        assert daemon.value("a_total") == 1


def test_a_filter_shows_what_it_asks_for(daemon: RunningDaemon) -> None:
    with tap(daemon, "verdict=refused reason!=negative") as records:
        daemon.send(b"a:1|c", b"a:-1|c", b"a:x|c")
        [refused] = lines_of(records, 1)
        assert (refused["text"], refused["reason"]) == ("a:x|c", "bad_value")
        count = count_with(records, lambda count: count["lines"] == 3)
        assert (count["explained"], count["fitting"]) == (3, 1)


def test_what_folds_is_shown_with_what_it_was(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--limits-label-values", "1")
    with tap(daemon, "folded=*") as records:
        for model in (b"a", b"b"):
            daemon.send(b"llm_tokens_total:1|c|#model:" + model)
        [folded] = lines_of(records, 1)
        [met] = folded["met"]
        assert met["labels"] == {"model": "other"}
        assert (met["folded"], met["fold_reason"]) == ({"model": "b"}, "label_values")


def test_lines_of_every_transport_are_shown(start_daemon: StartDaemon, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    daemon = start_daemon("--statsd-unix", path, "--statsd-tcp", "127.0.0.1:0")
    with ExitStack() as stack:
        records = stack.enter_context(tap(daemon))
        stream = stack.enter_context(socket.create_connection(daemon.tcp))
        local = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        stream.sendall(b"by_tcp:1|c\n")
        local.sendto(b"by_unix:1|c", path)
        daemon.send(b"by_udp:1|c")
        lines = lines_of(records, 3)
        told = {each["text"]: each["transport"] for each in lines}
        senders = {each["text"]: each["sender"] for each in lines}
        assert senders["by_tcp:1|c"] == f"127.0.0.1:{stream.getsockname()[1]}"
        assert senders["by_unix:1|c"] is None
    assert told["by_tcp:1|c"] == "tcp"
    is_compiled = "lane=compiled" in daemon.log.read_text()
    rest = ("unix", "udp") if is_compiled else (None, None)
    assert (told["by_unix:1|c"], told["by_udp:1|c"]) == rest


def test_a_burst_is_counted_whole_and_shown_in_part(daemon: RunningDaemon) -> None:
    datagrams = COPIES_LIMIT + 200
    with tap(daemon) as records:
        daemon.send(*[b"\n".join([b"jobs:1|c"] * 10)] * datagrams)
        count = count_with(records, lambda count: count["lines"] == 10 * datagrams)
        assert 0 < count["explained"] < 10 * datagrams
        assert (count["fitting"], count["missed"]) == (count["explained"], 0)
    daemon.wait_for_value(10 * datagrams, "jobs_total")


def test_taps_that_come_and_go_in_a_flood_change_no_sum(daemon: RunningDaemon) -> None:
    datagram = b"\n".join([b"jobs:1|c|#k:a", b"jobs:2|c|#k:b", b"odd:x|c"] * 5)
    bursts, burst = 150, 200
    seen: list[Record] = []

    def flood() -> None:
        for _ in range(bursts):
            daemon.send(*[datagram] * burst)

    sender = threading.Thread(target=flood)
    sender.start()
    try:
        while sender.is_alive():
            with tap(daemon, "series=jobs_total") as records:
                seen += lines_of(records, 1)
    finally:
        sender.join()

    def accounted_for() -> float | None:
        received = daemon.value("llmstatsd_datagrams_total") or 0.0
        dropped = daemon.value("llmstatsd_kernel_dropped_datagrams_total") or 0.0
        return received if received + dropped == bursts * burst else None

    received = wait_for("all accounted for", accounted_for)
    assert seen
    assert daemon.value("jobs_total", k="a") == 5 * received
    assert daemon.value("jobs_total", k="b") == 10 * received
    assert daemon.value("llmstatsd_refused_lines_total", reason="bad_value") == 5 * received
    assert daemon.value("llmstatsd_lane_failures_total") == 0


def test_a_tap_that_is_not_read_slows_nothing_and_no_other_tap(daemon: RunningDaemon) -> None:
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    with ExitStack() as stack:
        for _ in range(TAPS_LIMIT - 1):
            idle = stack.enter_context(socket.socket())
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect((host, int(port)))
            idle.send(b"GET /api/v1/tap HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        records = stack.enter_context(tap(daemon))
        for number in range(50):
            daemon.send(*[b"jobs:1|c|#k:%d" % (number % 3)] * 20)
        assert lines_of(records, 10)
        count_with(records, lambda count: count["lines"] == 1000)
        assert daemon.value("llmstatsd_lines_total") == 1000
        assert daemon.end() == 0


def test_one_tap_too_many_is_told_so_and_its_place_is_given_back(daemon: RunningDaemon) -> None:
    with ExitStack() as stack:
        for _ in range(TAPS_LIMIT):
            stack.enter_context(tap(daemon))
        refused = httpx.get(f"{daemon.url}/api/v1/tap", timeout=DEADLINE_SECONDS)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json() == {"version": 1, "error": "too many taps are open"}
    assert daemon.value("llmstatsd_web_refused_total", reason="taps") == 1

    for _ in range(TAPS_LIMIT + 1):  # takes no place
        assert not httpx.head(f"{daemon.url}/api/v1/tap", timeout=DEADLINE_SECONDS).content

    def is_free() -> bool | None:
        with httpx.stream("GET", f"{daemon.url}/api/v1/tap") as answer:
            return answer.status_code == 200 or None

    wait_for("a free place", is_free)


def test_the_end_of_the_daemon_ends_taps(daemon: RunningDaemon) -> None:
    with tap(daemon) as records:
        assert daemon.end() == 0
        assert all(record["record"] == "count" for record in records)


def test_a_tap_goes_on_through_a_reload(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text("[limits]\nlabel_values = 50\n")
    daemon = start_daemon("--config", str(file), "--http-reload", "true")
    with tap(daemon, "series=*") as records:
        daemon.send(b"a:1|c")
        lines_of(records, 1)
        file.write_text('[limits]\nlabel_values = 60\n[aliases.model]\n"x" = "y"\n')
        httpx.post(f"{daemon.url}/-/reload", timeout=DEADLINE_SECONDS).raise_for_status()
        daemon.send(b"llm_tokens_total:1|c|#model:x")
        [line] = lines_of(records, 1)
        assert line["met"][0]["labels"] == {"model": "y"}
        assert count_with(records, lambda count: count["lines"] == 2)["explained"] == 2


def test_a_query_that_is_wrong_is_told_so(daemon: RunningDaemon) -> None:
    for query, said in (
        ("filter=model", "filter, at character 6: after a key comes =, !=, ~ or !~"),
        ("filters=x", "unknown parameter 'filters'; there is filter"),
    ):
        answer = httpx.get(f"{daemon.url}/api/v1/tap?{query}", timeout=DEADLINE_SECONDS)
        assert (answer.status_code, answer.json()) == (400, {"version": 1, "error": said})


def test_who_may_not_be_of_this_machine_sees_nothing(daemon: RunningDaemon) -> None:
    for headers in (
        {"Forwarded": "for=192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"Via": "1.1 proxy"},
        {"Host": "attacker.example:2112"},
    ):
        answer = httpx.get(f"{daemon.url}/api/v1/tap", headers=headers, timeout=DEADLINE_SECONDS)
        assert answer.status_code == 403, headers
        assert "http.tap = true" in answer.json()["error"]
    assert daemon.value("llmstatsd_web_refused_total", reason="taps") == 4


def own_address() -> str:
    """An address of this machine that is not loopback; a skip where there is none."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    for address in found.stdout.split():
        if ":" not in address:
            return address
    pytest.skip("this machine has no IPv4 address but loopback")


def test_another_machine_sees_lines_only_if_the_configuration_says_so(
    start_daemon: StartDaemon, each_lane: str
) -> None:
    address = own_address()
    for option, status in (("false", 403), ("true", 200)):
        daemon = start_daemon("--http-tap", option, "--http", f"{address}:0")
        with httpx.stream("GET", f"{daemon.url}/api/v1/tap") as answer:
            assert answer.status_code == status
