"""What `explain` says of a line is what the hot path did with it, and saying it changes nothing."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.series.cardinality import FOLDED_BY_LINES, FOLDED_BY_SETS, FOLDED_BY_VALUES
from llmstatsd.series.explain import VALUES_LIMIT, Explained, explain
from llmstatsd.series.instruments import LabelSet
from tests.differential import bits_of

from . import Rig, state_of
from .test_properties import batches, build, settled

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "wire.json").read_text()
)


def is_summed(vector: dict[str, Any]) -> bool:
    """Whether the values of a line show in a sum of doubles, and all of them are told."""
    samples = vector["samples"]
    numbers = [each["value"] / each["rate"] for each in samples if each["type"] != "s"]
    return len(samples) <= VALUES_LIMIT and all(1e-3 < abs(n or 1) < 1e6 for n in numbers)


VECTOR_LINES = [
    bytes.fromhex(vector["hex"]) if "hex" in vector else vector["line"].encode()
    for vector in VECTORS
    if is_summed(vector)
]

Grown = dict[tuple[str, LabelSet], float]


def told(rig: Rig, datagram: bytes, most: int = 1000, **options: Any) -> list[Explained]:
    return list(explain(rig.store, rig.dialect, datagram, most, **options))


def one(rig: Rig, line: str) -> Explained:
    """A line that is fed, and then explained."""
    rig.feed(line)
    [explained] = told(rig, line.encode())
    return explained


def counted(rig: Rig) -> Grown:
    """Of each cell of a counter its sum, of a histogram its count."""
    return {
        (family.name, key): cell.value if family.instrument == "counter" else sum(cell.counts)
        for family in rig.store.families.values()
        if family.instrument in ("counter", "histogram")
        for key, cell in dict[LabelSet, Any](family.cells).items()
    }


def everything(rig: Rig) -> Any:
    """All that a question to the store might change."""
    store = rig.store
    families = {
        name: (
            family.overflow_names,
            dict(family.folded),
            dict(family._names),
            {
                label: (budget.held, budget.estimate(), budget.heaviest and budget.heaviest._counts)
                for label, budget in family.budgets.items()
            },
        )
        for name, family in store.families.items()
    }
    ledger = store.ledger
    numbers = (ledger.charged, ledger.free, ledger.born, store.stats.undeclared_names)
    cells = {key: bits_of(content) for key, content in state_of(store).items()}
    return families, numbers, sorted(store._owners), cells, rig.hot.cache_entries


def expected_growth(explained: list[Explained]) -> Grown:
    grown: Grown = defaultdict(float)
    for line in explained:
        for met in line.met:
            assert len(met.values) == min(met.samples, VALUES_LIMIT)
            key = (met.series, (tuple(met.labels), tuple(met.labels.values())))
            if met.type == "counter":
                grown[key] += sum(float(value) for value in met.values) * met.weight
            elif met.type == "histogram":
                grown[key] += met.samples * met.weight
    return {key: growth for key, growth in grown.items() if growth}


def label_sets_of(rig: Rig) -> int:
    return sum(len(family.cells) for family in rig.store.families.values())


def assert_agrees(rig: Rig, datagram: bytes) -> None:
    """Feed a datagram, and compare what was counted with what is told."""
    stats = rig.stats
    before = counted(rig)
    folded = folded_of(rig)
    sets = label_sets_of(rig)
    verdicts = (stats.accepted, dict(stats.refused), dict(stats.set_aside), dict(stats.notes))
    rig.hot.feed(datagram)
    rig.hot.settle()
    unchanged = everything(rig)
    explained = told(rig, datagram)
    assert everything(rig) == unchanged
    stats = rig.stats
    assert stats.accepted - verdicts[0] == sum(e.verdict == "accepted" for e in explained)
    for at, verdict, now in ((1, "refused", stats.refused), (2, "set_aside", stats.set_aside)):
        grown = {why: count - verdicts[at][why] for why, count in now.items()}  # type: ignore[index]
        whys = [line.why for line in explained if line.verdict == verdict]
        assert {why: count for why, count in grown.items() if count} == {
            why: whys.count(why) for why in whys
        }
    notes = [note for line in explained for note in line.notes]
    noted = {note: count - verdicts[3][note] for note, count in stats.notes.items()}
    assert {note: count for note, count in noted.items() if count} == {
        note: notes.count(note) for note in notes
    }
    after = counted(rig)
    growth = {key: after[key] - before.get(key, 0) for key in after}
    assert {key: more for key, more in growth.items() if more} == pytest.approx(
        expected_growth(explained)
    )
    kinds = [met.fold_reason for line in explained for met in line.met for _ in range(met.samples)]
    told_folded = Counter(reason for reason in kinds if reason)
    more_folded = Counter(folded_of(rig))
    more_folded.subtract(folded)
    assert more_folded.total() == told_folded.total()
    # A line that made the place of all that overflows met a budget that it does not meet again.
    otherwise = more_folded - told_folded
    assert not otherwise or label_sets_of(rig) > sets
    assert otherwise.keys() <= {FOLDED_BY_SETS, FOLDED_BY_LINES}
    assert (told_folded - more_folded).keys() <= {FOLDED_BY_VALUES}
    for line in explained:
        for met in line.met:
            assert met.fold_reason or not met.folded  # a set without labels folds too
            key = (tuple(met.labels), tuple(met.labels.values()))
            assert key in rig.store.families[met.series].cells


def folded_of(rig: Rig) -> dict[str, int]:
    folded: dict[str, int] = defaultdict(int)
    for family in rig.store.families.values():
        for reason, count in family.folded.items():
            folded[reason] += count
    return dict(folded)


@settings(deadline=None, max_examples=50)
@given(settled, batches)
def test_what_is_told_is_what_was_done(options: dict[str, Any], sent: list[bytes]) -> None:
    rig = build(options)
    for line in sent:
        assert_agrees(rig, line)


@settings(deadline=None, max_examples=15)
@given(settled, st.lists(st.sampled_from(VECTOR_LINES), min_size=5, max_size=60))
def test_of_the_vectors_of_the_wire_too(options: dict[str, Any], sent: list[bytes]) -> None:
    rig = build(options)
    for line in sent:
        assert_agrees(rig, line)


@settings(deadline=None, max_examples=30)
@given(settled, batches)
def test_the_verdict_is_known_before_a_line_is_fed(
    options: dict[str, Any], sent: list[bytes]
) -> None:
    rig = build(options)
    for line in sent:
        unchanged = everything(rig)
        before = [(each.verdict, each.why) for each in told(rig, line)]
        assert everything(rig) == unchanged
        rig.feed(line)
        assert [(each.verdict, each.why) for each in told(rig, line)] == before


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.booleans(), st.integers(0, 5))
def test_no_bytes_raise(datagram: bytes, is_cut: bool, most: int) -> None:
    assert len(told(Rig(), datagram, most, is_cut=is_cut)) <= max(most, 1)


def test_a_line_is_told_with_where_its_values_are() -> None:
    rig = Rig(aliases={"model": {"gpt-4o-*": "gpt-4o"}})
    line = "llm.request.duration:250:500|ms|@0.5|#model:gpt-4o-mini,tenant:x"
    explained = one(rig, line)
    assert (explained.text, explained.verdict) == (line, "accepted")
    assert explained.notes == ("dropped_label",)
    [met] = explained.met
    assert (met.series, met.type) == ("llm_request_duration_seconds", "histogram")
    assert met.labels == {"model": "gpt-4o", "operation": "unknown"}
    assert (met.values, met.samples, met.weight) == ((0.25, 0.5), 2, 2)
    assert not met.is_change
    assert one(rig, "depth:+3|g").met[0].is_change


def test_names_of_one_line_take_room_from_each_other() -> None:
    chain = "jobs:1|c:2|ms"
    rig = Rig(limits={"undeclared_names": 1})
    assert one(rig, chain).why == "name_budget"
    assert rig.refused() == {"name_budget": 1}
    rig = Rig()
    assert one(rig, "jobs:1|c:2|g").why == "type_conflict"
    assert one(rig, "jobs_total:1|c:2|g").why == "type_conflict"
    assert rig.refused() == {"type_conflict": 2}
    assert one(rig, chain).verdict == "accepted"


def test_a_folded_line_is_told_with_what_it_would_be() -> None:
    rig = Rig(limits={"label_values": 1})
    one(rig, "llm_request_total:1|c|#model:a,operation:chat")
    [met] = one(rig, "llm_request_total:1|c|#model:b,operation:chat").met
    assert met.labels == {"model": "other", "operation": "chat"}
    assert (met.folded, met.fold_reason) == ({"model": "b"}, "label_values")


def test_an_event_is_told_with_all_its_series_and_without_what_may_be_a_prompt() -> None:
    rig = Rig()
    event = '{"model":"gpt-4o","tokens":7,"prompt":"secret","error":"timeout"}'
    explained = one(rig, event)
    assert explained.text == '{"model":"gpt-4o","tokens":7,"error":"timeout",…}'
    assert explained.notes == ("unknown_event_field",)
    met = [each.series for each in explained.met]
    assert met == ["llm_request_total", "llm_tokens_total", "llm_error_total"]
    chunk = '{"model":"m","done":false,"message":{"content":"secret"}}'
    explained = one(rig, chunk)
    assert (explained.why, explained.text) == ("event_not_final", '{"model":"m","done":false,…}')
    explained = one(rig, '{"model":"m","error":"Bad key secret"}')
    assert explained.text == '{"model":"m","error":…}'
    explained = one(rig, '[{"prompt":"secret"}]')
    assert explained.text == "21 bytes of an event"
    explained = one(rig, '{"model":{"secret":1},"tokens":2}')
    assert (explained.why, explained.text) == ("bad_event", '{"model":…,"tokens":2}')


def test_pieces_of_an_event_are_told_by_their_size_alone() -> None:
    rig = Rig()
    texts = [each.text for each in told(rig, b'a:1|c\n{"model":\n"secret":1|c')]
    assert texts == ["a:1|c", "9 bytes of an event", "12 bytes of an event"]
    [late] = told(rig, b'a:1|c\n{"model":\nsecret:1|c', most=1, turn=2)
    assert late.text == "10 bytes of an event"


def test_each_line_of_a_datagram_has_its_turn() -> None:
    rig = Rig()
    datagram = b"a:1|c\nb:1|c\nc:1|c"
    texts = [
        [each.text for each in told(rig, datagram, most, turn=turn)]
        for most, turn in ((1, 0), (1, 1), (1, 5), (2, 2), (3, 2))
    ]
    assert texts == [["a:1|c"], ["b:1|c"], ["c:1|c"], ["c:1|c"], ["a:1|c", "b:1|c", "c:1|c"]]


def test_an_event_over_several_lines_is_one() -> None:
    [explained] = told(Rig(), b'{"model":"a",\n"tokens":1}')
    assert (explained.verdict, len(explained.met)) == ("accepted", 2)


def test_a_cut_datagram_is_told_up_to_its_last_whole_line() -> None:
    rig = Rig()
    assert [each.text for each in told(rig, b"a:1|c\nb:1|c\nc:", is_cut=True)] == ["a:1|c", "b:1|c"]
    assert told(rig, b"a:1|c", is_cut=True) == []
    assert told(rig, b'{"model":"a"}\n{"mo', is_cut=True) == []


def test_no_more_lines_are_told_than_are_asked_for() -> None:
    assert [each.text for each in told(Rig(), b"\na:1|c\n\nb:1|c\nc:1|c", 2)] == ["a:1|c", "b:1|c"]


def test_a_long_line_is_cut() -> None:
    [explained] = told(Rig(), b"x" * 300)
    assert explained.text == "x" * 200 + "…"
