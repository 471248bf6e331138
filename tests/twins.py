"""Both twins of the hot path, one after the other, for the tests that hold for each."""

import importlib
from typing import Final

import pytest

from llmstatsd.series import lanes

PORTABLE: Final = "portable"
COMPILED: Final = "compiled"

BOTH: Final = (
    pytest.param(PORTABLE, id=PORTABLE),
    pytest.param(COMPILED, id=COMPILED, marks=pytest.mark.compiled),
)
"""Values for a fixture; `-m "not compiled"` deselects what needs the extension."""

_MODULES: Final = {
    PORTABLE: ("series.hotpath",),
    COMPILED: ("series.compiled", "exposition.compiled", "intake.compiled"),
}


def twin(name: str) -> lanes.Twin:
    """The named twin; a test fails, and is not skipped, where one of its modules is missing."""
    for module in _MODULES[name]:
        importlib.import_module(f"llmstatsd.{module}")
    return lanes.choose("compiled" if name == COMPILED else "portable")
