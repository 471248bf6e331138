"""The number grammar, by a table and by an oracle that is not the parser's own."""

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmstatsd.wire.number import parse_number

GOOD = [
    *(("0", 0.0), ("00", 0.0), ("1", 1.0), ("007", 7.0), ("+1", 1.0), ("-1", -1.0), ("-0", -0.0)),
    *(("1.0", 1.0), ("0.1", 0.1), ("00.50", 0.5), ("-2.5", -2.5), ("3.141592653589793", math.pi)),
    *(("1e5", 1e5), ("1E5", 1e5), ("1e+5", 1e5), ("1e-5", 1e-5), ("1.5e3", 1500.0), ("1e05", 1e5)),
    *(("5e-324", 5e-324), ("1e-400", 0.0), ("0e999999", 0.0), ("1e280", 1e280), ("-1e280", -1e280)),
    *(("9007199254740993", 2.0**53), ("1" + "0" * 280, 1e280), ("0." + "0" * 400 + "1", 0.0)),
]

BAD_VALUE = [
    *("", "+", "-", ".", "e", "+-1", "--1", "++1", ".5", "5.", "-.5", "5.e3", "1.5.2"),
    *("1e", "1e+", "1e-", "e5", "1e5.0", "1e5e5", "1ee5", "1_0", "1_000.5", "1,5", "1 0"),
    *(" 1", "1 ", "\t1", "1\t", "1\n", "\n1", "1\r", "1\x00", "\x001", "1\x1f", "1\xa0", "1\u2003"),
    *("0x10", "0b1", "0o7", "0x1p3", "1f", "1j", "1L", "10%", "1s", "True", "None", "null"),
    *("\uff11", "1\uff10", "\u0661", "\u0967", "\u00b2", "\u00bd", "\u2460", "\u22121", "1\u066b5"),
    *("infin", "infinit", "infinityy", "nano", "na", "nan0", "nan(1)", "snan", "1nan", "in f"),
    *("\u0131nf", "\uff49nf", "\uff4e\uff41\uff4e", "nan\n", " inf", "inf ", "+ inf", "--inf"),
]

NOT_FINITE = [
    *("nan", "NaN", "NAN", "-nan", "+nan", "inf", "Inf", "INF", "-inf", "+Inf"),
    *("infinity", "Infinity", "-INFINITY", "1.1e280", "-1.1e280", "1e281", "1e308", "1e309"),
    *("1e400", "-1e400", "9" * 400, "1" + "0" * 281, "1e999999999999999999999"),
]


@pytest.mark.parametrize(("text", "value"), GOOD)
def test_a_number_by_the_grammar_is_its_double(text: str, value: float) -> None:
    number = parse_number(text)
    assert isinstance(number, float)
    assert number == value
    assert math.copysign(1, number) == math.copysign(1, value)


@pytest.mark.parametrize("text", BAD_VALUE, ids=ascii)
def test_what_the_grammar_does_not_give_is_a_bad_value(text: str) -> None:
    assert parse_number(text) == "bad_value"


@pytest.mark.parametrize("text", NOT_FINITE, ids=lambda text: ascii(text)[:40])
def test_what_is_no_finite_amount_is_refused_as_such(text: str) -> None:
    assert parse_number(text) == "not_finite"


def _oracle(text: str) -> float | str:
    """The rule as its sentence says it: words, then shape, then size."""
    if text.lstrip("+-").casefold() in {"nan", "inf", "infinity"} and not re.match("[+-]{2}", text):
        return "not_finite" if text.isascii() else "bad_value"
    digits = "[0123456789]+"
    if not re.search(rf"\A[-+]?{digits}([.]{digits})?([Ee][-+]?{digits})?\Z", text):
        return "bad_value"
    return float(text) if abs(float(text)) <= 1e280 else "not_finite"


almost_numbers = st.text("0123456789+-.eE_ \n\u0661\uff11xnaifty", max_size=24)
numbers = st.from_regex(r"[+-]?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
words = st.sampled_from(["nan", "inf", "infinity"]).flatmap(
    lambda word: st.sampled_from([word, word.upper(), word.title(), f"+{word}", f"-{word}x"])
)


@settings(deadline=None)
@given(almost_numbers | numbers | words | st.text(max_size=12))
@example("1\n")
@example("\u0131nf")
def test_the_grammar_is_what_its_sentence_says(text: str) -> None:
    assert parse_number(text) == _oracle(text)


@settings(deadline=None)
@given(almost_numbers | numbers | st.text(max_size=12))
def test_a_number_taken_is_the_one_that_float_reads(text: str) -> None:
    number = parse_number(text)
    if isinstance(number, float):
        assert number == float(text)
        assert abs(number) <= 1e280
    else:
        assert number in {"bad_value", "not_finite"}


@settings(deadline=None)
@given(st.floats(-1e280, 1e280))
def test_any_double_within_the_limit_survives_its_own_text(number: float) -> None:
    for text in (repr(number), f"{number:.17e}", f"{number:+.17E}"):
        assert parse_number(text) == number


@settings(deadline=None)
@given(st.floats())
def test_any_double_beyond_the_limit_is_not_finite(number: float) -> None:
    assert (parse_number(repr(number)) == "not_finite") is not (abs(number) <= 1e280)
