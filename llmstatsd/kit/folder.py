"""Puts the documents of the kit into a folder, and never over what somebody changed there.

The folder keeps the SHA-256 of each document as it was last written, in the format of sha256sum(1).
A file with another sum was changed by hand, or was there before. It stays as it is while the
document is the one of last time; a new document would undo the change, and is refused.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from llmstatsd.kit.document import Document

SUMS: Final = "kit.sha256"
"""Name of the file with the sums; `sha256sum --check kit.sha256` names what was changed."""

SUMS_BYTES_LIMIT: Final = 1 << 20
"""Most bytes read of a file of sums; that of the kit has a few thousand."""

_SUM: Final = re.compile(r"(?m)^([0-9a-f]{64})  (\S+)$")


class Written(NamedTuple):
    """`files` were written; `kept` were changed by hand, and the kit has nothing new for them."""

    files: list[Path]
    kept: list[Path]


class ChangedError(Exception):
    """Files that are not as the kit left them, and that it has something new for."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(paths)
        self.paths = paths


def write(documents: Iterable[Document], folder: Path, *, force: bool = False) -> Written:
    """Write each document that differs from its file; `force` spares none.

    Raises ChangedError before anything is written, and OSError.
    Each file appears whole or not at all; the sums come last.
    """
    contents = {document.path: document.text.encode() for document in documents}
    found = {path: _found(folder / path) for path in contents}
    known = _known_sums(folder)
    stale = {path for path, content in contents.items() if found[path] != content}
    changed = (
        set() if force else {path for path in stale if _is_changed(found[path], known.get(path))}
    )
    kept = {path for path in changed if known.get(path) == _sum(contents[path])}
    if changed - kept:
        raise ChangedError(_paths(folder, changed - kept))
    for path in stale - kept:
        _replace(folder / path, contents[path])
    _replace(folder / SUMS, sums(contents).encode())
    return Written(_paths(folder, stale - kept), _paths(folder, kept))


def sums(contents: Mapping[str, bytes]) -> str:
    """The text of the file of sums."""
    return "".join(f"{_sum(content)}  {path}\n" for path, content in contents.items())


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_changed(content: bytes | None, known: str | None) -> bool:
    return content is not None and _sum(content) != known


def _paths(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in sorted(names)]


def _known_sums(folder: Path) -> dict[str, str]:
    text = (_found(folder / SUMS) or b"")[:SUMS_BYTES_LIMIT].decode("ascii", errors="replace")
    return {path: known for known, path in _SUM.findall(text)}


def _found(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
