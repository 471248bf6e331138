"""The API over HTTP, of a real daemon that is fed: its documents agree with what was sent."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from llmstatsd.web.api import KEPT_LIMIT, Api, Ticks
from llmstatsd.web.app import WebStats
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for

pytestmark = pytest.mark.usefixtures("each_lane")

Document = dict[str, Any]

CALL = b'{"model":"gpt-4o","operation":"chat","duration_seconds":1.5,"tokens":40}'
TIMEOUT = b'{"model":"llama3","operation":"chat","duration_seconds":30,"error":"timeout"}'


def ask(daemon: RunningDaemon, what: str, **query: str) -> Document:
    """One document."""
    answer = httpx.get(f"{daemon.url}/api/v1/{what}", params=query, timeout=DEADLINE_SECONDS)
    answer.raise_for_status()
    document: Document = answer.json()
    assert document["version"] == 1
    return document


def wait_for_requests(daemon: RunningDaemon, count: int) -> Document:
    """The summary, once it shows so many requests."""

    def look() -> Document | None:
        summary = ask(daemon, "summary")
        return summary if summary["figures"]["requests"] == count else None

    return wait_for(f"{count} requests", look)


@contextmanager
def stream(daemon: RunningDaemon, **query: str) -> Iterator[Iterator[tuple[str, Document]]]:
    """The events of a stream: their names and documents."""
    url = f"{daemon.url}/api/v1/stream"
    with httpx.stream("GET", url, params=query, timeout=DEADLINE_SECONDS) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[tuple[str, Document]]:
    name = ""
    for line in lines:
        field, _, text = line.partition(": ")
        if field == "event":
            name = text
        elif field == "data":
            yield name, json.loads(text)


def test_the_summary_shows_what_was_sent(daemon: RunningDaemon) -> None:
    daemon.send(*[CALL] * 30, *[TIMEOUT] * 10, b"llm_fallback_total:2|c", b"a:b|c")
    summary = wait_for_requests(daemon, 40)
    figures = summary["figures"]
    assert figures["errors"] == 10
    assert figures["errors_by_type"] == {"timeout": 10}
    assert figures["error_share"] == 0.25
    assert figures["tokens"] == 1200
    assert figures["mean_seconds"] == pytest.approx((30 * 1.5 + 10 * 30) / 40)
    assert 1 <= figures["p50_seconds"] <= 2
    assert 20 <= figures["p95_seconds"] <= 30
    rows = {row["model"]: row["figures"] for row in summary["models"]}
    assert list(rows) == ["gpt-4o", "llama3"]
    assert (rows["gpt-4o"]["requests"], rows["llama3"]["errors"]) == (30, 10)
    ladder = summary["ladder"]
    assert (ladder["datagrams"], ladder["lines"]) == (42, 42)
    assert (ladder["accepted_lines"], ladder["refused_lines"]) == (41, 1)
    assert summary["about"]["is_ready"]
    assert summary["about"]["lane"] == daemon_lane(daemon)
    assert summary["about"]["statsd_udp"] == f"127.0.0.1:{daemon.udp[1]}"
    wait_for("fallbacks", lambda: ask(daemon, "summary")["figures"]["fallbacks"] == 2 or None)


def daemon_lane(daemon: RunningDaemon) -> str:
    return daemon.log.read_text().partition("lane=")[2].partition(" ")[0]


@pytest.mark.parametrize(("window", "count", "step"), [("5m", 300, 1), ("1h", 360, 10)])
def test_series_have_every_point_of_their_window(
    daemon: RunningDaemon, window: str, count: int, step: int
) -> None:
    daemon.send(*[CALL] * 5, TIMEOUT)
    wait_for_requests(daemon, 6)
    every = ask(daemon, "series", window=window)
    one = ask(daemon, "series", window=window, model="gpt-4o")
    assert (every["step_seconds"], len(every["points"])) == (step, count)
    times = [point["time"] for point in every["points"]]
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(step * (count - 1))
    assert sum(point["requests"] for point in every["points"]) == 6
    assert sum(point["requests"] for point in one["points"]) == 5
    counts = [sum(point["counts"]) for point in one["points"]]
    assert sum(counts) == 5
    assert {len(point["counts"]) for point in one["points"]} == {0, len(one["bounds"]) + 1}
    assert {point["p50_seconds"] for point in one["points"]} - {None} == {1.5}


def test_what_many_ask_for_in_a_second_is_made_once_and_the_number_kept_is_bounded() -> None:
    ticks, made = Ticks(), count()

    def make() -> bytes:
        return b"%d" % next(made)

    assert {ticks.once("a", make) for _ in range(3)} == {b"0"}
    assert len({ticks.once(number, make) for number in range(2 * KEPT_LIMIT)}) == 2 * KEPT_LIMIT
    assert ticks.once("a", make) == b"0"
    assert ticks.once(2 * KEPT_LIMIT - 1, make) != ticks.once(2 * KEPT_LIMIT - 1, make)
    ticks.pass_on()
    assert ticks.once("a", make) != b"0"


class Empty(msgspec.Struct):
    pass


class Turns:
    """Answers that note in which turn of the loop each of them was made."""

    def __init__(self) -> None:
        self.now = 0
        self.made: list[int] = []

    async def count(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)

    def _document(self, *_: object) -> Empty:
        self.made.append(self.now)
        return Empty()

    summary = series = cardinality = settings = refused = newest = _document


@pytest.mark.parametrize("path", ["cardinality", "series", "stream"])
async def test_of_all_who_ask_one_answer_is_made_in_a_turn_of_the_loop(path: str) -> None:
    turns, ticks = Turns(), Ticks()
    ticks.end()  # a stream ends with what it begins with
    app = Starlette(routes=Api(turns, ticks, 16, WebStats()).routes())
    counting = asyncio.create_task(turns.count())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        models = [f"model-{number}" for number in range(16)]
        asked = (client.get(f"/api/v1/{path}", params={"model": model}) for model in models)
        answers = await asyncio.wait_for(asyncio.gather(*asked), DEADLINE_SECONDS)
    counting.cancel()
    assert [answer.status_code for answer in answers] == [200] * 16
    expected = 16 if path != "stream" else 17  # the configuration is made once for all
    assert len(turns.made) == expected
    assert len(set(turns.made)) >= 16


def test_cardinality_shows_what_folded(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--limits-label-values", "2")
    for model in ("a", "b", *["heavy"] * 20, "c"):
        daemon.send(b"llm_request_total:1|c|#operation:chat,model:" + model.encode())
    daemon.wait_for_datagrams(23)
    document = ask(daemon, "cardinality")
    [requests] = [each for each in document["series"] if each["series"] == "llm_request_total"]
    [model] = [each for each in requests["labels"] if each["label"] == "model"]
    assert (model["values"], model["values_limit"], model["estimate"]) == (2, 2, 4)
    assert model["heaviest"][0] == {"value": "heavy", "samples": 20}
    assert sum(requests["folded_samples"].values()) == 21
    assert document["exposition_lines"] <= document["exposition_lines_limit"]


def test_refused_lines_are_shown_as_they_came(daemon: RunningDaemon) -> None:
    daemon.send(b"a:1,5|c", b"a:2,5|c", "<script>alert(1)</script>‮:x|c".encode(), b"b:-1|c")
    daemon.wait_for_datagrams(4)
    reasons = {each["reason"]: each for each in ask(daemon, "refused")["reasons"]}
    assert {reason: each["lines"] for reason, each in reasons.items()} == {
        "bad_value": 3,
        "negative": 1,
    }
    assert reasons["negative"]["last_line"] == "b:-1|c"
    assert reasons["bad_value"]["last_line"].startswith("<script>")
    assert "number" in reasons["bad_value"]["meaning"]


def test_settings_are_those_in_force(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--limits-idle-seconds", "77")
    settings = {each["option"]: each for each in ask(daemon, "settings")["settings"]}
    idle = settings["limits.idle_seconds"]
    assert (idle["value"], idle["is_default"]) == ("77.0", False)
    assert settings["http.gzip_level"]["is_default"]


def test_settings_show_what_tables_hold_up_to_a_bound(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    rules = "\n".join(f"'model-{number}*' = 'model'" for number in range(250))
    file = tmp_path / "llmstatsd.toml"
    file.write_text(f"[aliases.model]\n{rules}\n[pinned]\nmodel = ['a']\n")
    document = ask(start_daemon("--config", str(file)), "settings")
    assert document["entries_total"] == 251
    assert len(document["entries"]) == 200
    assert document["entries"][0] == {"entry": 'aliases.model."model-0*"', "value": '"model"'}


def test_the_ladder_tells_of_tcp(start_daemon: StartDaemon) -> None:
    limits = ("--statsd-tcp-connections", "1", "--statsd-tcp-line-bytes", "64")
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", *limits)
    with socket.create_connection(daemon.tcp, timeout=DEADLINE_SECONDS) as first:
        first.sendall(b"llm_fallback_total:1|c\n" * 3 + b"b" * 65 + b"\n")
        daemon.wait_for_value(3, "llm_fallback_total")
        with socket.create_connection(daemon.tcp, timeout=DEADLINE_SECONDS):
            daemon.wait_for_value(1, "llmstatsd_tcp_refused_connections_total", reason="limit")
        ladder = ask(daemon, "summary")["ladder"]
    assert ladder["tcp_open_connections"] == 1
    assert ladder["tcp_refused_connections"] == {"foreign": 0, "limit": 1}
    assert ladder["tcp_refused_lines"] == {"too_long": 1, "cut": 0}
    assert (ladder["tcp_lines"], ladder["lines"], ladder["datagrams"]) == (3, 3, 0)
    assert ladder["queue_dropped_datagrams"] == 0


def test_the_ladder_tells_what_came_before_a_restart(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "llmstatsd.state"))
    daemon = start_daemon(*state)
    daemon.send(*[CALL] * 5)
    daemon.wait_for_datagrams(5)
    daemon.process.terminate()
    assert daemon.process.wait(DEADLINE_SECONDS) == 0
    daemon = start_daemon(*state)
    daemon.send(*[CALL] * 2)
    daemon.wait_for_datagrams(7)
    ladder = ask(daemon, "summary")["ladder"]
    assert (ladder["datagrams"], ladder["restored_datagrams"]) == (7, 5)


def test_a_stream_begins_with_all_and_tells_what_is_new(daemon: RunningDaemon) -> None:
    daemon.send(*[CALL] * 3)
    wait_for_requests(daemon, 3)
    with stream(daemon, model="gpt-4o") as told:
        name, series = next(told)
        assert name == "series"
        assert sum(point["requests"] for point in series["points"]) == 3
        daemon.send(*[CALL] * 4, TIMEOUT)
        seen: dict[str, Document] = {}
        for name, document in told:
            seen[name] = document
            if name == "point" and document["points"][0]["requests"] == 4:
                break
        assert seen["point"]["model"] == "gpt-4o"
        assert set(seen) == {"settings", "summary", "point", "cardinality", "refused"}
        assert seen["summary"]["figures"]["requests"] == 8


def test_one_stream_too_many_is_told_so_and_its_place_is_given_back(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("--http-streams", "2")
    with ExitStack() as stack:
        open_ones = [stack.enter_context(stream(daemon)) for _ in range(2)]
        for each in open_ones:
            next(each)
        refused = httpx.get(f"{daemon.url}/api/v1/stream", timeout=DEADLINE_SECONDS)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json() == {"version": 1, "error": "too many streams are open"}
        assert ask(daemon, "summary")

    for _ in range(3):  # takes no place
        assert not httpx.head(f"{daemon.url}/api/v1/stream", timeout=DEADLINE_SECONDS).content

    def is_free() -> bool | None:
        with httpx.stream("GET", f"{daemon.url}/api/v1/stream") as answer:
            return answer.status_code == 200 or None

    wait_for("a free place", is_free)


def test_readers_who_do_not_read_hold_nothing_up(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--http-streams", "8")
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    with ExitStack() as stack:
        for _ in range(8):
            idle = stack.enter_context(socket.socket())
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect((host, int(port)))
            idle.send(b"GET /api/v1/stream?window=1h HTTP/1.1\r\nHost: a\r\n\r\n")
        daemon.send(*[CALL] * 100)
        wait_for_requests(daemon, 100)
        assert daemon.end() == 0


def test_the_end_of_the_daemon_ends_streams(daemon: RunningDaemon) -> None:
    with stream(daemon) as told:
        next(told)
        assert daemon.end() == 0
        for _ in told:
            pass


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("window=2h", "window may be 5m or 1h"),
        ("model=", "model has 1 to 128 characters"),
        (f"model={'x' * 129}", "model has 1 to 128 characters"),
        ("windows=5m", "unknown parameter 'windows'; there are window and model"),
    ],
)
def test_a_query_that_is_wrong_is_told_so(daemon: RunningDaemon, query: str, said: str) -> None:
    for what in ("summary", "series", "stream"):
        answer = httpx.get(f"{daemon.url}/api/v1/{what}?{query}", timeout=DEADLINE_SECONDS)
        assert (answer.status_code, answer.json()) == (400, {"version": 1, "error": said})


def test_a_model_that_nobody_knows_has_nothing(daemon: RunningDaemon) -> None:
    points = ask(daemon, "series", model="nobody")["points"]
    assert {point["requests"] for point in points} == {0}


def test_a_reload_begins_no_new_history(start_daemon: StartDaemon, tmp_path: Any) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text("[limits]\nlabel_values = 50\n")
    daemon = start_daemon("--config", str(file), "--http-reload", "true")
    daemon.send(*[CALL] * 3)
    wait_for_requests(daemon, 3)
    file.write_text("[limits]\nlabel_values = 60\n")
    httpx.post(f"{daemon.url}/-/reload", timeout=DEADLINE_SECONDS).raise_for_status()
    daemon.send(*[CALL] * 4)
    daemon.wait_for_value(7, "llm_request_total", model="gpt-4o", operation="chat")
    summary = wait_for("a history", lambda: ask(daemon, "summary"))
    assert summary["figures"]["requests"] >= 3


def test_what_a_state_file_restores_is_nothing_new(
    start_daemon: StartDaemon, tmp_path: Any
) -> None:
    state = str(tmp_path / "state")
    first = start_daemon("--state", state)
    first.send(*[CALL] * 5)
    first.wait_for_datagrams(5)
    assert first.end() == 0
    second = start_daemon("--state", state)
    second.wait_for_value(5, "llm_request_total", model="gpt-4o", operation="chat")
    second.send(CALL)
    wait_for_requests(second, 1)
