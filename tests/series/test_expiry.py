"""An idle label set leaves as a whole, frees its slots, and no sample is lost by it."""

from itertools import pairwise

import pytest

from llmstatsd.catalog import ERROR_TYPES
from llmstatsd.series.expiry import STEP_CELLS

from . import ERRORS, FALLBACKS, RATE_LIMITS, REQUESTS, TOKENS, Rig

IDLE = 100.0


def rig_with(**limits: float) -> Rig:
    return Rig(limits={"idle_seconds": IDLE, **limits})


def test_a_label_set_leaves_when_it_was_idle_for_the_configured_time() -> None:
    rig = rig_with()
    rig.feed("jobs:1|c|#kind:k", "jobs:1|c|#kind:other")
    rig.sweep(1000.0)
    rig.sweep(1000.0 + IDLE - 0.1)
    assert len(rig.values("jobs_total")) == 2
    rig.sweep(1000.0 + IDLE)
    assert "jobs_total" not in rig.store.families
    assert rig.store.stats.expired_label_sets == 2


@pytest.mark.parametrize("line", ["jobs:0|c|#kind:k", "jobs:1:2|c|#kind:k", "jobs:1e0|c|#kind:k"])
def test_a_sample_keeps_its_label_set_alive(line: str) -> None:
    rig = rig_with()
    rig.feed("jobs:1|c|#kind:k", "jobs:1|c|#kind:idle")
    for step in range(5):
        rig.feed(line)
        rig.sweep(step * IDLE * 0.9)
    assert set(rig.values("jobs_total")) == {("k",)}


@pytest.mark.parametrize("line", ["depth:+0|g", "depth:0|g", "users:x|s", "wait:1|h", "wait:1|ms"])
def test_a_sample_of_any_type_keeps_its_label_set_alive(line: str) -> None:
    rig = rig_with()
    for step in range(5):
        rig.feed(line)
        rig.sweep(step * IDLE * 0.9)
    assert rig.store.stats.expired_label_sets == 0
    assert rig.store.stats.undeclared_names == 1


def test_a_refused_line_does_not_keep_a_label_set_alive() -> None:
    rig = rig_with()
    rig.feed("jobs:1|c")
    for now in (0.0, IDLE):
        rig.feed("jobs:x|c") if now else None
        rig.sweep(now)
    assert "jobs_total" not in rig.store.families


def test_the_time_between_two_sweeps_does_not_count_against_a_label_set() -> None:
    """It was touched since the last sweep, so that it was not idle, however long ago that was."""
    rig = rig_with()
    rig.sweep(0.0)
    rig.feed("jobs:1|c")
    rig.sweep(10 * IDLE)
    assert rig.values("jobs_total") == {(): 1}


def test_a_sample_after_the_expiry_is_never_lost() -> None:
    rig = rig_with()
    rig.feed("jobs:5|c|#kind:k", "jobs:1|c|#kind:alive")
    rig.sweep(0.0)
    rig.feed("jobs:1|c|#kind:alive")
    rig.sweep(IDLE)
    assert rig.values("jobs_total") == {("alive",): 2}
    rig.feed("jobs:7|c|#kind:k", "jobs:1:1|c|#kind:k", "jobs:1|c|#kind:k|T5")
    assert rig.values("jobs_total") == {("alive",): 2, ("k",): 10}


def test_a_sample_of_an_event_or_a_chain_after_the_expiry_is_never_lost() -> None:
    rig = rig_with()
    lines = ('{"model":"m","tokens":5}', "a:1|c:2|c|#kind:k")
    for now in (0.0, IDLE, 2 * IDLE, 3 * IDLE):
        rig.feed(*lines)
        assert rig.values(TOKENS)[("m",)] == 5
        assert rig.values("a_total") == {("k",): 3}
        rig.sweep(now)
        rig.sweep(now + IDLE)
        assert rig.values(TOKENS) == {}


