"""Messages to stderr, none of which ever makes the daemon wait or fills the log.

A pipe that nobody reads takes no more after 64 KiB and then holds its writer, so a thread of its
own writes; what waits for it is bounded, and what finds no room is counted instead. Messages of
one kind are bounded in time as well, so that no client can fill a disk by what it sends.
"""

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from llmstatsd.config import Log

WAITING_MESSAGES: Final = 256
"""Messages that wait for stderr at most; with MESSAGE_CHARACTERS that is 10 MiB at the worst."""

MESSAGE_CHARACTERS: Final = 8192
"""Longest message; of a traceback it keeps the end, where the error stands."""

INTERVAL_SECONDS: Final = 60.0
MESSAGES_PER_INTERVAL: Final = 10
"""Messages of one kind that are written in an interval, from its first one on."""

KINDS_LIMIT: Final = 256
"""Kinds of messages told apart; all others of an interval then count as one kind."""

KIND_CHARACTERS: Final = 100
"""What tells kinds apart of a text before its arguments: some carry addresses behind that."""

END_SECONDS: Final = 1.0
"""How long the end waits for a stderr that takes nothing."""

RATE: Final = "rate"
QUEUE: Final = "queue"
STDERR: Final = "stderr"
UNWRITTEN: Final = (RATE, QUEUE, STDERR)
"""Why a message was not written: too many of its kind, too many waiting, or stderr failed."""

STDERR_DESCRIPTOR: Final = 2

# Levels of syslog, as sd-daemon(3) has them in front of a line.
_PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


@dataclass(slots=True)
class LogStats:
    """Messages that were not written, by the reasons of UNWRITTEN, counted since the start."""

    unwritten: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNWRITTEN, 0))


class Logs:
    """The log of the process from `begin` on."""

    def __init__(self, writer: "_Writer", stats: LogStats) -> None:
        self.stats = stats
        self._writer = writer

    def end(self) -> None:
        """Write what waits, but give a stderr that takes nothing up after END_SECONDS."""
        self._writer.end(END_SECONDS)


def begin(config: Log, descriptor: int = STDERR_DESCRIPTOR) -> Logs:
    """Send what is logged from now on, by any library, to stderr in the configured format."""
    stats = LogStats()
    writer = _Writer(descriptor, stats)
    handler = _Handler(_formatter(config.format, descriptor), writer, stats)
    root = logging.getLogger()
    set_level(config.level)
    root.addHandler(handler)
    logging.raiseExceptions = False  # a log that cannot be written is no reason to stop
    writer.start()
    return Logs(writer, stats)


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether the journal reads a file: JOURNAL_STREAM is its device and inode, systemd.exec(5).

    The variable alone says nothing: whoever redirects stderr passes it on.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def set_level(level: str) -> None:
    """Write messages from another level on, as the configuration names it."""
    logging.getLogger().setLevel(level.upper())


class RateLimit:
    """At most MESSAGES_PER_INTERVAL of a kind in an interval; KINDS_LIMIT kinds are told apart."""

    def __init__(self) -> None:
        self._intervals: dict[tuple[str, ...], _Interval] = {}

    def left_out_before(self, kind: tuple[str, ...], now: float) -> int | None:
        """How many of its kind were left out before a message; None: it is left out itself.

        `now` is seconds of a clock that never goes back.
        """
        interval = self._interval(kind, now)
        left_out = interval.left_out
        if now >= interval.ends:
            interval.begin(now)
        if interval.written >= MESSAGES_PER_INTERVAL:
            interval.left_out += 1
            return None
        interval.written += 1
        interval.left_out = 0
        return left_out

    def _interval(self, kind: tuple[str, ...], now: float) -> "_Interval":
        known = self._intervals
        if kind not in known and len(known) >= KINDS_LIMIT:
            self._intervals = known = {
                each: interval for each, interval in known.items() if now < interval.ends
            }
            if len(known) >= KINDS_LIMIT:
                kind = ()
        return known.setdefault(kind, _Interval(now + INTERVAL_SECONDS))


