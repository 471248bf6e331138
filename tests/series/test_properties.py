"""The sums are exact for any input and any budgets, and the cache changes no number.

Values are multiples of 1/8 and rates powers of 1/2, so that every sum of doubles is exact.
The oracle adds up what `wire` reads, and knows nothing of label sets, budgets or caches.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import isclose
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.catalog import CATALOG
from llmstatsd.series.family import Family
from llmstatsd.series.lanes import HotPath
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.wire import Dialect, Sample, parse_datagram
from llmstatsd.wire.reasons import SERIES_REASONS

from . import RecordingStore, Rig, state_of

Totals = dict[str, tuple[float, float]]
"""By series: a counter's total and 0, or a histogram's count and sum."""

SEEN_REASONS = frozenset(SERIES_REASONS)

names = st.sampled_from(
    [
        *("llm.request", "llm.tokens", "llm.error", "llm_fallback", "llm.rate.limit.exceeded"),
        *("llm.request.duration", "llm.total.duration", "llm_prompt_tokens", "llm.cost.dollars"),
        *("jobs", "wait", "depth", "users", "a", "a_total", "a_count", "a.sum", "b-1", "b_1"),
    ]
)
kinds = st.sampled_from(["c", "c", "c", "ms", "h", "d", "g", "s"])
eighths = st.integers(0, 2**24).map(lambda number: f"{number / 8}")
few_values = st.sampled_from(["a", "b", "c", "d", "other", "unknown", "chat", "pinned", "timeout"])
many_values = few_values | st.integers(0, 400).map(str) | st.text(min_size=1, max_size=4)
keys = st.sampled_from(["model", "model", "operation", "type", "tenant", "le", "x", "a.b", "__z"])
tags = st.lists(
    st.tuples(keys, many_values).map(lambda tag: f"{tag[0]}:{tag[1]}") | st.just("bare"),
    max_size=4,
).map(",".join)
rates = st.sampled_from(["", "", "|@1", "|@0.5", "|@0.25", "|@0.0625", "|@2"])
endings = st.sampled_from(["", "", "", "|T17", "|T18", "|c:box", "|what", "\r"])


@st.composite
def statsd_lines(draw: st.DrawFn) -> bytes:
    """A line whose numbers are eighths; a few are refused for their name, type or rate."""
    kind = draw(kinds)
    # 125 ms are an eighth of a second.
    unit = 1000 if kind == "ms" else 1
    packed = draw(st.lists(eighths, min_size=1, max_size=3))
    value = ":".join(f"{float(text) * unit:.3f}" for text in packed)
    sign = draw(st.sampled_from(["", "", "", "+", "-"]))
    suffix = f"{kind}{draw(rates)}"
    shown = draw(tags)
    if shown:
        suffix += f"|#{shown}"
    return f"{draw(names)}:{sign}{value}|{suffix}{draw(endings)}".encode()


chains = st.builds(
    lambda name, first, second, shown: f"{name}:{first}|c:{second}|h|#{shown}".encode(),
    names,
    eighths,
    eighths,
    tags,
)
events = st.builds(
    lambda model, tokens, error: (
        f'{{"model":"{model}","operation":"chat","duration_seconds":0.5,'
        f'"tokens":{tokens},"error":{error}}}'
    ).encode(),
    st.integers(0, 30).map(str) | st.sampled_from(["a", "pinned", "other"]),
    st.integers(0, 100),
    st.sampled_from(["null", '"timeout"', '"rate_limit"', '"weird"', "7"]),
)
bad_lines = st.sampled_from(
    [
        *(b"", b"jobs", b"jobs|c", b"jobs:1,2|c", b"jobs:x|c", b"jobs:|c", b"a:-1|c"),
        *(b"\xff:1|c", b"jobs:\xff|c", "users:ä|s".encode(), b"_sc|a|0", b"{"),
    ]
)
lines = statsd_lines() | statsd_lines() | chains | events | bad_lines
batches = st.lists(lines, min_size=1, max_size=30)

limits = st.builds(
    Limits,
    label_values=st.integers(1, 6),
    label_sets=st.integers(1, 8),
    exposition_lines=st.just(0) | st.integers(120, 1000),
    undeclared_names=st.integers(0, 6),
    labels_per_series=st.integers(0, 4),
    set_members=st.integers(1, 4),
    idle_seconds=st.just(10.0),
)
settled = st.fixed_dictionaries(
    {
        "limits": limits,
        "aliases": st.sampled_from([{}, {"model": {"1*": "a", "pin*": "pinned"}}]),
        "pinned": st.sampled_from([{}, {"model": ["pinned", "a"]}, {"x": ["1"], "model": ["b"]}]),
        "cache_entries": st.sampled_from([1, 16, 1000]),
    }
)


def build(options: dict[str, Any]) -> Rig:
    """A rig of drawn options."""
    chosen = options["limits"]
    as_dict = {name: getattr(chosen, name) for name in chosen.__struct_fields__}
    return Rig(**{**options, "limits": as_dict})


def series_of(wire_name: str, kind: str) -> str:
    """The exposed name of a sample's series, told anew from the documents."""
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", wire_name)
    name = f"_{name}" if name[0].isdigit() else name
    ending = {"c": "_total", "ms": "_seconds"}.get(kind, "")
    return name if name in CATALOG or name.endswith(ending) else name + ending


