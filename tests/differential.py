"""The compiled twin must do with any bytes what the reference does: the oracle of tests and fuzz.

Invariant: fed the same datagrams one by one, with sweeps at the same places, both twins hold the
same numbers, bit by bit, and have counted the same of lines, samples, notes and cache misses.
"""

import struct
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from llmstatsd.series import lanes
from tests import twins
from tests.series import Rig, state_of

Step = bytes | float
"""A datagram to take in, or a time in seconds to sweep at."""


def assert_same(steps: Iterable[Step], **options: Any) -> None:
    """Take all steps by both twins, over stores of the same `options`, and compare them."""
    reference = Rig(twin=lanes.PORTABLE, **options)
    compiled = Rig(twin=twins.twin(twins.COMPILED), **options)
    for step in steps:
        for rig in (reference, compiled):
            if isinstance(step, float):
                rig.sweep(step)
            else:
                rig.hot.feed(step)
                rig.hot.settle()
        assert told(compiled) == told(reference), step
    assert held(compiled) == held(reference)


def told(rig: Rig) -> dict[str, Any]:
    """Everything that is counted, but for which path of a twin has taken a line."""
    stats = rig.stats
    counted = asdict(stats)
    for path in ("plain_lines", "plain_samples", "other_lines", "other_samples"):
        del counted[path]
    # Which line of a datagram is the last one refused depends on which path took it.
    counted["refused_lines"] = set(stats.refused_lines)
    return counted | {
        "accepted": stats.accepted,
        "samples": stats.samples,
        "cache_entries": rig.hot.cache_entries,
        "expired": rig.store.stats.expired_label_sets,
        "charged": rig.store.ledger.charged,
    }


def held(rig: Rig) -> dict[Any, Any]:
    """Every number of every cell as its bits, and what was folded of every series and label."""
    folded = {name: dict(family.folded) for name, family in rig.store.families.items()}
    labels = {
        (name, label): (budget.estimate(), dict(budget.heaviest.top(99, 0)))
        for name, family in rig.store.families.items()
        for label, budget in family.budgets.items()
        if budget.heaviest is not None
    }
    numbers = {key: bits_of(content) for key, content in state_of(rig.store).items()}
    return numbers | folded | labels


def bits_of(content: Any) -> Any:
    """Numbers as the bytes of a double, whatever they are in."""
    if isinstance(content, int | float):
        return struct.pack("d", content)
    if isinstance(content, list | tuple):
        return tuple(bits_of(each) for each in content)
    return content
