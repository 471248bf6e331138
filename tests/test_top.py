"""`llmstatsd top` in a real terminal: keys go in, and the screen is read."""

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from llmstatsd.cli import main
from llmstatsd.top import figures
from llmstatsd.top.figures import COLUMNS
from llmstatsd.top.view import SORTS, View
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.terminals import Terminal

CALL = b'{"model":"gpt-4o","operation":"chat","duration_seconds":1.5,"tokens":40}'
TIMEOUT = b'{"model":"llama3","operation":"chat","duration_seconds":30,"error":"timeout"}'


class TopTerminal(Terminal):
    """One with the table of `llmstatsd top`."""

    def row(self, model: str) -> list[str]:
        """The cells of a model's row, empty where there is none."""
        for line in self.lines():
            cells = line.split()
            if cells[:1] == [model]:
                return cells
        return []

    def models(self) -> list[str]:
        """The first cells of the table's rows."""
        lines = self.lines()
        titles = (["model"], ["model▲"], ["model▼"])
        head = next((at for at, line in enumerate(lines) if line.split()[:1] in titles), len(lines))
        rows = (line.split() for line in lines[head + 1 :])
        return [cells[0] for cells in rows if len(cells) == len(COLUMNS)]


OpenTop = Callable[..., TopTerminal]


@pytest.fixture
def open_top() -> Iterator[OpenTop]:
    """Opens `llmstatsd top` in a terminal; each is closed with the test."""
    opened: list[TopTerminal] = []

    def open_it(url: str, *arguments: str, width: int = 130, height: int = 40) -> TopTerminal:
        command = (sys.executable, "-m", "llmstatsd", "top", "--url", url, *arguments)
        opened.append(TopTerminal(width, height, *command))
        return opened[-1]

    yield open_it
    for terminal in opened:
        terminal.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["top", *arguments])


def document(daemon: RunningDaemon, *arguments: str) -> dict[str, Any]:
    result = run("--url", daemon.url, "--json", *arguments)
    assert result.exit_code == 0, result.output
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def wait_for_requests(daemon: RunningDaemon, number: int) -> None:
    wait_for(
        f"{number} requests", lambda: document(daemon)["figures"]["requests"] == number or None
    )


def test_the_figures_are_what_was_sent(daemon: RunningDaemon, open_top: OpenTop) -> None:
    daemon.send(*[CALL] * 30, *[TIMEOUT] * 10, b"a:1,5|c")
    terminal = open_top(daemon.url)
    terminal.shows("40 requests", "25.0% errors", "1 refused", "0 dropped")
    terminal.shows("bad_value", "a:1,5|c", "datagrams", "41", "undeclared names", "0/500")
    titles = ["model", "req/s", "requests▼", "err", "%", "errors"]
    terminal.comes_to(titles, lambda: terminal.row("model")[:6])
    terminal.comes_to(["30", "0.0%", "0", "1.50s"], lambda: terminal.row("gpt-4o")[2:6])
    terminal.comes_to(["1,200", "0"], lambda: terminal.row("gpt-4o")[10:])
    terminal.comes_to(["10", "100.0%", "10", "25.0s"], lambda: terminal.row("llama3")[2:6])
    terminal.comes_to(["timeout", "10"], lambda: pane_row(terminal, "timeout"))
    daemon.send(*[CALL] * 5)
    terminal.comes_to(["35"], lambda: terminal.row("gpt-4o")[2:3])


def pane_row(terminal: TopTerminal, name: str) -> list[str]:
    """A line of the pane at the left."""
    for line in terminal.lines():
        cells = line.replace("│", " ").split()
        if cells[:1] == [name]:
            return cells[:2]
    return []


def test_it_is_sorted_filtered_and_ended_by_keys(daemon: RunningDaemon, open_top: OpenTop) -> None:
    daemon.send(*[CALL] * 30, *[TIMEOUT] * 10, *[CALL.replace(b"gpt-4o", b"gpt-4o-mini")] * 20)
    terminal = open_top(daemon.url)
    terminal.shows("60 requests")
    terminal.comes_to(["gpt-4o", "gpt-4o-mini", "llama3"], terminal.models)
    terminal.keys(">")
    terminal.shows("err %▼")
    terminal.comes_to(["llama3"], lambda: terminal.models()[:1])
    terminal.keys("<", "r")
    terminal.shows("requests▲")
    terminal.comes_to(["llama3", "gpt-4o-mini", "gpt-4o"], terminal.models)
    terminal.keys("<", "<", "r")
    terminal.shows("model▲")
    terminal.comes_to(["gpt-4o", "gpt-4o-mini", "llama3"], terminal.models)
    terminal.keys("/", "M", "I", "Q")
    terminal.comes_to([], terminal.models)
    terminal.keys("BSpace")
    terminal.comes_to(["gpt-4o-mini"], terminal.models)
    terminal.shows("requests/s of gpt-4o-mini")
    terminal.keys("Enter")
    terminal.shows("q quit")
    terminal.keys("w")
    terminal.shows("last 1h:")
    terminal.comes_to(["gpt-4o-mini"], terminal.models)
    terminal.keys("/", "C-u")
    terminal.comes_to(3, lambda: len(terminal.models()))
    terminal.keys("g*/4?")
    terminal.comes_to([], terminal.models)  # within the filter / is a letter
    terminal.keys("C-u")
    terminal.comes_to(3, lambda: len(terminal.models()))
    terminal.keys("[/]")
    terminal.shows("shown: like [/], all:")
    terminal.comes_to([], terminal.models)
    terminal.keys("C-u")
    terminal.comes_to(3, lambda: len(terminal.models()))
    terminal.keys("g*4?")
    terminal.comes_to(["gpt-4o"], terminal.models)
    terminal.keys("Escape")
    terminal.comes_to(3, lambda: len(terminal.models()))
    terminal.keys("?")
    terminal.shows("the last five minutes, the last hour", "closes this")
    terminal.keys("q")
    terminal.shows_not("closes this")
    terminal.keys("q")
    assert terminal.exit_code() == 0


