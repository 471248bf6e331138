"""Asks a daemon whether it is ready, as a container's health check does."""

from typing import Final

from llmstatsd.ask import AskError, Daemon

READY_PATH: Final = "/-/ready"
TIMEOUT_SECONDS: Final = 4.0
"""Longest wait for the answer: container runtimes give a check 5 s or more."""


def why_not_ready(url: str) -> str | None:
    """None if the daemon of this URL (http or https) answers that it is ready, else why not.

    Raises ValueError for a text that is no such URL.
    """
    with Daemon(url, timeout_seconds=TIMEOUT_SECONDS) as daemon:
        try:
            status = daemon.status(READY_PATH)
        except AskError as error:
            return str(error)
    return None if status == 200 else f"{daemon.url}{READY_PATH} answers {status}"
