"""The demo: its calls as data, and the whole of it as processes that come and go."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from llmstatsd.demo.sender import Whole, everything
from llmstatsd.demo.traffic import (
    ACTS,
    BUSY,
    FAILING,
    MODELS,
    REFUSED_LINE,
    SPARE,
    STORY_SECONDS,
    Call,
    Line,
    act_at,
    traffic,
)
from llmstatsd.wire import parse_line
from llmstatsd_client import Client, Event
from tests.conftest import DEADLINE_SECONDS, wait_for

ROOT: Final = Path(__file__).parents[1]

# The calls


def story(seed: int = 1, rate: float = 40.0) -> list[Call | Line]:
    return list(everything(Whole(seed, rate, STORY_SECONDS, STORY_SECONDS)))


STORY: Final = story()
CALLS: Final = [each for each in STORY if isinstance(each, Call)]


def events(during: str | None = None) -> list[Event]:
    """All events, or those of one act, or with "" those of none."""
    return [
        call.event
        for call in CALLS
        if during is None or getattr(act_at(call.at_seconds, STORY_SECONDS), "name", "") == during
    ]


def share(of: list[Event], is_so: Callable[[Event], object]) -> float:
    return sum(1 for event in of if is_so(event)) / len(of)


def test_the_same_seed_gives_the_same_calls_and_another_one_others() -> None:
    assert story() == STORY
    assert story(2) != STORY


def test_times_ascend_and_the_rate_is_as_asked_for() -> None:
    times = [call.at_seconds for call in CALLS]
    assert times == sorted(times)
    calm = [act.ends - act.begins for act in ACTS]
    burst = next(act for act in ACTS if act.name == "burst")
    expected = 40 * STORY_SECONDS * (1 + 2 * (burst.ends - burst.begins))
    assert sum(calm) < 1
    assert len(CALLS) == pytest.approx(expected, rel=0.1)


def test_every_field_is_one_that_a_strict_client_sends() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        with Client(host="127.0.0.1", port=listener.getsockname()[1], strict=True) as client:
            for call in CALLS:
                client.send(**call.event)
            assert client.stats().refused_fields == 0
            assert client.stats().sent_datagrams == len(CALLS)


def test_every_model_is_called_by_its_share() -> None:
    names = Counter(str(event["model"]).partition("-user-")[0] for event in events(""))
    total = sum(model.share for model in MODELS)
    for model in MODELS:
        assert names[model.name] / sum(names.values()) == pytest.approx(
            model.share / total, abs=0.03
        )


def test_a_burst_limits_the_busy_model_and_another_steps_in() -> None:
    limited = [event for event in events("burst") if event["model"] == BUSY]
    assert share(limited, lambda event: event.get("error") == "rate_limit") > 0.3
    assert share(events("burst"), lambda event: event.get("fallback")) > 0.05
    assert {event["model"] for event in events() if event.get("fallback")} == {SPARE}


def test_the_outage_fails_one_model_alone() -> None:
    failing = [event for event in events("outage") if event["model"] == FAILING]
    others = [event for event in events("outage") if event["model"] != FAILING]
    assert share(failing, lambda event: event.get("error")) > 0.5
    assert share(others, lambda event: event.get("error")) < 0.05


def test_the_accident_makes_more_names_than_a_label_may_have() -> None:
    assert len({event["model"] for event in events("accident")}) > 150
    assert {event["model"] for event in events("")} == {model.name for model in MODELS}


def test_own_models_are_loaded_cold_and_warm() -> None:
    loads = [
        float(str(event["load_duration_seconds"]))
        for event in events()
        if event.get("load_duration_seconds")
    ]
    assert sum(load > 1 for load in loads) > 10
    assert sum(load < 0.25 for load in loads) > 10 * sum(load > 1 for load in loads)


def test_the_line_of_the_old_client_is_refused() -> None:
    lines = [each for each in STORY if isinstance(each, Line)]
    assert {line.data for line in lines} == {REFUSED_LINE}
    assert [parsed.reason for parsed in [parse_line(REFUSED_LINE)]] == ["bad_value"]


def test_the_story_has_no_end_and_begins_again() -> None:
    times = (each.at_seconds for each in traffic(1, 50.0, 10.0))
    seconds = next(time for time in times if time > 25)
    assert act_at(seconds, 10.0) == act_at(seconds % 10.0, 10.0)


# The processes


class Demo:
    """`llmstatsd demo` as a process; it takes free ports unless told otherwise."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        command = [sys.executable, "-m", "llmstatsd", "demo", *arguments]
        if "--http" not in arguments:
            command += ["--statsd-udp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.children: list[psutil.Process] = []

    def wait_until_it_plays(self) -> str:
        """The URL of its daemon, once all its children run."""
        found = wait_for("the guide", lambda: self._look(self.out, r"(http://\S+)/metrics"))
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.children) == 4, self.children
        return found[1]

    def _look(self, file: Path, pattern: str) -> re.Match[str] | None:
        if self.process.poll() is not None:
            pytest.fail(f"the demo ended with {self.process.returncode}: {self.said()}")
        return re.search(pattern, file.read_text())

    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def wait_for_no_child(self) -> None:
        wait_for("no child", lambda: not any(child.is_running() for child in self.children))

    def close(self) -> None:
        """Its children end with it, whatever has become of the test."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_SECONDS)


StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    with contextlib.ExitStack() as started:

        def start(*arguments: str) -> Demo:
            demo = Demo(tmp_path, *arguments)
            started.callback(demo.close)
            return demo

        yield start


class Seen(NamedTuple):
    """What a daemon shows."""

    metrics: dict[str, Metric]
    summary: Any
    cardinality: Any
    refused: Any

    def samples(self, family: str) -> list[Sample]:
        """Those of a family, or none."""
        return self.metrics[family].samples if family in self.metrics else []

    def values(self, family: str, sample: str, label: str) -> dict[str, float]:
        """By one label, samples that are not 0, summed up."""
        found: defaultdict[str, float] = defaultdict(float)
        for each in self.samples(family):
            if each.name == sample and each.value:
                found[each.labels[label]] += each.value
        return dict(found)


def look(url: str) -> Seen:
    with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client:
        text = client.get("/metrics").raise_for_status().text
        pages = [
            client.get(f"/api/v1/{name}").json() for name in ("summary", "cardinality", "refused")
        ]
    return Seen({one.name: one for one in text_string_to_metric_families(text)}, *pages)


def missing(seen: Seen) -> list[str]:
    """What of the story is not to be seen yet, in /metrics or in the API."""
    names = {model.name for model in MODELS}
    local = {model.name for model in MODELS if model.cold_load_seconds}
    requests = seen.values("llm_request", "llm_request_total", "model")
    errors = seen.values("llm_error", "llm_error_total", "type")
    limited = seen.values("llm_rate_limit_exceeded", "llm_rate_limit_exceeded_total", "model")
    loads = seen.values(
        "llm_model_load_duration_seconds", "llm_model_load_duration_seconds_count", "model"
    )
    figures = seen.summary["figures"]
    rows = {row["model"] for row in seen.summary["models"]}
    label: Any = next(
        (
            label
            for series in seen.cardinality["series"]
            for label in series["labels"]
            if (series["series"], label["label"]) == ("llm_request_total", "model")
        ),
        {"values": 0, "heaviest": []},
    )
    is_there = {
        "models": names <= requests.keys(),
        "rows": names <= rows,
        "errors": {"timeout", "server_error", "connection", "rate_limit"} <= errors.keys(),
        "errors in the API": errors.keys() >= figures["errors_by_type"].keys() >= {"timeout"},
        "rate limits": BUSY in limited and figures["rate_limited"] > 0,
        "fallbacks": figures["fallbacks"] > 0,
        "loads": loads.keys() == local,
        "tokens": figures["tokens"] > 0 and (figures["p95_seconds"] or 0) > 0,
        "other": requests.get("other", 0) > 0 and label["values"] == 100,
        "the heavy user": "gpt-4o-user-77777" in {each["value"] for each in label["heaviest"]},
        "refused": [each["reason"] for each in seen.refused["reasons"]] == ["bad_value"],
    }
    return [name for name, there in is_there.items() if not there]


def test_everything_that_happens_is_seen_in_metrics_and_in_the_api(start_demo: StartDemo) -> None:
    demo = start_demo("--rate", "700", "--story-seconds", "5")
    url = demo.wait_until_it_plays()
    left: list[str] = []

    def is_all_there() -> bool:
        left[:] = missing(look(url))
        return not left

    try:
        wait_for("the whole story", is_all_there)
    finally:
        assert left == []
    said = demo.out.read_text()
    assert all(act.says in said for act in ACTS)
    for command in ("top", "doctor", "tap"):
        assert f"llmstatsd {command} --url {url}" in said


def test_it_ends_by_itself_when_everything_is_sent(start_demo: StartDemo) -> None:
    demo = start_demo("--rate", "100", "--seconds", "2", "--seed", "7")
    demo.wait_until_it_plays()
    assert demo.wait() == 0
    demo.wait_for_no_child()
    sent = list(everything(Whole(7, 100.0, 2.0, 2.0)))
    refused = sum(isinstance(each, Line) for each in sent)
    stopped = re.search(
        r"stopped: (\d+) datagrams, \d+ lines, (\d+) refused, 0 dropped", demo.said()
    )
    assert stopped is not None, demo.said()
    assert (int(stopped[1]), int(stopped[2])) == (len(sent), refused)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_its_children(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo()
    demo.wait_until_it_plays()
    demo.process.send_signal(number)
    assert demo.wait() == 0, demo.said()
    demo.wait_for_no_child()
    assert "stopped: " in demo.err.read_text()
    assert "Traceback" not in demo.said()


def test_its_children_do_not_outlive_it_when_it_is_killed(start_demo: StartDemo) -> None:
    demo = start_demo()
    demo.wait_until_it_plays()
    demo.process.kill()
    assert demo.wait() == -signal.SIGKILL
    demo.wait_for_no_child()


def test_it_says_so_and_ends_when_its_daemon_does(start_demo: StartDemo) -> None:
    demo = start_demo()
    demo.wait_until_it_plays()
    (daemon,) = [child for child in demo.children if "serve" in child.cmdline()]
    daemon.kill()
    assert demo.wait() == 1
    demo.wait_for_no_child()
    assert "Error: the daemon has ended" in demo.err.read_text()


def test_ports_that_are_taken_are_replaced_and_named(start_demo: StartDemo) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        taken = [f"127.0.0.1:{each.getsockname()[1]}" for each in (udp, web)]
        demo = start_demo("--statsd-udp", taken[0], "--http", taken[1])
        url = demo.wait_until_it_plays()
        assert url.removeprefix("http://") not in taken
        wait_for("requests", lambda: look(url).summary["figures"]["requests"] > 0)
    for place, kind in zip(taken, ("UDP", "TCP"), strict=True):
        assert f"{place} ({kind}) is taken, so a free port is used." in demo.out.read_text()


def test_a_configuration_is_used_and_what_belongs_to_a_daemon_that_stays_is_not(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    state, unix = tmp_path / "state", tmp_path / "socket"
    config = tmp_path / "llmstatsd.toml"
    config.write_text(f'[statsd]\nlane = "portable"\nunix = "{unix}"\n[state]\npath = "{state}"\n')
    demo = start_demo("--config", str(config))
    url = demo.wait_until_it_plays()
    assert look(url).summary["about"]["lane"] == "portable"
    demo.process.terminate()
    assert demo.wait() == 0
    assert not state.exists()
    assert not unix.exists()


def test_what_cannot_start_ends_with_the_code_of_the_daemon(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    demo = start_demo("--statsd-udp", "127.0.0.1:0", "--http", "192.0.2.1:2112")
    assert demo.wait() == 3
    assert "cannot bind HTTP 192.0.2.1:2112" in demo.err.read_text().splitlines()[-1]
    config = tmp_path / "bad.toml"
    config.write_text("[statsd]\nlane = 1\n")
    demo = start_demo("--config", str(config))
    assert demo.wait() == 3
    assert "statsd.lane" in demo.err.read_text()


@pytest.mark.parametrize(
    "arguments",
    [("--rate", "0"), ("--rate", "2001"), ("--seconds", "0"), ("--seed", "x"), ("--http", "x")],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(start_demo: StartDemo, arguments: tuple[str, ...]) -> None:
    demo = start_demo(*arguments)
    assert demo.wait() == 2
