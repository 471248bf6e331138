"""What a store holds comes over into another one: the same where nothing changed, else the sums."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.catalog import CATALOG
from llmstatsd.exposition import lanes as renderers
from llmstatsd.exposition.text import TEXT, Exposition
from llmstatsd.series import snapshot
from llmstatsd.series.instruments import MemberCount, SetCell
from llmstatsd.series.snapshot import Kept, Merge, Part, Totals
from llmstatsd.series.store import SeriesRules
from tests import twins

from . import DURATIONS, ERRORS, REQUESTS, TOKENS, Rig, state_of
from .test_properties import batches, build, held, settled

_totals = msgspec.msgpack.Decoder(Totals)
_part = msgspec.msgpack.Decoder(Part)


def carried(source: Rig, target: Rig) -> Merge:
    """Carry everything from one rig to another, through bytes."""
    before = snapshot.totals(source.store, source.stats)
    before = _totals.decode(msgspec.msgpack.encode(before))
    read = [msgspec.msgpack.encode(part) for part in snapshot.Parts(source.store)]
    merge = Merge(target.store, before)
    for part in read:
        merge.add(_part.decode(part))
    for _ in merge.finish():
        pass
    target.hot.go_on_from(before.ladder)
    return merge


def shown(rig: Rig) -> str:
    """The text of all series."""
    exposition = Exposition(rig.store, [], renderers.renderers(rig.used.name))
    return b"".join(exposition.chunks(TEXT)).decode()


def ladder(rig: Rig) -> dict[str, Any]:
    """Everything that is counted of lines but the last refused ones."""
    own = msgspec.to_builtins(rig.stats)
    del own["refused_lines"]
    return dict(own)


def budgets(rig: Rig) -> Any:
    """What the budgets hold, in the order in which they stand."""
    families = rig.store.families.values()
    held_values = {f.name: [(k, b.held) for k, b in f.budgets.items()] for f in families}
    ledger, stats = rig.store.ledger, rig.store.stats
    counted = (ledger.charged, ledger.free, ledger.born, stats.undeclared_names)
    return held_values, counted, {family.name: family.folded for family in families}


@settings(deadline=None, max_examples=150)
@given(settled, batches)
def test_a_store_of_the_same_configuration_shows_the_same(
    options: dict[str, Any], sent: list[bytes]
) -> None:
    source, target = build(options), build(options)
    source.feed(*sent)
    merge = carried(source, target)
    assert shown(target) == shown(source)
    assert state_of(target.store) == state_of(source.store)
    assert ladder(target) == ladder(source)
    assert budgets(target) == budgets(source)
    assert not merge.dropped


@settings(deadline=None, max_examples=100)
@given(settled, batches, batches)
def test_what_comes_later_meets_the_same_cells(
    options: dict[str, Any], first: list[bytes], second: list[bytes]
) -> None:
    source, target = build(options), build(options)
    source.feed(*first)
    carried(source, target)
    for rig in (source, target):
        rig.feed(*second)
    assert shown(target) == shown(source)
    assert state_of(target.store) == state_of(source.store)


rules = st.sampled_from(
    [
        {},
        {DURATIONS: SeriesRules((1.0, 10.0, 1000.0)), REQUESTS: SeriesRules(None, ("tenant",))},
        {TOKENS: SeriesRules(None, ("x", "tenant")), ERRORS: SeriesRules(None, ("tenant",))},
    ]
)


@settings(deadline=None, max_examples=150)
@given(settled, settled, rules, rules, batches)
def test_another_configuration_keeps_every_total_or_drops_a_name_and_says_so(
    options: dict[str, Any],
    others: dict[str, Any],
    rules_before: Mapping[str, SeriesRules],
    rules_now: Mapping[str, SeriesRules],
    sent: list[bytes],
) -> None:
    source = build({**options, "rules": rules_before})
    target = build({**others, "rules": rules_now})
    source.feed(*sent)
    merge = carried(source, target)
    before, now = held(source.store), held(target.store)
    lost = set(before) - set(now)
    assert not lost & set(CATALOG)
    assert now == {name: total for name, total in before.items() if name not in lost}
    assert set(merge.dropped) <= {"name_budget"}
    gone = set(source.store.families) - set(target.store.families)
    dropped = sum(len(source.store.families[name].cells) for name in gone)
    assert merge.dropped.total() == dropped


@pytest.mark.parametrize("other_twin", twins.BOTH)
def test_either_twin_takes_over_from_the_other(other_twin: str) -> None:
    target = Rig(twin=twins.twin(other_twin))
    source = Rig()
    lines = ("llm.request.duration:1|ms|@0.3|#model:m", "jobs:1|c", "depth:-0|g", "users:a|s")
    source.feed(*lines, "wait:0.1|h", "wait:0.2|h", "wait:0.3|h")
    carried(source, target)
    assert shown(target) == shown(source)


def test_a_gauge_keeps_the_sign_of_its_zero() -> None:
    source, target = Rig(), Rig()
    source.feed("depth:-0.0|g|#x:y", "depth:5|g")
    source.store.families["depth"].cells[("x",), ("y",)].set(-0.0)  # type: ignore[attr-defined]
    carried(source, target)
    assert 'depth{x="y"} -0.0\n' in shown(target)


def test_a_count_in_other_buckets_goes_where_its_upper_bound_lies() -> None:
    source = Rig()
    target = Rig(rules={DURATIONS: SeriesRules((0.07, 1.0, 10.0, 50.0))})
    seconds = (0.05, 0.06, 0.9, 10, 11, 44, 46, 500, 700)
    source.feed(*[f"{DURATIONS}:{each}|h|#model:m" for each in seconds])
    carried(source, target)
    [cell] = target.store.families[DURATIONS].cells.values()
    # 0.06 lies in a bucket that is cut at 0.07, and 46 in one that is cut at 50.
    assert cell.counts == [1, 2, 1, 2, 3]  # type: ignore[attr-defined]
    assert cell.sum == pytest.approx(sum(seconds))  # type: ignore[attr-defined]


def test_a_new_label_is_unknown_and_without_one_label_sets_add_up() -> None:
    plain, by_tenant = Rig(), Rig(rules={TOKENS: SeriesRules(None, ("tenant",))})
    plain.feed("llm.tokens:3|c|#model:m")
    carried(plain, by_tenant)
    assert by_tenant.values(TOKENS) == {("m", "unknown"): 3}
    by_tenant.feed("llm.tokens:4|c|#model:m,tenant:t")
    again = Rig()
    carried(by_tenant, again)
    assert again.values(TOKENS) == {("m",): 7}


def test_a_new_alias_rewrites_and_one_of_before_does_not_rewrite_what_it_made() -> None:
    before = {"model": {"a": "b"}}
    source = Rig(aliases=before)
    source.feed("llm.tokens:1|c|#model:a", "llm.tokens:2|c|#model:x")
    same, chained = Rig(aliases=before), Rig(aliases={"model": {"a": "b", "x": "b"}})
    carried(source, same)
    carried(source, chained)
    assert same.values(TOKENS) == {("b",): 1, ("x",): 2}
    assert chained.values(TOKENS) == {("b",): 3}


def test_what_is_over_a_budget_goes_to_other() -> None:
    source, target = Rig(), Rig(limits={"label_values": 1})
    source.feed("llm.tokens:1|c|#model:a", "llm.tokens:2|c|#model:b", "llm.tokens:3|c|#model:c")
    carried(source, target)
    assert target.values(TOKENS) == {("a",): 1, ("other",): 5}


def test_a_name_of_another_type_is_dropped_and_counted() -> None:
    source, target = Rig(), Rig()
    source.feed("depth:1|g|#x:1", "depth:2|g|#x:2", "jobs:1|c")
    target.feed("depth:1|h")
    merge = carried(source, target)
    assert merge.dropped == {"type_conflict": 2}
    assert merge.restored == 2
    assert target.values("jobs_total") == {(): 1}


def test_a_gauge_that_was_set_keeps_its_value_and_changes_are_added() -> None:
    source, target = Rig(), Rig()
    source.feed("depth:7|g|#x:set", "depth:7|g|#x:changed", "depth:7|g|#x:old")
    target.feed("depth:1|g|#x:set", "depth:+2|g|#x:changed")
    carried(source, target)
    assert target.values("depth") == {("set",): 1, ("changed",): 9, ("old",): 7}


def test_members_of_this_minute_are_known_again() -> None:
    source, target = Rig(), Rig()
    target.store.ledger.members.key = b"another process"
    source.feed("users:a|s", "users:b|s")
    carried(source, target)
    target.feed("users:b|s", "users:c|s")
    target.store.end_minutes(0)
    target.store.end_minutes(60)
    assert target.values("users") == {(): 3}


def test_the_figure_of_the_last_minute_is_kept() -> None:
    source, target = Rig(), Rig()
    source.store.end_minutes(0)
    source.feed("users:a|s", "users:b|s")
    source.store.end_minutes(60)
    carried(source, target)
    assert target.values("users") == {(): 2}


def test_members_of_before_are_bounded_too() -> None:
    cell = SetCell(3, MemberCount(), ((), ()))
    cell.absorb(9, range(100))
    assert len(cell.members) == cell.count.held == 3


def test_idle_times_begin_anew() -> None:
    source, target = Rig(limits={"idle_seconds": 10}), Rig(limits={"idle_seconds": 10})
    source.feed("jobs:1|c")
    source.sweep(0)
    source.sweep(9)
    carried(source, target)
    target.sweep(100)
    target.sweep(109)
    assert target.values("jobs_total") == {(): 1}
    target.sweep(110)
    assert "jobs_total" not in target.store.families


def test_label_sets_that_left_stay_away_and_stay_counted() -> None:
    source, target = Rig(limits={"idle_seconds": 10}), Rig(limits={"idle_seconds": 10})
    source.feed("jobs:1|c")
    source.sweep(0)
    source.sweep(10)
    carried(source, target)
    assert "jobs_total" not in target.store.families
    assert target.store.stats.expired_label_sets == 1
    assert target.store.ledger.born == source.store.ledger.born


def test_error_series_are_born_for_models_that_had_no_room_before() -> None:
    source, target = Rig(limits={"label_sets": 5}), Rig()
    source.feed("llm.tokens:1|c|#model:m")
    carried(source, target)
    assert len(source.values(ERRORS)) == 4
    assert len(target.values(ERRORS)) == 15


def test_a_step_reads_a_bounded_number_of_label_sets() -> None:
    rig = Rig()
    rig.feed(*[f"jobs:1|c|#x:{number}" for number in range(100)])
    rig.feed(*[f"jobs:1|c|#x:{a},y:{b}" for a in range(30) for b in range(30)])
    sizes = [len(part.kept) for part in snapshot.Parts(rig.store)]
    assert max(sizes) == snapshot.STEP_CELLS
    assert sum(sizes) == sum(len(family.cells) for family in rig.store.families.values())


def test_a_label_set_that_is_born_or_leaves_between_two_steps_harms_nothing() -> None:
    rig = Rig(limits={"idle_seconds": 10})
    rig.feed("jobs:1|c|#x:1", "wait:1|h")
    rig.sweep(0)
    steps = snapshot.Parts(rig.store)
    read = [next(steps) for _ in CATALOG]
    rig.feed("jobs:1|c|#x:2", "more:1|c")
    rig.sweep(100)
    rig.sweep(200)
    read += steps
    assert [part.name for part in read[len(CATALOG) :]] == ["jobs_total", "wait"]


BAD: Sequence[tuple[str, Part]] = [
    ("negative", Part("jobs_total", "counter", (), (), None, {}, [Kept(((), ()), (-1,))])),
    ("not a number", Part("depth", "gauge", (), (), None, {}, [Kept(((), ()), (float("nan"),))])),
    ("no number", Part("depth", "gauge", (), (), None, {}, [Kept(((), ()), ())])),
    ("a count too few", Part("wait", "histogram", (1.0,), (), None, {}, [Kept(((), ()), (1, 1))])),
    ("names without values", Part("a", "gauge", (), ("x",), None, {}, [Kept((("x",), ()), (1,))])),
    (
        "a name twice",
        Part("a", "gauge", (), ("x",), None, {}, [Kept((("x", "x"), ("1", "2")), (1,))]),
    ),
]


@pytest.mark.parametrize("part", [part for _, part in BAD], ids=[name for name, _ in BAD])
def test_a_record_that_no_store_wrote_is_dropped_and_counted(part: Part) -> None:
    rig = Rig()
    merge = Merge(rig.store, Totals())
    merge.add(part)
    assert merge.dropped == {"malformed": 1}
    assert merge.restored == 0
