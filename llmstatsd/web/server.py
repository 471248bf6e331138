"""uvicorn in the daemon's own event loop: listening sockets, connection deadlines, a bounded end.

uvicorn bounds what a request may hold, but neither the time a client takes to send or to read, nor
the connections that never send a request: `_Connection` adds that.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Coroutine, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from http import HTTPStatus
from typing import Any, Final, cast

import h11
import uvicorn
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from llmstatsd import address
from llmstatsd.config import Http
from llmstatsd.web.app import WebStats
from llmstatsd.web.guard import Guard, Refusals
from llmstatsd.web.security import OPEN, Security, sans

BACKLOG: Final = 128
"""Connections that the kernel holds until they are accepted."""

RESPONSE_SECONDS: Final = 60.0
"""Longest time for one answer: Prometheus waits at most a scrape interval, 60 s by default."""

KEEP_ALIVE_SECONDS: Final = 75
"""Longest silence between two requests: above the usual scrape intervals, 15 s to 60 s."""

REFUSED_CONNECTIONS: Final = 64
"""Connections over the limit that may stay to be told 503; any further one is closed at once."""

EARLY_BYTES: Final = 1 << 19
"""Most bytes kept of a client until its handshake is looked at: two reads of uvloop's TLS."""

PROBE_SECONDS: Final = 5.0
"""How long a connection of our own may wait to be taken."""

PROBE_STEP_SECONDS: Final = 0.01

_READING: Final = "reading"
_IDLE: Final = "idle"


class WebServer:
    """Serves one ASGI application on one address: `bind`, then `serve` until `stop`."""

    def __init__(
        self, app: ASGIApp, http: Http, stats: WebStats | None = None, security: Security = OPEN
    ) -> None:
        """`stats` gets the refusals; `security` holds until `set_security`."""
        refusals = Refusals(stats or WebStats())
        self._listen = http.listen
        self._guard = Guard(app, refusals)
        self._config = _Config(self._guard, http, refusals)
        self._server = _Server(self._config)
        self._sockets: list[socket.socket] = []
        self.set_security(security)

    def set_security(self, security: Security) -> None:
        """Takes effect for new connections, users and headers for new requests on old ones too."""
        self._config.security = security
        self._guard.secure(security)

    def bind(self, passed: Sequence[socket.socket] = ()) -> str:
        """Listens from now on, and gives the address as HOST:PORT with the real port.

        Passed sockets listen already, and stand in for the configured address.
        An empty host is every interface, IPv6 and IPv4; a name is every address it stands for.
        Raises OSError with the configured address as its `filename`.
        """
        host, port = address.parse(self._listen)
        try:
            self._sockets = list(passed) or _listeners(host or address.every_interface(), port)
        except OSError as error:
            raise OSError(error.errno, _reason(error), self._listen) from error
        return str(address.Address(*self._sockets[0].getsockname()[:2]))

    async def serve(self) -> None:
        """Answers until `stop`; then answers under way get `shutdown_timeout_seconds` to finish.

        When it returns every socket is closed and every request has ended.
        """
        await checkpoint()  # loads anyio's backend: in the first scrape it would cost 20 ms
        await self._server.serve(self._sockets)

    async def makes_progress(self) -> bool:
        """Whether a connection of our own is taken in time, PROBE_SECONDS at most.

        A connection that the kernel alone has answered does not count. It is closed before
        anything is said on it, so neither TLS nor passwords matter.
        """
        before = self._config.taken
        own = self._sockets[0]
        host, *rest = own.getsockname()
        probe = socket.socket(own.family, socket.SOCK_STREAM)
        try:
            probe.setblocking(False)
            async with asyncio.timeout(PROBE_SECONDS):
                await asyncio.get_running_loop().sock_connect(
                    probe, (address.on_this_machine(host), *rest)
                )
                while self._config.taken == before:  # noqa: ASYNC110 - an event would be set by each
                    await asyncio.sleep(PROBE_STEP_SECONDS)
        except (OSError, TimeoutError):
            return False
        finally:
            probe.close()
        return True

    def stop(self) -> None:
        """Asks `serve` to end, whether it has begun or not."""
        self._server.should_exit = True


