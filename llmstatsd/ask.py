"""Asks a daemon over HTTP: what `healthcheck`, `top`, `doctor` and `tap` have in common.

Always directly and once: no proxy of the environment is taken and no redirect followed, as both
would carry a password to somebody else.
"""

import http.client
import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from llmstatsd import address
from llmstatsd.terminal import plain

TIMEOUT_SECONDS: Final = 4.0
"""Longest wait for the next bytes of an answer, and for a connection.

Container runtimes give a health check 5 s or more, and a tap tells something each second.
"""

ANSWER_SECONDS: Final = 20.0
"""Longest time for a whole answer."""

ANSWER_BYTES_LIMIT: Final = 64 << 20
"""Largest answer that is read; the API's documents have some 100 KiB."""

PASSWORD_VARIABLE: Final = "LLMSTATSD_PASSWORD"  # noqa: S105 - its name

LINE_BYTES_LIMIT: Final = 1 << 20
"""Longest line of a stream that is read whole; the daemon's are far below."""

_BLOCK_BYTES: Final = 1 << 16

Document = dict[str, Any]

T = TypeVar("T")


class AskError(Exception):
    """There is no answer, or none of a daemon's; the text says why in plain words.

    The text may hold some of the answer, and is made harmless for a terminal. `status` is that of
    an answer that says no, None where there is none; `is_answered` says whether somebody is there.
    """

    def __init__(self, text: str, status: int | None = None, *, is_answered: bool = False) -> None:
        super().__init__(plain(text))
        self.status = status
        self.is_answered = is_answered or status is not None


def url_of(listen: str) -> str:
    """Where a daemon that listens there is reached on its own machine."""
    host, port = address.parse(listen)
    return f"http://{address.Address(address.on_this_machine(host), port)}"


class Daemon:
    """One daemon; its connection is kept open from one question to the next."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        user: str | None = None,
        password: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """`url` is http or https, with or without a path before the daemon's own.

        `ca_file` holds the authorities to trust instead of the system's. Raises ValueError for a
        text that is no such URL, and for a file that holds no certificates.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(f"{url!r} has more than scheme, host, port and path")
        self.url = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._headers = {"Accept-Encoding": "identity"}
        if user is not None:
            token = b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._connection = _connection(parts.scheme, parts.hostname, parts.port, ca_file)
        self._connection.timeout = timeout_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up; the next question opens another."""
        self._connection.close()

    def text(self, path: str, **query: str | list[str]) -> str:
        """The body of an answer with status 200, else AskError."""
        with self._explained(path):
            status, body = self._whole(_with_query(path, query))
        if status != 200:
            raise self._refusal(path, status, body)
        return body.decode(errors="replace")

    def lines(self, path: str, **query: str) -> Iterator[bytes]:
        """The lines of an answer as they come, until its end; each has to come within the timeout.

        Raises AskError.
        """
        with self._explained(path):
            answer = self._answer(_with_query(path, query))
            if answer.status != 200:
                raise self._refusal(path, answer.status, answer.read(LINE_BYTES_LIMIT))
            try:
                while line := answer.readline(LINE_BYTES_LIMIT):
                    yield line
            finally:  # the answer may not be at its end
                self.close()

    def document(self, what: str, **query: str) -> Document:
        """A document of the API, version 1, such as `summary`. Raises AskError."""
        text = self.text(f"/api/v1/{what}", **query)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("version") != 1:
            raise AskError(
                f"{self.url} answers, and not as a daemon whose API has version 1 does",
                is_answered=True,
            )
        return document

    def _refusal(self, path: str, status: int, body: bytes) -> AskError:
        return AskError(f"{self.url}{path} answers {status}{_reason(status, body)}", status)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """What goes wrong inside is an AskError, and ends the connection."""
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            text = f"{self.url}{path}: {_why(error)}"
            raise AskError(text, is_answered=_is_of_somebody(error)) from error

    def _answer(self, asked: str) -> http.client.HTTPResponse:
        was_open = self._connection.sock is not None
        try:
            return self._first_answer(asked)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            if not was_open:
                raise
        self.close()  # a daemon closes connections that are kept open for long
        return self._first_answer(asked)

    def _first_answer(self, asked: str) -> http.client.HTTPResponse:
        self._connection.request("GET", self._path + asked, headers=self._headers)
        return self._connection.getresponse()

    def _whole(self, asked: str) -> tuple[int, bytes]:
        until = time.monotonic() + ANSWER_SECONDS
        answer = self._answer(asked)
        parts: list[bytes] = []  # at most ANSWER_BYTES_LIMIT together
        size = 0
        while part := answer.read1(_BLOCK_BYTES):
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_LIMIT:
                raise ValueError(f"an answer of more than {ANSWER_BYTES_LIMIT} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"no whole answer within {ANSWER_SECONDS:g} s")
        answer.close()
        return answer.status, b"".join(parts)


def _with_query(path: str, query: Mapping[str, str | list[str]]) -> str:
    asked = urlencode(query, doseq=True, errors="replace")
    return f"{path}?{asked}" if asked else path


def _connection(
    scheme: str, host: str, port: int | None, ca_file: Path | None
) -> http.client.HTTPConnection:
    if scheme == "http":
        if ca_file is not None:
            raise ValueError("a CA file is for https URLs")
        return http.client.HTTPConnection(host, port)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or error
        raise ValueError(f"{ca_file}: no file of certificates ({why})") from error
    return http.client.HTTPSConnection(host, port, context=context)


def understood(make: Callable[[], T]) -> T:
    """What `make` gives of documents; AskError where they are not of the shape they should have."""
    try:
        return make()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"the answer is not of the API, version 1: {error!r}"
        raise AskError(text, is_answered=True) from error


def _is_of_somebody(error: Exception) -> bool:
    """Whether it shows that something came back, if only no HTTP."""
    if isinstance(error, http.client.RemoteDisconnected):
        return False
    return isinstance(error, ssl.SSLError | http.client.HTTPException | ValueError)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see --ca-file"
    if isinstance(error, http.client.RemoteDisconnected | http.client.BadStatusLine):
        return "no HTTP answer: is it a daemon, and is it http or https?"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: is it http? ({error.reason or error})"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__


def _reason(status: int, body: bytes) -> str:
    if status == 401:
        return f": it asks for a password; give --user, and the password in {PASSWORD_VARIABLE}"
    if status == 404:
        return ": it is no daemon, or one without an API"
    try:
        said = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {str(said)[:200]}"
