"""What the store makes of a resolved meaning: where its values go, and what is done with them."""

from collections.abc import Callable
from typing import Any, Final

from llmstatsd.series.family import Fold
from llmstatsd.wire.statsd import COUNTER, GAUGE, MILLISECONDS_PER_SECOND, SET, TIMER

COMMUTATIVE: Final = frozenset({"c", "ms", "h", "d"})
"""Types whose values may be added in any order."""

Add = Callable[[Any], None]


class Route:
    """Where the values of a meaning go. `kind` is the wire's type, `weight` 1 / sampling rate.

    `notes` are counted once a line. A route into `other` has the `fold` to count its samples with;
    it is to be resolved anew when a slot becomes free, and any route when its cell has left.
    """

    __slots__ = ("_add", "cell", "fold", "kind", "notes", "weight")

    def __init__(
        self, kind: str, cell: Any, weight: float, notes: tuple[str, ...], fold: Fold | None
    ) -> None:
        self.kind = kind
        self.cell = cell
        self.weight = weight
        self.notes = notes
        self.fold = fold
        self._add: Add | None = None

    @property
    def is_folded(self) -> bool:
        """Whether a budget sent its values into `other`."""
        return self.fold is not None

    @property
    def is_commutative(self) -> bool:
        """Whether the order in which numbers are added does not matter."""
        return self.kind in COMMUTATIVE

    @property
    def add(self) -> Add:
        """Takes a value in the unit of the wire (a member, for a set); made at its first use."""
        if self._add is None:
            add = _adder(self.kind, self.cell, self.weight)
            self._add = add if self.fold is None else _counting(add, self.fold)
        return self._add

    def change(self, amount: float) -> None:
        """Change a gauge by an amount."""
        if self.fold is not None:
            self.fold.count()
        self.cell.change(amount)


def weight_of(rate: float) -> float:
    """What a sample of this sampling rate stands for; a whole number is one exactly."""
    weight = 1.0 / rate
    whole = round(weight)
    return whole if abs(weight - whole) <= 1e-9 * weight else weight


def _adder(kind: str, cell: Any, weight: float) -> Add:
    if kind == COUNTER:
        add: Add = cell.add
        return add if weight == 1 else lambda amount: add(amount * weight)
    if kind in (GAUGE, SET):
        return cell.set if kind == GAUGE else cell.insert  # type: ignore[no-any-return]
    if weight == 1:
        return cell.observe_milliseconds if kind == TIMER else cell.observe  # type: ignore[no-any-return]
    scale = MILLISECONDS_PER_SECOND if kind == TIMER else 1.0
    observe = cell.observe_weighted
    return lambda value: observe(value / scale, weight)


def _counting(add: Add, fold: Fold) -> Add:
    def add_and_count(value: Any) -> None:
        fold.count()  # first: it may find no memory, and a value may not be added twice
        add(value)

    return add_and_count
