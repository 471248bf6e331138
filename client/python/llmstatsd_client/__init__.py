"""LLM call metrics for llmstatsd, or any StatsD server: one datagram for each finished call.

    import llmstatsd_client

    with llmstatsd_client.request(model="gpt-4o", operation="chat") as request:
        response = ask()
        request.usage(response)

Nothing here raises into the application or blocks it; `stats()` counts what was not sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from llmstatsd_client.client import Client
from llmstatsd_client.encoding import Encoded, encode
from llmstatsd_client.errors import classify
from llmstatsd_client.event import ERROR_TYPES, FIELDS, Event
from llmstatsd_client.integrations import wrapping
from llmstatsd_client.responses import usage
from llmstatsd_client.stats import Stats
from llmstatsd_client.tracker import Request

if TYPE_CHECKING:
    from typing_extensions import Never, Unpack

    from llmstatsd_client.aio import AsyncClient

__version__ = "0.1.0"

__all__ = [
    "ERROR_TYPES",
    "FIELDS",
    "AsyncClient",
    "Client",
    "Encoded",
    "Event",
    "Request",
    "Stats",
    "__version__",
    "classify",
    "default",
    "encode",
    "request",
    "send",
    "stats",
    "usage",
    "wrap",
]

T = TypeVar("T")

_made: dict[str, Client] = {}


def default() -> Client:
    """The client of this process on the settings of its variables, made when first asked for."""
    client = _made.get("default")
    # Of two that are made at the same moment one is kept; neither has opened anything.
    return client if client is not None else _made.setdefault("default", Client())


def send(*misplaced: Never, **fields: Unpack[Event]) -> None:
    """`Client.send` of the default client."""
    default().send(*misplaced, **fields)


def request(*misplaced: Never, **fields: Unpack[Event]) -> Request:
    """`Client.request` of the default client."""
    return default().request(*misplaced, **fields)


def stats() -> Stats:
    """`Client.stats` of the default client."""
    return default().stats()


def wrap(sdk_client: T, client: Client | AsyncClient | None = None) -> T:
    """Count every call of this client object of openai, anthropic or ollama, and give it back.

    `client` reports the events, by default `default()`. Clones by `copy` and `with_options` count
    too, other objects of the class do not, and wrapping twice counts once. Anything else is given
    back as it is, with a warning in the log; a strict client raises TypeError for it.
    """
    reporting = client if client is not None else default()
    try:
        return wrapping.wrap(sdk_client, reporting)
    except Exception as error:  # nothing may reach the application
        if reporting._strict:
            raise
        logging.getLogger(__name__).warning("nothing is counted: %s", error)
        return sdk_client


def __getattr__(name: str) -> Any:
    # asyncio is imported only for whoever wants this client.
    if name == "AsyncClient":
        from llmstatsd_client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
