"""Responses as the SDKs have them: objects, dicts, and both together."""

from types import SimpleNamespace
from typing import Any

import pytest

from llmstatsd_client import usage

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"message": {"role": "assistant", "content": "Hello"}}],
    "usage": {
        "prompt_tokens": 200,
        "completion_tokens": 30,
        "total_tokens": 230,
        "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 10},
    },
}
CHAT_FIELDS = {
    "model": "gpt-4o-2024-08-06",
    "prompt_tokens": 200,
    "completion_tokens": 30,
    "tokens": 230,
    "cached_tokens": 128,
}
RESPONSES = {
    "object": "response",
    "model": "gpt-4.1",
    "output": [],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 12},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 123,
    },
}
RESPONSES_FIELDS = {
    "model": "gpt-4.1",
    "prompt_tokens": 36,
    "completion_tokens": 87,
    "tokens": 123,
    "cached_tokens": 12,
}
ANTHROPIC = {
    "type": "message",
    "model": "claude-sonnet-4",
    "content": [{"type": "text", "text": "Hello"}],
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "output_tokens": 20,
    },
}
ANTHROPIC_FIELDS = {
    "model": "claude-sonnet-4",
    "prompt_tokens": 1110,
    "completion_tokens": 20,
    "cached_tokens": 1000,
}
OLLAMA = {
    "model": "llama3:8b",
    "message": {"role": "assistant", "content": "Hello"},
    "done": True,
    "total_duration": 5_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 100,
    "eval_duration": 4_000_000_000,
}
OLLAMA_FIELDS = {
    "model": "llama3:8b",
    "prompt_tokens": 26,
    "completion_tokens": 100,
    "total_duration_seconds": 5.0,
    "load_duration_seconds": 0.5,
    "prompt_eval_duration_seconds": 0.25,
    "time_per_output_token_seconds": 0.04,
}
GEMINI = {
    "model_version": "gemini-2.5-flash",
    "candidates": [],
    "usage_metadata": {
        "prompt_token_count": 50,
        "candidates_token_count": 20,
        "thoughts_token_count": 30,
        "cached_content_token_count": 5,
        "total_token_count": 100,
    },
}
GEMINI_FIELDS = {
    "model": "gemini-2.5-flash",
    "prompt_tokens": 50,
    "completion_tokens": 50,
    "tokens": 100,
    "cached_tokens": 5,
}
LANGCHAIN = {
    "content": "Hello",
    "response_metadata": {"model_name": "gpt-4o", "token_usage": {"prompt_tokens": 1}},
    "usage_metadata": {
        "input_tokens": 200,
        "output_tokens": 30,
        "total_tokens": 230,
        "input_token_details": {"cache_read": 128},
    },
}
LANGCHAIN_FIELDS = {**CHAT_FIELDS, "model": "gpt-4o"}

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a chat completion": (CHAT, CHAT_FIELDS),
    "a response": (RESPONSES, RESPONSES_FIELDS),
    "a message of Anthropic": (ANTHROPIC, ANTHROPIC_FIELDS),
    "a chat of Ollama": (OLLAMA, OLLAMA_FIELDS),
    "an answer of Ollama": (
        {**OLLAMA, "response": "Hello", "message": None},
        OLLAMA_FIELDS,
    ),
    "a response of Gemini": (GEMINI, GEMINI_FIELDS),
    "a message of LangChain": (LANGCHAIN, LANGCHAIN_FIELDS),
    "embeddings": (
        {"model": "text-embedding-3", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        {"model": "text-embedding-3", "prompt_tokens": 8, "tokens": 8},
    ),
    "embeddings of Ollama": (
        {"model": "nomic", "embeddings": [], "total_duration": 1e9, "prompt_eval_count": 4},
        {"model": "nomic", "prompt_tokens": 4, "total_duration_seconds": 1.0},
    ),
    "a chunk of Ollama": (
        {"model": "llama3:8b", "message": {"content": "He"}, "done": False},
        {"model": "llama3:8b"},
    ),
    "an event of responses": (
        {"type": "response.completed", "response": RESPONSES},
        RESPONSES_FIELDS,
    ),
    "the start of a message": (
        {"type": "message_start", "message": {**ANTHROPIC, "usage": {"input_tokens": 10}}},
        {"model": "claude-sonnet-4", "prompt_tokens": 10},
    ),
    "a delta of a message": (
        {
            "type": "message_delta",
            "usage": {"output_tokens": 15, "input_tokens": None, "cache_read_input_tokens": None},
        },
        {"completion_tokens": 15},
    ),
    "a chunk without usage": (
        {"object": "chat.completion.chunk", "model": "gpt-4o", "usage": None},
        {"model": "gpt-4o"},
    ),
    "no model": (
        {"usage": {"prompt_tokens": 1, "completion_tokens": 0}},
        {"prompt_tokens": 1, "completion_tokens": 0},
    ),
}


