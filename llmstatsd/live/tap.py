"""Taps: lines as they arrive, with what became of them, for at most TAPS_LIMIT who look.

While a tap is open the intake copies datagrams into bounded rings, and four times a second a
bounded number of their lines is explained on the loop, in steps. What does not fit is counted and
left out, so a tap never holds the intake up, whether anyone reads from it or not.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from llmstatsd.intake.copies import Copy, Tapped, step_for
from llmstatsd.live.filters import Filter, Seen, read_filter
from llmstatsd.series.explain import Explained, Met, Verdict, explain
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect

VERSION: Final = 1
"""Of the records; it grows when a field changes its meaning or goes."""

TAPS_LIMIT: Final = 4

LINES_PER_SECOND: Final = 100
"""Lines explained in a second under load: each takes about 0.1 ms of the loop's time."""

LINES_AT_ONCE: Final = 1000
"""Lines explained at once after a quiet while, so that a burst is shown whole."""

LOOK_SECONDS: Final = 0.25
COUNT_SECONDS: Final = 1.0

LINES_PER_STEP: Final = 8
"""Lines explained in one turn of the loop, which take about a millisecond."""

WAITING_LIMIT: Final = 1000
WAITING_BYTES: Final = 1 << 20
"""Records, and their bytes, that wait for one reader; further ones are left out and counted."""

BURST_SECONDS: Final = LINES_AT_ONCE / LINES_PER_SECOND

logger = logging.getLogger("llmstatsd")


class LineRecord(Struct, frozen=True, tag_field="record", tag="line"):
    """One line: `reason` is that of a refusal, or the kind of what is set aside."""

    version: int
    time: float
    transport: str | None
    sender: str | None
    verdict: Verdict
    reason: str | None
    notes: tuple[str, ...]
    text: str
    met: tuple[Met, ...]


class CountRecord(Struct, frozen=True, tag_field="record", tag="count"):
    """What came in since this tap began, once a second.

    lines = explained + those that were not looked at; `fitting` of the explained ones are what the
    filter asks for, and all of them were sent but `missed`, for which the reader was too slow.
    """

    version: int
    time: float
    lines: int
    explained: int
    fitting: int
    missed: int


class Tap:
    """One who looks. `take` gives what there is for him, as lines of JSON."""

    def __init__(self, wanted: Filter, lines_before: int) -> None:
        self._wanted = wanted
        self._lines_before = lines_before
        self._waiting: deque[bytes] = deque()  # at most WAITING_LIMIT
        self._waiting_bytes = 0  # at most WAITING_BYTES and a record
        self._has_some = asyncio.Event()
        self._count = b""
        self._is_over = False
        self._explained = 0
        self._fitting = 0
        self._missed = 0

    def offer(self, seen: Seen, encoded: "_Once") -> None:
        """Show a line, if it is wanted and there is room."""
        self._explained += 1
        if not self._wanted.holds(seen):
            return
        self._fitting += 1
        if len(self._waiting) >= WAITING_LIMIT or self._waiting_bytes >= WAITING_BYTES:
            self._missed += 1
            return
        record = encoded()
        self._waiting.append(record)
        self._waiting_bytes += len(record)
        self._has_some.set()

    def tell(self, lines: int) -> None:
        """Tell how many lines came in by now; of what nobody has read the last one stays."""
        came = max(lines - self._lines_before, self._explained)
        counts = (came, self._explained, self._fitting, self._missed)
        self._count = _encoded(CountRecord(VERSION, time.time(), *counts))
        self._has_some.set()

    def end(self) -> None:
        """Let no more come."""
        self._is_over = True
        self._has_some.set()

    async def take(self) -> bytes | None:
        """What there is, as soon as there is something; None at the end."""
        await self._has_some.wait()
        if self._is_over:
            return None
        self._has_some.clear()
        found = b"".join((*self._waiting, self._count))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._count = b""
        return found


