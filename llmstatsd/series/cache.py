"""Resolved meanings, bounded, so that each is resolved once and added to many times."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Final, TypeVar

from llmstatsd.series.route import Route
from llmstatsd.wire.statsd import Meaning

KEY_LENGTH_LIMIT: Final = 1024
"""Longest (name, suffix) in characters that is kept, so that the cache is bounded in bytes too."""

STEP_ROUTES: Final = 1000
"""Routes that one step of forgetting looks at: about two tenths of a millisecond."""

K = TypeVar("K")
R = TypeVar("R")

Key = tuple[str, str] | Meaning
"""The (name, suffix) of a line, or the meaning of one part of an event or of a chain."""


class PlainRoute:
    """A route of numbers; `plain` adds one and counts the notes of its line."""

    __slots__ = ("plain", "route")

    def __init__(self, route: Route, note: Callable[[Iterable[str]], None]) -> None:
        self.route = route
        self.plain = _noting(route, note) if route.notes else route.add


class RouteCache:
    """At most `limit` routes; each new one beyond that evicts the oldest.

    `plain` is name -> suffix -> route for the hot path: only routes that add numbers in any order.
    The routes of gauges, sets and events are kept apart from it. `note` counts a line's notes.
    """

    __slots__ = ("_apart", "_note", "_order", "limit", "plain")

    def __init__(self, limit: int, note: Callable[[Iterable[str]], None]) -> None:
        self.limit = limit
        self._note = note
        self.plain: dict[str, dict[str, PlainRoute]] = {}
        self._apart: dict[Key, Route] = {}
        # A route that was forgotten stays here until its turn, so this bounds the routes.
        self._order: deque[tuple[Key, Route]] = deque()

    def __len__(self) -> int:
        return len(self._apart) + sum(map(len, self.plain.values()))

    def get(self, key: Key) -> Route | None:
        """The route of a key, or None if it has to be resolved."""
        if not isinstance(key, Meaning):
            name, suffix = key
            known = self.plain.get(name, {}).get(suffix)
            if known is not None:
                return known.route
        return self._apart.get(key)

    def keep(self, key: Key, route: Route) -> None:
        """Remember a route that is not in the cache, unless its key is too long."""
        if _length(key) > KEY_LENGTH_LIMIT:
            return
        if isinstance(key, Meaning) or not route.is_commutative:
            self._apart[key] = route
        else:
            name, suffix = key
            self.plain.setdefault(name, {})[suffix] = PlainRoute(route, self._note)
        self._order.append((key, route))
        if len(self._order) > self.limit:
            self._drop(*self._order.popleft())

    def forget_cells(self, ids: Set[int]) -> Iterator[None]:
        """Drop the routes to the cells of these `id()`s, in short steps."""
        return self._forget(lambda route: id(route.cell) in ids)

    def forget_folded(self) -> Iterator[None]:
        """Drop the routes into `other`, in short steps."""
        return self._forget(lambda route: route.is_folded)

    def _forget(self, is_stale: Callable[[Route], bool]) -> Iterator[None]:
        yield from _forget(self._apart, is_stale)
        for routes in list(self.plain.values()):
            yield from _forget(routes, lambda known: is_stale(known.route))

    def _drop(self, key: Key, route: Route) -> None:
        if self.get(key) is not route:
            return  # forgotten meanwhile, and perhaps kept anew
        self._apart.pop(key, None)
        if not isinstance(key, Meaning):
            name, suffix = key
            suffixes = self.plain.get(name, {})
            suffixes.pop(suffix, None)
            if not suffixes:
                self.plain.pop(name, None)


def _noting(route: Route, note: Callable[[Iterable[str]], None]) -> Callable[[float], None]:
    add, notes = route.add, route.notes

    def add_and_note(value: float) -> None:
        add(value)
        note(notes)

    return add_and_note


def _forget(routes: dict[K, R], is_stale: Callable[[R], bool]) -> Iterator[None]:
    """Routes may be kept between two steps."""
    keys = list(routes)
    for start in range(0, len(keys), STEP_ROUTES):
        for key in keys[start : start + STEP_ROUTES]:
            if key in routes and is_stale(routes[key]):
                del routes[key]
        yield


def _length(key: Key) -> int:
    if isinstance(key, Meaning):
        return len(key.name) + sum(len(text) for tag in key.tags for text in tag)
    return len(key[0]) + len(key[1])
