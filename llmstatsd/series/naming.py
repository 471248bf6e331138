"""Wire names and values made valid for Prometheus.

Rules: the Prometheus data model (metric names `[a-zA-Z_:][a-zA-Z0-9_:]*`, label names
`[a-zA-Z_][a-zA-Z0-9_]*`, names that start with `__` reserved), and OpenMetrics 1.0 (counters
end in `_total`, a unit is the end of the name).
"""

import re
from typing import Final

from llmstatsd.catalog import SeriesType
from llmstatsd.wire.statsd import COUNTER, TIMER

VALUE_LENGTH_LIMIT: Final = 128
"""Most characters of a label value; the rest is cut."""

NAME_LENGTH_LIMIT: Final = 200
"""Most characters of a series or label name; the rest is cut."""

_ENDING: Final = {COUNTER: "_total", TIMER: "_seconds"}
_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_IN_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")

# Control characters, and what a terminal or a line reader takes for a line end.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_SAMPLE_ENDINGS: Final[dict[SeriesType, tuple[str, ...]]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
}


def series_name(name: str) -> str:
    """A wire name as a series name, before the type has its say: `llm.tokens` -> `llm_tokens`."""
    valid = _NOT_IN_NAME.sub("_", name[:NAME_LENGTH_LIMIT])
    return f"_{valid}" if valid[0].isdigit() else valid


def with_ending(name: str, wire_type: str) -> str:
    """The name with its type's ending: counters `_total`, timers in milliseconds `_seconds`."""
    ending = _ENDING.get(wire_type, "")
    return name if name.endswith(ending) and name != ending else name + ending


def family_name(name: str, series_type: SeriesType) -> str:
    """The OpenMetrics family of a series: a counter's without `_total`."""
    return name.removesuffix("_total") if series_type == "counter" else name


def claimed_names(name: str, series_type: SeriesType) -> tuple[str, ...]:
    """Every name the exposition of a series may use; no two series may share one."""
    family = family_name(name, series_type)
    return tuple(family + ending for ending in _SAMPLE_ENDINGS[series_type])


def label_name(key: str) -> str | None:
    """A tag's key as a label name; None if it is reserved (`le`, or a leading `__`)."""
    valid = _NOT_IN_LABEL.sub("_", key[:NAME_LENGTH_LIMIT])
    if valid[0].isdigit():
        valid = f"_{valid}"
    return None if valid == "le" or valid.startswith("__") else valid


def label_value(value: str) -> str:
    """A tag's value as a label value: no control characters, at most 128 characters."""
    return _CONTROL.sub("_", value[:VALUE_LENGTH_LIMIT])


def escaped(value: str) -> str:
    """A label value between the quotes of the text formats."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
