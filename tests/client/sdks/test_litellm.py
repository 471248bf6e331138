"""LiteLLM itself, its Router too, against a local provider: the series of a live daemon."""

import asyncio
import functools
import gc
import importlib
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import openai
import pytest

from llmstatsd_client import Client
from tests.client.sdks import counted
from tests.client.sdks.counted import ERRORS, TIMEOUT_SECONDS, answered
from tests.client.sdks.provider import Provider
from tests.conftest import RunningDaemon, wait_for

MESSAGES: Final = [{"role": "user", "content": "Hello"}]
WITH_USAGE: Final = {"include_usage": True}


# LiteLLM leaves its sessions to the garbage collector, and its types to pydantic's warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def library() -> Iterator[Any]:
    """LiteLLM, which asks nobody for its table of prices and sends nothing home."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        module = importlib.import_module("litellm")
        patch.setattr(module, "suppress_debug_info", True)
        patch.setattr(module, "telemetry", False, raising=False)  # gone in newer ones
        for name in ("LiteLLM", "LiteLLM Router"):
            patch.setattr(logging.getLogger(name), "disabled", True)
        yield module


@pytest.fixture
def litellm(library: Any, metrics: Client) -> Iterator[Any]:
    """LiteLLM with the callback, and without it after the test."""
    callbacks = importlib.import_module("llmstatsd_client.integrations.litellm")
    library.callbacks = [callbacks.Callback(metrics)]
    yield library
    library.logging_callback_manager._reset_all_callbacks()
    library.cache = None


@pytest.fixture
def to(provider: Provider) -> Callable[..., dict[str, Any]]:
    """The arguments of a call of one of the provider's models."""

    def arguments(model: str, **more: Any) -> dict[str, Any]:
        address = {"api_base": f"{provider.url}/v1", "api_key": "none", "max_retries": 0}
        return {"model": f"openai/{model}", "messages": MESSAGES, **address, **more}

    return arguments


@pytest.fixture
def deployment(to: Callable[..., dict[str, Any]]) -> Callable[[str, str], dict[str, Any]]:
    """One entry of a Router's list of models."""

    def entry(name: str, model: str) -> dict[str, Any]:
        params = {key: value for key, value in to(model).items() if key != "messages"}
        return {"model_name": name, "litellm_params": params}

    return entry


@pytest.fixture
def settle(
    daemon: RunningDaemon, litellm: Any, to: Callable[..., dict[str, Any]]
) -> Callable[[set[str]], None]:
    marker = functools.partial(litellm.completion, **to("marker"))
    return lambda expected: counted.settle(daemon, expected, marker)


@pytest.fixture
def async_settle(
    daemon: RunningDaemon, litellm: Any, to: Callable[..., dict[str, Any]]
) -> Callable[[set[str]], Awaitable[None]]:
    marker = functools.partial(litellm.acompletion, **to("marker"))
    return lambda expected: counted.async_settle(daemon, expected, marker)


def test_an_answer(litellm: Any, to: Any, settle: Any) -> None:
    prices = {"input_cost_per_token": 0.5, "output_cost_per_token": 2.0}
    litellm.completion(**to("plain"))
    litellm.completion(**to("priced"), **prices)
    cost = 'llm_cost_dollars_total{model="priced"}'
    prompt, completion = Provider.PROMPT_TOKENS, Provider.COMPLETION_TOKENS
    settle(answered("plain") | answered("priced") | {f"{cost} {prompt * 0.5 + completion * 2.0}"})


async def test_an_asynchronous_answer(litellm: Any, to: Any, async_settle: Any) -> None:
    await asyncio.gather(*(litellm.acompletion(**to("plain")) for _ in range(3)))
    await async_settle(answered("plain", times=3))


def test_embeddings(litellm: Any, to: Any, settle: Any) -> None:
    arguments = to("plain", input=["Hello"])
    del arguments["messages"]
    litellm.embedding(**arguments)
    expected = counted.request("plain", operation="embeddings")
    settle(expected | counted.tokens("plain", Provider.PROMPT_TOKENS, 0))


def test_a_stream(litellm: Any, to: Any, settle: Any) -> None:
    for _ in litellm.completion(**to("plain", stream=True, stream_options=WITH_USAGE)):
        pass
    first = counted.first_token("plain") | counted.per_token("plain")
    settle(answered("plain") | first)


async def test_an_asynchronous_stream(litellm: Any, to: Any, async_settle: Any) -> None:
    stream = await litellm.acompletion(**to("plain", stream=True, stream_options=WITH_USAGE))
    async for _ in stream:
        pass
    first = counted.first_token("plain") | counted.per_token("plain")
    await async_settle(answered("plain") | first)


def test_errors(litellm: Any, to: Any, settle: Any) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(openai.APIError):
            litellm.completion(**to(model))
        expected |= counted.error(model, kind)
    settle(expected)


async def test_asynchronous_errors(litellm: Any, to: Any, async_settle: Any) -> None:
    expected = set()
    for model, kind in ERRORS.items():
        with pytest.raises(openai.APIError):
            await litellm.acompletion(**to(model))
        expected |= counted.error(model, kind)
    await async_settle(expected)


def test_a_timeout(litellm: Any, to: Any, settle: Any) -> None:
    with pytest.raises(litellm.Timeout):
        litellm.completion(**to("silent", timeout=TIMEOUT_SECONDS))
    settle(counted.error("silent", "timeout"))


