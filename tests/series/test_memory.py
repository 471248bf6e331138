"""Memory that comes to its end: a line is refused whole, nothing more is born, and sums are exact.

CPython's own test module lets one allocation after the other fail, and that alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from llmstatsd.series import snapshot
from llmstatsd.series.snapshot import Merge, Parts, Totals
from llmstatsd.wire.reasons import NAME_BUDGET, OUT_OF_MEMORY

from . import TOKENS, Rig

_testcapi = pytest.importorskip("_testcapi", reason="CPython alone can let allocations fail")

# A generator that ends early for want of memory says so on its way.
pytestmark = [
    pytest.mark.memory,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

T = TypeVar("T")

IDLE = 100.0

ALLOCATIONS = 700
"""More than a line makes, however many series are born with it."""

LINES = (
    "llm.tokens:5|c|#model:m,more:x",
    "jobs:1|c|#part:a,of:b",
    "jobs:2|c|#part:c",
    "wait:3|ms|#part:a",
    "users:u1|s|#part:a",
    "level:+4|g",
    "many:1:2:3|h|@0.5",
    "chain:1|c:2|c",
    "name#k=v:1|c",
)


@contextmanager
def allocation_fails(number: int) -> Iterator[None]:
    """Let one allocation fail, of the objects and the memory of Python."""
    _testcapi.set_nomemory(number, number + 1)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()


def rig_with_some() -> Rig:
    """A rig that holds label sets, and folds further values."""
    rig = Rig(limits={"label_values": 3, "idle_seconds": IDLE})
    rig.feed("jobs:7|c|#part:x", "llm.tokens:7|c|#model:y")
    return rig


def everything(rig: Rig) -> dict[str, float]:
    """What each series adds up to, over the label sets it holds."""
    return {
        name: sum(
            (sum(rig.counts(name).values()) if family.type == "histogram"
             else sum(rig.values(name).values()),)
        )
        for name, family in rig.store.families.items()
        if family.cells
    }  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_line_without_memory_counts_whole_or_is_refused_and_breaks_nothing(line: str) -> None:
    rig = rig_with_some()
    before = everything(rig)
    rig.feed(line)
    whole = everything(rig)
    refused = 0
    for number in range(ALLOCATIONS):
        rig = rig_with_some()
        try:
            with allocation_fails(number):
                rig.hot.feed(line.encode())
        except MemoryError:
            continue  # of what hands the datagram over, before anything is done
        was_refused = rig.refused() in ({OUT_OF_MEMORY: 1}, {NAME_BUDGET: 1})
        refused += was_refused
        assert was_refused or not rig.refused()
        assert totals(everything(rig)) == totals(before if was_refused else whole), number
        assert rig.stats.lines == 3
        let_all_leave(rig)
    assert refused


def totals(sums: dict[str, float]) -> dict[str, float]:
    """Without series that hold nothing but label sets born at 0."""
    return {name: value for name, value in sums.items() if value}


def let_all_leave(rig: Rig) -> None:
    """Expire everything: what was charged and held for a birth that failed would show, or break."""
    fresh = Rig(limits={"label_values": 3, "idle_seconds": IDLE})
    for now in (0.0, 2 * IDLE, 4 * IDLE):
        rig.sweep(now)
    assert rig.store.ledger.charged == fresh.store.ledger.charged
    held = {
        (family.name, label): budget._held
        for family in rig.store.families.values()
        for label, budget in family.budgets.items()
        if budget.held
    }
    assert held == {}


def test_once_memory_has_ended_new_label_sets_fold_and_names_are_refused() -> None:
    rig = Rig()
    rig.feed("llm.tokens:1|c|#model:a", "jobs:1|c|#part:a")
    rig.store.stop_growing()
    rig.feed("llm.tokens:2|c|#model:b", "jobs:2|c|#part:b", "llm.tokens:4|c|#model:a", "new:1|c")
    assert rig.values(TOKENS) == {("a",): 5, ("other",): 2}
    assert rig.values("jobs_total") == {("a",): 1, ("other",): 2}
    assert rig.refused() == {"name_budget": 1}


def test_after_the_end_of_memory_what_leaves_gives_its_place_to_another() -> None:
    rig = Rig(limits={"idle_seconds": IDLE})
    rig.feed("jobs:1|c|#part:a")
    rig.store.stop_growing()
    rig.sweep(0.0)
    rig.sweep(IDLE)
    rig.feed("jobs:2|c|#part:b")
    assert rig.values("jobs_total") == {("b",): 2}


def carry(number: int) -> Rig:
    """Carry all into another rig; of each step one allocation fails, and the step is done again."""
    source = Rig()
    source.feed(*LINES, *[f"jobs:1|c|#part:{n}" for n in range(110)], "gone:1|c")
    source.store.families["jobs_total"].folded["label_values"] = 3
    source.store.stats.expired_label_sets = 5
    target = Rig(limits={"label_values": 100})
    target.feed("jobs:1000|c|#part:a", "wait:7|ms|#part:a")

    def again(work: Callable[[], T]) -> T:
        try:
            with allocation_fails(number):
                return work()
        # CPython 3.11 raises SystemError where there is no room for the frame of a function.
        except (MemoryError, SystemError):
            return work()

    merge = Merge(target.store, Totals())
    parts = Parts(source.store)
    while True:
        part = again(lambda: next(parts, None))
        if part is None:
            break
        again(lambda: merge.add(part))  # noqa: B023 it is done at once
    again(lambda: list(merge.finish(snapshot.totals(source.store, source.stats))))
    assert merge.restored == sum(len(each.cells) for each in source.store.families.values())
    return target


def test_carrying_into_another_store_goes_on_where_memory_ended_and_adds_nothing_twice() -> None:
    whole = carry(10**9)
    assert everything(whole)["jobs_total"] == 1113
    for number in range(0, ALLOCATIONS, 5):
        rig = carry(number)
        assert everything(rig) == everything(whole), number
        assert rig.store.stats.expired_label_sets == 5
        assert rig.store.families["jobs_total"].folded["label_values"] >= 3
