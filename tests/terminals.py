"""Programs in real terminals, by tmux, each with a server of its own."""

import os
import re
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import psutil
import pytest

from tests.conftest import DEADLINE_SECONDS, wait_for
from tests.tools import tool

_numbers = count()

# tmux now and then does not learn that a program has ended, and with which code. Ctrl-C is meant
# for the program, and comes to its shell as well.
_TELLS_ITS_END = 'trap : INT; "$@"; printf "\\nended with %s\\n" "$?"; exec cat'
_COLOURED = {name: text for name, text in os.environ.items() if name != "NO_COLOR"}
_ENDED = re.compile(r"^ended with (\d+)$", re.MULTILINE)


class Terminal:
    """A program in a pane of a tmux server of its own."""

    def __init__(self, width: int, height: int, *command: str) -> None:
        self._tmux = (tool("tmux"), "-u", "-L", f"llmstatsd-{os.getpid()}-{next(_numbers)}")
        size = ("-x", str(width), "-y", str(height))
        self._run("-f", "/dev/null", "new-session", "-d", *size, "cat")
        self._run("set-option", "-g", "window-size", "manual")
        self.resize(width, height)
        self._run("respawn-pane", "-k", "sh", "-c", _TELLS_ITS_END, "sh", *command)

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            [*self._tmux, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            env={**_COLOURED, "LC_ALL": "C.UTF-8"},
        ).stdout

    def text(self, *how: str) -> str:
        return self._run("capture-pane", "-p", *how)

    def lines(self) -> list[str]:
        return self.text().splitlines()

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, *texts: str) -> str:
        """The screen, once it has all of these."""

        def look() -> str | None:
            screen = self.text()
            return screen if all(text in screen for text in texts) else None

        try:
            return wait_for(f"{texts} on the screen", look)
        except pytest.fail.Exception as failure:
            raise AssertionError(f"{failure}\n{self.text()}") from failure

    def shows_not(self, text: str) -> None:
        wait_for(f"no {text} on the screen", lambda: text not in self.text())

    def comes_to(self, expected: object, look: Callable[[], object]) -> None:
        """Poll until the screen has it: a capture may fall into the middle of a drawing."""
        try:
            wait_for(f"{expected} on the screen", lambda: look() == expected)
        except pytest.fail.Exception as failure:
            raise AssertionError(f"{failure}\n{look()}\n{self.text()}") from failure

    def _programs(self) -> list[psutil.Process]:
        """The program and what it has started, as long as it runs."""
        shell = psutil.Process(int(self._run("list-panes", "-F", "#{pane_pid}")))
        return shell.children(recursive=True)

    def signal(self, number: int) -> None:
        [program] = self._programs()
        program.send_signal(number)

    def exit_code(self) -> int:
        """That of the program, once it has ended and given the terminal back."""
        return int(wait_for("the end", lambda: _ENDED.search(self.text()))[1])

    def close(self) -> None:
        """End this server, which leaves its socket behind; what runs in it has to end by that."""
        path = Path(self._run("display-message", "-p", "#{socket_path}").strip())
        programs = self._programs()
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)
        path.unlink(missing_ok=True)
        _, left = psutil.wait_procs(programs, DEADLINE_SECONDS)
        for each in left:
            each.kill()
        assert not left, "its terminal is gone, and it runs on"
