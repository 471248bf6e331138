"""What stands before the application: methods, bodies, passwords, and headers on every answer.

No path is exempt from the password, the health checks neither: so does exporter-toolkit.
"""

import logging
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmstatsd.web.app import RELOAD_PATH, WebStats
from llmstatsd.web.passwords import Passwords
from llmstatsd.web.security import OPEN, Security
from llmstatsd.web.streams import STREAM_PATH, TAP_PATH

NOT_FOR_OTHERS: Final = frozenset({RELOAD_PATH, STREAM_PATH, TAP_PATH})
"""What a page of another site may not make a browser here ask for, answer or not: a stream and a
tap keep their place, and there are few."""

_READS: Final = frozenset({"GET", "HEAD"})
_RELOADS: Final = frozenset({"POST", "PUT"})

POLICY: Final = "content-security-policy"

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
    """Counts refused requests by reason in `stats`, and logs them; the log bounds each reason."""

    def __init__(self, stats: WebStats) -> None:
        self._stats = stats

    def add(self, reason: str, text: str) -> None:
        """Counts one; `reason` is one of app.REFUSED_REASONS, `text` says more in the log."""
        self._stats.refused[reason] += 1
        count, about = self._stats.refused[reason], {"about": reason}
        logger.warning(
            "web requests refused as %s: %d, the last: %s", reason, count, text, extra=about
        )


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
        safe = self._safe(send)
        answer = await self._refusal(scope, Headers(scope=scope))
        await (answer or self._app)(scope, receive, safe)

    async def turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 503 to a request on a connection too many, whatever it asks."""
        self._refusals.add("limit", f"from {(scope.get('client') or ['?'])[0]}")
        answer = PlainTextResponse("too many connections", 503, headers={"Connection": "close"})
        await answer(scope, receive, self._safe(send))

    def with_headers(self, raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The headers of an answer with those that every answer has."""
        headers = MutableHeaders(raw=list(raw))
        # An answer that has a policy runs by no other: the page's names what is in it by hashes.
        policy = headers.get(POLICY)
        for name, text in _HEADERS.items():
            headers.setdefault(name, text)
        for name, text in self._headers.items():
            if policy is not None and name.lower() == POLICY:
                continue
            if text:
                headers[name] = text
            else:
                del headers[name]
        return headers.raw

    def _safe(self, send: Send) -> Send:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self.with_headers(message["headers"])
            await send(message)

        return send_safely

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
        if scope["path"] in NOT_FOR_OTHERS and _is_foreign(headers):
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
