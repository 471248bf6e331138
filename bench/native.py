"""The tools in C: a generator that outruns every receiver, and the least that receiving can cost.

They are compiled when they are first wanted, into a folder of the user's own beside the other
temporary files, and compiled anew when their source changes.
"""

import contextlib
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness
from bench.harness import BenchError, Child, Received

SOURCES = harness.BENCH / "native"
COMPILE_SECONDS = 60
SEGMENTS = 64
"""Most datagrams of one super-packet: what every kernel with UDP_SEGMENT takes."""

LONGEST_SECONDS = 60.0
"""Bound of a load that shall end by its count."""

MOST_DATAGRAMS_PER_SECOND = 100_000_000
"""More than any machine sends, for the count of a load that shall end by its time."""


def _folder() -> Path:
    """Where the programs are kept; raises BenchError when somebody else made that folder.

    Temporary folders are shared, and what lies in this one is run.
    """
    folder = Path(tempfile.gettempdir()) / f"llmstatsd-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or not folder.is_dir():
        raise BenchError(f"{folder} can be written by others: remove it")
    return folder


def program(name: str) -> Path:
    """The program made of bench/native/NAME.c, compiled once per content.

    Raises BenchError when there is no C compiler, or with what the compiler says.
    """
    source = SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    made = _folder() / f"{name}-{digest}"
    if not made.exists():
        _compile(source, made)
    return made


def _compile(source: Path, made: Path) -> None:
    compiler = shutil.which("cc")
    if not compiler:
        raise BenchError(f"no C compiler (cc): bench/native/{source.name} cannot be compiled")
    # Two benches may compile at once: each writes a file of its own, and the name appears whole.
    unfinished = made.with_name(f"{made.name}.{os.getpid()}")
    command = [compiler, "-O2", "-o", str(unfinished), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    if done.returncode:
        raise BenchError(f"bench/native/{source.name} does not compile:\n{done.stderr}")
    unfinished.replace(made)


class Sent(msgspec.Struct, frozen=True):
    """What a load amounted to; `seconds` from the first system call to the last."""

    datagrams: int
    seconds: float

    @property
    def datagrams_per_second(self) -> float:
        """The rate that was kept, 0.0 when nothing was sent."""
        return self.datagrams / self.seconds if self.seconds else 0.0


def framed(datagrams: Sequence[bytes]) -> bytes:
    """The datagrams as the generator reads them: each behind its length, u32 in native order."""
    return b"".join(struct.pack("=I", len(each)) + each for each in datagrams)


class Blast:
    """A load under way to 127.0.0.1:`port`, `datagrams` round and round.

    It ends by itself after `count` datagrams or `seconds`, whichever comes first; `rate` is
    datagrams per second, 0 flat out. Use it as a context manager, which ends it early if need be.
    `segments`, 1 to 64, is how many datagrams of equal length go to the kernel at once.
    """

    def __init__(
        self,
        port: int,
        datagrams: Sequence[bytes],
        *,
        segments: int = SEGMENTS,
        rate: float = 0,
        count: int,
        seconds: float,
    ) -> None:
        numbers = (port, segments, rate, count, seconds)
        self._bound_seconds = seconds
        self._process = subprocess.Popen(
            [str(program("generator")), *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self._process.stdin:
            # A generator that refuses its arguments closes the pipe; `finish` tells why.
            with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
                pipe.write(framed(datagrams))
            self._process.stdin = None  # communicate() would flush it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()
        with self._process:
            pass

    def terminate(self) -> None:
        """Ask it to end now; `finish` still tells what it has sent."""
        if self._process.poll() is None:
            self._process.terminate()

    def finish(self) -> Sent:
        """Wait for its end; raises BenchError with the generator's words when it failed."""
        out, errors = self._process.communicate(timeout=self._bound_seconds + 30)
        if self._process.returncode:
            raise BenchError(f"the load failed: {errors.decode(errors='replace').strip()}")
        return msgspec.json.decode(out, type=Sent)


def blast(
    port: int,
    datagrams: Sequence[bytes],
    *,
    segments: int = SEGMENTS,
    rate: float = 0,
    count: int,
    seconds: float,
) -> Sent:
    """Run a load to its end; see Blast."""
    with Blast(port, datagrams, segments=segments, rate=rate, count=count, seconds=seconds) as load:
        return load.finish()


class Sink(Child):
    """bench/native/sink.c as a child."""

    def __init__(self, receive_buffer_bytes: int = harness.RECEIVE_BUFFER_BYTES) -> None:
        super().__init__([str(program("sink")), str(receive_buffer_bytes)])

    def finish(self, lines_per_datagram: int) -> Received:
        """Stop it and read its own count, and the kernel's of what it lost."""
        counted = msgspec.json.decode(self.stop(), type=dict[str, int])
        datagrams = counted["datagrams"]
        return Received(datagrams, datagrams * lines_per_datagram, counted["dropped"])
