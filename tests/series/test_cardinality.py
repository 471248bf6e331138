"""Bounded, and the totals stay exact: every step of the budgets, in its order."""

import pytest

from llmstatsd.catalog import CATALOG, ERROR_TYPES
from llmstatsd.series.cardinality import (
    Aliases,
    DistinctEstimate,
    HeaviestValues,
    LabelBudget,
    Watches,
)
from llmstatsd.series.store import SeriesRules, Store

from . import DURATIONS, ERRORS, RATE_LIMITS, REQUESTS, TOKENS, Rig

# Step 1: sanitise.


def test_values_that_are_made_equal_are_one_value() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed(
        "llm.tokens:1|c|#model:a\tb", "llm.tokens:1|c|#model:a\x1bb", "llm.tokens:1|c|#model:a_b"
    )
    assert rig.values(TOKENS) == {("a_b",): 3}
    assert not rig.folded(TOKENS)


def test_values_that_differ_after_128_characters_are_one_value() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed(*(f"llm.tokens:1|c|#model:{'é' * 128}{end}" for end in "abc"))
    assert rig.values(TOKENS) == {("é" * 128,): 3}


# Step 2: aliases, then pinned values.


@pytest.mark.parametrize(
    ("value", "rewritten"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-", "gpt-4o"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-mini-2024", "mini"),
        ("xgpt-4o-1", "xgpt-4o-1"),
        ("ends-in-mini", "mini"),
        ("a.b", "dot"),
        ("axb", "axb"),
        ("gpt-4o-\n", "gpt-4o"),
        ("*", "*"),
    ],
)
def test_the_first_alias_that_matches_the_whole_value_rewrites_it(
    value: str, rewritten: str
) -> None:
    aliases = Aliases(
        {"model": {"gpt-4o-mini*": "mini", "gpt-4o-*": "gpt-4o", "*mini": "mini", "a.b": "dot"}}
    )
    assert aliases.rewrite("model", value) == rewritten
    assert aliases.rewrite("operation", value) == value


def test_aliases_come_after_sanitising_and_before_the_budgets() -> None:
    rig = Rig(limits={"label_values": 1}, aliases={"model": {"gpt_4o*": "gpt-4o"}})
    rig.feed(*(f"llm.tokens:1|c|#model:gpt\x004o-{number}" for number in range(50)))
    assert rig.values(TOKENS) == {("gpt-4o",): 50}
    assert not rig.folded(TOKENS)


def test_an_alias_may_lead_to_a_pinned_value() -> None:
    rig = Rig(
        limits={"label_values": 1},
        aliases={"model": {"claude-*": "claude"}},
        pinned={"model": ["claude"]},
    )
    rig.feed("llm.tokens:1|c|#model:first", "llm.tokens:5|c|#model:claude-3")
    assert rig.values(TOKENS) == {("claude",): 5, ("first",): 1}


def test_aliases_reach_undeclared_series_by_label_name() -> None:
    rig = Rig(aliases={"user_id": {"*": "someone"}})
    rig.feed("jobs:1|c|#user.id:1", "jobs:1|c|#user.id:2")
    assert rig.values("jobs_total") == {("someone",): 2}


def test_pinned_values_exist_from_the_start_at_zero() -> None:
    rig = Rig(pinned={"model": ["a", "b"], "operation": ["chat"]})
    assert rig.values(REQUESTS) == {("a", "chat"): 0, ("b", "chat"): 0}
    assert rig.counts(DURATIONS) == {("a", "chat"): 0, ("b", "chat"): 0}
    assert rig.values(TOKENS) == {("a",): 0, ("b",): 0}
    assert rig.values(RATE_LIMITS) == {("a",): 0, ("b",): 0}
    assert rig.values(ERRORS) == {(m, kind): 0 for m in "ab" for kind in ERROR_TYPES}


def test_pinned_values_of_extras_wait_for_data() -> None:
    rig = Rig(pinned={"model": ["a"]})
    extras = [name for name, series in CATALOG.items() if series.extra]
    assert all(not rig.store.families[name].cells for name in extras)


def test_pinned_values_cost_no_budget() -> None:
    models = [f"m{number}" for number in range(30)]
    rig = Rig(
        limits={"label_values": 1, "label_sets": 2},
        pinned={"model": models, "operation": ["chat"]},
    )
    for name in (REQUESTS, DURATIONS, TOKENS, RATE_LIMITS):
        assert len(rig.store.families[name].cells) == 30, name
        assert rig.store.families[name].budgets["model"].held == 0
    rig.feed("llm.tokens:1|c|#model:free")
    assert rig.values(TOKENS)["free",] == 1


