"""LangChain's own models, and OpenAI's for LangChain: the series of a live daemon."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import openai
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI

from llmstatsd_client import Client
from llmstatsd_client.integrations.langchain import Handler
from tests.client.sdks import counted
from tests.client.sdks.counted import ERRORS, TIMEOUT_SECONDS, answered
from tests.client.sdks.provider import Provider
from tests.conftest import RunningDaemon

Model = Callable[..., ChatOpenAI]
Config = RunnableConfig
Settle = Callable[[set[str]], None]
AsyncSettle = Callable[[set[str]], Awaitable[None]]

# The clients of both kinds that each model makes are left to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def config(metrics: Client) -> Config:
    """A run's settings with the handler in them."""
    return {"callbacks": [Handler(metrics)]}


@pytest.fixture
def model(provider: Provider) -> Model:
    """Makes one of the provider's models; none of them retries by itself."""
    address: dict[str, Any] = {
        "base_url": f"{provider.url}/v1",
        "api_key": "none",
        "max_retries": 0,
    }
    return lambda name, **more: ChatOpenAI(model=name, **address, **more)


@pytest.fixture
def settle(daemon: RunningDaemon, model: Model, config: Config) -> Settle:
    marker = functools.partial(model("marker").invoke, "Hello", config)
    return lambda expected: counted.settle(daemon, expected, marker)


@pytest.fixture
def async_settle(daemon: RunningDaemon, model: Model, config: Config) -> AsyncSettle:
    marker = functools.partial(model("marker").ainvoke, "Hello", config)
    return lambda expected: counted.async_settle(daemon, expected, marker)


STREAMED: Final = answered("plain") | counted.first_token("plain") | counted.per_token("plain")


def test_an_answer(model: Model, config: Config, settle: Settle) -> None:
    model("plain").invoke("Hello", config)
    settle(answered("plain"))


async def test_an_asynchronous_answer(
    model: Model, config: Config, async_settle: AsyncSettle
) -> None:
    await model("plain").ainvoke("Hello", config)
    await async_settle(answered("plain"))


def test_a_chain_counts_as_the_calls_in_it(model: Model, config: Config, settle: Settle) -> None:
    prompt = ChatPromptTemplate.from_template("Say {word}")
    chain = prompt | model("plain") | RunnableLambda(lambda message: message.content)
    chain.invoke({"word": "Hello"}, config)
    settle(answered("plain"))


def test_every_call_of_a_batch_counts(model: Model, config: Config, settle: Settle) -> None:
    model("plain").batch(["Hello"] * 4, config)
    settle(answered("plain", times=4))


@pytest.mark.filterwarnings("ignore:Unexpected type for token usage:UserWarning")
def test_every_prompt_of_a_generation_counts(model: Model, config: Config, settle: Settle) -> None:
    messages: list[list[BaseMessage]] = [[HumanMessage("Hello")], [HumanMessage("Goodbye")]]
    model("plain").generate(messages, callbacks=config["callbacks"])
    settle(answered("plain", times=2))


def test_a_stream(model: Model, config: Config, settle: Settle) -> None:
    for _ in model("plain", stream_usage=True).stream("Hello", config):
        pass
    settle(STREAMED)


async def test_an_asynchronous_stream(
    model: Model, config: Config, async_settle: AsyncSettle
) -> None:
    async for _ in model("plain", stream_usage=True).astream("Hello", config):
        pass
    await async_settle(STREAMED)


def test_a_stream_without_usage_has_no_tokens(model: Model, config: Config, settle: Settle) -> None:
    for _ in model("plain", stream_usage=False).stream("Hello", config):
        pass
    settle(counted.request("plain") | counted.first_token("plain"))


def test_errors(model: Model, config: Config, settle: Settle) -> None:
    expected = set()
    for name, kind in ERRORS.items():
        with pytest.raises(openai.APIStatusError):
            model(name).invoke("Hello", config)
        expected |= counted.error(name, kind)
    settle(expected)


async def test_asynchronous_errors(model: Model, config: Config, async_settle: AsyncSettle) -> None:
    expected = set()
    for name, kind in ERRORS.items():
        with pytest.raises(openai.APIStatusError):
            await model(name).ainvoke("Hello", config)
        expected |= counted.error(name, kind)
    await async_settle(expected)


def test_a_timeout(model: Model, config: Config, settle: Settle) -> None:
    with pytest.raises(openai.APITimeoutError):
        model("silent", timeout=TIMEOUT_SECONDS).invoke("Hello", config)
    settle(counted.error("silent", "timeout"))


