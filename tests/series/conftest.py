"""Every test of this stage runs over both twins."""

from collections.abc import Iterator

import pytest

from llmstatsd.series import lanes
from tests import twins

from . import Rig


@pytest.fixture(scope="module", autouse=True, params=twins.BOTH)
def twin(request: pytest.FixtureRequest) -> Iterator[lanes.Twin]:
    """The twin that every Rig of the module is of."""
    before = Rig.twin
    Rig.twin = twins.twin(request.param)
    yield Rig.twin
    Rig.twin = before
