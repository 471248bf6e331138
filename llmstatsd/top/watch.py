"""Asks a daemon once a second in a thread of its own, and keeps what it answered last."""

import threading
import time
from typing import Final, NamedTuple

from llmstatsd.ask import AskError, Daemon, Document
from llmstatsd.window import WindowName

INTERVAL_SECONDS: Final = 1.0
SELDOM_SECONDS: Final = 5.0
"""Between two questions for what changes slowly and costs the daemon more: refused, cardinality."""


class Seen(NamedTuple):
    """The last answers, and why there are no newer ones; times are of the monotonic clock."""

    number: int
    answered: float | None = None
    problem: str = ""
    summary: Document | None = None
    series: Document | None = None
    cardinality: Document | None = None
    refused: Document | None = None


class Watcher:
    """Who looks takes `seen`; only the last one is kept, so a slow screen holds nothing up."""

    def __init__(self, daemon: Daemon, window: WindowName) -> None:
        self._daemon = daemon
        self._asked: tuple[WindowName, str | None] = (window, None)
        self._wake = threading.Event()
        self._is_over = False
        self._seldom = 0.0
        self.seen = Seen(0)

    def start(self) -> None:
        """Begin to ask; the end of the process does not wait for an answer."""
        threading.Thread(target=self._run, name="asks the daemon", daemon=True).start()

    def look_at(self, window: WindowName, model: str | None) -> None:
        """Ask for another window or the points of another model (None: all) from now on."""
        if self._asked != (window, model):
            self._asked = (window, model)
            self._wake.set()

    def end(self) -> None:
        """Ask no more."""
        self._is_over = True
        self._wake.set()

    def _run(self) -> None:
        while not self._is_over:
            self._wake.clear()
            begun = time.monotonic()
            self.seen = self._look(self.seen)
            self._wake.wait(max(0.0, begun + INTERVAL_SECONDS - time.monotonic()))

    def _look(self, before: Seen) -> Seen:
        window, model = self._asked
        one = {} if model is None else {"model": model}
        ask = self._daemon.document
        try:
            new = before._replace(
                number=before.number + 1,
                problem="",
                summary=ask("summary", window=window),
                series=ask("series", window=window, **one),
            )
            if time.monotonic() >= self._seldom or new.refused is None:
                new = new._replace(cardinality=ask("cardinality"), refused=ask("refused"))
                self._seldom = time.monotonic() + SELDOM_SECONDS
        except AskError as error:
            return before._replace(number=before.number + 1, problem=str(error))
        return new._replace(answered=time.monotonic())