def _listeners(host: str, port: int) -> list[socket.socket]:
    """One listening socket for each address of `host`, all on one port.

    `localhost` may well name `::1` on a machine without IPv6, so one address suffices.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, *_, where in dict.fromkeys(found):
        try:
            sockets.append(_listener(family, (where[0], port, *where[2:])))
        except OSError as error:
            if error.errno not in address.NOT_HERE:
                _close(sockets)
                raise
            absent = error
        else:
            port = sockets[0].getsockname()[1]
    if absent is not None and not sockets:
        raise absent
    return sockets


def _listener(family: int, where: tuple[Any, ...]) -> socket.socket:
    is_dual = where[0] == "::"
    return socket.create_server(where, family=family, backlog=BACKLOG, dualstack_ipv6=is_dual)


def _close(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()


def _reason(error: OSError) -> str:
    """The system's own words: create_server() adds the address, the resolver has its own codes."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return str(error.strerror)
    return os.strerror(error.errno)


class _Config(uvicorn.Config):
    """uvicorn without what belongs to the daemon: loop, logging, signals, environment."""

    def __init__(self, guard: Guard, http: Http, refusals: Refusals) -> None:
        super().__init__(
            guard,
            http=_Door,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # bugs of ours; what clients do wrong would fill the log
            access_log=False,
            proxy_headers=False,
            server_header=False,
            workers=1,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=http.header_bytes,
        )
        self.guard = guard
        self.limits = http
        self.refusals = refusals
        self.security = OPEN
        self.taken = 0
        """Connections that were handed to us since the start."""
        self.waiting: dict[_Connection | _Door, None] = {}
        """Connections without a request under way, the longest waiting first."""

    def make_room(self, connections: set[Any]) -> None:
        """Over the limit, lets go of who has waited longest: silence starves no scraper.

        Where doors are shut, who has been let in stays: no stranger takes their place.
        """
        while len(connections) > self.limits.connections:
            oldest = next((each for each in self.waiting if not each.is_known), None)
            if oldest is None:
                return
            del self.waiting[oldest]
            connections.discard(oldest)
            self.refusals.add("idle", "the connection that was silent for longest")
            oldest.transport.abort()


class _Server(uvicorn.Server):
    """Leaves signals alone, and leaves nothing behind when it has shut down."""

    config: _Config

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Signals belong to the daemon."""
        return nullcontext()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits in fractions of a second, where uvicorn's own timeout takes whole ones."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.limits.shutdown_timeout_seconds):
                await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


class _Framing(h11.Connection):
    """h11 that puts the data of a body on the socket itself, framed but never copied.

    h11 would join a block with its few bytes of framing, and uvicorn write the copy.
    """

    def __init__(self, header_bytes: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=header_bytes)
        self.transport: asyncio.Transport
        self.has_served = False
        """Whether a request was answered by what it asked for."""

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """What is left to be written: nothing of a body's data."""
        if isinstance(event, h11.Response) and event.status_code == HTTPStatus.OK:
            self.has_served = True
        if not isinstance(event, h11.Data):
            return super().send(event)
        self.transport.writelines(self.send_with_data_passthrough(event) or ())
        return b""


