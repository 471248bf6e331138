"""Every test of this stage runs over both twins."""

from tests.series.conftest import twin

__all__ = ["twin"]