@pytest.mark.parametrize("end", ["C-c", "SIGTERM"])
def test_the_terminal_is_given_back(daemon: RunningDaemon, open_top: OpenTop, end: str) -> None:
    terminal = open_top(daemon.url)
    terminal.shows("0 requests")
    if end == "SIGTERM":
        terminal.signal(signal.SIGTERM)
    else:
        terminal.keys(end)
    assert terminal.exit_code() == 0
    assert "requests" not in terminal.text()


def has_panes_side_by_side(terminal: TopTerminal) -> bool:
    return any("errors by type" in line and "cardinality" in line for line in terminal.lines())


def is_at_most(terminal: TopTerminal, height: int) -> bool:
    return len(terminal.lines()) <= height


def test_the_ladder_tells_of_tcp_once_there_is_any(
    start_daemon: StartDaemon, open_top: OpenTop
) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", "--statsd-tcp-line-bytes", "64")
    terminal = open_top(daemon.url, width=160, height=50)
    assert "TCP" not in terminal.shows("ladder, since", "samples")
    with socket.create_connection(daemon.tcp, timeout=DEADLINE_SECONDS) as sender:
        sender.sendall(b"llm_fallback_total:1|c\n" + b"b" * 65 + b"\n")
        terminal.shows("TCP connections", "lines over TCP", "not read, too_long")


def test_it_fits_every_terminal(daemon: RunningDaemon, open_top: OpenTop) -> None:
    daemon.send(*[CALL] * 30, *[TIMEOUT] * 10, b"a:1,5|c")
    terminal = open_top(daemon.url, width=80, height=24)
    screen = terminal.shows("40 requests", "gpt-4o", "llama3", "errors by type", "0 dropped")
    assert "ladder" not in screen  # there is room for one pane only
    for title in ("ladder, since", "refused, with", "cardinality", "errors by type"):
        terminal.keys("p")
        terminal.shows(title)
    for width, height in ((20, 6), (200, 50)):
        terminal.resize(width, height)
        wait_for("a screen", partial(is_at_most, terminal, height))
    terminal.shows("40 requests", "errors by type", "ladder", "refused, with", "cardinality")
    terminal.comes_to(True, lambda: has_panes_side_by_side(terminal))


def test_a_daemon_that_goes_away_is_told_and_found_again(
    start_daemon: StartDaemon, open_top: OpenTop
) -> None:
    first = start_daemon()
    first.send(*[CALL] * 3)
    wait_for_requests(first, 3)
    terminal = open_top(first.url)
    terminal.shows("3 requests")
    fresh = terminal.text("-e").splitlines()
    assert first.end() == 0
    terminal.shows("NO ANSWER for", "trying again", "Connection refused")
    terminal.comes_to(["3"], lambda: terminal.row("gpt-4o")[2:3])
    row = next(line for line in terminal.text("-e").splitlines() if "gpt-4o  " in line)
    assert row not in fresh  # greyed
    second = start_daemon("--http", first.url.removeprefix("http://"))
    second.send(*[CALL] * 7)
    terminal.shows("7 requests")
    terminal.shows_not("NO ANSWER")
    terminal.keys("q")
    assert terminal.exit_code() == 0


def test_with_nobody_there_it_waits(start_daemon: StartDaemon, open_top: OpenTop) -> None:
    daemon = start_daemon()
    daemon.end()
    terminal = open_top(daemon.url)
    terminal.shows("NO ANSWER, trying again")
    start_daemon("--http", daemon.url.removeprefix("http://"))
    terminal.shows("0 requests")


def cells_of(terminal: TopTerminal, model: str) -> int:
    return len(terminal.row(model))


HOSTILE = (
    "[red]x[/red]",
    "[@click=app.quit]y[/]",
    "<script>alert(1)</script>",
    "\u202egnp.exe",
    "模" * 128,
    "שלום",
    "e\u0301\u0301\u0301\u0301",
)