class _Door(asyncio.Protocol):
    """A connection until its TLS is agreed on; then, or without TLS at once, a `_Connection`.

    The context is taken when a client comes, so that a new one holds for whoever comes next.
    What arrives between the handshake and the turn of the task that waits for it is kept here, at
    most EARLY_BYTES.
    """

    transport: asyncio.Transport
    is_known: Final = False

    def __init__(
        self,
        config: _Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._early = b""
        self._is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._config.taken += 1
        security = self._config.security
        if security.tls is None:
            self._hand_over(transport)
            return
        connections = self._state.connections
        connections.add(self)  # type: ignore[arg-type]
        self._config.waiting[self] = None
        self._config.make_room(connections)
        if len(connections) > self._config.limits.connections:
            self.shutdown()
            return
        task = self._loop.create_task(self._agree(security, self._begin(security.tls)))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _begin(self, tls: ssl.SSLContext) -> "_Begun":
        """Begins the handshake now: in a task of its own it would come after the first bytes."""
        return _Begun(
            self._loop.start_tls(
                self.transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._config.limits.header_timeout_seconds,
            )
        )

    def data_received(self, data: bytes) -> None:
        if len(self._early) + len(data) > EARLY_BYTES:
            self._is_lost = True
            self._refuse("too much before an answer")
            return
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._forget()

    def shutdown(self) -> None:
        """As uvicorn asks of its connections."""
        self.transport.abort()

    async def _agree(self, security: Security, handshake: "_Begun") -> None:
        try:
            transport = await handshake
        except (OSError, TimeoutError) as error:
            self._refuse(f"{type(error).__name__}: {getattr(error, 'reason', None) or error}")
            return
        if transport is None or self._is_lost:
            self._refuse("the client went away")
            return
        self.transport = transport
        names = sans(transport.get_extra_info("peercert") or {})
        if security.allowed_sans and not names & security.allowed_sans:
            self._refuse("a certificate without an allowed name")
            return
        self._forget()
        self._hand_over(transport)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        connection = _Connection(self._config, self._state, self._app_state, self._loop)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._early:
            connection.data_received(self._early)

    def _refuse(self, text: str) -> None:
        self._config.refusals.add("tls", text)
        self._forget()
        self.transport.abort()

    def _forget(self) -> None:
        self._config.waiting.pop(self, None)
        self._state.connections.discard(self)


class _Begun:
    """A coroutine that runs to its first wait at once, and on from there when it is awaited."""

    def __init__(self, coroutine: Coroutine[Any, None, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._first = coroutine.send(None)

    def __await__(self) -> Generator[Any, None, asyncio.Transport | None]:
        with suppress(asyncio.CancelledError):  # of what is awaited, which tells the coroutine
            yield self._first
        return (yield from self._coroutine.__await__())


class _Connection(H11Protocol):
    """One connection, which has a deadline at any time.

    Whole request headers are due `header_timeout_seconds` after the connection was made or, on a
    connection kept alive, after their first byte; the answer is due in RESPONSE_SECONDS.
    uvicorn itself times the silence between two requests.
    """

    config: _Config

    def __init__(
        self,
        config: _Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self.conn = self._framing = _Framing(config.limits.header_bytes)
        self._phase: object = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_known(self) -> bool:
        """Whether somebody showed a password or a certificate here, and was let in."""
        return self._framing.has_served and self.config.security.is_closed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Over the limit it is told so, and takes the place of none that was there before."""
        super().connection_made(transport)
        self._framing.transport = transport
        self.config.make_room(self.connections)
        if len(self.connections) > self._limits.connections:
            self.app = self.config.guard.turn_away
        if len(self.connections) > self._limits.connections + REFUSED_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Gives h11 headers no further than they may go: it bounds only what is incomplete."""
        while self.conn.their_state is h11.IDLE and len(data) > self._room():
            part, data = data[: self._room()], data[self._room() :]
            super().data_received(part)
        if not self.transport.is_closing():
            super().data_received(data)
        self._watch()

    def _room(self) -> int:
        return max(1, self._limits.header_bytes - len(self.conn.trailing_data[0]))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._forget_deadline()
        self.config.waiting.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """Answers broken headers; a broken body comes when an answer is already under way."""
        self.config.refusals.add("headers", f"from {self.client and self.client[0]}")
        if self.conn.our_state is h11.IDLE:
            self._answer_400(msg)
        else:
            self.transport.abort()

    def _answer_400(self, text: str) -> None:
        """As uvicorn does, with the headers that every answer has."""
        own = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        headers = self.config.guard.with_headers(own)
        for event in (
            h11.Response(status_code=HTTPStatus.BAD_REQUEST, headers=headers),
            h11.Data(data=text.encode("ascii")),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _watch(self) -> None:
        """Sets the deadline when a phase begins; more bytes in the same phase do not move it."""
        phase = self._current_phase()
        if phase is self._phase:
            return
        self._phase = phase
        self._forget_deadline()
        self.config.waiting.pop(self, None)
        if phase is _READING or phase is _IDLE:
            self.config.waiting[self] = None
        if phase is not _IDLE:
            limit = self._limits.header_timeout_seconds if phase is _READING else RESPONSE_SECONDS
            self._deadline = self.loop.call_later(limit, self._close)

    def _current_phase(self) -> object:
        """The request being answered, or _READING, or _IDLE between two requests."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None:
            return _READING
        if not cycle.response_complete:
            return cycle
        is_idle = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        return _IDLE if is_idle else _READING

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        """Closes now: a plain close would wait for a client that does not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
