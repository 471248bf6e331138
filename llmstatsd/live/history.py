"""The last hour of the documented series by the second: a bounded ring without a Prometheus.

Once a second the cells are read, and what they have grown by since the last reading is kept: of
each model requests, errors by type, tokens, and durations by bucket. A second in which nothing
came takes no memory. No clock is read: a tick is a whole number of seconds that only grows.
"""

import math
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, Final, NamedTuple

from llmstatsd.catalog import ERROR_TYPES
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import LabelSet
from llmstatsd.series.store import Store

MINUTES_TICKS: Final = 300
"""Seconds kept one by one: five minutes."""

LONG_TICK_SECONDS: Final = 10
HOUR_TICKS: Final = 360
"""Steps of LONG_TICK_SECONDS that are kept: an hour."""

MODELS_LIMIT: Final = 32
"""Models followed one by one; what comes of any further one is shown as the rest.

A model has its place until nothing has come of it for an hour, or for five minutes if another
needs the place. With each of them busy in every second all this takes 7.5 MiB.
"""

NUMBER_LIMIT: Final = 1e12
"""Most that a number of a cell is taken to have grown by from one reading to the next.

A line may add 1e280. In what is kept, that would be infinite, or so large that the sum of all loses
what stands beside it.
"""

CELLS_PER_READING: Final = 2000
"""Cells read for one tick at most; where there are more, the others are read for the next ones.

So a reading takes about 3 ms in a second at most, however many label sets there are.
"""

STEP_CELLS: Final = 100
"""Cells read between two turns of the loop."""

REQUESTS: Final = "llm_request_total"
DURATIONS: Final = "llm_request_duration_seconds"
ERRORS: Final = "llm_error_total"
TOKENS: Final = "llm_tokens_total"
RATE_LIMITS: Final = "llm_rate_limit_exceeded_total"
FALLBACKS: Final = "llm_fallback_total"

# Where each number stands: four counters, the errors, then a histogram's sum and its counts.
_SINGLES: Final = {REQUESTS: 0, TOKENS: 1, RATE_LIMITS: 2, FALLBACKS: 3}
_ERRORS: Final = len(_SINGLES)
_READ: Final = (*_SINGLES, ERRORS, DURATIONS)
_SUM: Final = _ERRORS + len(ERROR_TYPES)
_COUNTS: Final = _SUM + 1
_ERROR_AT: Final = {error: _ERRORS + at for at, error in enumerate(ERROR_TYPES)}

Numbers = Sequence[float]


class Flow(NamedTuple):
    """What came in during some time; `counts` are durations by bucket, those above all last."""

    requests: float
    tokens: float
    rate_limited: float
    fallbacks: float
    duration_sum: float
    errors: dict[str, float]
    counts: tuple[float, ...]

    @property
    def failed(self) -> float:
        """Errors of all types."""
        return sum(self.errors.values())


def _flow(numbers: Numbers) -> Flow:
    errors = zip(ERROR_TYPES, numbers[_ERRORS:_SUM], strict=True)
    requests, tokens, rate_limited, fallbacks = numbers[:_ERRORS]
    return Flow(
        requests,
        tokens,
        rate_limited,
        fallbacks,
        numbers[_SUM],
        {error: count for error, count in errors if count},
        tuple(numbers[_COUNTS:]),
    )


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The value that `share` of the observations (0 to 1) do not exceed; None without any.

    As Prometheus' histogram_quantile has it: the observations of a bucket lie evenly in it, the
    first bucket begins at 0, and what lies above the last bound is that bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0.0
    for at, count in enumerate(counts):
        if count and below + count >= rank:
            if at == len(bounds):
                break
            start = bounds[at - 1] if at else 0.0
            return start + (bounds[at] - start) * (rank - below) / count
        below += count
    return bounds[-1]


