"""`/api/v1/tap`: lines as they arrive, as JSON by the line, for those who may see them.

The lines of others are shown to nobody but this machine, unless the configuration opens them. A
proxy on this machine makes all its clients look local, so who comes by one does not count as such;
nor does a request for another name than this machine's, as a page in a browser here could send it
after its own name was made to stand for this address.
"""

import time
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from llmstatsd import address

TAP_SECONDS: Final = 50.0
"""A tap ends by itself below the deadline that every answer has; whoever looks opens the next."""

_BY_PROXY: Final = ("forwarded", "via", "x-real-ip")

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


def route(taps: Tapping, is_open: Callable[[], bool]) -> Route:
    """For the application; `is_open` says whether everybody may look."""

    async def respond(request: Request) -> Response:
        client = request.client.host if request.client else ""
        if not is_open() and not is_local(client, request.headers):
            return _problem(NOT_LOCAL, 403)
        for name in request.query_params:
            if name != "filter":
                return _problem(f"unknown parameter {name[:40]!r}; there is filter", 400)
        if taps.is_full:
            return _problem("too many taps are open", 503, {"Retry-After": "5"})
        try:
            tap = taps.open(request.query_params.get("filter", ""))
        except ValueError as error:
            return _problem(str(error), 400)
        return _Stream(taps, tap)

    return Route("/api/v1/tap", respond)


def is_local(client: str, headers: Headers) -> bool:
    """Whether a request comes from this machine, by no proxy and for no other name."""
    is_forwarded = any(name in _BY_PROXY or name.startswith("x-forwarded") for name in headers)
    return _is_loopback(client) and not is_forwarded and _names_this_machine(headers.get("host"))


def _is_loopback(text: str) -> bool:
    try:
        found = ip_address(text)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_loopback


def _names_this_machine(host: str | None) -> bool:
    if not host:
        return True  # HTTP/1.0; no browser asks so
    try:
        name = address.parse(host if ":" in host.rpartition("]")[2] else f"{host}:80").host
    except ValueError:
        return False
    return name.lower() == "localhost" or _is_loopback(name)


class _Stream(StreamingResponse):
    """A tap that is closed however the answer ends."""

    def __init__(self, taps: Tapping, tap: OneTap) -> None:
        super().__init__(_records(tap), media_type="application/x-ndjson")
        self._taps = taps
        self._tap = tap

    async def __call__(self, *asgi: Any) -> None:
        try:
            await super().__call__(*asgi)
        finally:
            self._taps.close(self._tap)


async def _records(tap: OneTap) -> AsyncIterator[bytes]:
    until = time.monotonic() + TAP_SECONDS
    while time.monotonic() < until:
        records = await tap.take()
        if records is None:
            return
        yield records


def _problem(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"version": 1, "error": text}, status, headers=headers)
