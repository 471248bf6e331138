"""The ring: what is kept of the documented series, in both twins."""

import math
import tracemalloc

import pytest

from llmstatsd.live import history
from llmstatsd.live.history import HOUR_TICKS, MINUTES_TICKS, MODELS_LIMIT, History, quantile
from llmstatsd.series import lanes
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.wire.statsd import Dialect
from tests import twins


@pytest.fixture(params=twins.BOTH)
def twin(request: pytest.FixtureRequest) -> lanes.Twin:
    return twins.twin(request.param)


class Fed:
    """A store that is fed, and its history; each `tick` reads it for the next second."""

    def __init__(self, twin: lanes.Twin) -> None:
        self.twin = twin
        self.renew()
        self.begin()

    def begin(self) -> None:
        self.history = History(self.store)
        list(self.history.take_over(self.store))

    def renew(self) -> None:
        self.store = Store(Limits(), instruments=self.twin.instruments)
        self.hot_path = self.twin.hot_path(self.store, Dialect(), 1000)

    def feed(self, *lines: str) -> None:
        self.hot_path.feed("\n".join(lines).encode())

    def tick(self, seconds: int = 1) -> None:
        list(self.history.sample(self.store, self.history.tick + seconds))


@pytest.fixture
def one(twin: lanes.Twin) -> Fed:
    return Fed(twin)


CALL = (
    "llm_request_total:1|c|#model:a,operation:chat",
    "llm_request_duration_seconds:1500|ms|#model:a,operation:chat",
    "llm_tokens_total:40|c|#model:a",
)


def test_what_came_is_kept_by_model_and_together(one: Fed) -> None:
    one.feed(*CALL, "llm_request_total:2|c|#model:b,operation:chat")
    one.feed("llm_error_total:1|c|#model:b,type:timeout", "llm_fallback_total:3|c")
    one.feed("llm_rate_limit_exceeded_total:5|c|#model:b")
    one.tick()
    both, a, b = (
        one.history.all.minutes.total(),
        *(one.history.models[model].minutes.total() for model in "ab"),
    )
    assert (both.requests, a.requests, b.requests) == (3, 1, 2)
    assert (both.tokens, a.tokens, b.tokens) == (40, 40, 0)
    assert b.errors == both.errors == {"timeout": 1}
    assert (b.failed, a.failed) == (1, 0)
    assert (b.rate_limited, both.fallbacks, one.history.rest.minutes.total().fallbacks) == (5, 3, 3)
    assert a.duration_sum == pytest.approx(1.5)
    assert [at for at, count in enumerate(a.counts) if count] == [one.history.bounds.index(2.0)]


def test_all_and_each_agree_at_every_step(one: Fed) -> None:
    for number in range(5):
        one.feed(
            *(f"llm_request_total:1|c|#model:m{at},operation:chat" for at in range(number + 2))
        )
        for _ in one.history.sample(one.store, one.history.tick + 1):
            each = [track.minutes.total().requests for track in one.history.models.values()]
            assert sum(each) == one.history.all.minutes.total().requests
    assert one.history.all.minutes.total().requests == 20


def test_only_growth_counts_and_nothing_twice(one: Fed) -> None:
    for _ in range(5):
        one.feed(*CALL)
        one.tick()
        one.tick()
    flow = one.history.models["a"].minutes.total()
    assert (flow.requests, sum(flow.counts), flow.tokens) == (5, 5, 200)
    points = one.history.models["a"].minutes.since(0)
    assert [tick for tick, _ in points] == [1, 3, 5, 7, 9]
    assert {point.requests for _, point in points} == {1}


def test_what_the_store_held_before_is_nothing_new(one: Fed) -> None:
    one.feed(*CALL)
    one.begin()
    one.feed(*CALL)
    one.tick()
    assert one.history.all.minutes.total().requests == 1