def as_object(value: Any) -> Any:
    """Mappings to objects, all the way down."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(each) for name, each in value.items()})
    return value


@pytest.mark.parametrize(("response", "fields"), SHAPES.values(), ids=SHAPES)
def test_a_dict_tells_its_usage(response: dict[str, Any], fields: dict[str, Any]) -> None:
    assert usage(response) == fields


@pytest.mark.parametrize(("response", "fields"), SHAPES.values(), ids=SHAPES)
def test_an_object_tells_the_same(response: dict[str, Any], fields: dict[str, Any]) -> None:
    assert usage(as_object(response)) == fields
    assert usage(SimpleNamespace(**response)) == fields


@pytest.mark.parametrize(
    ("bare", "fields"),
    [(CHAT["usage"], CHAT_FIELDS), (ANTHROPIC["usage"], ANTHROPIC_FIELDS)],
    ids=["a chat", "a message"],
)
def test_a_bare_usage_tells_itself(bare: dict[str, Any], fields: dict[str, Any]) -> None:
    class CompletionUsage(SimpleNamespace):
        pass

    expected = {name: value for name, value in fields.items() if name != "model"}
    assert usage(bare) == expected
    assert usage(CompletionUsage(**bare)) == expected


def test_litellm_tells_its_cost() -> None:
    response = as_object(CHAT)
    response._hidden_params = {"response_cost": 0.0123}
    assert usage(response) == {**CHAT_FIELDS, "cost_dollars": 0.0123}
    response._hidden_params = {"response_cost": None}
    assert usage(response) == CHAT_FIELDS


def test_litellm_has_the_cache_in_its_prompt_already() -> None:
    tokens = {**CHAT["usage"], "cache_read_input_tokens": 128, "cache_creation_input_tokens": 7}  # type: ignore[dict-item]
    assert usage({**CHAT, "usage": tokens}) == CHAT_FIELDS


def test_what_ollama_leaves_out_is_not_known() -> None:
    assert usage({"model": "m", "done": True, "total_duration": 10**9, "eval_count": 0}) == {
        "model": "m",
        "total_duration_seconds": 1.0,
    }


@pytest.mark.parametrize("value", [-1, 1.5, True, "5", float("nan"), [], 2**60], ids=repr)
def test_what_is_no_count_is_not_told(value: Any) -> None:
    tokens = {"prompt_tokens": value, "completion_tokens": 3, "total_tokens": value}
    assert usage({"usage": tokens}) == {"completion_tokens": 3}
    assert usage({"model": value if value != "5" else 5, "total_duration": value}) == {}


def test_text_is_never_read() -> None:
    class Answer:
        model = "m"
        usage = SimpleNamespace(prompt_tokens=1, completion_tokens=2)

        @property
        def choices(self) -> Any:
            pytest.fail("the text was read")

        content = output = output_text = text = choices

    assert usage(Answer()) == {"model": "m", "prompt_tokens": 1, "completion_tokens": 2}


def test_any_attribute_may_raise() -> None:
    class Evil:
        def __getattribute__(self, name: str) -> Any:
            raise ZeroDivisionError

    for response in (Evil(), {"usage": Evil(), "model": "m"}, SimpleNamespace(usage=Evil())):
        assert usage(response) in ({}, {"model": "m"})


@pytest.mark.parametrize("thing", [None, 5, "text", b"bytes", [], object(), len, type], ids=repr)
def test_a_thing_that_is_no_response_tells_nothing(thing: object) -> None:
    assert usage(thing) == {}
