"""What a value must be, beside the vectors: what only Python can pass."""

import numbers
import sys
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import pytest

from llmstatsd_client import Client, encode


class Model(str, Enum):
    MINI = "gpt-4o-mini"


class Size(IntEnum):
    SMALL = 5


class Celsius(float):
    def __str__(self) -> str:
        return "warm"


def lines(**event: Any) -> list[str]:
    encoded = encode(event)
    assert encoded.refused == []
    return encoded.datagrams[0].decode().split("\n")[1:]


def refused(**event: Any) -> list[str]:
    return encode(event).refused


@pytest.mark.parametrize(
    "number",
    [Decimal("1.5"), Fraction(3, 2), Celsius(1.5)],
    ids=["Decimal", "Fraction", "a subclass of float"],
)
def test_any_real_number_is_a_duration(number: Any) -> None:
    assert lines(duration_seconds=number) == ["llm_request_duration_seconds:1500|ms"]


@pytest.mark.parametrize(
    "number",
    [Decimal(5), Fraction(10, 2), Size.SMALL, 5.0],
    ids=["Decimal", "Fraction", "IntEnum", "float"],
)
def test_any_whole_number_is_a_count(number: Any) -> None:
    assert lines(tokens=number) == ["llm_tokens_total:5|c"]


class Scalar:
    """As numpy's int64: registered as a number, and no subclass of a built-in type."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)

    def __eq__(self, other: object) -> bool:
        return self.value == other

    __hash__ = None  # type: ignore[assignment]


numbers.Integral.register(Scalar)


def test_a_registered_number_is_a_number() -> None:
    assert lines(duration_seconds=Scalar(2), tokens=Scalar(5)) == [
        "llm_request_duration_seconds:2000|ms",
        "llm_tokens_total:5|c",
    ]
    assert refused(tokens=Scalar(-1), duration_seconds=Scalar(10**12)) == [
        "tokens",
        "duration_seconds",
    ]


@pytest.mark.parametrize(
    "number",
    [
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e1000000")),
        *(Fraction(10**400), 10**5000, -(10**5000), 1j),
    ],
    ids=["NaN", "sNaN", "Infinity", "1e1000000", "Fraction", "huge", "minus huge", "complex"],
)
def test_a_number_that_no_double_holds_is_refused(number: Any) -> None:
    fields = ("duration_seconds", "tokens", "cost_dollars")
    assert refused(**dict.fromkeys(fields, number)) == list(fields)


def test_half_a_token_is_refused_as_any_type() -> None:
    assert refused(tokens=Decimal("5.00000000000000000001")) == ["tokens"]
    assert refused(tokens=Fraction(1, 2)) == ["tokens"]


@pytest.mark.parametrize(
    "text",
    [Model.MINI, b"gpt-4o-mini", bytearray(b"gpt-4o-mini")],
    ids=["an Enum", "bytes", "bytearray"],
)
def test_a_text_may_be_a_subclass_or_bytes(text: Any) -> None:
    assert encode({"model": text}).datagrams == [b"llm_request_total:1|c|#model:gpt-4o-mini"]


@pytest.mark.parametrize(
    ("model", "written"),
    [
        (b"a\xffb", "a_b"),
        (b"\xe6\xa8", "__"),
        (b"\xed\xa0\x80", "___"),
        ("a\ud800b\udfff", "a_b_"),
        ("模".encode() * 200, "模" * 128),
        ("😀".encode() * 200, "😀" * 128),
        (b"\xff" * 200, "_" * 128),
    ],
    ids=["a byte", "a cut", "a surrogate", "lone surrogates", "3 bytes", "4 bytes", "no UTF-8"],
)
def test_what_is_no_character_becomes_a_line(model: Any, written: str) -> None:
    assert encode({"model": model}).datagrams[0].decode().endswith(f"|#model:{written}")


def test_an_error_may_be_bytes() -> None:
    assert lines(error=b"quota") == ["llm_error_total:1|c|#type:quota"]
    assert lines(error=b"\xff") == ["llm_error_total:1|c|#type:other"]
    assert lines(error=b"") == []


def test_a_megabyte_of_text_is_cut(client: Client, receiver: Any) -> None:
    client.send(model="x" * 1_000_000, operation=b"y" * 1_000_000, error="z" * 1_000_000)
    assert receiver.lines() == [
        f"llm_request_total:1|c|#model:{'x' * 128},operation:{'y' * 128}",
        f"llm_error_total:1|c|#model:{'x' * 128},type:other",
    ]


@pytest.mark.parametrize("value", [object(), memoryview(b"a"), 5, [], {}, len], ids=repr)
def test_anything_else_is_no_text(value: Any) -> None:
    assert refused(model=value, error=value) == ["model", "error"]


def test_an_unknown_field_is_refused(client: Client, receiver: Any) -> None:
    anything: Any = client
    anything.send("gpt-4o", model="m", modle="m", tokens=1)
    assert receiver.lines() == ["llm_request_total:1|c|#model:m", "llm_tokens_total:1|c|#model:m"]
    assert client.stats().refused_fields == 2
    assert encode({"modle": "m"}) == ([b"llm_request_total:1|c"], ["modle"])


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        ({"duration_seconds": -1}, ValueError, "duration_seconds must be a finite number"),
        ({"duration_seconds": "1"}, TypeError, "duration_seconds must be a number"),
        ({"tokens": 1.5}, ValueError, "tokens must be a whole number"),
        ({"tokens": True}, TypeError, "tokens must be a number"),
        ({"model": 5}, TypeError, "model must be text"),
        ({"fallback": 1}, TypeError, "fallback must be True or False"),
        ({"tokens": Decimal("sNaN")}, ValueError, "tokens"),
        ({"modle": "m"}, TypeError, "not a field of an event: modle"),
    ],
    ids=str,
)
def test_a_strict_client_raises_for_a_refused_field(
    strict: Client, receiver: Any, event: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        strict.send(**event)
    assert receiver.waiting() == []
    assert strict.stats().refused_fields == 1


def test_a_strict_client_raises_for_a_positional_argument(strict: Client) -> None:
    anything: Any = strict
    with pytest.raises(TypeError, match="positional"):
        anything.send("gpt-4o")


def test_what_is_huge_takes_no_time_to_print() -> None:
    # The digits of 10**5000 are over the interpreter's limit for texts of integers.
    assert sys.get_int_max_str_digits() < 5000
    assert refused(tokens=10**5000) == ["tokens"]
