"""Events to lines of StatsD, and lines to datagrams. No I/O and no clock.

`encode` is the contract that the clients of all languages share, and its plain reading.
`Encoder` gives the same bytes faster: all but the numbers of a line depends only on the texts and
switches of the event and on which numbers are there, so it is kept as a template.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple

from llmstatsd_client.event import (
    COST,
    COUNT_LIMIT,
    COUNTS,
    DOLLARS_LIMIT,
    FIELDS,
    NUMBERS,
    RATE_LIMIT,
    SECONDS,
    SECONDS_LIMIT,
    TEXT_LIMIT,
    Clean,
    Refused,
    read,
)

UDP_DATAGRAM_BYTES: Final = 1432
"""An Ethernet frame of 1500 less the headers of IPv6 and UDP and some slack, as in DogStatsD."""

UNIX_DATAGRAM_BYTES: Final = 8192

#                         bars, controls, and what is no character: each becomes _
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f|,#\ud800-\udfff]")

_LATER_SECONDS: Final = (
    ("load_duration_seconds", "llm_model_load_duration_seconds", False),
    ("prompt_eval_duration_seconds", "llm_prompt_eval_duration_seconds", False),
    ("total_duration_seconds", "llm_total_duration_seconds", False),
    ("time_to_first_token_seconds", "llm_time_to_first_token_seconds", True),
    ("time_per_output_token_seconds", "llm_time_per_output_token_seconds", True),
)
"""Field, series, and whether the line tells the operation too."""

_COUNTS: Final = (
    ("tokens", "llm_tokens_total"),
    ("prompt_tokens", "llm_prompt_tokens_total"),
    ("completion_tokens", "llm_completion_tokens_total"),
    ("cached_tokens", "llm_cached_tokens_total"),
)


class Encoded(NamedTuple):
    """The datagrams of one event, and the names of the fields that were refused."""

    datagrams: list[bytes]
    refused: list[str]


def encode(event: Mapping[str, object], max_datagram_bytes: int = UDP_DATAGRAM_BYTES) -> Encoded:
    """The datagrams of an event; whatever its values are, none raises.

    A datagram has at most `max_datagram_bytes` bytes, unless one line alone has more.
    """
    clean, refused = read(event.items())
    datagrams = list(split(encode_clean(clean), max_datagram_bytes))
    return Encoded(datagrams, list(refused))


def split(lines: bytes, max_datagram_bytes: int) -> Iterator[bytes]:
    """Datagrams filled greedily and cut between lines."""
    while len(lines) > max_datagram_bytes:
        # The line end may stand just behind the last byte that fits.
        end = lines.rfind(b"\n", 0, max_datagram_bytes + 1)
        if end < 0:
            end = lines.find(b"\n")
        if end < 0:
            break
        yield lines[:end]
        lines = lines[end + 1 :]
    yield lines


def safe(text: str) -> str:
    """The text without what would end a tag or a line, and without what is no character."""
    return _UNSAFE.sub("_", text)


def milliseconds(seconds: float) -> str:
    """Seconds, rounded to microseconds, as a decimal of milliseconds: 0.00042 is `0.42`."""
    return _decimal(math.floor(seconds * 1e6 + 0.5), 3)


def dollars(amount: float) -> str:
    """Dollars, rounded to billionths, as a decimal without an exponent."""
    return _decimal(math.floor(amount * 1e9 + 0.5), 9)


def _decimal(whole: int, places: int) -> str:
    digits = f"{whole:0{places + 1}d}"
    return f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")


def encode_clean(clean: Clean) -> bytes:
    """The lines of an event that was read."""
    texts = {field: str(count) for field, count in _counts(clean).items()}
    for field in FIELDS[SECONDS]:
        if field in clean:
            texts[field] = milliseconds(clean[field])
    if "cost_dollars" in clean:
        texts["cost_dollars"] = dollars(clean["cost_dollars"])
    return _lines(clean, texts).encode()


def _counts(clean: Clean) -> dict[str, int]:
    """The counts, and the total of prompt and completion where no total is given."""
    counts = {field: clean[field] for field in FIELDS[COUNTS] if field in clean}
    if "tokens" not in counts:
        parts = [
            counts[field] for field in ("prompt_tokens", "completion_tokens") if field in counts
        ]
        if parts and sum(parts) <= COUNT_LIMIT:
            counts["tokens"] = sum(parts)
    return counts


def _lines(clean: Clean, texts: Mapping[str, str]) -> str:
    """The lines in their order, each number as its text."""
    model, call = _suffixes(clean)
    lines = [f"llm_request_total:1|c{call}"]
    if "duration_seconds" in texts:
        lines.append(f"llm_request_duration_seconds:{texts['duration_seconds']}|ms{call}")
    for field, series in _COUNTS:
        if field in texts:
            lines.append(f"{series}:{texts[field]}|c{model}")
    if "cost_dollars" in texts:
        lines.append(f"llm_cost_dollars_total:{texts['cost_dollars']}|c{model}")
    for field, series, has_operation in _LATER_SECONDS:
        if field in texts:
            lines.append(f"{series}:{texts[field]}|ms{call if has_operation else model}")
    lines += _failures(clean, model)
    if clean.get("fallback"):
        lines.append("llm_fallback_total:1|c")
    return "\n".join(lines)


def _suffixes(clean: Clean) -> tuple[str, str]:
    """The tags of a model, and those of a call, each with `|#` before it, or empty."""
    tags = [f"{field}:{safe(clean[field])}" for field in ("model", "operation") if field in clean]
    model = f"|#{tags[0]}" if "model" in clean else ""
    return model, f"|#{','.join(tags)}" if tags else ""


def _failures(clean: Clean, model: str) -> Iterator[str]:
    is_limited = clean.get("rate_limited") or clean.get("error") == RATE_LIMIT
    error = clean.get("error") or (RATE_LIMIT if is_limited else None)
    if error:
        yield f"llm_error_total:1|c{model or '|#'}{',' if model else ''}type:{error}"
    if is_limited:
        yield f"llm_rate_limit_exceeded_total:1|c{model}"


# The fast way to the same bytes.

Values = tuple[Any, ...]
"""An event's values in the order of `FIELDS`."""

