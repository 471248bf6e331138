"""Bounded, deterministic loads as LLM applications make them: datagrams, and what is in them.

`BEGINNING` lets every label set exist at 0 before a first scrape, so that no increase is hidden;
`healthy` and `outage` come after it, in this order.
"""

import json
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from llmstatsd.catalog import OTHER

CONFIG: Final = """
[limits]
label_values = 1
[pinned]
model = ["gpt-4o", "claude-sonnet-4", "mistral-large", "deepseek-r1", "llama3.1:8b"]
operation = ["chat", "generate", "embeddings"]
[gpu]
interval_seconds = 1
"""
"""Of the daemon; the one place for a model that is not pinned goes to `HOUSE_MODEL`."""

STEADY: Final = "gpt-4o"
RATE_LIMITED: Final = "claude-sonnet-4"
FAILING: Final = "mistral-large"
SLOW: Final = "deepseek-r1"
LOCAL: Final = "llama3.1:8b"
MODELS: Final = (STEADY, RATE_LIMITED, FAILING, SLOW, LOCAL)

HOUSE_MODEL: Final = "in-house-7b"
"""Not pinned, but the first of its kind; models that come after it are counted as `other`."""

DOLLARS_PER_TOKEN: Final = 1e-5
NANOSECONDS_PER_SECOND: Final = 10**9


