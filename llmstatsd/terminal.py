"""Text of others made fit for a terminal: model names and lines come from anybody who may send."""

import unicodedata
from typing import Final

_NOT_SHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode that move the cursor, turn the direction, or cannot be encoded."""


def plain(text: str) -> str:
    r"""The text with each control, format and surrogate character as an escape such as `\u202e`.

    So it can neither command a terminal nor reorder what stands beside it. Escapes are those that
    a TOML string takes.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _NOT_SHOWN:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