def test_hostile_names_are_shown_as_text(daemon: RunningDaemon, open_top: OpenTop) -> None:
    events = [json.dumps({"model": model, "operation": "chat"}).encode() for model in HOSTILE]
    daemon.send(*events, b"\x1b]0;owned\x07\x1b[2Ja:1,5|c", "\u202ea:x|c".encode())
    wait_for_requests(daemon, len(HOSTILE))
    terminal = open_top(daemon.url)
    screen = terminal.shows(
        "[red]x[/red]", "[@click=app.quit]y[/]", "<script>alert(1)</script>", "שלום", "模模模"
    )
    assert r"\u202egnp.exe" in screen
    assert "\u202e" not in screen
    assert "owned" not in terminal._run("display-message", "-p", "#{pane_title}")
    for model in ("[red]x[/red]", "שלום"):
        terminal.comes_to(len(COLUMNS), partial(cells_of, terminal, model))
    once = run("--once", "--url", daemon.url).stdout
    ends = {cell_len(line) for line in once.splitlines()[3:]}
    assert len(ends) == 1  # all columns stand in line
    assert "\u202e" not in once


def test_once_prints_the_table_and_json_the_document(daemon: RunningDaemon) -> None:
    daemon.send(*[CALL] * 30, *[TIMEOUT] * 10)
    wait_for_requests(daemon, 40)
    result = run("--once", "--url", daemon.url)
    assert result.exit_code == 0
    head, totals, empty, titles, *rows = result.stdout.splitlines()
    assert head.startswith(f"llmstatsd 0.1.0 at {daemon.url}: ready, ")
    assert totals.startswith("5m: 40 requests, ")
    assert (empty, titles.split()[0]) == ("", "model")
    assert [row.split()[0] for row in rows] == ["gpt-4o", "llama3"]
    assert rows[0].split()[2] == "30"
    by_latency = run("--once", "--url", daemon.url, "--sort", "p95").stdout.splitlines()
    assert by_latency[4].startswith("llama3 ")
    assert run("--once", "--url", daemon.url, "--model", "none").stdout.endswith(
        "no calls of a model like none\n"
    )
    summary = document(daemon, "--window", "1h", "--model", "LLAMA")
    assert (summary["version"], summary["window"]) == (1, "1h")
    assert [row["model"] for row in summary["models"]] == ["llama3"]
    assert summary["figures"]["requests"] == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "top needs a terminal to draw on; --once prints"),
        (("--once", "--url", "localhost:2112"), "no http or https URL"),
        (("--once", "--url", "http://u:p@localhost"), "more than scheme, host, port and path"),
        (("--once", "--url", "http://localhost:99999"), "Port out of range"),
        (("--once", "--ca-file", "/nothing", "--url", "https://localhost"), "no file of certific"),
        (("--once", "--ca-file", "/nothing", "--url", "http://localhost"), "for https URLs"),
        (("--once", "--user", "me"), "the password for --user is missing: set LLMSTATSD_PASSWORD"),
        (("--once", "--window", "2h"), "5m"),
        (("--once", "--sort", "size"), "requests"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_columns_to_sort_by_are_those_of_the_table() -> None:
    assert tuple(COLUMNS) == SORTS
    page = (Path(__file__).parents[1] / "docs" / "reference" / "cli.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith("`--sort` takes ")]
    assert [key for key in SORTS if f"`{key}`" in line] == list(SORTS)


@pytest.mark.parametrize(
    ("pattern", "model", "is_shown"),
    [
        ("", "gpt-4o", True),
        ("GPT", "gpt-4o", True),
        ("4o", "gpt-4o", True),
        ("4o*", "gpt-4o", False),
        ("*4o", "gpt-4o", True),
        ("gpt-4?", "gpt-4o", True),
        ("[red]", "[red]x", True),
        ("(", "gpt-4o", False),
        ("*" * 100 + "x", "a" * 128, False),
    ],
)
def test_every_text_is_a_pattern(pattern: str, model: str, is_shown: bool) -> None:
    assert figures.matches(pattern, model) == is_shown


def test_what_has_no_value_comes_last_in_either_order() -> None:
    rows = [
        {"model": model, "figures": {"p95_seconds": value}}
        for model, value in (("a", None), ("b", 1.0), ("c", 2.0))
    ]
    for is_reversed, expected in ((False, "cba"), (True, "bca")):
        shown = figures.rows({"models": rows}, View(sort="p95", is_reversed=is_reversed))
        assert "".join(row["model"] for row in shown) == expected


@pytest.mark.parametrize(
    ("values", "width", "height", "shown"),
    [
        ([], 4, 1, "    "),
        ([0, 0], 4, 1, "    "),
        ([0, 4, 8], 3, 1, " ▄█"),
        ([1, 1, 8, 8], 2, 1, "▁█"),
        ([0, 8, 16], 4, 2, "   █\n  ██"),
        ([0.001, 1000], 2, 1, "▁█"),
        ([5, 5, 8, 8, 8], 2, 1, " █"),
    ],
)
def test_a_plot_stands_on_zero_and_shows_the_newest(
    values: list[float], width: int, height: int, shown: str
) -> None:
    assert figures.plot(values, width, height) == shown
