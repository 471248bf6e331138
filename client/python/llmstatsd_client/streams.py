"""Streams of chunks that end a request, whichever way they end."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from llmstatsd_client.errors import classify
from llmstatsd_client.event import OTHER
from llmstatsd_client.responses import part

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from llmstatsd_client.tracker import Request

T = TypeVar("T")

_BEFORE_TOKENS: Final = frozenset(
    {"message_start", "ping", "response.created", "response.queued", "response.in_progress"}
)
"""Types of the events that Anthropic and OpenAI's responses send before the first token."""

_FAILED: Final = frozenset({"error", "response.failed"})
"""Types of the events by which OpenAI's responses fail: its SDK does not raise then."""


class _Wrapped(Generic[T]):
    """What both kinds of streams share; anything else that is asked goes to the stream within."""

    def __init__(self, chunks: Any, request: Request) -> None:
        self._chunks = chunks
        self._request = request
        self._iterator: Any = None

    def __getattr__(self, name: str) -> Any:
        if name in ("_chunks", "_request", "_iterator"):  # __init__ has not run
            raise AttributeError(name)
        return getattr(self._chunks, name)

    def __del__(self) -> None:
        try:
            self._request.abandon()
        except Exception:  # noqa: BLE001 nobody is there to be told, and the interpreter may end
            return

    def _came(self, chunk: T) -> T:
        kind = part(chunk, "type")
        if type(kind) is not str or kind not in _BEFORE_TOKENS | _FAILED:
            self._request.token()
        self._request.usage(chunk)
        if type(kind) is str and kind in _FAILED:
            self._request.error(_failure(chunk))
        return chunk

    def _failed(self, error: BaseException) -> None:
        try:
            if isinstance(error, (StopIteration, StopAsyncIteration)):
                self._request.finish()
            elif isinstance(error, GeneratorExit):
                self._request.abandon()
            else:
                self._request.finish(error)
        except Exception as ours:  # of a strict client
            if isinstance(error, (StopIteration, StopAsyncIteration)):
                raise ours from None


def _failure(chunk: object) -> str:
    """The error type of an event that says that the call has failed."""
    for told in (chunk, part(chunk, "error"), part(part(chunk, "response"), "error")):
        kind = classify(told)
        if kind != OTHER:
            return kind
    return "server_error"


class Stream(_Wrapped[T], Iterator[T]):
    """The chunks of an iterable; a context manager, and as a generator if the iterable is one."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._step("__next__")

    def send(self, value: Any) -> T:
        """As of a generator."""
        return self._step("send", value)

    def throw(self, *error: Any) -> T:
        """As of a generator; raises the error where the iterable is none."""
        return self._step("throw", *error)

    def _step(self, name: str, *args: Any) -> T:
        try:
            if self._iterator is None:
                self._iterator = iter(self._chunks)
            chunk: T = getattr(self._iterator, name, _raise)(*args)
        except BaseException as error:
            self._failed(error)
            raise
        return self._came(chunk)

    def close(self) -> None:
        """Close the stream within, where it can be closed, and finish."""
        try:
            for each in _distinct(self._iterator, self._chunks):
                if callable(close := getattr(each, "close", None)):
                    close()
        finally:
            self._request.abandon()

    def __enter__(self) -> Self:
        if callable(enter := getattr(self._chunks, "__enter__", None)):
            enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        if error is not None:
            self._failed(error)
        try:
            if callable(leave := getattr(self._chunks, "__exit__", None)):
                return leave(kind, error, traceback)
        finally:
            self._request.abandon()


class AsyncStream(_Wrapped[T], AsyncIterator[T]):
    """The chunks of an asynchronous iterable; as `Stream`."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await self._async_step("__anext__")

    async def asend(self, value: Any) -> T:
        """As of an asynchronous generator."""
        return await self._async_step("asend", value)

    async def athrow(self, *error: Any) -> T:
        """As of an asynchronous generator; raises the error where the iterable is none."""
        return await self._async_step("athrow", *error)

    async def _async_step(self, name: str, *args: Any) -> T:
        try:
            if self._iterator is None:
                self._iterator = aiter(self._chunks)
            chunk: T = await getattr(self._iterator, name, _raise)(*args)
        except BaseException as error:
            self._failed(error)
            raise
        return self._came(chunk)

    async def aclose(self) -> None:
        """Close the stream within, where it can be closed, and finish."""
        try:
            for each in _distinct(self._iterator, self._chunks):
                close = getattr(each, "aclose", None) or getattr(each, "close", None)
                if callable(close) and inspect.isawaitable(closing := close()):
                    await closing
        finally:
            self._request.abandon()

    async def __aenter__(self) -> Self:
        if callable(enter := getattr(self._chunks, "__aenter__", None)):
            await enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        if error is not None:
            self._failed(error)
        try:
            if callable(leave := getattr(self._chunks, "__aexit__", None)):
                return await leave(kind, error, traceback)
        finally:
            self._request.abandon()


class EitherStream(Stream[T], AsyncStream[T]):
    """The chunks of what iterates both ways, as LiteLLM's streams do."""


def wrap_stream(chunks: Any, request: Request) -> Any:
    """The stream that iterates as `chunks` does; a thing that does not iterate is taken as is."""
    is_async = hasattr(chunks, "__aiter__")
    if is_async and hasattr(chunks, "__iter__"):
        return EitherStream(chunks, request)
    if is_async:
        return AsyncStream(chunks, request)
    return Stream(chunks, request)


def _raise(error: Any, *_: Any) -> Any:
    """In place of a `throw` that is not there."""
    raise error


def _distinct(iterator: Any, chunks: Any) -> list[Any]:
    return [iterator] if iterator is chunks else [iterator, chunks]