class Call(NamedTuple):
    """One attempt to call a model; a failed one has no tokens.

    `duration_seconds` is None where the application counts its calls, and does not time them.
    """

    model: str
    operation: str
    duration_seconds: float | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    load_seconds: float | None = None
    error: str | None = None
    fallback: bool = False

    @property
    def tokens(self) -> int:
        """The provider's total."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def shown_model(self) -> str:
        """The model as the series show it."""
        return self.model if self.model in {*MODELS, HOUSE_MODEL} else OTHER


class Load(NamedTuple):
    """`others` are datagrams that change no total of the calls."""

    calls: list[Call]
    others: list[bytes]

    def datagrams(self) -> list[bytes]:
        """Calls in the forms that applications send them in, then the others."""
        forms = (_event, _lines)
        calls = [
            _chunk(call) if call.load_seconds is not None else forms[number % len(forms)](call)
            for number, call in enumerate(self.calls)
        ]
        return calls + self.others


def _event(call: Call) -> bytes:
    """The JSON event."""
    event: dict[str, object] = {"model": call.model, "operation": call.operation}
    if call.duration_seconds is not None:
        event["duration_seconds"] = call.duration_seconds
    if call.error:
        event["error"] = call.error
    if call.tokens:
        event |= {
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "cached_tokens": call.prompt_tokens // 2,
            "cost_dollars": call.tokens * DOLLARS_PER_TOKEN,
        }
    if call.duration_seconds is not None and call.completion_tokens:
        first = call.duration_seconds / 5
        rest = call.duration_seconds - first
        event["time_to_first_token_seconds"] = first
        event["time_per_output_token_seconds"] = rest / call.completion_tokens
    if call.fallback:
        event["fallback"] = True
    return json.dumps(event).encode()


def _lines(call: Call) -> bytes:
    """Lines of DogStatsD, with what the three documented series say of a rate limit."""
    model, tags = f"#model:{call.model}", f"#model:{call.model},operation:{call.operation}"
    lines = [f"llm_request_total:1|c|{tags}", f"llm_tokens_total:{call.tokens}|c|{model}"]
    if call.duration_seconds is not None:
        lines.append(f"llm_request_duration_seconds:{call.duration_seconds!r}|h|{tags}")
    if call.error:
        lines.append(f"llm_error_total:1|c|{model},type:{call.error}")
    if call.error == "rate_limit":
        lines.append(f"llm_rate_limit_exceeded_total:1|c|{model}")
    if call.fallback:
        lines.append("llm_fallback_total:1|c")
    return "\n".join(lines).encode()


def _chunk(call: Call) -> bytes:
    """The end of an answer of Ollama."""
    total, load = call.duration_seconds or 0.0, call.load_seconds or 0.0
    working = total - load
    chunk = {
        "model": call.model,
        "response": "",
        "done": True,
        "total_duration": round(total * NANOSECONDS_PER_SECOND),
        "load_duration": round(load * NANOSECONDS_PER_SECOND),
        "prompt_eval_count": call.prompt_tokens,
        "prompt_eval_duration": round(working / 5 * NANOSECONDS_PER_SECOND),
        "eval_count": call.completion_tokens,
        "eval_duration": round(working * 4 / 5 * NANOSECONDS_PER_SECOND),
    }
    return json.dumps(chunk).encode()


def _beginning() -> Iterator[bytes]:
    for model in (HOUSE_MODEL, "acme-ft-0"):
        yield f"llm_request_total:0|c|#model:{model},operation:chat".encode()
        yield f"llm_tokens_total:0|c|#model:{model}".encode()
    for model in MODELS:
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_dollars"):
            yield f"llm_{name}_total:0|c|#model:{model}".encode()


BEGINNING: Final = list(_beginning())


def healthy() -> Load:
    """550 calls, of which one in 50 fails and one in 40 is answered by a fallback."""
    chance = random.Random(1)
    calls = [
        _call(chance, model, "generate" if model == LOCAL else "chat", number)
        for number in range(100)
        for model in MODELS
    ]
    calls += [Call(STEADY, "embeddings", 0.06, 80) for _ in range(30)]
    calls += [Call(HOUSE_MODEL, "chat", None, 50, 50) for _ in range(20)]
    return Load(calls, list(_of_their_own()))


def _call(chance: random.Random, model: str, operation: str, number: int) -> Call:
    if number % 50 == 49:
        error = ("timeout", "rate_limit")[number // 50]
        return Call(model, operation, chance.uniform(0.1, 1), error=error)
    call = _answer(chance, model, operation)
    if model == LOCAL:
        return call._replace(load_seconds=0.5 if number == 0 else 0.02)
    return call._replace(fallback=number % 40 == 39)


def _answer(chance: random.Random, model: str, operation: str) -> Call:
    """Between 0.6 and 9 seconds, most of them below two."""
    duration_seconds = 0.6 + min(chance.lognormvariate(0, 0.6), 8.4)
    return Call(model, operation, duration_seconds, chance.randint(20, 900), chance.randint(1, 400))


def _of_their_own() -> Iterator[bytes]:
    """Series that the catalogue does not know, and what DogStatsD clients send beside samples."""
    for number in range(10):
        yield f"jobs.done:1|c|#queue:fast\njobs.waiting:{number}|g|#queue:fast".encode()
        yield f"retrieval.duration:{20 * number}|ms\nretrieval.documents:{number}|h".encode()
    yield b"_e{6,4}:deploy|done"
    yield b"_sc|app.up|0"
    yield b"llm_error_total:0|c|#model:in-house-7b,type:strange,tenant:acme"


def outage() -> Load:
    """683 calls: a model fails, one is slow, one is refused for its rate.

    A model server loads from a slow disk, fallbacks take over, one application sends a customer
    as the model, and one computes nonsense.
    """
    chance = random.Random(2)
    calls = [_answer(chance, STEADY, "chat") for _ in range(60)]
    calls += [Call(FAILING, "chat", 0.3, error="server_error") for _ in range(200)]
    calls += [_answer(chance, STEADY, "chat")._replace(fallback=True) for _ in range(140)]
    calls += [Call(RATE_LIMITED, "chat", 0.1, error="rate_limit") for _ in range(20)]
    calls += [Call(SLOW, "chat", chance.uniform(12, 40), 500, 300) for _ in range(60)]
    calls += [Call(SLOW, "chat", 600.5, error="timeout") for _ in range(3)]
    calls += [Call(f"acme-ft-{0 if number % 4 else number}", "chat", None) for number in range(200)]
    return Load(calls, [*_of_their_own(), *_loads(), *_nonsense()])


def _loads() -> Iterator[bytes]:
    for _ in range(10):
        yield f"llm_model_load_duration_seconds:65|h|#model:{LOCAL}".encode()


def _nonsense() -> Iterator[bytes]:
    for _ in range(60):
        yield b"llm_request_duration_seconds:nan|h|#model:gpt-4o,operation:chat"
    yield b'{"model": "gpt-4o", "duration": '
