"""The official anthropic client, wrapped, against a local provider: the series of a live daemon."""

import asyncio
import functools
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import anthropic
import pytest

import llmstatsd_client
from llmstatsd_client import Client
from tests.client.sdks import counted
from tests.client.sdks.counted import TIMEOUT_SECONDS, answered, streamed
from tests.client.sdks.provider import Provider
from tests.conftest import DEADLINE_SECONDS, RunningDaemon

ASKED: Final[Any] = {"max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}

ERRORS: Final = {
    "status-401": "auth",
    "status-404": "not_found",
    "status-429": "rate_limit",
    "too-long": "context_length",
    "status-500": "server_error",
    "status-503": "overloaded",
    "status-529": "overloaded",
}
BROKEN: Final = {"breaks": "connection", "error-event": "overloaded"}


@pytest.fixture
def sdk(provider: Provider, metrics: Client) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.url, api_key="none", max_retries=0) as made:
        yield llmstatsd_client.wrap(made, metrics)


@pytest.fixture
async def async_sdk(provider: Provider, metrics: Client) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=provider.url, api_key="none", max_retries=0
    ) as made:
        yield llmstatsd_client.wrap(made, metrics)


@pytest.fixture
def settle(daemon: RunningDaemon, sdk: anthropic.Anthropic) -> Callable[[set[str]], None]:
    def marker() -> None:
        sdk.messages.create(model="marker", **ASKED)

    return lambda expected: counted.settle(daemon, expected, marker)


@pytest.fixture
def async_settle(
    daemon: RunningDaemon, async_sdk: anthropic.AsyncAnthropic
) -> Callable[[set[str]], Awaitable[None]]:
    marker = functools.partial(async_sdk.messages.create, model="marker", **ASKED)
    return lambda expected: counted.async_settle(daemon, expected, marker)


def begun(model: str) -> set[str]:
    """What a stream tells by its first event: the prompt, and one token of the answer."""
    tokens = counted.tokens(model, Provider.PROMPT_TOKENS, 1, Provider.CACHED_TOKENS)
    return tokens | counted.first_token(model)


ANSWERS: Final[dict[str, Callable[[Any], Any]]] = {
    "messages": lambda sdk: sdk.messages.create(model="plain", **ASKED),
    "messages, raw": lambda sdk: sdk.messages.with_raw_response.create(model="plain", **ASKED),
    "messages, beta": lambda sdk: sdk.beta.messages.create(model="plain", **ASKED),
    "of a clone": lambda sdk: sdk.with_options(timeout=9).messages.create(model="plain", **ASKED),
}
each_answer = pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS)


@each_answer
def test_an_answer(sdk: anthropic.Anthropic, settle: Any, ask: Any) -> None:
    ask(sdk)
    settle(answered())


@each_answer
async def test_an_asynchronous_answer(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any, ask: Any
) -> None:
    await asyncio.gather(*(ask(async_sdk) for _ in range(3)))
    await async_settle(answered(times=3))


def test_a_stream(sdk: anthropic.Anthropic, settle: Any) -> None:
    stream = sdk.messages.create(model="plain", stream=True, **ASKED)
    assert isinstance(stream, anthropic.Stream)
    assert len(list(stream)) > 2
    settle(streamed())


async def test_an_asynchronous_stream(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any
) -> None:
    stream = await async_sdk.messages.create(model="plain", stream=True, **ASKED)
    assert len([event async for event in stream]) > 2
    await async_settle(streamed())


def test_the_sdks_helper_of_streams(sdk: anthropic.Anthropic, settle: Any) -> None:
    with sdk.messages.stream(model="plain", **ASKED) as stream:
        assert "".join(stream.text_stream) == "Hello there"
        assert stream.get_final_message().usage.output_tokens == Provider.COMPLETION_TOKENS
    settle(streamed())