def test_the_total_of_what_left_is_never_moved_into_other() -> None:
    rig = rig_with(label_values=1)
    rig.feed("llm.tokens:5|c|#model:a", "llm.tokens:3|c|#model:b")
    rig.sweep(0.0)
    rig.sweep(IDLE)
    assert rig.values(TOKENS) == {("other",): 3}


def test_a_freed_slot_lets_a_late_model_in() -> None:
    rig = rig_with(label_values=1)
    rig.feed("llm.tokens:5|c|#model:first", "llm.tokens:3|c|#model:late")
    rig.feed("llm.tokens:3|c|#model:late")
    assert rig.values(TOKENS) == {("first",): 5, ("other",): 6}
    rig.sweep(0.0)
    rig.feed("llm.tokens:1|c|#model:late")
    rig.sweep(IDLE)
    rig.feed("llm.tokens:2|c|#model:late")
    assert rig.values(TOKENS) == {("other",): 7, ("late",): 2}


def test_a_freed_label_set_lets_a_late_one_in() -> None:
    rig = rig_with(label_sets=2)
    for model in ("first", "late", "late"):
        rig.feed(f"llm.tokens:1|c|#model:{model}")
    assert rig.values(TOKENS) == {("first",): 1, ("other",): 2}
    rig.sweep(0.0)
    rig.sweep(IDLE)
    rig.feed("llm.tokens:1|c|#model:late")
    assert rig.values(TOKENS) == {("other",): 2, ("late",): 1}


def test_freed_exposition_lines_let_a_late_label_set_in() -> None:
    rig = rig_with(exposition_lines=1000, label_values=10_000)
    rig.feed(*(f"jobs:1|c|#n:{number}" for number in range(2000)))
    full = rig.store.ledger.charged
    rig.feed("jobs:1|c|#n:late")
    assert full == 1000
    assert ("late",) not in rig.values("jobs_total")
    rig.sweep(0.0)
    rig.sweep(IDLE)
    rig.feed("jobs:1|c|#n:late")
    assert rig.values("jobs_total")["late",] == 1


def test_expiry_gives_every_slot_back() -> None:
    rig = rig_with()
    charged = rig.store.ledger.charged
    rig.feed(*(f"jobs:1|c|#n:{n}" for n in range(50)), *(f"wait:1|h|#n:{n}" for n in range(50)))
    rig.feed(*(f"llm.request:1|c|#model:{n},operation:chat" for n in range(50)))
    rig.sweep(0.0)
    for later in (1, 2, 3):
        rig.sweep(later * IDLE)
    assert rig.store.ledger.charged == charged
    assert rig.store.stats.undeclared_names == 0
    for family in rig.store.families.values():
        assert set(family.cells) <= {((), ())}
        assert all(budget.held == 0 for budget in family.budgets.values())


def test_an_undeclared_name_leaves_with_its_last_label_set_and_may_change_its_type() -> None:
    rig = rig_with(undeclared_names=1)
    rig.feed("jobs:1|c")
    rig.sweep(0.0)
    rig.sweep(IDLE)
    assert rig.store.stats.undeclared_names == 0
    rig.feed("jobs_total:4|g")
    assert not rig.refused()
    assert rig.values("jobs_total") == {(): 4}


def test_an_undeclared_name_that_once_overflowed_leaves_too() -> None:
    """Or a flood would keep names, and their budget, for ever."""
    rig = rig_with(label_sets=2)
    rig.feed("jobs:1|c|#n:1", "jobs:1|c|#n:2", "jobs:1|c|#n:3")
    for later in (0, 1, 2, 3):
        rig.sweep(later * IDLE)
    assert "jobs_total" not in rig.store.families
    assert rig.store.stats.undeclared_names == 0


