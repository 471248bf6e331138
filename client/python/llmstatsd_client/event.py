"""The fields of an event, and what a value must be for its field to be sent.

An event is one finished call of an LLM. A field that is missing, None, False or an empty text is
not sent; one of the wrong type or out of range is refused: left out and counted, the rest is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, Final, SupportsFloat, SupportsInt, TypedDict

SECONDS_LIMIT: Final = 1e9
"""Longest duration, in seconds."""

COUNT_LIMIT: Final = 2**53 - 1
"""Most tokens: the largest whole number up to which doubles are exact."""

DOLLARS_LIMIT: Final = 1e6
"""Highest cost of one call, in US dollars."""

TEXT_LIMIT: Final = 128
"""Code points of a text that are looked at and kept."""

RATE_LIMIT: Final = "rate_limit"
OTHER: Final = "other"

ERROR_TYPES: Final = (
    *("timeout", "connection", RATE_LIMIT, "quota", "auth", "permission", "not_found"),
    *("context_length", "content_filter", "invalid_request", "overloaded", "server_error"),
    *("invalid_response", "cancelled", OTHER),
)
"""The closed set of error types; any other text becomes `other`."""

Text = str | bytes | bytearray
"""A text, or its UTF-8; a byte that is none becomes `_`."""

Seconds = float | SupportsFloat
"""Any real number that is finite and 0 <= x <= 1e9, numpy's scalars and Decimal too."""

Count = int | SupportsInt
"""Any real number that is whole and 0 <= n <= 2**53 - 1."""

Dollars = float | SupportsFloat
"""Any real number that is finite and 0 <= x <= 1e6."""


class Event(TypedDict, total=False):
    """One finished call; every field may be missing."""

    model: Text | None
    operation: Text | None
    duration_seconds: Seconds | None
    load_duration_seconds: Seconds | None
    prompt_eval_duration_seconds: Seconds | None
    total_duration_seconds: Seconds | None
    time_to_first_token_seconds: Seconds | None
    time_per_output_token_seconds: Seconds | None
    tokens: Count | None
    prompt_tokens: Count | None
    completion_tokens: Count | None
    cached_tokens: Count | None
    cost_dollars: Dollars | None
    error: Text | None
    rate_limited: bool | None
    fallback: bool | None


Clean = dict[str, Any]
"""An event as it is sent: field to a value of a built-in type in range, none that is missing."""


def read_text(value: Any) -> str:
    """The first 128 code points, bytes decoded; raises TypeError for anything but text.

    A byte that is not part of valid UTF-8 comes out as one lone surrogate.
    """
    kind = type(value)
    if issubclass(kind, str):
        return str.__getitem__(value, slice(TEXT_LIMIT))
    if not issubclass(kind, (bytes, bytearray)):
        raise TypeError("must be text")
    # No code point takes more than four bytes, so the cut here never shows.
    start = bytes(memoryview(value)[: 4 * TEXT_LIMIT])
    return start.decode("utf-8", "surrogateescape")[:TEXT_LIMIT]


def _real(value: Any) -> float:
    """A real number as a float, or an int as it is, of exactly these types."""
    kind: Any = type(value)
    if kind is bool or not issubclass(kind, (Real, Decimal)):
        raise TypeError("must be a number")
    return int.__int__(value) if issubclass(kind, int) else float(value)


def _in_range(value: object, limit: float) -> float:
    number = _real(value)
    if not 0 <= number <= limit:  # NaN is not either
        raise ValueError(f"must be a finite number from 0 to {limit:g}")
    return number


def read_seconds(value: object) -> float:
    """Finite, 0 <= x <= 1e9; raises TypeError or ValueError."""
    return _in_range(value, SECONDS_LIMIT)


def read_count(value: object) -> int:
    """Whole, 0 <= n <= 2**53 - 1; raises TypeError or ValueError."""
    count = int(_in_range(value, COUNT_LIMIT))
    if count != value:
        raise ValueError("must be a whole number")
    return count


def read_dollars(value: object) -> float:
    """Finite, 0 <= x <= 1e6; raises TypeError or ValueError."""
    return _in_range(value, DOLLARS_LIMIT)


def read_error(value: object) -> str:
    """One of `ERROR_TYPES`, or an empty text; raises TypeError for anything but text."""
    text = read_text(value)
    return text if text in ERROR_TYPES or not text else OTHER


def read_switch(value: object) -> bool:
    """True or False; raises TypeError."""
    if type(value) is not bool:
        raise TypeError("must be True or False")
    return value


READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "model": read_text,
    "operation": read_text,
    "duration_seconds": read_seconds,
    "load_duration_seconds": read_seconds,
    "prompt_eval_duration_seconds": read_seconds,
    "total_duration_seconds": read_seconds,
    "time_to_first_token_seconds": read_seconds,
    "time_per_output_token_seconds": read_seconds,
    "tokens": read_count,
    "prompt_tokens": read_count,
    "completion_tokens": read_count,
    "cached_tokens": read_count,
    "cost_dollars": read_dollars,
    "error": read_error,
    "rate_limited": read_switch,
    "fallback": read_switch,
}

FIELDS: Final = tuple(READERS)
"""The names of the fields, in the order of an event's values."""

SECONDS: Final = slice(2, 8)
COUNTS: Final = slice(8, 12)
NUMBERS: Final = slice(2, 13)
COST: Final = 12
"""Places of the durations, of the counts, of all numbers and of the cost among the fields."""

Refused = dict[str, Exception]
"""The fields that were refused, and why: a TypeError or a ValueError that names the field."""


def _problem(field: str, error: Exception) -> Exception:
    is_known = type(error) in (TypeError, ValueError)
    kind = type(error) if is_known else ValueError
    return kind(f"{field} {error}" if is_known else f"{field} cannot be read as a number")


def read(values: Iterable[tuple[str, object]]) -> tuple[Clean, Refused]:
    """What can be sent of an event, and what is refused; raises nothing, whatever the values."""
    clean: Clean = {}
    refused: Refused = {}
    for field, value in values:
        if value is None:
            continue
        try:
            read_value = READERS[field](value)
        except KeyError:
            refused[field] = TypeError(f"{field} is not a field of an event")
        except Exception as error:  # noqa: BLE001 a value may be an object that raises anything
            refused[field] = _problem(field, error)
        else:
            if read_value is not False and read_value != "":
                clean[field] = read_value
    return clean, refused
