"""When the state file is read and written: at the start, in intervals, and at the end.

Reading and writing happen in a thread, so neither the loop nor the lanes wait for a disk. What is
written is gathered in short steps before, while samples come in.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from llmstatsd.series import snapshot
from llmstatsd.series.lanes import HotPath
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.snapshot import Part
from llmstatsd.series.store import Store
from llmstatsd.state import Head, StateFile, StateLockedError, StateStats, encoded, said

FILE_NAME: Final = "llmstatsd.state"
"""The file in the folder that systemd names in $STATE_DIRECTORY."""

FAILURE_LOG_SECONDS: Final = 60.0
"""A writing that fails is logged at most this often, and counted each time."""

Source = Callable[[], tuple[Store, LineStats]]
"""The store that is to be kept now, and the ladder of its hot path."""

T = TypeVar("T")

logger = logging.getLogger("llmstatsd")


def path_of(configured: str, environ: Mapping[str, str]) -> str:
    """Where the state is kept, empty for nowhere.

    systemd may name several folders, with colons between them, by systemd.exec(5).
    """
    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return configured or (str(Path(folder) / FILE_NAME) if folder else "")


def pause_after(interval_seconds: float, took_seconds: float) -> float:
    """Seconds from the end of a writing to the begin of the next, if it takes as long.

    So the next one is on the disk an interval after this one began, and a crash at any moment loses
    at most an interval. Where a writing takes over a third of it, the pause is as long as that.
    """
    return max(interval_seconds - 2 * took_seconds, took_seconds)


class Keeper:
    """Keeps what `source` gives in a file, every `interval_seconds` and at the end.

    `quiet` is held while it is read: who moves numbers from one store to another holds it too.
    """

    def __init__(
        self, file: StateFile, interval_seconds: float, source: Source, quiet: asyncio.Lock
    ) -> None:
        """Lock the file; StateLockedError if another daemon keeps its state there."""
        self.stats = StateStats()
        self.interval_seconds = interval_seconds
        """May be changed at any time; the interval that has begun is not."""
        self._file = file
        self._source = source
        self._quiet = quiet
        self._ending = asyncio.Event()
        self._failure_logged_at: float | None = None
        # One thread, which the reading at the start makes: it is there when memory has ended.
        self._thread = ThreadPoolExecutor(1, "state")
        try:
            file.lock()
        except OSError as error:  # the first writing fails as well, and is counted
            logger.warning("cannot lock the state %s: %s", file.path, error.strerror)

    async def restore(self, store: Store, hot_path: HotPath) -> None:
        """Add what the file holds to a store that nothing has come into yet.

        When this returns the file is known to lag behind, until a last writing: so whoever is
        killed before the first one is told of by the next start as well.
        """
        found = await self._in_turn(self._file.load)
        if found.head is None:
            self._say_nothing_restored(found.problem)
        else:
            await self._merge(found.head, found.parts, store, hot_path)
        if self._file.was_left or (found.head is not None and not found.head.is_clean):
            self.stats.unclean_stops += 1
            self._say_left()
        try:
            await self._in_turn(self._file.begin)
        except OSError as error:  # the first writing fails as well, and is counted
            logger.warning("cannot note that the state %s lags: %s", self._file.path, said(error))

    async def _merge(
        self, head: Head, parts: Iterable[Part], store: Store, hot_path: HotPath
    ) -> None:
        merge = snapshot.Merge(store, head.totals)
        for part in parts:
            merge.add(part)
            await asyncio.sleep(0)
        for _ in merge.finish():
            await asyncio.sleep(0)
        hot_path.go_on_from(head.totals.ladder)
        self.stats.unclean_stops = head.unclean_stops
        self.stats.restored_label_sets = merge.restored
        self.stats.dropped |= merge.dropped
        self._say_restored(head)

    async def run(self) -> None:
        """Write at once, in every interval, and a last time after `end`, marked as clean."""
        while not self._ending.is_set():
            began = time.monotonic()
            await self._save(is_clean=False)
            pause = pause_after(self.interval_seconds, time.monotonic() - began)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
        await self._save(is_clean=True)

    def end(self) -> None:
        """Let `run` write a last time and return: nothing comes in any more."""
        self._ending.set()

    def close(self) -> None:
        """Give the lock up."""
        self._thread.shutdown()
        self._file.close()

    async def _in_turn(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _save(self, *, is_clean: bool) -> None:
        try:
            async with self._quiet:
                store, ladder = self._source()
                parts = []
                for part in snapshot.Parts(store):
                    parts.append(encoded(part))
                    await asyncio.sleep(0)
                totals = snapshot.totals(store, ladder)
                head = Head(time.time(), is_clean, totals, self.stats.unclean_stops)
            await self._in_turn(partial(self._file.save, head, parts))
        except (OSError, MemoryError, StateLockedError) as error:
            self.stats.write_failures += 1
            self._say_failed(error, is_last=is_clean)
        else:
            self.stats.last_write_timestamp_seconds = head.written

    def _say_nothing_restored(self, problem: str | None) -> None:
        path = self._file.path
        if problem is None:
            logger.info("no state in %s yet: every series begins at 0", path)
        else:
            logger.error("the state in %s is lost, every series begins at 0: %s", path, problem)

    def _say_restored(self, head: Head) -> None:
        logger.info(
            "restored %d label sets from %s, written %.1f s ago",
            self.stats.restored_label_sets,
            self._file.path,
            max(0.0, time.time() - head.written),  # the clock may have been set back
        )
        dropped = {reason: count for reason, count in self.stats.dropped.items() if count}
        if dropped:
            logger.warning("label sets of the state that were dropped, by reason: %s", dropped)

    def _say_left(self) -> None:
        logger.warning(
            "the last stop was not clean: what came in after the last writing is lost, "
            "at most one interval (now %g s)",
            self.interval_seconds,
        )

    def _say_failed(self, error: Exception, *, is_last: bool) -> None:
        now, logged_at = time.monotonic(), self._failure_logged_at
        if not is_last and logged_at is not None and now - logged_at < FAILURE_LOG_SECONDS:
            return
        self._failure_logged_at = now
        logger.error(
            "cannot write the state %s, %d times so far: %s",
            self._file.path,
            self.stats.write_failures,
            said(error),
        )
