"""Label sets that are idle leave as a whole, in short steps, while samples go on coming in."""

from collections.abc import Iterator, Sequence, Set
from threading import Lock
from typing import Final, Protocol, TypeVar

from llmstatsd.series.family import Family
from llmstatsd.series.instruments import AnyCell, LabelSet
from llmstatsd.series.store import BORN_WITH_MODEL, Store

T = TypeVar("T")
_Entry = tuple[Family, LabelSet, AnyCell]
_END: Final = object()

STEP_CELLS: Final = 250
"""Cells that one step looks at or removes, so that it stays well under a millisecond."""


class Forgetful(Protocol):
    """What a sweep asks of a cache of routes; another route may be kept between two steps."""

    def forget_cells(self, ids: Set[int], /) -> Iterator[None]:
        """Drop the routes to the cells of these `id()`s, in short steps."""

    def forget_folded(self) -> Iterator[None]:
        """Drop the routes into `other`, in short steps."""


def expire(store: Store, caches: Sequence[Forgetful], now: float) -> Iterator[None]:
    """Remove idle label sets and the routes to them, in short steps; `now` is in seconds.

    The gate of the store is held for one step at a time.
    """
    return _gated(store.gate, _expire(store, caches, now))


def _expire(store: Store, caches: Sequence[Forgetful], now: float) -> Iterator[None]:
    sweep = Sweep(store, now)
    yield from sweep.look()
    if not sweep.idle_ids:
        return
    for cache in caches:
        yield from cache.forget_cells(sweep.idle_ids)
    yield from sweep.leave()
    # There are free places now, which a value inside `other` may take.
    for cache in caches:
        yield from cache.forget_folded()


def _gated(gate: Lock, steps: Iterator[None]) -> Iterator[None]:
    while True:
        with gate:
            if next(steps, _END) is _END:
                return
        yield


class Sweep:
    """One pass at one time: `look`, then `leave`.

    Between the two, whoever keeps routes must drop those to the cells of `idle_ids`: a sample
    that comes later then asks the store for its cell, which touches it, and a touched cell stays.
    `now` is seconds of a clock that never goes back; a sweep ends before the next begins.
    """

    def __init__(self, store: Store, now: float) -> None:
        self._store = store
        self._idle: list[_Entry] = []
        self._idle_with_model: list[_Entry] = []  # decided last, when all living models are known
        self.idle_ids: set[int] = set()
        """`id()` of the cells that `look` found idle; they live as long as this sweep."""
        self._now = now
        self._idle_since = now - store.limits.idle_seconds
        self._models: set[str] = set()  # those that a living cell of a documented series has

    def look(self) -> Iterator[None]:
        """Find the cells that were idle for the configured time; nothing is removed yet."""
        if not self._store.limits.idle_seconds:
            return
        for family in list(self._store.families.values()):
            for keys in _steps(list(family.cells)):
                for key in keys:
                    self._look_at(family, key, family.cells[key])
                yield

    def leave(self) -> Iterator[None]:
        """Remove what is still idle, and the undeclared names that nothing is left of."""
        for idle in (self._idle, self._idle_with_model):
            for entries in _steps(idle):
                for family, key, cell in entries:
                    self._let_leave(family, key, cell)
                yield
        for family in list(self._store.families.values()):
            if family.labels is None and self._is_used_up(family):
                self._store.disown(family)
                yield

    def _look_at(self, family: Family, key: LabelSet, cell: AnyCell) -> None:
        if cell.touched:
            cell.touched = False
            cell.seen = self._now
        if self._is_alive(cell):
            self._remember_model(family, key)
        else:
            has_model = family.name in BORN_WITH_MODEL
            (self._idle_with_model if has_model else self._idle).append((family, key, cell))
            self.idle_ids.add(id(cell))

    def _let_leave(self, family: Family, key: LabelSet, cell: AnyCell) -> None:
        if self._is_alive(cell):
            self._remember_model(family, key)
        elif not (cell.kept or self._is_kept_by_model(family, key)):
            self._store.remove(family, key)

    def _is_alive(self, cell: AnyCell) -> bool:
        return cell.touched or cell.seen > self._idle_since

    def _is_used_up(self, family: Family) -> bool:
        """Whether an undeclared name holds nothing, or nothing but an idle slot of `other`."""
        return all(
            family.is_reserved(key) and not self._is_alive(cell)
            for key, cell in family.cells.items()
        )

    def _remember_model(self, family: Family, key: LabelSet) -> None:
        if family.labels is not None and "model" in key[0]:
            self._models.add(_model(key))

    def _is_kept_by_model(self, family: Family, key: LabelSet) -> bool:
        return family.name in BORN_WITH_MODEL and _model(key) in self._models


def _model(key: LabelSet) -> str:
    return key[1][key[0].index("model")]


def _steps(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), STEP_CELLS):
        yield items[start : start + STEP_CELLS]
