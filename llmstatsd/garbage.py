"""Keeps the pauses of Python's cyclic garbage collector short, however many cells there are.

Reference counting frees cells; the collector only finds cycles, and cells are in none. Yet a full
collection visits every object it knows: at 100,000 label sets that is a pause of tens of
milliseconds. So objects that live long are set aside (`gc.freeze`), full collections do not
come by themselves, and the few objects that are left are collected at leisure.
"""

import gc
from typing import Final

FULL_COLLECTION_SECONDS: Final = 600.0
"""Time between full collections of what is not set aside: connections and tasks."""

_NEVER: Final = 1_000_000_000


def begin() -> None:
    """Set everything aside that exists at the start, and stop full collections."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    gc.collect()
    gc.freeze()


def set_aside_cells() -> None:
    """Set the cells aside that were born lately; about a millisecond."""
    gc.collect(1)
    gc.freeze()


def collect() -> None:
    """A full collection of what is not set aside."""
    gc.collect()