class Window:
    """What came in during the last `ticks` ticks; only those with anything in them take memory."""

    __slots__ = ("_parts", "_ticks", "_total")

    def __init__(self, ticks: int, width: int) -> None:
        self._ticks = ticks
        self._parts: deque[tuple[int, array[float]]] = deque()  # at most `ticks` of them
        self._total = [0.0] * width

    def add(self, tick: int, numbers: Numbers) -> None:
        """Add what came in during a tick, which is the newest one or a newer one."""
        if not self._parts or self._parts[-1][0] != tick:
            self._parts.append((tick, array("f", bytes(4 * len(self._total)))))
        self._add_to(self._parts[-1][1], numbers)

    def absorb(self, other: "Window") -> None:
        """Add all that came into another window of this kind."""
        parts = dict(self._parts)
        for tick, numbers in other._parts:
            if tick not in parts:
                parts[tick] = array("f", bytes(4 * len(self._total)))
            self._add_to(parts[tick], numbers)
        self._parts = deque(sorted(parts.items()))

    def _add_to(self, kept: "array[float]", numbers: Numbers) -> None:
        for at, number in enumerate(numbers):
            if number:
                before = kept[at]
                kept[at] = before + number
                # as it is kept, in 32 bits, so that taking it out again leaves nothing
                self._total[at] += kept[at] - before

    def forget(self, now: int) -> None:
        """Forget what is too old at the tick `now`."""
        while self._parts and self._parts[0][0] <= now - self._ticks:
            _, numbers = self._parts.popleft()
            for at, number in enumerate(numbers):
                self._total[at] -= number
        if not self._parts:
            self._total = [0.0] * len(self._total)

    @property
    def is_empty(self) -> bool:
        """Whether nothing came in."""
        return not self._parts

    def total(self) -> Flow:
        """All of it together."""
        return _flow(self._total)

    def last(self, now: int, ticks: int) -> Flow:
        """What came in during the last `ticks` of them, `now` included."""
        total = [0.0] * len(self._total)
        for _, numbers in takewhile(lambda part: part[0] > now - ticks, reversed(self._parts)):
            _add(total, numbers)
        return _flow(total)

    def since(self, first: int) -> list[tuple[int, Flow]]:
        """Each tick in which something came, the oldest first, from the tick `first` on."""
        late = takewhile(lambda part: part[0] >= first, reversed(self._parts))
        return [(tick, _flow(numbers)) for tick, numbers in late][::-1]


def _add(total: Any, numbers: Numbers) -> None:
    for at, number in enumerate(numbers):
        if number:
            total[at] += number


