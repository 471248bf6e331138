"""The closed sets of words that say what became of a line.

A reason refuses a line; a note is counted and the line stands; a kind sets a line aside.
They are values of labels of the daemon's own series, so the sets are closed.
"""

from typing import Final, NamedTuple


class Refusal(NamedTuple):
    """A line that does not count, and why."""

    reason: str


MALFORMED: Final = "malformed"
BAD_NAME: Final = "bad_name"
BAD_VALUE: Final = "bad_value"
NOT_FINITE: Final = "not_finite"
BAD_RATE: Final = "bad_rate"
BAD_TYPE: Final = "bad_type"
NEGATIVE: Final = "negative"
MIXED_TAGS: Final = "mixed_tags"
INVALID_UTF8: Final = "invalid_utf8"
BAD_EVENT: Final = "bad_event"
EVENT_NOT_FINAL: Final = "event_not_final"

WIRE_REASONS: Final = (
    *(MALFORMED, BAD_NAME, BAD_VALUE, NOT_FINITE, BAD_RATE, BAD_TYPE, NEGATIVE),
    *(MIXED_TAGS, INVALID_UTF8, BAD_EVENT, EVENT_NOT_FINAL),
)
"""Reasons that the bytes of a line alone decide."""

TYPE_CONFLICT: Final = "type_conflict"
NAME_CLASH: Final = "name_clash"
RESERVED_NAME: Final = "reserved_name"
NAME_BUDGET: Final = "name_budget"
OUT_OF_MEMORY: Final = "out_of_memory"

SERIES_REASONS: Final = (TYPE_CONFLICT, NAME_CLASH, RESERVED_NAME, NAME_BUDGET, OUT_OF_MEMORY)
"""Reasons that depend on the series there are already, and on the memory there is for more."""

REASONS: Final = WIRE_REASONS + SERIES_REASONS

MEANINGS: Final = {
    MALFORMED: "it has no shape `name:value|type`, or a bad header of an event or a service check",
    BAD_NAME: "the name is empty, or nothing valid is left of it",
    BAD_VALUE: "the value is empty, or no number by the grammar",
    NOT_FINITE: "the value is a NaN or an infinity, or of a magnitude over 1e280",
    BAD_RATE: "the rate is no number by the grammar, not finite, or outside 1e-9 to 1",
    BAD_TYPE: "the type is empty or unknown",
    NEGATIVE: "a counter, timer, histogram or distribution has a negative value",
    MIXED_TAGS: "it has tags in two styles",
    INVALID_UTF8: "some byte of it is not UTF-8",
    BAD_EVENT: "it starts with `{` and is no valid event",
    EVENT_NOT_FINAL: 'it is an Ollama chunk with `"done": false`',
    TYPE_CONFLICT: "the series exists with another type",
    NAME_CLASH: "its samples would have the names of another series' samples, as gauge `x_count`"
    " beside histogram `x`",
    RESERVED_NAME: "the name is undeclared and starts with `llmstatsd_`, `process_` or `python_`,"
    " or is one that Prometheus gives itself (`up`, `scrape_duration_seconds` and its like)",
    NAME_BUDGET: "the name is undeclared, and there are as many undeclared names as the limit"
    " allows",
    OUT_OF_MEMORY: "there was no memory left for it (`RLIMIT_AS`); from then on the lines of the"
    " exposition stay as many as they are, and what would be new folds into `other`",
}
"""What a line is refused for: "the line is refused because ..."."""

UNKNOWN_FIELD: Final = "unknown_field"
TAG_WITHOUT_VALUE: Final = "tag_without_value"
RATE_IGNORED: Final = "rate_ignored"
UNKNOWN_ERROR_TYPE: Final = "unknown_error_type"
UNKNOWN_EVENT_FIELD: Final = "unknown_event_field"
DROPPED_LABEL: Final = "dropped_label"

NOTES: Final = (
    *(UNKNOWN_FIELD, TAG_WITHOUT_VALUE, RATE_IGNORED),
    *(UNKNOWN_ERROR_TYPE, UNKNOWN_EVENT_FIELD, DROPPED_LABEL),
)

EVENT: Final = "event"
SERVICE_CHECK: Final = "service_check"

KINDS: Final = (EVENT, SERVICE_CHECK)
"""Lines of DogStatsD that are understood and set aside: they carry no sample."""