async def test_an_asynchronous_timeout(
    model: Model, config: Config, async_settle: AsyncSettle
) -> None:
    with pytest.raises(openai.APITimeoutError):
        await model("silent", timeout=TIMEOUT_SECONDS).ainvoke("Hello", config)
    await async_settle(counted.error("silent", "timeout"))


BROKEN: Final = {"breaks": "connection", "error-event": "server_error"}


@pytest.mark.parametrize(("name", "kind"), BROKEN.items())
def test_a_stream_that_breaks(
    model: Model, config: Config, settle: Settle, name: str, kind: str
) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 the library's choice, not ours
        for _ in model(name).stream("Hello", config):
            pass
    settle(counted.error(name, kind) | counted.first_token(name))


@pytest.mark.parametrize(("name", "kind"), BROKEN.items())
async def test_an_asynchronous_stream_that_breaks(
    model: Model, config: Config, async_settle: AsyncSettle, name: str, kind: str
) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 the library's choice, not ours
        async for _ in model(name).astream("Hello", config):
            pass
    await async_settle(counted.error(name, kind) | counted.first_token(name))


def test_a_stream_that_is_left_is_a_success(model: Model, config: Config, settle: Settle) -> None:
    stream: Any = model("slow-stream").stream("Hello", config)
    with contextlib.closing(stream):
        next(stream)
    settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


async def test_an_asynchronous_stream_that_is_left_is_a_success(
    model: Model, config: Config, async_settle: AsyncSettle
) -> None:
    stream: Any = model("slow-stream").astream("Hello", config)
    async with contextlib.aclosing(stream):
        await anext(stream)
    await async_settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


async def test_a_cancelled_call_of_which_langchain_tells_nothing(
    model: Model, config: Config, provider: Provider, async_settle: AsyncSettle
) -> None:
    call = asyncio.create_task(model("silent").ainvoke("Hello", config))
    await counted.eventually(lambda: provider.requests)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert call.cancelled()
    del call
    await async_settle(counted.error("silent", "cancelled"))


async def test_a_cancelled_stream(model: Model, config: Config, async_settle: AsyncSettle) -> None:
    came = asyncio.Event()

    async def read() -> None:
        async for _ in model("slow-stream").astream("Hello", config):
            came.set()

    call = asyncio.create_task(read())
    await asyncio.wait_for(came.wait(), 30)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert call.cancelled()
    name = "slow-stream"
    await async_settle(counted.error(name, "cancelled") | counted.first_token(name))


def test_every_try_of_with_retry_counts(model: Model, config: Config, settle: Settle) -> None:
    again = model("status-429").with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    with pytest.raises(openai.RateLimitError):
        again.invoke("Hello", config)
    settle(counted.error("status-429", "rate_limit", times=2))


def test_with_fallbacks_counts_both_calls_and_no_fallback(
    model: Model, config: Config, settle: Settle
) -> None:
    model("status-500").with_fallbacks([model("plain")]).invoke("Hello", config)
    settle(counted.error("status-500", "server_error") | answered("plain"))


@pytest.fixture
def cache() -> Iterator[None]:
    """LangChain's cache in memory, during the test."""
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("cache")
def test_an_answer_of_the_cache_is_not_counted(
    model: Model, config: Config, provider: Provider, settle: Settle
) -> None:
    for _ in range(2):
        model("plain").invoke("Hello", config)
    assert len(provider.requests) == 1
    settle(answered("plain"))


def named(config: Config, name: str) -> Config:
    return {**config, "metadata": {"ls_model_name": name}}


def test_langchains_own_chat_model(config: Config, settle: Settle) -> None:
    fake = FakeListChatModel(responses=["Hello"])
    fake.invoke("Hello", named(config, "fake"))
    for _ in fake.stream("Hello", named(config, "streamed")):
        pass
    settle(counted.request("fake") | counted.request("streamed") | counted.first_token("streamed"))


def test_a_chat_model_that_nobody_named_is_unknown(config: Config, settle: Settle) -> None:
    FakeListChatModel(responses=["Hello"]).invoke("Hello", config)
    settle(counted.request("unknown"))


def test_langchains_own_error_in_a_stream(config: Config, settle: Settle) -> None:
    fake = FakeListChatModel(responses=["Hello"], error_on_chunk_number=2)
    with pytest.raises(Exception):  # noqa: B017, PT011 LangChain's own
        list(fake.stream("Hello", named(config, "fake")))
    settle(counted.error("fake", "other") | counted.first_token("fake"))


async def test_langchains_own_model_of_text(config: Config, async_settle: AsyncSettle) -> None:
    fake = FakeListLLM(responses=["Hello"])
    await fake.ainvoke("Hello", named(config, "fake"))
    await async_settle(counted.request("fake", operation="text_completion"))