class Taps:
    """Opens and closes taps, and feeds those that are open from a task of its own, `run`."""

    def __init__(
        self,
        sources: Callable[[], Sequence[Tapped]],
        meaning: Callable[[], tuple[Store, Dialect, LineStats]],
    ) -> None:
        """`sources` are the intakes, and `meaning` what their lines meet, each as it is now."""
        self._sources = sources
        self._meaning = meaning
        self._open: list[Tap] = []
        self._is_needed = asyncio.Event()
        self._is_over = False
        self._credit = float(LINES_AT_ONCE)
        self._looked_at = 0.0
        self._turn = 0

    @property
    def is_full(self) -> bool:
        """Whether there may be no further one."""
        return len(self._open) >= TAPS_LIMIT

    def open(self, wanted: str) -> Tap:
        """A tap for a filter; FilterError, a ValueError, says what is wrong with that.

        Raises MemoryError where there is none for the copies.
        """
        tap = Tap(read_filter(wanted), self._meaning()[2].lines)
        if self._is_over:
            tap.end()
        self._open.append(tap)
        try:
            for source in self._sources():
                source.tap(True)
        except MemoryError:
            self.close(tap)
            raise
        self._is_needed.set()
        return tap

    def close(self, tap: Tap) -> None:
        """With the last one, copying ends."""
        tap.end()
        if tap in self._open:
            self._open.remove(tap)
        if not self._open:
            self._is_needed.clear()
            for source in self._sources():
                source.tap(False)

    def end(self) -> None:
        """End all taps; further ones end at once."""
        self._is_over = True
        for tap in self._open:
            tap.end()

    async def run(self) -> None:
        """Feed the taps until it is cancelled."""
        while True:
            await self._is_needed.wait()
            try:
                await self._feed()
            except Exception:
                # Whoever may look may not end the daemon: the looking ends.
                logger.exception("the taps end by a bug")
                for tap in list(self._open):
                    self.close(tap)

    async def _feed(self) -> None:
        """Until the last tap closes."""
        tell_at = time.monotonic()
        lines = self._meaning()[2].lines
        while self._open:
            for source in self._sources():
                source.tap(True)  # the portable lane may have taken over
            await self._look()
            now = time.monotonic()
            if now >= tell_at:
                tell_at = now + COUNT_SECONDS
                for tap in self._open:
                    tap.tell(lines)
            # Told with the next look, which finds copies of all that is counted by now.
            lines = self._meaning()[2].lines
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Explain some of what was copied, and leave the rest out."""
        most = self._allowed()
        copies = [copy for source in self._sources() for copy in source.tapped(most)]
        if not most:
            return
        for number, (copy, line) in enumerate(self._explained(copies, most), 1):
            self._credit -= 1
            seen = Seen(line, copy.transport, copy.sender)
            encoded = _Once(seen)
            for tap in self._open:
                tap.offer(seen, encoded)
            if number % LINES_PER_STEP == 0:
                await asyncio.sleep(0)

    def _allowed(self) -> int:
        now = time.monotonic()
        passed = min(now - self._looked_at, BURST_SECONDS)
        self._credit = min(self._credit + passed * LINES_PER_SECOND, float(LINES_AT_ONCE))
        self._looked_at = now
        return int(self._credit)

    def _explained(self, copies: Sequence[Copy], most: int) -> Iterator[tuple[Copy, Explained]]:
        """Lines of copies, at most so many: where there are more, some of each, evenly."""
        store, dialect, _ = self._meaning()
        each = most
        if sum(copy.data.count(b"\n") + 1 for copy in copies) > most:
            copies = copies[:: step_for(len(copies), most)]
            each = most // len(copies)
        for copy in copies:
            self._turn += 1
            found = explain(store, dialect, copy.data, each, is_cut=copy.is_cut, turn=self._turn)
            for line in found:
                yield copy, line


class _Once:
    """A line as JSON, made when the first tap wants it."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._made = b""

    def __call__(self) -> bytes:
        if not self._made:
            line, transport, sender = self._seen
            self._made = _encoded(
                LineRecord(
                    VERSION,
                    time.time(),
                    transport,
                    sender,
                    line.verdict,
                    line.why,
                    line.notes,
                    line.text,
                    line.met,
                )
            )
        return self._made


def _encoded(record: Struct) -> bytes:
    return msgspec.json.encode(record) + b"\n"
