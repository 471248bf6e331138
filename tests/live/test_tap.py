"""Taps over sources that a test holds: when copying begins and ends, and what is bounded."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from llmstatsd.intake.copies import Copy
from llmstatsd.live import tap as tap_module
from llmstatsd.live.tap import LINES_AT_ONCE, TAPS_LIMIT, WAITING_LIMIT, Tap, Taps
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import Store
from llmstatsd.wire import Dialect

DEADLINE_SECONDS = 20.0


class Source:
    """Gives what was put into it, and remembers whether it is tapped."""

    def __init__(self) -> None:
        self._is_open = False
        self.copies: list[Copy] = []

    def tap(self, is_open: bool) -> None:
        self._is_open = is_open

    def is_tapped(self) -> bool:
        return self._is_open

    def tapped(self, most: int) -> list[Copy]:
        copies, self.copies = self.copies, []
        return copies

    def put(self, data: bytes, count: int = 1) -> None:
        self.copies += [Copy(data, False, "udp")] * count


@asynccontextmanager
async def running(source: Source, stats: LineStats) -> AsyncIterator[Taps]:
    taps = Taps(lambda: [source], lambda: (Store(), Dialect(), stats))
    task = asyncio.create_task(taps.run())
    yield taps
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def taken(tap: Tap) -> list[Any]:
    records = await asyncio.wait_for(tap.take(), DEADLINE_SECONDS)
    return [json.loads(line) for line in (records or b"").splitlines()]


async def count_of(tap: Tap, explained: int) -> dict[str, int]:
    """The first count that tells of so many explained lines, or more."""
    while True:
        for record in await taken(tap):
            if record["record"] == "count" and record["explained"] >= explained:
                found: dict[str, int] = record
                return found


async def test_copying_goes_on_from_the_first_tap_to_the_end_of_the_last() -> None:
    source = Source()
    async with running(source, LineStats()) as taps:
        assert not source.is_tapped()
        first, second = taps.open(""), taps.open("text~x")
        assert source.is_tapped()
        taps.close(first)
        taps.close(first)
        assert source.is_tapped()
        taps.close(second)
        assert not source.is_tapped()
        await asyncio.sleep(0)
        assert await first.take() is None
        source.put(b"x:1|c")
        third = taps.open("")
        assert source.is_tapped()
        assert (await count_of(third, 1))["explained"] == 1


async def test_a_filter_that_is_none_opens_nothing() -> None:
    source = Source()
    async with running(source, LineStats()) as taps:
        with pytest.raises(ValueError, match="at character 1"):
            taps.open("x")
        assert not source.is_tapped()


async def test_what_is_explained_at_once_is_bounded_and_of_every_datagram() -> None:
    source, stats = Source(), LineStats()
    async with running(source, stats) as taps:
        tap = taps.open("text=a:1|c")
        source.put(b"\n".join([b"b:1|c"] * 30), 200)
        source.put(b"a:1|c")
        stats.plain_lines = 6001
        count = await count_of(tap, 100)
        assert 200 <= count["explained"] <= LINES_AT_ONCE
        assert (count["lines"], count["fitting"]) == (6001, 1)
        source.put(b"b:1|c", LINES_AT_ONCE)
        more = await count_of(tap, count["explained"] + 1)
        assert more["explained"] - count["explained"] < LINES_AT_ONCE


async def test_what_came_after_the_last_look_is_not_told_as_left_out() -> None:
    stats = LineStats()

    class Busy(Source):
        """Takes in a line right behind each look, as a lane's thread does."""

        def tapped(self, most: int) -> list[Copy]:
            copies = super().tapped(most)
            stats.plain_lines += 1
            self.put(b"a:1|c")
            return copies

    async with running(Busy(), stats) as taps:
        tap = taps.open("")
        for explained in (1, 5, 20):
            count = await count_of(tap, explained)
            assert count["lines"] == count["explained"]


async def test_for_a_reader_who_does_not_read_a_bounded_number_waits() -> None:
    source, stats = Source(), LineStats()
    async with running(source, stats) as taps:
        idle, quick = taps.open(""), taps.open("")
        explained = 0
        while explained <= WAITING_LIMIT:
            source.put(b"a:1|c", 400)
            explained = (await count_of(quick, explained + 1))["explained"]
        records = await taken(idle)
        assert [each["record"] for each in records] == ["line"] * WAITING_LIMIT + ["count"]
        assert records[-1]["missed"] == records[-1]["fitting"] - WAITING_LIMIT > 0


async def test_of_long_records_fewer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "WAITING_BYTES", 1000)
    source = Source()
    async with running(source, LineStats()) as taps:
        idle, quick = taps.open(""), taps.open("")
        source.put(b"a:1|c", 50)
        await count_of(quick, 50)
        records = await asyncio.wait_for(idle.take(), DEADLINE_SECONDS)
        lines = (records or b"").splitlines()[:-1]
        assert 1 < len(lines) < 50
        assert sum(map(len, lines[:-1])) < 1000


async def test_a_tap_without_memory_for_its_copies_takes_no_place() -> None:
    source = Source()
    async with running(source, LineStats()) as taps:

        def fail(is_open: bool) -> None:
            if is_open:
                raise MemoryError

        source.tap = fail  # type: ignore[method-assign]
        for _ in range(TAPS_LIMIT):
            with pytest.raises(MemoryError):
                taps.open("")
        assert not taps.is_full


async def test_a_bug_ends_the_taps_and_is_logged_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()

    def fail(*_: object, **__: object) -> Any:
        raise ZeroDivisionError("a bug")

    async with running(source, LineStats()) as taps:
        with monkeypatch.context() as patch:
            patch.setattr(tap_module, "explain", fail)
            tap = taps.open("")
            source.put(b"a:1|c")
            while await asyncio.wait_for(tap.take(), DEADLINE_SECONDS) is not None:
                pass
        assert not source.is_tapped()
        assert "the taps end by a bug" in caplog.text
        source.put(b"a:1|c")
        assert await count_of(taps.open(""), 1)


async def test_after_the_end_a_tap_ends_at_once() -> None:
    source = Source()
    async with running(source, LineStats()) as taps:
        before = taps.open("")
        taps.end()
        assert await before.take() is None
        assert await taps.open("").take() is None
