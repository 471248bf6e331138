"""The log: its formats, its bounds, and that nobody ever waits for it."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from llmstatsd import logs
from llmstatsd.config import Log
from tests.conftest import DEADLINE_SECONDS, wait_for

logger = logging.getLogger("tests.logs")


class Pipe:
    """A pipe with a log at its one end; `read` gives what has been written so far."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.log: logs.Logs | None = None

    def begin(self, **options: str) -> logs.LogStats:
        """Log into the pipe from now on, and nowhere else: pytest's report takes no surrogates."""
        logging.getLogger().handlers.clear()
        self.log = logs.begin(Log(**options), self.writer)  # type: ignore[arg-type]
        return self.log.stats

    def lines(self) -> list[str]:
        """End the log, and give all its lines."""
        assert self.log
        self.log.end()
        os.close(self.writer)
        with os.fdopen(self.reader) as reader:
            return reader.read().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Its log is taken from the root logger again, whatever becomes of the test."""
    root = logging.getLogger()
    level, handlers, raises = root.level, root.handlers[:], logging.raiseExceptions
    yield Pipe()
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.raiseExceptions = raises


def test_a_text_has_a_time_and_a_level(pipe: Pipe) -> None:
    pipe.begin(format="text")
    logger.warning("lines refused: %d", 5)
    [line] = pipe.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING lines refused: 5", line)


def test_messages_below_the_level_are_not_written(pipe: Pipe) -> None:
    pipe.begin(format="journal", level="warning")
    logger.info("ready")
    logger.error("broken")
    assert pipe.lines() == ["<3>broken"]


def test_the_journal_gets_a_level_in_front_of_each_line(pipe: Pipe) -> None:
    pipe.begin(format="journal", level="debug")
    logger.debug("one")
    logger.info("two")
    logger.warning("three\nfour")
    logger.critical("five")
    _log_a_bug()
    lines = pipe.lines()
    assert lines[:5] == ["<7>one", "<6>two", "<4>three", "<4>four", "<2>five"]
    assert lines[5:7] == ["<3>a bug", "<3>Traceback (most recent call last):"]
    assert all(line.startswith("<3>") for line in lines[5:])


def test_json_is_one_object_a_line(pipe: Pipe) -> None:
    pipe.begin(format="json")
    logger.info('a "word"\nand a second line, \ud800')
    _log_a_bug()
    first, second = map(json.loads, pipe.lines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "info", "message": 'a "word"\nand a second line, \\ud800'}
    assert (second["level"], second["message"]) == ("error", "a bug")
    assert second["traceback"].endswith("ZeroDivisionError: of a test")


def _log_a_bug() -> None:
    try:
        raise ZeroDivisionError("of a test")
    except ZeroDivisionError:
        logger.exception("a bug")


def test_auto_is_the_journal_where_stderr_is_its_stream(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(pipe.writer)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    pipe.begin()
    logger.info("ready")
    assert pipe.lines() == ["<6>ready"]


@pytest.mark.parametrize("stream", ["", "1:2", "nonsense"])
def test_auto_is_text_where_the_journal_reads_another_file(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    pipe.begin()
    logger.info("ready")
    [line] = pipe.lines()
    assert line.endswith(" INFO ready")
    assert not logs.is_journal(-1, {"JOURNAL_STREAM": stream})


def test_a_message_is_cut_and_a_traceback_keeps_its_end(pipe: Pipe) -> None:
    pipe.begin(format="json")
    logger.info("x" * 100_000)
    try:
        raise ValueError("y" * 100_000 + " the end")
    except ValueError:
        logger.exception("a bug")
    first, second = map(json.loads, pipe.lines())
    assert first["message"] == "x" * logs.MESSAGE_CHARACTERS
    assert len(second["traceback"]) == logs.MESSAGE_CHARACTERS
    assert second["traceback"].endswith(" the end")


def test_messages_of_one_kind_are_bounded_and_others_are_written(pipe: Pipe) -> None:
    stats = pipe.begin(format="journal")
    for number in range(1000):
        logger.warning("client %d did something", number)
    for reason in ("bad_type", "bad_value"):
        for _ in range(5):
            logger.warning("refused as %s", reason, extra={"about": reason})
    lines = pipe.lines()
    assert sum("client" in line for line in lines) == logs.MESSAGES_PER_INTERVAL
    assert sum("refused" in line for line in lines) == 10
    assert stats.unwritten == {"rate": 990, "queue": 0, "stderr": 0}


def test_after_an_interval_the_next_message_says_how_many_were_left_out() -> None:
    limit = logs.RateLimit()
    kind = ("a", "b", "c")
    written = [limit.left_out_before(kind, now / 10) for now in range(100)]
    assert written == [0] * logs.MESSAGES_PER_INTERVAL + [None] * 90
    assert limit.left_out_before(kind, 60) == 90
    assert limit.left_out_before(kind, 61) == 0


def test_the_number_left_out_is_written(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("llmstatsd.logs.time.monotonic", lambda: now)
    pipe.begin(format="journal")
    for _ in range(12):
        logger.warning("again")
    now = 60.0
    logger.warning("again")
    assert pipe.log
    monkeypatch.undo()
    assert pipe.lines()[-1] == "<4>again (left out before: 2 like it)"


def test_kinds_without_number_share_one_bound() -> None:
    limit = logs.RateLimit()
    kinds = [("logger", f"message {number}") for number in range(10_000)]
    written = [kind for kind in kinds if limit.left_out_before(kind, 1.0) is not None]
    assert len(written) == logs.KINDS_LIMIT + logs.MESSAGES_PER_INTERVAL
    assert len(limit._intervals) == logs.KINDS_LIMIT + 1
    later = [kind for kind in kinds if limit.left_out_before(kind, 61.0) is not None]
    assert later[0] == kinds[0]
    assert len(limit._intervals) == logs.KINDS_LIMIT + 1


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_is_counted(pipe: Pipe) -> None:
    fill(pipe.writer)
    stats = pipe.begin(format="journal")
    admitted = logs.KINDS_LIMIT + logs.MESSAGES_PER_INTERVAL
    for number in range(admitted):
        logger.warning("kind %d", number, extra={"about": number})
    assert stats.unwritten["rate"] == 0
    assert admitted - logs.WAITING_MESSAGES - 1 <= stats.unwritten["queue"]
    assert pipe.log
    pipe.log.end()  # gives the pipe up


def fill(writer: int) -> int:
    """Fill a pipe until it takes no more, and give the bytes that it took."""
    filled = 0
    os.set_blocking(writer, False)
    try:
        while True:
            filled += os.write(writer, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
        return filled


def test_a_stderr_that_fails_is_counted(pipe: Pipe) -> None:
    os.close(pipe.reader)
    stats = pipe.begin(format="journal")
    logger.warning("to nobody")
    wait_for("the failure", lambda: stats.unwritten["stderr"] == 1 or None)


def test_a_pipe_that_does_not_block_gets_every_message(pipe: Pipe) -> None:
    filled = fill(pipe.writer)
    os.set_blocking(pipe.writer, False)
    pipe.begin(format="journal")
    logger.warning("late")
    read = b""
    while len(read) < filled + len("<4>late\n"):
        read += os.read(pipe.reader, 65_536)
    assert read.endswith(b"<4>late\n")
    assert pipe.lines() == []


@pytest.mark.parametrize("lane", ["portable", pytest.param("compiled", marks=pytest.mark.compiled)])
def test_a_daemon_whose_stderr_nobody_reads_counts_is_scraped_and_ends_cleanly(lane: str) -> None:
    reader, writer = os.pipe()
    filled = fill(writer)
    flags = ["--statsd-udp=127.0.0.1:0", "--http=127.0.0.1:0", f"--statsd-lane={lane}"]
    process = subprocess.Popen([sys.executable, "-m", "llmstatsd", "serve", *flags], stderr=writer)
    os.close(writer)
    try:
        udp, url = wait_for("its addresses", lambda: _addresses(process.pid))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(30):
                sender.sendto(b"llm_fallback_total:1|c\nrefused%d" % number, udp)
        wait_for("all counted", lambda: "llm_fallback_total 30.0" in _scrape(url) or None)
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"\n" * filled


def _addresses(pid: int) -> tuple[tuple[str, int], str] | None:
    """Where a process receives datagrams and answers, once it does both."""
    found = psutil.Process(pid).net_connections("inet")
    udp = [each.laddr for each in found if each.type == socket.SOCK_DGRAM]
    tcp = [each.laddr for each in found if each.status == "LISTEN"]
    if not udp or not tcp:
        return None
    return (udp[0].ip, udp[0].port), f"http://{tcp[0].ip}:{tcp[0].port}"


def _scrape(url: str) -> str:
    try:
        return httpx.get(f"{url}/metrics").text
    except httpx.TransportError:
        return ""
