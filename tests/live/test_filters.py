"""The language of filters: what it means, and what a mistake in it is told."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.live.filters import (
    KEYS,
    LENGTH_LIMIT,
    TERMS_LIMIT,
    FilterError,
    Seen,
    read_filter,
)
from llmstatsd.series.explain import Explained, Met


def met(series: str = "llm_request_total", fold: str | None = None, **labels: str) -> Met:
    folded = {"model": "gpt-odd"} if fold else {}
    return Met(series, "counter", labels, folded, fold, 1, (1.0,), 1.0, False)


ACCEPTED = Seen(
    Explained(
        "llm_request_total:1|c|#model:gpt-4o",
        "accepted",
        None,
        ("dropped_label", "unknown_field"),
        (
            met(model="gpt-4o", operation="chat"),
            met("llm_tokens_total", model="gpt-4o", tenant="a b"),
        ),
    ),
    "udp",
    None,
)
FOLDED = Seen(
    Explained("x", "accepted", None, (), (met(fold="label_values", model="other"),)), None, None
)
REFUSED = Seen(Explained("a timeout:b|c", "refused", "bad_value", (), ()), "tcp", "10.0.0.7:53211")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", ACCEPTED),
        ("sender=10.0.0.7:*", REFUSED),
        ("sender!=*", ACCEPTED),
        ("   ", REFUSED),
        ("verdict=accepted", ACCEPTED),
        ("verdict=*ed model=gpt-4*", ACCEPTED),
        ("model=gpt-4o", ACCEPTED),
        ("model=*4*", ACCEPTED),
        ("model~4", ACCEPTED),
        ("model!=gpt-4", ACCEPTED),
        ("model!~claude", ACCEPTED),
        ("model!=*", REFUSED),
        ('label.tenant="a b"', ACCEPTED),
        ('label.tenant="a "*', ACCEPTED),
        ("operation=chat", ACCEPTED),
        ("series=llm_tokens_*", ACCEPTED),
        ("note=dropped_label note=unknown_field", ACCEPTED),
        ("transport=udp", ACCEPTED),
        ("transport!=udp", FOLDED),
        ("model=gpt-odd", FOLDED),
        ("model=other folded=label_*", FOLDED),
        ("folded!=*", ACCEPTED),
        ("reason=bad_value", REFUSED),
        ("reason!=*", ACCEPTED),
        ("text~timeout verdict!=accepted", REFUSED),
        ('text="a timeout:b|c"', REFUSED),
        ('text~"t:b|"*c', REFUSED),
        ('model!=""', ACCEPTED),
    ],
)
def test_a_filter_holds(text: str, seen: Seen) -> None:
    assert read_filter(text).holds(seen)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("verdict=refused", ACCEPTED),
        ("model=gpt", ACCEPTED),
        ('model="gpt*"', ACCEPTED),
        ("model=gpt-4o*o", ACCEPTED),
        ("model!=gpt-4o", ACCEPTED),
        ("model!~gpt", ACCEPTED),
        ("model=*", REFUSED),
        ("label.tenant=b", ACCEPTED),
        ("verdict=accepted series=llm_error_total", ACCEPTED),
        ("transport=udp", FOLDED),
        ("type=timeout", ACCEPTED),
    ],
)
def test_a_filter_does_not_hold(text: str, seen: Seen) -> None:
    assert not read_filter(text).holds(seen)


@pytest.mark.parametrize(
    ("text", "position", "allowed"),
    [
        ("modle=x", 1, f"a term begins with one of {', '.join(KEYS)}"),
        ("model=x  =y", 10, f"a term begins with one of {', '.join(KEYS)}"),
        ("label.=x", 1, f"a term begins with one of {', '.join(KEYS)}"),
        ("label.1a=x", 1, f"a term begins with one of {', '.join(KEYS)}"),
        ("model", 6, "after a key comes =, !=, ~ or !~"),
        ("model x", 6, "after a key comes =, !=, ~ or !~"),
        ("model!x", 6, "after a key comes =, !=, ~ or !~"),
        ("model= x", 7, 'a value, or "" for the empty one'),
        ("model=", 7, 'a value, or "" for the empty one'),
        ('model="x', 7, "this quote is not closed"),
        (r'model="a\x"', 10, 'after \\ in quotes comes " or \\'),
        ('model="a\\', 10, 'after \\ in quotes comes " or \\'),
        ("verdict=denied", 9, "verdict is one of accepted, refused, set_aside"),
        ("transport~sctp", 11, "transport is one of udp, unix, tcp"),
        ("x" * (LENGTH_LIMIT + 1), 501, f"a filter has at most {LENGTH_LIMIT} characters"),
        ("text~x " * (TERMS_LIMIT + 1), 113, f"a filter has at most {TERMS_LIMIT} terms"),
        ("text=" + "*" * (TERMS_LIMIT + 1), 22, f"a value has at most {TERMS_LIMIT} *"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, position: int, allowed: str) -> None:
    with pytest.raises(FilterError) as caught:
        read_filter(text)
    assert (caught.value.position, caught.value.allowed) == (position, allowed)
    assert str(caught.value) == f"filter, at character {position}: {allowed}"


@settings(deadline=None, max_examples=300)
@given(st.text('model=!~*" \\tex.verdct1é\n', max_size=60) | st.text(max_size=60))
def test_any_text_is_a_filter_or_has_a_place_where_it_goes_wrong(text: str) -> None:
    try:
        read = read_filter(text)
    except FilterError as error:
        place = error.position
    else:
        place = 1
        assert read_filter(str(read)) == read
        for seen in (ACCEPTED, FOLDED, REFUSED):
            assert read.holds(seen) in (True, False)
    assert 1 <= place <= len(text) + 1


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(["=", "!=", "~", "!~"]),
    st.lists(st.text("ab*", max_size=3), min_size=1, max_size=4),
    st.text("ab*", max_size=8),
)
def test_a_pattern_fits_what_a_regular_expression_says(
    operator: str, pieces: list[str], text: str
) -> None:
    quoted = "*".join(f'"{piece}"' for piece in pieces)
    pattern = ".*".join(map(re.escape, pieces))
    if operator[-1] == "~":
        pattern = f".*{pattern}.*"
    fits = re.fullmatch(pattern, text) is not None
    seen: Any = REFUSED._replace(line=REFUSED.line._replace(text=text))
    assert read_filter(f"text{operator}{quoted}").holds(seen) == (fits != (operator[0] == "!"))
