"""Takes the pictures of the documentation from the demo, so that they can be taken anew.

    make pictures

The demo plays for a while; then Debian's Chromium, driven by Playwright, takes the page in light,
dark and narrow, a terminal of tmux shows `llmstatsd top`, and matplotlib draws what /api/v1/series
holds. What is not installed, or not there, is left out and named. Needs the extra `bench`.
"""

import contextlib
import html
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from matplotlib import use
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import Browser
from playwright.sync_api import Error as PlaywrightError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness
from bench.browser import chromium, is_there
from bench.harness import BenchError

use("agg")

Document = dict[str, Any]

STORY_SECONDS: Final = 75.0
RATE: Final = 60.0
MODELS_DRAWN: Final = 8

BYTES_LIMIT: Final = 300_000
COLOURS: Final = (None, 256, 128, 64, 32)
"""Tried in turn until a picture is small enough; with fewer than all, rare ones of a legend go."""

TALLEST_PIXELS: Final = 1500
APPEAR_SECONDS: Final = 15.0
"""How long the figures may take to appear on the page or in the terminal."""

SETTLE_SECONDS: Final = 3.0
"""What moves gets so long after that."""

COLUMNS, ROWS = 120, 40
SEEN: Final = "claude-sonnet"
"""What is seen once there are figures."""


class Playing(harness.Process):
    """`llmstatsd demo` on free ports."""

    def __init__(self, seconds: float) -> None:
        self._told = ""
        ports = ("--statsd-udp", "127.0.0.1:0", "--http", "127.0.0.1:0")
        story = ("--story-seconds", f"{STORY_SECONDS:g}", "--rate", f"{RATE:g}")
        end = ("--seconds", f"{seconds + 300:g}")
        super().__init__([sys.executable, "-m", "llmstatsd", "demo", *ports, *story, *end])

    def _look_at(self, line: str) -> None:
        if found := re.search(r"ready: .* http=(\S+)", line):
            self._told = f"http://{found[1]}"

    def url(self) -> str:
        """Where its daemon is, once it is ready; raises BenchError when it does not get so."""
        harness.wait_until(
            lambda: bool(self._told) or not self.is_running(), harness.READY_SECONDS, "a demo"
        )
        if not self._told:
            raise BenchError(f"the demo has ended:\n{self.last_words()}")
        return self._told


def ask(url: str, what: str, **query: str) -> Document:
    """One document of the API."""
    asked = f"{url}/api/v1/{what}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 our own URL
        document: Document = msgspec.json.decode(answer.read())
    return document


# The plot


