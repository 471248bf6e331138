"""`/api/v1/tap`: lines as they arrive, as JSON by the line, for those who may see them.

The lines of others are shown to nobody but this machine, unless the configuration opens them. A
proxy on this machine makes all its clients look local, so who comes by one does not count as such;
nor does a request for another name than this machine's, as a page in a browser here could send it
after its own name was made to stand for this address.
"""

import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmstatsd import address
from llmstatsd.web.app import WebStats
from llmstatsd.web.streams import STREAM_SECONDS, TAP_PATH, Stream, check_parameters, full, problem

_BY_PROXY: Final = ("forwarded", "via", "x-real-ip")

RECORDS: Final = "application/x-ndjson"

NOT_LOCAL: Final = (
    "a tap is for this machine alone, asked directly and as localhost or by its address; "
    "http.tap = true opens it to everybody who reaches this port"
)


class OneTap(Protocol):
    """Who looks."""

    async def take(self) -> bytes | None:
        """What there is by now; None at the end."""


class Tapping(Protocol):
    """Who opens taps: `llmstatsd.live.tap.Taps`."""

    @property
    def is_full(self) -> bool:
        """Whether there may be no further one."""

    def open(self, wanted: str, /) -> Any:
        """A tap for a filter; ValueError says what is wrong with that."""

    def close(self, tap: Any, /) -> None:
        """Close one."""


def route(taps: Tapping, is_open: Callable[[], bool], stats: WebStats) -> Route:
    """For the application; `is_open` says whether everybody may look; who may not is counted."""

    def refused(answer: Response) -> Response:
        stats.refused["taps"] += 1
        return answer

    async def respond(request: Request) -> Response:
        client = request.client.host if request.client else ""
        if not is_open() and not is_local(client, request.headers):
            return refused(problem(NOT_LOCAL, 403))
        query = request.query_params
        try:
            check_parameters(query, ("filter",))
            if request.method == "HEAD":
                return Response(media_type=RECORDS)
            if taps.is_full:
                return refused(full("taps"))
            tap = taps.open(query.get("filter", ""))
        except ValueError as error:
            return problem(str(error), 400)
        return Stream(_records(tap), RECORDS, partial(taps.close, tap))

    return Route(TAP_PATH, respond)


def is_local(client: str, headers: Headers) -> bool:
    """Whether a request comes from this machine, by no proxy and for no other name."""
    is_forwarded = any(name in _BY_PROXY or name.startswith("x-forwarded") for name in headers)
    return _is_loopback(client) and not is_forwarded and _names_this_machine(headers.get("host"))


def _is_loopback(text: str) -> bool:
    try:
        return address.is_loopback(text)
    except ValueError:
        return False


def _names_this_machine(host: str | None) -> bool:
    if not host:
        return True  # HTTP/1.0; no browser asks so
    try:
        name = address.parse(host if ":" in host.rpartition("]")[2] else f"{host}:80").host
    except ValueError:
        return False
    return name.lower() == "localhost" or _is_loopback(name)


async def _records(tap: OneTap) -> AsyncIterator[bytes]:
    until = time.monotonic() + STREAM_SECONDS
    while time.monotonic() < until:
        records = await tap.take()
        if records is None:
            return
        yield records
