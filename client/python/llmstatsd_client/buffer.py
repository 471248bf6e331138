"""Events on their way to the socket: at once, or after a wait for company.

Of those that wait, several share a datagram, written and sent by a thread. Such an event is
captured at the call and appended to a deque, which takes no lock, so that any thread and any
signal handler may. Whoever flushes takes events off and writes whole datagrams of them; nothing
half done is shared. The thread sleeps while nothing waits.
"""

from __future__ import annotations

import _thread
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from llmstatsd_client.encoding import Prepared, finish, split
from llmstatsd_client.threads import start

FLUSH_SECONDS: Final = 0.3
"""Longest that an event waits."""

BATCH: Final = 64
"""So many events waiting wake the thread early."""

LIMIT: Final = 1024
"""Events that may wait: at this, whoever sends one also flushes some."""

LINES_LIMIT: Final = 1024
"""Bytes of lines of one event that may wait: longer ones go at once. So 2 MiB wait at most."""

HELP: Final = 8
"""Events that a sender over the limit flushes: some 60 microseconds."""

FLUSH_WAIT_SECONDS: Final = 1.0
"""Longest that flush waits for another thread that is flushing."""


class Unbuffered:
    """Events that go at once to `transmit`, which takes one datagram and raises OSError at most."""

    def __init__(self, transmit: Callable[[bytes], None], max_datagram_bytes: int) -> None:
        self._transmit = transmit
        self._max_datagram_bytes = max_datagram_bytes

    def put(self, prepared: Prepared) -> None:
        """Send an event."""
        if isinstance(prepared, bytes):
            lines = prepared
        else:
            template, event = prepared
            lines = template.fill(event)
        if len(lines) <= self._max_datagram_bytes:
            self._transmit(lines)
            return
        for datagram in split(lines, self._max_datagram_bytes):
            self._transmit(datagram)


class Buffer:
    """Events that wait, and then go to `transmit`, which takes one datagram.

    `before_start` is called in every process just before the thread starts there.
    The threshold is how many waiting events call for action: 1 while the thread sleeps, BATCH
    while it lets events gather, LIMIT while it works. A sender only compares with it.
    """

    def __init__(
        self,
        transmit: Callable[[bytes], None],
        max_datagram_bytes: int,
        before_start: Callable[[], None],
    ) -> None:
        self._transmit = transmit
        self._before_start = before_start
        self._max_datagram_bytes = max_datagram_bytes
        self._is_closed = False
        self.reset()

    def reset(self) -> None:
        """Begin empty and without a thread, as the child of a fork does."""
        self._waiting: deque[Prepared] = deque()
        self._flushing = threading.RLock()  # a signal handler may flush within a flush
        self._call = _thread.allocate_lock()
        self._call.acquire()
        self._threshold = 1
        self._has_thread = False

    def put(self, prepared: Prepared) -> None:
        """Take an event."""
        waiting = self._waiting
        waiting.append(prepared)
        if len(waiting) >= self._threshold:
            self._crossed()
        if prepared.__class__ is bytes and len(prepared) > LINES_LIMIT:
            self.flush()

    def flush(self) -> None:
        """Send all that waits, and return when nothing that was put before is under way."""
        self._flush(BATCH)
        while self._waiting:
            self._flush(BATCH)

    def close(self) -> None:
        """Flush, and let the thread end."""
        self._is_closed = True
        self._threshold = 0
        self._wake()
        self.flush()

    def _crossed(self) -> None:
        if self._is_closed or len(self._waiting) >= LIMIT:
            self._flush(HELP)
            return
        self._threshold = LIMIT
        if self._has_thread:
            self._wake()
        elif not self._start():
            self._threshold = 1
            self.flush()

    def _start(self) -> bool:
        """Start the thread; False where none is to be had, as at the end of the interpreter."""
        self._has_thread = True
        self._before_start()
        self._has_thread = start(_keep_flushing, self)
        return self._has_thread

    def _wake(self) -> None:
        try:
            self._call.release()
        except RuntimeError:  # it has been called already
            return

    def wait(self) -> bool:
        """Let events gather until it is time to flush; False when closed. For the thread."""
        call = self._call
        self._threshold = 1
        if not self._waiting and not self._is_closed:
            call.acquire()
        self._threshold = BATCH
        if len(self._waiting) < BATCH and not self._is_closed:
            call.acquire(timeout=FLUSH_SECONDS)
        self._threshold = 0 if self._is_closed else LIMIT
        return not self._is_closed

    def _flush(self, most: int) -> None:
        """Send up to so many of the events that wait, in datagrams of whole events."""
        flushing = self._flushing
        is_held = flushing.acquire(timeout=FLUSH_WAIT_SECONDS)
        try:
            self._send_events(most)
        finally:
            if is_held:
                flushing.release()

    def _send_events(self, most: int) -> None:
        lines = b""
        for _ in range(most):
            try:
                more = finish(self._waiting.popleft())
            except IndexError:
                break
            if lines and len(lines) + 1 + len(more) > self._max_datagram_bytes:
                self._send(lines)
                lines = b""
            lines = b"%b\n%b" % (lines, more) if lines else more
        if lines:
            self._send(lines)

    def _send(self, lines: bytes) -> None:
        for datagram in split(lines, self._max_datagram_bytes):
            self._transmit(datagram)


def _keep_flushing(buffer: Buffer) -> None:
    """What the thread does until its buffer is closed."""
    while buffer.wait():
        with contextlib.suppress(OSError):  # of a strict client; it has been counted
            buffer.flush()
