"""Copies of the kit for a test: intervals of seconds, and the addresses of servers on free ports.

Nothing else is changed; `differences` shows it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

FOR_SECONDS: Final = 3

DAEMON: Final = "localhost:2112"
ALERTMANAGER: Final = "localhost:9093"
VICTORIA_METRICS: Final = "localhost:8428"

_INTERVAL: Final = re.compile(r"(?m)^( *(?:scrape|evaluation)_interval): 15s$")
_FOR: Final = re.compile(r"(?m)^( *for): [1-9]\d*m$")


def write_kit(folder: Path) -> None:
    """The kit as a user gets it, by the command line."""
    command = [sys.executable, "-m", "llmstatsd", "kit", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def shorten(folder: Path, addresses: Mapping[str, str | list[str]]) -> None:
    """Rewrite what Prometheus reads; a list of addresses stands for an item of a list."""
    for path in (folder / "prometheus").rglob("*.yml"):
        text = _INTERVAL.sub(r"\1: 1s", path.read_text())
        text = _FOR.sub(rf"\1: {FOR_SECONDS}s", text)
        for address, real in addresses.items():
            if isinstance(real, list):
                item = re.compile(rf"(?m)^( *- ){re.escape(address)}\n")
                text = item.sub("".join(rf"\g<1>{one}\n" for one in real), text)
            else:
                text = text.replace(address, real)
        path.write_text(text)


def differences(folder: Path, copy: Path) -> dict[str, set[str]]:
    """Where the YAML in two folders differs: by file, the paths within it, `a.0.b`."""
    files = {
        path.relative_to(root).as_posix() for root in (folder, copy) for path in root.rglob("*.yml")
    }
    found = {file: _different(_leaves(folder / file), _leaves(copy / file)) for file in files}
    return {file: paths for file, paths in found.items() if paths}


def _different(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def _leaves(path: Path) -> dict[str, Any]:
    return dict(_walk(yaml.safe_load(path.read_text()), ""))


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        here = f"{path}.{key}" if path else str(key)
        if isinstance(child, dict | list):
            yield from _walk(child, here)
        else:
            yield here, child