async def test_the_sdks_helper_of_asynchronous_streams(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any
) -> None:
    async with async_sdk.messages.stream(model="plain", **ASKED) as stream:
        assert await stream.get_final_text() == "Hello there"
    await async_settle(streamed())


def test_errors(sdk: anthropic.Anthropic, settle: Any) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(anthropic.APIStatusError):
            sdk.messages.create(model=model, **ASKED)
        expected |= counted.error(model, kind)
    settle(expected)


async def test_asynchronous_errors_of_streams(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any
) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(anthropic.APIStatusError):
            await async_sdk.messages.create(model=model, stream=True, **ASKED)
        expected |= counted.error(model, kind)
    await async_settle(expected)


def test_a_call_with_retries_counts_once(
    sdk: anthropic.Anthropic, settle: Any, provider: Provider
) -> None:
    with pytest.raises(anthropic.InternalServerError):
        sdk.with_options(max_retries=1).messages.create(model="status-500", **ASKED)
    assert len(provider.requests) == 2
    settle(counted.error("status-500", "server_error"))


def test_a_timeout(sdk: anthropic.Anthropic, settle: Any) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        sdk.messages.create(model="silent", timeout=TIMEOUT_SECONDS, **ASKED)
    settle(counted.error("silent", "timeout"))


async def test_an_asynchronous_timeout(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any
) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        await async_sdk.messages.create(model="silent", timeout=TIMEOUT_SECONDS, **ASKED)
    await async_settle(counted.error("silent", "timeout"))


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
def test_a_stream_that_breaks(sdk: anthropic.Anthropic, settle: Any, model: str, kind: str) -> None:
    stream = sdk.messages.create(model=model, stream=True, **ASKED)
    with pytest.raises(Exception, match=r"closed|Overloaded"):
        list(stream)
    settle(counted.error(model, kind) | begun(model))


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
async def test_an_asynchronous_stream_that_breaks(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any, model: str, kind: str
) -> None:
    stream = await async_sdk.messages.create(model=model, stream=True, **ASKED)
    with pytest.raises(Exception, match=r"closed|Overloaded"):
        [event async for event in stream]
    await async_settle(counted.error(model, kind) | begun(model))


async def test_a_cancelled_call(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any, provider: Provider
) -> None:
    call = asyncio.create_task(async_sdk.messages.create(model="silent", **ASKED))
    await counted.eventually(lambda: provider.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await async_settle(counted.error("silent", "cancelled"))


async def test_a_stream_that_is_cancelled(
    async_sdk: anthropic.AsyncAnthropic, async_settle: Any
) -> None:
    has_begun = asyncio.Event()

    async def follow() -> None:
        async with async_sdk.messages.stream(model="slow-stream", **ASKED) as stream:
            async for _ in stream.text_stream:
                has_begun.set()

    task = asyncio.create_task(follow())
    await asyncio.wait_for(has_begun.wait(), DEADLINE_SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await async_settle(counted.error("slow-stream", "cancelled") | begun("slow-stream"))


def test_a_stream_that_is_closed_counts_once(sdk: anthropic.Anthropic, settle: Any) -> None:
    with sdk.messages.stream(model="slow-stream", **ASKED) as stream:
        next(iter(stream.text_stream))
    settle(counted.request("slow-stream") | begun("slow-stream"))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_stream_that_is_forgotten_counts_once(sdk: anthropic.Anthropic, settle: Any) -> None:
    def forget() -> None:
        for event in sdk.messages.create(model="slow-stream", stream=True, **ASKED):
            if event.type == "content_block_delta":
                break

    forget()
    gc.collect()  # the SDK's stream and its iterator hold each other
    settle(counted.request("slow-stream") | begun("slow-stream"))


def test_other_clients_are_not_counted(provider: Provider, settle: Any) -> None:
    with anthropic.Anthropic(base_url=provider.url, api_key="none") as other:
        other.messages.create(model="plain", **ASKED)
    settle(set())