class Track:
    """One model's two windows, or those of all together."""

    __slots__ = ("_pending", "_pending_tick", "hour", "minutes", "now")

    def __init__(self, width: int) -> None:
        self.minutes = Window(MINUTES_TICKS, width)
        self.hour = Window(HOUR_TICKS, width)
        self.now = [0.0] * width
        """What has been read for the tick that is not over."""

    def end_tick(self, tick: int) -> None:
        """Put what was read into both windows."""
        if any(self.now):
            self.minutes.add(tick, self.now)
            self.hour.add(tick // LONG_TICK_SECONDS, self.now)
            self.now = [0.0] * len(self.now)
        self.minutes.forget(tick)
        self.hour.forget(tick // LONG_TICK_SECONDS)

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come for an hour."""
        return self.hour.is_empty and self.is_quiet

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come for five minutes."""
        return self.minutes.is_empty and not any(self.now)


class History:
    """What the documented series grew by, of all models together, of each, and of the rest."""

    def __init__(self, store: Store, tick: int = 0) -> None:
        """Counting begins where the first sample finds the store, unless it is taken over before.

        `tick` is the last one that is over.
        """
        self.bounds = store.families[DURATIONS].buckets
        self.tick = tick
        self._width = _COUNTS + len(self.bounds) + 1
        self.all = Track(self._width)
        self.rest = Track(self._width)
        self.models: dict[str, Track] = {}  # at most MODELS_LIMIT
        self._has_made_room = False
        self._waiting: Iterator[tuple[Family, LabelSet]] = iter(())
        self._store: Store | None = None

    def follows(self, store: Store) -> bool:
        """Whether it can go on with another store: buckets are those of before."""
        return store.families[DURATIONS].buckets == self.bounds

    def sample(self, store: Store, tick: int) -> Iterator[None]:
        """Read the cells, in steps, for a tick that is greater than the one before.

        A histogram whose sum is as before is passed over, but for every tenth tick: only durations
        of 0 s are seen later for that, and a store at rest costs half as much.
        Of another store than before, what it holds is not counted but where counting goes on.
        """
        if store is not self._store:
            yield from self.take_over(store)
        self._reads_all = tick % LONG_TICK_SECONDS == 0
        self._has_made_room = False
        read = list(islice(self._waiting, CELLS_PER_READING))
        if not read:
            yield from self._forget_what_left(store)
            self._waiting = _label_sets(store)
            read = list(islice(self._waiting, CELLS_PER_READING))
        for start in range(0, len(read), STEP_CELLS):
            for family, label_set in read[start : start + STEP_CELLS]:
                self._read(family, label_set)
            yield
        if len(read) < CELLS_PER_READING:  # the next tick begins with the first cell again
            self._waiting = iter(())
        # In one step, about a millisecond: whoever looks between two would see sums that disagree.
        for track in (self.all, self.rest, *self.models.values()):
            track.end_tick(tick)
        for model in [model for model, track in self.models.items() if track.is_idle]:
            del self.models[model]
        self.tick = tick

    def take_over(self, store: Store) -> Iterator[None]:
        """Take what a store holds for known, in steps."""
        self._store = None  # until it is done
        self._waiting = iter(())
        self._before: dict[str, dict[LabelSet, Any]] = {name: {} for name in _READ}
        held = _label_sets(store)
        while part := list(islice(held, STEP_CELLS)):
            for family, label_set in part:
                cell = family.cells.get(label_set)
                if cell is not None:
                    self._before[family.name][label_set] = _value(family.name, cell)
            yield
        self._store = store

    def _forget_what_left(self, store: Store) -> Iterator[None]:
        for name, known in self._before.items():
            cells = store.families[name].cells
            if len(known) > len(cells):
                self._before[name] = {each: known[each] for each in known if each in cells}
                yield

    def _read(self, family: Family, label_set: LabelSet) -> None:
        cell: Any = family.cells.get(label_set)
        if cell is None:  # it has left meanwhile
            return
        known = self._before[family.name]
        before = known.get(label_set)
        if family.name == DURATIONS and not self._reads_all and before and before[0] == cell.sum:
            return
        value = _value(family.name, cell)
        if value == before:
            return
        known[label_set] = value
        change = _change(before, value)
        at = _place(family.name, label_set)
        for track in (self.all, self._track(label_set)):
            for offset, number in enumerate(change):
                track.now[at + offset] += number

    def _track(self, label_set: LabelSet) -> Track:
        names, values = label_set
        model = values[names.index("model")] if "model" in names else None
        if model is None:
            return self.rest
        track = self.models.get(model)
        if track is None:
            if len(self.models) >= MODELS_LIMIT and not self._makes_room():
                return self.rest
            track = self.models[model] = Track(self._width)
        return track

    def _makes_room(self) -> bool:
        """Let one of the models that are quiet go, the least asked one; at most one in a tick."""
        if self._has_made_room:
            return False
        quiet = [
            (track.hour.total().requests, model)
            for model, track in self.models.items()
            if track.is_quiet
        ]
        if not quiet:
            return False
        self._has_made_room = True
        self.rest.hour.absorb(self.models.pop(min(quiet)[1]).hour)
        return True


def _label_sets(store: Store) -> Iterator[tuple[Family, LabelSet]]:
    """All that are read, one family after the other, each as it is when its turn comes."""
    for name in sorted(_READ):
        family = store.families[name]
        for label_set in list(family.cells):
            yield family, label_set


def _value(name: str, cell: Any) -> Any:
    """A counter's number, or a histogram's sum and counts in a form that takes little memory."""
    return array("d", (cell.sum, *cell.counts)) if name == DURATIONS else cell.value


def _change(before: Any, value: Any) -> Numbers:
    """What a cell has grown by; one that is less than before has left and was born again."""
    new: Numbers = value if isinstance(value, array) else (value,)
    old: Numbers = before if isinstance(before, array) else (before or 0.0,) * len(new)
    change = [now - then for now, then in zip(new, old, strict=True)]
    grown = new if min(change) < 0 else change
    if sum(grown) <= NUMBER_LIMIT:
        return grown
    # What was infinite before is no number now.
    return [0.0 if math.isnan(each) else min(each, NUMBER_LIMIT) for each in grown]


def _place(name: str, label_set: LabelSet) -> int:
    if name == ERRORS:
        names, values = label_set
        return _ERROR_AT[values[names.index("type")]]
    return _SUM if name == DURATIONS else _SINGLES[name]
