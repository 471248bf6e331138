"""Seconds from starting `llmstatsd serve` until its ready line."""

import sys
from pathlib import Path
from statistics import median

import click
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness

GOAL_SECONDS = 0.5


class Starts(msgspec.Struct, frozen=True):
    """Wall seconds of each start, in order; the first may have read the disk."""

    seconds: list[float]
    median_seconds: float
    goal_seconds: float = GOAL_SECONDS


def measure(starts: int) -> Starts:
    """Start and stop the daemon so many times."""
    seconds = []
    for _ in harness.progress(range(starts), "start"):
        with harness.Daemon() as daemon:
            seconds.append(daemon.start_seconds)
    return Starts(seconds, median(seconds))


def text(starts: Starts) -> str:
    """One sentence with the goal."""
    return (
        f"start to ready: median {starts.median_seconds:.3f} s of {len(starts.seconds)}, "
        f"slowest {max(starts.seconds):.3f} s; goal < {GOAL_SECONDS} s"
    )


@click.command()
@click.option("--starts", default=5, type=click.IntRange(1, 100))
@harness.json_option
def main(starts: int, json_path: str | None) -> None:
    """Measure start to ready."""
    result = measure(starts)
    harness.emit(result, text(result), json_path)


if __name__ == "__main__":
    main()
