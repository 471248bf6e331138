"""The wire by its contract: `tests/vectors/wire.json`, whole, cut, soiled and mixed."""

import json
import math
import random
import re
import tracemalloc
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from llmstatsd.wire import Dialect, Parsed, Sample, parse_datagram, parse_line
from llmstatsd.wire.reasons import NOTES, REASONS, WIRE_REASONS

from . import VECTORS, Vector, assert_well_formed, id_of, line_of

every_vector = pytest.mark.parametrize("vector", VECTORS, ids=id_of)

SERIES_NOTES = {"dropped_label"}
"""Notes that only the stage after the wire can give: it alone knows the labels of a series."""

KEYS = {"line", "hex", "samples", "reasons", "notes", "set_aside", "why"}
SAMPLE_KEYS = {"name", "type", "value", "rate", "tags", "relative"}
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "wire.md"


def _same_value(expected: float | str, value: float | str) -> bool:
    if isinstance(expected, str) or isinstance(value, str):
        return expected == value
    return math.isclose(expected, value, rel_tol=1e-12)


def _assert_sample(expected: dict[str, Any], sample: Sample) -> None:
    assert sample.name == expected["name"]
    assert sample.type == expected["type"]
    assert _same_value(expected["value"], sample.value), sample
    assert sample.rate == expected["rate"]
    assert [list(tag) for tag in sample.tags] == expected["tags"]
    assert sample.relative is expected.get("relative", False)


def _assert_as_promised(vector: Vector, parsed: Parsed) -> None:
    assert_well_formed(parsed)
    assert [word for word in (parsed.reason,) if word] == vector["reasons"]
    assert parsed.set_aside == vector.get("set_aside")
    assert sorted(parsed.notes) == vector["notes"]
    assert len(parsed.samples) == len(vector["samples"]), parsed
    for expected, sample in zip(vector["samples"], parsed.samples, strict=True):
        _assert_sample(expected, sample)


@every_vector
def test_a_line_gives_what_its_vector_promises(vector: Vector) -> None:
    _assert_as_promised(vector, parse_line(line_of(vector)))


@every_vector
def test_a_datagram_of_one_line_gives_what_the_line_gives(vector: Vector) -> None:
    line = line_of(vector)
    assert parse_datagram(line) == [parse_line(line)]


@every_vector
def test_no_prefix_of_a_line_raises(vector: Vector) -> None:
    line = line_of(vector)
    for end in range(1, len(line)):
        assert_well_formed(parse_line(line[:end]))
        for parsed in parse_datagram(line[:end]):
            assert_well_formed(parsed)


GARBAGE = [
    *(b"\r", b"\r\n", b"\n", b"\n\n\n", b"\n\r\n\r\n"),
    *(b"\ngarbage", b"\r\n\xff\xfe", b"\n{", b"\n|||:::@@@###", b"\n\x00\x00\x00"),
]


@every_vector
def test_what_follows_a_line_does_not_change_it(vector: Vector) -> None:
    line = line_of(vector).removesuffix(b"\r")
    for garbage in GARBAGE:
        results = parse_datagram(line + garbage)
        _assert_as_promised(vector, results[0])
        assert len(results) == (2 if garbage.strip() else 1)


