"""Asks a daemon whether it is ready, as a container's health check does."""

from typing import Final

from llmstatsd.ask import AskError, Daemon

READY_PATH: Final = "/-/ready"


def why_not_ready(daemon: Daemon) -> str | None:
    """None if the daemon answers that it is ready, else why not."""
    with daemon:
        try:
            daemon.text(READY_PATH)
        except AskError as error:
            return str(error)
    return None
