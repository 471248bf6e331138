"""Hostile datagrams with good lines in between, the same for the same seed.

A good line counts in series that no hostile one can name, so that what it adds up to is known.
It stands in a datagram of its own, or before or behind hostile bytes and a line feed, which is all
that parts lines: whatever is wrong on one side must not touch the other.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.payloads import PACKET_BYTES

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "wire.json"

GOOD_COUNTER = "abuse_good_total"
GOOD_HISTOGRAM = "abuse_good_wait_seconds"
GOOD_GAUGE = "abuse_good_last"

ALONE, BEFORE, BEHIND = 0.1, 0.15, 0.15
"""Shares of datagrams that are a good line, begin with one, and end with one."""

_TOKENS = (
    *(b":", b"|", b"#", b"@", b",", b"\n", b"\r", b"\0", b"{", b"}", b"[", b'"', b"\\", b"="),
    *(b"|@0.1", b"|T1656581400", b"|#", b"|c:", b"_e{", b"_sc|", b"-", b"+", b"1e999", b"nan"),
    *(b"\xc3", b"\xe2\x80\xa8", b"\xf0\x9f", b"\xff\xfe", b"\xed\xa0\x80", b"\x7f", b"\x1b[31m"),
)

_NUMBERS = (
    *(b"1e308", b"-1e308", b"1e309", b"1e-400", b"9" * 40, b"0." + b"0" * 400 + b"1", b"1e+"),
    *(b"0x10", b"1_0", b"infinity", b"nan", b"-0", b"+.", b"\xd9\xa1", b"1e" + b"9" * 300, b"."),
    *(b"5e-324", b"1.7976931348623157e308", b"9007199254740993", b" 1", b"1 ", b"--1"),
)

_TYPES = (b"c", b"g", b"ms", b"h", b"d", b"s", b"x", b"")

_VALUES = (
    *(b"null", b"true", b"[]", b"{}", b'"x"', b"-1", b"1e999", b"NaN", b"0", b"0.5", b'""', b"1"),
    *(b'"\\ud800"', b'"\\u0000"', b"[[[[", b'{"a":{"a":{}}}', b"9" * 400, b"1" + b"0" * 4000),
)

_FIELDS = (
    *(b"model", b"operation", b"duration_seconds", b"tokens", b"error", b"rate_limited", b"done"),
    *(b"prompt_tokens", b"cost_dollars", b"fallback", b"total_duration", b"eval_count", b"message"),
)


class Good:
    """The good lines made so far: what has to be counted of them, whatever came in between."""

    def __init__(self) -> None:
        self.lines = 0
        self.sums = dict.fromkeys(
            (GOOD_COUNTER, f"{GOOD_HISTOGRAM}_count", f"{GOOD_HISTOGRAM}_sum", GOOD_GAUGE), 0.0
        )

    def line(self) -> bytes:
        """The next one; values are halves, whose sums are exact in binary."""
        self.lines += 1
        number, amount = self.lines, self.lines % 1000 + 1
        match number % 4:
            case 0:
                self.sums[f"{GOOD_HISTOGRAM}_count"] += 1
                self.sums[f"{GOOD_HISTOGRAM}_sum"] += amount / 2
                return b"%s:%.1f|h|#part:%d" % (GOOD_HISTOGRAM.encode(), amount / 2, number % 3)
            case 1:
                self.sums[GOOD_GAUGE] = float(number)
                return b"%s:%d|g" % (GOOD_GAUGE.encode(), number)
            case _:
                self.sums[GOOD_COUNTER] += amount
                return b"%s:%d|c|#part:%d" % (GOOD_COUNTER.encode(), amount, number % 3)


def datagrams(seed: int, good: Good) -> Iterator[bytes]:
    """An endless stream, which begins with a good line of each series; `good` is kept up to it."""
    rng = random.Random(seed)
    hostile = Hostile(rng)
    for _ in range(4):
        yield good.line()
    while True:
        where = rng.random()
        if where < ALONE:
            yield good.line()
        elif where < ALONE + BEFORE:
            yield (good.line() + b"\n" + hostile.make())[:PACKET_BYTES]
        elif where < ALONE + BEFORE + BEHIND:
            line = b"\n" + good.line()
            yield hostile.make()[: PACKET_BYTES - len(line)] + line
        else:
            yield hostile.make()[:PACKET_BYTES]


class Hostile:
    """Makes one hostile datagram after the other, most of them short."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lines = [
            bytes.fromhex(vector["hex"]) if "hex" in vector else vector["line"].encode()
            for vector in json.loads(VECTORS.read_bytes())
        ]
        short = {self.mutated: 50, self.noise: 10, self.cut: 10, self.number: 10, self.event: 15}
        odd = {self.control: 3, self.empty: 1, self.nested: 0.5, self.packed: 0.2}
        long = {self.tags: 0.2, self.long_tag: 0.2, self.longest: 0.02}
        weighted: dict[Callable[[], bytes], float] = {**short, **odd, **long}
        self._makers = rng.choices(list(weighted), list(weighted.values()), k=1 << 14)

    def make(self) -> bytes:
        """The next one, of at most about 70,000 bytes."""
        return self._rng.choice(self._makers)()

    def vector(self) -> bytes:
        """A line of the vectors, right or wrong."""
        return self._rng.choice(self._lines)

    def mutated(self) -> bytes:
        """Lines of the vectors with some bits flipped, bytes cut out, doubled and put in."""
        rng = self._rng
        data = bytearray(self.vector())
        while rng.random() < 0.3:
            data += b"\n" + self.vector()
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(4):
                case 0 if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at : at + rng.randrange(1, 8)]
                case 2:
                    data[at:at] = data[at : at + rng.randrange(1, 30)]
                case _:
                    data[at:at] = rng.choice(_TOKENS)
        return bytes(data)

    def noise(self) -> bytes:
        """Bytes of no meaning."""
        return self._rng.randbytes(self._rng.randrange(1, 120))

    def cut(self) -> bytes:
        """Names and tags of several bytes a character, cut off in the midst of one."""
        text = "caf\xe9.\u65e5\u672c:1|c|#model:\U0001f999,\xe9:\u20ac"
        return text.encode()[: self._rng.randrange(1, len(text.encode()))]

    def number(self) -> bytes:
        """A line whose value or rate is hardly a number."""
        rng = self._rng
        name = b"n%d" % rng.randrange(300)
        value, kind = rng.choice(_NUMBERS), rng.choice(_TYPES)
        rate = b"|@" + rng.choice(_NUMBERS) if rng.random() < 0.3 else b""
        return b"%s:%s|%s%s" % (name, value, kind, rate)

    def event(self) -> bytes:
        """A JSON event of wrong and of right fields, at times cut off."""
        rng = self._rng
        fields = [
            b'"%s":%s' % (rng.choice(_FIELDS), rng.choice(_VALUES))
            for _ in range(rng.randrange(1, 5))
        ]
        event = b'{"model":"m%d",%s}' % (rng.randrange(5000), b",".join(fields))
        return event if rng.random() < 0.7 else event[: rng.randrange(1, len(event))]

    def control(self) -> bytes:
        """NULs, carriage returns and what else does not print."""
        rng = self._rng
        return b"".join(rng.choices([b"\0", b"\r", b"\n", b"\r\n", b"a:1|c", b"\x1b", b"\t"], k=9))

    def empty(self) -> bytes:
        """Nothing, or nothing but line ends."""
        return self._rng.choice([b"", b"", b"\n", b"\r\n\r\n"])

    def nested(self) -> bytes:
        """JSON as deep as it goes."""
        opening = self._rng.choice([b"{", b"[", b'{"a":', b'{"model":[', b'[{"":'])
        return (opening * self._rng.choice([50, 1000, 10_000]))[:PACKET_BYTES]

    def packed(self) -> bytes:
        """A line of a thousand values and more, a wrong one among them at times."""
        values = [b"%d" % number for number in range(self._rng.randrange(1000, 4000))]
        values[self._rng.randrange(len(values))] = self._rng.choice(_NUMBERS)
        return b"packed%d:%s|ms" % (self._rng.randrange(50), b":".join(values))

    def tags(self) -> bytes:
        """A line of more tags than any series takes."""
        count = self._rng.randrange(50, 2000)
        return b"tagged:1|c|#" + b",".join(b"k%d:v%d" % (at, at) for at in range(count))

    def long_tag(self) -> bytes:
        """A line whose one tag is very long."""
        value = self._rng.choice([b"x", b"\xc3\xa9", b"\xff", b"a\\n", b'"'])
        return b"long:1|c|#model:" + value * self._rng.randrange(100, 15_000)

    def longest(self) -> bytes:
        """As many mutated lines as a datagram holds."""
        lines = []
        size = 0
        while size < PACKET_BYTES:
            lines.append(self.mutated())
            size += len(lines[-1]) + 1
        return b"\n".join(lines)
