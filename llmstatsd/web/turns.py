"""Turns of the event loop, for work of the web that is made in steps on it."""

import asyncio


class Turns:
    """Of all who want to go on, one does in each turn of the loop, so that the intake reads on.

    Without the lock, eight who work would take eight steps before the intake reads again.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Let the loop have a turn, once those who came before have had theirs."""
        async with self._lock:
            await asyncio.sleep(0)