def test_a_set_that_left_is_no_longer_counted_by_minutes() -> None:
    rig = rig_with()
    rig.store.end_minutes(0.0)
    rig.feed("users:a|s")
    rig.sweep(0.0)
    rig.sweep(IDLE)
    assert not rig.store._sets
    rig.feed("users:b|s", "users:c|s")
    rig.store.end_minutes(60.0)
    assert rig.values("users") == {(): 2}


def test_a_gauge_that_comes_back_starts_anew() -> None:
    rig = rig_with()
    rig.feed("depth:10|g")
    rig.sweep(0.0)
    rig.sweep(IDLE)
    rig.feed("depth:+1|g")
    assert rig.values("depth") == {(): 1}


def test_a_series_without_labels_that_is_documented_never_leaves() -> None:
    rig = rig_with()
    rig.feed("llm.fallback:1|c")
    for later in range(4):
        rig.sweep(later * IDLE)
    rig.feed("llm.fallback:1|c")
    assert rig.values(FALLBACKS) == {(): 2}


def test_the_slot_of_other_never_leaves_a_documented_series() -> None:
    rig = rig_with(label_values=1)
    rig.feed("llm.tokens:1|c|#model:a", "llm.tokens:3|c|#model:b")
    for later in range(4):
        rig.sweep(later * IDLE)
    assert rig.values(TOKENS) == {("other",): 3}


# Zero-born error series.


def test_error_series_live_as_long_as_their_model() -> None:
    rig = rig_with()
    for step in range(10):
        rig.feed("llm.request:1|c|#model:m,operation:chat")
        rig.sweep(step * IDLE * 0.9)
        assert len(rig.values(ERRORS)) == len(ERROR_TYPES)
        assert rig.values(RATE_LIMITS) == {("m",): 0}


def test_idle_error_series_leave_with_their_model() -> None:
    """In the same sweep, so that the model's slot is free everywhere at once."""
    rig = rig_with()
    rig.feed("llm.request:1|c|#model:m,operation:chat")
    for step in range(5):
        rig.sweep(step * IDLE / 4)
    assert rig.values(REQUESTS) == {}
    assert rig.values(ERRORS) == {}
    assert rig.values(RATE_LIMITS) == {}


def test_error_series_of_another_model_do_not_stay() -> None:
    rig = rig_with()
    rig.feed("llm.request:1|c|#model:gone")
    rig.sweep(0.0)
    for step in range(1, 30):
        rig.feed("llm.request:1|c|#model:alive")
        rig.sweep(step * IDLE / 10)
    assert {model for model, _ in rig.values(ERRORS)} == {"alive"}


def test_errors_of_a_model_that_only_fails_stay_together() -> None:
    """Else the first error of a further type would be born at 1 and unseen by `increase()`."""
    rig = rig_with()
    for step in range(10):
        rig.feed("llm.error:1|c|#model:m,type:timeout")
        rig.sweep(step * IDLE * 0.9)
    assert set(rig.values(ERRORS)) == {("m", error_type) for error_type in ERROR_TYPES}


def test_a_model_that_comes_back_is_born_with_its_errors_again() -> None:
    rig = rig_with()
    for now in (0.0, IDLE, 2 * IDLE, 3 * IDLE):
        rig.sweep(now)
    rig.feed("llm.request:1|c|#model:m,operation:chat")
    assert len(rig.values(ERRORS)) == len(ERROR_TYPES)


# Sweeps in steps.


def test_a_sweep_looks_at_a_bounded_number_of_cells_in_a_step() -> None:
    count = STEP_CELLS * 2 + 1
    rig = rig_with(label_values=10 * count, label_sets=10 * count)
    rig.feed(*(f"jobs:1|c|#n:{number}" for number in range(count)))
    rig.sweep(0.0)
    left = [0, *(len(rig.store.left) for _ in rig.hot.expire(IDLE))]
    assert max(after - before for before, after in pairwise(left)) == STEP_CELLS
    assert left[-1] == count


