"""The plot of the documentation is made of what a daemon says, and pictures are kept small."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench import pictures
from bench.harness import BenchError
from tests.conftest import RunningDaemon, wait_for

CALLS = [
    b'{"model":"gpt-4o","operation":"chat","duration_seconds":1.5,"tokens":40}',
    b'{"model":"llama3","operation":"chat","duration_seconds":30,"error":"timeout"}',
]


def areas(figure: Any) -> dict[str, list[str]]:
    """By the title of a panel, what its legend names."""
    return {
        axes.get_title(loc="left"): [text.get_text() for text in axes.get_legend().get_texts()]
        for axes in figure.axes
    }


def test_the_plot_shows_what_a_daemon_was_sent(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.send(*CALLS * 3)
    wait_for("calls", lambda: pictures.ask(daemon.url, "summary")["figures"]["requests"] == 6)
    everything = pictures.ask(daemon.url, "series")
    by_model = [pictures.ask(daemon.url, "series", model=name) for name in ("gpt-4o", "llama3")]
    assert areas(pictures.draw(everything, by_model)) == {
        "requests/s": ["gpt-4o", "llama3", "others"],
        "errors/s by type": ["timeout"],
        "request durations, s": ["p50", "p95", "p99"],
        "tokens/s": ["gpt-4o", "llama3", "others"],
    }
    out = tmp_path / "plot.png"
    pictures.plot(daemon.url, out)
    with Image.open(out) as picture:
        assert picture.size == (990, 576)
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10


def test_what_the_parts_leave_of_a_total_is_the_rest() -> None:
    assert pictures.rest([3.0, 1.0], {"a": [1.0, 1.0], "b": [0.5, 0.5]}) == [1.5, 0.0]


def test_a_tall_picture_is_cut_and_one_that_stays_large_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tall.png"
    Image.new("RGB", (10, pictures.TALLEST_PIXELS + 1)).save(path)
    pictures.make_small(path)
    with Image.open(path) as picture:
        assert picture.size == (10, pictures.TALLEST_PIXELS)
    monkeypatch.setattr(pictures, "BYTES_LIMIT", 1)
    with pytest.raises(BenchError, match=r"tall\.png has \d+ bytes"):
        pictures.make_small(path)
