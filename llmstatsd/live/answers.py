"""The documents of the API, version 1: what the page, `llmstatsd top` and scripts are shown.

A struct here is a document, and docs/reference/api.md describes each field; fields may be added,
those that are there keep their names and meanings. Times are Unix time in seconds, durations
seconds, and what is called a total was counted since the start of the first process whose state
was kept.
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from msgspec import Struct

from llmstatsd import __version__
from llmstatsd.address import Address
from llmstatsd.config import Config, entries, entries_total, options
from llmstatsd.config import shown as in_short
from llmstatsd.intake import sockets
from llmstatsd.live.history import (
    HOUR_TICKS,
    LONG_TICK_SECONDS,
    MINUTES_TICKS,
    Flow,
    History,
    Track,
    Window,
    quantile,
)
from llmstatsd.series.family import Family
from llmstatsd.telemetry import Telemetry, heaviest, shown
from llmstatsd.window import WindowName
from llmstatsd.wire.reasons import MEANINGS

VERSION: Final = 1
"""Of all documents; it grows when a field changes its meaning or goes."""

RATE_SECONDS: Final = 10
"""What is told per second is the mean over so many."""

QUANTILE_TICKS: Final = 6
"""Steps that the quantiles of one point are taken over, its own included: few calls say little."""

ENTRIES_SHOWN: Final = 200
"""Most entries of the configuration's tables that are shown."""

REST: Final = None
"""The model of the row for those beyond history.MODELS_LIMIT, and for what has no model."""


class Figures(Struct, frozen=True):
    """What came in during a window, of one model or of all; rates are those of the last seconds.

    Quantiles and the mean are None where no duration came; `error_share` where no request did.
    """

    requests: float
    requests_per_second: float
    errors: float
    errors_by_type: dict[str, float]
    error_share: float | None
    rate_limited: float
    fallbacks: float
    tokens: float
    tokens_per_second: float
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


class ModelFigures(Struct, frozen=True):
    """One row: `model` is None for what is not told apart."""

    model: str | None
    figures: Figures


class About(Struct, frozen=True):
    """The process that answers; `statsd_udp` is the real HOST:PORT that it receives on."""

    version: str
    lane: str
    is_ready: bool
    started: float
    uptime_seconds: float
    statsd_udp: str | None


class Ladder(Struct, frozen=True):
    """From datagrams to samples: what goes into a stage and does not come out is explained.

    lines = accepted + refused + set aside; those over TCP are among them, but for
    `tcp_refused_lines`, which are not read. `kernel_dropped_datagrams` and the queue are None where
    the kernel does not tell. Of `datagrams`, `restored_datagrams` came to processes before this
    one; what is dropped is counted by each process anew.
    """

    datagrams: int
    datagrams_per_second: float
    restored_datagrams: int
    kernel_dropped_datagrams: int | None
    kernel_dropped_per_second: float
    queue_dropped_datagrams: int
    queue_dropped_per_second: float
    refused_datagrams: dict[str, int]
    lines: int
    lines_per_second: float
    accepted_lines: int
    refused_lines: int
    refused_lines_per_second: float
    set_aside_lines: dict[str, int]
    samples: int
    receive_queue_bytes: int | None
    receive_buffer_bytes: int
    asked_receive_buffer_bytes: int
    asked_of_one_socket_bytes: int
    tcp_open_connections: int
    tcp_refused_connections: dict[str, int]
    tcp_lines: int
    tcp_refused_lines: dict[str, int]


class Setting(Struct, frozen=True):
    """An option in force."""

    option: str
    value: str
    default: str
    is_default: bool


class Summary(Struct, frozen=True):
    """`/api/v1/summary`: everything at a glance; models by requests, most first."""

    version: int
    time: float
    window: WindowName
    window_seconds: int
    rate_seconds: int
    about: About
    figures: Figures
    models: list[ModelFigures]
    ladder: Ladder


class Entry(Struct, frozen=True):
    """What a table holds, by its place in the file, as `aliases.model."gpt-4o-2024-08-06"`."""

    entry: str
    value: str


class Settings(Struct, frozen=True):
    """`/api/v1/settings`: the configuration in force; values as the file writes them, cut short.

    Of `entries_total` entries the first ENTRIES_SHOWN are there.
    """

    version: int
    time: float
    settings: list[Setting]
    entries: list[Entry]
    entries_total: int