@dataclass(slots=True)
class _Interval:
    ends: float
    written: int = 0
    left_out: int = 0

    def begin(self, now: float) -> None:
        self.ends = now + INTERVAL_SECONDS
        self.written = 0


class _Handler(logging.Handler):
    """Makes bytes of a message at once, since what it tells of may change, and never writes."""

    def __init__(self, formatter: logging.Formatter, writer: "_Writer", stats: LogStats) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = writer
        self._stats = stats
        self._limit = RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            left_out = self._limit.left_out_before(_kind(record), time.monotonic())
            if left_out is None:
                self._stats.unwritten[RATE] += 1
                return
            record.left_out = left_out
            self._writer.put(self.format(record).encode(errors="backslashreplace") + b"\n")
        except Exception:  # noqa: BLE001 whoever logs has more to do than to log
            self.handleError(record)


def _kind(record: logging.LogRecord) -> tuple[str, ...]:
    """What a message is one of: its text before the arguments, and what it says it is about."""
    about = getattr(record, "about", "")
    return record.name, str(record.msg)[:KIND_CHARACTERS], str(about)[:KIND_CHARACTERS]


class _Writer(threading.Thread):
    """Writes to a descriptor itself: Python's own stream keeps a lock while it is held up."""

    def __init__(self, descriptor: int, stats: LogStats) -> None:
        super().__init__(name="log", daemon=True)
        self._descriptor = descriptor
        self._stats = stats
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MESSAGES)

    def put(self, text: bytes) -> None:
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self._stats.unwritten[QUEUE] += 1

    def run(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                self._write(text)
            except OSError:
                self._stats.unwritten[STDERR] += 1

    def _write(self, text: bytes) -> None:
        while text:
            try:
                text = text[os.write(self._descriptor, text) :]
            except BlockingIOError:  # whoever shares the pipe may have set it so
                select.select([], [self._descriptor], [])

    def end(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
            self.join(max(0.0, until - time.monotonic()))


def _formatter(
    form: Literal["auto", "text", "journal", "json"], descriptor: int
) -> logging.Formatter:
    if form == "json":
        return _JsonFormatter()
    if form == "journal" or (form == "auto" and is_journal(descriptor, os.environ)):
        return _JournalFormatter("%(message)s")
    return _TextFormatter("%(asctime)s %(levelname)s %(message)s")


class _TextFormatter(logging.Formatter):
    """A message and its traceback, both bounded, and how many like it were not written."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the library's name
        record.message = _message(record)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 the library's name
        return super().formatException(ei)[-MESSAGE_CHARACTERS:]


class _JournalFormatter(_TextFormatter):
    """A level in front of each line; the journal keeps the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, _PRIORITIES[logging.INFO])
        lines = super().format(record).splitlines()
        return "\n".join(f"<{priority}>{line}" for line in lines)


class _JsonFormatter(_TextFormatter):
    """One object a line: `time` by RFC 3339 in UTC, `level`, `message` and, of a bug, `traceback`.

    `left_out` is how many like it were not written before.
    """

    def format(self, record: logging.LogRecord) -> str:
        made = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "time": made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": _encodable(record.getMessage()[:MESSAGE_CHARACTERS]),
        }
        if record.exc_info:
            fields["traceback"] = _encodable(self.formatException(record.exc_info))
        if left_out := getattr(record, "left_out", 0):
            fields["left_out"] = left_out
        return msgspec.json.encode(fields).decode()


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()[:MESSAGE_CHARACTERS]
    left_out = getattr(record, "left_out", 0)
    return f"{message} (left out before: {left_out} like it)" if left_out else message


def _encodable(text: str) -> str:
    """Names of files may hold surrogates, which JSON has no way to write."""
    return text.encode(errors="backslashreplace").decode()
