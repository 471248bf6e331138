"""The official ollama client, wrapped, against a local provider: the series of a live daemon."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import httpx
import ollama
import pytest

import llmstatsd_client
from llmstatsd_client import Client
from tests.client.sdks import counted
from tests.client.sdks.counted import TIMEOUT_SECONDS
from tests.client.sdks.provider import Provider
from tests.conftest import RunningDaemon

ASKED: Final[Any] = {"messages": [{"role": "user", "content": "Hello"}]}
ERRORS: Final = {
    "status-401": "auth",
    "status-404": "not_found",
    "status-429": "rate_limit",
    "status-500": "server_error",
    "status-503": "overloaded",
}
BROKEN: Final = {"breaks": "connection", "error-event": "server_error"}
BREAKING: Final = (ollama.ResponseError, httpx.RemoteProtocolError)


@pytest.fixture
def sdk(provider: Provider, metrics: Client) -> Iterator[ollama.Client]:
    with ollama.Client(host=provider.url) as made:
        yield llmstatsd_client.wrap(made, metrics)


@pytest.fixture
async def async_sdk(provider: Provider, metrics: Client) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(host=provider.url) as made:
        yield llmstatsd_client.wrap(made, metrics)


@pytest.fixture
def settle(daemon: RunningDaemon, sdk: ollama.Client) -> Callable[[set[str]], None]:
    def marker() -> None:
        sdk.chat("marker", **ASKED)

    return lambda expected: counted.settle(daemon, expected, marker)


@pytest.fixture
def async_settle(
    daemon: RunningDaemon, async_sdk: ollama.AsyncClient
) -> Callable[[set[str]], Awaitable[None]]:
    marker = functools.partial(async_sdk.chat, "marker", **ASKED)
    return lambda expected: counted.async_settle(daemon, expected, marker)


def answered(model: str = "plain", *, operation: str = "chat", times: int = 1) -> set[str]:
    tokens = counted.tokens(
        model, times * Provider.PROMPT_TOKENS, times * Provider.COMPLETION_TOKENS
    )
    own = counted.request(model, operation=operation, times=times) | tokens
    if model == "marker":
        return own
    per_token = f'{{model="{model}",operation="{operation}"}} {times}'
    return own | told(model, times=times) | {f"llm_time_per_output_token_seconds_count{per_token}"}


def told(model: str, *, times: int = 1) -> set[str]:
    """The durations that Ollama itself tells."""
    names = ("model_load", "prompt_eval", "total")
    labels = f'{{model="{model}"}} {times}'
    return {f"llm_{name}_duration_seconds_count{labels}" for name in names}


def streamed(model: str = "plain") -> set[str]:
    return answered(model) | counted.first_token(model)


def test_answers(sdk: ollama.Client, settle: Any) -> None:
    assert sdk.chat(model="plain", **ASKED).message.content == "Hello there"
    sdk.generate("completes", "Hello")
    settle(answered() | answered("completes", operation="generate"))


async def test_asynchronous_answers(async_sdk: ollama.AsyncClient, async_settle: Any) -> None:
    await asyncio.gather(*(async_sdk.chat("plain", **ASKED) for _ in range(3)))
    await async_settle(answered(times=3))


def test_embeddings(sdk: ollama.Client, settle: Any) -> None:
    sdk.embed("vectors", "Hello")
    labels = '{model="vectors"} 1'
    durations = {f"llm_{name}_duration_seconds_count{labels}" for name in ("model_load", "total")}
    own = counted.request("vectors", operation="embeddings")
    settle(own | durations | counted.tokens("vectors", Provider.PROMPT_TOKENS, 0))


def test_a_stream(sdk: ollama.Client, settle: Any) -> None:
    assert len(list(sdk.chat("plain", stream=True, **ASKED))) == 3
    settle(streamed())


async def test_an_asynchronous_stream(async_sdk: ollama.AsyncClient, async_settle: Any) -> None:
    stream = await async_sdk.chat("plain", stream=True, **ASKED)
    assert len([chunk async for chunk in stream]) == 3
    await async_settle(streamed())


def test_errors(sdk: ollama.Client, settle: Any) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(ollama.ResponseError):
            sdk.chat(model, **ASKED)
        expected |= counted.error(model, kind)
    settle(expected)


async def test_asynchronous_errors_of_streams(
    async_sdk: ollama.AsyncClient, async_settle: Any
) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(ollama.ResponseError):
            [chunk async for chunk in await async_sdk.chat(model, stream=True, **ASKED)]
        expected |= counted.error(model, kind)
    await async_settle(expected)


def test_a_timeout(provider: Provider, metrics: Client, settle: Any) -> None:
    impatient = ollama.Client(host=provider.url, timeout=TIMEOUT_SECONDS)
    with impatient, pytest.raises(httpx.ReadTimeout):
        llmstatsd_client.wrap(impatient, metrics).chat("silent", **ASKED)
    settle(counted.error("silent", "timeout"))


def test_nobody_who_listens(metrics: Client, settle: Any) -> None:
    nobody = llmstatsd_client.wrap(ollama.Client(host="http://127.0.0.1:9"), metrics)
    with nobody, pytest.raises(ConnectionError):
        nobody.chat("plain", **ASKED)
    settle(counted.error("plain", "connection"))


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
def test_a_stream_that_breaks(sdk: ollama.Client, settle: Any, model: str, kind: str) -> None:
    with pytest.raises(BREAKING):
        list(sdk.generate(model, "Hello", stream=True))
    first = next(iter(counted.first_token(model))).replace('"chat"', '"generate"')
    settle(counted.error(model, kind, operation="generate") | {first})


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
async def test_an_asynchronous_stream_that_breaks(
    async_sdk: ollama.AsyncClient, async_settle: Any, model: str, kind: str
) -> None:
    with pytest.raises(BREAKING):
        [chunk async for chunk in await async_sdk.chat(model, stream=True, **ASKED)]
    await async_settle(counted.error(model, kind) | counted.first_token(model))


async def test_a_cancelled_call(
    async_sdk: ollama.AsyncClient, async_settle: Any, provider: Provider
) -> None:
    call = asyncio.create_task(async_sdk.chat("silent", **ASKED))
    await counted.eventually(lambda: provider.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await async_settle(counted.error("silent", "cancelled"))


def test_a_stream_that_is_closed_counts_once(sdk: ollama.Client, settle: Any) -> None:
    stream: Any = sdk.chat("slow-stream", stream=True, **ASKED)
    next(stream)
    stream.close()
    settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


def test_a_stream_that_is_forgotten_counts_once(sdk: ollama.Client, settle: Any) -> None:
    next(iter(sdk.chat("slow-stream", stream=True, **ASKED)))
    settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


def test_a_stream_that_nobody_reads_is_cancelled(sdk: ollama.Client, settle: Any) -> None:
    sdk.chat("plain", stream=True, **ASKED)
    settle(counted.error("plain", "cancelled"))


def test_other_clients_are_not_counted(provider: Provider, metrics: Client, settle: Any) -> None:
    with ollama.Client(host=provider.url) as other:
        other.chat("plain", **ASKED)
    settle(set())


def test_the_module_is_no_client(metrics: Client) -> None:
    with pytest.raises(TypeError, match="not a client"):
        llmstatsd_client.wrap(ollama, metrics)