class Point(Struct, frozen=True):
    """What came in during one step; `counts` has one number more than there are `bounds`."""

    time: float
    requests: float
    errors: dict[str, float]
    tokens: float
    counts: tuple[float, ...]
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


class Series(Struct, frozen=True):
    """`/api/v1/series`: one model or all over time, the oldest point first, none left out."""

    version: int
    time: float
    window: WindowName
    model: str | None
    step_seconds: int
    quantile_seconds: int
    bounds: tuple[float, ...]
    points: list[Point]


class Heavy(Struct, frozen=True):
    """A value inside `other`, and about how many samples it sent there."""

    value: str
    samples: int


class Label(Struct, frozen=True):
    """A label of one series; `estimate` is None until it folds."""

    label: str
    values: int
    values_limit: int
    estimate: int | None
    heaviest: list[Heavy]


class OneCardinality(Struct, frozen=True):
    """A series in use."""

    series: str
    type: str
    label_sets: int
    label_sets_limit: int
    folded_samples: dict[str, int]
    labels: list[Label]


class Cardinality(Struct, frozen=True):
    """`/api/v1/cardinality`: what is held, what may be, and what went into `other`."""

    version: int
    time: float
    exposition_lines: int
    exposition_lines_limit: int
    undeclared_names: int
    undeclared_names_limit: int
    series: list[OneCardinality]


class Reason(Struct, frozen=True):
    """Why lines were refused; `last_line` is cut to 200 bytes, and None after a restart."""

    reason: str
    meaning: str
    lines: int
    last_line: str | None


class Refused(Struct, frozen=True):
    """`/api/v1/refused`: reasons that were met, most first, and oddities of accepted lines."""

    version: int
    time: float
    reasons: list[Reason]
    notes: dict[str, int]


