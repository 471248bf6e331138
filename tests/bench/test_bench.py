"""The benches run, end by themselves and say what they measured; no figure is judged here."""

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench import generator, harness, native, payloads, peer, scrape, search
from tests.tools import tool

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 120


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A bound UDP socket that nobody reads unless the test does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


def target_of(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


def run(script: str, *arguments: str) -> Any:
    """The JSON that a bench prints when it is run as the README says."""
    done = subprocess.run(
        [sys.executable, f"bench/{script}", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
    )
    return json.loads(done.stdout)


def test_the_generator_sends_exactly_the_prepared_datagrams(receiver: socket.socket) -> None:
    expected = payloads.datagrams(payloads.llm_lines(seed=3), 2, 100)
    arguments = ("--lines=2", "--datagrams=100", "--rate=20000", "--seconds=20", "--seed=3")
    sent = run("generator.py", f"--target={target_of(receiver)}", *arguments)
    assert sent["datagrams"] == 100
    assert sent["lines"] == 200
    assert [receiver.recv(65536) for _ in range(100)] == expected


def test_the_generator_stops_when_its_time_is_up(receiver: socket.socket) -> None:
    arguments = ("--datagrams=1000000000", "--seconds=0.05", "--payload=distinct")
    sent = run("generator.py", f"--target={target_of(receiver)}", *arguments)
    assert 0 < sent["datagrams"] < 1_000_000_000


def test_a_receiver_that_has_gone_ends_the_load_with_an_error(receiver: socket.socket) -> None:
    pages = generator.llm_pages(1, seed=1)
    with generator.connected(target_of(receiver)) as sock:
        receiver.close()
        with pytest.raises(ConnectionError):
            generator.send_load(sock, pages, generator.Bounds(datagrams=1000, seconds=10))


def test_a_paced_load_owes_nothing_before_its_time() -> None:
    bounds = generator.Bounds(datagrams=1000, seconds=10, rate=100)
    assert bounds.due(sent=0, elapsed=0.0) == 1
    assert bounds.due(sent=1, elapsed=0.0) == 0
    assert bounds.due(sent=1, elapsed=0.1) == 10
    assert bounds.due(sent=1, elapsed=9.0) == generator.BATCH
    assert bounds.due(sent=1000, elapsed=1.0) < 0
    assert bounds.due(sent=1, elapsed=10.0) < 0


def test_the_same_seed_makes_the_same_traffic() -> None:
    first, again, other = (payloads.llm_lines(seed) for seed in (1, 1, 2))
    assert list(islice(first, 500)) == list(islice(again, 500))
    assert list(islice(payloads.llm_lines(1), 500)) != list(islice(other, 500))


def test_no_two_distinct_lines_name_the_same_model() -> None:
    models = [dict(line.labels)["model"] for line in islice(payloads.distinct_lines(), 5000)]
    assert len(set(models)) == 5000


def test_the_expected_sums_are_those_of_the_lines() -> None:
    sums = dict.fromkeys(payloads.distinct_sums(0), 0.0)
    for line in islice(payloads.distinct_lines(), 4321):
        scale, ending = (0.001, "_seconds") if line.type == "ms" else (1.0, "")
        if line.type == "c":
            sums[line.name] += float(line.value)
        else:
            sums[f"{line.name}{ending}_count"] += 1
            sums[f"{line.name}{ending}_sum"] += float(line.value) * scale
    assert payloads.distinct_sums(4321) == pytest.approx(sums, rel=1e-12)


def test_a_scrape_adds_up_samples_of_one_name_only() -> None:
    scrape = harness.Scrape(
        '# TYPE a_total counter\na_total{b="x y"} 2.0\na_total 1.5\na_total_more 4\n'
    )
    assert scrape.sum("a_total") == 3.5
    assert scrape.sum("absent") == 0.0
    assert scrape.lines("a_") == 3


def test_the_yardstick_counts_what_it_receives() -> None:
    bounds = generator.Bounds(datagrams=500, seconds=20, rate=20_000)
    with harness.Yardstick() as yardstick:
        sent = harness.generate(yardstick.statsd_udp, 1, bounds)
        yardstick.wait_drained()
        received = yardstick.finish(lines_per_datagram=1)
    assert sent.datagrams == 500
    assert received == harness.Received(datagrams=500, lines=500, dropped=0)


def test_throughput_counts_every_datagram_of_all() -> None:
    result = run(
        "throughput.py",
        *("--rounds=1", "--datagrams=300", "--seconds=20", "--case=3@10000", "--case=1@20000"),
        *("--blast-lines=200", "--search-seconds=0.02", "--json=-"),
    )
    subjects = ["sink", "compiled", "portable", "yardstick"]
    assert [one["subject"] for one in result["costs"]] == subjects * 2
    assert all(one["received"]["datagrams"] == 300 for one in result["costs"])
    assert [one["received"]["lines"] for one in result["costs"]] == [*[900] * 4, *[300] * 4]
    pairs = [("compiled", "sink"), ("portable", "yardstick")]
    assert [(one["subject"], one["base"]) for one in result["ratios"]] == pairs * 2
    assert [one["sent"]["datagrams"] for one in result["blasts"]] == [*[200] * 3, *[10] * 3]
    assert [one["subject"] for one in result["highest"]] == subjects[:3] * 2
    assert all(one["rate"] > 0 for one in result["highest"])
    assert len(result["goals"]) == 4


def test_the_live_view_is_measured_with_nobody_and_with_all_looking() -> None:
    tool("chromium")
    result = run(
        "live.py",
        *("--models=3", "--rounds=1", "--seconds=0.3", "--lines-per-second=2000"),
        *("--updates=1", "--ticks=5", "--json=-"),
    )
    assert [each["state"] for each in result["shares"]] == ["rest", "fed"]
    assert result["ring_bytes"] > 0
    watchers = [each["watchers"] for each in result["watched"]]
    assert watchers[:2] == ["nobody looks", "16 streams"]
    assert all(each["sent"]["datagrams"] > 0 for each in result["watched"])
    assert result["watched"][1]["told_bytes"] > 0
    assert [(each["where"], each["state"], len(each["seconds"])) for each in result["updates"]] == [
        (where, state, 1) for state in ("rest", "loaded") for where in ("stream", "page")
    ]


def told(rate_of: Callable[[float], tuple[float, float]]) -> search.Highest:
    """What a search finds when a load asked for at a rate sends and drops what a function says."""
    going = search.search()
    asked, steps = next(going), []
    while True:
        sent, dropped = rate_of(asked)
        steps.append(search.Step(asked, native.Sent(int(sent), 1.0), int(dropped)))
        try:
            asked = going.send(steps[-1])
        except StopIteration as ended:
            received = harness.Received(0, 0, 0)
            return search.Highest(1, "", ended.value, [], False, received, steps)


def test_a_search_finds_the_rate_from_which_a_receiver_loses() -> None:
    found = told(lambda asked: (asked or 2e6, max(0.0, (asked or 2e6) - 500_000)))
    assert found.rate == pytest.approx(500_000, rel=0.03)
    assert found.rate <= 500_500
    assert len(found.steps) < search.MOST_STEPS


def test_a_search_takes_the_flood_where_that_is_received() -> None:
    assert told(lambda asked: (min(asked or 9e5, 9e5), 0)).rate == 900_000


def test_a_search_ends_where_only_a_flood_is_lost() -> None:
    found = told(lambda asked: (min(asked, 7e5), 0) if asked else (9e5, 4e5))
    assert found.rate == 700_000


def test_the_tools_in_c_send_and_count_what_they_are_given() -> None:
    datagrams = [b"a:1|c", b"b:1|c", b"longer:1|c"]
    with native.Sink() as sink:
        sent = native.blast(sink.udp_port, datagrams, count=10, seconds=20)
        sink.wait_drained()
        received = sink.finish(lines_per_datagram=1)
    assert sent.datagrams == 10
    assert received == harness.Received(datagrams=10, lines=10, dropped=0)


def test_segments_arrive_as_the_datagrams_they_were(receiver: socket.socket) -> None:
    datagrams = payloads.in_runs(payloads.datagrams(payloads.llm_lines(1), 1, 200), 64, seed=1)
    sent = native.blast(receiver.getsockname()[1], datagrams, count=200, seconds=20)
    assert sent.datagrams == 200
    assert [receiver.recv(65536) for _ in range(200)] == datagrams


@pytest.fixture(scope="module")
def scrapes() -> Any:
    """What scrape.py says of few lines."""
    bounds = ("--repeats=2", "--rounds=2", "--seconds=0.2", "--search-seconds=0.02")
    rates = ("--rate=2000", "--exporter-rate=1000")
    return run("scrape.py", "--size=250", *bounds, *rates, "--json=-")


def test_both_lanes_render_the_same_series_as_prometheus_client(scrapes: Any) -> None:
    renders = {one["subject"]: one for one in scrapes["renders"]}
    assert list(renders) == ["compiled", "portable", "prometheus_client"]
    per_model, without_labels = 123, 1
    assert {one["lines"] for one in renders.values()} == {2 * per_model + without_labels}
    assert [len(one["seconds"]) for one in renders.values()] == [2, 2, 3]


def test_scrapes_are_loaded_and_compared_with_a_load_without_them(scrapes: Any) -> None:
    subjects = ["llmstatsd", "llmstatsd", "prometheus_client"]
    if peer.installed(peer.StatsdExporter):
        subjects.insert(2, "statsd_exporter")
    live = scrapes["live"]
    assert [one["load"]["subject"] for one in live] == subjects
    assert [one["load"]["rate"] > 0 for one in live] == [*[True] * (len(live) - 1), False]
    names = ["plain", "gzip", "no scrape", "others compute"] * 2
    assert [phase["name"] for phase in live[0]["phases"]] == names
    assert all(
        phase["scraped"]["seconds"] and phase["scraped"]["bytes"] > 10_000
        for one in live
        for phase in one["phases"]
        if phase["name"] == "plain"
    )
    phases = [phase for one in live[:-1] for phase in one["phases"]]
    assert all(phase["sent"]["datagrams"] > 0 for phase in phases)
    plain, gzip = (phase["scraped"]["bytes"] for phase in live[0]["phases"][:2])
    assert 0 < gzip < plain
    assert len(scrapes["goals"]) == 4


def test_pauses_are_those_during_each_scrape(scrapes: Any) -> None:
    (pauses,) = scrapes["pauses"]
    assert [one["name"] for one in pauses["phases"]] == ["no scrape", "plain", "gzip"]
    assert all(len(one["wall_seconds"]) == 5 for one in pauses["phases"])


def test_what_scrapes_cost_is_what_is_lost_more_than_without_them() -> None:
    def phases(name: str, *dropped: int) -> list[scrape.Phase]:
        return [scrape.Phase(name, None, native.Sent(1000, 1.0), lost) for lost in dropped]

    of_rounds = [
        *phases("plain", 900, 30, 30),
        *phases("gzip", 10, 10, 10),
        *phases("no scrape", 10, 10, 900),
    ]
    load = scrape.Load("llmstatsd", "moderate", 1000.0)
    (goal,) = scrape.loss_goals([scrape.Live(load, 100, of_rounds, 1)])
    assert goal.measured == pytest.approx(0.02)


def test_memory_finds_exact_sums() -> None:
    arguments = ("--series=200", "--models=20", "--distinct-lines=2000", "--starts=1")
    result = run("memory.py", *arguments, "--json=-")
    assert result["series"][0]["series"] == 200
    assert result["flood"]["lines"] == 2000
    assert result["flood"]["sums"] == result["flood"]["expected_sums"]
    assert len(result["starts"]["seconds"]) == 1


def test_the_clients_are_measured_side_by_side_and_lose_nothing() -> None:
    result = run("client.py", "--rounds=1", "--calls=1000", "--memory-calls=1000", "--json=-")
    ours = ["llmstatsd-client", "llmstatsd-client, buffered"]
    theirs = ["datadog", "datadog, buffered", "statsd", "statsd, pipeline"]
    assert [one["subject"] for one in result["costs"]] == [*ours, *theirs]
    assert all(one["flat_out"] > 0 for one in result["costs"])
    assert [one["events"] for one in result["memory"]] == [1100] * 4
    assert result["memory"][0]["sent_datagrams"] == 1100
    known = {"go": "Go", "cargo": "Rust"}
    expected = [language for name, language in known.items() if shutil.which(name)]
    assert [one["language"] for one in result["compiled"]] == expected
    assert all(0 < one["encode"] < one["send"] for one in result["compiled"])


def test_a_soak_sums_up_what_has_left_and_what_is_there() -> None:
    result = run("soak.py", "--minutes=3", "--seconds=6", "--json=-")
    assert [(one["what"], one["lane"]) for one in result["soaks"]] == [
        ("on a fast clock", "compiled"),
        ("a daemon", "compiled"),
        ("on a fast clock", "portable"),
        ("a daemon", "portable"),
    ]
    for one in result["soaks"]:
        assert one["sums"] == one["expected_sums"]
        assert one["left"] > 0
        assert one["scrapes"] > 1


def test_hostile_datagrams_are_sent_to_both_lanes() -> None:
    result = run("abuse.py", "--datagrams=3000", "--seed=5", "--json=-")
    assert [(one["lane"], one["seed"]) for one in result["ordeals"]] == [
        ("compiled", 5),
        ("portable", 5),
    ]
    assert all(one["datagrams"] == 3000 for one in result["ordeals"])
    assert all(one["wrong_sums"] == {} for one in result["ordeals"])


def test_both_lanes_are_loaded_with_a_tap_and_without() -> None:
    result = run("tap.py", "--rounds=1", "--rate=2000", "--seconds=1", "--json=-")
    assert [(one["lane"], one["is_tapped"]) for one in result["phases"]] == [
        ("compiled", True),
        ("compiled", False),
        ("portable", True),
        ("portable", False),
    ]
    assert all((one["shown_lines"] > 0) == one["is_tapped"] for one in result["phases"])


def test_a_result_can_go_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "start.json"
    command = [sys.executable, "bench/start.py", "--starts=1", f"--json={file}"]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert done.stdout.startswith("start to ready")
    assert len(json.loads(file.read_text())["seconds"]) == 1


# Progress

_WORK = """
import sys
from bench import harness
for _ in harness.progress(range(3), "steps"): pass
with harness.progress_to(10.0, "work") as come_to:
    for done in (2.5, 9, 12): come_to(done)
"""


def work(stderr: int) -> str:
    """What work in a process of its own says on its stdout and, where that is a pipe, stderr."""
    command = [sys.executable, "-c", _WORK]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, check=True, text=True, timeout=60
    )
    return done.stdout + (done.stderr or "")


def test_progress_is_a_plain_line_where_nobody_watches() -> None:
    assert work(subprocess.PIPE) == "steps\nwork\n"


def test_progress_is_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    try:
        assert work(theirs) == ""
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    for label in ("steps", "work"):
        assert re.search(rf"{label}  \[#+\]  100%", shown), shown
