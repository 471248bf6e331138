"""A new configuration while the daemon runs: what of it is taken over, and how one store follows
another without a sample being lost or counted twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from llmstatsd.config import Config, options
from llmstatsd.series import snapshot
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import Store

TAKEN_OVER: Final = frozenset(
    {
        "http.gzip_level",
        "http.security_file",
        "http.tap",
        "log.level",
        "log.refused_interval_seconds",
        "state.interval_seconds",
        "statsd.absolute_signed_gauges",
        "statsd.influxdb_tags",
        "statsd.librato_tags",
        "statsd.signalfx_tags",
    }
)
"""Options taken over at once, beside all of limits, aliases, pinned and series."""

SWITCH_BYTES: Final = 1 << 20
"""Memory that has to be free when one store takes another's place: many times what that takes."""

TRIES: Final = 600
TRY_SECONDS: Final = 0.05
"""How long a step waits for memory once there is no way back: half a minute; then it raises."""

T = TypeVar("T")


@dataclass(slots=True)
class ReloadStats:
    """How the last loading of the configuration went, the start being the first one."""

    reloads: int = 0
    is_success: bool = True
    last_success_timestamp_seconds: float = field(default_factory=time.time)

    def note(self, failure: str | None) -> None:
        """Note how a reload went."""
        self.reloads += 1
        self.is_success = failure is None
        if failure is None:
            self.last_success_timestamp_seconds = time.time()


class Reloads:
    """At most one reload under way and one waiting, which all share who ask meanwhile."""

    def __init__(self, reload: Callable[[], Awaitable[str | None]]) -> None:
        """`reload` gives None, or the text why it failed, and does not raise."""
        self._reload = reload
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Task[str | None] | None = None
        self._under_way: asyncio.Task[str | None] | None = None  # a loop forgets its tasks

    async def ask(self) -> str | None:
        """Reload, or wait for a reload that has not begun yet; None, or why it failed."""
        return await asyncio.shield(self.begin())

    def begin(self) -> asyncio.Task[str | None]:
        """The reload that will begin next."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._in_turn(), name="reload")
        return self._waiting

    async def _in_turn(self) -> str | None:
        async with self._turn:
            self._waiting, self._under_way = None, self._waiting
            return await self._reload()


def taken_over(old: Config, new: Config) -> tuple[Config, list[str]]:
    """The new configuration as far as it takes effect at once, and what needs a restart."""
    late = [
        option
        for option in options()
        if option.value(old) != option.value(new)
        and option.section != "limits"
        and option.key not in TAKEN_OVER
        and not option.is_kit
    ]
    for option in late:
        section = replace(getattr(new, option.section), **{option.name: option.value(old)})
        new = replace(new, **{option.section: section})
    return new, [option.key for option in late]


def changes_series(old: Config, new: Config) -> bool:
    """Whether the two mean different things by the same lines."""
    return any(
        getattr(old, section) != getattr(new, section)
        for section in ("statsd", "limits", "aliases", "pinned", "series")
    )


async def follow(old: Store, new: Store, switch: Callable[[], Awaitable[None]]) -> dict[str, int]:
    """Let an empty store take the place of another one, in short steps.

    First it gets the label sets of the old one, so that they have their places before any other;
    where memory ends meanwhile, MemoryError says so, and nothing has changed.
    Then `switch` lets all samples go to it, and none to the old one any more when it returns. Last
    it gets the numbers of the old one, and then the end of memory is no way out: a step is taken
    again. The result is the label sets that fit nowhere, by reason.
    """
    merge = snapshot.Merge(new, snapshot.totals(old, LineStats()))
    for part in snapshot.Parts(old):
        merge.make_room(part)
        await asyncio.sleep(0)
    bytes(SWITCH_BYTES)  # to see whether it is there
    await switch()
    old.give_up_reserve()  # nothing comes in there any more: the rest may have it
    parts = await _insist(new, lambda: snapshot.Parts(old))
    while (full := await _insist(new, partial(_next, parts))) is not None:
        await _insist(new, partial(_add, merge, new, full))
        await asyncio.sleep(0)
    after = await _insist(new, lambda: snapshot.totals(old, LineStats()))
    steps: list[Iterator[None]] = []
    while await _insist(new, lambda: _goes_on(merge, new, after, steps)):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return dict(merge.dropped)


def _next(parts: snapshot.Parts) -> snapshot.Part | None:
    return next(parts, None)


def _add(merge: snapshot.Merge, store: Store, part: snapshot.Part) -> None:
    with store.gate:
        merge.add(part)


def _goes_on(
    merge: snapshot.Merge, store: Store, after: snapshot.Totals, steps: list[Iterator[None]]
) -> bool:
    """Take a step of the merge's end, the first one anew after a step that failed."""
    if not steps:
        steps.append(merge.finish(after))
    try:
        with store.gate:
            return next(steps[0], _END) is not _END
    except MemoryError:
        steps.clear()
        raise


async def _insist(store: Store, work: Callable[[], T]) -> T:
    """Do what needs memory, with that of the store's reserve at its end, and when some is free."""
    for _ in range(TRIES):
        try:
            return work()
        except MemoryError:
            store.stop_growing()
        await asyncio.sleep(TRY_SECONDS)
    return work()


_END: Final = object()
