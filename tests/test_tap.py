"""`llmstatsd tap`: what it prints of a real daemon, on a pipe and on a terminal."""

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from click.testing import CliRunner

from llmstatsd import tap
from llmstatsd.cli import main
from llmstatsd.live.tap import CountRecord, LineRecord
from llmstatsd.series.cardinality import FOLD_REASONS
from llmstatsd.series.explain import Met
from llmstatsd.wire.reasons import NOTES, REASONS
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.servers import answering
from tests.terminals import Terminal

HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>\u202eevil\x9b31m\r\n" + "\u6f22" * 8


def line(text: str, **changed: object) -> LineRecord:
    fields: dict[str, object] = {
        "transport": "udp",
        "sender": None,
        "verdict": "accepted",
        "reason": None,
        "notes": (),
        "met": (),
    }
    return LineRecord(version=1, time=0.25, text=text, **(fields | changed))  # type: ignore[arg-type]


def met(**changed: object) -> Met:
    fields: dict[str, object] = {
        "series": "llm_tokens_total",
        "type": "counter",
        "labels": {"model": "gpt-4o"},
        "folded": {},
        "fold_reason": None,
        "samples": 1,
        "values": (3.0,),
        "weight": 1.0,
        "is_change": False,
    }
    return Met(**(fields | changed))  # type: ignore[arg-type]


def rest_of(row: str) -> str:
    """A row without its time."""
    return row.partition(" ")[2]


def shown(record: LineRecord) -> str:
    return rest_of(tap.row(record, is_coloured=False, columns=None))


def test_who_sent_a_line_is_told_where_it_is_asked_for() -> None:
    sender = "10.0.0.7:53211"
    refused = line("a:x|c", verdict="refused", reason="bad_value", sender=sender)
    assert sender not in shown(refused)
    row = tap.row(refused, is_coloured=False, columns=80, has_senders=True)
    assert rest_of(row).split() == ["refused", sender, "bad_value", "a:x|c"]
    unknown = tap.row(line("a:1|c"), is_coloured=False, columns=80, has_senders=True)
    assert rest_of(unknown).split() == ["accepted", "-", "a:1|c"]


def test_rows_have_aligned_columns() -> None:
    text = "llm_tokens_total:3|c|#model:gpt-4o"
    accepted = shown(line(text, met=(met(),)))
    refused = shown(line("a:b|c", verdict="refused", reason="bad_value"))
    wide = shown(line("\u6f22" * 5, met=(met(),)))
    columns = f"accepted  {'':{tap.WHY_COLUMNS}} {text:{tap.TEXT_COLUMNS}}"
    assert accepted == f'{columns} -> llm_tokens_total{{model="gpt-4o"}} 3'
    assert refused == "refused   bad_value           a:b|c"
    assert wide.index("->") == accepted.index("->") - 5  # each takes two columns


@pytest.mark.parametrize(
    ("record", "end"),
    [
        (line("x", met=(met(samples=3, values=(1.0, 2.5, 3.0), weight=2.0),)), "} 1,2.5,3 x2"),
        (line("x", met=(met(samples=9),)), "} 3,..."),
        (line("x", met=(met(is_change=True, labels={}),)), "-> llm_tokens_total ±3"),
        (line("x", met=(met(values=("member",)),)), "} member"),
        (line("x", met=(met(), met())), "} 3 +1 series"),
        (
            line("x", met=(met(fold_reason="label_values", folded={"model": "odd"}),)),
            '} 3 (model was "odd")',
        ),
    ],
)
def test_a_row_tells_what_its_values_are(record: LineRecord, end: str) -> None:
    assert shown(record).endswith(end)


def test_a_row_tells_why() -> None:
    assert max(map(len, (*REASONS, *NOTES, *FOLD_REASONS))) <= tap.WHY_COLUMNS
    assert "label_values" in shown(line("x", met=(met(fold_reason="label_values"),)))
    assert "dropped_label" in shown(line("x", notes=("dropped_label",), met=(met(),)))
    assert "event" in shown(line("x", verdict="set_aside", reason="event"))


def test_a_row_fits_its_terminal() -> None:
    for text in ("x" * 200, "\u6f22" * 100, "\x1b" * 100):
        row = tap.row(line(text, met=(met(),)), is_coloured=False, columns=80)
        assert sum(2 if each == "\u6f22" else 1 for each in row) in (79, 80)
    coloured = tap.row(line("x" * 200), is_coloured=True, columns=80)
    assert len(coloured) == 80 + len("\x1b[32m\x1b[0m")


def test_hostile_text_is_made_visible() -> None:
    record = line(HOSTILE, met=(met(labels={HOSTILE: HOSTILE}, folded={"a": HOSTILE}),))
    row = shown(record)
    assert row.isprintable()
    assert r"\u001b[2J" in row
    assert r"\u202eevil\u009b31m\u000d\u000a" in row
    assert "\u6f22" in row


def count(lines: int, explained: int, missed: int = 0) -> CountRecord:
    return CountRecord(1, 0.0, lines, explained, explained, missed)


def test_what_was_left_out_is_told() -> None:
    assert tap.count_row(None, count(5, 5)) is None
    assert tap.count_row(count(5, 5), count(8, 8)) is None
    told = tap.count_row(count(1000, 50), count(301_000, 250))
    assert told == "-- 300,000 lines came in, 200 of them were looked at"
    assert "2 not shown" in (tap.count_row(count(5, 5), count(8, 8, 2)) or "")
    assert tap.count_row(count(1000, 50), count(7, 7)) is None  # of a tap that began anew


