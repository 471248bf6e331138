"""What the tests of existing clients share: what became of the lines, and how clients are run."""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import RunningDaemon

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "docs" / "how-to" / "statsd-clients.md"

FETCH_SECONDS: Final = 120
BUILD_SECONDS: Final = 240
RUN_SECONDS: Final = 60

SETTINGS: Final = ("DATADOG_", "DD_", "LLMSTATSD_", "STATSD_")
"""How the variables begin that some client reads."""

_OF_THE_DAEMON: Final = ("#", "llmstatsd_", "process_", "python_")
_BUCKET_OR_BORN_AT_0: Final = re.compile(r"\w+_bucket\{|llm_.* 0(?:\.0)?$").match
_COUNT: Final = re.compile(r'llmstatsd_(\w+)_total\{\w+="(\w+)"\} ([0-9.]+)$', re.MULTILINE)
_SET: Final = re.compile(r"app_users [0-2]$")  # what the clients here call their set


@dataclass(frozen=True)
class Taken:
    """Of one scrape: lines of series, and numbers of lines by reason, note and kind.

    `series` lacks buckets, the daemon's own series and documented ones that are still 0.
    A set is there without its value: that is of the last full minute, so it may still be 0.
    """

    series: set[str]
    refused: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    set_aside: dict[str, int] = field(default_factory=dict)


def taken(daemon: RunningDaemon, lines: int) -> Taken:
    """What became of exactly so many lines, once they are there."""
    daemon.wait_for_value(lines, "llmstatsd_lines_total")
    return taken_so_far(daemon)


def taken_so_far(daemon: RunningDaemon) -> Taken:
    """What became of the lines that are there."""
    scrape = daemon.scrape()
    counts: dict[str, dict[str, int]] = {}
    for family, value, count in _COUNT.findall(scrape):
        if float(count):
            counts.setdefault(family, {})[value] = int(float(count))
    return Taken(
        {_SET.sub("app_users", line) for line in scrape.splitlines() if _is_of_a_client(line)},
        refused=counts.get("refused_lines", {}),
        notes=counts.get("notes", {}),
        set_aside=counts.get("set_aside_lines", {}),
    )


def _is_of_a_client(line: str) -> bool:
    return not line.startswith(_OF_THE_DAEMON) and not _BUCKET_OR_BORN_AT_0(line)


def example(heading: str, daemon: RunningDaemon) -> str:
    """The first code under a heading of the page, with the port of the daemon in it."""
    section = PAGE.read_text().partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    code = re.search(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert code, f"no code under {heading}"
    assert "8125" in code[1]
    return code[1].replace("8125", str(daemon.udp[1]))


EVERYTHING: Final = {
    'llm_request_total{model="gpt-4o",operation="chat"} 3.0',
    'llm_request_duration_seconds_count{model="gpt-4o",operation="chat"} 3',
    'llm_request_duration_seconds_sum{model="gpt-4o",operation="chat"} 3.75',
    'llm_tokens_total{model="gpt-4o"} 321.0',
    'llm_total_duration_seconds_count{model="gpt-4o"} 1',
    'llm_total_duration_seconds_sum{model="gpt-4o"} 1.5',
    'llm_time_to_first_token_seconds_count{model="gpt-4o",operation="chat"} 1',
    'llm_time_to_first_token_seconds_sum{model="gpt-4o",operation="chat"} 0.25',
}
"""Of documented series, what every client's calls of all its methods give."""

EXAMPLE: Final = {
    'llm_request_total{model="gpt-4o",operation="chat"} 1.0',
    'llm_request_duration_seconds_count{model="gpt-4o",operation="chat"} 1',
    'llm_request_duration_seconds_sum{model="gpt-4o",operation="chat"} 1.84',
}
"""The series that every example of the page gives."""


def run(command: list[str], folder: Path, seconds: int, **variables: str) -> None:
    """Run a command that must succeed; of the settings it sees only `variables`."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def fetch(what: str, command: list[str], folder: Path) -> None:
    """Download a client; without it a skip, or with REQUIRE_TOOLS in the environment a failure."""
    try:
        run(command, folder, FETCH_SECONDS)
    except (AssertionError, subprocess.TimeoutExpired):
        if os.environ.get("REQUIRE_TOOLS"):
            raise
        pytest.skip(f"{what} cannot be downloaded")


def environment(**variables: str) -> dict[str, str]:
    """Ours without the settings of clients, and with `variables`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return own | variables
