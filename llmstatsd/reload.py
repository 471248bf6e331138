"""A new configuration while the daemon runs: what of it is taken over, and how one store follows
another without a sample being lost or counted twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from llmstatsd.config import Config, options
from llmstatsd.series import snapshot
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import Store

TAKEN_OVER: Final = frozenset(
    {
        "http.gzip_level",
        "http.security_file",
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

    First it gets the label sets of the old one, so that they have their places before any other.
    Then `switch` lets all samples go to it, and none to the old one any more when it returns. Last
    it gets the numbers of the old one. The result is the label sets that fit nowhere, by reason.
    """
    merge = snapshot.Merge(new, snapshot.totals(old, LineStats()))
    for part in snapshot.gated(old):
        merge.make_room(part)
        await asyncio.sleep(0)
    await switch()
    for part in snapshot.gated(old):
        with new.gate:
            merge.add(part)
        await asyncio.sleep(0)
    steps = merge.finish(snapshot.totals(old, LineStats()))
    while True:
        with new.gate:
            if next(steps, _END) is _END:
                return dict(merge.dropped)
        await asyncio.sleep(0)


_END: Final = object()
