"""What `top` looks at, and how: what its flags and keys choose."""

from typing import Final, NamedTuple

from llmstatsd.window import WindowName

SORTS: Final = (
    *("model", "rate", "requests", "error-share", "errors", "p50", "p95", "p99"),
    *("mean", "token-rate", "tokens", "rate-limited"),
)
"""Columns of the table of models, by which it is sorted, from left to right."""


class View(NamedTuple):
    """What is looked at, and how; numbers are sorted with the greatest first, names from a to z."""

    window: WindowName = "5m"
    sort: str = "requests"
    is_reversed: bool = False
    pattern: str = ""
