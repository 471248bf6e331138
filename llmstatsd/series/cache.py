"""Resolved meanings, bounded, so that each is resolved once and added to many times."""

from collections import deque
from collections.abc import Callable
from sys import intern
from typing import Final

from llmstatsd.series.store import Route
from llmstatsd.wire.statsd import Meaning

KEY_LENGTH_LIMIT: Final = 1024
"""Longest (name, suffix) in characters that is kept, so that the cache is bounded in bytes too."""

Key = tuple[str, str] | Meaning
"""The (name, suffix) of a line, or the meaning of one part of an event or of a chain."""


class RouteCache:
    """At most `limit` routes; each new one beyond that evicts the oldest.

    `plain` is name -> suffix -> route for the hot path: only routes that add numbers in any order.
    The routes of gauges, sets and events are kept apart from it.
    """

    __slots__ = ("_apart", "_order", "limit", "plain")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.plain: dict[str, dict[str, Route]] = {}
        self._apart: dict[Key, Route] = {}
        self._order: deque[Key] = deque()

    def __len__(self) -> int:
        return len(self._apart) + sum(map(len, self.plain.values()))

    def get(self, key: Key) -> Route | None:
        """The route of a key, or None if it has to be resolved."""
        if not isinstance(key, Meaning):
            name, suffix = key
            route = self.plain.get(name, {}).get(suffix)
            if route is not None:
                return route
        return self._apart.get(key)

    def keep(self, key: Key, route: Route) -> None:
        """Remember a route that is not in the cache, unless its key is too long."""
        if _length(key) > KEY_LENGTH_LIMIT:
            return
        if isinstance(key, Meaning) or not route.is_commutative:
            self._apart[key] = route
        else:
            name, suffix = key
            self.plain.setdefault(intern(name), {})[suffix] = route
        self._order.append(key)
        if len(self._order) > self.limit:
            self._drop(self._order.popleft())

    def forget(self, is_stale: Callable[[Route], bool]) -> None:
        """Drop every route that `is_stale`; the work is bounded by `limit`."""
        self._order = deque(key for key in self._order if not self._dropped(key, is_stale))

    def _dropped(self, key: Key, is_stale: Callable[[Route], bool]) -> bool:
        route = self.get(key)
        stale = route is None or is_stale(route)
        if stale:
            self._drop(key)
        return stale

    def _drop(self, key: Key) -> None:
        self._apart.pop(key, None)
        if not isinstance(key, Meaning):
            name, suffix = key
            suffixes = self.plain.get(name, {})
            suffixes.pop(suffix, None)
            if not suffixes:
                self.plain.pop(name, None)


def _length(key: Key) -> int:
    if isinstance(key, Meaning):
        return len(key.name) + sum(len(text) for tag in key.tags for text in tag)
    return len(key[0]) + len(key[1])