def draw(everything: Document, by_model: Sequence[Document]) -> Figure:
    """Four panels over the same time: requests by model, errors by type, durations, tokens."""
    points = everything["points"]
    began = next((at for at, point in enumerate(points) if point["requests"]), 0)
    minutes = [(point["time"] - points[-1]["time"]) / 60 for point in points[began:]]
    figure = Figure((11, 6.4), dpi=90, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    step = everything["step_seconds"]

    def rates(document: Document, of: Callable[[Document], float]) -> list[float]:
        return smooth([of(point) / step for point in document["points"][began:]])

    requests = {str(each["model"]): rates(each, lambda one: one["requests"]) for each in by_model}
    requests["others"] = rest(rates(everything, lambda one: one["requests"]), requests)
    stack(panels[0][0], "requests/s", minutes, requests)
    types = sorted({name for point in points for name in point["errors"]})
    errors = {name: rates(everything, partial(errors_of, name)) for name in types}
    stack(panels[0][1], "errors/s by type", minutes, errors)
    heat(panels[1][0], minutes, everything["bounds"], points[began:])
    tokens = {str(each["model"]): rates(each, lambda one: one["tokens"]) for each in by_model}
    tokens["others"] = rest(rates(everything, lambda one: one["tokens"]), tokens)
    stack(panels[1][1], "tokens/s", minutes, tokens)
    for axes in panels[1]:
        axes.set_xlabel("minutes", fontsize=8)
    return figure


def errors_of(name: str, point: Document) -> float:
    """The errors of a type in one step."""
    return float(point["errors"].get(name, 0.0))


def rest(total: Sequence[float], parts: dict[str, list[float]]) -> list[float]:
    """What the total has more than its parts together."""
    columns = zip(total, *parts.values(), strict=True)
    return [max(0.0, all_of_it - sum(column)) for all_of_it, *column in columns]


def smooth(values: Sequence[float], over: int = 5) -> list[float]:
    """The mean of each value and those just before it."""
    means = []
    for at in range(len(values)):
        window = values[max(0, at - over + 1) : at + 1]
        means.append(sum(window) / len(window))
    return means


def stack(axes: Axes, title: str, minutes: Sequence[float], values: dict[str, list[float]]) -> None:
    """Areas on top of each other."""
    finish(axes, title)
    if values:
        axes.stackplot(minutes, list(values.values()), labels=list(values))
        axes.set_ylim(top=1.5 * max(map(sum, zip(*values.values(), strict=True))) or 1.0)
        axes.legend(loc="upper left", fontsize=7, ncols=2, framealpha=0.6)


def heat(
    axes: Axes, minutes: Sequence[float], bounds: Sequence[float], points: Sequence[Document]
) -> None:
    """How many calls took how long, with quantiles."""
    finish(axes, "request durations, s")
    edges = [bounds[0] / 2, *bounds]
    counts = [point["counts"][:-1] or [0.0] * len(bounds) for point in points[1:]]
    if len(minutes) > 1 and any(map(sum, counts)):
        columns = [[max(count, 0.1) for count in column] for column in zip(*counts, strict=True)]
        axes.pcolormesh(minutes, edges, columns, cmap="Blues", norm=LogNorm(0.3))
    for quantile, colour in (("p50", "#2a9d5c"), ("p95", "#e08a00"), ("p99", "#c62f2f")):
        values = [point[f"{quantile}_seconds"] for point in points]  # None is a gap
        axes.plot(minutes, values, colour, label=quantile, lw=1)
    axes.set_yscale("log")
    axes.set_ylim(edges[0], bounds[-1])
    axes.legend(loc="upper left", fontsize=7, ncols=3, framealpha=0.6)


def finish(axes: Axes, title: str) -> None:
    """What all panels share."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def plot(url: str, out: Path) -> None:
    """Draw the last five minutes."""
    rows = [row["model"] for row in ask(url, "summary")["models"] if row["model"] is not None]
    known = [name for name in rows if "-user-" not in name][:MODELS_DRAWN]
    by_model = [ask(url, "series", model=name) for name in known]
    draw(ask(url, "series"), by_model).savefig(out, metadata={"Software": None})
    make_small(out)


# The page and the terminal


VIEWS: Final[dict[str, Document]] = {
    "page-light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "page-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "page-narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
"""As Playwright's new_context takes it."""


def take(browser: Browser, url: str, view: Document, out: Path) -> None:
    """The whole page, as it looks once it has its figures."""
    with contextlib.closing(browser.new_context(**view)) as context:
        page = context.new_page()
        page.goto(url)
        with contextlib.suppress(PlaywrightError):  # whatever is there is taken
            page.get_by_text(SEEN).first.wait_for(timeout=APPEAR_SECONDS * 1000)
            time.sleep(SETTLE_SECONDS)
        page.screenshot(path=out, full_page=True)
    make_small(out)


def take_terminal(browser: Browser, shown: str, out: Path) -> None:
    """A screen of a terminal, colours and all, by the browser's monospaced font."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown.rstrip("\n")), soft_wrap=True)
    style = "margin:0;padding:12px;display:inline-block;line-height:1.25;font:13px monospace"
    body = (
        '<pre id="screen" style="{};color:{{foreground}};background:{{background}}">{{code}}</pre>'
    )
    document = console.export_html(
        theme=MONOKAI, inline_styles=True, code_format=body.format(html.escape(style))
    )
    with contextlib.closing(browser.new_context(offline=True)) as context:
        page = context.new_page()
        page.set_viewport_size({"width": 1400, "height": 900})
        page.set_content(document)
        page.locator("#screen").screenshot(path=out)
    make_small(out)


def screen_of(tmux: str, command: Sequence[str], seen: str) -> str:
    """What a command shows in a terminal of its own, with escape sequences, once `seen` is there.

    Raises BenchError when it never is.
    """
    own = [tmux, "-L", f"llmstatsd-pictures-{os.getpid()}", "-f", os.devnull]
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    environ = {**os.environ, "COLORTERM": "truecolor", "TERM": "xterm-256color"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*own, *arguments], env=environ, cwd=harness.ROOT, capture_output=True, text=True,
            timeout=APPEAR_SECONDS, check=False,
        )  # fmt: skip
        return done.stdout

    run("new-session", "-d", *size, *command)
    try:
        harness.wait_until(
            lambda: seen in run("capture-pane", "-p"), APPEAR_SECONDS, f"{seen} in a terminal"
        )
        time.sleep(SETTLE_SECONDS)
        return run("capture-pane", "-e", "-p")
    finally:
        run("kill-server")  # of this -L alone


def make_small(path: Path) -> None:
    """Cut a picture to a height and as few colours as it takes; raises BenchError if too large."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, TALLEST_PIXELS)))
    for colours in COLOURS:
        few = picture.quantize(colours, dither=Image.Dither.NONE) if colours else picture
        few.save(path, optimize=True)
        if path.stat().st_size < BYTES_LIMIT:
            return
    raise BenchError(f"{path} has {path.stat().st_size} bytes")


def take_all(url: str, out: Path) -> Iterator[str]:
    """Take one after the other; yields the name of each, or why there is none."""
    plot(url, out / "plot.png")
    yield "plot.png"
    if not is_there():
        yield "no page and no terminal: chromium or Playwright is not installed"
        return
    with chromium() as browser:
        for name, view in VIEWS.items():
            take(browser, f"{url}/", view, out / f"{name}.png")
            yield f"{name}.png"
        if tmux := shutil.which("tmux"):
            command = [sys.executable, "-m", "llmstatsd", "top", "--url", url]
            take_terminal(browser, screen_of(tmux, command, SEEN), out / "top.png")
            yield "top.png"
        else:
            yield "no terminal: tmux is not installed"


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--seconds",
    default=STORY_SECONDS + 20,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="How long the demo plays first.",
)
@click.option("--url", help="Of a daemon that runs already, instead of a demo.")
def main(out: Path, seconds: float, url: str | None) -> None:
    """Take the pictures."""
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as running:
        if url is None:
            url = running.enter_context(Playing(seconds)).url()
            for _ in harness.progress(range(round(seconds)), "the demo plays"):
                time.sleep(1)
        for told in take_all(url, out):
            click.echo(told)


if __name__ == "__main__":
    main()