def test_error_series_of_pinned_models_cost_no_budget() -> None:
    """They exist from the start as well, and `type` is a closed set: nothing here can grow."""
    rig = Rig(limits={"label_sets": 2}, pinned={"model": ["a", "b", "c"]})
    assert len(rig.values(ERRORS)) == 3 * len(ERROR_TYPES)
    assert rig.store.ledger.charged == Store().ledger.charged
    rig.feed("llm.error:1|c|#model:c,type:timeout")
    assert rig.values(ERRORS)["c", "timeout"] == 1
    assert not rig.folded(ERRORS)


def test_pinned_values_never_fold() -> None:
    rig = Rig(limits={"label_values": 1, "label_sets": 1}, pinned={"model": ["a"]})
    rig.feed(*(f"llm.request:1|c|#model:x{n},operation:o{n}" for n in range(10)))
    rig.feed("llm.request:5|c|#model:a,operation:o99")
    assert rig.values(REQUESTS) == {("other", "other"): 10, ("a", "other"): 5}


def test_pinned_values_never_expire() -> None:
    rig = Rig(limits={"idle_seconds": 10}, pinned={"model": ["a"], "operation": ["chat"]})
    before = {name: rig.values(name) for name in (REQUESTS, TOKENS, ERRORS, RATE_LIMITS)}
    for now in (0.0, 10.0, 20.0, 30.0):
        rig.sweep(now)
    assert {name: rig.values(name) for name in before} == before
    rig.feed("llm.request:1|c|#model:a,operation:chat", "llm.error:1|c|#model:a,type:quota")
    assert rig.values(REQUESTS) == {("a", "chat"): 1}
    assert rig.values(ERRORS)["a", "quota"] == 1


def test_a_pinned_value_that_is_partly_used_is_kept_beside_other() -> None:
    rig = Rig(limits={"label_values": 1}, pinned={"model": ["a"]})
    rig.feed("llm.request:1|c|#model:a,operation:o1", "llm.request:2|c|#model:a,operation:o2")
    assert rig.values(REQUESTS) == {("a", "o1"): 1, ("a", "other"): 2}


# Step 3: values per (series, label).


def test_a_value_over_the_budget_makes_that_label_alone_other() -> None:
    rig = Rig(limits={"label_values": 2})
    rig.feed(*(f"llm.request:1|c|#model:m{n},operation:chat" for n in range(5)))
    assert rig.values(REQUESTS) == {("m0", "chat"): 1, ("m1", "chat"): 1, ("other", "chat"): 3}
    rig.feed("llm.request:1|c|#model:m0,operation:x", "llm.request:1|c|#model:m9,operation:y")
    assert rig.values(REQUESTS)["m0", "x"] == 1
    assert rig.values(REQUESTS)["other", "other"] == 1
    assert rig.folded(REQUESTS) == {"label_values": 4}


def test_the_budget_of_values_is_per_series_and_label() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.request:1|c|#model:a,operation:a", "llm.tokens:1|c|#model:b", "x:1|g|#model:c")
    assert rig.values(REQUESTS) == {("a", "a"): 1}
    assert rig.values(TOKENS) == {("b",): 1}
    assert rig.values("x") == {("c",): 1}


def test_other_costs_no_value() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.tokens:1|c|#model:other", "llm.tokens:1|c|#model:a", "llm.tokens:1|c|#model:b")
    assert rig.values(TOKENS) == {("other",): 2, ("a",): 1}
    assert rig.folded(TOKENS) == {"label_values": 1}


def test_unknown_costs_a_value_like_any_other() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.tokens:1|c", "llm.tokens:1|c|#model:a")
    assert rig.values(TOKENS) == {("unknown",): 1, ("other",): 1}


def test_a_value_held_stays_admitted_in_new_label_sets() -> None:
    rig = Rig(limits={"label_values": 2})
    rig.feed(
        "llm.request:1|c|#model:a,operation:x",
        "llm.request:1|c|#model:b,operation:y",
        "llm.request:1|c|#model:a,operation:y",
    )
    assert rig.values(REQUESTS)["a", "y"] == 1
    assert not rig.folded(REQUESTS)


def test_the_closed_set_of_error_types_needs_no_budget() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.request:1|c|#model:m")
    assert rig.values(ERRORS) == {("m", kind): 0 for kind in ERROR_TYPES}
    assert rig.store.families[ERRORS].budgets["type"].held == 0


def test_a_folded_model_keeps_its_error_type() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.error:1|c|#model:a,type:quota", "llm.error:1|c|#model:b,type:timeout")
    assert rig.values(ERRORS)["other", "timeout"] == 1


# Step 4: label sets per series.


