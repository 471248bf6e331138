"""One call of an LLM, from its start to the one event that is sent of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from llmstatsd_client.errors import classify
from llmstatsd_client.event import COUNTS, FIELDS, Event, read_count
from llmstatsd_client.responses import usage
from llmstatsd_client.streams import AsyncStream, Stream, wrap_stream

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Never, Self, Unpack

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

CANCELLED = "cancelled"
_RUNNING_TOTALS = frozenset(FIELDS[COUNTS])


class Client(Protocol):
    """What a request needs of a client."""

    def send(self, **fields: Any) -> None:
        """Report one finished call."""


class Request:
    """A call that is timed by the monotonic clock and counted exactly once, whatever happens.

    Made by `client.request`; the fields given there are sent with it. Three ways to use it:

    - `with` and `async with` around the call. An exception is classified, counted and passes on.
    - a decorator of a function, a coroutine function, a generator or an asynchronous generator:
      every call is a request of its own, and what is returned or yielded is asked for usage.
    - without either: it starts where it is made, and `finish` or the end of a `stream` ends it.

    A call that is abandoned - its generator or stream is closed before the end, or it is garbage
    collected unfinished - counts as a success when something of the answer had come, else as
    `cancelled`. A request that was made, but never entered, streamed or told anything, is none.
    """

    __slots__ = (
        *("__weakref__", "_client", "_ended", "_fields", "_first_token_at", "_is_used"),
        *("_last_token_at", "_misplaced", "_open", "_started_at", "_template"),
    )

    def __init__(self, client: Any, fields: dict[str, Any], misplaced: int = 0) -> None:
        self._client: Client = client
        self._template = fields
        self._misplaced = misplaced
        self._begin()

    def _begin(self) -> None:
        self._fields = dict(self._template)
        self._open = [True]
        self._is_used = False
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._started_at = monotonic()

    # While the call is under way.

    def first_token(self) -> None:
        """The first part of the answer is here; later calls do nothing."""
        if self._first_token_at is None:
            self.token()

    def token(self) -> None:
        """A part of the answer is here: an abandoned call ends with the last of them."""
        self._is_used = True
        self._last_token_at = monotonic()
        if self._first_token_at is None:
            self._first_token_at = self._last_token_at

    def usage(self, response: object) -> None:
        """Record what a response or a chunk tells of tokens, durations, cost and model.

        See `llmstatsd_client.usage`. Of several, the largest count stands, because the chunks of
        a stream tell running totals; a model that was given stands.
        """
        self._is_used = True
        for field, value in usage(response).items():
            known = self._fields.get(field)
            if field in _RUNNING_TOTALS:
                self._fields[field] = _larger(known, value)
            elif known is None or field != "model":
                self._fields[field] = value

    def set(self, *misplaced: Never, **fields: Unpack[Event]) -> None:
        """Set fields of the event; a field that is set is not computed."""
        self._is_used = True
        self._misplaced += len(misplaced)
        self._fields.update(fields)

    def error(self, error: BaseException | str) -> None:
        """The call failed: with an exception, which is classified, or with an error type."""
        self._is_used = True
        is_exception = issubclass(type(error), BaseException)
        self._fields["error"] = classify(error) if is_exception else error

    def fallback(self) -> None:
        """The answer came from another model than the one asked first."""
        self._is_used = True
        self._fields["fallback"] = True

    @overload
    def stream(self, chunks: Iterable[T]) -> Stream[T]: ...

    @overload
    def stream(self, chunks: AsyncIterable[T]) -> AsyncStream[T]: ...

    def stream(self, chunks: Any) -> Any:
        """The same chunks; the call ends with them.

        The first chunk is the first token, usage is taken from any chunk that tells it, and the
        call is finished at the end, at an error, when the stream is closed, or when nobody holds
        it any more. What else the stream can do, it still can.
        """
        self._is_used = True
        return wrap_stream(chunks, self)

    # The end.

    def finish(self, error: BaseException | str | None = None) -> None:
        """Send the event; only the first time. An error that was set before stands."""
        self._finish(monotonic(), error)

    def abandon(self) -> None:
        """Finish a call whose answer nobody waits for any more."""
        if self._last_token_at is not None:
            self._finish(self._last_token_at, None)
        else:
            self._finish(monotonic(), None if self._has_usage() else CANCELLED)

    def _has_usage(self) -> bool:
        return any(self._fields.get(field) is not None for field in _RUNNING_TOTALS)

    def _finish(self, ended_at: float, error: BaseException | str | None) -> None:
        try:
            self._open.pop()  # one step: of two threads, one ends the call
        except IndexError:
            return
        if error is not None and self._fields.get("error") is None:
            self.error(error)
        self._time(ended_at)
        misplaced: tuple[Never, ...] = (None,) * self._misplaced  # type: ignore[assignment]
        self._client.send(*misplaced, **self._fields)

    def _time(self, ended_at: float) -> None:
        fields, first = self._fields, self._first_token_at
        if fields.get("duration_seconds") is None:
            fields["duration_seconds"] = max(0.0, ended_at - self._started_at)
        if first is None:
            return
        if fields.get("time_to_first_token_seconds") is None:
            fields["time_to_first_token_seconds"] = max(0.0, first - self._started_at)
        self._time_tokens(first, ended_at)

    def _time_tokens(self, first: float, ended_at: float) -> None:
        fields = self._fields
        if not (fields.get("time_per_output_token_seconds") is fields.get("error") is None):
            return
        try:
            count = read_count(fields.get("completion_tokens"))
        except Exception:  # noqa: BLE001 a value may be an object that raises anything
            return
        if count > 1:
            fields["time_per_output_token_seconds"] = max(0.0, ended_at - first) / (count - 1)

    # Around a call.

    def __enter__(self) -> Self:
        if not self._is_used or not self._open:
            self._begin()
        self._is_used = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, GeneratorExit):
                self.abandon()
            else:
                self.finish(error)
        except Exception:  # of a strict client
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __del__(self) -> None:
        try:
            if self._is_used:
                self.abandon()
        except Exception:  # noqa: BLE001 nobody is there to be told, and the interpreter may end
            return

    # Around a function.

    def __call__(self, function: F) -> F:
        """Make every call of the function a request of its own."""
        if inspect.isasyncgenfunction(function):
            wrapper: Any = self._around_async_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._around_coroutine(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._around_generator(function)
        else:
            wrapper = self._around_function(function)
        return cast("F", functools.update_wrapper(wrapper, function))

    def _anew(self) -> Request:
        return Request(self._client, self._template, self._misplaced)

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._anew() as request:
                response = function(*args, **kwargs)
                request.usage(response)
                return response

        return call

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            with self._anew() as request:
                response = await function(*args, **kwargs)
                request.usage(response)
                return response

        return call

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def generate(*args: Any, **kwargs: Any) -> Any:
            return (yield from self._anew().stream(function(*args, **kwargs)))

        return generate

    def _around_async_generator(
        self, function: Callable[..., Any]
    ) -> Callable[..., AsyncIterator[Any]]:
        async def generate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            stream = self._anew().stream(function(*args, **kwargs))
            step = stream.__anext__
            while True:
                try:
                    chunk = await step()
                except StopAsyncIteration:
                    return
                try:
                    step = functools.partial(stream.asend, (yield chunk))
                except GeneratorExit:
                    await stream.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 the generator is to see it
                    step = functools.partial(stream.athrow, error)

        return generate


def _larger(known: Any, value: int) -> Any:
    try:
        return max(known or 0, value)
    except Exception:  # noqa: BLE001 a value may be an object that raises anything
        return value
