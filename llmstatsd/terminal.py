"""Text for people at a terminal: numbers as they read them, and text of others made harmless.

Model names and lines come from anybody who may send.
"""

import unicodedata
from typing import Final

_NOT_SHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of Unicode that move the cursor, turn the direction, or have no agreed look."""

NOTHING: Final = "-"
"""Stands for a figure that there is none of."""

_EXACT_BELOW: Final = 10_000_000
"""From here on a number is shown with three digits and a letter."""


def plain(text: str) -> str:
    r"""The text with what a terminal obeys or does not show as an escape such as `\u202e`.

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


def count(number: float) -> str:
    """A count as people read it: 1,234, 3.33 (of sampled lines), 12.3M."""
    if number >= _EXACT_BELOW:
        for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
            if number >= size:
                return f"{number / size:,.3g}{letter}" if number < 1e15 else f"{number:.3g}"
    return f"{number:,.0f}" if abs(number - round(number)) < 0.005 else f"{number:,.2f}"


def rate(per_second: float) -> str:
    """A number per second: 0.10, 12.3, 1,234."""
    if per_second >= 100 or per_second == 0:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 10 else f"{per_second:.2f}"


def seconds(duration: float | None) -> str:
    """A duration: 12.5ms, 1.50s, 75.0s; `-` where there is none."""
    if duration is None:
        return NOTHING
    if duration < 1:
        return f"{duration * 1000:.3g}ms"
    return f"{duration:.2f}s" if duration < 10 else f"{duration:,.1f}s"


def share(part: float | None) -> str:
    """A share of one in per cent; `-` where there is none."""
    return NOTHING if part is None else f"{part * 100:.1f}%"


def span(duration: float) -> str:
    """A long time in its two largest units: 42s, 3min 5s, 2h 4min, 8d 3h."""
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    left = int(duration)
    parts: list[str] = []
    for name, size in units:
        number, left = divmod(left, size)
        if number or (name == "s" and not parts):
            parts.append(f"{number}{name}")
    return " ".join(parts[:2])
