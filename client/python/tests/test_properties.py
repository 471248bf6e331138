"""What holds for any objects in any field: nothing raises, and the daemon reads every line."""

import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmstatsd.wire import parse_datagram
from llmstatsd_client import FIELDS, Client, encode
from llmstatsd_client.encoding import Encoder, encode_clean, finish, split
from llmstatsd_client.event import ERROR_TYPES, NUMBERS, read

# The first text of a run builds a table of all characters, which takes a second.
bounded = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Evil:
    """Raises at everything it is asked."""

    def _raise(self, *_: object) -> Any:
        raise ZeroDivisionError("evil")

    __hash__ = __eq__ = __str__ = __repr__ = __float__ = __int__ = __bool__ = __lt__ = _raise
    __le__ = __ge__ = __gt__ = __len__ = __iter__ = __getattr__ = __index__ = _raise


class Worse(Evil):
    """Raises at isinstance too."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ZeroDivisionError("evil")


class EvilText(str):
    __slots__ = ()

    def __hash__(self) -> int:
        raise ZeroDivisionError("evil")

    def __getitem__(self, key: object) -> str:
        raise ZeroDivisionError("evil")


class EvilFloat(float):
    def __float__(self) -> float:
        raise ZeroDivisionError("evil")

    __le__ = __hash__ = __float__  # type: ignore[assignment]


seconds = st.floats(0, 1e9) | st.integers(0, 10**9) | st.decimals(0, 10**9, allow_nan=False)
counts = st.integers(0, 2**53 - 1) | st.integers(0, 2000) | st.integers(0, 2000).map(float)
cost = st.floats(0, 1e6) | st.floats(0, 1) | st.integers(0, 10**6)
texts = (
    st.text(max_size=140)
    | st.text("ab|,#%:\n\0é模😀\ud800", max_size=140)
    | st.binary(max_size=600)
)
anything = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    *(st.integers(10**300, 10**310), st.fractions(), st.decimals(), st.complex_numbers()),
    st.sampled_from([Evil, [], {}, object(), Decimal("sNaN"), 10**5000]),
    st.sampled_from([Fraction(10**400, 3), Decimal("1e400"), bytearray(b"\xff"), range(3), len]),
)
switches = st.booleans()

good = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS[:2], texts),
        **dict.fromkeys(FIELDS[2:8], seconds),
        **dict.fromkeys(FIELDS[8:12], counts),
        "cost_dollars": cost,
        "error": st.sampled_from(ERROR_TYPES) | texts,
        "rate_limited": switches,
        "fallback": switches,
    },
)
any_event = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, anything)) | good

COUNTERS = {
    "prompt_tokens": "llm_prompt_tokens_total",
    "completion_tokens": "llm_completion_tokens_total",
    "cached_tokens": "llm_cached_tokens_total",
}


def values(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event.get(field) for field in FIELDS)


@bounded
@given(any_event)
def test_nothing_raises(event: dict[str, Any]) -> None:
    report(event)


EDGES = (
    *(0, 0.0, -0.0, -1, -1e-300, 5e-324, math.nan, math.inf, -math.inf, 10**400, 2**53 - 1, 2**53),
    *(each for limit in (1e6, 1e9, 2.0**53) for each in (limit, math.nextafter(limit, math.inf))),
)


@pytest.mark.parametrize("field", FIELDS[NUMBERS])
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: repr(edge)[:24])
def test_a_template_takes_no_number_that_is_out_of_range(field: str, edge: float) -> None:
    encoder, event = Encoder(), {field: edge}
    encoder.prepare(values({field: type(edge)(1)}))
    prepared, refused = encoder.prepare(values(event))
    told = encode(event)
    assert ([finish(prepared)], [*(refused or {})]) == (told.datagrams, told.refused)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", [Evil, Worse, EvilText, EvilFloat])
def test_an_object_that_raises_at_everything_raises_nothing(field: str, kind: type[object]) -> None:
    report({field: kind()})


def report(event: dict[str, Any]) -> None:
    client = Client(port=9)
    sent: list[bytes] = []
    client._unbuffered._transmit = sent.append
    for _ in range(2):
        client.send(**event)
        with client.request(**event) as request:
            request.set(**event)
    assert client.stats().events == 4
    assert client.stats().dropped_error == 0
    assert len(sent) >= 4
    client.close()


@bounded
@given(any_event)
def test_the_daemon_reads_every_datagram_without_a_word(event: dict[str, Any]) -> None:
    for datagram in encode(event).datagrams:
        assert len(datagram) <= 1432
        for line in parse_datagram(datagram):
            assert (line.reason, line.notes, line.set_aside) == (None, (), None)


@bounded
@given(good)
def test_the_sums_arrive(event: dict[str, Any]) -> None:
    sums: Counter[str] = Counter()
    encoded = encode(event)
    for datagram in encoded.datagrams:
        for line in parse_datagram(datagram):
            for sample in line.samples:
                sums[sample.name] += sample.value  # type: ignore[assignment,operator] # a number
    assert encoded.refused == []
    assert sums["llm_request_total"] == 1
    for field, name in COUNTERS.items():
        assert sums[name] == event.get(field, 0)
    duration = event.get("duration_seconds", 0)
    assert math.isclose(
        sums["llm_request_duration_seconds"], duration, rel_tol=1e-12, abs_tol=5.1e-7
    )
    assert math.isclose(
        sums["llm_cost_dollars_total"], event.get("cost_dollars", 0), rel_tol=1e-12, abs_tol=5.1e-10
    )


@bounded
@given(any_event)
def test_templates_and_the_plain_reading_agree(event: dict[str, Any]) -> None:
    encoder = Encoder()
    clean, refused = read(zip(FIELDS, values(event), strict=True))
    for _ in range(2):
        prepared, problems = encoder.prepare(values(event))
        assert finish(prepared) == encode_clean(clean)
        assert list(problems or {}) == list(refused)


@bounded
@given(st.floats(0, 1e9), st.floats(0, 1e6))
def test_numbers_agree_to_the_last_digit(duration: float, dollars: float) -> None:
    encoder, event = Encoder(), {"duration_seconds": duration, "cost_dollars": dollars}
    lines = {finish(encoder.prepare(values(event))[0]) for _ in range(2)}
    micros, nanos = math.floor(duration * 1e6 + 0.5), math.floor(dollars * 1e9 + 0.5)
    written = next(iter(lines)).decode().split("\n")
    assert len(lines) == 1
    assert Decimal(written[1].split(":")[1].split("|")[0]) * 1000 == micros
    assert Decimal(written[2].split(":")[1].split("|")[0]) * 10**9 == nanos
    assert "e" not in written[2].split(":")[1].lower()[:-2]


@bounded
@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), min_size=1))
def test_a_split_loses_nothing(lines: list[bytes]) -> None:
    whole = b"\n".join(lines)
    parts = list(split(whole, 50))
    assert b"\n".join(parts) == whole
    assert all(len(part) <= 50 for part in parts)


@pytest.mark.parametrize("limit", [1, 10])
def test_a_line_over_the_limit_goes_alone(limit: int) -> None:
    assert next(split(b"aaaaaaaaaaaa\nb\ncccccccccccc", limit)) == b"aaaaaaaaaaaa"
    assert b"\n".join(split(b"aaaaaaaaaaaa\nb\ncccccccccccc", limit)).count(b"\n") == 2
