"""Label sets that are idle leave as a whole, in short steps, while samples go on coming in."""

from collections.abc import Iterator
from typing import Final, TypeVar

from llmstatsd.series.family import Family
from llmstatsd.series.instruments import AnyCell, LabelSet
from llmstatsd.series.store import BORN_WITH_MODEL, Store

T = TypeVar("T")
_Entry = tuple[Family, LabelSet, AnyCell]

STEP_CELLS: Final = 250
"""Cells that one step looks at or removes, so that it stays well under a millisecond."""


class Sweep:
    """One pass at one time: `look`, then `leave`.

    Between the two, whoever keeps routes must drop those to the cells that `found_idle`: a sample
    that comes later then asks the store for its cell, which touches it, and a touched cell stays.
    `now` is seconds of a clock that never goes back; a sweep ends before the next begins.
    """

    def __init__(self, store: Store, now: float) -> None:
        self._store = store
        self._idle: list[_Entry] = []
        self._idle_with_model: list[_Entry] = []  # decided last, when all living models are known
        self._idle_ids: set[int] = set()
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

    def found_idle(self, cell: AnyCell) -> bool:
        """Whether `look` found this cell idle."""
        return id(cell) in self._idle_ids

    def has_idle(self) -> bool:
        """Whether `look` found any idle cell."""
        return bool(self._idle_ids)

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
            self._idle_ids.add(id(cell))

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
