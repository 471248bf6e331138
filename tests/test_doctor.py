"""Real daemons brought into each state that the doctor knows, and what it says of them."""

import json
import re
import signal
import socket
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from llmstatsd import ask, config
from llmstatsd.cli import main
from llmstatsd.doctor import facts, receiving
from llmstatsd.doctor.buckets import suggested
from llmstatsd.doctor.checks import CHECKS, diagnose
from llmstatsd.wire import reasons
from tests import servers
from tests.conftest import RunningDaemon, StartDaemon, wait_for

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "doctor.md"

Document = dict[str, Any]

SMALL_BUFFER = ("--statsd-receive-buffer-bytes", "65536")
"""What every kernel grants."""

OF_THE_MACHINE = {"lane", "receive-buffer"}
"""What a machine may lack: a compiler, and a kernel that grants large buffers."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def report(daemon: RunningDaemon, *arguments: str) -> Document:
    """The report as JSON, whose exit code says the same."""
    result = run("--url", daemon.url, "--json", *arguments)
    document: Document = json.loads(result.stdout)
    has_problem = any(each["severity"] == "problem" for each in document["findings"])
    assert result.exit_code == int(has_problem), result.output
    assert document["version"] == 1
    return document


def found(daemon: RunningDaemon, name: str, *arguments: str) -> Document | None:
    """The first finding of one check."""
    every = [each for each in report(daemon, *arguments)["findings"] if each["name"] == name]
    return every[0] if every else None


def wait_for_finding(daemon: RunningDaemon, name: str, *arguments: str) -> Document:
    return wait_for(f"the finding {name}", lambda: found(daemon, name, *arguments))


def toml(finding: Document) -> Document:
    """The configuration that a finding gives, of all its pieces of TOML."""
    pieces = []
    for each in finding["do"]:
        start = re.search(r"^\[", each, re.MULTILINE)
        if start:
            pieces.append(each[start.start() :])
    return tomllib.loads("\n".join(pieces))


def send_durations(daemon: RunningDaemon, *seconds: float) -> None:
    """Each a hundred times."""
    for duration in seconds:
        packed = ":".join([str(duration)] * 100)
        daemon.send(
            f"llm_request_duration_seconds:{packed}|h|#model:gpt-4o,operation:chat".encode(),
            b"llm_request_total:100|c|#model:gpt-4o,operation:chat",
        )


def wait_for_durations(daemon: RunningDaemon, count: int) -> None:
    daemon.wait_for_value(
        count, "llm_request_duration_seconds_count", model="gpt-4o", operation="chat"
    )


SPREAD = (0.02, 0.07, 0.2, 0.4, 0.8, 1.5, 2.5, 4, 6, 8, 12, 18, 25, 40)


def test_with_a_healthy_daemon_nothing_is_wrong_and_it_says_what_it_looked_at(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(*SMALL_BUFFER)
    send_durations(daemon, *SPREAD)
    wait_for_durations(daemon, 1400)
    document = report(daemon)
    assert {each["name"] for each in document["findings"]} <= OF_THE_MACHINE
    assert set(document["right"]) >= CHECKS.keys() - OF_THE_MACHINE
    result = run("--url", daemon.url)
    assert result.exit_code == 0
    assert f"at {daemon.url}: " in result.stdout
    assert "found right: ready, arrivals, " in result.stdout
    if not document["findings"]:
        assert result.stdout.endswith("nothing is wrong\n")


def test_the_page_explains_every_check_in_order() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE) == [
        "reachable",
        *CHECKS,
    ]


def test_nobody_there_is_a_problem_and_no_url_is_wrong_usage() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        result = run("--url", url)
        as_json = json.loads(run("--url", url, "--json").stdout)
    assert result.exit_code == 1
    assert "PROBLEM reachable: no daemon answers" in result.stdout
    assert "Connection refused" in result.stdout
    assert [each["name"] for each in as_json["findings"]] == ["reachable"]
    assert run("--url", "127.0.0.1:2112").exit_code == 2


def test_somebody_who_speaks_another_language_is_not_nobody() -> None:
    with servers.answering(b"SSH-2.0-OpenSSH\r\n") as url:
        result = run("--url", url)
    assert result.exit_code == 1
    assert "PROBLEM reachable: what answers is no daemon, or does not tell" in result.stdout


def test_where_nothing_arrives_it_says_how_to_send(daemon: RunningDaemon) -> None:
    finding = found(daemon, "arrivals")
    assert finding is not None
    assert finding["severity"] == "problem"
    assert any(f"llmstatsd send --to 127.0.0.1:{daemon.udp[1]} " in each for each in finding["do"])
    daemon.send(b"llm_request_total:1|c|#model:a,operation:chat")
    daemon.wait_for_datagrams(1)
    assert found(daemon, "arrivals") is None


@pytest.mark.parametrize(
    ("arguments", "env", "why"),
    [
        (("--statsd-lane", "portable"), {}, "statsd.lane says so"),
        ((), {"LLMSTATSD_NO_EXTENSIONS": "1"}, "the extension is missing, or"),
    ],
    ids=["option", "no-extensions"],
)
def test_the_portable_lane_is_named(
    start_daemon: StartDaemon, arguments: tuple[str, ...], env: dict[str, str], why: str
) -> None:
    finding = found(start_daemon(*arguments, env=env), "lane")
    assert finding is not None
    assert finding["severity"] == "advice"
    assert finding["saw"][0].startswith(why)


def test_a_clamped_buffer_comes_with_its_sysctl(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-receive-buffer-bytes", str(1 << 30))
    finding = found(daemon, "receive-buffer")
    assert finding is not None
    assert "sysctl -w net.core.rmem_max=1073741824\n" in finding["do"][0]
    assert "of 1,073,741,824 bytes" in finding["saw"][0]


def test_datagrams_that_the_kernel_drops_are_counted(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-receive-buffer-bytes", "4096")
    daemon.process.send_signal(signal.SIGSTOP)
    daemon.send(*[b"llm_request_total:1|c|#model:a,operation:chat"] * 500)
    daemon.process.send_signal(signal.SIGCONT)
    finding = wait_for_finding(daemon, "kernel-drops")
    dropped = daemon.value("llmstatsd_kernel_dropped_datagrams_total")
    assert dropped
    assert finding["severity"] == "problem"
    assert finding["saw"][0].startswith(f"{dropped:.0f} of 500 datagrams")
    assert toml({"do": [finding["do"][0]]})["statsd"]["receive_buffer_bytes"] >= 16384


def test_refused_lines_are_shown_with_the_last_one_and_who_may_send_such(
    daemon: RunningDaemon,
) -> None:
    daemon.send(b"a:1,5|c", b"a:2,5|c", "a\u202e:x|c".encode(), b"\x1b]0;owned\x07:1|c")
    daemon.send(*[b"llm_request_total:1|c|#model:a,operation:chat,nothing"] * 6)
    daemon.wait_for_datagrams(10)
    finding = found(daemon, "refused-lines")
    assert finding is not None
    assert finding["severity"] == "problem"
    assert finding["says"].startswith("lines are refused as bad_value: the value is empty, or no")
    assert finding["saw"] == ["3 of 10 lines (30.0%)", "the last one: a\u202e:x|c"]
    assert "locale (1,5)" in finding["do"][0]
    look = "llmstatsd tap --senders --filter 'verdict=refused reason=bad_value'"
    port = daemon.url.rpartition(":")[2]
    assert finding["do"][1].splitlines()[1] == f"{look} --url http://localhost:{port}"
    text = run("--url", daemon.url).stdout
    assert r"the last one: a\u202e:x|c" in text
    assert not re.search(r"[^\n\x20-\x7e]", text)
    noted = found(daemon, "notes")
    assert noted is not None
    assert noted["severity"] == "advice"
    assert noted["saw"] == ["6 times"]


def test_every_reason_and_note_has_a_hint() -> None:
    assert set(receiving._HINTS) == set(reasons.REASONS)
    assert set(receiving._NOTED) == set(reasons.NOTES)


def test_datagrams_of_foreign_networks_are_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-allow-from", "192.0.2.0/24")
    daemon.send(b"a:1|c")
    finding = wait_for_finding(daemon, "refused-datagrams")
    assert finding["saw"] == ["1; allow_from is '192.0.2.0/24'"]


def test_what_it_says_of_folding_cures_it(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text("[limits]\nlabel_values = 2\nlabel_sets = 100\n")
    models = ("a", "b", *["gpt-4o-2024-08-06"] * 30, *["mistral-large"] * 20, *["o3-0416"] * 10)
    lines = [f"llm_request_total:1|c|#model:{model},operation:chat".encode() for model in models]
    daemon = start_daemon("--config", str(file))
    daemon.send(*lines)
    daemon.wait_for_datagrams(len(lines))
    finding = found(daemon, "folding")
    assert finding is not None
    assert finding["severity"] == "problem"
    assert finding["saw"][0] == "about 5 values, 2 are allowed"
    assert "gpt-4o-2024-08-06 (30), mistral-large (20), o3-0416 (10)" in finding["saw"][2]
    cure = toml(finding)
    assert cure["aliases"]["model"] == {"gpt-4o-20*": "gpt-4o", "o3-0416": "o3"}
    assert cure["pinned"]["model"] == ["mistral-large"]
    assert cure["limits"]["label_values"] >= 5
    text = "\n".join(each[each.index("[") :] for each in finding["do"] if "\n[" in each)
    file.write_text(text)
    cured = start_daemon("--config", str(file))
    cured.send(*lines)
    cured.wait_for_value(30, "llm_request_total", model="gpt-4o", operation="chat")
    cured.wait_for_datagrams(len(lines))
    assert found(cured, "folding") is None


def test_values_that_are_no_names_are_neither_pinned_nor_given_room(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("--limits-label-values", "2")
    ids = [f"6f1b2c3d4e5f{number:04x}" for number in range(40)]
    daemon.send(
        *(f"llm_request_total:1|c|#operation:chat,model:{each}".encode() for each in ids),
        *[f"llm_request_total:1|c|#operation:chat,model:{ids[-1]}".encode()] * 20,
    )
    daemon.wait_for_datagrams(60)
    finding = found(daemon, "folding")
    assert finding is not None
    assert toml(finding) == {}
    assert any("no ids, prompts or users" in each for each in finding["do"])


def test_label_sets_that_fold_are_named_with_their_limit(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--limits-label-sets", "3")
    for number in range(10):
        daemon.send(f"jobs:1|c|#a:{number}".encode())
    daemon.wait_for_datagrams(10)
    finding = found(daemon, "folding")
    assert finding is not None
    assert finding["says"].startswith("there are too many combinations of labels")
    assert "in jobs_total" in finding["saw"][0]
    assert toml(finding) == {"limits": {"label_sets": 6}}


@pytest.mark.parametrize(
    ("limit", "lines", "said"),
    [
        (("--limits-undeclared-names", "5"), "n{}:1|c", "undeclared names are near their limit"),
        (("--limits-label-values", "5"), "n:1|c|#a:{}", "n_total has nearly as many values of a"),
        (("--limits-label-sets", "6"), "n:1|c|#a:{}", "n_total has nearly as many label sets"),
    ],
    ids=lambda part: part if isinstance(part, str) else part[0],
)
def test_a_budget_that_is_nearly_used_up_is_named(
    start_daemon: StartDaemon, limit: tuple[str, ...], lines: str, said: str
) -> None:
    daemon = start_daemon(*limit)
    daemon.send(*(lines.format(number).encode() for number in range(2)))
    daemon.wait_for_datagrams(2)
    assert found(daemon, "budgets") is None
    daemon.send(*(lines.format(number).encode() for number in range(2, 5)))
    daemon.wait_for_datagrams(5)
    finding = found(daemon, "budgets")
    assert finding is not None
    assert said in finding["says"]
    assert toml(finding)["limits"]


def test_lines_of_the_exposition_near_their_limit_are_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--limits-exposition-lines", "1000")
    models = [f"llm_request_duration_seconds:1|h|#model:{each},operation:x" for each in range(30)]
    daemon.send(*(line.encode() for line in models))
    daemon.wait_for_datagrams(30)
    finding = found(daemon, "budgets")
    assert finding is not None
    assert finding["says"] == "exposition lines are near their limit"


@pytest.mark.parametrize(
    ("durations", "name", "said"),
    [
        ((1500.0,) * 11, "buckets-saturated", "is saturated: its quantiles are no higher than"),
        ((0.01,) * 11, "buckets-saturated", "tells nothing: nearly everything is in its first"),
        ((1.2, 1.5) * 6, "buckets-empty", "never fill, and the others are coarse"),
    ],
    ids=["above", "first", "empty"],
)
def test_what_it_says_of_buckets_cures_them(
    start_daemon: StartDaemon,
    tmp_path: Path,
    durations: tuple[float, ...],
    name: str,
    said: str,
) -> None:
    daemon = start_daemon(*SMALL_BUFFER)
    send_durations(daemon, *durations[:9])
    wait_for_durations(daemon, 900)
    assert found(daemon, name) is None  # too few to say anything
    send_durations(daemon, *durations[9:])
    wait_for_durations(daemon, len(durations) * 100)
    finding = found(daemon, name)
    assert finding is not None
    assert said in finding["says"]
    assert ("Milliseconds" in finding["do"][0]) == (durations[0] > 1000)
    file = tmp_path / "llmstatsd.toml"
    file.write_text(finding["do"][-1].partition("\n")[2])
    bounds = config.load(file, {}, {}).buckets("llm_request_duration_seconds")
    cured = start_daemon("--config", str(file))
    send_durations(cured, *durations)
    wait_for_durations(cured, len(durations) * 100)
    assert found(cured, name) is None
    assert 10.0 in bounds


def test_suggested_bounds_keep_what_alerts_need_and_can_be_configured() -> None:
    whole = facts.Histogram((0.1, 1.0, 10.0), (0.0, 900.0, 0.0, 100.0), 5000.0)
    assert suggested(whole, {10.0, 30.0}) == [
        *(0.1, 0.325, 0.55, 0.775, 1.0, 10.0, 15.0, 20.0, 30.0, 50.0, 60.0),
    ]


def test_a_threshold_of_a_file_off_the_buckets_of_the_daemon_is_a_problem(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "kit.toml"
    file.write_text("[thresholds]\nlatency_seconds = 20\n[limits]\nlabel_values = 50\n")
    other = tmp_path / "daemon.toml"
    other.write_text("[series.llm_request_duration_seconds]\nbuckets = [1, 10, 30]\n")
    plain, changed = start_daemon(), start_daemon("--config", str(other))
    for daemon in (plain, changed):
        send_durations(daemon, 1.0)
        wait_for_durations(daemon, 100)
    given = ("--config", str(file))
    assert found(plain, "thresholds", *given) is None
    finding = found(changed, "thresholds", *given)
    assert finding is not None
    assert finding["says"].startswith("thresholds.latency_seconds stands on no bucket bound")
    assert finding["saw"][1] == ("bounds of llm_request_duration_seconds below the last: 1, 10")
    differs = found(plain, "file-differs", *given)
    assert differs is not None
    assert differs["saw"] == ["limits.label_values is 100, and 50 in the file"]
    differs = found(changed, "file-differs", *given)
    assert differs is not None
    buckets = "series.llm_request_duration_seconds.buckets"
    assert differs["saw"][1] == f"{buckets} is in force, and not in the file"
    other.write_text(f"{buckets} = [10, 20]\naliases.model.a = 'b'\n")
    differs = found(changed, "file-differs", "--config", str(other))
    assert differs is not None
    assert differs["saw"] == [
        "aliases.model.a is in the file alone",
        f"{buckets} is [1.0, 10.0, 30.0], and [10.0, 20.0] in the file",
    ]
    file.write_text("[thresholds]\nlatency_seconds = 21\n")
    assert run("--url", plain.url, *given).exit_code == 3


def test_a_reload_that_failed_is_a_problem_until_one_goes_well(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text("")
    daemon = start_daemon("--config", str(file), "--http-reload", "true")
    assert found(daemon, "reload") is None
    file.write_text("nonsense = 1\n")
    assert httpx.post(f"{daemon.url}/-/reload").status_code == 500
    finding = found(daemon, "reload")
    assert finding is not None
    assert finding["severity"] == "problem"
    file.write_text("")
    assert httpx.post(f"{daemon.url}/-/reload").status_code == 200
    assert found(daemon, "reload") is None


def test_a_state_file_that_cannot_be_written_is_a_problem(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "llmstatsd.state"
    daemon = start_daemon("--state", str(path), "--state-interval-seconds", "1")
    daemon.wait_for_value(0, "llmstatsd_state_write_failures_total")
    wait_for("the first writing", lambda: path.exists())
    assert found(daemon, "state-file") is None
    folder.rename(tmp_path / "gone")
    finding = wait_for_finding(daemon, "state-file")
    assert any("writings failed" in each or "ago" in each for each in finding["saw"])
    wait_for(
        "a problem", lambda: wait_for_finding(daemon, "state-file")["severity"] == "problem" or None
    )


def test_tcp_connections_at_their_limit_are_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", "--statsd-tcp-connections", "2")
    match = re.search(r"statsd_tcp=(\S+):(\d+)", daemon.log.read_text())
    assert match
    assert found(daemon, "tcp") is None
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection((match[1], int(match[2]))))
        finding = wait_for_finding(daemon, "tcp")
        assert finding["severity"] == "advice"
        stack.enter_context(socket.create_connection((match[1], int(match[2]))))
        wait_for(
            "a problem", lambda: wait_for_finding(daemon, "tcp")["severity"] == "problem" or None
        )
        assert toml(finding) == {"statsd": {"tcp_connections": 4}}


def test_tcp_senders_from_elsewhere_and_cut_lines_are_named(known: facts.Facts) -> None:
    limit = {"tcp_open_connections_limit": 100}
    ladder = known.ladder
    for what, reason in (("connections", "foreign"), ("lines", "cut")):
        key = f"tcp_refused_{what}"
        now = {**ladder, key: {**ladder[key], reason: 1}}
        looked = replace(known, summary={**known.summary, "ladder": now})
        assert names(changed_samples(looked, **limit))["tcp"] == "advice"


def test_a_cache_that_is_too_small_is_named(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("--statsd-cache-entries", "16")
    daemon.send(*(f"n:1|c|#a:{number}".encode() for number in range(90)))
    daemon.wait_for_datagrams(90)
    finding = found(daemon, "cache")
    assert finding is not None
    assert toml(finding) == {"statsd": {"cache_entries": 64}}


def test_scrapes_over_the_threshold_are_a_problem(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """With the least threshold there is; a scrape takes longer where its reader does not read."""
    file = tmp_path / "llmstatsd.toml"
    file.write_text("[thresholds]\nscrape_duration_seconds = 0.001\n")
    daemon = start_daemon()
    for model in range(90):
        daemon.send(
            b"llm_request_duration_seconds:1|h|#operation:chat,model:m%d" % model,
            b"llm_total_duration_seconds:1|h|#operation:chat,model:m%d" % model,
        )
    daemon.wait_for_datagrams(180)

    def look() -> Document | None:
        daemon.scrape()
        return found(daemon, "scrapes", "--config", str(file))

    assert wait_for("a slow scrape", look)["severity"] == "problem"
    assert found(daemon, "scrapes") is None


@pytest.fixture
def known(daemon: RunningDaemon) -> facts.Facts:
    """What is known of a healthy daemon, to be changed where a state is hard to bring about."""
    daemon.send(b"llm_request_total:1|c|#model:a,operation:chat")
    daemon.wait_for_datagrams(1)
    with ask.Daemon(daemon.url) as asked:
        return facts.gather(asked)


def names(changed: facts.Facts) -> dict[str, str]:
    return {each.name: each.severity for each in diagnose(changed).findings}


def changed_samples(known: facts.Facts, **values: float) -> facts.Facts:
    new: dict[str, list[tuple[facts.Labels, float]]] = {
        f"llmstatsd_{name}": [({}, value)] for name, value in values.items()
    }
    return replace(known, samples={**known.samples, **new})


def test_states_that_last_too_short_to_be_met(known: facts.Facts) -> None:
    """Each as its document would have it."""
    healthy = names(known)
    summary = known.summary
    about = {**summary["about"], "is_ready": False}
    assert names(replace(known, summary={**summary, "about": about}))["ready"] == "problem"
    old = {**summary["about"], "uptime_seconds": 4000.0}
    silent = {**summary, "about": old, "figures": {**summary["figures"], "requests": 0}}
    assert names(replace(known, summary=silent))["arrivals"] == "advice"
    assert names(replace(known, summary={**summary, "about": old}))["scrapes"] == "advice"
    room = 2 * summary["ladder"]["receive_buffer_bytes"]
    for waiting, said in ((0.49, False), (0.51, True)):
        ladder = {**summary["ladder"], "receive_queue_bytes": int(room * waiting)}
        assert ("queue" in names(replace(known, summary={**summary, "ladder": ladder}))) == said
    lost = {**summary["ladder"], "kernel_dropped_datagrams": 1, "datagrams": 100_000}
    was_lost = replace(known, summary={**summary, "ladder": lost})
    assert names(was_lost)["kernel-drops"] == "advice"
    restored = {**lost, "restored_datagrams": 99_900}
    restarted = replace(known, summary={**summary, "ladder": restored})
    assert names(restarted)["kernel-drops"] == "problem"
    now = {**lost, "kernel_dropped_per_second": 0.1}
    assert names(replace(known, summary={**summary, "ladder": now}))["kernel-drops"] == "problem"
    assert names(changed_samples(known, lane_failures_total=1))["lane"] == "problem"
    hung = {**summary["ladder"], "queue_dropped_datagrams": 1}
    assert names(replace(known, summary={**summary, "ladder": hung}))["queue"] == "problem"
    assert not {"ready", "arrivals", "scrapes", "queue", "kernel-drops"} & healthy.keys()


@pytest.fixture
def answering() -> Iterator[Any]:
    """A server that is no daemon, with the answers given to it."""
    import http.server
    import threading

    answers: dict[str, tuple[int, bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path.partition("?")[0], (404, b"nothing"))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "not as a daemon whose API has version 1 does"),
        (200, b"[" * 100_000, "not as a daemon whose API has version 1 does"),
        (200, b'{"version": 2}', "not as a daemon whose API has version 1 does"),
        (200, b'{"version": 1}', "the answer is not of the API, version 1"),
        (302, b"http://example.org/", "answers 302"),
        (401, b"", "it asks for a password; give --user"),
        (404, b"", "it is no daemon, or one without an API"),
        (503, b'{"error": "\xc2\x9b2J"}', r"answers 503: \u009b2J"),
    ],
    ids=["html", "deep", "version", "empty", "redirect", "password", "missing", "busy"],
)
def test_what_is_no_daemon_is_told_so(answering: Any, status: int, body: bytes, said: str) -> None:
    url, answers = answering
    for what in ("summary", "cardinality", "refused", "settings"):
        answers[f"/api/v1/{what}"] = (status, body)
    answers["/metrics"] = (200, b"")
    result = run("--url", url)
    assert result.exit_code == 1
    assert said in result.stdout
    assert "PROBLEM reachable: what answers is no daemon, or does not tell" in result.stdout
    once = CliRunner().invoke(main, ["top", "--once", "--url", url])
    assert once.exit_code == 1
    assert "Traceback" not in once.output
