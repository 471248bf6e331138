"""The highest rate of datagrams that a receiver takes in with a loss under 0.1 %.

A search brackets the rate and bisects. Every verdict is that of two out of three loads, and the
rate found has to hold again at the end, so that neither a lucky load nor an unlucky one decides.
A rate is what the generator kept, not what it was asked for: where a receiver loses nothing even
of a flood, that is the generator's limit, and is said to be.
"""

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack
from math import sqrt
from pathlib import Path
from statistics import median
from typing import ClassVar, Protocol

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness, loads, native
from bench.harness import BenchError, Received
from bench.loads import Case, lines_name
from bench.native import Sent

FLOOD = 0.0
"""The rate of a load that is not paced."""

LOSS_MOST = 0.001
KEPT_LEAST = 0.97
WIDEN = 1.25
PRECISION = 1.02
"""Bisection ends when the rate that holds and the one that does not are so close."""

CONFIRMATIONS = 3
"""Loads at the end that decide by their median."""

MOST_STEPS = 100
"""Of one search, which takes about twenty: the bound of its time."""


class Receiver(Protocol):
    """What a search needs of a process under load."""

    udp_port: int
    plain: ClassVar[bool]

    def wait_drained(self) -> float:
        """Return when everything sent is taken in."""

    def dropped(self) -> int:
        """Datagrams lost so far."""

    def finish(self, lines_per_datagram: int) -> Received:
        """What it says of itself at its end."""


class Step(msgspec.Struct, frozen=True):
    """One load of a search; `asked` is datagrams per second, 0 for flat out."""

    asked: float
    sent: Sent
    dropped: int

    @property
    def loss(self) -> float:
        """The share of the datagrams sent that was dropped, 0..1."""
        return self.dropped / max(1, self.sent.datagrams)

    @property
    def is_short(self) -> bool:
        """Whether the generator met its own limit and did not keep the rate."""
        return self.sent.datagrams_per_second < self.asked * KEPT_LEAST

    @property
    def holds(self) -> bool:
        """Whether nearly all of it was received."""
        return self.loss <= LOSS_MOST


class Highest(msgspec.Struct, frozen=True):
    """The highest rate found for one subject, in datagrams per second that were sent, and how.

    `limited_by_generator` says that the generator could send no more: its own limit lies higher.
    """

    lines: int
    subject: str
    rate: float
    losses: list[float]
    limited_by_generator: bool
    received: Received
    steps: list[Step]

    @property
    def sent(self) -> int:
        """Datagrams of all loads together."""
        return sum(step.sent.datagrams for step in self.steps)

    @property
    def lines_per_second(self) -> float:
        """The same in lines."""
        return self.rate * self.lines


Search = Generator[float, Step, float]
"""Yields a rate to ask for, is sent what came of it, and returns the highest kept that holds."""


def agreed(rate: float) -> Generator[float, Step, bool]:
    """Whether a rate holds, as two loads out of three say."""
    verdicts: list[bool] = []
    while max(verdicts.count(True), verdicts.count(False)) < 2:
        verdicts.append((yield rate).holds)
    return verdicts.count(True) == 2


def bracket() -> Generator[float, Step, tuple[float, float]]:
    """A rate that holds and one that does not, from what a flood leaves of itself.

    Where the flood holds, or all that the generator can pace, the two are the same.
    """
    flood = yield FLOOD
    if (yield from agreed(FLOOD)):
        return FLOOD, FLOOD
    most = flood.sent.datagrams_per_second
    rate = max(1.0, flood.sent.datagrams - flood.dropped) / flood.sent.seconds
    if (yield from agreed(rate)):
        while (yield from agreed(rate * WIDEN)):
            rate *= WIDEN
            if rate > most:
                return rate, rate
        return rate, rate * WIDEN
    while not (yield from agreed(rate / WIDEN)):
        rate /= WIDEN
    return rate / WIDEN, rate


def search() -> Search:
    """The highest rate that holds, confirmed: the median loss of the last loads is under 0.1 %."""
    low, high = yield from bracket()
    while high > low * PRECISION:
        middle = sqrt(low * high)
        if (yield from agreed(middle)):
            low = middle
        else:
            high = middle
    while True:
        last = ((yield low), (yield low), (yield low))
        kept = median(step.sent.datagrams_per_second for step in last)
        if median(step.loss for step in last) <= LOSS_MOST:
            return kept
        low = (low or kept) / PRECISION


def take_step(receiver: Receiver, lines: int, rate: float, seconds: float) -> Step:
    """One load of a search."""
    before = receiver.dropped()
    bound = int(native.MOST_DATAGRAMS_PER_SECOND * seconds) + 1
    case = Case(lines, rate)
    sent = loads.send(receiver.udp_port, case, bound, seconds, receiver.plain)
    receiver.wait_drained()
    return Step(rate, sent, receiver.dropped() - before)


class Searching:
    """A search for one subject, taken one load at a time."""

    def __init__(self, subject: str, receiver: Receiver, lines: int, seconds: float) -> None:
        self._subject = subject
        self._receiver = receiver
        self._lines = lines
        self._seconds = seconds
        self._search = search()
        self._next = next(self._search)
        self._steps: list[Step] = []
        self.found: Highest | None = None

    def take_turn(self) -> None:
        """One load; raises BenchError when the search does not come to an end."""
        if len(self._steps) >= MOST_STEPS:
            raise BenchError(f"no highest rate of {self._subject} in {MOST_STEPS} loads")
        step = take_step(self._receiver, self._lines, self._next, self._seconds)
        self._steps.append(step)
        try:
            self._next = self._search.send(step)
        except StopIteration as ended:
            self._finish(ended.value)

    def _finish(self, rate: float) -> None:
        received = self._receiver.finish(self._lines)
        last = self._steps[-CONFIRMATIONS:]
        losses = [step.loss for step in last]
        is_limited = last[-1].asked == FLOOD or all(step.is_short for step in last)
        self.found = Highest(
            self._lines, self._subject, rate, losses, is_limited, received, self._steps
        )


def highest_rates(
    receivers: Mapping[str, Callable[[], AbstractContextManager[Receiver]]],
    lines: int,
    seconds: float,
) -> list[Highest]:
    """Search for all receivers at once, a load of each in turn until all are found."""
    label = f"highest rates, {lines_name(lines)}"
    with ExitStack() as stack, harness.progress_to(len(receivers), label) as come_to:
        searches = [
            Searching(name, stack.enter_context(started()), lines, seconds)
            for name, started in receivers.items()
        ]
        while waiting := [each for each in searches if each.found is None]:
            come_to(len(searches) - len(waiting))
            for each in waiting:
                each.take_turn()
    return [each.found for each in searches if each.found is not None]