def test_over_the_budget_of_label_sets_every_label_becomes_other() -> None:
    rig = Rig(limits={"label_sets": 3})
    rig.feed(*(f"llm.request:1|c|#model:m{n},operation:o{n}" for n in range(10)))
    assert rig.values(REQUESTS) == {("m0", "o0"): 1, ("m1", "o1"): 1, ("other", "other"): 8}
    assert rig.folded(REQUESTS) == {"label_sets": 8}


def test_the_slot_of_other_is_one_of_the_label_sets() -> None:
    for limit in (1, 2, 5):
        rig = Rig(limits={"label_sets": limit})
        rig.feed(*(f"llm.tokens:1|c|#model:m{n}" for n in range(20)))
        assert len(rig.values(TOKENS)) == limit


def test_a_label_set_that_exists_is_met_however_crowded_it_is() -> None:
    rig = Rig(limits={"label_sets": 2})
    rig.feed("llm.tokens:1|c|#model:a", "llm.tokens:1|c|#model:b", "llm.tokens:1|c|#model:a")
    assert rig.values(TOKENS) == {("a",): 2, ("other",): 1}


def test_a_value_that_is_folded_by_label_sets_holds_no_slot() -> None:
    rig = Rig(limits={"label_sets": 2, "label_values": 3})
    rig.feed(*(f"llm.tokens:1|c|#model:m{n}" for n in range(20)))
    assert rig.store.families[TOKENS].budgets["model"].held == 1


def test_an_undeclared_series_folds_into_one_label_set() -> None:
    rig = Rig(limits={"label_sets": 2})
    rig.feed("jobs:1|c|#a:1,b:1", "jobs:1|c|#a:2,b:2", "jobs:1|c|#a:3", "jobs:1|c", "jobs:1|c|#z:1")
    assert rig.values("jobs_total") == {("1", "1"): 1, ("other", "other"): 4}
    assert rig.folded("jobs_total") == {"label_sets": 4}


def test_a_folded_histogram_keeps_its_buckets() -> None:
    rig = Rig(limits={"label_sets": 1})
    rig.feed("llm.request.duration:250:4000|ms|#model:a", "llm_request_duration_seconds:0.25|h")
    assert rig.counts(DURATIONS) == {("other", "other"): 3}
    assert rig.sums(DURATIONS) == {("other", "other"): 4.5}


def test_a_folded_gauge_takes_values_and_changes() -> None:
    rig = Rig(limits={"label_sets": 1})
    rig.feed("depth:5|g|#q:a", "depth:+2|g|#q:b", "depth:+1|g|#q:b")
    assert rig.values("depth") == {("other",): 8}
    assert rig.folded("depth") == {"label_sets": 3}


# Step 5: exposition lines of all series, and undeclared names.


def test_over_the_budget_of_lines_every_label_becomes_other() -> None:
    rig = Rig(limits={"exposition_lines": 1000, "label_values": 5000, "label_sets": 5000})
    rig.feed(*(f"llm.tokens:1|c|#model:m{n}" for n in range(2000)))
    values = rig.values(TOKENS)
    assert values["other",] > 1000
    assert sum(values.values()) == 2000
    assert rig.folded(TOKENS) == {"exposition_lines": values["other",]}
    assert rig.store.ledger.charged <= 1000


@pytest.mark.parametrize(("series", "kind"), [(TOKENS, "c"), (DURATIONS, "h")])
def test_a_histogram_costs_its_buckets_and_three_lines(series: str, kind: str) -> None:
    rig = Rig(limits={"exposition_lines": 10_000})
    before = rig.store.ledger.charged
    rig.feed(f"{series}:1|{kind}|#model:m")
    births = 1 + len(ERROR_TYPES)
    own = len(CATALOG[series].buckets or ()) + 3 if kind == "h" else 1
    assert rig.store.ledger.charged - before == own + births


def test_configured_buckets_cost_what_they_are() -> None:
    changed = Store(rules={DURATIONS: SeriesRules(buckets=(1.0, 10.0))})
    assert Store().ledger.charged - changed.ledger.charged == 18


def test_the_slots_of_other_are_reserved_from_the_start() -> None:
    lines = sum(len(s.buckets) + 3 if s.buckets else 1 for s in CATALOG.values())
    rig = Rig()
    assert rig.store.ledger.charged == lines
    rig = Rig(limits={"label_sets": 1})
    rig.feed("llm.tokens:1|c|#model:m")
    assert rig.store.ledger.charged == lines


def test_one_line_budget_holds_for_all_series() -> None:
    rig = Rig(limits={"exposition_lines": 1000, "label_values": 5000})
    rig.feed(*(f"jobs:1|c|#n:{n}" for n in range(3000)))
    rig.feed("llm.tokens:7|c|#model:late")
    assert rig.values(TOKENS) == {("other",): 7}


