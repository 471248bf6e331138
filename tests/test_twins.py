"""Both twins do the same with any bytes, and the compiled one holds under several threads."""

import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.exposition.lanes import renderers
from llmstatsd.exposition.text import TEXT, Exposition
from llmstatsd.intake import sockets
from llmstatsd.intake.lanes import LaneIntake
from llmstatsd.series import lanes
from llmstatsd.series.cardinality import FOLDED_BY_VALUES
from llmstatsd.series.limits import Limits
from llmstatsd.series.slowpath import SlowPath
from llmstatsd.wire import Dialect
from tests import twins
from tests.differential import assert_same
from tests.series import RecordingStore, Rig

pytestmark = pytest.mark.compiled

VECTORS = json.loads((Path(__file__).parent / "vectors" / "wire.json").read_bytes())
LINES = [
    bytes.fromhex(vector["hex"]) if "hex" in vector else vector["line"].encode()
    for vector in VECTORS
]
DEADLINE_SECONDS = 180.0  # a sanitizer makes all of this several times as slow

# What a mutation puts in: marks of the wire, digits, and what numbers and encodings break at.
SPICE = [bytes([byte]) for byte in b":|\n\r#@,{}[]=_.+-eET0159 \t\0\x7f\x80\xc3\xff"]
TEXTS = [b"1e309", b"1e281", b"-0", b"nan", b"0.1", b"1e-320", b"123456789012345678", b"\xc3\xa4"]
KNOWN = [
    *(b"a:1|c", b"a:0.1|c|@0.3", b"t:12.5|ms", b"t:1|ms|@0.7", b"h:0.3|h", b"h:3|d|@0.1"),
    *(b"g:5|g", b"g:-1.5|g", b"u:x|s", b"llm.tokens:3|c|#model:m1", b"llm.tokens:3|c|#model:m2"),
    b'{"model":"m","tokens":3,"duration_seconds":0.1}',
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A line of the vectors or a well-known one, with up to three small changes."""
    line = bytearray(draw(st.sampled_from(LINES + KNOWN * 20)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        kind = draw(st.sampled_from(["put", "put", "cut", "flip", "splice"]))
        if kind == "put":
            line[at:at] = draw(st.sampled_from(SPICE + TEXTS))
        elif kind == "cut":
            del line[at : at + draw(st.integers(1, 8))]
        elif kind == "flip" and at < len(line):
            line[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "splice":
            other = draw(st.sampled_from(LINES))
            line[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(line)


datagrams = st.lists(mutated(), min_size=1, max_size=12).map(b"\n".join)
sweeps = st.floats(0, 50, allow_nan=False)
options = st.fixed_dictionaries(
    {
        "limits": st.fixed_dictionaries(
            {
                "label_values": st.integers(1, 4),
                "label_sets": st.integers(1, 6),
                "idle_seconds": st.just(10.0),
            }
        ),
        "cache_entries": st.sampled_from([1, 2, 7, 1000]),
        "dialect": st.builds(Dialect, absolute_signed_gauges=st.booleans()),
    }
)


@settings(deadline=None, max_examples=400)
@given(st.lists(datagrams, min_size=1, max_size=8), st.lists(sweeps, max_size=3), options)
def test_both_twins_do_the_same_with_any_bytes(
    sent: list[bytes], times: list[float], chosen: dict[str, Any]
) -> None:
    # Everything twice, so that pairs are known the second time.
    assert_same([*sent, *sent, *sorted(times), *sent], **chosen)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_both_twins_do_the_same_with_noise(sent: list[bytes]) -> None:
    assert_same([*sent, *sent])


@settings(deadline=None, max_examples=300)
@given(
    st.from_regex(rb"[+-]?[0-9]{0,25}(\.[0-9]{0,25})?([eE][+-]?[0-9]{0,4})?", fullmatch=True),
    st.sampled_from([b"c", b"ms", b"h", b"d", b"g", b"c|@0.3", b"ms|@0.7"]),
)
def test_both_twins_read_the_same_number(value: bytes, suffix: bytes) -> None:
    line = b"a:" + value + b"|" + suffix
    assert_same([b"a:1|" + suffix, line, line + b"\n" + line, line])


@pytest.mark.parametrize("digits", range(1, 20))
def test_decimals_of_every_length_are_read_alike(digits: int) -> None:
    texts = ["9" * digits, "1" * digits, "0" * digits, "5" + "0" * (digits - 1)]
    for point in range(1, digits):
        texts += [f"{text[:point]}.{text[point:]}" for text in texts[:4]]
    assert_same([b"a:1|c", *(f"a:{text}|c".encode() for text in texts)])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 500])
def test_names_and_tags_of_every_length_are_told_apart(size: int) -> None:
    """Two pairs that differ in one byte, wherever it is, are two."""
    name, steps = "n" * size, []
    for at in {0, size // 2, size - 1}:
        other = f"{name[:at]}x{name[at + 1 :]}"
        steps += [f"{name}:1|c|#k:{name}\n{other}:2|c|#k:{name}\n{name}:4|c|#k:{other}".encode()]
    assert_same(steps * 2)


def test_more_lines_than_are_left_in_one_go_are_taken() -> None:
    lines = [f"a{number}:1|g" for number in range(3000)] + ["x"] * 3000 + ["a:1|c"] * 3000
    budgets = {"undeclared_names": 5000}
    assert_same(["\n".join(lines).encode()] * 2, limits=budgets, cache_entries=5000)


# Fewer than the heaviest values that are kept, or which they are depends on their order.
VALUES = st.one_of(
    st.integers(0, 12).map(lambda number: f"m{number}"),
    st.sampled_from(["other", "gpt-4o-1", "gpt-4o-2", "a:b", "x" * 128, "x" * 129, "\x7f", "\xe4"]),
    st.text("m:", max_size=2),
)
FLOODS = st.builds(
    str.format,
    st.sampled_from(
        [
            *("llm_request_total:{0}|c|#model:{1},operation:{2}", "llm_tokens:{0}|c|#model:{1}"),
            *("llm_total_duration:{0}|ms|@0.3|#model:{1},x:{2}", "t:{0}|ms|#a:{2},b:{1},c:d"),
            *("llm_error_total:{0}|c|#type:{2},model:{1}", "g:{0}|g|#model:{1}", "s:{1}|s|#k:{1}"),
            *("h:{0}|h|#k:{1}\r", "h:{0}|h|#k:{1}|T7", "llm_error_total:1|c|#model:m,type:{1}"),
        ]
    ),
    st.sampled_from(["1", "0.5", "1:2", "12345678.25", "-1", "1e3", "x"]),
    VALUES,
    st.sampled_from(["chat", "generate", "timeout"]),
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(FLOODS, min_size=1, max_size=60), min_size=1, max_size=6),
    st.lists(sweeps, max_size=3),
    options,
    st.sampled_from([None, {"model": {"gpt-4o-*": "gpt-4o"}}]),
)
def test_both_twins_do_the_same_with_values_that_fold(
    sent: list[list[str]],
    times: list[float],
    chosen: dict[str, Any],
    aliases: dict[str, dict[str, str]] | None,
) -> None:
    floods = ["\n".join(lines).encode() for lines in sent]
    assert_same([*floods, *sorted(times), *floods], aliases=aliases, **chosen)


def test_a_flood_of_values_that_fold_is_taken_without_a_whole_reading() -> None:
    rig = Rig(twin=twins.twin(twins.COMPILED), limits={"label_values": 2})
    rig.feed(*(f"llm_tokens_total:1|c|#model:m{number}" for number in range(4)))
    with mock.patch.object(SlowPath, "take", side_effect=AssertionError("asked the slow path")):
        rig.feed(*(f"llm_tokens_total:2|c|#model:n{number}" for number in range(100)))
    assert rig.values("llm_tokens_total")["other",] == 2 + 200


def test_a_value_that_folded_takes_a_place_that_has_become_free() -> None:
    limits = {"label_values": 2, "idle_seconds": 10.0}
    rig = Rig(twin=twins.twin(twins.COMPILED), limits=limits)
    rig.feed(*(f"llm_tokens_total:1|c|#model:m{number}" for number in range(9)))
    for now in (0.0, 20.0):
        rig.sweep(now)
    rig.feed("llm_tokens_total:5|c|#model:late")
    assert rig.values("llm_tokens_total")["late",] == 5


@pytest.mark.parametrize("entries", [1, 2, 255, 256, 257, 2000])
def test_a_cache_of_any_size_evicts_alike(entries: int) -> None:
    """Growing, full, evicting, and asked for what it has evicted."""
    rounds = [range(600), range(300, 900), range(0, 600, 3)]
    steps = [f"a:1|c|#k:{number}".encode() for each in rounds for number in each]
    assert_same(steps, cache_entries=entries)


def test_a_gauge_keeps_the_sign_of_zero() -> None:
    assert_same([b"g:-0|g"] * 2, dialect=Dialect(absolute_signed_gauges=True))


# Several threads


async def test_sums_are_exact_while_four_senders_run_and_others_look_sweep_and_collect() -> None:
    """Label sets are born, folded, idle and leave all the while; no sample is lost or doubled."""
    twin = twins.twin(twins.COMPILED)
    limits = Limits(label_values=20, label_sets=30, idle_seconds=2.0)
    store = RecordingStore(limits, instruments=twin.instruments)
    hot = lanes.CompiledHotPath(store, Dialect(), 64, lanes=2)
    bound = sockets.bind("127.0.0.1", 0, 1 << 22, 2)
    intake = LaneIntake(bound, hot.lanes)
    await intake.start()
    senders = [sender_to(bound[0].address, number) for number in range(4)]
    try:
        await asyncio.to_thread(look_and_sweep, hot, store)
    finally:
        sent = sum(int(sender.communicate(timeout=DEADLINE_SECONDS)[0]) for sender in senders)
        await asyncio.wait_for(intake.stop(), DEADLINE_SECONDS)
        drops = sum(memory.drops for each in bound if (memory := each.memory()))
        for each in bound:
            each.close()
    hot.settle()
    stats = hot.stats
    assert stats.datagrams + drops == sent
    assert stats.lines == stats.accepted == 3 * stats.datagrams
    cells: list[Any] = [(f, c) for f in store.families.values() for c in f.cells.values()]
    totals = {"jobs_total": 0.0, "wait_seconds": 0.0}
    for family, cell in [*cells, *store.left]:
        if family.name in totals:
            is_counter = family.instrument == "counter"
            totals[family.name] += cell.value if is_counter else sum(cell.counts)
    assert totals == {"jobs_total": 2 * stats.datagrams, "wait_seconds": stats.datagrams}
    assert store.families["jobs_total"].folded[FOLDED_BY_VALUES] > 0
    assert store.stats.expired_label_sets > 0


def look_and_sweep(hot: lanes.CompiledHotPath, store: RecordingStore) -> None:
    """Scrape, sweep and collect garbage until enough has been born, folded and expired."""
    exposition = Exposition(store, (), renderers("compiled"))
    now, deadline = 0.0, time.monotonic() + DEADLINE_SECONDS
    while hot.stats.datagrams < SEEN or store.stats.expired_label_sets < EXPIRED:
        assert time.monotonic() < deadline, store.stats
        now += 1.0
        for _ in hot.expire(now):
            pass
        assert b"".join(exposition.chunks(TEXT))
        hot.settle()
        seen = hot.stats
        assert seen.lines == seen.accepted
        gc.collect()


SEEN = 20_000
EXPIRED = 100

SENDER = """
import select, socket, sys
host, port, sender = sys.argv[1:]
number = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect((host, int(port)))
    while number < 2_000_000:
        # The pace, at which label sets become idle meanwhile; a closed stdin is the end.
        if number % 50 == 0 and select.select([sys.stdin], [], [], 0.003)[0]:
            break
        kind = number // 500 if number % 4 else number % 300
        sock.send(f"jobs:2|c|#k:{kind}\\nwait:{number}|ms\\ndepth:{sender}|g".encode())
        number += 1
print(number)
"""


def sender_to(address: tuple[str, int], sender: int) -> "subprocess.Popen[bytes]":
    """A process that sends datagrams of three lines, with label values that come and go.

    It ends when its stdin is closed, and says how many it has sent.
    """
    command = [sys.executable, "-c", SENDER, *map(str, (*address, sender))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# Memory


@pytest.mark.memory
def test_nothing_is_left_behind_of_routes_cells_and_lanes() -> None:
    """Whole lanes come and go, with every kind of line, eviction and expiry; memory stays."""
    process = psutil.Process()

    def live(rounds: int) -> int:
        for _ in range(rounds):
            rig = Rig(
                twin=twins.twin(twins.COMPILED),
                limits={"label_values": 5, "idle_seconds": 10.0},
                cache_entries=64,
            )
            for number in range(200):
                rig.feed(f"jobs:1|c|#k:{number},bare", f"w:{number}|ms|@0.1", f"g{number % 9}:1|g")
                rig.feed(f'{{"model":"m{number}","tokens":1}}', f"u:{number}|s", "a:1:2|c|what")
            for now in (0.0, 20.0, 40.0):
                rig.sweep(now)
        del rig
        gc.collect()
        return int(process.memory_info().rss)

    live(20)
    before = live(20)
    tracemalloc.start()
    live(1)
    blocks = tracemalloc.take_snapshot()
    live(10)
    grown = [
        stat
        for stat in tracemalloc.take_snapshot().compare_to(blocks, "filename")
        if "llmstatsd" in stat.traceback[0].filename and stat.size_diff > 100_000
    ]
    tracemalloc.stop()
    assert not grown
    # 60 more lives would leave 60 x 200 entries of over 100 bytes behind, if they left any.
    assert live(60) - before < 1_000_000
