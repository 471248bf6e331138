"""A unix datagram socket: its file, who may send to it, and what the kernel does otherwise.

By unix(7) and the kernel's net/unix/af_unix.c such a socket has no receive buffer of its own: a
datagram is charged to its sender, and the queue holds net.unix.max_dgram_qlen datagrams and one
more. Who sends to a full one waits, or is told EAGAIN: nothing is ever dropped in the kernel.
"""

import errno
import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from llmstatsd.intake.sockets import (
    DATAGRAM_LIMIT_BYTES,
    SMALLEST_BUFFER_CHARGE,
    DatagramSocket,
    Memory,
    Waiting,
)

QUEUE_DATAGRAMS: Final = 512
"""Queue that is reckoned with at the least: the kernel's default is 10, that of systemd 512."""

LOCK_SECONDS: Final = 2.0
"""Longest wait for another daemon that replaces a socket: nobody else can hold a start up."""

LOCK_STEP_SECONDS: Final = 0.01

_QUEUE_SYSCTL: Final = Path("/proc/sys/net/unix/max_dgram_qlen")


class UnixSocket(DatagramSocket):
    """A bound unix datagram socket; `file` is what it has to remove at its end, if anything."""

    transport = "unix"

    def __init__(self, bound: socket.socket, file: "SocketFile | None" = None) -> None:
        """Take a bound socket over, whoever has bound it."""
        super().__init__(bound, 0)
        self.buffer_bytes = 0
        self._file = file

    @property
    def path(self) -> str:
        """Where senders find it."""
        return os.fsdecode(self.socket.getsockname())

    def memory(self) -> Memory | None:
        """Nothing waits in a receive buffer, and nothing is dropped: senders wait."""
        return Memory(0, 0)

    def waiting_limit(self) -> Waiting:
        """Most that can wait in the kernel now; a sender that waits may add some."""
        queue = QUEUE_DATAGRAMS
        with suppress(OSError, ValueError):
            queue = max(queue, int(_QUEUE_SYSCTL.read_text()))
        datagrams = queue + 1
        return Waiting(datagrams, datagrams * (DATAGRAM_LIMIT_BYTES + SMALLEST_BUFFER_CHARGE))

    def close(self) -> None:
        """Give the socket up, and its file if it is still this one's."""
        if self._file is not None:
            self._file.remove()
        super().close()


class SocketFile:
    """The file of a socket of ours, told from any other by its device and inode."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)

    def remove(self) -> None:
        """Remove it, unless another stands in its place or nothing does."""
        with suppress(OSError):
            if _identity(self._path) == self._identity:
                Path(self._path).unlink()


def bind(path: str, mode: int, group: str) -> UnixSocket:
    """A socket at a path, open to whom `mode` and `group` let write to it and never to others.

    A socket file that nobody listens to is replaced. `group` is a name or a number, empty for the
    daemon's own. OSError says what is wrong, in words for people.
    """
    number = _group_number(group)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # Linux makes the file with the mode of the socket: until the end of this nobody may send.
        os.fchmod(bound.fileno(), 0)
        _bind(bound, path)
        file = SocketFile(path)
        try:
            os.chown(path, -1, number, follow_symlinks=False)
            Path(path).chmod(mode)
        except OSError:
            file.remove()
            raise
    except OSError:
        bound.close()
        raise
    return UnixSocket(bound, file)


def _bind(bound: socket.socket, path: str) -> None:
    try:
        bound.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        with _alone_in(Path(path).parent):
            _remove_stale(path)
            bound.bind(path)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Be the only one that replaces a socket in a folder, unless that takes LOCK_SECONDS.

    Of two daemons that find the same stale file, one could remove the socket of the other. The lock
    is the folder's own, so no file is left behind, and gone with the process.
    """
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written to and not read
        yield
        return
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not _is_locked(lock) and time.monotonic() < until:
            time.sleep(LOCK_STEP_SECONDS)
        yield
    finally:
        os.close(lock)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens to; OSError for any other file."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EADDRINUSE, "a file that is no socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        outcome = probe.connect_ex(path)
    # EPROTOTYPE: a stream socket listens there. EACCES: nobody knows.
    if outcome != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if _identity(path) == (found.st_dev, found.st_ino):
        Path(path).unlink()


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _group_number(group: str) -> int:
    """The number of a group; -1, which changes nothing, for none."""
    if not group:
        return -1
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no group {group}") from None
