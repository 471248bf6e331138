"""What became of the events and datagrams of one client."""

from __future__ import annotations

from typing import NamedTuple


class Stats(NamedTuple):
    """Counts since the client was made, or since the process was forked; none ever falls.

    `events` are all calls of send, those of a disabled or closed client too.
    `refused_fields` were of a wrong type or out of range, or are no field of an event.
    `closed_events` came after close and were not sent.
    Datagrams: `sent_datagrams` and `sent_bytes` were taken by the kernel; `dropped_full` did not
    fit into the socket's buffer or the client's queue; `dropped_unresolved` had no address;
    `dropped_unreachable` had nobody who listens; `dropped_error` met any other error.
    """

    events: int = 0
    refused_fields: int = 0
    closed_events: int = 0
    sent_datagrams: int = 0
    sent_bytes: int = 0
    dropped_full: int = 0
    dropped_unresolved: int = 0
    dropped_unreachable: int = 0
    dropped_error: int = 0


class Counts:
    """The counts while they grow.

    `counts.events += 1` needs no lock: the interpreter lets another thread or a signal handler in
    only at a call or at a jump back (CPython since 3.10), and there is none within it. So what is
    added must be at hand: `counts.sent_bytes += len(datagram)` would lose counts.
    On a free-threaded build a count may fall short under contention.
    """

    __slots__ = Stats._fields

    events: int
    refused_fields: int
    closed_events: int
    sent_datagrams: int
    sent_bytes: int
    dropped_full: int
    dropped_unresolved: int
    dropped_unreachable: int
    dropped_error: int

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin at 0 again, in the child of a fork."""
        for name in Stats._fields:
            setattr(self, name, 0)

    def stats(self) -> Stats:
        """The counts now."""
        return Stats(*(getattr(self, name) for name in Stats._fields))
