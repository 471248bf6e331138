"""gzip for scrapes: by zlib, or several times faster by ISA-L where the extra `isal` is there.

Both work without the GIL, and give one gzip member that anything can read.
"""

import importlib
import zlib
from types import ModuleType
from typing import Final, Protocol

ISAL_LEVEL: Final = 1
"""Of ISA-L's 0 to 3: 0 leaves 1.7 times the bytes, 3 takes seven times as long for no fewer."""

ISAL_UP_TO: Final = 3
"""The last of zlib's levels that ISA-L stands in for: about the bytes of zlib's 1 to 3.

Who asks for more wants fewer bytes, and those only zlib makes.
"""

_WINDOW: Final = 31  # 2**15 bytes, the largest, and 16 for a gzip header (zlib's manual)


class Compressor(Protocol):
    """One gzip member in the making; it holds 360 KiB at most."""

    def compress(self, data: bytes, /) -> bytes:
        """What of the member can be sent already."""

    def flush(self) -> bytes:
        """Its end."""


def compressor(level: int) -> Compressor:
    """A new member; `level` is zlib's, 1 to 9."""
    if _ISAL is not None and level <= ISAL_UP_TO:
        member: Compressor = _ISAL.compressobj(ISAL_LEVEL, zlib.DEFLATED, _WINDOW)
        return member
    return zlib.compressobj(level, zlib.DEFLATED, _WINDOW)


def _isal() -> ModuleType | None:
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None


_ISAL: Final = _isal()
