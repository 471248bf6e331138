"""For any bytes at all: nothing raises, every result is well-formed, and a line stands alone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmstatsd.wire import Dialect, Parsed, Sample, parse_datagram, parse_line

from . import VECTORS, assert_well_formed, line_of

LINES = [line_of(vector) for vector in VECTORS if len(line_of(vector)) <= 300]
SENTINEL = b"sentinel:1|c"
ONE = Parsed((Sample("sentinel", "c", 1.0, 1.0, (), False),), None, (), None)

dialects = st.builds(Dialect, st.booleans(), st.booleans(), st.booleans(), st.booleans())
known_lines = st.sampled_from(LINES)
pieces = st.sampled_from(
    [
        *(b":", b"|", b"|@", b"|#", b",", b"=", b"#", b"[", b"]", b"{", b"}", b'"', b"\\", b"\\u"),
        *(b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xc3", b" ", b"+", b"-", b".", b"e", b"_"),
        *(b"0", b"1e400", b"nan", b"|c", b"|ms", b"|g", b"|s", b"_e{", b"_sc|", b'{"model":'),
        *(b"null", b"true", b"|T1", b"|c:", b"\xef\xbc\x91", b"\xed\xa0\x80", b"\xe2\x80\xa8"),
    ]
)


@st.composite
def soiled_lines(draw: st.DrawFn) -> bytes:
    """A line of the vectors with pieces of the grammar put in, cut out or doubled."""
    line = draw(known_lines)
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.lists(st.integers(0, len(line)), min_size=2, max_size=2)))
        middle = draw(pieces | st.just(b"") | st.just(line[start:end] * 2) | st.binary(max_size=3))
        line = line[:start] + middle + line[end:]
    return line


any_lines = known_lines | soiled_lines() | st.binary(max_size=80)
datagrams = st.binary(max_size=400) | st.lists(any_lines, max_size=6).map(b"\n".join)


@settings(deadline=None, max_examples=400)
@given(datagrams, dialects)
def test_no_datagram_raises_and_every_result_is_well_formed(data: bytes, dialect: Dialect) -> None:
    for parsed in parse_datagram(data, dialect):
        assert_well_formed(parsed)


@settings(deadline=None, max_examples=300)
@given(any_lines, dialects)
def test_no_line_raises(line: bytes, dialect: Dialect) -> None:
    parsed = parse_line(line, dialect)
    if line not in {b"", b"\r"}:
        assert_well_formed(parsed)


@settings(deadline=None, max_examples=300)
@given(any_lines, any_lines)
def test_good_lines_of_a_bad_datagram_still_count(first: bytes, second: bytes) -> None:
    between = [
        *parse_datagram(SENTINEL + b"\n" + first),
        *parse_datagram(SENTINEL + b"\n" + second),
    ]
    assert between.count(ONE) >= 2
    data = b"\n".join([SENTINEL, first, SENTINEL, second, SENTINEL])
    results = parse_datagram(data)
    assert results[0] == results[-1] == ONE
    assert [parsed for parsed in results if parsed != ONE] == [
        parsed for parsed in between if parsed != ONE
    ]


@settings(deadline=None)
@given(st.lists(any_lines.map(lambda line: line.replace(b"\n", b" ")), max_size=8))
def test_a_datagram_is_its_lines(lines: list[bytes]) -> None:
    data = b"\n".join([SENTINEL, *lines])
    alone = [parse_line(line) for line in lines if line.removesuffix(b"\r")]
    assert parse_datagram(data) == [ONE, *alone]


@settings(deadline=None)
@given(any_lines, st.binary(max_size=8))
def test_the_same_bytes_always_mean_the_same(line: bytes, other: bytes) -> None:
    before = parse_datagram(line)
    parse_datagram(line + other)
    assert parse_datagram(line) == before


words = st.text("abcdefgh_XYZ.-/ \u00fc\u65e5\U0001f680", min_size=1, max_size=8)
names = words.map(lambda word: f"n{word}")
amounts = st.floats(0, 1e280).map(abs) | st.integers(0, 10**6).map(float)
rates = st.floats(1e-9, 1)
values_of_tags = st.text("abc:=#@[]{}\"' \u00fc\u2603", min_size=1, max_size=8)
tag_lists = st.dictionaries(words, values_of_tags, max_size=4)
rated = st.sampled_from(["c", "ms", "h", "d"])


def _sample(name: str, kind: str, amount: float, rate: float, tags: dict[str, str]) -> Sample:
    value = amount / 1000 if kind == "ms" else amount
    return Sample(name, kind, value, rate, tuple(tags.items()), False)


def _tag_field(tags: dict[str, str]) -> str:
    return "|#" + ",".join(f"{key}:{value}" for key, value in tags.items())


@settings(deadline=None)
@given(names, rated, st.lists(amounts, min_size=1, max_size=5), rates, tag_lists)
def test_a_line_means_what_was_written(
    name: str, kind: str, packed: list[float], rate: float, tags: dict[str, str]
) -> None:
    values = ":".join(map(repr, packed))
    line = f"{name}:{values}|{kind}|@{rate!r}{_tag_field(tags)}".encode()
    samples = tuple(_sample(name, kind, amount, rate, tags) for amount in packed)
    assert parse_line(line) == Parsed(samples, None, (), None)


chain_parts = st.lists(st.tuples(rated, amounts, st.none() | rates), min_size=2, max_size=5)


@settings(deadline=None)
@given(names, chain_parts, tag_lists)
def test_a_chain_means_its_parts(
    name: str, parts: list[tuple[str, float, float | None]], tags: dict[str, str]
) -> None:
    texts = [
        f"{amount!r}|{kind}" + ("" if rate is None else f"|@{rate!r}")
        for kind, amount, rate in parts
    ]
    lines = [f"{name}:{text}{_tag_field(tags)}".encode() for text in texts]
    apart = tuple(sample for line in lines for sample in parse_line(line).samples)
    chain = f"{name}:{':'.join(texts)}{_tag_field(tags)}".encode()
    parsed = parse_line(chain)
    assert (parsed.reason, parsed.notes, parsed.set_aside) == (None, (), None)
    # Links of one type and rate stand together; within them the order is the line's.
    groups = list(dict.fromkeys((sample.type, sample.rate) for sample in apart))
    together = sorted(apart, key=lambda sample: groups.index((sample.type, sample.rate)))
    assert list(parsed.samples) == together
    assert len(apart) == len(parts)


styles = st.sampled_from([("#", ""), (",", ""), ("[", "]")])
plain_tags = st.dictionaries(
    st.text("abc.-_", min_size=1, max_size=5), st.text("abc=.-_/", min_size=1, max_size=5)
)


@settings(deadline=None)
@given(st.text("abc._-/", max_size=6).map(lambda word: f"n{word}"), plain_tags, styles)
def test_tags_in_the_name_mean_the_same_in_every_style(
    name: str, tags: dict[str, str], style: tuple[str, str]
) -> None:
    opening, closing = style
    inside = ",".join(f"{key}={value}" for key, value in tags.items())
    styled = parse_line(f"{name}{opening}{inside}{closing}:1|c".encode())
    assert styled == parse_line(f"{name}:1|c{_tag_field(tags)}".encode())
    assert styled.samples == (_sample(name, "c", 1.0, 1.0, tags),)
