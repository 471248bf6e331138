"""The clients as commands: how the tests of each language run, and its acceptance program."""

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

import pytest

CLIENT: Final = Path(__file__).parents[2] / "client"


class Language(NamedTuple):
    """One client; commands run in its folder, and build outside of it.

    `acceptance` is a command that takes --threads, --calls and --buffered.
    `has_unix` says whether it sends to unix datagram sockets.
    """

    name: str
    tool: str
    native_tests: tuple[str, ...]
    acceptance: tuple[str, ...]
    has_unix: bool = True
    variables: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its package is."""
        return CLIENT / self.name

    def environment(self, build: Path, **variables: str) -> dict[str, str]:
        """The variables of this process but for those of clients, and where to build."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LLMSTATSD_", "STATSD_", "DD_"))
        }
        return own | dict.fromkeys(self.variables, str(build / self.name)) | variables


LANGUAGES: Final = (
    Language("go", "go", ("go", "test", "./..."), ("go", "run", "./internal/acceptance")),
    Language("node", "node", ("node", "--test"), ("node", "tests/acceptance.mjs"), has_unix=False),
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
