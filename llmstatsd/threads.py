"""Work in a thread of the loop's pool, where a thread that cannot be had is too little memory.

A thread reserves addresses for its stack, 8 MiB by default: under RLIMIT_AS, and under a limit of
threads, Python raises RuntimeError for it, as for a bug.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

_NO_THREAD: Final = "can't start new thread"
"""All that CPython says of it, in whichever version."""

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What the work gives or raises; MemoryError where no thread is to be had for it.

    Then it may still be done later, when another thread is free: it has to do no harm.
    """
    try:
        return await asyncio.to_thread(work)
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
        raise MemoryError("there is no room for a thread") from error