# What is seen of it.


def test_the_heaviest_folded_values_and_an_estimate_are_kept() -> None:
    rig = Rig(limits={"label_values": 10})
    for number in range(300):
        rig.feed(f"llm.tokens:1|c|#model:m{number}", "llm.tokens:1|c|#model:heavy")
    rig.feed(*["llm.tokens:1|c|#model:heavy"] * 100)
    budget = rig.store.families[TOKENS].budgets["model"]
    assert budget.held == 10
    assert budget.estimate() == pytest.approx(301, rel=0.1)
    assert not budget.admits("m200")


def test_a_heavy_value_inside_other_is_named_with_its_samples() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.tokens:1|c|#model:first")
    rig.feed(*["llm.tokens:1|c|#model:heavy"] * 40, *["llm.tokens:1|c|#model:light"] * 2)
    heaviest = rig.store.families[TOKENS].budgets["model"].heaviest
    assert heaviest is not None
    assert heaviest.top(5, 0.0) == [("heavy", 40), ("light", 2)]
    assert heaviest.top(5, 0.1) == [("heavy", 40)]


def test_nothing_is_kept_of_folding_before_something_folds() -> None:
    rig = Rig()
    rig.feed("llm.tokens:1|c|#model:a")
    budget = rig.store.families[TOKENS].budgets["model"]
    assert budget.heaviest is None
    assert budget.estimate() == 1


@pytest.mark.parametrize("count", [0, 1, 10, 1000, 50_000])
def test_the_estimate_of_distinct_values_is_close(count: int) -> None:
    estimate = DistinctEstimate()
    for number in range(count):
        estimate.add(f"model-{number}")
        estimate.add(f"model-{number // 2}")
    assert estimate.count() == pytest.approx(count, rel=0.1)


def test_heavy_values_survive_a_flood_of_light_ones() -> None:
    heaviest = HeaviestValues()
    for number in range(5000):
        heaviest.add(f"light-{number}")
        if number % 10 == 0:
            heaviest.add("heavy")
    [(value, count)] = heaviest.top(5, 0.01)
    assert value == "heavy"
    assert 300 <= count <= 500


def test_a_sure_count_is_never_too_high() -> None:
    heaviest = HeaviestValues()
    for number in range(1000):
        heaviest.add(str(number))
    assert all(count <= 1 for _, count in heaviest.top(100, 0.0))


def test_a_label_budget_holds_a_value_as_long_as_one_label_set_does() -> None:
    budget = LabelBudget(1, Watches())
    budget.hold("a")
    budget.hold("a")
    budget.release("a")
    assert not budget.admits("b")
    budget.release("a")
    assert budget.admits("b")
    assert budget.held == 0


def test_pinned_and_closed_values_and_other_are_free() -> None:
    budget = LabelBudget(1, Watches(), pinned=("p",), closed=("c",))
    for value in ("p", "c", "other"):
        budget.hold(value)
    assert budget.held == 0
    budget.hold("a")
    assert [v for v in ("p", "c", "other", "a", "b") if budget.admits(v)] == [
        "p",
        "c",
        "other",
        "a",
    ]
    assert [v for v in ("p", "c", "other") if budget.is_pinned(v)] == ["p"]


def test_a_flood_of_folding_labels_is_watched_up_to_a_bound() -> None:
    rig = Rig(limits={"label_values": 1, "labels_per_series": 4})
    for number in range(Watches.LIMIT):
        for value in "xyz":
            rig.feed(f"jobs{number}:1|c|#a:{value},b:{value}")
    budgets = [b for f in rig.store.families.values() for b in f.budgets.values()]
    assert sum(budget.folded is not None for budget in budgets) == Watches.LIMIT


def test_a_watch_is_given_back_when_its_series_leaves() -> None:
    rig = Rig(limits={"label_values": 1})
    for turn in range(Watches.LIMIT + 1):
        rig.feed(*(f"jobs{turn}:1|c|#a:{value}" for value in "xy"))
        family = rig.store.families[f"jobs{turn}_total"]
        assert family.budgets["a"].folded is not None
        rig.sweep(2.0 * turn * rig.store.limits.idle_seconds)
        rig.sweep((2.0 * turn + 1) * rig.store.limits.idle_seconds)


def test_a_documented_series_is_watched_whatever_else_folds() -> None:
    rig = Rig(limits={"label_values": 1})
    for number in range(Watches.LIMIT):
        rig.feed(*(f"jobs{number}:1|c|#a:{value}" for value in "xy"))
    rig.feed("llm.tokens:1|c|#model:a", "llm.tokens:1|c|#model:b")
    assert rig.store.families[TOKENS].budgets["model"].heaviest is not None
