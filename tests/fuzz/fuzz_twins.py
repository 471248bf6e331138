"""Coverage-guided fuzzing of both twins with any bytes: `make fuzz`.

Invariant: whatever the bytes, both twins count the same, hold the same numbers bit by bit, and
neither raises (`tests.differential`).

An input is a byte of options, then datagrams, each behind its length in one byte; a length of 0
lets time pass and sweeps. Everything is sent twice, so that pairs are known the second time.
Options of libFuzzer follow the script's name, such as -max_total_time=600 or a corpus folder.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmstatsd.wire import Dialect
from tests.differential import Step, assert_same

SWEEP_SECONDS = 7.0


def steps_of(data: bytes) -> Iterator[Step]:
    """The datagrams and sweeps of an input."""
    now = 0.0
    while data:
        length, data = data[0], data[1:]
        if length:
            yield data[:length]
            data = data[length:]
        else:
            now += SWEEP_SECONDS
            yield now


def test_one_input(data: bytes) -> None:
    """One input of the fuzzer."""
    if not data:
        return
    options, steps = data[0], list(steps_of(data[1:]))
    later = [step + 1000 if isinstance(step, float) else step for step in steps]
    assert_same(
        [*steps, *later],
        limits={"label_values": 1 + options % 4, "label_sets": 3, "idle_seconds": 10.0},
        cache_entries=(1, 2, 16, 1000)[options >> 2 & 3],
        dialect=Dialect(absolute_signed_gauges=bool(options & 16)),
    )


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