def test_five_minutes_and_an_hour_later_it_is_gone(one: Fed) -> None:
    one.feed(*CALL)
    one.tick()
    one.tick(MINUTES_TICKS - 1)
    assert one.history.all.minutes.total().requests == 1
    one.tick()
    minutes, hour = one.history.all.minutes, one.history.all.hour
    assert (minutes.total().requests, hour.total().requests) == (0, 1)
    assert set(minutes.total().counts) == {0}
    one.tick(HOUR_TICKS * history.LONG_TICK_SECONDS)
    assert hour.total().requests == 0
    assert one.history.models == {}


def test_durations_of_zero_are_seen_within_ten_seconds(one: Fed) -> None:
    zero = "llm_request_duration_seconds:0|ms|#model:a,operation:chat"
    one.feed(zero)
    one.tick()
    one.feed(zero)
    for _ in range(history.LONG_TICK_SECONDS):
        one.tick()
    assert sum(one.history.all.minutes.total().counts) == 2


def test_another_store_goes_on_without_a_jump(one: Fed) -> None:
    one.feed(*CALL)
    one.tick()
    one.renew()
    one.feed(*CALL * 7)  # what a reload carried over
    assert one.history.follows(one.store)
    one.tick()
    one.feed(*CALL)
    one.tick()
    assert one.history.all.minutes.total().requests == 2


def test_a_label_set_that_left_and_came_back_counts_from_zero(one: Fed) -> None:
    one.feed(*CALL * 3)
    one.tick()
    for now in (1e6, 2e6, 3e6):
        list(one.hot_path.expire(now))
    assert not one.store.families["llm_request_total"].cells
    one.feed(*CALL)
    one.tick()
    flow = one.history.all.minutes.total()
    assert (flow.requests, sum(flow.counts)) == (4, 4)


def test_models_over_the_limit_are_the_rest_until_there_is_a_place(one: Fed) -> None:
    line = "llm_request_total:1|c|#model:m{},operation:chat"
    one.feed(*[line.format(number) for number in range(MODELS_LIMIT + 3)])
    one.tick()
    assert len(one.history.models) == MODELS_LIMIT
    assert one.history.rest.minutes.total().requests == 3
    assert one.history.all.minutes.total().requests == MODELS_LIMIT + 3
    one.tick(3600 + history.LONG_TICK_SECONDS)
    one.feed("llm_request_total:1|c|#model:late,operation:chat")
    one.tick()
    assert list(one.history.models) == ["late"]


def test_a_quiet_model_of_few_requests_gives_its_place_to_a_new_one(one: Fed) -> None:
    line = "llm_request_total:{}|c|#model:{},operation:chat"
    one.feed(*[line.format(9, f"m{number}") for number in range(MODELS_LIMIT - 1)])
    one.feed(line.format(1, "few"), line.format(2, "over"))
    one.tick()
    one.feed(line.format(4, "early"))
    one.tick()
    assert "early" not in one.history.models
    one.tick(MINUTES_TICKS)
    one.feed(line.format(5, "late"), line.format(5, "later"))
    one.tick()
    assert "few" not in one.history.models
    assert len({"late", "later"} & one.history.models.keys()) == 1  # one in a second
    one.feed(line.format(1, "late"), line.format(1, "later"))
    one.tick()
    assert {"late", "later"} < one.history.models.keys()
    rest, hour = one.history.rest.hour, one.history.all.hour
    assert rest.total().requests == 1 + 2 + 4 + 5 + 9
    assert [flow.requests for _, flow in rest.since(0)] == [16, 5]
    assert hour.total().requests == rest.total().requests + sum(
        track.hour.total().requests for track in one.history.models.values()
    )
    one.tick(3600 + history.LONG_TICK_SECONDS)
    assert rest.total().requests == 0


