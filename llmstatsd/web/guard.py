"""What stands before the application: methods, bodies, passwords, and headers on every answer.

No path is exempt from the password, the health checks neither: so does exporter-toolkit.
"""

import logging
import time
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmstatsd.web.app import RELOAD_PATH, WebStats
from llmstatsd.web.passwords import Passwords
from llmstatsd.web.security import OPEN, Security

LOG_SECONDS: Final = 60.0
"""Refusals of one reason are logged at most this often; every one is counted."""

_READS: Final = frozenset({"GET", "HEAD"})
_RELOADS: Final = frozenset({"POST", "PUT"})

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
}
"""On every answer that does not say otherwise itself."""

logger = logging.getLogger("llmstatsd")


class Refusals:
    """Counts refused requests by reason in `stats`, and logs each reason at a bounded rate."""

    def __init__(self, stats: WebStats) -> None:
        self._stats = stats
        self._logged: dict[str, float] = {}

    def add(self, reason: str, text: str) -> None:
        """Counts one; `reason` is one of app.REFUSED_REASONS, `text` says more in the log."""
        self._stats.refused[reason] += 1
        now = time.monotonic()
        if now - self._logged.get(reason, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[reason] = now
            count = self._stats.refused[reason]
            logger.warning("web requests refused as %s: %d, the last: %s", reason, count, text)


class Guard:
    """An ASGI application around another; `secure` changes what it asks for."""

    def __init__(self, app: ASGIApp, refusals: Refusals) -> None:
        self._app = app
        self._refusals = refusals
        self.secure(OPEN)

    def secure(self, security: Security) -> None:
        """Asks for the users of `security` and sends its headers from the next request on."""
        self._passwords = Passwords(security.users)
        self._headers = security.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what goes no further, and hands on the rest."""
        headers = Headers(scope=scope)
        changed = self._headers

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message, changed)
            await send(message)

        answer = await self._refusal(scope, headers)
        await (answer or self._app)(scope, receive, send_safely)

    async def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        """The answer to a request that goes no further; the costly question comes last."""
        method = scope["method"]
        allowed = _RELOADS if scope["path"] == RELOAD_PATH else _READS
        has_body = _has_body(headers)
        closing = {"Connection": "close"} if has_body else {}
        client = (scope.get("client") or ["?"])[0]
        if method not in allowed:
            self._refusals.add("method", f"from {client}")
            also = {"Allow": ", ".join(sorted(allowed))}
            return PlainTextResponse("method not allowed", 405, headers=closing | also)
        if has_body:
            self._refusals.add("body", f"from {client}")
            return PlainTextResponse("no request here has a body", 413, headers=closing)
        if scope["path"] == RELOAD_PATH and _is_foreign(headers):
            self._refusals.add("origin", f"from {client}")
            return PlainTextResponse("not from another site", 403)
        if self._passwords.needed:
            given = headers.getlist("authorization")
            if len(given) != 1 or not await self._passwords.admit(given[0]):
                if given:  # a browser asks without at first
                    self._refusals.add("password", f"from {client}")
                also = {"WWW-Authenticate": 'Basic realm="llmstatsd", charset="UTF-8"'}
                return PlainTextResponse("a user and a password are needed", 401, headers=also)
        return None


def _add_headers(message: MutableMapping[str, Any], changed: Any) -> None:
    headers = MutableHeaders(raw=message["headers"])
    for name, text in _HEADERS.items():
        headers.setdefault(name, text)
    for name, text in changed.items():
        if text:
            headers[name] = text
        else:
            del headers[name]
    message["headers"] = headers.raw


def _has_body(headers: Headers) -> bool:
    lengths = headers.getlist("content-length")
    return "transfer-encoding" in headers or any(length.strip("0 ,") for length in lengths)


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser sends this for the page of another site.

    Fetch Metadata says it outright (W3C); an older browser names the page's origin at least.
    """
    site = headers.get("sec-fetch-site", "none")
    origin = headers.get("origin")
    is_other = origin is not None and origin.partition("://")[2] != headers.get("host")
    return site not in ("none", "same-origin") or is_other