def expected(samples: Iterable[Sample]) -> Totals:
    """What all label sets of each counter and histogram must hold together."""
    totals: Totals = defaultdict(lambda: (0.0, 0.0))
    for name, kind, value, rate, _, _ in samples:
        if isinstance(value, float) and kind in {"c", "ms", "h", "d"}:
            series = series_of(name, kind)
            first, second = totals[series]
            weight = 1 / rate
            added = (value * weight, 0.0) if kind == "c" else (weight, value * weight)
            totals[series] = (first + added[0], second + added[1])
    return {series: total for series, total in totals.items() if any(total)}


def held(store: Store) -> Totals:
    """What the cells of each counter and histogram hold together, those that left included."""
    cells: list[tuple[Family, Any]] = [
        (family, cell) for family in store.families.values() for cell in family.cells.values()
    ]
    if isinstance(store, RecordingStore):
        cells += store.left
    totals: Totals = defaultdict(lambda: (0.0, 0.0))
    for family, cell in cells:
        first, second = totals[family.name]
        if family.instrument == "histogram":
            totals[family.name] = (first + sum(cell.counts), second + cell.sum)
        elif family.instrument == "counter":
            totals[family.name] = (first + cell.value, second)
    return {series: total for series, total in totals.items() if any(total)}


def accepted(rig: Rig, sent: Iterable[bytes]) -> Iterator[Sample]:
    """Feed line by line; the samples of the lines that no series refused."""
    for line in sent:
        before = refusals_by_series(rig)
        rig.feed(line)
        if refusals_by_series(rig) == before:
            for parsed in parse_datagram(line):
                yield from parsed.samples


def refusals_by_series(rig: Rig) -> int:
    """Lines refused for the series there are, which the wire stage cannot know."""
    return sum(count for reason, count in rig.stats.refused.items() if reason in SEEN_REASONS)


def assert_budgets_hold(rig: Rig, reserved: int) -> None:
    """Whatever came in, no budget is exceeded but by what is free or was reserved."""
    store = rig.store
    assert store.ledger.charged <= max(store.limits.exposition_lines, reserved)
    assert store.stats.undeclared_names <= store.limits.undeclared_names
    assert store.stats.undeclared_names == len(set(store.families) - set(CATALOG))
    charged = free = 0
    for family in store.families.values():
        counted = [cell for cell in family.cells.values() if not cell.kept]
        assert len(counted) + 1 <= store.limits.label_sets
        charged += (len(counted) + 1) * family.lines_per_set
        kept = [key for key, cell in family.cells.items() if cell.kept]
        free += sum(not family.is_reserved(key) for key in kept) * family.lines_per_set
        for budget in family.budgets.values():
            assert budget.held <= store.limits.label_values
        if family.labels is None:
            assert len(family.budgets) <= store.limits.labels_per_series
    assert (store.ledger.charged, store.ledger.free) == (charged, free)
    assert rig.hot.cache_entries <= rig.hot.cache_entries_limit


