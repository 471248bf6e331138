"""What the demo sends, as data and as a pure generator: the same seed gives the same calls.

Nothing here sends, sleeps or reads a clock. A call's time is when it would be reported, in seconds
since the start, so a call of 30 s costs the demo nothing. Models, prices and speeds are made up
after public ones; only their order of magnitude matters.
"""

import math
from collections.abc import Iterator
from random import Random
from typing import Final

from msgspec import Struct

from llmstatsd_client import Event


class Model(Struct, frozen=True):
    """How one model is called and how it answers; all numbers but `share` are medians.

    `share` is its weight among the calls. Prices are dollars for a million tokens. A model with
    `cold_load_seconds` runs on a machine of one's own and has to be loaded into memory at times.
    """

    name: str
    operation: str
    share: float
    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float
    token_seconds: float
    prompt_price: float = 0.0
    completion_price: float = 0.0
    cold_load_seconds: float = 0.0


BUSY: Final = "gpt-4o"
"""The model that is rate limited in the burst."""

SPARE: Final = "gpt-4o-mini"
"""The model that steps in for one that gave no answer."""

FAILING: Final = "mistral-large"
"""The model that fails now and then, and more often than not in the outage."""

MODELS: Final = (
    Model(BUSY, "chat", 26, 900, 180, 0.45, 0.012, 2.5, 10.0),
    Model(SPARE, "chat", 22, 700, 120, 0.3, 0.007, 0.15, 0.6),
    Model("claude-sonnet", "chat", 16, 1800, 320, 0.8, 0.015, 3.0, 15.0),
    Model(FAILING, "chat", 8, 1100, 210, 0.6, 0.02, 2.0, 6.0),
    Model("text-embedding-3-small", "embeddings", 14, 350, 0, 0.09, 0.0, 0.02),
    Model("llama3.1:8b", "chat", 9, 500, 140, 0.2, 0.018, cold_load_seconds=5.0),
    Model("qwen2.5:32b", "generate", 5, 650, 220, 0.7, 0.045, cold_load_seconds=16.0),
)

_NAMED: Final = {model.name: model for model in MODELS}

SPREAD: Final = 0.5
"""Sigma of every lognormal: about two thirds lie between 0.6 and 1.65 times the median."""

CACHED_SHARE: Final = 0.3
"""Calls whose prompt came from a cache, and how much of it at most is CACHED_PART."""

CACHED_PART: Final = 0.8

WARM_LOAD_SECONDS: Final = 0.03
COLD_SHARE: Final = 0.04
"""Calls to a model of one's own that find it put out of memory by another."""

LOCAL_PROMPT_SHARE: Final = 0.85
"""Of the time to the first token, how much such a model spends on reading the prompt."""

EVERYDAY_ERROR_SHARE: Final = 0.012
EVERYDAY_ERRORS: Final = ("rate_limit", "overloaded", "context_length", "content_filter", "timeout")

FAILING_SHARE: Final = 0.06
OUTAGE_SHARE: Final = 0.7
OUTAGE_ERRORS: Final = ("timeout", "timeout", "server_error", "server_error", "connection")

BURST: Final = 3.0
"""How many times as many calls come in the burst."""

LIMITED_SHARE: Final = 0.45
"""Of the calls of BUSY in the burst, how many get a 429."""

STEPS_IN_SHARE: Final = 0.6
"""Of the calls without an answer, for how many SPARE steps in."""

ACCIDENT_SHARE: Final = 0.4
"""Of all calls in the accident, how many have a user id in the name of their model."""

USERS: Final = 100_000
HEAVY_USER: Final = 77_777
HEAVY_SHARE: Final = 0.3
"""Of those calls, once the budget of values is used up, how many are the heavy user's."""

REFUSED_SHARE: Final = 0.01
"""How many calls bring a line of an old client with them that nobody can read."""

REFUSED_LINE: Final = b"llm_tokens_total:1,024|c|#model:gpt-4o"

TIMEOUT_SECONDS: Final = 30.0
QUICK_FAILURE_SECONDS: Final = 0.12

STORY_SECONDS: Final = 120.0


class Act(Struct, frozen=True):
    """Something that happens; it begins and ends at a share of the story."""

    name: str
    begins: float
    ends: float
    says: str


ACTS: Final = (
    Act(
        "burst",
        0.12,
        0.3,
        f"a burst, three times the calls: {BUSY} answers 429, and {SPARE} steps in as a fallback",
    ),
    Act("outage", 0.38, 0.58, f"{FAILING} fails: timeouts, server errors, refused connections"),
    Act(
        "accident",
        0.64,
        0.86,
        "an accident: a user id in the name of the model; those over the limit fold into `other`",
    ),
)
"""In their order; between them all is calm, and after the last one the story begins again."""


class Call(Struct, frozen=True):
    """One finished call, as the client is told of it."""

    at_seconds: float
    event: Event


class Line(Struct, frozen=True):
    """A datagram that no client of ours would send."""

    at_seconds: float
    data: bytes


