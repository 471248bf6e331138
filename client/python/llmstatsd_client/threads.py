"""Threads that a client starts: none is waited for when the interpreter ends."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import Any, Final

BEGIN_SECONDS: Final = 1.0
"""Longest that the starter waits for the thread to begin."""


def start(work: Callable[..., None], *arguments: Any) -> bool:
    """Have a thread do the work, and wait until it has begun; False where none is to be had.

    Waiting matters: CPython frees the state of a thread that has not begun when the interpreter
    ends, and the thread then crashes on it. `threading.Thread` waits for the same reason, but
    takes locks that a signal handler may not.
    """
    begun = _thread.allocate_lock()
    begun.acquire()

    def run() -> None:
        begun.release()
        work(*arguments)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:  # as at the end of the interpreter
        return False
    begun.acquire(timeout=BEGIN_SECONDS)
    return True