@settings(deadline=None, max_examples=150)
@given(settled, batches)
def test_the_sum_over_all_label_sets_is_the_sum_of_accepted_weights(
    options: dict[str, Any], sent: list[bytes]
) -> None:
    rig = build(options)
    reserved = rig.store.ledger.charged
    samples = list(accepted(rig, sent))
    assert held(rig.store) == expected(samples)
    assert rig.stats.samples == len(samples)
    assert_budgets_hold(rig, reserved)


@settings(deadline=None, max_examples=100)
@given(settled, st.lists(st.tuples(batches, st.floats(0, 15)), min_size=1, max_size=6))
def test_the_sums_stay_exact_while_label_sets_leave(
    options: dict[str, Any], rounds: list[tuple[list[bytes], float]]
) -> None:
    rig = build(options)
    reserved = rig.store.ledger.charged
    now = 0.0
    samples: list[Sample] = []
    for sent, pause in rounds:
        half = len(sent) // 2
        samples += accepted(rig, sent[:half])
        now += pause
        for _ in rig.hot.expire(now):
            samples += accepted(rig, sent[half:])
        assert_budgets_hold(rig, reserved)
    assert held(rig.store) == expected(samples)
    # Whatever the routes still know, a cell that left takes nothing more.
    gone = [state_of_left(cell) for _, cell in rig.store.left]
    samples += [sample for sent, _ in rounds for sample in accepted(rig, sent)]
    assert gone == [state_of_left(cell) for _, cell in rig.store.left]
    assert held(rig.store) == expected(samples)


def state_of_left(cell: Any) -> Any:
    """The numbers of a cell that left."""
    return (sum(cell.counts), cell.sum) if hasattr(cell, "counts") else cell.value


@settings(deadline=None, max_examples=100)
@given(settled, batches)
def test_after_everything_was_idle_only_what_is_kept_remains(
    options: dict[str, Any], sent: list[bytes]
) -> None:
    rig = build(options)
    fresh = build(options)
    rig.feed(*sent)
    for now in (0.0, 10.0, 20.0, 30.0):
        rig.sweep(now)
    for family in rig.store.families.values():
        assert all(cell.kept for cell in family.cells.values())
        assert all(budget.held == 0 for budget in family.budgets.values())
    assert rig.store.ledger.charged == fresh.store.ledger.charged + sum(
        family.lines_per_set
        for name, family in rig.store.families.items()
        if name not in fresh.store.families
    )


@settings(deadline=None, max_examples=100)
@given(limits, batches)
def test_the_cache_and_the_cut_into_datagrams_change_no_number(
    budgets: Limits, sent: list[bytes]
) -> None:
    """Once all lines in a datagram, once alone, with a big cache, a tiny one, and with none."""
    twice = [*sent, *sent]
    twin = Rig.twin
    none, *stores = (Store(budgets, instruments=twin.instruments) for _ in range(5))
    together, joined, alone = (twin.hot_path(store, Dialect(), 1000) for store in stores[:3])
    tiny = twin.hot_path(stores[3], Dialect(), 2)
    for _ in range(2):
        together.feed_together(sent)
        # An empty first line keeps a datagram of lines from being read as one whole event.
        joined.feed(b"\n" + b"\n".join(sent))
    uncached: dict[str, int] = defaultdict(int)
    for line in twice:
        alone.feed(line)
        tiny.feed(line)
        single = twin.hot_path(none, Dialect(), 1)
        single.feed(line)
        single.settle()
        for key, count in tally(single).items():
            uncached[key] += count
    for hot, store in zip((together, joined, alone, tiny), stores, strict=True):
        hot.settle()
        assert state_of(store) == state_of(none)
        assert folds(store) == folds(none)
        assert tally(hot) == dict(uncached)


