"""The file that keeps all series over a restart: written whole or not at all, and never trusted.

A new file is written beside the old one, brought to the disk (fsync) and given its name (rename),
so whenever the machine stops there is one whole file. What is read is checked by a digest of every
byte before anything of it is believed. A file that is not to be read is kept aside, and never in
the way of a start.

The layout: the mark, the version, frames of a length and so many bytes of msgpack (the first is a
Head, the others are Parts), a frame of length 0, and the digest of all that.
"""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from llmstatsd.series.snapshot import DROP_REASONS, Part, Totals

VERSION: Final = 1

FILE_BYTES_LIMIT: Final = 1 << 31
"""Largest file that is read; ten million lines of exposition make about half of it."""

KEPT_ASIDE: Final = 3
"""Bad files that are kept; one more takes the place of the oldest."""

_MARK: Final = b"llmstats"
_BEGINNING: Final = struct.Struct(">8sI")
_COUNTING: Final = b"1"
_ENDED: Final = b"0"
"""What the lock's file holds: whether a daemon counts, or the last one ended with all written.

In place of each other, so that a full disk has room for them.
"""

_LENGTH: Final = struct.Struct(">I")
_DIGEST_BYTES: Final = 32


class Head(Struct, frozen=True):
    """When a file was written (Unix time), whether by a clean stop, and the totals.

    `unclean_stops` are those of all times, as far as starts after them have found them.
    """

    written: float
    is_clean: bool
    totals: Totals
    unclean_stops: int = 0


class Found(NamedTuple):
    """What a file held: None and nothing where there is none, or where `problem` says what."""

    head: Head | None = None
    parts: Sequence[Part] = ()
    problem: str | None = None


class BadStateError(Exception):
    """A file that is not to be read; the text says why."""


class StateLockedError(Exception):
    """Another daemon keeps its state in this file; the text names it."""


@dataclass(slots=True)
class StateStats:
    """What is told of the state file; the time is Unix time, 0 before the first writing."""

    last_write_timestamp_seconds: float = 0.0
    write_failures: int = 0
    restored_label_sets: int = 0
    unclean_stops: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROP_REASONS, 0))


class StateFile:
    """One state file, and the lock beside it that keeps a second daemon away.

    Every call may take as long as the disk takes, so it belongs into a thread; one at a time.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.was_left = False
        """Once locked: whether who had the lock before ended without a last writing."""
        self._lock: int | None = None

    def lock(self) -> None:
        """Take the lock, until `close`; StateLockedError if another daemon has it.

        OSError where no lock can be had: on a disk that is full or read-only, or without a folder.
        """
        if self._lock is not None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(f"{self.path}.lock", flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StateLockedError(
                f"another daemon keeps its state in {self.path}: {self.path}.lock is locked"
            ) from None
        except OSError:
            os.close(lock)
            raise
        self._lock = lock
        self.was_left = os.pread(lock, 1, 0) == _COUNTING

    def begin(self) -> None:
        """Note on the disk that from now on more is counted than the file says; raises OSError.

        `save` with a clean head ends that. Without the lock nothing is noted.
        """
        self._note(_COUNTING)

    def _note(self, what: bytes) -> None:
        if self._lock is not None:
            os.pwrite(self._lock, what, 0)
            os.fsync(self._lock)

    def close(self) -> None:
        """Give the lock up; its file stays, since another may wait for it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load(self) -> Found:
        """What the file holds. A bad one is kept aside, under the name that the problem says."""
        try:
            return _read(_bytes_of(self.path))
        except FileNotFoundError:
            return Found()
        except (OSError, BadStateError, MemoryError) as error:
            return Found(problem=f"{said(error)}; {self._keep_aside()}")

    def save(self, head: Head, parts: Iterable[bytes]) -> None:
        """Replace the file by a new one, `parts` being encoded Parts.

        OSError where that fails: then the old file is as it was. StateLockedError where another
        daemon has got the lock meanwhile.
        """
        self.lock()
        temporary = Path(f"{self.path}.tmp")
        try:
            _write(temporary, _blocks(head, parts))
            temporary.replace(self.path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(self.path.parent)
        if head.is_clean:
            self._note(_ENDED)

    def _keep_aside(self) -> str:
        places = [Path(f"{self.path}.bad-{number}") for number in range(1, KEPT_ASIDE + 1)]
        try:
            place = next((place for place in places if not os.path.lexists(place)), None)
            if place is None:
                place = min(places, key=lambda each: each.lstat().st_mtime)
                place.unlink()
            self.path.rename(place)
        except OSError as error:
            return f"it stays where it is: {said(error)}"
        return f"it is kept as {place}"


def encoded(part: Part) -> bytes:
    """A part as `save` takes it."""
    return msgspec.msgpack.encode(part)


def _bytes_of(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadStateError("it is no file")  # to open a pipe would be to wait
    if found.st_size > FILE_BYTES_LIMIT:
        raise BadStateError(f"its {found.st_size} bytes are more than {FILE_BYTES_LIMIT}")
    return path.read_bytes()


def _read(data: bytes) -> Found:
    if not data:
        raise BadStateError("it is empty")
    if len(data) < _BEGINNING.size:
        raise BadStateError("it is cut off")
    mark, version = _BEGINNING.unpack_from(data)
    if mark != _MARK:
        raise BadStateError("it is no state file")
    if version > VERSION:
        raise BadStateError(f"it is of version {version}, and this daemon reads {VERSION}")
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if blake2b(content, digest_size=_DIGEST_BYTES).digest() != digest:
        raise BadStateError("it is damaged or cut off: its digest is another")
    try:
        head, *parts = _frames(content)
        return Found(
            msgspec.msgpack.decode(head, type=Head),
            [msgspec.msgpack.decode(part, type=Part) for part in parts],
        )
    except (ValueError, struct.error, msgspec.MsgspecError) as error:
        raise BadStateError(f"what it holds is no state: {error}") from error


def _frames(content: bytes) -> Iterator[memoryview]:
    view, at = memoryview(content), _BEGINNING.size
    while True:
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if not length:
            break
        if at + length > len(content):
            raise ValueError("a frame is longer than the file")
        yield view[at : at + length]
        at += length
    if at != len(content):
        raise ValueError("something follows the last frame")


def _blocks(head: Head, parts: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a file, in blocks."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    beginning = _BEGINNING.pack(_MARK, VERSION)
    digest.update(beginning)
    yield beginning
    for frame in (msgspec.msgpack.encode(head), *parts, b""):
        block = _LENGTH.pack(len(frame)) + frame
        digest.update(block)
        yield block
    yield digest.digest()


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=1 << 18) as file:
        file.writelines(blocks)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk; a file system that knows no such thing may refuse."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def said(error: Exception) -> str:
    """What went wrong, in words for people."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or "there is too little memory for it"
