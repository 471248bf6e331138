"""`wrap` without the SDKs: what it takes, what it leaves alone, and that it never raises.

tests/client/sdks of the repository wraps the SDKs themselves.
"""

import logging
import subprocess
import sys
from typing import Any

import pytest

from llmstatsd_client import Client, wrap
from llmstatsd_client.integrations import wrapping

ANSWER = {"model": "m-1", "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


class Sdk:
    """As the clients of OpenAI and Anthropic are made."""

    def __init__(self) -> None:
        self.answer: Any = ANSWER
        self.messages = Resource(self)

    def post(self, path: str, **options: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def copy(self) -> "Sdk":
        return type(self)()

    with_options = copy


class Resource:
    def __init__(self, client: Sdk) -> None:
        self._client = client
        self._post = client.post

    def create(self, model: str) -> Any:
        return self._post("/v1/messages?beta=true", body={"model": model})

    def count(self) -> Any:
        return self._post("/v1/messages/count_tokens", body={"model": "m"})


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Sdk:
    monkeypatch.setattr(Sdk, "__module__", "anthropic._client")
    return Sdk()


CALL = "llm_request_total:1|c|#model:m,operation:chat"


def test_the_object_itself_comes_back_and_its_calls_count(
    sdk: Sdk, strict: Client, receiver: Any
) -> None:
    assert wrap(sdk, strict) is sdk
    assert sdk.messages.create("m") is ANSWER
    lines = receiver.lines()
    assert lines[0] == CALL
    assert "llm_tokens_total:10|c|#model:m" in lines


def test_a_call_that_is_none_of_a_model_does_not_count(
    sdk: Sdk, strict: Client, receiver: Any
) -> None:
    wrap(sdk, strict).messages.count()
    assert (strict.stats().events, receiver.waiting()) == (0, [])


def test_an_exception_passes_on_unchanged_and_counts(
    sdk: Sdk, client: Client, receiver: Any
) -> None:
    sdk.answer = TimeoutError("slow")
    with pytest.raises(TimeoutError) as raised:
        wrap(sdk, client).messages.create("m")
    assert raised.value is sdk.answer
    assert "llm_error_total:1|c|#model:m,type:timeout" in receiver.lines()


def test_clones_count_and_other_objects_do_not(sdk: Sdk, strict: Client, receiver: Any) -> None:
    wrap(sdk, strict)
    sdk.copy().messages.create("m")
    sdk.with_options().copy().messages.create("m")
    Sdk().messages.create("m")
    assert len(receiver.waiting()) == strict.stats().events == 2


def test_wrapping_twice_counts_once(sdk: Sdk, strict: Client) -> None:
    wrap(wrap(sdk, strict), strict).messages.create("m")
    assert strict.stats().events == 1


@pytest.mark.parametrize("thing", [None, 1, "openai", object(), Sdk, wrapping], ids=repr)
def test_what_is_no_client_comes_back_as_it_is(
    thing: object, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "llmstatsd_client"):
        assert wrap(thing, client) is thing
    assert "nothing is counted: not a client of openai" in caplog.text


def test_a_strict_client_raises_for_it(strict: Client) -> None:
    with pytest.raises(TypeError, match="not a client of openai, anthropic or ollama"):
        wrap(object(), strict)


def test_without_a_client_the_default_one_reports(
    sdk: Sdk, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmstatsd_client._made", {})
    monkeypatch.setenv("LLMSTATSD_PORT", str(receiver.port))
    wrap(sdk).messages.create("m")
    assert receiver.lines()[0] == CALL


class Raw:
    """A raw response, read or not."""

    def __init__(self, *, is_read: bool, body: object = ANSWER) -> None:
        self.http_response = self
        self.is_stream_consumed = is_read
        self._body = body

    def json(self) -> object:
        if isinstance(self._body, Exception):
            raise self._body
        return self._body


@pytest.mark.parametrize(
    ("raw", "has_usage"),
    [
        (Raw(is_read=True), True),
        (Raw(is_read=False), False),
        (Raw(is_read=True, body=ValueError("no JSON")), False),
    ],
    ids=["read", "unread", "not JSON"],
)
def test_a_raw_response_tells_usage_once_it_is_read(
    sdk: Sdk, strict: Client, receiver: Any, raw: Raw, *, has_usage: bool
) -> None:
    sdk.answer = raw
    assert wrap(sdk, strict).messages.create("m") is raw
    assert ("llm_tokens_total:10|c|#model:m" in receiver.lines()) is has_usage


def test_importing_the_client_imports_no_sdk() -> None:
    names = ["openai", "anthropic", "ollama", "litellm", "langchain_core", "httpx", "asyncio"]
    program = f"import sys, llmstatsd_client; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