def act_at(seconds: float, story_seconds: float) -> Act | None:
    """What happens so many seconds after the start, None when all is calm."""
    share = seconds % story_seconds / story_seconds
    return next((act for act in ACTS if act.begins <= share < act.ends), None)


def traffic(seed: int, rate: float, story_seconds: float = STORY_SECONDS) -> Iterator[Call | Line]:
    """All calls in the order of their times, without an end.

    `rate` is their mean number per second out of the burst.
    """
    yield from _Traffic(seed, rate, story_seconds).run()


class _Traffic:
    def __init__(self, seed: int, rate: float, story_seconds: float) -> None:
        self._random = Random(seed)  # noqa: S311 - a play, no secret
        self._rate = rate
        self._story_seconds = story_seconds
        self._loaded: set[str] = set()  # models of one's own, as many as MODELS has

    def run(self) -> Iterator[Call | Line]:
        now = 0.0
        shares = [model.share for model in MODELS]
        while True:
            factor = BURST if self._act(now) == "burst" else 1.0
            now += self._random.expovariate(self._rate * factor)
            (model,) = self._random.choices(MODELS, shares)
            for event in self._call(model, self._act(now), now):
                yield Call(now, event)
            if self._happens(REFUSED_SHARE):
                yield Line(now, REFUSED_LINE)

    def _act(self, now: float) -> str:
        act = act_at(now, self._story_seconds)
        return "" if act is None else act.name

    def _call(self, model: Model, act: str, now: float) -> Iterator[Event]:
        """One call, and the one of the model that steps in where it failed."""
        error = self._error(model, act)
        if error is not None:
            yield self._failed(model, error)
            spare = _NAMED[SPARE]
            can_step_in = spare.operation == model.operation and spare != model
            if can_step_in and self._happens(STEPS_IN_SHARE):
                yield {**self._answered(spare), "fallback": True}
            return
        if act == "accident" and self._happens(ACCIDENT_SHARE):
            yield {**self._answered(_NAMED[BUSY]), "model": f"{BUSY}-user-{self._user(now):05d}"}
        else:
            yield self._answered(model)

    def _error(self, model: Model, act: str) -> str | None:
        if act == "burst" and model.name == BUSY and self._happens(LIMITED_SHARE):
            return "rate_limit"
        if model.name == FAILING:
            share = OUTAGE_SHARE if act == "outage" else FAILING_SHARE
            return self._random.choice(OUTAGE_ERRORS) if self._happens(share) else None
        if model.cold_load_seconds or not self._happens(EVERYDAY_ERROR_SHARE):
            return None
        return self._random.choice(EVERYDAY_ERRORS)

    def _failed(self, model: Model, error: str) -> Event:
        seconds = TIMEOUT_SECONDS if error == "timeout" else self._about(QUICK_FAILURE_SECONDS)
        return {
            "model": model.name,
            "operation": model.operation,
            "duration_seconds": seconds,
            "error": error,
        }

    def _answered(self, model: Model) -> Event:
        prompt = max(1, round(self._about(model.prompt_tokens)))
        completion = round(self._about(model.completion_tokens))
        first = self._about(model.first_token_seconds)
        rest = completion * self._about(model.token_seconds)
        load = self._load_seconds(model)
        event: Event = {
            "model": model.name,
            "operation": model.operation,
            "duration_seconds": load + first + rest,
            "prompt_tokens": prompt,
        }
        if completion:
            event["completion_tokens"] = completion
            event["time_to_first_token_seconds"] = load + first
            event["time_per_output_token_seconds"] = rest / completion
        if load:
            event["load_duration_seconds"] = load
            event["prompt_eval_duration_seconds"] = first * LOCAL_PROMPT_SHARE
            event["total_duration_seconds"] = load + first + rest
        else:
            event["cost_dollars"] = (
                prompt * model.prompt_price + completion * model.completion_price
            ) / 1e6
            if self._happens(CACHED_SHARE):
                event["cached_tokens"] = round(prompt * CACHED_PART * self._random.random())
        return event

    def _load_seconds(self, model: Model) -> float:
        if not model.cold_load_seconds:
            return 0.0
        is_cold = model.name not in self._loaded or self._happens(COLD_SHARE)
        self._loaded.add(model.name)
        return self._about(model.cold_load_seconds if is_cold else WARM_LOAD_SECONDS)

    def _user(self, now: float) -> int:
        """New users at first; in the second half of the accident one of them stands out."""
        accident = next(act for act in ACTS if act.name == "accident")
        share = now % self._story_seconds / self._story_seconds
        is_late = share > (accident.begins + accident.ends) / 2
        if is_late and self._happens(HEAVY_SHARE):
            return HEAVY_USER
        return self._random.randrange(USERS)

    def _about(self, middle: float) -> float:
        """A lognormal around a median."""
        return middle * math.exp(self._random.gauss(0.0, SPREAD))

    def _happens(self, share: float) -> bool:
        return self._random.random() < share