class Answers:
    """Makes the documents from what the stages hold; the clock it reads is for people only."""

    def __init__(
        self,
        telemetry: Telemetry,
        config: Callable[[], Config],
        is_ready: Callable[[], bool],
    ) -> None:
        """`config` gives the configuration in force."""
        self._telemetry = telemetry
        self._config = config
        self._is_ready = is_ready
        self._started = time.time()
        self._wall_begun = self._started
        self._begun = time.monotonic()
        self._rates = _Rates()
        self._shown_config: Config | None = None
        self._entries: list[Entry] = []  # of that one
        self._restored_datagrams = 0
        self.history = History(telemetry.store)

    def start(self) -> None:
        """Begin to count, before anything comes in: what has been restored is nothing new."""
        self._restored_datagrams = self._telemetry.datagrams(self._telemetry.hot_path.stats)
        for _ in self.history.take_over(self._telemetry.store):
            pass

    def begin_anew(self) -> None:
        """Begin the history anew, from what the next sample finds."""
        self.history = History(self._telemetry.store, self.history.tick)

    def seconds_to_next(self) -> float:
        """Until the next reading is due; 0 where one is late.

        Told from the reading before: else a timer that comes a little early leaves a second out.
        """
        return max(0.0, self._begun + self.history.tick + 1 - time.monotonic())

    def sample(self) -> Iterator[None]:
        """Read what is to be shown, in steps.

        A reload that changes the buckets of request durations begins the history anew.
        """
        tick = int(time.monotonic() - self._begun)
        if tick <= self.history.tick:
            return
        store = self._telemetry.store
        if not self.history.follows(store):
            self.begin_anew()
        yield from self.history.sample(store, tick)
        self._rates.note(tick, self._counted())

    def summary(self, window: WindowName = "5m") -> Summary:
        """All models together, and each."""
        history = self.history
        rows = [
            ModelFigures(model, self._figures(track, window))
            for model, track in history.models.items()
        ]
        rows = [row for row in rows if row.figures.requests or row.figures.tokens]
        rows.sort(key=lambda row: (-row.figures.requests, row.model))
        rest = ModelFigures(REST, self._figures(history.rest, window))
        if rest.figures.requests or rest.figures.tokens:
            rows.append(rest)
        return Summary(
            VERSION,
            time.time(),
            window,
            _seconds(window),
            RATE_SECONDS,
            self._about(),
            self._figures(history.all, window),
            rows,
            self._ladder(),
        )

    def settings(self) -> Settings:
        """Every option, and what the tables hold."""
        config = self._config()
        if config is not self._shown_config:
            self._shown_config = config
            self._entries = [Entry(*each) for each in islice(entries(config), ENTRIES_SHOWN)]
        total = entries_total(config)
        return Settings(VERSION, time.time(), list(_settings(config)), self._entries, total)

    def series(self, window: WindowName = "5m", model: str | None = None) -> Series:
        """One model, or all; a model that is not known has nothing but zeros."""
        return self._series(window, model, _steps(window))

    def newest(self, window: WindowName = "5m", model: str | None = None) -> Series:
        """The same with its last point alone."""
        return self._series(window, model, 1)

    def cardinality(self) -> Cardinality:
        """Of the documented series in use, and of those others that fold most."""
        store = self._telemetry.store
        return Cardinality(
            VERSION,
            time.time(),
            store.ledger.charged,
            store.ledger.limit,
            store.stats.undeclared_names,
            store.limits.undeclared_names,
            [self._one(family) for family in shown(store)],
        )

    def refused(self) -> Refused:
        """Why lines were refused."""
        lines = self._telemetry.hot_path.stats
        met = [
            Reason(reason, MEANINGS[reason], count, lines.refused_lines.get(reason))
            for reason, count in lines.refused.items()
            if count
        ]
        met.sort(key=lambda each: -each.lines)
        notes = {note: count for note, count in lines.notes.items() if count}
        return Refused(VERSION, time.time(), met, notes)

    def _track(self, model: str | None) -> Track:
        if model is None:
            return self.history.all
        return self.history.models.get(model) or Track(0)

    def _window(self, track: Track, window: WindowName) -> Window:
        return track.minutes if window == "5m" else track.hour

    def _series(self, window: WindowName, model: str | None, steps: int) -> Series:
        step, bounds = _step_seconds(window), self.history.bounds
        last = self.history.tick // step
        points = list(self._points(self._track(model), window, range(last - steps + 1, last + 1)))
        return Series(
            VERSION, time.time(), window, model, step, step * QUANTILE_TICKS, bounds, points
        )

    def _points(self, track: Track, window: WindowName, steps: range) -> Iterator[Point]:
        step, bounds = _step_seconds(window), self.history.bounds
        began = self._began()
        first = steps.start - QUANTILE_TICKS + 1
        known = dict(self._window(track, window).since(first))
        recent = [0.0] * (len(bounds) + 1)  # of the steps that quantiles are taken over
        for at in range(first, steps.stop):
            flow = known.get(at, _NOTHING)
            for bucket, count in enumerate(flow.counts):
                recent[bucket] += count
            for bucket, count in enumerate(known.get(at - QUANTILE_TICKS, _NOTHING).counts):
                recent[bucket] -= count
            if at in steps:
                yield Point(
                    began + at * step,
                    flow.requests,
                    flow.errors,
                    flow.tokens,
                    flow.counts,
                    *(quantile(share, bounds, recent) for share in (0.5, 0.95, 0.99)),
                )

    def _began(self) -> float:
        """The wall clock's time of tick 0: the same each time, unless that clock is set."""
        began = time.time() - (time.monotonic() - self._begun)
        if abs(began - self._wall_begun) > 1.0:
            self._wall_begun = began
        return self._wall_begun

    def _figures(self, track: Track, window: WindowName) -> Figures:
        flow = self._window(track, window).total()
        last = track.minutes.last(self.history.tick, RATE_SECONDS)
        observed = sum(flow.counts)
        return Figures(
            requests=flow.requests,
            requests_per_second=last.requests / RATE_SECONDS,
            errors=flow.failed,
            errors_by_type=flow.errors,
            error_share=flow.failed / flow.requests if flow.requests else None,
            rate_limited=flow.rate_limited,
            fallbacks=flow.fallbacks,
            tokens=flow.tokens,
            tokens_per_second=last.tokens / RATE_SECONDS,
            mean_seconds=flow.duration_sum / observed if observed else None,
            p50_seconds=quantile(0.5, self.history.bounds, flow.counts),
            p95_seconds=quantile(0.95, self.history.bounds, flow.counts),
            p99_seconds=quantile(0.99, self.history.bounds, flow.counts),
        )

    def _about(self) -> About:
        own = self._telemetry.intake.sockets
        return About(
            __version__,
            self._telemetry.hot_path.lane,
            self._is_ready(),
            self._started,
            time.monotonic() - self._begun,
            next((str(Address(*each.address)) for each in own if each.transport == "udp"), None),
        )

    def _counted(self) -> "_Counted":
        lines, intake = self._telemetry.hot_path.stats, self._telemetry.intake
        memory = sockets.memory_of(intake.sockets)
        return _Counted(
            self._telemetry.datagrams(lines),
            memory.drops if memory else 0,
            intake.stats.queue_dropped,
            lines.lines,
            sum(lines.refused.values()),
        )

    def _ladder(self) -> Ladder:
        telemetry = self._telemetry
        telemetry.hot_path.settle()
        telemetry.intake.settle()
        lines, own, tcp = telemetry.hot_path.stats, telemetry.intake.sockets, telemetry.tcp
        memory = sockets.memory_of(own)
        per_second = self._rates.per_second()
        return Ladder(
            datagrams=telemetry.datagrams(lines),
            datagrams_per_second=per_second.datagrams,
            restored_datagrams=self._restored_datagrams,
            kernel_dropped_datagrams=memory.drops if memory else None,
            kernel_dropped_per_second=per_second.kernel_dropped,
            queue_dropped_datagrams=telemetry.intake.stats.queue_dropped,
            queue_dropped_per_second=per_second.queue_dropped,
            refused_datagrams=telemetry.refused_datagrams(),
            lines=lines.lines,
            lines_per_second=per_second.lines,
            accepted_lines=lines.accepted,
            refused_lines=sum(lines.refused.values()),
            refused_lines_per_second=per_second.refused_lines,
            set_aside_lines=dict(lines.set_aside),
            samples=lines.samples,
            receive_queue_bytes=memory.queued_bytes if memory else None,
            receive_buffer_bytes=sum(each.buffer_bytes for each in own),
            asked_receive_buffer_bytes=sum(each.asked_buffer_bytes for each in own),
            asked_of_one_socket_bytes=max((each.asked_buffer_bytes for each in own), default=0),
            tcp_open_connections=tcp.open,
            tcp_refused_connections=dict(tcp.refused),
            tcp_lines=tcp.lines,
            tcp_refused_lines=dict(tcp.refused_lines),
        )

    def _one(self, family: Family) -> OneCardinality:
        limits = self._telemetry.store.limits
        labels = [
            Label(
                label,
                budget.held,
                limits.label_values,
                round(budget.estimate()) if budget.folded is not None else None,
                [Heavy(*each) for each in heaviest(budget)],
            )
            for label, budget in list(family.budgets.items())
        ]
        return OneCardinality(
            family.name,
            family.type,
            len(family.cells),
            limits.label_sets,
            dict(family.folded),
            labels,
        )


