"""The benches beside other servers run with whichever of them are there, and say which are not."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import harness, loads, native, payloads, peer

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 240


def run(script: str, *arguments: str) -> Any:
    """The JSON that a bench prints."""
    done = subprocess.run(
        [sys.executable, f"bench/{script}", *arguments, "--json=-"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
    )
    return json.loads(done.stdout)


COUNTER = """
import signal, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
sock.settimeout(0.1)
lines, over = 0, []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
while not over:
    try:
        lines += sock.recv(65536).count(b"\\n") + 1
        open(sys.argv[2], "w").write(str(lines))
    except TimeoutError:
        pass
"""


class Counting(peer.Peer):
    """A server of a few lines, which writes to a file what it has counted."""

    name = "counting"
    install = "nothing"
    plain = True

    @classmethod
    def program(cls) -> str | None:
        return sys.executable

    def command(self, program: str) -> list[str]:
        return [program, "-c", COUNTER, str(self.udp_port), str(self.folder / "told")]

    def lines_counted(self) -> int:
        return int((self.folder / "told").read_text())


class Absent(Counting):
    """A server that nobody has installed."""

    name = "absent"
    install = "cannot be had"

    @classmethod
    def program(cls) -> str | None:
        return None


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting() as started:
        yield started


def test_a_peer_is_loaded_and_asked_for_its_own_count(counting: Counting) -> None:
    folder = counting.folder
    case = loads.Case(20, rate=2000)
    sent = loads.send(counting.udp_port, case, 50, 20, counting.plain)
    received = counting.finish(20)
    assert sent.datagrams == 50
    assert received == harness.Received(datagrams=50, lines=1000, dropped=0)
    assert not folder.exists()


def test_a_peer_that_is_not_installed_says_how_it_would_be() -> None:
    assert not peer.installed(Absent)
    with pytest.raises(harness.BenchError, match=r"absent is not installed: cannot be had"):
        Absent()


def test_a_peer_that_ends_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [sys.executable, "-c", "raise SystemExit('no such option')"]
    monkeypatch.setattr(Counting, "command", lambda *_: words)
    with pytest.raises(harness.BenchError, match=r"(?s)has ended.*no such option"):
        Counting()


def test_lines_without_tags_tell_by_their_sums_how_many_they_are() -> None:
    texts = [line.decode() for line in loads.prepared(1, plain=True)[:500]]
    assert not any("#" in text for text in texts)
    assert {text.rpartition("|")[2] for text in texts} == {"c", "ms"}
    assert all(text.partition(":")[2] == "1|c" for text in texts if text.endswith("|c"))


@pytest.mark.parametrize("of", [payloads.plain_text, payloads.Line.text])
def test_both_forms_name_the_same_series(of: Callable[[payloads.Line], str]) -> None:
    line = payloads.Line("llm_tokens_total", "7", "c", (("model", "llama3.1:8b"),))
    assert of(line).startswith("llm_tokens_total")
    assert "llama3" in of(line)


def test_the_peers_are_compared_as_far_as_they_are_installed() -> None:
    result = run("peers.py", "--rounds=1", "--datagrams=300", "--blast-lines=400",
                 "--search-seconds=0")  # fmt: skip
    there = [each.name for each in peer.PEERS if peer.installed(each)]
    subjects = ["sink", "compiled", "portable", *there]
    assert [one["subject"] for one in result["standings"]] == subjects * 2
    assert set(result["missing"]) == {each.name for each in peer.PEERS} - set(there)
    ours = [one for one in result["standings"] if one["subject"] in ("compiled", "portable")]
    assert all(one["counted"] == 1 for one in ours)


def test_hostile_loads_are_accounted_for() -> None:
    arguments = ("--lines=4000", "--datagrams=100", "--subject=compiled", "--subject=portable")
    result = run("hostile.py", *arguments)
    whats = ["distinct values", "refused lines", "one byte", "65 kB"]
    assert [one["what"] for one in result["ordeals"]] == [what for what in whats for _ in range(2)]
    assert all(one["exact"] for one in result["ordeals"])


def test_the_same_series_are_scraped_from_each() -> None:
    result = run("exporters.py", "--lines=300", "--scrapes=2", "--histograms=50")
    subjects = ["llmstatsd", "prometheus_client"]
    if peer.installed(peer.StatsdExporter):
        subjects.insert(1, "statsd_exporter")
    kinds = ["counters", "histograms"]
    expected = [(kind, subject) for kind in kinds for subject in subjects]
    assert [(one["kind"], one["subject"]) for one in result["held"]] == expected
    assert all(one["bytes"] > 300 * 40 and len(one["seconds"]) == 2 for one in result["held"])
    assert (result["memory"]["label_sets"], result["memory"]["lines"]) == (50, 50 * 23)
    assert result["goals"][-1]["measured"] == result["memory"]["bytes_per_set"]


def test_a_free_port_is_free() -> None:
    port = peer.free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
    with native.Sink() as sink:
        assert sink.udp_port != 0
