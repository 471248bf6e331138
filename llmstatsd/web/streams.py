"""What the streams of the API have in common: their time, their places, how they are refused."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response, StreamingResponse

STREAM_PATH: Final = "/api/v1/stream"
TAP_PATH: Final = "/api/v1/tap"

STREAM_SECONDS: Final = 50.0
"""A stream ends by itself, below the deadline of every answer; a reader opens the next one."""


class Stream(StreamingResponse):
    """A stream that gives its place back however it ends."""

    def __init__(
        self, parts: AsyncIterator[bytes], media_type: str, give_back: Callable[[], None]
    ) -> None:
        super().__init__(parts, media_type=media_type)
        self._give_back = give_back

    async def __call__(self, *asgi: Any) -> None:
        """As ASGI calls it."""
        try:
            await super().__call__(*asgi)
        finally:
            self._give_back()


def check_parameters(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Raises ValueError, with a text for people, for a parameter that is not known."""
    for name in given:
        if name not in known:
            there = "there are" if len(known) > 1 else "there is"
            raise ValueError(f"unknown parameter {name[:40]!r}; {there} {' and '.join(known)}")


def problem(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The API's answer to what it does not do."""
    return JSONResponse({"version": 1, "error": text}, status, headers=headers)


def full(what: str) -> Response:
    """The answer to one stream too many."""
    return problem(f"too many {what} are open", 503, {"Retry-After": "5"})
