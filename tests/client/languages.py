"""The clients as commands: how the tests of each language run, and its acceptance program."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

RUN_SECONDS: Final = 240
"""Longest run of one command, the first build of its language included."""

CLIENT: Final = Path(__file__).parents[2] / "client"


class Language(NamedTuple):
    """One client; commands run in its folder, and build in the folder {build}.

    `tool` is the program without which it is not tested, of Debian's `package`.
    `acceptance` is a command that takes --threads, --calls and --buffered; `prepare` is what has to
    run once before; `native_tests` are None where pytest runs them, in a module of this folder.
    `calls` is the most that a thread makes: a shell starts a program for each.
    `examples` are commands that each send a call; those of other languages run in their own tests.
    `full` is the count that goes up when a unix socket is full: Java and Node.js have no such
    sockets.
    """

    name: str
    tool: str
    package: str
    native_tests: tuple[str, ...] | None
    acceptance: tuple[str, ...]
    prepare: tuple[str, ...] = ("true",)
    variables: tuple[str, ...] = ()
    calls: int = 10_000
    examples: tuple[tuple[str, ...], ...] = ()
    full: str = "dropped_full"

    @property
    def folder(self) -> Path:
        """Where its package is."""
        return CLIENT / self.name.split()[0]

    def run(
        self, command: tuple[str, ...], build: Path, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the commands with further arguments and variables."""
        return subprocess.run(
            [*(part.replace("{build}", str(build / self.name)) for part in command), *arguments],
            cwd=self.folder,
            env=self._environment(build, **variables),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def _environment(self, build: Path, **variables: str) -> dict[str, str]:
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LLMSTATSD_", "STATSD_", "DD_"))
        }
        return own | dict.fromkeys(self.variables, str(build / self.name)) | variables


LANGUAGES: Final = (
    Language(
        "c",
        "cc",
        "gcc",
        None,
        ("{build}",),
        prepare=("cc", "-O2", "-pthread", "-o", "{build}", "tests/acceptance.c"),
    ),
    Language(
        "go",
        "go",
        "golang-go",
        ("go", "test", "-count=1", "./..."),  # its cache does not see our vectors change
        ("go", "run", "./internal/acceptance"),
        examples=(("go", "run", "./examples/timed"),),
    ),
    Language(
        "java",
        "mvn",
        "maven",
        ("mvn", "--quiet", "test", "-Dllmstatsd.build={build}"),
        (
            *("java", "--class-path", "{build}/classes:{build}/test-classes"),
            "dev.llmstatsd.client.Acceptance",
        ),
        prepare=("mvn", "--quiet", "test-compile", "-Dllmstatsd.build={build}"),
        examples=(("java", "--class-path", "{build}/classes", "examples/OneCall.java"),),
        full="dropped_error",
    ),
    Language(
        "node",
        "npm",
        "npm",
        ("node", "--test"),
        ("node", "tests/acceptance.mjs"),
        examples=(
            ("node", "examples/request.mjs"),
            ("node", "examples/send.cjs"),
            ("node", "examples/stream.mjs"),
        ),
        full="dropped_error",
    ),
    Language(
        "python",
        sys.executable,
        "python3",
        (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        (sys.executable, "tests/acceptance.py"),
    ),
    Language(
        "rust",
        "cargo",
        "cargo",
        ("cargo", "test", "--quiet"),
        ("cargo", "run", "--quiet", "--release", "--example", "acceptance", "--"),
        examples=(("cargo", "run", "--quiet", "--release", "--example", "one_call"),),
        variables=("CARGO_TARGET_DIR",),
    ),
    Language(
        "shell bash",
        "bash",
        "bash",
        None,
        ("bash", "tests/acceptance.bash"),
        calls=100,
    ),
    Language(
        "shell sh",
        "nc",
        "netcat-openbsd",
        None,
        ("sh", "tests/acceptance.sh"),
        calls=25,
    ),
)
