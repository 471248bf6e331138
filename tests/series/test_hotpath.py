"""Resolve once, add many: a cached pair is counted exactly as a first sight."""

import weakref
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.series import lanes
from llmstatsd.series.cache import KEY_LENGTH_LIMIT
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.slowpath import SHOWN_LENGTH_LIMIT
from llmstatsd.wire import Dialect, parse_datagram

from . import DURATIONS, ERRORS, FALLBACKS, RATE_LIMITS, REQUESTS, TOKENS, Rig, state_of

EVERY_KIND = [
    "jobs:1|c",
    "jobs:0|c",
    "jobs:2.5|c",
    "jobs:0.25|c|@0.5|#kind:k",
    "jobs:1|c|@0.3",
    "jobs:12345678901234567890|c",
    "jobs:1e3|c",
    "jobs:1E-3|c",
    "jobs:+7|c",
    "jobs:-0|c",
    "jobs:1:2:3|c",
    "jobs:1::2|c",
    "jobs:1:2|c|@0.25|#kind:k",
    "jobs:1|c|#kind:k,bare",
    "jobs:1|c|what?",
    "jobs:1:2|c|what?|#bare",
    "jobs:1|c|c:container|e:external|card:low",
    "jobs:1|c||",
    "jobs:1|c|T1656581400",
    "jobs:1|c|T1656581400|#kind:k",
    "jobs:1|c|#kind:k|T1656581400",
    "jobs#kind=k:1|c",
    "jobs,kind=k:1|c",
    "jobs[kind=k]:1|c",
    "jobs:1|c\r",
    "wait:12.5|ms",
    "wait:1:20:300|ms|@0.5",
    "wait:0.5|h",
    "wait:0.5|d|@0.1",
    "depth:5|g",
    "depth:+5|g",
    "depth:-5|g",
    "depth:1:+1:-3|g|@0.5",
    "depth:5|g|@0.5",
    "users:anna|s",
    "users:anna:bob|s|#kind:k",
    "users:ä日本|s",
    "a:1|c:2|ms",
    "a:1|c:2|ms|#kind:k,bare",
    "a:1|c|@0.5:2|ms",
    "llm.request:1|c|#model:m,operation:chat,user:u",
    "llm.error:1|c|#model:m,type:weird",
    "llm.error:1|c",
    '{"model":"m","operation":"chat","duration_seconds":1.5,"tokens":30,"error":"timeout"}',
    '{"model":"m","error":"weird","colour":"red"}',
    '{"model":"m","done":true,"total_duration":2000000000,"eval_count":3,"response":""}',
]

EVERY_REFUSAL = [
    "jobs",
    "jobs:1",
    ":1|c",
    "jobs:|c",
    "jobs:x|c",
    "jobs: 1|c",
    "jobs:1_0|c",
    "jobs:.5|c",
    "jobs:5.|c",
    "jobs:１|c",
    "jobs:nan|c",
    "jobs:1e999|c",
    "jobs:-1|c",
    "jobs:1:x|c",
    "jobs:1|x",
    "jobs|c",
    "jobs|c|#kind:k",
    "jobs|1:1|c",
    "jobs:1|c|@0",
    "jobs:1|c|@x",
    "jobs#a=b:1|c|#c:d",
    "llmstatsd.x:1|c",
    "llm.request:1|g",
    "jobs:1|c:x|c",
    '{"model":1}',
    '{"model":"m","done":false}',
    "_e{1,1}:",
]

SET_ASIDE = ["_e{5,4}:title|text", "_sc|name|0", "_e{2,7}:ab|text|T5"]


def numbers(rig: Rig) -> dict[str, Any]:
    """Everything that is counted of lines, flat."""
    stats: dict[str, Any] = asdict(rig.stats)
    flat = {"accepted": rig.stats.accepted, "lines": rig.stats.lines, "samples": rig.stats.samples}
    for group in ("refused", "set_aside", "notes"):
        flat |= {f"{group}.{key}": value for key, value in stats[group].items()}
    return flat


