"""The JSON event: one object per finished LLM call, and Ollama's final chunk as it is.

An event updates all its series or none. It has no field for prompt text: unknown fields are
noted and never kept. The last chunk of an Ollama answer (`"done": true`, durations in
nanoseconds, zero fields absent) is recognised without any change; its fields are documented in
Ollama's API reference.
"""

from collections.abc import Mapping, Set
from typing import Annotated, Final

import msgspec

from llmstatsd.catalog import ERROR_TYPES, OTHER
from llmstatsd.wire.number import MAGNITUDE_LIMIT
from llmstatsd.wire.reasons import (
    BAD_EVENT,
    EVENT_NOT_FINAL,
    UNKNOWN_ERROR_TYPE,
    UNKNOWN_EVENT_FIELD,
    Refusal,
)
from llmstatsd.wire.statsd import COUNTER, HISTOGRAM, Meaning, Reading, Tags, Value, with_notes

RATE_LIMIT: Final = "rate_limit"
NANOSECONDS_PER_SECOND: Final = 1e9

Amount = Annotated[float, msgspec.Meta(ge=0, le=MAGNITUDE_LIMIT)] | None
Text = Annotated[str, msgspec.Meta(min_length=1)] | None


class Event(msgspec.Struct, frozen=True):
    """One finished call attempt. Durations are seconds; absent and null mean not known."""

    model: str | None = None
    operation: str | None = None
    duration_seconds: Amount = None
    tokens: Amount = None
    prompt_tokens: Amount = None
    completion_tokens: Amount = None
    cached_tokens: Amount = None
    cost_dollars: Amount = None
    load_duration_seconds: Amount = None
    prompt_eval_duration_seconds: Amount = None
    total_duration_seconds: Amount = None
    time_to_first_token_seconds: Amount = None
    time_per_output_token_seconds: Amount = None
    error: Text = None
    rate_limited: bool | None = None
    fallback: bool | None = None


FIELDS: Final = frozenset(Event.__struct_fields__)
"""The names of the fields of a JSON event."""


class _OllamaChunk(msgspec.Struct, frozen=True):
    model: str
    done: bool
    total_duration: Amount = None
    load_duration: Amount = None
    prompt_eval_count: Amount = None
    prompt_eval_duration: Amount = None
    eval_count: Amount = None
    eval_duration: Amount = None


_OLLAMA_FIELDS: Final = frozenset(
    {"message", "response", *_OllamaChunk.__struct_fields__} - {"model", "done"}
)

KNOWN_FIELDS: Final = FIELDS | frozenset(_OllamaChunk.__struct_fields__)
"""The names of all fields that are read, of an event or of Ollama's chunk; none holds a prompt."""

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_event: Final = msgspec.json.Decoder(Event)
_ollama: Final = msgspec.json.Decoder(_OllamaChunk)

_BAD_JSON: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def read_event(text: bytes) -> list[Reading] | Refusal:
    """The readings of one JSON object, or why it is none: `bad_event`, `event_not_final`."""
    try:
        fields = _object.decode(text)
        names = {name for name, raw in fields.items() if bytes(raw) != b"null"}
        if _is_ollama(fields, names):
            return _from_ollama(_ollama.decode(text), _ollama_operation(fields.keys()))
        if not names & FIELDS:
            return Refusal(BAD_EVENT)
        return _from_event(_event.decode(text), has_unknown=bool(fields.keys() - FIELDS))
    except _BAD_JSON:
        return Refusal(BAD_EVENT)


def is_object(text: bytes) -> bool:
    """Whether `text` is one JSON object, whatever is in it."""
    try:
        _object.decode(text)
    except _BAD_JSON:
        return False
    return True


def _is_ollama(fields: Mapping[str, msgspec.Raw], names: Set[str]) -> bool:
    """An event of our own may have a field `done` too: then none of Ollama's is beside it."""
    if "model" not in names or bytes(fields.get("done", b"")) not in {b"true", b"false"}:
        return False
    return bool(names & _OLLAMA_FIELDS) or names.isdisjoint(FIELDS - {"model"})


