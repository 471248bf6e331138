"""The clients: what an application holds and calls."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from llmstatsd_client.buffer import Buffer, Unbuffered
from llmstatsd_client.encoding import Encoder, Prepared
from llmstatsd_client.event import Count, Dollars, Event, Refused, Seconds, Text
from llmstatsd_client.sender import Sender, sender
from llmstatsd_client.settings import Settings, settings
from llmstatsd_client.stats import Counts, Stats
from llmstatsd_client.tracker import Request

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Never, Self, Unpack

_clients: Final[dict[int, weakref.ref[BaseClient]]] = {}
_numbers: Final = itertools.count()


class BaseClient:
    """What both clients share: `send`, `request`, `stats`, and life across fork and exit.

    Nothing that is passed here ever raises into the application, unless `strict`.
    """

    # None while nothing is sent. A method of the client itself would keep the client alive.
    _deliver: Callable[[Prepared], None] | None

    def __init__(self, settings: Settings, *, strict: bool) -> None:
        if strict and settings.problem:
            raise ValueError(settings.problem)
        self._settings = settings
        self._strict = strict
        self._counts = Counts()
        self._encoder = Encoder()
        self._is_closed = False
        self._deliver = None
        _remember(self)

    def send(
        self,
        *misplaced: Never,
        model: Text | None = None,
        operation: Text | None = None,
        duration_seconds: Seconds | None = None,
        load_duration_seconds: Seconds | None = None,
        prompt_eval_duration_seconds: Seconds | None = None,
        total_duration_seconds: Seconds | None = None,
        time_to_first_token_seconds: Seconds | None = None,
        time_per_output_token_seconds: Seconds | None = None,
        tokens: Count | None = None,
        prompt_tokens: Count | None = None,
        completion_tokens: Count | None = None,
        cached_tokens: Count | None = None,
        cost_dollars: Dollars | None = None,
        error: Text | None = None,
        rate_limited: bool | None = None,
        fallback: bool | None = None,
        **unknown: Never,
    ) -> None:
        """Report one finished call, failed ones too.

        Durations are seconds, finite and 0..1e9; tokens are whole, 0..2**53-1; cost_dollars is
        finite, 0..1e6; of a text the first 128 characters count; error is one of `ERROR_TYPES`,
        any other text counts as `other`. `tokens` is the provider's total, and where it is
        missing, prompt and completion tokens are added up. What cannot be sent is counted, see
        `stats`; only a strict client raises: TypeError and ValueError for a field that is refused
        (then nothing is sent) or a closed client, OSError for a datagram that is dropped.
        """
        self._counts.events += 1
        deliver = self._deliver
        if deliver is None:
            self._not_delivered()
            return
        try:
            prepared, refused = self._encoder.prepare(
                (
                    model,
                    operation,
                    duration_seconds,
                    load_duration_seconds,
                    prompt_eval_duration_seconds,
                    total_duration_seconds,
                    time_to_first_token_seconds,
                    time_per_output_token_seconds,
                    tokens,
                    prompt_tokens,
                    completion_tokens,
                    cached_tokens,
                    cost_dollars,
                    error,
                    rate_limited,
                    fallback,
                )
            )
            if refused or misplaced or unknown:
                self._refuse(refused or {}, len(misplaced), list(unknown))
            deliver(prepared)
        except Exception:  # nothing may reach the application
            if self._strict:
                raise
            self._counts.dropped_error += 1

    def request(self, *misplaced: Never, **fields: Unpack[Event]) -> Request:
        """A call to be timed and counted once; see `Request`.

        It is a context manager, an asynchronous one and a decorator, and wraps streams.
        """
        return Request(self, dict(fields), len(misplaced))

    def stats(self) -> Stats:
        """What became of the events and datagrams so far."""
        return self._counts.stats()

    def _not_delivered(self) -> None:
        if not self._is_closed:
            return
        self._counts.closed_events += 1
        if self._strict:
            raise ValueError("the client is closed")

    def _refuse(self, refused: Refused, misplaced: int, unknown: list[str]) -> None:
        fields = len(refused) + misplaced + len(unknown)
        self._counts.refused_fields += fields
        if not self._strict:
            return
        for problem in refused.values():
            raise problem
        names = ", ".join(unknown) or "a positional argument"
        raise TypeError(f"not a field of an event: {names}")

    def _after_fork(self) -> None:
        """Begin anew in the child: no socket, nothing that waits, every count 0."""
        self._counts.reset()

    def _at_exit(self) -> None:
        """Send what waits, and from now on let nothing wait."""


class Client(BaseClient):
    """Sends each event as one datagram of StatsD lines, at once and without ever blocking.

    `host` and `port`, or `socket`, the path of a unix datagram socket, say where to, else the
    variables do, else it is 127.0.0.1:8125; an invalid one drops everything as unresolved.
    `disabled` sends nothing and opens no socket; without it LLMSTATSD_DISABLE decides.
    `buffered` lets events wait up to 300 ms to share datagrams, and a thread send them.
    `max_datagram_bytes` is 1..65507, by default 1432, or 8192 on a unix socket.
    `strict` raises what otherwise is only counted, for tests.

    Any thread and any signal handler may use it, and a child of a fork goes on with a socket of
    its own. The socket opens with the first event.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        socket: str | os.PathLike[str] | None = None,
        disabled: bool | None = None,
        buffered: bool = False,
        max_datagram_bytes: int | None = None,
        strict: bool = False,
    ) -> None:
        found = settings(host, port, socket, disabled, max_datagram_bytes)
        super().__init__(found, strict=strict is True)
        self._sender: Sender = sender(found.destination, self._counts, strict=self._strict)
        transmit, most = self._sender.transmit, found.max_datagram_bytes
        self._unbuffered = Unbuffered(transmit, most)
        self._buffer = Buffer(transmit, most, _flush_where_atexit_is_skipped)
        self._is_buffered = buffered is True
        if not found.disabled:
            self._deliver = self._buffer.put if self._is_buffered else self._unbuffered.put

    def flush(self) -> None:
        """Send what waits. Without `buffered` nothing ever does."""
        self._quietly(self._buffer.flush)

    def close(self) -> None:
        """Flush, and close the socket; later events are counted as `closed_events`, not sent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._deliver = None
        try:
            self._quietly(self._buffer.close)
        finally:
            self._sender.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # noqa: BLE001 nobody is there to be told, and the interpreter may end
            return

    def _quietly(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # nothing may reach the application
            if self._strict:
                raise

    def _after_fork(self) -> None:
        super()._after_fork()
        self._sender.reset()
        self._buffer.reset()

    def _at_exit(self) -> None:
        if self._is_buffered and self._deliver is not None:
            self._deliver = self._unbuffered.put
            self.flush()


def _remember(client: BaseClient) -> None:
    """Know the client at fork and at exit for as long as it lives."""
    number = next(_numbers)
    forget = _clients.pop  # the interpreter may have cleared this module before the client ends
    _clients[number] = weakref.ref(client, lambda _: forget(number, None))


def _living() -> list[BaseClient]:
    found = (reference() for reference in list(_clients.values()))
    return [client for client in found if client is not None]


def _after_fork_in_child() -> None:
    for client in _living():
        client._after_fork()


def _flush_all() -> None:
    for client in _living():
        client._at_exit()


def _flush_where_atexit_is_skipped() -> None:
    """Have multiprocessing flush in a child of its own, which ends without atexit."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _flush_all, exitpriority=0)


atexit.register(_flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
