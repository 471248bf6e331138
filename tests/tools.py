"""Programs that tests run: their path, a skip where one is missing, a failure where it may not."""

import os
import shutil

import pytest


def tool(name: str, package: str | None = None) -> str:
    """A program's path; without it a skip, or with REQUIRE_TOOLS in the environment a failure.

    `package` is Debian's, unless it is called as the program.
    """
    path = shutil.which(name)
    if path:
        return path
    missing = f"{name} is missing (Debian's package {package or name})"
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(missing)
    pytest.skip(missing)
