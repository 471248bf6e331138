"""A process that binds the unix socket named to it, once for each line it reads, and says `won`.

It says `lost` where another was first. At the next line it has let go, and left the file behind.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmstatsd.intake import unix


def slowly(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, some time after it was decided, so that others come in between."""

    def wait_and_work(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.01)
        return work(*arguments, **named)

    return wait_and_work


def say(word: str) -> None:
    """Tell who lets us go on."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(path: str) -> None:
    """Bind at every second line, and let go at the others."""
    Path.unlink = slowly(Path.unlink)  # type: ignore[method-assign]
    while sys.stdin.readline():
        try:
            bound = unix.bind(path, 0o600, "")
        except OSError:
            bound = None
        say("won" if bound else "lost")
        sys.stdin.readline()
        if bound:
            bound.socket.close()
        say("free")


if __name__ == "__main__":
    main(sys.argv[1])