def rise(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """What grew."""
    return {key: after[key] - before[key] for key in after if after[key] != before[key]}


@pytest.mark.parametrize("line", EVERY_KIND + EVERY_REFUSAL + SET_ASIDE)
def test_a_second_line_of_the_same_pair_is_counted_exactly_as_the_first(line: str) -> None:
    rig, before = Rig(), numbers(Rig())
    rig.feed(line)
    first = numbers(rig)
    rig.feed(line)
    second = numbers(rig)
    assert rise(first, second) == rise(before, first)
    assert second["lines"] == 2


@pytest.mark.parametrize("line", EVERY_KIND)
def test_the_cache_changes_no_number(line: str) -> None:
    cached, uncached = Rig(), Rig()
    for _ in range(3):
        cached.feed(line)
        uncached.hot_path().feed(line.encode())
    assert state_of(cached.store) == state_of(uncached.store)
    folded = {name: family.folded for name, family in cached.store.families.items()}
    assert folded == {name: family.folded for name, family in uncached.store.families.items()}


@pytest.mark.parametrize("line", EVERY_KIND + EVERY_REFUSAL + SET_ASIDE)
def test_a_line_ends_as_the_wire_stage_says(line: str) -> None:
    [parsed] = parse_datagram(line.encode())
    rig = Rig()
    rig.feed(line)
    if parsed.reason or parsed.set_aside:
        assert rig.refused() == ({parsed.reason: 1} if parsed.reason else {})
        assert sum(rig.stats.set_aside.values()) == bool(parsed.set_aside)
    elif rig.stats.accepted:
        assert rig.stats.samples == len(parsed.samples)
        assert set(parsed.notes) <= set(rig.notes())


@pytest.mark.parametrize("value", ["-1", "x", "nan", "1e999", "", " 1", "1:x", "１", b"1\xff"])
def test_a_bad_value_of_a_known_pair_is_refused_as_at_first_sight(value: str | bytes) -> None:
    sent = value.encode() if isinstance(value, str) else value
    line = b"jobs:" + sent + b"|c"
    [parsed] = parse_datagram(line)
    rig = Rig()
    rig.feed("jobs:1|c", line)
    assert rig.refused() == {parsed.reason: 1}
    assert rig.values("jobs_total") == {(): 1}


@pytest.mark.parametrize("line", ["jobs|c", "jobs|c|#kind:k", "jobs", "jobs||c", "jobs|c:1"])
def test_a_line_without_a_value_is_malformed_whatever_pair_is_known(line: str) -> None:
    rig = Rig()
    rig.feed("jobs:1|c", "jobs:1|c|#kind:k")
    rig.feed(line)
    rig.feed("jobs:1|c", "jobs:1|c", line, "jobs:1|c", "jobs:1|c")
    assert rig.refused() == {"malformed": 2}
    assert rig.values("jobs_total")[()] == 5


def test_a_folded_sample_of_a_known_pair_is_counted_as_folded() -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed("llm.tokens:1|c|#model:a")
    for _ in range(3):
        rig.feed(
            "llm.tokens:1|c|#model:b", "llm.tokens:1:1|c|#model:b", "llm.tokens:1e0|c|#model:b"
        )
    assert rig.values(TOKENS) == {("a",): 1, ("other",): 12}
    assert rig.folded(TOKENS) == {"label_values": 12}


def test_notes_of_a_known_pair_are_counted_once_a_line() -> None:
    rig = Rig()
    for _ in range(3):
        rig.feed("jobs:1|c|#bare", "jobs:1:2:3|c|#bare", "jobs:1e1|c|#bare")
    assert rig.notes() == {"tag_without_value": 9}


@pytest.mark.parametrize(
    ("tags", "note"), [("kind:k,bare", "tag_without_value"), ("le:x", "dropped_label")]
)
def test_a_note_of_a_chain_is_counted_once_a_line(tags: str, note: str) -> None:
    rig = Rig()
    for lines in (1, 2, 3):
        rig.feed(f"a:1|c:2|c:3|ms|#{tags}")
        assert rig.notes() == {note: lines}


def test_the_portable_hot_path_takes_plain_decimals_only() -> None:
    rig = Rig(twin=lanes.PORTABLE)
    rig.feed("jobs:1|c")
    rig.feed("jobs:2|c", "jobs:2.5|c", "jobs:0001|c")
    assert rig.stats.plain_lines == 3
    rig.feed("jobs:1e2|c", "jobs:+1|c", "jobs:1:2|c", f"jobs:{'1' * 17}|c")
    assert rig.stats.plain_lines == 3
    assert rig.stats.accepted == 8


# What the cache keeps.


def test_a_known_pair_is_not_resolved_again() -> None:
    rig = Rig()
    rig.feed("jobs:1|c|#a:b", "jobs:2|c|#a:b", "jobs:1:2|c|#a:b", "jobs:x|c|#a:b")
    assert rig.stats.cache_misses == 1
    assert rig.hot.cache_entries == 1


def test_a_time_stamp_does_not_fill_the_cache() -> None:
    rig = Rig()
    for number in range(100):
        rig.feed(f"jobs:1|c|T{number}|#kind:k", f"jobs:1|c|#kind:k|T{number}")
    assert rig.values("jobs_total") == {("k",): 200}
    assert rig.hot.cache_entries == 1
    assert rig.stats.cache_misses == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"model":"a|T5|b","tokens":1}',
        "_e{2,4}:ab|T123",
        "_sc|T5|0",
        "jobs:1|T5|c",
        "jobs|T5:1|c",
        "jobs|T5|:1|c",
        "users:x|T5|s",
        "jobs:1|c|T5x",
        "jobs:1|c|#a:T5",
    ],
)
def test_what_only_looks_like_a_time_stamp_is_left_alone(line: str) -> None:
    [parsed] = parse_datagram(line.encode())
    rig = Rig()
    rig.feed(line)
    assert rig.refused() == ({parsed.reason: 1} if parsed.reason else {})
    assert sum(rig.stats.set_aside.values()) == bool(parsed.set_aside)
    assert set(parsed.notes) == set(rig.notes())
    if line.startswith("{"):
        assert rig.values(TOKENS) == {("a|T5|b",): 1}