def test_samples_between_two_steps_of_a_sweep_are_not_lost() -> None:
    count = STEP_CELLS * 2 + 1
    rig = rig_with(label_values=10 * count, label_sets=10 * count)
    lines = [f"jobs:1|c|#n:{number}" for number in range(count)]
    rig.feed(*lines)
    rig.sweep(0.0)
    fed = count
    for _ in rig.hot.expire(IDLE):
        rig.feed(*lines[:: STEP_CELLS // 2])
        fed += len(lines[:: STEP_CELLS // 2])
    assert sum(rig.values("jobs_total").values()) + left_of(rig) == fed


def test_a_name_that_gets_a_sample_in_the_last_step_of_a_sweep_stays() -> None:
    rig = rig_with()
    rig.feed("jobs:1|c")
    rig.sweep(0.0)
    for _ in rig.hot.expire(IDLE):
        rig.feed("jobs:1|c")
    before = rig.values("jobs_total")[()]
    rig.feed("jobs:1|c")
    assert rig.values("jobs_total")[()] == before + 1


@pytest.mark.parametrize("touched", [(0,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize(
    "line", ["llm.request:1|c|#model:m,operation:chat", "llm.tokens:1|c|#model:m"]
)
def test_a_model_that_comes_back_during_a_sweep_has_all_its_error_series(
    line: str, touched: tuple[int, ...]
) -> None:
    """At whichever step its samples arrive."""
    for start in range(100):
        rig = rig_with()
        rig.feed(line)
        rig.sweep(0.0)
        steps = 0
        for _ in rig.hot.expire(IDLE):
            if steps - start in touched:
                rig.feed(line)
            steps += 1
        if start >= steps:
            return
        assert len(rig.values(ERRORS)) == len(ERROR_TYPES), start
        assert rig.values(RATE_LIMITS) == {("m",): 0}, start
    pytest.fail("the sweep does not end")


def test_a_sample_between_the_steps_of_a_sweep_is_not_lost() -> None:
    rig = rig_with()
    rig.feed("jobs:1|c")
    rig.sweep(0.0)
    steps = rig.hot.expire(IDLE)
    next(steps)
    rig.feed("jobs:1|c")
    for _ in steps:
        pass
    rig.feed("jobs:1|c")
    assert sum(rig.values("jobs_total").values()) + left_of(rig) == 3


def left_of(rig: Rig) -> float:
    """The sum of the counters that left."""
    return sum(float(cell.value) for family, cell in rig.store.left if family.type == "counter")


def test_an_idle_time_of_zero_lets_nothing_leave() -> None:
    rig = rig_with(idle_seconds=0)
    rig.feed("jobs:1|c", "llm.request:1|c|#model:m")
    rig.sweep(0.0)
    rig.sweep(1e9)
    assert rig.values("jobs_total") == {(): 1}
    assert rig.values(REQUESTS) == {("m", "unknown"): 1}


def test_an_undeclared_name_with_a_pinned_value_leaves_too() -> None:
    rig = Rig(limits={"idle_seconds": IDLE, "undeclared_names": 1}, pinned={"model": ("p",)})
    rig.feed("junk:1|c|#model:p")
    rig.sweep(0.0)
    rig.sweep(IDLE)
    assert "junk_total" not in rig.store.families
    rig.feed("other:1|c|#model:p")
    assert not rig.refused()


def test_a_refused_chain_between_two_steps_harms_nothing() -> None:
    """It may not take away a name that the sweep is about to."""
    for stop in range(30):
        rig = rig_with()
        rig.feed("foo:1|c")
        rig.sweep(0.0)
        for step, _ in enumerate(rig.hot.expire(IDLE)):
            if step == stop:
                rig.feed("foo:1|c:2|g")
                rig.feed("foo:5|c")
        rig.feed("foo:7|c")
        held = sum(rig.values("foo_total").values()) + left_of(rig)
        assert held in (8, 13), stop  # 5 only where the sweep had so many steps
        assert rig.stats.samples == (2 if held == 8 else 3)