async def test_an_asynchronous_timeout(litellm: Any, to: Any, async_settle: Any) -> None:
    with pytest.raises(litellm.Timeout):
        await litellm.acompletion(**to("silent", timeout=TIMEOUT_SECONDS))
    await async_settle(counted.error("silent", "timeout"))


BROKEN: Final = {"breaks": "connection", "error-event": "server_error"}


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
def test_a_stream_that_breaks(litellm: Any, to: Any, settle: Any, model: str, kind: str) -> None:
    def read() -> None:
        for _ in litellm.completion(**to(model, stream=True)):
            pass

    with pytest.raises(openai.APIError):
        read()
    settle(counted.error(model, kind) | counted.first_token(model))


@pytest.mark.parametrize(("model", "kind"), BROKEN.items())
async def test_an_asynchronous_stream_that_breaks(
    litellm: Any, to: Any, daemon: RunningDaemon, async_settle: Any, model: str, kind: str
) -> None:
    async def read() -> None:
        async for _ in await litellm.acompletion(**to(model, stream=True)):
            pass

    with pytest.raises(openai.APIError):
        await read()
    # LiteLLM estimates the tokens of what came, in numbers of its own.
    await counted.async_wait(daemon, counted.error(model, kind) | counted.first_token(model))
    estimated = {line for line in counted.counted(daemon) if "tokens_total" in line}
    await async_settle(counted.error(model, kind) | counted.first_token(model) | estimated)


@pytest.mark.parametrize("is_stream", [False, True], ids=["answer", "stream"])
async def test_a_cancelled_call(
    litellm: Any, to: Any, provider: Provider, async_settle: Any, *, is_stream: bool
) -> None:
    call = asyncio.create_task(litellm.acompletion(**to("silent", stream=is_stream)))
    await counted.eventually(lambda: provider.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    del call
    await async_settle(counted.error("silent", "cancelled"))


def test_a_stream_that_is_left_is_a_success(
    litellm: Any, to: Any, daemon: RunningDaemon, settle: Any
) -> None:
    def leave() -> None:
        for _ in litellm.completion(**to("slow-stream", stream=True)):
            break

    def collect() -> set[str]:
        gc.collect()  # LiteLLM's stream and its details hold each other
        return counted.counted(daemon)

    leave()
    wait_for("the stream that was left", collect)
    settle(counted.request("slow-stream") | counted.first_token("slow-stream"))


async def test_an_asynchronous_stream_that_is_left_is_cancelled(
    litellm: Any, to: Any, async_settle: Any
) -> None:
    async def leave() -> None:
        async for _ in await litellm.acompletion(**to("slow-stream", stream=True)):
            break

    await leave()
    gc.collect()
    await async_settle(counted.error("slow-stream", "cancelled"))


def test_a_call_that_litellm_refuses_to_send_is_an_error(
    litellm: Any, settle: Any, provider: Provider
) -> None:
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model="nobody's", messages=MESSAGES)
    assert not provider.requests
    settle(counted.error("nobody's", "invalid_request"))


def test_every_try_of_a_router_counts(litellm: Any, deployment: Any, settle: Any) -> None:
    models = [deployment("public", "status-500")]
    router = litellm.Router(models, num_retries=1, retry_after=0)
    with pytest.raises(litellm.InternalServerError):
        router.completion("public", MESSAGES)
    settle(counted.error("public", "server_error", times=2))


async def test_every_try_of_an_asynchronous_router_counts(
    litellm: Any, deployment: Any, async_settle: Any
) -> None:
    models = [deployment("public", "status-500")]
    router = litellm.Router(models, num_retries=1, retry_after=0)
    with pytest.raises(litellm.InternalServerError):
        await router.acompletion("public", MESSAGES)
    await async_settle(counted.error("public", "server_error", times=2))


def routed(deployment: Any) -> tuple[list[Any], dict[str, Any]]:
    """A Router's models, the first two of which fail, and its settings."""
    names = {"first": "status-500", "second": "status-429", "third": "plain"}
    models = [deployment(name, model) for name, model in names.items()]
    return models, {"num_retries": 0, "fallbacks": [{"first": ["second", "third"]}]}


FALLEN_BACK: Final = (
    counted.error("first", "server_error")
    | counted.error("second", "rate_limit")
    | answered("third")
    | {"llm_fallback_total 1.0"}
)


def test_a_fallback_of_a_router_counts_once(litellm: Any, deployment: Any, settle: Any) -> None:
    models, settings = routed(deployment)
    litellm.Router(models, **settings).completion("first", MESSAGES)
    settle(FALLEN_BACK)


async def test_a_fallback_of_an_asynchronous_router_counts_once(
    litellm: Any, deployment: Any, async_settle: Any
) -> None:
    models, settings = routed(deployment)
    await litellm.Router(models, **settings).acompletion("first", MESSAGES)
    await async_settle(FALLEN_BACK)


async def test_a_fallback_within_one_call_counts_once(
    litellm: Any, to: Any, async_settle: Any
) -> None:
    fallback = {key: value for key, value in to("plain").items() if key != "messages"}
    await litellm.acompletion(**to("status-500", fallbacks=[fallback]))
    await async_settle(
        counted.error("status-500", "server_error") | answered("plain") | {"llm_fallback_total 1.0"}
    )


def test_retries_within_one_call_count_as_the_one_that_litellm_reports(
    litellm: Any, to: Any, settle: Any, provider: Provider
) -> None:
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(**to("status-429", num_retries=1))
    assert len(provider.requests) > 1
    settle(counted.error("status-429", "rate_limit"))