def test_refused_and_set_aside_lines_are_not_cached() -> None:
    rig = Rig()
    rig.feed(*EVERY_REFUSAL, *SET_ASIDE)
    assert rig.hot.cache_entries == 0


def test_members_of_a_set_do_not_fill_the_cache() -> None:
    rig = Rig()
    rig.feed(*(f"users:{number}|s" for number in range(100)))
    assert rig.hot.cache_entries <= 1


def test_the_cache_is_bounded() -> None:
    rig = Rig(cache_entries=16)
    for number in range(100):
        rig.feed(f"jobs:1|c|#kind:{number % 40}")
        assert rig.hot.cache_entries <= 16
    assert rig.hot.cache_entries == rig.hot.cache_entries_limit == 16
    assert sum(rig.values("jobs_total").values()) == 100


def test_events_and_chains_do_not_grow_the_cache_over_its_bound() -> None:
    rig = Rig(cache_entries=16)
    for number in range(50):
        rig.feed(f'{{"model":"m{number}","tokens":1}}', f"a:1|c:2|ms|#kind:{number}")
        assert rig.hot.cache_entries <= 16


def test_a_new_pair_evicts_the_oldest_one_only() -> None:
    rig = Rig(cache_entries=16)
    lines = [f"jobs:1|c|#kind:{number}" for number in range(17)]
    rig.feed(*lines)
    assert rig.stats.cache_misses == 17
    rig.feed(*lines[1:])
    assert rig.stats.cache_misses == 17
    rig.feed(lines[0])
    assert rig.stats.cache_misses == 18


