"""Results become pictures, the same for the same figures."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench import hostile, peers, plots
from bench.harness import BenchError

ROOT = Path(__file__).resolve().parents[2]

PEERS = peers.Result(
    [
        peers.Standing(subject, lines, 1.0, 1.5, 0.9, 1 << 20, 1000.0 * number, 1000.0 * number)
        for lines in (1, 20)
        for number, subject in enumerate(("sink", "compiled", "statsd_exporter"), 1)
    ],
    {},
    [],
    [],
    [],
)
HOSTILE = hostile.Result(
    [
        hostile.Ordeal(what, "compiled", 10, 10, 0, 0.5, 1, 2, True)
        for what in ("distinct values", "refused lines", "one byte", "65 kB")
    ],
    [],
)


def drawn(folder: Path, *results: Path) -> dict[str, bytes]:
    command = [sys.executable, "bench/plots.py", f"--out={folder}", *map(str, results)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_figures_make_the_same_pictures(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, result in zip(files, (PEERS, HOSTILE), strict=True):
        file.write_bytes(msgspec.json.encode(result))
    pictures = drawn(tmp_path / "once", *files)
    assert sorted(pictures) == ["hostile.svg", "peers.svg"]
    assert drawn(tmp_path / "again", *files) == pictures
    for picture in pictures.values():
        root = ET.fromstring(picture)  # noqa: S314 it is ours
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_result_that_nobody_draws_is_an_error() -> None:
    with pytest.raises(BenchError, match=r"neither a result of peers\.py nor of hostile\.py"):
        plots.draw(b'{"seconds": [1]}')