def folds(store: Store) -> dict[str, dict[str, int]]:
    """Folded samples by series and reason."""
    return {name: family.folded for name, family in store.families.items()}


def tally(hot: HotPath) -> dict[str, int]:
    """What is counted of lines, flat, but for what tells of the cache."""
    stats = hot.stats
    return {
        "accepted": stats.accepted,
        "lines": stats.lines,
        "samples": stats.samples,
        **stats.refused,
        **stats.set_aside,
        **{f"note.{key}": count for key, count in stats.notes.items()},
    }


@settings(deadline=None, max_examples=150)
@given(batches)
def test_every_line_ends_as_the_wire_stage_says(sent: list[bytes]) -> None:
    rig = Rig()
    parsed = [result for line in [*sent, *sent] for result in parse_datagram(line)]
    for line in [*sent, *sent]:
        rig.feed(line)
    stats = rig.stats
    assert stats.lines == len(parsed)
    assert sum(stats.set_aside.values()) == sum(bool(result.set_aside) for result in parsed)
    for reason, count in stats.refused.items():
        if reason not in SEEN_REASONS:
            assert count == sum(result.reason == reason for result in parsed), reason
    assert stats.accepted + refusals_by_series(rig) == sum(bool(p.samples) for p in parsed)


pieces = st.sampled_from(
    [
        *(b":", b"|", b"|@", b"|#", b",", b"=", b"#", b"[", b"]", b"{", b"}", b'"', b"\\"),
        *(b"\n", b"\r", b"\x00", b"\xff", b"\xc3\xa4", b" ", b"+", b"-", b".", b"e", b"|T5", b"T"),
        *(b"0", b"17", b"1e280", b"nan", b"c", b"ms", b"g", b"s", b"h", b"a", b"le", b"a:1|c"),
    ]
)
soups = st.lists(pieces, max_size=30).map(b"".join) | st.binary(max_size=60)


@settings(deadline=None, max_examples=300)
@given(settled, st.lists(soups | lines, max_size=8))
def test_no_bytes_make_the_store_raise_and_every_line_is_accounted_for(
    options: dict[str, Any], datagrams: list[bytes]
) -> None:
    rig = build(options)
    count = 0
    for now, datagram in enumerate([*datagrams, *datagrams]):
        count += len(parse_datagram(datagram))
        rig.hot.feed(datagram)
        rig.sweep(now * 4.0)
        rig.store.end_minutes(now * 20.0)
    assert rig.stats.lines == count
    assert rig.stats.datagrams == 2 * len(datagrams)


@settings(deadline=None, max_examples=100)
@given(st.lists(soups, max_size=8))
def test_sums_of_any_numbers_are_right_but_for_rounding(sent: list[bytes]) -> None:
    rig = Rig()
    whole = [line for datagram in sent for line in datagram.split(b"\n")]
    found, right = held(rig.store), expected(accepted(rig, whole))
    found = held(rig.store)
    assert found.keys() == right.keys()
    for series, numbers in found.items():
        for number, exact in zip(numbers, right[series], strict=True):
            assert isclose(number, exact, rel_tol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.permutations([f"llm.tokens:{2**n}|c|#model:m{n}".encode() for n in range(8)]))
def test_the_order_of_arrival_changes_who_is_other_and_never_the_total(sent: list[bytes]) -> None:
    rig = Rig(limits={"label_values": 3})
    rig.feed(*sent)
    values = rig.values("llm_tokens_total")
    assert sum(values.values()) == 255
    assert len(values) == 4
