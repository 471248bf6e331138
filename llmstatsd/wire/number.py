"""The one number grammar, for both hot paths: `[+-]?digits[.digits][e[+-]digits]`, finite.

`float()` alone is too lenient: it takes `1_0`, ` 1`, `nan` and full-width digits.
"""

import re
from typing import Final

from llmstatsd.wire.reasons import BAD_VALUE, NOT_FINITE

#   +   12      .  5          e   -    3
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII).fullmatch

MAGNITUDE_LIMIT: Final = 1e280
"""Largest magnitude of a value.

Times the largest weight (1e9) and the number of lines a daemon can live to see (under 1e18),
a sum stays below the largest double (1.8e308), so no accepted value can make a series infinite.
"""

PLAIN_LENGTH: Final = 16
"""Longest text, in characters, that is converted without asking this grammar."""


def is_plain(text: str) -> bool:
    """Whether ASCII text is digits with at most one point among them, short enough for `float`."""
    return len(text) <= PLAIN_LENGTH and (
        text.isdecimal() or (text.replace(".", "", 1).isdecimal() and text[0] != "." != text[-1])
    )


def parse_number(text: str) -> float | str:
    """The value of `text`, or the reason it is refused: `bad_value` or `not_finite`."""
    if _NUMBER(text) is None:
        return NOT_FINITE if _NOT_FINITE(text) else BAD_VALUE
    value = float(text)
    return value if -MAGNITUDE_LIMIT <= value <= MAGNITUDE_LIMIT else NOT_FINITE
