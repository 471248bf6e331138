"""Tokens, durations, cost and model out of a response of any SDK, by the names of its parts.

A part is an attribute or an item, so objects, dicts and what lies between are the same. Nothing
that holds text is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from llmstatsd_client.event import Clean, read, read_count

_NANOSECONDS_PER_SECOND: Final = 1e9


def usage(response: object) -> Clean:
    """The fields of an event that a response, or one chunk of a stream, tells; raises nothing.

    Known are OpenAI's chat completions and responses, Anthropic's messages, Ollama's chat,
    generate and embed, LiteLLM's ModelResponse, LangChain's messages, google-genai's responses,
    their streamed chunks and events, the same as plain dicts, and a bare usage object.
    Anthropic has no total, and its input excludes the cache: prompt tokens are the input with
    cache reads and cache writes added, cached tokens are the cache reads.
    Ollama leaves out what is zero.
    """
    try:
        return _usage(response)
    except Exception:  # noqa: BLE001 attributes of a response may be properties that raise
        return {}


def _usage(response: object) -> Clean:
    fields: dict[str, object] = {}
    for holder in _holders(response):
        for found in (_tokens(holder), _ollama(holder), _model_and_cost(holder)):
            fields = {field: value for field, value in found if value is not None} | fields
    return read(fields.items())[0]


def _holders(response: object) -> Iterator[object]:
    """The response, and the one that a stream's event brings: OpenAI's, Anthropic's."""
    yield response
    for name in ("response", "message"):
        inner = part(response, name)
        # LangChain and OpenAI have texts and lists of these names.
        if inner is not None and not isinstance(inner, (str, bytes, list)):
            yield inner


def part(holder: object, name: str) -> Any:
    """An item or an attribute, or None; raises nothing."""
    try:
        if isinstance(holder, Mapping):
            return holder.get(name)
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 a property may raise anything
        return None


def _count(holder: object, name: str) -> int | None:
    try:
        return read_count(part(holder, name))
    except Exception:  # noqa: BLE001 a value may be an object that raises anything
        return None


def _counts(holder: object, *names: str) -> list[int | None]:
    return [_count(holder, name) for name in names]


def _tokens(holder: object) -> Iterator[tuple[str, object]]:
    for place in _places(holder):
        for shape in _SHAPES:
            prompt, completion, total, cached = shape(place)
            if prompt is not None or completion is not None or total is not None:
                yield "prompt_tokens", prompt
                yield "completion_tokens", completion
                yield "tokens", total
                yield "cached_tokens", cached
                return


def _places(holder: object) -> Iterator[object]:
    """Where tokens may be counted; each name that is not there costs a microsecond, so few."""
    for name in ("usage", "usage_metadata"):
        if (place := part(holder, name)) is not None:
            yield place
    if isinstance(holder, Mapping) or "usage" in type(holder).__name__.lower():
        yield holder


Tokens = tuple[int | None, int | None, int | None, int | None]
"""Prompt, completion, total and cached tokens."""


def _chat(used: object) -> Tokens:
    """OpenAI's chat completions and embeddings, LiteLLM, and most that speak like them."""
    prompt, completion = _counts(used, "prompt_tokens", "completion_tokens")
    if prompt is None and completion is None:
        return None, None, None, None
    cached = _count(part(used, "prompt_tokens_details"), "cached_tokens")
    return prompt, completion, _count(used, "total_tokens"), cached


def _responses(used: object) -> Tokens:
    """OpenAI's responses, LangChain's messages, and without a total Anthropic's messages."""
    prompt, completion, total = _counts(used, "input_tokens", "output_tokens", "total_tokens")
    if total is None:
        return _anthropic(used, prompt, completion)
    cached = _count(part(used, "input_tokens_details"), "cached_tokens")
    if cached is None:
        cached = _count(part(used, "input_token_details"), "cache_read")
    return prompt, completion, total, cached


def _anthropic(used: object, prompt: int | None, completion: int | None) -> Tokens:
    reads, writes = _counts(used, "cache_read_input_tokens", "cache_creation_input_tokens")
    if prompt is not None:
        prompt += (reads or 0) + (writes or 0)
    return prompt, completion, None, reads


def _gemini(used: object) -> Tokens:
    """google-genai; its total has the tokens of thoughts in it, so the completion has too."""
    prompt, total = _counts(used, "prompt_token_count", "total_token_count")
    parts = _counts(used, "candidates_token_count", "thoughts_token_count")
    known = [part for part in parts if part is not None]
    completion = sum(known) if known else None
    return prompt, completion, total, _count(used, "cached_content_token_count")


_SHAPES: Final[tuple[Callable[[object], Tokens], ...]] = (_chat, _responses, _gemini)


def _ollama(holder: object) -> Iterator[tuple[str, object]]:
    """Ollama's last chunk, durations in nanoseconds; a zero is a value that is not known."""
    total = _count(holder, "total_duration")
    if total is None:
        return
    prompt, completion = _counts(holder, "prompt_eval_count", "eval_count")
    yield "prompt_tokens", prompt or None
    yield "completion_tokens", completion or None
    yield "total_duration_seconds", _seconds(total)
    yield "load_duration_seconds", _seconds(_count(holder, "load_duration"))
    yield "prompt_eval_duration_seconds", _seconds(_count(holder, "prompt_eval_duration"))
    generating = _seconds(_count(holder, "eval_duration"))
    if generating and completion:
        yield "time_per_output_token_seconds", generating / completion


def _seconds(nanoseconds: int | None) -> float | None:
    return nanoseconds / _NANOSECONDS_PER_SECOND if nanoseconds else None


def _model_and_cost(holder: object) -> Iterator[tuple[str, object]]:
    yield "model", next(filter(None, _models(holder)), None)
    yield "cost_dollars", part(part(holder, "_hidden_params"), "response_cost")


def _models(holder: object) -> Iterator[str]:
    """A model's name as OpenAI, Anthropic, Ollama and LiteLLM, google-genai, LangChain have it."""
    for name in ("model", "model_version", "response_metadata"):
        found = part(holder, name)
        for each in (found, part(found, "model_name"), part(found, "model")):
            if isinstance(each, str):
                yield each