_NOTHING: Final = Flow(0.0, 0.0, 0.0, 0.0, 0.0, {}, ())


class _Counted(NamedTuple):
    """Steps of the ladder at one time, or what they grow by in a second."""

    datagrams: float = 0
    kernel_dropped: float = 0
    queue_dropped: float = 0
    lines: float = 0
    refused_lines: float = 0


class _Rates:
    """What was counted at each of the last RATE_SECONDS ticks."""

    def __init__(self) -> None:
        self._noted: list[tuple[int, _Counted]] = []  # at most RATE_SECONDS + 1 of them

    def note(self, tick: int, counted: _Counted) -> None:
        self._noted = [*self._noted[-RATE_SECONDS:], (tick, counted)]

    def per_second(self) -> _Counted:
        if len(self._noted) < 2:
            return _Counted()
        (first, before), (last, now) = self._noted[0], self._noted[-1]
        grown = zip(before, now, strict=True)
        return _Counted(*(max(0.0, new - old) / (last - first) for old, new in grown))


def _step_seconds(window: WindowName) -> int:
    return 1 if window == "5m" else LONG_TICK_SECONDS


def _steps(window: WindowName) -> int:
    return _seconds(window) // _step_seconds(window)


def _seconds(window: WindowName) -> int:
    return MINUTES_TICKS if window == "5m" else HOUR_TICKS * LONG_TICK_SECONDS


def _settings(config: Config) -> Iterator[Setting]:
    for option in options():
        if not option.is_kit:
            value = option.value(config)
            yield Setting(
                option.key,
                in_short(value),
                option.default_text,
                value == option.default,
            )
