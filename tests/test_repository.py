"""Promises about the tree itself: what lies where, and which way imports point."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "llmstatsd"

TOP_LEVEL = (
    ".ci/run",
    ".dockerignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench",
    "client",
    "configs",
    "docs",
    "llmstatsd",
    "pyproject.toml",
    "setup.cfg",
    "systemd",
    "tests",
)

# A part is a module or a package directly in llmstatsd/; "" is llmstatsd itself, the version.
# socket -> intake -> wire -> series -> exposition -> web is the way of the data.
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "__main__": {"cli"},
    "activation": set(),
    "notify": set(),
    "address": set(),
    "ask": {"address", "terminal"},
    "catalog": set(),
    "config": {"address", "catalog", "series"},
    "demo": {"address", "demo"},
    "garbage": set(),
    "gpu": set(),
    "doctor": {"address", "ask", "catalog", "config", "doctor", "terminal", "wire"},
    "healthcheck": {"ask"},
    "host": set(),
    "kit": {"", "catalog", "config", "kit"},
    "keeper": {"series", "state"},
    "live": {
        *("", "address", "catalog", "config", "intake", "live", "series", "telemetry", "window"),
        "wire",
    },
    "logs": {"config"},
    "manual": {"", "cli", "config"},
    "reload": {"config", "series"},
    "send": {"address"},
    "state": {"series"},
    "tap": {"ask", "live", "series", "terminal"},
    "terminal": set(),
    "window": set(),
    "top": {"ask", "terminal", "top", "window"},
    "intake": {"address", "intake"},
    "threads": set(),
    "wire": {"catalog", "wire"},
    "series": {"catalog", "series", "wire"},
    "exposition": {"catalog", "exposition", "series"},
    "web": {"", "address", "config", "exposition", "threads", "web", "window"},
    "telemetry": {"", "catalog", "intake", "logs", "reload", "series", "state", "web", "wire"},
    "cli": {
        *("", "address", "ask", "catalog", "config", "daemon", "demo", "doctor", "healthcheck"),
        *("kit", "send", "series", "tap", "top", "web", "window"),
    },
}
KNOWS_ALL = "daemon"

NO_IO_NO_CLOCK = {"asyncio", "click", "datetime", "logging", "random", "socket", "time"}

# One person's folders, and scratch space; a path for everyone begins with /etc, /usr or /var.
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|tmp|work)/\w")

# Folders that tools make.
BUILT = {
    *("__pycache__", "build", "dist", "node_modules", "target"),
    *(".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
}

MODULES = sorted(PACKAGE.rglob("*.py"))
TEXTS = sorted(
    path
    for name in TOP_LEVEL
    for path in [ROOT / name, *(ROOT / name).rglob("*")]
    if not BUILT & set(path.relative_to(ROOT).parts) and path.is_file() and path.suffix != ".so"
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(dotted: str) -> str:
    """The part that `llmstatsd.part.more` belongs to; `llmstatsd.__version__` is of no part."""
    first = dotted.partition(".")[2].partition(".")[0]
    is_part = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file()
    return first if is_part else ""


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).with_suffix("").parts[0]
    return "" if first == "__init__" else first


def imported(path: Path) -> Iterator[str]:
    """Every dotted name the module imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_has(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_the_way_of_the_data(path: Path) -> None:
    used = {part(name) for name in imported(path) if name.split(".")[0] == "llmstatsd"}
    allowed = {KNOWS_ALL, *MAY_IMPORT} if part_of(path) == KNOWS_ALL else MAY_IMPORT[part_of(path)]
    assert used <= allowed


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_are_absolute(path: Path) -> None:
    assert not [name for name in imported(path) if name.startswith(".")]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if part_of(path) in {"wire", "series"}], ids=relative
)
def test_wire_and_series_do_no_io_and_read_no_clock(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & NO_IO_NO_CLOCK


def test_only_the_daemon_knows_every_stage() -> None:
    stages = {"intake", "wire", "series", "exposition", "web"}
    assert stages <= {part(name) for name in imported(PACKAGE / "daemon.py")}
    assert not [name for name, may in MAY_IMPORT.items() if stages <= may]


def test_no_file_names_a_path_of_one_machine() -> None:
    texts = {relative(path): path.read_text("utf-8", errors="replace") for path in TEXTS}
    assert [name for name, text in texts.items() if MACHINE_PATH.search(text)] == []