def test_a_pair_of_the_longest_length_is_kept_and_a_longer_one_is_not() -> None:
    rig = Rig()
    longest = "x" * (KEY_LENGTH_LIMIT - len("jobsc|#kind:"))
    for value, size in ((longest, 1), (longest + "x", 1)):
        line = f"jobs:1|c|#kind:{value}"
        rig.feed(line, line)
        assert rig.hot.cache_entries == size
    assert rig.values("jobs_total") == {("x" * 128,): 4}


def test_a_very_long_event_is_not_cached() -> None:
    rig = Rig()
    rig.feed(f'{{"model":"{"m" * 2000}","fallback":true}}')
    assert rig.hot.cache_entries == 1, "llm_fallback_total has no labels"


# Many lines at once.


ODD_VALUES = [
    *("2", "2.5", "0", "007", "1.50", "9007199254740993", "0.1", "123456789.123456789"),
    *("10000000000000000", "10000000000000001", "9" * 30, "9" * 400, "1" * 400 + ".5"),
    *("1e3", "+1", "-1", "1:2", ":", "", ".", ".5", "5.", "1..2", "1.2.3", "1,2", ",", "1,", " 1"),
    *("1_0", "0x1", "nan", "null", "true", '"1"', "[1]", "[", "]", "１", "²", "1\t"),
]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_value_among_plain_ones_is_read_as_alone(value: str) -> None:
    """And the plain ones around it count, whatever it is."""
    together, alone, around = Rig(), Rig(), [f"jobs:{number}|c" for number in range(1, 9)]
    lines = [*around[:4], f"jobs:{value}|c", *around[4:]]
    together.feed("jobs:0|c", "wait:0|ms")
    together.feed(*lines, f"wait:{value}|ms")
    for line in ["jobs:0|c", "wait:0|ms", *lines, f"wait:{value}|ms"]:
        alone.hot_path().feed(line.encode())
    [parsed] = parse_datagram(f"jobs:{value}|c".encode())
    assert together.refused() == ({parsed.reason: 2} if parsed.reason else {})
    assert together.stats.samples == 10 + 2 * len(parsed.samples)
    total = sum(s.value for s in parsed.samples if isinstance(s.value, float))
    assert together.values("jobs_total")[()] == pytest.approx(36 + total, rel=1e-15)
    assert state_of(together.store).keys() == state_of(alone.store).keys()
    assert together.sums("wait_seconds") == alone.sums("wait_seconds")
    assert together.counts("wait_seconds") == alone.counts("wait_seconds")


@settings(deadline=None, max_examples=200)
@given(st.from_regex(r"\A[0-9]{1,18}(\.[0-9]{1,18})?\Z"))
def test_a_decimal_among_others_is_exactly_what_python_reads(value: str) -> None:
    rig = Rig()
    lines = [f"jobs:{value}|c|#n:{n}" for n in range(5)]
    rig.feed(*lines)
    assert set(rig.values("jobs_total").values()) == {float(value)}
    rig.feed(*lines)
    assert set(rig.values("jobs_total").values()) == {float(value) + float(value)}


def test_gauges_take_their_values_in_the_order_of_arrival() -> None:
    rig = Rig()
    for _ in range(3):
        rig.feed("depth:1|g", "depth:+5|g", "jobs:1|c", "depth:7|g", "depth:-2|g", "depth:3|g|@1")
        assert rig.values("depth") == {(): 3}


def test_datagrams_that_arrive_together_count_as_one_by_one() -> None:
    """Events over several lines too, and no line runs over the end of its datagram."""
    event = b'{\n"model":"m",\n"tokens":1\n}'
    datagrams = [
        *(b"jobs:1|c\n", b"jobs:1", b"|c", b"", event, b"jobs:2|c\r\nx:1|g", b"\xff", event),
    ]
    together, alone = Rig(), Rig()
    for _ in range(3):
        together.hot.feed_together(datagrams)
        for datagram in datagrams:
            alone.hot.feed(datagram)
    assert numbers(together) == numbers(alone)
    assert together.stats.datagrams == 3 * len(datagrams)
    assert together.stats.bytes == alone.stats.bytes == 3 * sum(map(len, datagrams))
    assert state_of(together.store) == state_of(alone.store)


