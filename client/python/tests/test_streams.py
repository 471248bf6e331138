"""A stream of chunks ends its request, whichever way it ends itself."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from llmstatsd_client import Client
from llmstatsd_client import tracker as module

CHUNKS: list[Any] = [
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 7}}},
    {"type": "content_block_delta"},
    {"type": "message_delta", "usage": {"output_tokens": 3}},
]


@pytest.fixture
def events(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events that requests of `client` send, at a clock that ticks at every look."""
    sent: list[dict[str, Any]] = []
    ticks = iter(range(1000))
    monkeypatch.setattr(client, "send", lambda **fields: sent.append(fields))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(ticks)))
    return sent


class Source:
    """A stream as an SDK has it: iterable, closeable, with more to it."""

    def __init__(self, *chunks: Any, error: BaseException | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = 0
        self.response = "headers"

    def __iter__(self) -> Iterator[Any]:
        yield from self.chunks
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSource:
    def __init__(self, *chunks: Any, error: BaseException | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[Any]:
        for chunk in self.chunks:
            await asyncio.sleep(0)
            yield chunk
        if self.error:
            raise self.error

    async def close(self) -> None:
        self.closed += 1


def errors(events: list[dict[str, Any]]) -> list[Any]:
    return [event.get("error") for event in events]


def test_the_chunks_come_through_and_tell(client: Client, events: list[dict[str, Any]]) -> None:
    assert list(client.request(operation="chat").stream(CHUNKS)) == CHUNKS
    assert events == [
        {
            "operation": "chat",
            "model": "m",
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "duration_seconds": 3.0,
            "time_to_first_token_seconds": 1.0,  # not at message_start
            "time_per_output_token_seconds": 1.0,
        }
    ]


def test_an_empty_stream_is_a_success(client: Client, events: list[dict[str, Any]]) -> None:
    assert list(client.request().stream([])) == []
    assert errors(events) == [None]
    assert "time_to_first_token_seconds" not in events[0]


def test_an_error_in_the_middle_is_classified(client: Client, events: list[dict[str, Any]]) -> None:
    stream = client.request().stream(Source(1, error=ConnectionError("mine")))
    assert next(stream) == 1
    with pytest.raises(ConnectionError, match="mine"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert errors(events) == ["connection"]
    assert events[0]["time_to_first_token_seconds"] == 1.0


def test_an_interrupt_between_chunks_is_cancelled(
    client: Client, events: list[dict[str, Any]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(client.request().stream(Source(error=KeyboardInterrupt())))
    assert errors(events) == ["cancelled"]


def test_a_stream_that_is_closed_counts_by_what_came(
    client: Client, events: list[dict[str, Any]]
) -> None:
    for source, count in ((Source(1, 2), 1), (Source(1), 0)):
        stream = client.request().stream(source)
        for _ in range(count):
            next(stream)
        stream.close()
        stream.close()
        assert source.closed == 2
    assert errors(events) == [None, "cancelled"]


def test_an_abandoned_stream_ends_with_its_last_chunk(
    client: Client, events: list[dict[str, Any]]
) -> None:
    for _ in client.request().stream(CHUNKS):
        break
    for _ in client.request().stream([1, 2]):
        break
    client.request().stream([1])
    gc.collect()
    assert errors(events) == [None, None, "cancelled"]
    assert events[1]["duration_seconds"] == events[1]["time_to_first_token_seconds"]


def test_a_request_that_outlives_its_stream_counts_once(
    client: Client, events: list[dict[str, Any]]
) -> None:
    request = client.request()
    for _ in request.stream([1, 2]):
        break
    assert len(events) == 1
    del request
    gc.collect()
    assert len(events) == 1


def test_a_block_closes_the_stream(client: Client, events: list[dict[str, Any]]) -> None:
    source = Source(1, 2)
    with client.request().stream(source) as stream:
        assert next(stream) == 1
    assert source.closed == 1
    with pytest.raises(ZeroDivisionError), client.request().stream(Source(1)):
        raise ZeroDivisionError
    assert errors(events) == [None, "other"]


def test_a_stream_within_a_request_is_one_call(
    client: Client, events: list[dict[str, Any]]
) -> None:
    with client.request() as request:
        assert list(request.stream([1, 2])) == [1, 2]
    assert len(events) == 1


def test_what_else_the_stream_can_do_it_still_can(
    client: Client, events: list[dict[str, Any]]
) -> None:
    stream = client.request().stream(Source(1))
    assert stream.response == "headers"
    with pytest.raises(AttributeError):
        _ = stream.nothing
    assert list(stream) == [1]
    assert len(events) == 1


def test_a_thing_that_does_not_iterate_raises_as_it_would(
    client: Client, events: list[dict[str, Any]]
) -> None:
    anything: Any = client.request()
    with pytest.raises(TypeError, match="not iterable"):
        list(anything.stream(5))
    assert errors(events) == ["other"]


def test_throwing_into_what_is_no_generator_raises(
    client: Client, events: list[dict[str, Any]]
) -> None:
    stream = client.request().stream([1, 2])
    next(stream)
    with pytest.raises(KeyError):
        stream.throw(KeyError())
    assert errors(events) == ["other"]


def test_a_chunk_that_raises_at_everything_comes_through(
    client: Client, events: list[dict[str, Any]]
) -> None:
    class Evil:
        def __getattribute__(self, name: str) -> Any:
            raise ZeroDivisionError

    chunks = [Evil(), SimpleNamespace(type=Evil(), usage=Evil())]
    assert len(list(client.request().stream(chunks))) == 2
    assert errors(events) == [None]


def test_a_strict_client_raises_at_the_end_of_a_stream(strict: Client) -> None:
    request = strict.request()
    request.set(tokens=-1)
    with pytest.raises(ValueError, match="tokens"):
        list(request.stream([1]))


async def test_an_asynchronous_stream_tells_the_same(
    client: Client, events: list[dict[str, Any]]
) -> None:
    stream = client.request().stream(AsyncSource(*CHUNKS))
    assert [chunk async for chunk in stream] == CHUNKS
    assert (events[0]["prompt_tokens"], events[0]["completion_tokens"]) == (7, 3)
    assert events[0]["time_to_first_token_seconds"] == 1.0


async def test_an_asynchronous_stream_counts_once_however_it_ends(
    client: Client, events: list[dict[str, Any]]
) -> None:
    failing = client.request().stream(AsyncSource(1, error=TimeoutError()))
    with pytest.raises(TimeoutError):
        _ = [chunk async for chunk in failing]
    source = AsyncSource(1, 2)
    closed = client.request().stream(source)
    assert await anext(closed) == 1
    await closed.aclose()
    async with client.request().stream(AsyncSource(1)) as left:
        assert await anext(left) == 1
    async for _ in client.request().stream(AsyncSource(1, 2)):
        break
    gc.collect()
    assert source.closed == 1
    assert errors(events) == ["timeout", None, None, None]


async def test_a_cancelled_reader_counts_as_cancelled(
    client: Client, events: list[dict[str, Any]]
) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        yield 1
        waiting.set()
        await asyncio.Event().wait()

    async def read() -> None:
        async for _ in client.request().stream(endless()):
            pass

    task = asyncio.create_task(read())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert errors(events) == ["cancelled"]


async def test_what_iterates_both_ways_still_does(
    client: Client, events: list[dict[str, Any]]
) -> None:
    class Both(Source, AsyncSource):  # type: ignore[misc] # close is of one of them
        pass

    anything: Any = client
    assert list(anything.request().stream(Both(1, 2))) == [1, 2]
    assert [chunk async for chunk in anything.request().stream(Both(1, 2))] == [1, 2]
    assert errors(events) == [None, None]


def test_a_stream_of_one_kind_has_not_the_other(client: Client) -> None:
    assert not hasattr(client.request().stream([1]), "__aiter__")
    assert not hasattr(client.request().stream(AsyncSource(1)), "__iter__")
