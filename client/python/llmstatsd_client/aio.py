"""The client over asyncio-dgram: a task sends, and `send` only puts a datagram into its queue."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import asyncio_dgram

from llmstatsd_client.buffer import Unbuffered
from llmstatsd_client.client import BaseClient
from llmstatsd_client.sender import (
    RESOLVE_SECONDS,
    RETRY_SECONDS,
    UnresolvedError,
    drop,
    first_address,
)
from llmstatsd_client.settings import Destination, Udp, Unix, settings
from llmstatsd_client.stats import Counts

if TYPE_CHECKING:
    from types import TracebackType

    from asyncio_dgram.aio import DatagramClient
    from typing_extensions import Self

QUEUE_LIMIT: Final = 1024
"""Datagrams that may wait for the task; more are dropped as full. At most 8 MiB."""

CLOSE_SECONDS: Final = 1.0
"""Longest that flush and close wait for the queue to get empty."""

_tasks: Final[set[asyncio.Task[None]]] = set()


class AsyncClient(BaseClient):
    """Sends each event as one datagram from a task of the running loop; `send` never waits.

    As the task sends later, a strict client raises for fields, not for datagrams.

    The arguments are those of `Client`, without `buffered`. `async with` opens it and closes it;
    without, the first event sent from a coroutine starts the task, and `aclose` ends it.
    Events sent while no loop runs wait in the queue, which is bounded.
    Needs the extra `async`, which is asyncio-dgram.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        socket: str | os.PathLike[str] | None = None,
        disabled: bool | None = None,
        max_datagram_bytes: int | None = None,
        strict: bool = False,
    ) -> None:
        found = settings(host, port, socket, disabled, max_datagram_bytes)
        super().__init__(found, strict=strict is True)
        self._queue = Queue(found.destination, self._counts)
        if not found.disabled:
            self._deliver = Unbuffered(self._queue.put, found.max_datagram_bytes).put

    async def flush(self) -> None:
        """Wait until the queue is empty, at most a second."""
        if self._deliver is not None:
            await self._queue.flush()

    async def aclose(self) -> None:
        """Flush, and end the task; later events are counted as `closed_events`, not sent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._deliver = None
        await self._queue.aclose()

    async def __aenter__(self) -> Self:
        if self._deliver is not None:
            self._queue.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._queue.stop()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._queue.reset()


class Queue:
    """Datagrams on their way to the task that sends them."""

    def __init__(self, destination: Destination, counts: Counts) -> None:
        self._destination = destination
        self._counts = counts
        self.reset()

    def reset(self) -> None:
        """Begin empty and without a task, as the child of a fork does."""
        self._waiting: deque[bytes] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        self._rest = asyncio.Event()
        self._is_asleep = False

    def put(self, datagram: bytes) -> None:
        """Queue a datagram, or drop it; from any thread."""
        if len(self._waiting) >= QUEUE_LIMIT:
            self._counts.dropped_full += 1
            return
        self._waiting.append(datagram)
        if self._is_asleep and self._loop is not None:
            self._wake(self._loop)
        if self._loop is None:
            with contextlib.suppress(RuntimeError):  # no loop runs here
                self.start()

    def start(self) -> None:
        """Start the task in the running loop; raises RuntimeError without one."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self._loop = loop
        self._work, self._rest = asyncio.Event(), asyncio.Event()
        self._is_asleep = False
        self._task = loop.create_task(self._run(Link(self._destination), self._work, self._rest))
        _tasks.add(self._task)  # the loop itself holds no task that waits
        self._task.add_done_callback(_tasks.discard)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_asleep = False
        try:
            loop.call_soon_threadsafe(self._work.set)
        except RuntimeError:  # the loop has been closed; the next one takes over
            self._loop = None

    async def flush(self) -> None:
        """Wait until the task has nothing left to do, at most a second."""
        self.start()
        if self._waiting:
            self._rest.clear()
            self._work.set()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._rest.wait(), CLOSE_SECONDS)

    async def aclose(self) -> None:
        """Flush and end the task; what could not be sent in time is dropped as full."""
        if self._waiting or self._task is not None:
            await self.flush()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        left = len(self._waiting)
        self._counts.dropped_full += left
        self.reset()

    def stop(self) -> None:
        """End the task from outside of it."""
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self, link: Link, work: asyncio.Event, rest: asyncio.Event) -> None:
        """What the task does until it is cancelled."""
        try:
            while True:
                work.clear()
                await self._send_all(link)
                self._is_asleep = True
                if not self._waiting:  # looked at after the flag was set, so none is missed
                    rest.set()
                    await work.wait()
                self._is_asleep = False
        finally:
            link.let_go()
            if self._work is work:  # else another loop has taken over
                self._loop = None

    async def _send_all(self, link: Link) -> None:
        counts = self._counts
        while self._waiting:
            datagram = self._waiting.popleft()
            size = len(datagram)
            self._rest.clear()
            try:
                await link.send(datagram)
            except OSError as error:
                drop(counts, error)
            except asyncio.CancelledError:
                counts.dropped_full += 1
                raise
            else:
                counts.sent_datagrams += 1
                counts.sent_bytes += size


class Link:
    """A stream of asyncio-dgram to the destination, opened and looked up again when due."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._stream: DatagramClient | None = None
        self._until = 0.0
        self._retry_at = 0.0

    async def send(self, datagram: bytes) -> None:
        """Send one datagram; raises OSError."""
        try:
            await self._sent(datagram)
        except ConnectionRefusedError:
            # It tells of an earlier datagram: this one has not been sent yet.
            self._until = min(self._until, self._retry_at)
            if isinstance(self._destination, Unix):
                self.let_go()
            await self._sent(datagram)

    async def _sent(self, datagram: bytes) -> None:
        stream = await self._opened()
        try:
            await stream.send(datagram)
            _ = stream.exception  # raises what the send met
        except asyncio_dgram.TransportClosed as error:
            self.let_go()
            raise OSError("the transport is closed") from error
        except ConnectionRefusedError:
            raise
        except OSError:
            self.let_go()
            raise

    async def _opened(self) -> DatagramClient:
        if self._stream is not None and time.monotonic() < self._until:
            return self._stream
        address = await self._address()
        self.let_go()
        now = time.monotonic()
        self._retry_at, self._until = now + RETRY_SECONDS, now + RESOLVE_SECONDS
        self._stream = await asyncio_dgram.connect(address)
        return self._stream

    async def _address(self) -> tuple[str, int] | str:
        """Where to; raises UnresolvedError."""
        place = self._destination
        if isinstance(place, Unix):
            return place.path
        if not isinstance(place, Udp):
            raise UnresolvedError("there is no destination")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise UnresolvedError(f"{place.host} has no address") from error
        host, port, *_ = first_address(found)[1]
        return host, port

    def let_go(self) -> None:
        """Close the stream; the next datagram opens one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