def test_no_datagrams_are_nothing() -> None:
    rig = Rig()
    rig.hot.feed_together(())
    assert asdict(rig.stats) == asdict(Rig().stats)


# Datagrams.


def test_empty_lines_and_carriage_returns_are_no_lines() -> None:
    rig = Rig()
    rig.hot.feed(b"\n\r\n\njobs:1|c\r\n\njobs:1|c\n")
    rig.hot.feed(b"")
    assert rig.stats.datagrams == 2
    assert rig.stats.bytes == 24
    assert rig.stats.lines == rig.stats.accepted == 2
    assert rig.values("jobs_total") == {(): 2}


def test_a_line_end_of_carriage_return_and_line_feed_is_the_same_pair() -> None:
    """Even when a stray carriage return had been part of a suffix before."""
    rig = Rig()
    rig.feed("jobs:1|c|#kind:k\r\r")
    rig.feed("jobs:1|c|#kind:k\r")
    rig.feed("jobs:1|c|#kind:k\r")
    assert rig.values("jobs_total") == {("k_",): 1, ("k",): 2}


def test_good_lines_of_a_bad_datagram_count() -> None:
    rig = Rig()
    rig.feed("jobs:1|c", b"\xff\xfe", "jobs:x|c", "", "jobs", "jobs:1|c", "{", "jobs:1|c")
    assert rig.values("jobs_total") == {(): 3}
    assert rig.refused() == {"invalid_utf8": 1, "bad_value": 1, "malformed": 1, "bad_event": 1}
    assert rig.stats.lines == 7


def test_lines_are_accepted_refused_or_set_aside() -> None:
    rig = Rig()
    for _ in range(3):
        rig.feed(*EVERY_KIND, *EVERY_REFUSAL, *SET_ASIDE)
    stats = rig.stats
    assert stats.lines == 3 * len(EVERY_KIND + EVERY_REFUSAL + SET_ASIDE)
    assert stats.lines - stats.accepted == sum(rig.refused().values()) + 3 * len(SET_ASIDE)


def test_one_refused_line_per_reason_is_kept_and_cut() -> None:
    rig = Rig()
    rig.feed("first", "y" * 70_000, "jobs:x|c")
    assert rig.stats.refused_lines["malformed"] == "y" * SHOWN_LENGTH_LIMIT + "…"
    assert rig.stats.refused_lines["bad_value"] == "jobs:x|c"
    assert len(rig.stats.refused_lines) == 2


# Events.


def test_an_event_updates_all_its_series() -> None:
    rig = Rig()
    rig.feed(
        '{"model":"m","operation":"chat","duration_seconds":1.5,"tokens":30,"prompt_tokens":20,'
        '"error":"rate_limit","fallback":true}'
    )
    assert rig.values(REQUESTS) == {("m", "chat"): 1}
    assert rig.sums(DURATIONS) == {("m", "chat"): 1.5}
    assert rig.values(TOKENS) == {("m",): 30}
    assert rig.values("llm_prompt_tokens_total") == {("m",): 20}
    assert rig.values(ERRORS)["m", "rate_limit"] == 1
    assert rig.values(RATE_LIMITS) == {("m",): 1}
    assert rig.values(FALLBACKS) == {(): 1}
    assert rig.stats.lines == rig.stats.accepted == 1
    assert rig.stats.samples == 7


@pytest.mark.parametrize(
    "event",
    [
        '{"model":"m","tokens":30,"duration_seconds":"slow"}',
        '{"model":"m","tokens":30,"duration_seconds":-1}',
        '{"model":"m","tokens":NaN}',
        '{"model":"m","tokens":1e300}',
        '{"model":"m","tokens":30',
        '{"model":"m","tokens":30}{',
    ],
)
def test_a_bad_event_updates_none_of_its_series(event: str) -> None:
    rig = Rig()
    before = state_of(rig.store)
    rig.feed(event)
    assert rig.refused() == {"bad_event": 1}
    assert state_of(rig.store) == before


