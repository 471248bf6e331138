"""The API, version 1, in JSON: what is there now, and a stream of it by server-sent events.

Server-sent events: the HTML standard, section 9.2.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmstatsd.web.app import WebStats
from llmstatsd.web.streams import (
    STREAM_PATH,
    STREAM_SECONDS,
    Stream,
    check_parameters,
    full,
    problem,
)
from llmstatsd.web.turns import Turns
from llmstatsd.window import WINDOWS, WindowName

RETRY_MILLISECONDS: Final = 250
"""After which a browser opens the next stream."""

EVENTS: Final = "text/event-stream"

SELDOM_TICKS: Final = 5
"""What changes slowly is sent with every fifth update."""

KEPT_LIMIT: Final = 64
"""Most documents kept for all who ask in the same second; any further one is made for each.

The largest, a whole series, has some 100 KiB.
"""

MODEL_LENGTH_LIMIT: Final = 128
"""As long as a label value may be."""


class Answers(Protocol):
    """Who makes the documents: `llmstatsd.live.answers.Answers`."""

    def summary(self, window: WindowName, /) -> msgspec.Struct:
        """Everything at a glance."""

    def series(self, window: WindowName, model: str | None, /) -> msgspec.Struct:
        """All points of a window."""

    def newest(self, window: WindowName, model: str | None, /) -> msgspec.Struct:
        """The last of them."""

    def cardinality(self) -> msgspec.Struct:
        """What label values make."""

    def refused(self) -> msgspec.Struct:
        """What was refused and why."""

    def settings(self) -> msgspec.Struct:
        """The configuration in force."""


class Ticks:
    """Wakes the streams once a second, and keeps what they all send: it is made once for all."""

    def __init__(self) -> None:
        self.number = 0
        self.is_over = False
        self._next = asyncio.Event()
        self._made: dict[object, bytes] = {}  # of this tick, at most KEPT_LIMIT

    def pass_on(self) -> None:
        """There is something new."""
        self.number += 1
        self._made = {}
        self._wake()

    def end(self) -> None:
        """End all streams."""
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Until there is something new, or the end."""
        if not self.is_over:
            await self._next.wait()

    def once(self, key: object, make: Callable[[], bytes]) -> bytes:
        """What `make` gives, made only once in a tick."""
        made = self._made.get(key)
        if made is None:
            made = make()
            if len(self._made) < KEPT_LIMIT:
                self._made[key] = made
        return made


class Api:
    """The routes below /api/v1."""

    def __init__(self, answers: Answers, ticks: Ticks, streams: int, stats: WebStats) -> None:
        """`streams` are the most streams at once; one more is answered 503, and counted."""
        self._answers = answers
        self._ticks = ticks
        self._left = streams
        self._stats = stats
        self._turns = Turns()

    def routes(self) -> list[Route]:
        """For the application."""
        answers = self._answers
        return [
            Route(
                "/api/v1/summary", self._answer(lambda window, _: _json(answers.summary, window))
            ),
            Route("/api/v1/series", self._answer(partial(self._shared, "series", answers.series))),
            Route("/api/v1/cardinality", self._answer(lambda *_: _json(answers.cardinality))),
            Route("/api/v1/refused", self._answer(lambda *_: _json(answers.refused))),
            Route("/api/v1/settings", self._answer(lambda *_: _json(answers.settings))),
            Route(STREAM_PATH, self._stream),
        ]

    def _answer(
        self, make: Callable[[WindowName, str | None], bytes]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make one answer in a turn of the loop, however many ask, so that the intake reads on."""

        async def respond(request: Request) -> Response:
            try:
                asked = _asked(request)
            except ValueError as error:
                return problem(str(error), 400)
            await self._turns.take()
            return Response(make(*asked), media_type="application/json")

        return respond

    def _shared(self, name: str, make: Callable[..., msgspec.Struct], *asked: object) -> bytes:
        """A document made once in a tick for all who ask."""
        return self._ticks.once((name, *asked), partial(_json, make, *asked))

    def _event(self, name: str, make: Callable[..., msgspec.Struct], *asked: object) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (name.encode(), self._shared(name, make, *asked))

    async def _stream(self, request: Request) -> Response:
        try:
            window, model = _asked(request)
        except ValueError as error:
            return problem(str(error), 400)
        if request.method == "HEAD":
            return Response(media_type=EVENTS)
        if not self._left:
            self._stats.refused["streams"] += 1
            return full("streams")
        self._left -= 1
        return Stream(self._events(window, model), EVENTS, self._give_back)

    def _give_back(self) -> None:
        self._left += 1

    async def _events(self, window: WindowName, model: str | None) -> AsyncIterator[bytes]:
        """Who reads slowly misses updates, and never gets old ones."""
        answers, ticks = self._answers, self._ticks
        until = time.monotonic() + STREAM_SECONDS
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        await self._turns.take()
        yield self._event("series", answers.series, window, model)
        yield self._event("settings", answers.settings)
        seldom_told = {"cardinality": answers.cardinality, "refused": answers.refused}
        seldom = 0
        while not ticks.is_over and time.monotonic() < until:
            yield self._event("summary", answers.summary, window)
            yield self._event("point", answers.newest, window, model)
            if ticks.number >= seldom:
                seldom = ticks.number + SELDOM_TICKS
                for name, make in seldom_told.items():
                    yield self._event(name, make)
            await ticks.wait()


def _json(make: Callable[..., msgspec.Struct], *asked: object) -> bytes:
    return msgspec.json.encode(make(*asked))


def _asked(request: Request) -> tuple[WindowName, str | None]:
    """What a query asks for; ValueError says what is wrong with it."""
    query = request.query_params
    check_parameters(query, ("window", "model"))
    window, model = query.get("window", "5m"), query.get("model")
    if window not in WINDOWS:
        raise ValueError(f"window may be {' or '.join(WINDOWS)}")
    if model is not None and not 0 < len(model) <= MODEL_LENGTH_LIMIT:
        raise ValueError(f"model has 1 to {MODEL_LENGTH_LIMIT} characters")
    return window, model
