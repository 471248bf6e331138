"""What the tests of the wire share: the vectors, and what any result must look like."""

import json
import math
from pathlib import Path
from typing import Any, Final

from llmstatsd.wire import Parsed, Sample
from llmstatsd.wire.reasons import NOTES, REASONS

Vector = dict[str, Any]

VECTORS: Final[list[Vector]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "wire.json").read_text(encoding="utf-8")
)

TYPES: Final = frozenset({"c", "g", "ms", "h", "d", "s"})
KINDS: Final = frozenset({"event", "service_check"})


def line_of(vector: Vector) -> bytes:
    """The bytes that a client would send for `vector`, without a line end."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    line: str = vector["line"]
    return line.encode()


def id_of(vector: Vector) -> str:
    """The wire line, in ASCII and at most 72 characters, as the name of a test."""
    text = repr(line_of(vector))[2:-1]
    return text if len(text) <= 72 else f"{text[:60]}...{text[-9:]}"


def assert_well_formed(parsed: Parsed) -> None:
    """A line gives samples, or one reason, or is set aside; its words are of closed sets."""
    assert isinstance(parsed, Parsed)
    outcomes = (bool(parsed.samples), parsed.reason is not None, parsed.set_aside is not None)
    assert sum(outcomes) == 1, parsed
    assert parsed.reason is None or parsed.reason in REASONS
    assert parsed.set_aside is None or parsed.set_aside in KINDS
    assert set(parsed.notes) <= set(NOTES)
    assert len(set(parsed.notes)) == len(parsed.notes), parsed
    assert not parsed.notes or parsed.samples, "a note is of a line that stands"
    for sample in parsed.samples:
        _assert_sample_well_formed(sample)


def _assert_sample_well_formed(sample: Sample) -> None:
    assert isinstance(sample, Sample)
    assert sample.name
    assert sample.type in TYPES
    assert 1e-9 <= sample.rate <= 1
    assert sample.rate == 1 or sample.type not in "gs"
    assert sample.relative is False or sample.type == "g"
    _assert_value_well_formed(sample)
    assert len({key for key, _ in sample.tags}) == len(sample.tags), sample
    assert all(key and value for key, value in sample.tags), sample
    text = sample.name + "".join(key + value for key, value in sample.tags)
    assert text.encode().decode() == text, "everything in a sample can be written as UTF-8"


def _assert_value_well_formed(sample: Sample) -> None:
    if sample.type == "s":
        assert isinstance(sample.value, str)
        assert sample.value
        return
    assert isinstance(sample.value, float)
    assert abs(sample.value) <= 1e280
    assert sample.type == "g" or sample.value >= 0
    assert math.isfinite(sample.value / sample.rate), "its weight is finite"
