"""`wrap`: every call that one client object of an SDK makes is counted, with nothing else changed.

The client stays the object that it was. What is replaced are attributes of this one object: the
methods of an Ollama client, and for OpenAI and Anthropic `post`, through which all their methods
send. That is below `create`, `parse`, `stream` and raw responses, and above the SDK's own retries,
so that one call of the application is one event. No SDK is imported here.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from llmstatsd_client.responses import part

if TYPE_CHECKING:
    from llmstatsd_client.client import BaseClient
    from llmstatsd_client.tracker import Request

T = TypeVar("T")

Begin = Callable[..., "Request | None"]
"""From the arguments of a method to a request, or None for a call that is not one of a model."""

PATHS: Final[Mapping[str, Mapping[str, str]]] = {
    "openai": {
        "/chat/completions": "chat",
        "/responses": "chat",
        "/completions": "text_completion",
        "/embeddings": "embeddings",
    },
    "anthropic": {
        "/v1/messages": "chat",
        "/v1/complete": "text_completion",
    },
}
"""SDK, path that it posts to, and the operation; anything else is not counted.

`chat`, `text_completion` and `embeddings` are OpenTelemetry's names (gen_ai.operation.name).
"""

METHODS: Final[Mapping[str, Mapping[str, str]]] = {
    "ollama": {
        "chat": "chat",
        "generate": "generate",
        "embed": "embeddings",
        "embeddings": "embeddings",
    }
}
"""SDK, method of its client, and the operation. The model is the first argument of each."""

_DEPTH: Final = 8
"""Deepest place of a resource below its client; beta.vector_stores.files is at three."""


def wrap(sdk_client: T, client: BaseClient) -> T:
    """Count every call of this client object of openai, anthropic or ollama, and give it back.

    `client` reports the events. Clones that `copy` and `with_options` make of it count too; other
    objects of the class do not. Wrapping twice counts once. Raises TypeError for anything else
    than a client of these SDKs.
    """
    sdk = _sdk(sdk_client)
    if sdk in PATHS:
        _wrap_post(sdk_client, client, PATHS[sdk])
    elif sdk in METHODS:
        _wrap_methods(sdk_client, client, METHODS[sdk])
    else:
        kind = f"{type(sdk_client).__module__}.{type(sdk_client).__qualname__}"
        raise TypeError(f"not a client of openai, anthropic or ollama: {kind}")
    return sdk_client


def _sdk(sdk_client: object) -> str:
    """The SDK, or "", by what its clients have, which a class or a resource of it has not."""
    packages = {kind.__module__.partition(".")[0] for kind in type(sdk_client).__mro__}
    for sdk in PATHS:
        if sdk in packages and callable(getattr(sdk_client, "post", None)):
            return sdk
    for sdk, methods in METHODS.items():
        if sdk in packages and all(callable(getattr(sdk_client, name, None)) for name in methods):
            return sdk
    return ""


def _wrap_post(sdk_client: Any, client: BaseClient, operations: Mapping[str, str]) -> None:
    post = sdk_client.post

    def begin(path: str, *_: object, **options: Any) -> Request | None:
        operation = operations.get(path.partition("?")[0])
        if operation is None:
            return None
        return client.request(model=part(options.get("body"), "model"), operation=operation)

    if hasattr(post, "is_counted"):
        return
    counted = sdk_client.post = _counting(post, begin)
    for resource in _resources(vars(sdk_client), _DEPTH):
        # It was made before, and has taken the method with it.
        if vars(resource).get("_post") == post:
            resource._post = counted
    clone = functools.partial(_clone, sdk_client.copy, client)
    sdk_client.copy = sdk_client.with_options = clone


def _clone(copy: Callable[..., Any], client: BaseClient, *args: Any, **kwargs: Any) -> Any:
    return wrap(copy(*args, **kwargs), client)


def _resources(attributes: Mapping[str, Any], depth: int) -> Iterator[Any]:
    """The parts of an SDK's client that exist already, and the parts of these."""
    for name, value in list(attributes.items()):
        if not name.startswith("_") and "_post" in getattr(value, "__dict__", {}):
            yield value
            if depth:
                yield from _resources(vars(value), depth - 1)


def _wrap_methods(sdk_client: Any, client: BaseClient, operations: Mapping[str, str]) -> None:
    for name, operation in operations.items():
        method = getattr(sdk_client, name)

        def begin(
            model: Any = None, *_: object, _operation: str = operation, **options: Any
        ) -> Request:
            return client.request(model=model or None, operation=_operation)

        if not hasattr(method, "is_counted"):
            setattr(sdk_client, name, _counting(method, begin))


def _counting(method: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """The method, each call of which is a request; a coroutine function stays one."""
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def counted(*args: Any, **kwargs: Any) -> Any:
            request = begin(*args, **kwargs)
            if request is None:
                return await method(*args, **kwargs)
            with _failing(request):
                response = await method(*args, **kwargs)
            return _watched(response, request)

    else:

        @functools.wraps(method)
        def counted(*args: Any, **kwargs: Any) -> Any:
            request = begin(*args, **kwargs)
            if request is None:
                return method(*args, **kwargs)
            with _failing(request):
                response = method(*args, **kwargs)
            return _watched(response, request)

    counted.is_counted = True  # type: ignore[attr-defined]
    return counted


@contextlib.contextmanager
def _failing(request: Request) -> Iterator[None]:
    """End the request if this raises."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):  # of a strict client; the call's error goes on
            request.finish(error)
        raise


def _watched(response: Any, request: Request) -> Any:
    """The same response; the request ends now, or with its stream."""
    if hasattr(response, "_iterator") and callable(getattr(response, "close", None)):
        _watch_stream(response, request)
        return response
    if inspect.isgenerator(response) or inspect.isasyncgen(response):
        return request.stream(response)
    request.usage(_told(response))
    request.finish()
    return response


def _told(response: Any) -> object:
    """What a response says of usage; of a raw one its JSON, if all of it has been read."""
    http = getattr(response, "http_response", None)
    if http is None:
        return response
    try:
        return http.json() if http.is_stream_consumed else None
    except Exception:  # noqa: BLE001 it may be anything but JSON
        return None


def _watch_stream(stream: Any, request: Request) -> None:
    """Read a stream of OpenAI or Anthropic through the request, and see it closed."""
    stream._iterator = request.stream(stream._iterator)
    close = stream.close
    if inspect.iscoroutinefunction(close):

        async def closing() -> None:
            try:
                await close()
            finally:
                request.abandon()

    else:

        def closing() -> None:  # type: ignore[misc]
            try:
                close()
            finally:
                request.abandon()

    stream.close = closing
