"""The compiled lanes: threads that read without the GIL, and how one ends."""

import asyncio
import os
import socket
import threading
from collections.abc import Sequence
from typing import NoReturn

import pytest

from llmstatsd.intake import lanes as lanes_module
from llmstatsd.intake import sockets
from llmstatsd.intake.lanes import LaneFailedError
from llmstatsd.series import lanes
from llmstatsd.series.store import Store
from llmstatsd.wire import Dialect
from tests import twins

from . import DEADLINE_SECONDS, intake_of

pytestmark = pytest.mark.compiled


async def test_what_waits_when_a_lane_is_asked_to_stop_is_taken() -> None:
    taken: list[bytes] = []
    bound = sockets.bind("127.0.0.1", 0, 1 << 22)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(1500):
            sender.sendto(b"%d" % number, bound[0].address)
    intake = intake_of(twins.COMPILED, bound, taken.extend)
    await intake.start()
    await asyncio.wait_for(intake.stop(), DEADLINE_SECONDS)
    assert taken == [b"%d" % number for number in range(1500)]
    bound[0].close()


async def test_a_bug_in_one_lane_ends_all_and_is_the_cause_of_what_is_raised() -> None:
    def fail(_: Sequence[bytes]) -> NoReturn:
        raise ZeroDivisionError("a bug")

    bound = sockets.bind("127.0.0.1", 0, 1 << 18, 2)
    intake = intake_of(twins.COMPILED, bound, fail)
    await intake.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", bound[0].address)
    with pytest.raises(LaneFailedError) as caught:
        await asyncio.wait_for(intake.run(), DEADLINE_SECONDS)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    for each in bound:
        each.close()


async def test_lanes_add_up_to_exact_sums() -> None:
    twin = twins.twin(twins.COMPILED)
    store = Store(instruments=twin.instruments)
    hot_path = lanes.CompiledHotPath(store, Dialect(), 100, lanes=3)
    bound = sockets.bind("127.0.0.1", 0, 1 << 22, 3)
    from llmstatsd.intake.lanes import LaneIntake

    intake = LaneIntake(bound, hot_path.lanes)
    await intake.start()
    for number in range(300):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            lines = (b"jobs:%d|c" % number, b"wait:125|ms", b"depth:%d|g" % number)
            sender.sendto(b"\n".join(lines), bound[0].address)
    await asyncio.wait_for(intake.stop(), DEADLINE_SECONDS)
    [jobs] = store.families["jobs_total"].cells.values()
    [wait] = store.families["wait_seconds"].cells.values()
    assert jobs.value == sum(range(300))  # type: ignore[attr-defined]
    assert (sum(wait.counts), wait.sum) == (300, 300 / 8)  # type: ignore[attr-defined]
    stats = hot_path.stats
    assert (stats.datagrams, stats.lines, stats.accepted) == (300, 900, 900)
    assert sum(lane.stats.datagrams > 0 for lane in hot_path.lanes) > 1
    for each in bound:
        each.close()


def test_a_thread_gives_way_alone_and_with_what_it_starts() -> None:
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    seen: list[int] = []

    def give_way_and_start_another() -> None:
        lanes_module.give_way()
        seen.append(nice())
        other = threading.Thread(target=lambda: seen.append(nice()))
        other.start()
        other.join()

    before = nice()
    thread = threading.Thread(target=give_way_and_start_another)
    thread.start()
    thread.join()
    assert seen == [min(before + lanes_module.GIVEN_WAY_NICE, 19)] * 2
    assert nice() == before