def test_an_event_may_be_printed_over_several_lines() -> None:
    rig = Rig()
    rig.hot.feed(b'{\n  "model": "m",\r\n  "tokens": 30\n}\n')
    assert rig.values(TOKENS) == {("m",): 30}
    assert rig.stats.lines == rig.stats.accepted == 1


def test_a_bad_event_over_several_lines_counts_nowhere_and_never_as_accepted() -> None:
    rig = Rig()
    rig.hot.feed(b'{\n  "model": "m",\n  "tokens": -1\n}\n')
    assert rig.stats.accepted == 0
    assert rig.stats.lines == sum(rig.refused().values()) > 0


def test_events_and_lines_may_share_a_datagram() -> None:
    rig = Rig()
    event = '{"model":"m","tokens":1}'
    rig.feed(event, "jobs:1|c", event, event)
    assert rig.values(TOKENS) == {("m",): 3}
    assert rig.values("jobs_total") == {(): 1}


def test_an_event_and_a_line_reach_the_same_cell() -> None:
    rig = Rig()
    rig.feed('{"model":"m","tokens":3}', "llm.tokens:4|c|#model:m", "llm_tokens_total:5|c|#model:m")
    assert rig.values(TOKENS) == {("m",): 12}


def test_a_dialect_that_is_off_leaves_its_mark_to_the_name() -> None:
    dialect = Dialect(librato=False, influxdb=False, signalfx=False)
    rig = Rig(dialect=dialect)
    rig.feed("a#k=v:1|c", "a,k=v:1|c", "a[k=v]:1|c")
    assert rig.values("a_k_v_total") == {(): 2}
    assert rig.values("a_k_v__total") == {(): 1}


def test_a_plain_line_of_a_known_pair_touches_its_cell() -> None:
    rig = Rig()
    rig.feed("jobs:1|c")
    [cell] = rig.store.families["jobs_total"].cells.values()
    cell.touched = False
    rig.feed("jobs:0|c")
    assert cell.touched


def test_a_refused_chain_leaves_no_series_behind() -> None:
    rig = Rig()
    rig.feed("b:9|c:1|g")
    assert rig.refused() == {"type_conflict": 1}
    assert "b_total" not in rig.store.families
    assert rig.store.stats.undeclared_names == 0
    rig.feed("b:1|g")
    assert rig.values("b") == {(): 1}


@pytest.mark.parametrize(
    "datagram",
    [
        b' {"model":"m","prompt":"SECRET two"}',
        b'{"model":"m","prompt":"line one\nSECRET: three|four"}',
        b'\n{\n "prompt": "SECRET|x",\n "model": "m"',
        b'\xef\xbb\xbf{"model":"m","prompt":"SECRET"}',
        b'[{"model":"m","prompt":"SECRET"}]',
        b'data: {"choices":[{"delta":{"content":"SECRET"}}]}',
        b'  "prompt": "SECRET"',
        b'["SECRET"',
        b'a:1|c\n{"model":"m","tokens":1}\nSECRET|x',
    ],
)
def test_no_piece_of_an_event_is_shown(datagram: bytes) -> None:
    rig = Rig()
    rig.hot.feed(datagram)
    assert rig.refused()
    assert "SECRET" not in repr(rig.stats.refused_lines)


def test_a_refused_event_shows_no_text_in_the_log() -> None:
    rig = Rig()
    rig.feed('{"model":"secret prompt"')
    rig.feed("naïve:x|c")
    assert rig.stats.refused_lines == {
        "bad_event": "a line of 24 bytes of an event",
        "bad_value": "naïve:x|c",
    }


def test_an_evicted_route_with_a_note_is_freed_without_the_garbage_collector() -> None:
    rig = Rig(twin=lanes.PORTABLE, cache_entries=16)
    rig.feed("jobs:1|c|#bare,k:v")
    assert isinstance(rig.hot, HotPath)
    route = weakref.ref(next(iter(rig.hot.cache.plain["jobs"].values())).plain)
    for number in range(17):
        rig.feed(f"jobs:1|c|#bare,k:{number}")
    assert route() is None
