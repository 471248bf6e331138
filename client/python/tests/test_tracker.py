"""A request counts once, whatever happens to it."""

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmstatsd_client import Client, Request
from llmstatsd_client import tracker as module


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "monotonic", made)
    return made


@pytest.fixture
def events(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events that requests of `client` send."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(client, "send", lambda **fields: sent.append(fields))
    return sent


RESPONSE: dict[str, object] = {
    "model": "real",
    "usage": {"prompt_tokens": 3, "completion_tokens": 5},
}


def test_a_call_is_timed_and_sent(client: Client, receiver: Any, clock: Clock) -> None:
    with client.request(model="m", operation="chat") as request:
        clock.seconds += 0.25
        request.first_token()
        clock.seconds += 1
        request.first_token()
        request.usage(RESPONSE)
        request.set(cost_dollars=0.5)
        request.fallback()
    assert receiver.lines() == [
        "llm_request_total:1|c|#model:m,operation:chat",
        "llm_request_duration_seconds:1250|ms|#model:m,operation:chat",
        "llm_tokens_total:8|c|#model:m",
        "llm_prompt_tokens_total:3|c|#model:m",
        "llm_completion_tokens_total:5|c|#model:m",
        "llm_cost_dollars_total:0.5|c|#model:m",
        "llm_time_to_first_token_seconds:250|ms|#model:m,operation:chat",
        "llm_time_per_output_token_seconds:250|ms|#model:m,operation:chat",
        "llm_fallback_total:1|c",
    ]


def test_an_exception_is_classified_and_passes(
    client: Client, events: list[dict[str, Any]]
) -> None:
    with pytest.raises(TimeoutError, match="mine"), client.request(model="m"):
        raise TimeoutError("mine")
    assert [event["error"] for event in events] == ["timeout"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
def test_an_interrupted_call_is_cancelled(
    client: Client, events: list[dict[str, Any]], kind: type[BaseException]
) -> None:
    with pytest.raises(kind), client.request(model="m"):
        raise kind
    assert [event["error"] for event in events] == ["cancelled"]


def test_an_error_that_was_set_stands(client: Client, events: list[dict[str, Any]]) -> None:
    def fail(request: Request) -> None:
        request.error("quota")
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"), client.request() as request:
        fail(request)
    with client.request() as request:
        request.error(ConnectionError())
    assert [event["error"] for event in events] == ["quota", "connection"]


def test_the_model_of_the_response_fills_a_missing_one(
    client: Client, events: list[dict[str, Any]]
) -> None:
    with client.request() as request:
        request.usage(RESPONSE)
    with client.request(model="mine") as request:
        request.usage(RESPONSE)
    assert [event["model"] for event in events] == ["real", "mine"]


def test_of_running_totals_the_largest_stands(client: Client, events: list[dict[str, Any]]) -> None:
    with client.request() as request:
        request.usage({"usage": {"prompt_tokens": 9, "completion_tokens": 1}})
        request.usage({"usage": {"prompt_tokens": 9, "completion_tokens": 7}})
        request.usage({"usage": {"prompt_tokens": 0, "completion_tokens": 0}})
    assert (events[0]["prompt_tokens"], events[0]["completion_tokens"]) == (9, 7)


def test_what_was_set_is_not_computed(
    client: Client, events: list[dict[str, Any]], clock: Clock
) -> None:
    given: Any = {
        "duration_seconds": 1.0,
        "time_to_first_token_seconds": 2.0,
        "time_per_output_token_seconds": 3.0,
        "completion_tokens": 4,
    }
    with client.request() as request:
        clock.seconds += 50
        request.first_token()
        request.set(**given)
    assert events == [given]


@pytest.mark.parametrize("count", [0, 1, None, -3, "7", 1.5])
def test_a_token_alone_takes_no_time_per_token(
    client: Client, events: list[dict[str, Any]], count: Any
) -> None:
    with client.request() as request:
        request.first_token()
        request.set(completion_tokens=count)
    assert "time_per_output_token_seconds" not in events[0]


def test_a_failed_call_has_no_time_per_token(client: Client, events: list[dict[str, Any]]) -> None:
    with client.request() as request:
        request.first_token()
        request.set(completion_tokens=10, error="server_error")
    assert "time_per_output_token_seconds" not in events[0]
    assert "time_to_first_token_seconds" in events[0]


def test_it_finishes_once(client: Client, events: list[dict[str, Any]]) -> None:
    with client.request() as request:
        request.finish()
        request.finish(ValueError())
        request.abandon()
    del request
    gc.collect()
    assert len(events) == 1


def test_it_works_without_a_block(client: Client, events: list[dict[str, Any]]) -> None:
    request = client.request(model="m")
    request.finish("overloaded")
    assert [event["error"] for event in events] == ["overloaded"]


def test_a_block_of_its_own_starts_the_clock_and_may_come_again(
    client: Client, events: list[dict[str, Any]], clock: Clock
) -> None:
    request = client.request(model="m")
    for seconds in (1, 2):
        clock.seconds += 100
        with request:
            clock.seconds += seconds
            request.set(tokens=seconds)
    assert [(event["duration_seconds"], event["tokens"]) for event in events] == [(1, 1), (2, 2)]


def test_a_request_that_nothing_was_done_with_is_none(
    client: Client, events: list[dict[str, Any]]
) -> None:
    client.request(model="m")
    gc.collect()
    assert events == []


def test_a_request_that_was_forgotten_counts(client: Client, events: list[dict[str, Any]]) -> None:
    client.request(model="m").usage(RESPONSE)
    client.request(model="m").first_token()
    client.request(model="m").set(operation="chat")
    gc.collect()
    assert [event.get("error") for event in events] == [None, None, "cancelled"]


def test_a_generator_that_is_closed_counts_by_what_came(
    client: Client, events: list[dict[str, Any]]
) -> None:
    def talk(*, has_token: bool) -> Iterator[int]:
        with client.request() as request:
            if has_token:
                request.first_token()
            yield 1

    for has_token in (True, False):
        generator = talk(has_token=has_token)
        next(generator)
        generator.close()  # type: ignore[attr-defined]
    assert [event.get("error") for event in events] == [None, "cancelled"]


def test_a_client_of_strict_kind_raises_at_the_end(strict: Client) -> None:
    with pytest.raises(ValueError, match="tokens"), strict.request() as request:
        request.set(tokens=-1)


def test_the_error_of_the_application_beats_ours(strict: Client) -> None:
    def fail(request: Request) -> None:
        request.set(tokens=-1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), strict.request() as request:
        fail(request)


def test_a_positional_argument_is_refused_at_the_end(client: Client, receiver: Any) -> None:
    anything: Any = client
    with anything.request("gpt-4o") as request:
        request.set("gpt-4o", modle="m")
    assert client.stats()[:2] == (1, 3)
    assert receiver.lines()[0] == "llm_request_total:1|c"


async def test_a_block_may_be_asynchronous(client: Client, events: list[dict[str, Any]]) -> None:
    async with client.request(model="m") as request:
        request.usage(RESPONSE)
    with pytest.raises(ConnectionError):
        async with client.request(model="m"):
            raise ConnectionResetError
    assert [event.get("error") for event in events] == [None, "connection"]


async def test_a_cancelled_task_counts_as_cancelled(
    client: Client, events: list[dict[str, Any]]
) -> None:
    started = asyncio.Event()

    async def call() -> None:
        async with client.request():
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event["error"] for event in events] == ["cancelled"]


# As a decorator.


def test_a_function_is_timed_and_its_response_read(
    client: Client, events: list[dict[str, Any]]
) -> None:
    @client.request(model="m")
    def ask(question: str, *, loud: bool = False) -> dict[str, object]:
        """Asks."""
        if loud:
            raise PermissionError
        return RESPONSE

    assert ask("?") is RESPONSE
    with pytest.raises(PermissionError):
        ask("?", loud=True)
    assert (ask.__name__, ask.__doc__) == ("ask", "Asks.")
    assert [event.get("completion_tokens") for event in events] == [5, None]
    assert [event.get("error") for event in events] == [None, "other"]


def test_a_method_is_a_method(client: Client, events: list[dict[str, Any]]) -> None:
    class Bot:
        @client.request()
        def ask(self) -> object:
            return self

    bot = Bot()
    assert bot.ask() is bot
    assert len(events) == 1


def test_calls_within_calls_are_requests_of_their_own(
    client: Client, events: list[dict[str, Any]]
) -> None:
    @client.request()
    def count_down(number: int) -> None:
        if number:
            count_down(number - 1)

    count_down(3)
    assert len(events) == 4


async def test_a_coroutine_function_stays_one(client: Client, events: list[dict[str, Any]]) -> None:
    @client.request()
    async def ask() -> dict[str, object]:
        await asyncio.sleep(0)
        return RESPONSE

    assert inspect.iscoroutinefunction(ask)
    assert await ask() is RESPONSE
    assert [event["prompt_tokens"] for event in events] == [3]


def test_a_generator_stays_one(client: Client, events: list[dict[str, Any]]) -> None:
    seen: list[Any] = []

    @client.request()
    def talk() -> Any:
        seen.append((yield "a"))
        try:
            yield "b"
        except KeyError:
            yield RESPONSE
        return "done"

    def outer() -> Any:
        seen.append((yield from talk()))

    assert inspect.isgeneratorfunction(talk)
    generator = outer()
    answers = [next(generator), generator.send(1), generator.throw(KeyError()), *generator]
    assert answers == ["a", "b", RESPONSE]
    assert seen == [1, "done"]
    assert [event["completion_tokens"] for event in events] == [5]


def test_a_generator_that_nobody_starts_is_no_call(
    client: Client, events: list[dict[str, Any]]
) -> None:
    @client.request()
    def talk() -> Iterator[int]:
        yield 1

    talk()
    gc.collect()
    assert events == []


async def test_an_asynchronous_generator_stays_one(
    client: Client, events: list[dict[str, Any]]
) -> None:
    seen: list[Any] = []

    @client.request()
    async def talk() -> Any:
        seen.append((yield "a"))
        try:
            yield "b"
        except KeyError:
            yield RESPONSE

    assert inspect.isasyncgenfunction(talk)
    generator = talk()
    answers = [await anext(generator), await generator.asend(1), await generator.athrow(KeyError())]
    answers += [chunk async for chunk in generator]
    assert answers == ["a", "b", RESPONSE]
    assert seen == [1]
    assert [event["completion_tokens"] for event in events] == [5]


async def test_an_asynchronous_generator_is_closed_with_its_wrapper(
    client: Client, events: list[dict[str, Any]]
) -> None:
    closed: list[bool] = []

    @client.request()
    async def talk() -> Any:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    generator = talk()
    await anext(generator)
    await generator.aclose()
    assert closed == [True]
    assert [event.get("error") for event in events] == [None]


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_it_lies_under_other_decorators(
    client: Client, events: list[dict[str, Any]], wrap: Callable[..., Any]
) -> None:
    class Bot:
        @wrap
        @client.request()
        def ask(*_: object) -> int:
            return 1

    assert Bot.ask() == 1
    assert len(events) == 1


def test_a_request_is_for_one_client(client: Client) -> None:
    assert isinstance(client.request(), Request)
