"""The ASGI application: `/metrics`, the health checks and the page.

A scrape is made in steps of about a millisecond.
Between two steps the event loop takes a turn, whatever the number of scrapes, so that the intake
keeps reading; gzip runs in a thread, where it works without the GIL.
What is made is sent at once, while it lies in the processor's cache, and never gathered.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from llmstatsd.exposition.text import Format, negotiate
from llmstatsd.threads import in_thread
from llmstatsd.web.compression import compressor
from llmstatsd.web.page import PAGE, PAGE_HEADERS
from llmstatsd.web.turns import Turns

BLOCK_BYTES: Final = 65536
"""Text is sent in blocks of at least this size: smaller ones cost more calls of the system."""

GZIP_BLOCK_BYTES: Final = 262144
"""Text is compressed in blocks of at least this size: each one goes to a thread and back."""

TURN_SECONDS: Final = 0.001
"""Time after which a scrape gives the loop a turn; under a flood its turns come seldom."""

RELOAD_PATH: Final = "/-/reload"

REFUSED_REASONS: Final = (
    *("body", "headers", "idle", "limit", "method", "origin", "password", "streams", "taps", "tls"),
)
"""Why the web turns a request or a connection away; the set is closed."""

CONCURRENT_SCRAPES: Final = 8
"""Unless told otherwise; each one under way holds a compressor of 360 KiB and a block or two.

