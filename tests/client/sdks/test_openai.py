"""The official openai client, wrapped, against a local provider: the series of a live daemon."""

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import openai
import pytest

import llmstatsd_client
from llmstatsd_client import Client
from tests.client.sdks import counted
from tests.client.sdks.counted import ERRORS, TIMEOUT_SECONDS, answered, streamed
from tests.client.sdks.provider import Provider
from tests.conftest import DEADLINE_SECONDS, RunningDaemon

ASKED: Final[Any] = {"messages": [{"role": "user", "content": "Hello"}]}
WITH_USAGE: Final[Any] = {"stream": True, "stream_options": {"include_usage": True}}

BROKEN: Final = {"breaks": "connection", "error-event": "server_error"}


@pytest.fixture
def sdk(provider: Provider, metrics: Client) -> Iterator[openai.OpenAI]:
    address: Any = {"base_url": f"{provider.url}/v1", "api_key": "none"}
    with openai.OpenAI(**address, max_retries=0) as made:
        yield llmstatsd_client.wrap(made, metrics)


@pytest.fixture
async def async_sdk(provider: Provider, metrics: Client) -> AsyncIterator[openai.AsyncOpenAI]:
    address: Any = {"base_url": f"{provider.url}/v1", "api_key": "none"}
    async with openai.AsyncOpenAI(**address, max_retries=0) as made:
        yield llmstatsd_client.wrap(made, metrics)


@pytest.fixture
def settle(daemon: RunningDaemon, sdk: openai.OpenAI) -> Callable[[set[str]], None]:
    def marker() -> None:
        sdk.chat.completions.create(model="marker", **ASKED)

    return lambda expected: counted.settle(daemon, expected, marker)


@pytest.fixture
def async_settle(
    daemon: RunningDaemon, async_sdk: openai.AsyncOpenAI
) -> Callable[[set[str]], Awaitable[None]]:
    marker = functools.partial(async_sdk.chat.completions.create, model="marker", **ASKED)
    return lambda expected: counted.async_settle(daemon, expected, marker)


ANSWERS: Final[dict[str, Callable[[Any], Any]]] = {
    "chat": lambda sdk: sdk.chat.completions.create(model="plain", **ASKED),
    "chat, parsed": lambda sdk: sdk.chat.completions.parse(model="plain", **ASKED),
    "chat, raw": lambda sdk: sdk.chat.completions.with_raw_response.create(model="plain", **ASKED),
    "responses": lambda sdk: sdk.responses.create(model="plain", input="Hello"),
    "responses, parsed": lambda sdk: sdk.responses.parse(model="plain", input="Hello"),
    "of a clone": lambda sdk: sdk.with_options(timeout=9).responses.create(
        model="plain", input="Hello"
    ),
    "of a copy": lambda sdk: sdk.copy().responses.create(model="plain", input="Hello"),
}
each_answer = pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS)


@each_answer
def test_an_answer(sdk: openai.OpenAI, settle: Any, ask: Any) -> None:
    ask(sdk)
    settle(answered())


@each_answer
async def test_an_asynchronous_answer(
    async_sdk: openai.AsyncOpenAI, async_settle: Any, ask: Any
) -> None:
    await asyncio.gather(*(ask(async_sdk) for _ in range(3)))
    await async_settle(answered(times=3))


def test_completions_and_embeddings(sdk: openai.OpenAI, settle: Any) -> None:
    sdk.completions.create(model="old", prompt="Hello")
    sdk.embeddings.create(model="vectors", input="Hello")
    vectors = counted.request("vectors", operation="embeddings")
    tokens = counted.tokens("vectors", Provider.PROMPT_TOKENS, 0)
    settle(answered("old", operation="text_completion") | vectors | tokens)


def test_a_response_that_is_read_as_a_stream_of_bytes_has_no_usage(
    sdk: openai.OpenAI, settle: Any
) -> None:
    create = sdk.chat.completions.with_streaming_response.create
    with create(model="plain", **ASKED) as response:
        response.read()
    settle(counted.request("plain"))


STREAMS: Final[dict[str, Callable[[Any], Any]]] = {
    "chat": lambda sdk: sdk.chat.completions.create(model="plain", **ASKED, **WITH_USAGE),
    "responses": lambda sdk: sdk.responses.create(model="plain", input="Hello", stream=True),
}
each_stream = pytest.mark.parametrize("ask", STREAMS.values(), ids=STREAMS)


@each_stream
def test_a_stream(sdk: openai.OpenAI, settle: Any, ask: Any) -> None:
    stream = ask(sdk)
    assert isinstance(stream, openai.Stream)
    assert len(list(stream)) > 2
    settle(streamed())


@each_stream
async def test_an_asynchronous_stream(
    async_sdk: openai.AsyncOpenAI, async_settle: Any, ask: Any
) -> None:
    stream = await ask(async_sdk)
    assert isinstance(stream, openai.AsyncStream)
    assert len([chunk async for chunk in stream]) > 2
    await async_settle(streamed())


def test_the_sdks_helpers_of_streams(sdk: openai.OpenAI, settle: Any) -> None:
    options = WITH_USAGE["stream_options"]
    with sdk.chat.completions.stream(model="plain", **ASKED, stream_options=options) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == "Hello there"
    with sdk.responses.stream(model="responses", input="Hello") as events:
        events.until_done()
        assert events.get_final_response().output_text == "Hello there"
    settle(streamed() | streamed("responses"))


async def test_the_sdks_helper_of_asynchronous_streams(
    async_sdk: openai.AsyncOpenAI, async_settle: Any
) -> None:
    options = WITH_USAGE["stream_options"]
    asked = async_sdk.chat.completions.stream(model="plain", **ASKED, stream_options=options)
    async with asked as stream:
        await stream.until_done()
    await async_settle(streamed())


