"""Numbers and foreign text as a terminal shows them."""

import pytest

from llmstatsd.terminal import count, plain, rate, seconds, share, span


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt-4o [red]", "gpt-4o [red]"),
        ("模型 שלום é", "模型 שלום é"),
        ("\x1b[2J\r\n", r"\u001b[2J\u000d\u000a"),
        ("\x9b2J", r"\u009b2J"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("\u2028\ud800\ufeff", r"\u2028\ud800\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("\ue000\u0378", r"\ue000\u0378"),
    ],
)
def test_nothing_in_a_text_can_command_a_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(0), "0"),
        (count(1234), "1,234"),
        (count(10 / 3), "3.33"),
        (count(9_999_999), "9,999,999"),
        (count(12_345_678), "12.3M"),
        (count(5e9), "5G"),
        (count(2e20), "2e+20"),
        (rate(0), "0"),
        (rate(0.1), "0.10"),
        (rate(12.34), "12.3"),
        (rate(1234.5), "1,234"),
        (seconds(None), "-"),
        (seconds(0.0125), "12.5ms"),
        (seconds(1.5), "1.50s"),
        (seconds(75), "75.0s"),
        (share(None), "-"),
        (share(0.25), "25.0%"),
        (span(0.5), "0s"),
        (span(65), "1min 5s"),
        (span(7200), "2h"),
        (span(90_061), "1d 1h"),
    ],
)
def test_numbers_are_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected
