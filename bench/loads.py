"""The loads that every receiver gets: so many lines a datagram, paced or flat out."""

import sys
from functools import cache
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import native, payloads
from bench.native import Sent

LINES = (1, 20)
"""Lines per datagram of the measurements: a client that does not buffer, and one that does."""

PREPARED_DATAGRAMS = 1 << 15
"""Different datagrams of a load; so many that no receiver and no processor can learn them."""

SEED = 5
TOGETHER_SECONDS = 1e-4
"""A paced load hands the kernel what is due in this time at once."""


def lines_name(lines: int) -> str:
    """How the tables call so many lines per datagram."""
    return f"{lines} line{'s' if lines > 1 else ''}"


class Case(msgspec.Struct, frozen=True):
    """Lines per datagram, and datagrams per second; a rate of 0 is flat out."""

    lines: int
    rate: float = 0.0

    @property
    def name(self) -> str:
        """How the tables call it."""
        pace = f"{self.rate:,.0f}/s" if self.rate else "flat out"
        return f"{lines_name(self.lines)}, {pace}"

    @property
    def segments(self) -> int:
        """How many datagrams the generator hands over at once."""
        if not self.rate:
            return native.SEGMENTS
        return max(1, min(native.SEGMENTS, int(self.rate * TOGETHER_SECONDS)))


@cache
def prepared(lines: int, plain: bool = False) -> list[bytes]:
    """The datagrams of every load with so many lines in each; `plain` ones have no tags.

    A plain counter counts one, whatever it stands for, so that a server's own sums say how many
    lines it has taken in.
    """
    stream = payloads.llm_lines(SEED)
    texts = map(payloads.plain_text if plain else payloads.Line.text, stream)
    everyday = payloads.packed(texts, lines, PREPARED_DATAGRAMS)
    return payloads.in_runs(everyday, native.SEGMENTS, SEED)


def send(port: int, case: Case, datagrams: int, seconds: float, plain: bool = False) -> Sent:
    """Load a receiver on 127.0.0.1 until a bound is reached."""
    return native.blast(
        port,
        prepared(case.lines, plain),
        segments=case.segments,
        rate=case.rate,
        count=datagrams,
        seconds=seconds,
    )