def _is_one_object(data: bytes) -> bool:
    """Whether `data` is one JSON object, which is one event, however many lines it has."""
    try:
        return data.startswith(b"{") and isinstance(json.loads(data), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"], ids=repr)
@pytest.mark.parametrize("size", [2, 3, 7, 40, len(VECTORS)])
def test_lines_in_one_datagram_count_as_if_each_came_alone(size: int, end: bytes) -> None:
    mixed = random.Random(size).sample(VECTORS, len(VECTORS))
    for start in range(0, len(mixed), size):
        lines = [line_of(vector).removesuffix(b"\r") for vector in mixed[start : start + size]]
        data = end.join(lines)
        alone = [parse_line(line) for line in lines]
        if len(lines) > 1 and _is_one_object(data):
            continue  # an event and white space are one event: see the test of whole datagrams
        assert parse_datagram(data) == alone
        assert parse_datagram(data + end) == alone


def test_empty_lines_are_no_lines() -> None:
    for data in (b"", b"\n", b"\r\n", b"\n\n\r\n\n"):
        assert parse_datagram(data) == []


def test_fields_mean_the_same_in_every_order() -> None:
    fields = ("@0.5", "#k:v,l:w", "c:abc", "T1700000000", "e:it-false", "card:low")
    sample = Sample("a", "c", 3.0, 0.5, (("k", "v"), ("l", "w")), False)
    for order in permutations(fields):
        assert parse_line(f"a:3|c|{'|'.join(order)}".encode()) == Parsed((sample,), None, (), None)


PRETTY = b'{\n  "model": "m",\r\n  "operation": "chat"\n}\n'


def test_a_datagram_that_is_one_object_is_one_event_over_many_lines() -> None:
    compact = json.dumps(json.loads(PRETTY)).encode()
    assert parse_datagram(PRETTY) == [parse_line(compact)]


REFUSED_OBJECTS = [
    (b'{\n"foo": 1\n}', "bad_event"),
    (b'{"model": 5,\n"operation": "chat"}\n', "bad_event"),
    (b'{"model": "m",\n"tokens": -1}', "bad_event"),
    (b"{\n}", "bad_event"),
    (b'{\r\n"model": "m",\r\n"done": false\r\n}\r\n', "event_not_final"),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED_OBJECTS)
def test_a_datagram_that_is_one_refused_object_is_refused_once(data: bytes, reason: str) -> None:
    assert [parsed.reason for parsed in parse_datagram(data)] == [reason]


def test_an_object_over_many_lines_after_another_line_is_no_event() -> None:
    reasons = [parsed.reason for parsed in parse_datagram(b"a:1|c\n" + PRETTY)]
    assert reasons == [None, "bad_event", "malformed", "malformed", "malformed"]


def test_events_and_lines_share_a_datagram() -> None:
    data = b'{"model":"m"}\n{"model":"n"}\na:1|c\n{"model":"o"}'
    names = [[sample.name for sample in parsed.samples] for parsed in parse_datagram(data)]
    assert names == [["llm_request_total"]] * 2 + [["a"]] + [["llm_request_total"]]


CHAINS = [
    ("a:{chain}|c{fields}", "1|c:", "|x"),
    ("a:{chain}|c{fields}", "1|c:", "|#k{i}:v"),
    ("a:{chain}|c|#{fields}", "1|c|@0.5:", "k{i}:v,"),
    ("a#{fields}:{chain}|c", "1|c:", "k{i}=v,"),
    ("a:{chain}|c{fields}", "1:", "|x"),
]


def _peak_bytes(data: bytes) -> int:
    """The most memory that parsing `data` holds at one time."""
    tracemalloc.start()
    try:
        parse_datagram(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("form", "value", "field"), CHAINS)
def test_memory_for_a_long_line_grows_with_its_length_alone(
    form: str, value: str, field: str
) -> None:
    """Four times the length is about four times the memory; values times fields would be 16."""
    peaks = []
    for count in (200, 800):
        fields = "".join(field.format(i=i) for i in range(count))
        peaks.append(_peak_bytes(form.format(chain=value * count + "1", fields=fields).encode()))
    assert peaks[1] < 7 * peaks[0]


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"x":', "}")])
def test_an_event_of_any_depth_never_raises(opening: str, closing: str, depth: int) -> None:
    core = opening * depth + "1" + closing * depth
    for line in (f'{{"model":"m","x":{core}}}', f'{{"model":{core}}}', opening * depth, core):
        assert_well_formed(parse_line(line.encode()))
        (parsed,) = parse_datagram(line.encode())
        assert_well_formed(parsed)


SWITCHED_OFF = [
    ("a#k=v:1|c", Dialect(librato=False), "a#k=v"),
    ("a,k=v:1|c", Dialect(influxdb=False), "a,k=v"),
    ("a[k=v]b:1|c", Dialect(signalfx=False), "a[k=v]b"),
    ("#k=v:1|c", Dialect(librato=False), "#k=v"),
    (",k=v:1|c", Dialect(influxdb=False), ",k=v"),
    ("[k=v]:1|c", Dialect(signalfx=False), "[k=v]"),
    ("a#k=v,l[m]:1|c", Dialect(librato=False, influxdb=False, signalfx=False), "a#k=v,l[m]"),
]


@pytest.mark.parametrize(("line", "dialect", "name"), SWITCHED_OFF)
def test_a_style_that_is_off_leaves_its_signs_in_the_name(
    line: str, dialect: Dialect, name: str
) -> None:
    (sample,) = parse_line(line.encode(), dialect).samples
    assert (sample.name, sample.tags) == (name, ())


@pytest.mark.parametrize(("line", "dialect", "name"), SWITCHED_OFF)
def test_a_style_that_is_off_mixes_with_no_other(line: str, dialect: Dialect, name: str) -> None:
    (sample,) = parse_line(f"{line}|#x:y".encode(), dialect).samples
    assert (sample.name, sample.tags) == (name, (("x", "y"),))


SIGNED = [("+5", 5.0, True), ("-5", -5.0, True), ("-0", 0.0, True), ("5", 5.0, False)]


@pytest.mark.parametrize(("text", "value", "relative"), SIGNED)
def test_the_switch_makes_a_signed_gauge_absolute(text: str, value: float, relative: bool) -> None:
    line = f"a:{text}:{text}|g:{text}|g".encode()
    for absolute in (False, True):
        samples = parse_line(line, Dialect(absolute_signed_gauges=absolute)).samples
        assert [sample.value for sample in samples] == [value] * 3
        assert {sample.relative for sample in samples} == {relative and not absolute}


def test_the_vectors_are_many_and_half_of_them_refusals() -> None:
    refusals = [vector for vector in VECTORS if vector["reasons"]]
    assert len(VECTORS) >= 250
    assert 2 * len(refusals) >= len(VECTORS)


def test_no_line_has_two_vectors() -> None:
    lines = [line_of(vector) for vector in VECTORS]
    assert len(set(lines)) == len(lines)


@every_vector
def test_a_vector_keeps_its_format(vector: Vector) -> None:
    assert set(vector) <= KEYS
    assert ("line" in vector) != ("hex" in vector)
    assert b"\n" not in line_of(vector)
    assert vector["why"]
    assert vector["notes"] == sorted(set(vector["notes"]))
    assert sum(map(bool, (vector["samples"], vector["reasons"], vector.get("set_aside")))) == 1
    for sample in vector["samples"]:
        assert SAMPLE_KEYS - {"relative"} <= set(sample) <= SAMPLE_KEYS


def test_the_vectors_use_every_word_of_the_closed_sets_that_the_wire_can_say() -> None:
    assert {word for vector in VECTORS for word in vector["reasons"]} == set(WIRE_REASONS)
    assert {word for vector in VECTORS for word in vector["notes"]} == set(NOTES) - SERIES_NOTES
    kinds = {vector["set_aside"] for vector in VECTORS if "set_aside" in vector}
    assert kinds == {"event", "service_check"}
    assert set(WIRE_REASONS) <= set(REASONS)


def _documented_words(heading: str) -> list[str]:
    """The first cell of each row of the table under `heading` in the reference page."""
    section = REFERENCE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([a-z0-9_]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize(("heading", "words"), [("Reasons", REASONS), ("Notes", NOTES)])
def test_the_reference_page_names_exactly_the_closed_set(
    heading: str, words: tuple[str, ...]
) -> None:
    assert sorted(_documented_words(heading)) == sorted(words)
