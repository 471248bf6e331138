"""gzip by both makers: zlib's, and ISA-L's from the extra `isal`, which tests need."""

import gzip
import random
import zlib

import pytest

from llmstatsd.web import compression
from llmstatsd.web.compression import ISAL_UP_TO, compressor

MAKERS = ("isal", "zlib")
LEVELS = range(1, 10)

BLOCKS = [
    b"",
    b"a 1\n",
    b'llm_request_total{model="gpt-4o"} 3.0\n' * 9000,
    random.Random(7).randbytes(200_000),
    b"# EOF\n",
]


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two is there."""
    name: str = request.param
    if name == "zlib":
        monkeypatch.setattr(compression, "_ISAL", None)
    return name


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_packed_in_blocks_is_read_as_one_text(maker: str, level: int) -> None:
    member = compressor(level)
    packed = b"".join([*map(member.compress, BLOCKS), member.flush()])
    assert gzip.decompress(packed) == b"".join(BLOCKS)


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_a_single_member(maker: str, level: int) -> None:
    member = compressor(level)
    packed = b"".join([*map(member.compress, BLOCKS), member.flush()])
    reader = zlib.decompressobj(31)
    assert reader.decompress(packed) == b"".join(BLOCKS)
    assert (reader.eof, reader.unused_data) == (True, b"")


def test_nothing_at_all_is_a_member_too(maker: str) -> None:
    member = compressor(3)
    assert gzip.decompress(member.compress(b"") + member.flush()) == b""


@pytest.mark.parametrize("level", LEVELS)
def test_isal_stands_in_for_the_levels_that_ask_for_speed(maker: str, level: int) -> None:
    is_zlib = isinstance(compressor(level), type(zlib.compressobj()))
    assert is_zlib == (maker == "zlib" or level > ISAL_UP_TO)


def test_isal_makes_about_as_few_bytes_as_the_level_it_stands_in_for() -> None:
    text = b"".join(
        b'llm_request_total{model="m%d",operation="chat"} %d.0\n' % (number % 97, number * number)
        for number in range(20_000)
    )
    by_isal, by_zlib = compressor(ISAL_UP_TO), zlib.compressobj(ISAL_UP_TO, zlib.DEFLATED, 31)
    packed = [len(member.compress(text) + member.flush()) for member in (by_isal, by_zlib)]
    assert packed[0] < 1.15 * packed[1]


@pytest.mark.parametrize("error", [ImportError, ModuleNotFoundError])
def test_without_the_extra_zlib_does_all(
    monkeypatch: pytest.MonkeyPatch, error: type[ImportError]
) -> None:
    def absent(name: str) -> None:
        raise error(name)

    monkeypatch.setattr("importlib.import_module", absent)
    assert compression._isal() is None
