"""A unix socket whose file a daemon of before has left: who replaces it when several start."""

import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

RACING = Path(__file__).parents[1] / "racing.py"
PROCESSES = 4
ROUNDS = 10


def all_say(processes: Iterable["subprocess.Popen[str]"]) -> list[str]:
    """Let all go on at once, and hear what each says then."""
    processes = list(processes)
    for each in processes:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    return [each.stdout.readline().strip() for each in processes if each.stdout]


def test_of_daemons_that_find_the_same_stale_socket_exactly_one_replaces_it(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "in.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)
    command = [sys.executable, str(RACING), path]
    with ExitStack() as stack:
        together = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(PROCESSES)
        ]
        for _ in range(ROUNDS):
            assert sorted(all_say(together)) == ["lost"] * (PROCESSES - 1) + ["won"]
            assert all_say(together) == ["free"] * PROCESSES