def pass_on(stream: IO[str], lines: "queue.Queue[str]") -> None:
    with stream:
        for each in stream:
            lines.put(each)


class Command:
    """`llmstatsd tap` in a process of its own, with its output by the line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmstatsd", "tap", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: queue.Queue[str] = queue.Queue()
        self.err: queue.Queue[str] = queue.Queue()
        self._threads = [
            threading.Thread(target=pass_on, args=(self.process.stdout, self.out)),
            threading.Thread(target=pass_on, args=(self.process.stderr, self.err)),
        ]
        for thread in self._threads:
            thread.start()

    def ended(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)


StartCommand = Callable[..., Command]


@pytest.fixture
def start() -> Iterator[StartCommand]:
    started: list[Command] = []

    def begin(*arguments: str) -> Command:
        started.append(Command(*arguments))
        return started[-1]

    yield begin
    for command in started:
        command.close()


def send_until_shown(daemon: RunningDaemon, command: Command, datagram: bytes) -> str:
    """Send until a line comes out: a command needs a while to begin."""

    def look() -> str | None:
        daemon.send(datagram)
        return None if command.out.empty() else command.out.get()

    return wait_for("a line", look)


def test_lines_are_printed_as_they_come_and_ctrl_c_ends_it(
    daemon: RunningDaemon, start: StartCommand
) -> None:
    command = start("--url", daemon.url, "--filter", "verdict=refused text~b")
    daemon.send(b"a:1|c")
    row = send_until_shown(daemon, command, b"a:\x1b[2Jb|c")
    assert rest_of(row) == "refused   bad_value           a:\\u001b[2Jb|c\n"
    command.process.send_signal(signal.SIGINT)
    assert command.ended() == 0
    command.close()
    assert command.err.empty(), command.err.get()


def test_json_is_ascii_and_ends_after_so_many_lines(
    daemon: RunningDaemon, start: StartCommand
) -> None:
    command = start("--url", daemon.url, "--json", "--count", "2")

    def ends() -> bool | None:
        daemon.send("a:ä\u202e|c".encode())
        return command.process.poll() is not None or None

    wait_for("the end", ends)
    assert command.ended() == 0
    command.close()
    printed = [command.out.get() for _ in range(command.out.qsize())]
    assert all(each.isascii() for each in printed)
    records = [json.loads(each) for each in printed]
    assert [each["text"] for each in records if each["record"] == "line"] == ["a:ä\u202e|c"] * 2


def test_a_daemon_that_goes_away_is_waited_for(
    start_daemon: StartDaemon, start: StartCommand
) -> None:
    first = start_daemon()
    command = start("--url", first.url)
    send_until_shown(first, command, b"first:1|c")
    first.process.kill()
    assert "asking again" in command.err.get(timeout=DEADLINE_SECONDS)
    second = start_daemon("--http", first.url.removeprefix("http://"))
    row = wait_for("a line of the second", lambda: row_of(second, command))
    assert "second_total" in row
    assert command.err.get(timeout=DEADLINE_SECONDS) == "it answers again\n"


def row_of(second: RunningDaemon, command: Command) -> str | None:
    row = send_until_shown(second, command, b"second:1|c")
    return row if "second" in row else None


def invoked(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["tap", *arguments])
    return result.exit_code, result.output


def test_a_filter_that_is_none_is_wrong_usage(daemon: RunningDaemon) -> None:
    code, said = invoked("--url", daemon.url, "--filter", "verdict=denied")
    assert code == 2
    assert "at character 9: verdict is one of accepted, refused, set_aside" in said


def test_where_no_daemon_is_nothing_is_waited_for() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        code, said = invoked("--url", f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert code == 1
    assert "Connection refused" in said
    assert invoked("--url", "ftp://x")[0] == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404: it is no daemon"),
        (b'HTTP/1.1 403 No\r\nContent-Length: 17\r\n\r\n{"error":"never"}', "never"),
        (b'HTTP/1.1 403 No\r\nContent-Length: 20\r\n\r\n{"error":"\\u001b[m"}', r": \u001b[m"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "no record of a tap"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "ends at once"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer"),
    ],
)
def test_somebody_else_is_told_apart_from_a_daemon(answer: bytes, said: str) -> None:
    with answering(answer) as url:
        code, output = invoked("--url", url)
    assert code == 1
    assert said in output


def test_a_terminal_shows_hostile_lines_in_rows_of_their_own(daemon: RunningDaemon) -> None:
    command = (sys.executable, "-m", "llmstatsd", "tap", "--url", daemon.url)
    terminal = Terminal(100, 20, *command)

    def has(text: str, datagram: bytes) -> list[str] | None:
        daemon.send(datagram)
        rows = [row for row in terminal.lines() if text in row]
        return rows or None

    try:
        wait_for("the first row", lambda: has("first", b"first:1|c"))
        hostile = HOSTILE.replace("\n", "").encode() + b":x|c"
        [row, *_] = wait_for("the hostile row", lambda: has("<script>", hostile))
        assert rest_of(row).startswith(
            r"refused   bad_value           \u001b[2J\u001b]0;owned\u0007<script>"
        )
        assert any("first:1|c" in each for each in terminal.lines())
        assert "\x1b[31mrefused" in terminal.text("-e")
        terminal.keys("C-c")
        assert terminal.exit_code() == 0
    finally:
        terminal.close()