No block is made while more than 64 KiB (uvicorn's HIGH_WATER_LIMIT) wait for the socket, so for
a reader that does not read the process holds that and a block, whatever the size of the body.
"""

_NO_SNIFFING: Final = {"X-Content-Type-Options": "nosniff"}


class Source(Protocol):
    """Where the text of a scrape comes from: `llmstatsd.exposition.text.Exposition`."""

    def chunks(self, chosen: Format, names: frozenset[str] | None, /) -> Iterator[bytes]:
        """The body in pieces, each made in about a millisecond; `names` are the samples wanted."""


@dataclass(slots=True)
class WebStats:
    """What the scrapes cost.

    `scrapes` were answered whole; `bytes` is the text made for them, and for those that their
    reader gave up, before compression.
    Seconds run from the request to the last byte handed to the socket, waiting and a slow reader
    included.
    `refused` counts what was turned away, by reason.
    """

    scrapes: int = 0
    bytes: int = 0
    seconds: float = 0.0
    last_seconds: float = 0.0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSED_REASONS, 0))

    def add(self, seconds: float) -> None:
        """Counts one scrape answered whole."""
        self.scrapes += 1
        self.seconds += seconds
        self.last_seconds = seconds


def _nothing() -> None:
    pass


def create_app(
    exposition: Source,
    *,
    is_ready: Callable[[], bool],
    gzip_level: Callable[[], int],
    stats: WebStats,
    concurrent_scrapes: int = CONCURRENT_SCRAPES,
    reload: Callable[[], Awaitable[str | None]] | None = None,
    end_of_memory: Callable[[], None] = _nothing,
    further: Sequence[Route] = (),
) -> Starlette:
    """The application that serves `exposition`; it fills `stats` and needs no lifespan events.

    `is_ready` decides between 200 and 503 on `/-/ready`; `gzip_level` gives zlib's, 1 to 9, see
    `compression`. Scrapes over `concurrent_scrapes` wait. `reload` loads the configuration anew and
    gives None, or the text why it failed; without it there is no `/-/reload`. `end_of_memory` is
    called when there is none for a scrape, which then fails. `further` routes come after its own.
    """
    scrapes = _Scrapes(exposition, gzip_level, stats, concurrent_scrapes, end_of_memory)

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE, headers=PAGE_HEADERS)

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok", headers=_NO_SNIFFING)

    async def ready(_: Request) -> Response:
        if is_ready():
            return PlainTextResponse("ready", headers=_NO_SNIFFING)
        return PlainTextResponse("not ready", 503, headers=_NO_SNIFFING)

    routes = [
        Route("/", page),
        Route("/metrics", scrapes.respond),
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
    ]
    if reload is not None:
        routes.append(_reload_route(reload))
    app = Starlette(routes=[*routes, *further])
    app.router.redirect_slashes = False  # /metrics/ is an unknown path, not a detour
    return app


def _reload_route(reload: Callable[[], Awaitable[str | None]]) -> Route:
    """POST or PUT, as in Prometheus; one after the other."""
    turn = asyncio.Lock()

    async def respond(_: Request) -> Response:
        async with turn:
            failure = await reload()
        if failure is None:
            return PlainTextResponse("reloaded", headers=_NO_SNIFFING)
        return PlainTextResponse(failure, 500, headers=_NO_SNIFFING)

    return Route(RELOAD_PATH, respond, methods=["POST", "PUT"])


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header admits gzip: named, or by `*`, and not with a weight of 0.

    RFC 9110, section 12.5.3. A weight that is no number admits nothing: plain text is always right.
    """
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, parameter = item.partition(";")
        weights[coding.strip()] = _weight(parameter)
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def _weight(parameter: str) -> float:
    name, _, number = parameter.partition("=")
    if not parameter.strip():
        return 1.0
    try:
        return float(number) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0


class _Scrapes:
    """Answers `/metrics`; at most `concurrent` at once, and one step in a turn of the loop."""

    __slots__ = ("_end_of_memory", "_exposition", "_gzip_level", "_slots", "_stats", "_turns")

    def __init__(
        self,
        exposition: Source,
        gzip_level: Callable[[], int],
        stats: WebStats,
        concurrent: int,
        end_of_memory: Callable[[], None],
    ) -> None:
        self._exposition = exposition
        self._gzip_level = gzip_level
        self._stats = stats
        self._end_of_memory = end_of_memory
        self._slots = asyncio.Semaphore(concurrent)
        self._turns = Turns()

    async def respond(self, request: Request) -> Response:
        form = negotiate(", ".join(request.headers.getlist("accept")))
        gzip = accepts_gzip(", ".join(request.headers.getlist("accept-encoding")))
        headers = _NO_SNIFFING | {
            "Content-Type": form.content_type,
            "Vary": "Accept, Accept-Encoding",
        }
        if gzip:
            headers["Content-Encoding"] = "gzip"
        if request.method == "HEAD":
            return _head(headers)
        names = frozenset(name for name in request.query_params.getlist("name[]") if name)
        chunks = self._exposition.chunks(form, names or None)
        body = self._blocks(chunks, GZIP_BLOCK_BYTES if gzip else BLOCK_BYTES)
        if gzip:
            body = _compressed(body, self._gzip_level())
        return _ScrapeResponse(body, headers, self._slots, self._stats, self._end_of_memory)

    async def _blocks(self, chunks: Iterator[bytes], block_bytes: int) -> AsyncGenerator[bytes]:
        """The same text in blocks of at least `block_bytes`, the loop's turns between steps.

        No more than a block is ever held; a step goes on in the time that its reader leaves it.
        """
        waiting: list[bytes] = []
        size = 0
        until = await self._take_turn()
        try:
            for piece in chunks:
                self._stats.bytes += len(piece)
                waiting.append(piece)
                size += len(piece)
                if size >= block_bytes:
                    yield b"".join(waiting)  # a single piece is not copied
                    waiting.clear()
                    size = 0
                if time.perf_counter() >= until:
                    until = await self._take_turn()
            yield b"".join(waiting)
        finally:
            if isinstance(chunks, Generator):
                chunks.close()  # now: the traceback of a cancellation may keep it for long

    async def _take_turn(self) -> float:
        """Lets the loop have a turn; until when the scrape may then work (perf_counter)."""
        await self._turns.take()
        return time.perf_counter() + TURN_SECONDS


def _head(headers: dict[str, str]) -> Response:
    """An answer to HEAD, without the length of a body that is not made."""
    response = Response(headers=headers)
    del response.headers["content-length"]
    return response


async def _compressed(blocks: AsyncGenerator[bytes], level: int) -> AsyncGenerator[bytes]:
    """One gzip member; the threads in use are bounded by the scrapes under way, one for each."""
    member = compressor(level)
    async with aclosing(blocks):
        async for block in blocks:
            yield await in_thread(partial(member.compress, block))
    yield await in_thread(member.flush)


class _ScrapeResponse(StreamingResponse):
    """Waits for a slot, streams the body and counts it; a client that goes away ends it all."""

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        headers: dict[str, str],
        slots: asyncio.Semaphore,
        stats: WebStats,
        end_of_memory: Callable[[], None],
    ) -> None:
        super().__init__(body, headers=headers)
        self._body = body
        self._slots = slots
        self._stats = stats
        self._end_of_memory = end_of_memory

    async def stream_response(self, send: Send) -> None:
        started = time.perf_counter()
        async with self._slots, aclosing(self._body):
            try:
                await super().stream_response(send)
            except MemoryError:
                self._end_of_memory()
                raise
        self._stats.add(time.perf_counter() - started)
