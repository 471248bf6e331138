"""Draws what the benches have measured, from their JSON, the same picture for the same figures.

    python bench/peers.py --json peers.json
    python bench/hostile.py --json hostile.json
    python bench/plots.py --out docs/explanation/plots peers.json hostile.json

A file is known by what is in it. Pictures are SVG, without a date and with fixed names inside, so
that a new one differs only where a figure does.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec
from matplotlib import use
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import hostile, peers
from bench.harness import BenchError
from bench.loads import LINES, lines_name

use("svg")

OURS = {"compiled": "llmstatsd", "portable": "llmstatsd, portable lane", "sink": "raw receive loop"}
COLOURS = {"compiled": "#1f6feb", "portable": "#79a8f0", "sink": "#b0b0b0"}
THEIRS = "#d98c3f"
INCHES_PER_BAR = 0.34


def bars(axes: Axes, title: str, values: Sequence[tuple[str, float]], form: str) -> None:
    """Horizontal bars from zero, the first on top, each with its number."""
    names = [name for name, _ in values]
    numbers = [value for _, value in values]
    drawn = axes.barh(
        range(len(values)), numbers, color=[COLOURS.get(name, THEIRS) for name in names]
    )
    axes.bar_label(drawn, labels=[form.format(number) for number in numbers], padding=3)
    axes.set_yticks(range(len(values)), [OURS.get(name, name) for name in names])
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_xlim(right=max(numbers) * 1.25)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def draw_peers(result: peers.Result) -> Figure:
    """Two panels per number of lines in a datagram: what comes in without loss, what it costs."""
    subjects = len({each.subject for each in result.standings})
    figure = Figure((11, 2 * INCHES_PER_BAR * subjects + 2.4), layout="constrained")
    for row, lines in zip(figure.subplots(2, 2, squeeze=False), LINES, strict=True):
        own = [each for each in result.standings if each.lines == lines]
        rates = sorted(
            ((each.subject, each.highest_lines) for each in own), key=lambda one: -one[1]
        )
        costs = sorted(((each.subject, each.ratio) for each in own), key=lambda one: one[1])
        name = f"{lines_name(lines)} a datagram"
        bars(row[0], f"lines/s with a loss under 0.1 %, {name}", rates, "{:,.0f}")
        bars(row[1], f"CPU over the raw receive loop, {name}", costs, "{:.2f}")
    return figure


def draw_hostile(result: hostile.Result) -> Figure:
    """A panel per load: lines per second of CPU."""
    whats = list(dict.fromkeys(each.what for each in result.ordeals))
    subjects = len({each.subject for each in result.ordeals})
    figure = Figure((11, 2 * INCHES_PER_BAR * subjects + 2.4), layout="constrained")
    places = figure.subplots(2, 2, squeeze=False).flat
    for axes, what in zip(places, whats, strict=True):
        own = [each for each in result.ordeals if each.what == what]
        costs = [(each.subject, each.lines_per_cpu_second) for each in own]
        bars(axes, f"{what}: lines per second of CPU", costs, "{:,.0f}")
    return figure


DRAWN: dict[str, tuple[type, Callable[..., Figure]]] = {
    "standings": (peers.Result, draw_peers),
    "ordeals": (hostile.Result, draw_hostile),
}
NAMES = {"standings": "peers", "ordeals": "hostile"}


def draw(text: bytes) -> tuple[str, Figure]:
    """The picture of a result and its name; raises BenchError for one that nobody draws."""
    for field in msgspec.json.decode(text):
        if field in DRAWN:
            kind, drawing = DRAWN[field]
            return NAMES[field], drawing(msgspec.json.decode(text, type=kind))
    raise BenchError("neither a result of peers.py nor of hostile.py")


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(out: Path, results: tuple[Path, ...]) -> None:
    """Draw results that were written by --json."""
    from matplotlib import rcParams

    rcParams["svg.hashsalt"] = "llmstatsd"
    out.mkdir(parents=True, exist_ok=True)
    for result in results:
        name, figure = draw(result.read_bytes())
        figure.savefig(out / f"{name}.svg", metadata={"Date": None, "Creator": None})
        click.echo(out / f"{name}.svg")


if __name__ == "__main__":
    main()
