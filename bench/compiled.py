"""What the compiled clients take to encode and to send one LLM call, by their own benches.

`go test -bench` and `cargo bench` measure the event with all fields: encoding alone, and a whole
send to a bound socket. That neither allocates is not measured but tested, by the clients' tests.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench import harness

CLIENT: Final = Path(__file__).resolve().parents[1] / "client"
GOAL_ENCODE: Final = 1.5
"""Microseconds to encode one call with all fields."""

RUN_SECONDS: Final = 300
"""Longest run of one bench, its build included."""

GO: Final = ("go", "test", "-run", "^$", "-bench", "^Benchmark(AppendLines|SendUDP)$")
RUST: Final = ("cargo", "bench", "--quiet")
_GO_FIGURE: Final = re.compile(
    r"^Benchmark(AppendLines|SendUDP)\S*\s+\d+\s+([\d.]+) ns/op", re.MULTILINE
)


class Cost(msgspec.Struct, frozen=True):
    """Microseconds per call of one run."""

    language: str
    encode: float
    send: float


def _run(command: tuple[str, ...], folder: str, build: Path) -> str:
    done = subprocess.run(
        command,
        cwd=CLIENT / folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        env={**os.environ, "CARGO_TARGET_DIR": str(build)},
    )
    return done.stdout


def go(build: Path) -> Cost:
    """One run of the bench of the Go client."""
    figures = {name: float(found) for name, found in _GO_FIGURE.findall(_run(GO, "go", build))}
    return Cost("Go", figures["AppendLines"] / 1000, figures["SendUDP"] / 1000)


def rust(build: Path) -> Cost:
    """One run of the bench of the Rust client."""
    figures: dict[str, Any] = msgspec.json.decode(_run(RUST, "rust", build))
    return Cost("Rust", figures["encode_us"], figures["send_us"])


def measure(rounds: int, build: Path) -> list[Cost]:
    """Each language in turn, so often; those without their tool are left out."""
    present = [run for tool, run in (("go", go), ("cargo", rust)) if shutil.which(tool)]
    steps = [run for _ in range(rounds) for run in present]
    return [run(build) for run in harness.progress(steps, "compiled clients")]


def table(costs: list[Cost]) -> str:
    """One row per language: the median of the rounds, and the cheapest one."""
    rows = []
    for language in dict.fromkeys(cost.language for cost in costs):
        own = [cost for cost in costs if cost.language == language]
        figures = ([getattr(cost, name) for cost in own] for name in ("encode", "send"))
        cells = (f"{median(column):.2f} ({min(column):.2f})" for column in figures)
        rows.append((language, *cells, f"<= {GOAL_ENCODE:g}, encode"))
    return harness.table(("us per call, median (cheapest)", "encode", "send", "goal"), rows)