def test_errors(sdk: openai.OpenAI, settle: Any) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(openai.APIStatusError):
            sdk.chat.completions.create(model=model, **ASKED)
        expected |= counted.error(model, kind)
    settle(expected)


async def test_asynchronous_errors(async_sdk: openai.AsyncOpenAI, async_settle: Any) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(openai.APIStatusError):
            await async_sdk.chat.completions.create(model=model, **ASKED, **WITH_USAGE)
        expected |= counted.error(model, kind)
    await async_settle(expected)


def test_a_call_with_retries_counts_once(
    sdk: openai.OpenAI, settle: Any, provider: Provider
) -> None:
    with pytest.raises(openai.InternalServerError):
        sdk.with_options(max_retries=1).chat.completions.create(model="status-500", **ASKED)
    assert len(provider.requests) == 2
    settle(counted.error("status-500", "server_error"))


def test_a_timeout(sdk: openai.OpenAI, settle: Any) -> None:
    with pytest.raises(openai.APITimeoutError):
        sdk.chat.completions.create(model="silent", timeout=TIMEOUT_SECONDS, **ASKED)
    settle(counted.error("silent", "timeout"))


async def test_an_asynchronous_timeout(async_sdk: openai.AsyncOpenAI, async_settle: Any) -> None:
    with pytest.raises(openai.APITimeoutError):
        await async_sdk.chat.completions.create(model="silent", timeout=TIMEOUT_SECONDS, **ASKED)
    await async_settle(counted.error("silent", "timeout"))


def test_nobody_who_listens(settle: Any, metrics: Client) -> None:
    nobody = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        llmstatsd_client.wrap(nobody, metrics).responses.create(model="plain", input="Hello")
    settle(counted.error("plain", "connection"))


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
def test_a_stream_that_breaks(sdk: openai.OpenAI, settle: Any, model: str, kind: str) -> None:
    stream = sdk.chat.completions.create(model=model, **ASKED, **WITH_USAGE)
    with pytest.raises(Exception, match=r"closed|Connection error|had an error"):
        list(stream)
    settle(counted.error(model, kind) | counted.first_token(model))


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
async def test_an_asynchronous_stream_that_breaks(
    async_sdk: openai.AsyncOpenAI, async_settle: Any, model: str, kind: str
) -> None:
    stream = await async_sdk.chat.completions.create(model=model, **ASKED, **WITH_USAGE)
    with pytest.raises(Exception, match=r"closed|Connection error|had an error"):
        [chunk async for chunk in stream]
    await async_settle(counted.error(model, kind) | counted.first_token(model))


def test_an_event_that_says_that_the_response_failed(sdk: openai.OpenAI, settle: Any) -> None:
    events = list(sdk.responses.create(model="error-event", input="Hello", stream=True))
    assert events[-1].type == "error"
    settle(counted.error("error-event", "server_error") | counted.first_token("error-event"))


async def test_a_cancelled_call(
    async_sdk: openai.AsyncOpenAI, async_settle: Any, provider: Provider
) -> None:
    call = asyncio.create_task(async_sdk.chat.completions.create(model="silent", **ASKED))
    await counted.eventually(lambda: provider.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await async_settle(counted.error("silent", "cancelled"))


async def test_a_stream_that_is_cancelled(async_sdk: openai.AsyncOpenAI, async_settle: Any) -> None:
    has_begun = asyncio.Event()

    async def follow() -> None:
        asked: Any = {"model": "slow-stream", **ASKED, **WITH_USAGE}
        async for _ in await async_sdk.chat.completions.create(**asked):
            has_begun.set()

    task = asyncio.create_task(follow())
    await asyncio.wait_for(has_begun.wait(), DEADLINE_SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await async_settle(
        counted.error("slow-stream", "cancelled") | counted.first_token("slow-stream")
    )


def test_a_stream_that_is_closed_counts_once(sdk: openai.OpenAI, settle: Any) -> None:
    with sdk.chat.completions.create(model="slow-stream", **ASKED, **WITH_USAGE) as stream:
        next(stream)
    settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


async def test_an_asynchronous_stream_that_is_closed_counts_once(
    async_sdk: openai.AsyncOpenAI, async_settle: Any
) -> None:
    asked: Any = {"model": "slow-stream", **ASKED, **WITH_USAGE}
    async with await async_sdk.chat.completions.create(**asked) as stream:
        await anext(stream)
    await async_settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_stream_that_is_forgotten_counts_once(sdk: openai.OpenAI, settle: Any) -> None:
    def forget() -> None:
        stream = sdk.chat.completions.create(model="slow-stream", **ASKED, **WITH_USAGE)
        next(stream)

    forget()
    gc.collect()  # the SDK's stream and its iterator hold each other
    settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


def test_a_client_that_has_been_used_before_is_counted_from_then_on(
    provider: Provider, metrics: Client, settle: Any
) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as made:
        for _ in range(2):
            made.chat.completions.create(model="plain", **ASKED)
            made.beta.chat.completions.parse(model="plain", **ASKED)
            llmstatsd_client.wrap(made, metrics)
    settle(answered(times=2))


def test_other_clients_are_not_counted(provider: Provider, settle: Any) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as other:
        other.chat.completions.create(model="plain", **ASKED)
    settle(set())


def test_what_is_no_call_of_a_model_is_not_counted(sdk: openai.OpenAI, settle: Any) -> None:
    with contextlib.suppress(openai.APIError):
        sdk.models.list()
    settle(set())
