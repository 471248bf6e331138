"""When the series are read for the page: once in each second, however a timer rounds."""

from types import SimpleNamespace
from typing import Any

import pytest

from llmstatsd.live import answers
from llmstatsd.series import lanes
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store


class Clock:
    """Goes on by 20 microseconds whenever it is read."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 20e-6
        return self.now


def test_no_second_is_left_out_where_timers_come_up_to_half_a_millisecond_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(answers, "time", SimpleNamespace(time=clock, monotonic=clock))
    telemetry: Any = SimpleNamespace(store=Store(Limits(), instruments=lanes.PORTABLE.instruments))
    config: Any = None
    one = answers.Answers(telemetry, config, lambda: True)
    monkeypatch.setattr(one, "_counted", answers._Counted)
    read: list[int] = []
    while len(read) < 500:
        before = one.history.tick
        list(one.sample())
        if one.history.tick != before:
            read.append(one.history.tick)
        clock.now += round(one.seconds_to_next(), 3)
    assert read == list(range(1, 501))


def test_a_history_that_begins_anew_leaves_what_was_restored_as_it_was() -> None:
    counted = [5]
    telemetry: Any = SimpleNamespace(
        store=Store(Limits(), instruments=lanes.PORTABLE.instruments),
        hot_path=SimpleNamespace(stats=None),
        datagrams=lambda _: counted[0],
    )
    config: Any = None
    one = answers.Answers(telemetry, config, lambda: True)
    one.start()
    counted[0] = 1_000_000
    one.begin_anew()
    assert one._restored_datagrams == 5