TEMPLATES_LIMIT: Final = 512
"""Templates that are kept; each new one beyond that takes the place of the oldest."""

TEMPLATE_BYTES_LIMIT: Final = 4096
"""Longest template that is kept: together at most 2 MiB, whatever the models are called."""

_PLAIN_SUM: Final = min(SECONDS_LIMIT, COUNT_LIMIT)
"""A sum of numbers, none negative, up to which each duration and count is in its range."""

_EXACT: Final = (
    *[frozenset({str, type(None)})] * 2,
    *[frozenset({float, int, type(None)})] * 6,
    *[frozenset({int, type(None)})] * 4,
    frozenset({float, int, type(None)}),
    frozenset({str, type(None)}),
    *[frozenset({bool, type(None)})] * 2,
)
"""The types of each field that a template may take."""

_WIRE_ORDER: Final = (
    *("duration_seconds", "tokens", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("cost_dollars", *(field for field, _, _ in _LATER_SECONDS)),
)
_FORMATS: Final = {
    # 15 digits write every whole number of microseconds below 1e15 exactly.
    **dict.fromkeys(FIELDS[SECONDS], "%.15g"),
    **dict.fromkeys(FIELDS[COUNTS], "%d"),
    "cost_dollars": "%b",
}


def _nothing(_: Values) -> Values:
    return ()


class Template:
    """The lines of all events that differ in their numbers only."""

    __slots__ = ("_pick", "_text")

    def __init__(self, clean: Clean) -> None:
        escaped = {
            field: value.replace("%", "%%") if isinstance(value, str) else value
            for field, value in clean.items()
        }
        there = {*clean, *_counts(clean)}
        places = [place for place, field in enumerate(_WIRE_ORDER) if field in there]
        texts = {field: text for field, text in _FORMATS.items() if field in there}
        self._text = _lines(escaped, texts).encode()
        self._pick: Callable[[Values], object] = itemgetter(*places) if places else _nothing

    def __len__(self) -> int:
        return len(self._text)

    def fill(self, event: Values) -> bytes:
        """The lines; the numbers are in range and of exact types, which `prepare` has seen to.

        Seconds become whole microseconds written as milliseconds, in line for the sake of speed.
        """
        _, _, whole, load, reading, total, first, token = event[:8]
        tokens, prompt, completion, cached, cost = event[8:13]
        if tokens is None:
            tokens = (prompt or 0) + (completion or 0)
        return self._text % self._pick(
            (
                whole if whole is None else (whole * 1e6 + 0.5) // 1 / 1000,
                tokens,
                prompt,
                completion,
                cached,
                cost if cost is None else _fast_dollars(cost),
                load if load is None else (load * 1e6 + 0.5) // 1 / 1000,
                reading if reading is None else (reading * 1e6 + 0.5) // 1 / 1000,
                total if total is None else (total * 1e6 + 0.5) // 1 / 1000,
                first if first is None else (first * 1e6 + 0.5) // 1 / 1000,
                token if token is None else (token * 1e6 + 0.5) // 1 / 1000,
            )
        )


def _fast_dollars(amount: float) -> bytes:
    rounded = (amount * 1e9 + 0.5) // 1 / 1e9
    if rounded >= 1e-4:  # below, %g writes an exponent
        return b"%.15g" % rounded
    return (b"%.9f" % rounded).rstrip(b"0").rstrip(b".")


Prepared = bytes | tuple[Template, Values]
"""The lines of an event, or all that is needed to write them later."""


def finish(prepared: Prepared) -> bytes:
    """The lines of a prepared event."""
    if isinstance(prepared, bytes):
        return prepared
    template, event = prepared
    return template.fill(event)


class Encoder:
    """Prepares events, with templates for the usual ones. Any thread may use it.

    Templates are a cache without a lock: each step on the dict is atomic, and a step that another
    thread spoils is left out.
    """

    def __init__(self) -> None:
        self._templates: dict[Values, Template] = {}

    def prepare(self, event: Values) -> tuple[Prepared, Refused | None]:
        """What is to be sent of an event, captured, and what is refused; raises nothing."""
        try:
            # The types tell 1 from True and 1.0, and a text from a thing that equals it.
            key = (event[0], event[1], event[13], event[14], event[15], *map(type, event))
            template = self._templates.get(key)
            if template is not None:
                numbers = [*filter(None, event[NUMBERS])]
                # A NaN makes the sum one.
                if not numbers or (
                    min(numbers) >= 0
                    and sum(numbers) <= _PLAIN_SUM
                    and (event[COST] or 0) <= DOLLARS_LIMIT
                ):
                    return (template, event), None
                key = ()
        except Exception:  # noqa: BLE001 a value may be an object that raises anything
            key = ()
        return self._read(event, key)

    def _read(self, event: Values, key: Values) -> tuple[Prepared, Refused | None]:
        clean, refused = read(zip(FIELDS, event, strict=True))
        if key and not refused and _is_plain(event):
            self._keep(key, Template(clean))
        return encode_clean(clean), refused or None

    def _keep(self, key: Values, template: Template) -> None:
        if len(template) > TEMPLATE_BYTES_LIMIT:
            return
        templates = self._templates
        templates[key] = template
        if len(templates) > TEMPLATES_LIMIT:
            try:
                templates.pop(next(iter(templates)), None)
            except RuntimeError:  # another thread kept one at this moment, and forgets one itself
                return


def _is_plain(event: Values) -> bool:
    """Whether a template may be kept: exact types, and texts that are not too long to keep."""
    if not all(type(value) in exact for value, exact in zip(event, _EXACT, strict=True)):
        return False
    return all(len(text) <= TEXT_LIMIT for text in event if isinstance(text, str))