def _ollama_operation(names: Set[str]) -> str | None:
    if "message" in names:
        return "chat"
    return "generate" if "response" in names else None


def _from_ollama(chunk: _OllamaChunk, operation: str | None) -> list[Reading] | Refusal:
    if not chunk.done:
        return Refusal(EVENT_NOT_FINAL)
    total = _seconds(chunk.total_duration)
    evaluation, count = _seconds(chunk.eval_duration), chunk.eval_count or None
    event = Event(
        model=chunk.model,
        operation=operation,
        duration_seconds=total,
        prompt_tokens=chunk.prompt_eval_count or None,
        completion_tokens=count,
        load_duration_seconds=_seconds(chunk.load_duration),
        prompt_eval_duration_seconds=_seconds(chunk.prompt_eval_duration),
        total_duration_seconds=total,
        time_per_output_token_seconds=evaluation / count if evaluation and count else None,
    )
    return _from_event(event, has_unknown=False)


def _seconds(nanoseconds: float | None) -> float | None:
    return nanoseconds / NANOSECONDS_PER_SECOND if nanoseconds else None


def _from_event(event: Event, *, has_unknown: bool) -> list[Reading]:
    model: Tags = () if not event.model else (("model", event.model),)
    call: Tags = model if not event.operation else (*model, ("operation", event.operation))
    error, notes = _error_type(event)
    if has_unknown:
        notes = (*notes, UNKNOWN_EVENT_FIELD)
    limited = bool(event.rate_limited) or error == RATE_LIMIT
    amounts: list[tuple[str, str, Tags, float | None]] = [
        ("llm_request_total", COUNTER, call, 1.0),
        ("llm_request_duration_seconds", HISTOGRAM, call, event.duration_seconds),
        ("llm_tokens_total", COUNTER, model, _total_tokens(event)),
        ("llm_prompt_tokens_total", COUNTER, model, event.prompt_tokens),
        ("llm_completion_tokens_total", COUNTER, model, event.completion_tokens),
        ("llm_cached_tokens_total", COUNTER, model, event.cached_tokens),
        ("llm_cost_dollars_total", COUNTER, model, event.cost_dollars),
        ("llm_model_load_duration_seconds", HISTOGRAM, model, event.load_duration_seconds),
        ("llm_prompt_eval_duration_seconds", HISTOGRAM, model, event.prompt_eval_duration_seconds),
        ("llm_total_duration_seconds", HISTOGRAM, model, event.total_duration_seconds),
        ("llm_time_to_first_token_seconds", HISTOGRAM, call, event.time_to_first_token_seconds),
        ("llm_time_per_output_token_seconds", HISTOGRAM, call, event.time_per_output_token_seconds),
        ("llm_error_total", COUNTER, (*model, ("type", error or "")), 1.0 if error else None),
        ("llm_rate_limit_exceeded_total", COUNTER, model, 1.0 if limited else None),
        ("llm_fallback_total", COUNTER, (), 1.0 if event.fallback else None),
    ]
    readings = [
        Reading(Meaning(name, kind, 1.0, tags, ()), [Value(amount, False)])
        for name, kind, tags, amount in amounts
        if amount is not None
    ]
    return with_notes(readings, notes)


def _error_type(event: Event) -> tuple[str | None, tuple[str, ...]]:
    if event.error is None:
        return (RATE_LIMIT if event.rate_limited else None), ()
    if event.error in ERROR_TYPES:
        return event.error, ()
    return OTHER, (UNKNOWN_ERROR_TYPE,)


def _total_tokens(event: Event) -> float | None:
    if event.tokens is not None:
        return event.tokens
    if event.prompt_tokens is None and event.completion_tokens is None:
        return None
    return (event.prompt_tokens or 0.0) + (event.completion_tokens or 0.0)
