"""The clients as commands: how the tests of each language run, and its acceptance program."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import pytest

RUN_SECONDS: Final = 240
"""Longest run of one command, the first build of its language included."""

CLIENT: Final = Path(__file__).parents[2] / "client"


class Language(NamedTuple):
    """One client; commands run in its folder, and build in the folder {build}.

    `acceptance` is a command that takes --threads, --calls and --buffered; `prepare` is what has to
    run once before. `has_unix` says whether it sends to unix datagram sockets.
    """

    name: str
    tool: str
    native_tests: tuple[str, ...]
    acceptance: tuple[str, ...]
    prepare: tuple[str, ...] = ("true",)
    has_unix: bool = True
    variables: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its package is."""
        return CLIENT / self.name

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
    Language("go", "go", ("go", "test", "./..."), ("go", "run", "./internal/acceptance")),
    Language(
        "java",
        "mvn",
        ("mvn", "--quiet", "test", "-Dllmstatsd.build={build}"),
        (
            *("java", "--class-path", "{build}/classes:{build}/test-classes"),
            "dev.llmstatsd.client.Acceptance",
        ),
        prepare=("mvn", "--quiet", "test-compile", "-Dllmstatsd.build={build}"),
        has_unix=False,
    ),
    Language("node", "npm", ("node", "--test"), ("node", "tests/acceptance.mjs"), has_unix=False),
    Language(
        "rust",
        "cargo",
        ("cargo", "test", "--quiet"),
        ("cargo", "run", "--quiet", "--release", "--example", "acceptance", "--"),
        variables=("CARGO_TARGET_DIR",),
    ),
)


def require(language: Language) -> None:
    """Skip without its tool, or fail where tools are required."""
    if shutil.which(language.tool) is None:
        missing = f"{language.tool} is missing: the client in {language.name} is not tested"
        if os.environ.get("REQUIRE_TOOLS"):
            pytest.fail(missing)
        pytest.skip(missing)
