"""Programs that tests run: their path, a skip where one is missing, a failure where it may not."""

import os
import shutil
from typing import NoReturn

import pytest


def tool(name: str, package: str | None = None) -> str:
    """A program's path; without it a skip, or with REQUIRE_TOOLS in the environment a failure.

    `package` is Debian's, unless it is called as the program.
    """
    path = shutil.which(name)
    if not path:
        cannot(f"{name} is missing (Debian's package {package or name})")
    return path


def cannot(why: str) -> NoReturn:
    """Skip a test that cannot run here, or with REQUIRE_TOOLS in the environment fail it."""
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(why)
    pytest.skip(why)