def test_numbers_beyond_all_measure_spoil_nothing_that_stands_beside_them(one: Fed) -> None:
    one.feed(*CALL)
    one.tick()
    for number in ("1e20", "1e39", "1e280", "1e280"):
        one.feed(
            f"llm_tokens_total:{number}|c|#model:x", *["llm_tokens_total:1e280|c|#model:x"] * 9
        )
        one.feed("llm_tokens_total:5|c|#model:a", "llm_request_duration:1e280|s|#model:x")
        one.tick()
    total = one.history.all.minutes.total()
    assert math.isfinite(total.tokens)
    assert total.requests == 1
    assert one.history.models["a"].minutes.total().tokens == 60
    one.tick(MINUTES_TICKS)
    one.feed("llm_tokens_total:7|c|#model:a")
    one.tick()
    assert one.history.all.minutes.total().tokens == 7
    assert one.history.all.hour.total().requests == 1


def test_many_label_sets_are_read_over_several_seconds(
    one: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "CELLS_PER_READING", 10)
    for number in range(25):
        one.feed(f"llm_request_total:1|c|#model:a,operation:o{number}")
    for _ in range(20):
        one.tick()
    assert one.history.all.minutes.total().requests == 25


@pytest.mark.parametrize("more", [0, 1])
def test_cells_no_more_than_are_read_at_once_are_read_in_every_second(
    one: Fed, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    one.feed(*CALL)
    held = sum(len(one.store.families[name].cells) for name in history._READ)
    monkeypatch.setattr(history, "CELLS_PER_READING", held + more)
    one.tick()
    for second in range(6):
        one.feed(*CALL)
        one.tick()
        assert one.history.all.minutes.total().requests == second + 2


def test_another_store_is_taken_over_in_steps(one: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STEP_CELLS", 10)
    one.renew()
    one.feed(*(f"llm_tokens_total:1|c|#model:{number}" for number in range(90)))
    assert sum(1 for _ in one.history.sample(one.store, 1)) > 18  # to take over, and to read
    assert one.history.all.minutes.total().tokens == 0
    given_up = one.history.take_over(one.store)
    next(given_up)  # and left alone: the next sample takes it over whole
    one.tick()
    assert one.history.all.minutes.total().tokens == 0
    one.feed("llm_tokens_total:2|c|#model:1")
    one.tick()
    assert one.history.all.minutes.total().tokens == 2


def test_sampled_lines_leave_nothing_behind(one: Fed) -> None:
    for number in range(3 * history.LONG_TICK_SECONDS):
        one.feed("llm_request_total:1|c|@0.3|#model:a,operation:chat", *CALL)
        one.tick()
        if not number:
            one.tick(2)
    one.tick(HOUR_TICKS * history.LONG_TICK_SECONDS - history.LONG_TICK_SECONDS)
    last = one.history.all.hour.since(0)
    total = one.history.all.hour.total()
    assert last
    assert total.requests == sum(flow.requests for _, flow in last)
    assert total.tokens == sum(flow.tokens for _, flow in last)


@pytest.mark.memory
def test_memory_is_bounded(one: Fed) -> None:
    """A busy hour of every model, in the smallest number of readings that fill each tick."""
    line = "llm_request_total:1|c|#model:m{0},operation:o\nllm_tokens_total:7|c|#model:m{0}"
    lines = [line.format(number) for number in range(MODELS_LIMIT)]
    one.feed(*lines)
    one.tick()
    tracemalloc.start()
    try:
        for tick in range(2, 3600):
            if tick > 3300 or tick % history.LONG_TICK_SECONDS == 0:
                one.feed(*lines)
                list(one.history.sample(one.store, tick))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    parts = (MODELS_LIMIT + 1) * (MINUTES_TICKS + HOUR_TICKS)
    assert parts * 200 < size < parts * 400


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, (0, 0, 0), None),
        (0.5, (2, 0, 0), 0.5),
        (0.5, (1, 1, 0), 1.0),
        (0.75, (1, 1, 0), 1.5),
        (0.99, (0, 0, 4), 2.0),
        (0.0, (1, 1, 1), 0.0),
        (1.0, (1, 1, 0), 2.0),
    ],
)
def test_quantiles_are_those_of_prometheus(
    share: float, counts: tuple[float, ...], expected: float | None
) -> None:
    assert quantile(share, (1.0, 2.0), counts) == expected
