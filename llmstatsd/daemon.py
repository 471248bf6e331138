"""Composes the parts: the only file that knows them all. Start, run, drain, stop."""

import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

from llmstatsd import __version__, activation, address, garbage, keeper, logs, reload
from llmstatsd.config import EXIT_BAD_CONFIGURATION, Config, ConfigError
from llmstatsd.exposition import lanes as renderers
from llmstatsd.exposition.text import Exposition
from llmstatsd.gpu import GpuCollector
from llmstatsd.host import HostCollector
from llmstatsd.intake import sockets, tcp, unix
from llmstatsd.intake.copies import Tapped
from llmstatsd.intake.lanes import LaneFailedError, LaneIntake, give_way
from llmstatsd.intake.senders import Senders
from llmstatsd.intake.tcp import TcpIntake, TcpLimits
from llmstatsd.intake.udp import UdpIntake
from llmstatsd.live.answers import Answers
from llmstatsd.live.tap import Taps
from llmstatsd.notify import Notifier
from llmstatsd.series import lanes
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.slowpath import LineStats
from llmstatsd.series.store import SeriesRules, Store
from llmstatsd.state import StateFile, StateLockedError
from llmstatsd.telemetry import Telemetry
from llmstatsd.threads import in_thread
from llmstatsd.web import security, tap
from llmstatsd.web.api import Api, Ticks
from llmstatsd.web.app import WebStats, create_app
from llmstatsd.web.server import WebServer
from llmstatsd.wire.statsd import Dialect

EXIT_CLEAN: Final = 0
EXIT_BUG: Final = 1

TICK_SECONDS: Final = 1.0
STATUS_SECONDS: Final = 5.0
"""Time from one line of status for the service manager to the next."""

GIL_SWITCH_SECONDS: Final = 0.0005
"""How long a lane that needs Python waits at most for a thread that computes.

Python's own 5 ms are longer than a receive buffer lasts at a million datagrams a second.
"""

SWEEPS_PER_IDLE_TIME: Final = 60
"""A label set leaves at most 1/60 of the idle time late."""

_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_ENDLESS: Final = ("time", "look", "taps", "status", "watchdog")
"""Tasks that end by being cancelled."""

logger = logging.getLogger("llmstatsd")


class BindError(Exception):
    """An address that is not to be had; the text names it and says why."""


class Daemon:
    """One running daemon: sockets, hot path, store, web, and the work that time brings."""

    def __init__(
        self,
        config: Config,
        *,
        owns_process: bool = False,
        log_stats: logs.LogStats | None = None,
        passed: activation.Passed | None = None,
        load: Callable[[], Config] | None = None,
    ) -> None:
        """Bind every socket; BindError names the one that fails.

        `owns_process` lets it lower the priority of the thread that runs it below its lanes'.
        `log_stats` is what the process's log counts, for the daemon's own series. `load` gives the
        configuration anew, or raises ConfigError, for a reload.
        Raises ConfigError for a bad security file, and lanes.LaneMissingError when the
        configuration wants a lane that is not there; StateLockedError when another daemon keeps
        its state in the same file.
        """
        guarded = security.load(config.http.security_file)
        self._config = config
        self._owns_process = owns_process
        passed = passed or activation.Passed()
        self._notifier = Notifier(os.environ)
        self._load = load or (lambda: config)
        self._reloads = reload.Reloads(self._reload)
        self._bug: Exception | None = None
        self._moving = asyncio.Lock()  # for who reads or changes the store or the intake as a whole
        self._is_drained = False
        self._keeper = self._make_keeper()
        twin = lanes.choose(config.statsd.lane)
        self._store = _store(config, twin)
        taken = self._take_in_by(twin, *_bind(config, twin, passed))
        self._hot_path, self._intake, self._tcp = taken
        self._is_ready = False
        self._stopping = asyncio.Event()
        self._has_portable = asyncio.Event()
        self._born = self._store.ledger.born
        self._logged: dict[str, tuple[float, int]] = {}
        self._web_stats = WebStats()
        self._gpus = GpuCollector(config.gpu.interval_seconds)
        self._telemetry = Telemetry(
            self._intake,
            self._hot_path,
            self._store,
            self._web_stats,
            log_stats or logs.LogStats(),
        )
        if self._tcp is not None:
            self._telemetry.tcp = self._tcp.stats
        if self._keeper is not None:
            self._telemetry.state = self._keeper.stats
        self._exposition = exposition = Exposition(
            self._store, list(self._collectors()), renderers.renderers(twin.name)
        )
        self._answers = Answers(self._telemetry, lambda: self._config, lambda: self._is_ready)
        self._ticks = Ticks()
        self._taps = Taps(self._tapped, self._meaning)
        app = create_app(
            exposition,
            is_ready=lambda: self._is_ready,
            gzip_level=lambda: self._config.http.gzip_level,
            stats=self._web_stats,
            concurrent_scrapes=config.http.concurrent_scrapes,
            reload=self.reload if config.http.reload else None,
            end_of_memory=lambda: self._store.stop_growing(),
            further=[
                *Api(self._answers, self._ticks, config.http.streams, self._web_stats).routes(),
                tap.route(self._taps, lambda: self._config.http.tap, self._web_stats),
            ],
        )
        self._web = WebServer(app, config.http, self._web_stats, guarded)
        try:
            self._web_address = _bind_web(self._web, config, passed.web)
        except BindError:
            self._close_sockets()
            raise

    def _make_keeper(self) -> keeper.Keeper | None:
        state = self._config.state
        path = keeper.path_of(state.path, os.environ)
        if not path:
            return None
        return keeper.Keeper(StateFile(path), state.interval_seconds, self._kept, self._moving)

    def _kept(self) -> tuple[Store, LineStats]:
        """What outlives a restart: of the ladder, pieces of TCP are counted by their own intake."""
        self._hot_path.settle()
        ladder, tcp = LineStats(), self._telemetry.tcp
        ladder.absorb(self._hot_path.stats)
        ladder.datagrams -= tcp.pieces
        ladder.bytes -= tcp.piece_bytes
        return self._store, ladder

    def _tapped(self) -> list[Tapped]:
        return [self._intake] if self._tcp is None else [self._intake, self._tcp]

    def _meaning(self) -> tuple[Store, Dialect, LineStats]:
        return self._store, _dialect(self._config), self._hot_path.stats

    async def _restore(self) -> None:
        if self._keeper is None:
            return
        async with self._moving:
            await self._keeper.restore(self._store, self._hot_path)
            refused = self._hot_path.stats.refused
            self._logged = {reason: (-math.inf, count) for reason, count in refused.items()}

    def _take_in_by(
        self,
        twin: lanes.Twin,
        bound: list[sockets.DatagramSocket],
        listener: socket.socket | None,
    ) -> tuple[lanes.HotPath, UdpIntake | LaneIntake, TcpIntake | None]:
        config = self._config
        if twin is lanes.PORTABLE:
            portable = _portable(self._store, config)
            intake = UdpIntake(bound, portable.feed_together)
            return portable, intake, self._tcp_intake(listener, portable.feed_together)
        # A lane is fed by one thread: the last one, where there is TCP, by the loop's.
        compiled = _compiled(self._store, config, len(bound) + (listener is not None))
        own = compiled.lanes[: len(bound)]
        last = compiled.lanes[-1].feed_together
        return compiled, LaneIntake(bound, own), self._tcp_intake(listener, last)

    def _tcp_intake(
        self, listener: socket.socket | None, feed: Callable[[Sequence[bytes]], None]
    ) -> TcpIntake | None:
        if listener is None:
            return None
        statsd = self._config.statsd
        limits = TcpLimits(statsd.tcp_connections, statsd.tcp_idle_seconds, statsd.tcp_line_bytes)
        return TcpIntake(listener, limits, feed, _senders(self._config))

    async def run(self) -> None:
        """Serve until a signal, then drain and stop; raises what is a bug of ours."""
        loop = asyncio.get_running_loop()
        before = {number: signal.signal(number, self._stopper(loop)) for number in _END_SIGNALS}
        try:
            await self._run(loop)
        finally:
            if not self._owns_process:
                for number, handler in before.items():
                    signal.signal(number, handler)

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(signal.SIGHUP, self._reloads.begin)
        await self._restore()
        self._answers.start()
        await self._intake.start()
        if self._tcp is not None:
            await self._tcp.start()
        if self._owns_process and isinstance(self._intake, LaneIntake):
            give_way()
        tasks = [
            asyncio.create_task(self._take_in(), name="intake"),
            asyncio.create_task(self._web.serve(), name="web"),
            asyncio.create_task(self._keep_time(), name="time"),
            asyncio.create_task(self._look(), name="look"),
            asyncio.create_task(self._taps.run(), name="taps"),
        ]
        if self._notifier.is_heard:
            tasks.append(asyncio.create_task(self._tell_status(), name="status"))
        if self._notifier.watchdog_seconds is not None:
            watchdog = self._answer_watchdog(self._notifier.watchdog_seconds / 2)
            tasks.append(asyncio.create_task(watchdog, name="watchdog"))
        if self._tcp is not None:
            tasks.append(asyncio.create_task(self._take_lines_in(self._tcp), name="tcp"))
        if self._keeper is not None:
            tasks.append(asyncio.create_task(self._keeper.run(), name="state"))
        waiter = asyncio.create_task(self._stopping.wait(), name="signals")
        self._say_ready()
        self._is_ready = True
        self._notifier.ready()
        if self._config.gpu.enabled:
            self._gpus.start()
        await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
        self._is_ready = False
        self._notifier.stopping()
        waiter.cancel()
        await self._stop(tasks)

    def _stopper(self, loop: asyncio.AbstractEventLoop) -> Callable[..., None]:
        """What an end signal does, however many come, and even when the loop has ended.

        The loop's own handlers leave with it, and a second signal would spoil the exit code.
        """

        def stop(*_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._stopping.set)

        return stop

    def stop(self) -> None:
        """Begin to stop, as a signal does."""
        self._stopping.set()

    async def reload(self) -> str | None:
        """Take the configuration over anew, as SIGHUP does; None, or the text why it failed.

        It is taken over whole or not at all. Who asks while one is under way gets the next one.
        """
        return await self._reloads.ask()

    async def _reload(self) -> str | None:
        if self._is_ready:
            self._notifier.reloading()
        try:
            failure = await self._try_to_reload()
        except Exception as error:  # noqa: BLE001 a bug, which ends the daemon where it is awaited
            failure, self._bug = f"a bug: {error!r}", error
            self._stopping.set()
        self._telemetry.reload.note(failure)
        if failure is not None:
            logger.error("not reloaded, the configuration of before stays: %s", failure)
        if self._is_ready:
            self._notifier.ready()
        return failure

    async def _try_to_reload(self) -> str | None:
        try:
            loaded = await in_thread(self._load)
            config, late = reload.taken_over(self._config, loaded)
            guarded = await in_thread(partial(security.load, config.http.security_file))
        except ConfigError as error:
            return str(error)
        except MemoryError:
            return "there is too little memory to load it"
        async with self._moving:
            if self._stopping.is_set():
                return "the daemon is stopping"
            if reload.changes_series(self._config, config):
                failure = await self._change_series(config)
                if failure is not None:
                    return failure
            self._config = config
        self._web.set_security(guarded)
        if self._keeper is not None:
            self._keeper.interval_seconds = config.state.interval_seconds
        logger.info("reloaded the configuration")
        if late:
            logger.warning("these take effect with a restart only: %s", ", ".join(late))
        if self._owns_process:
            logs.set_level(config.log.level)
        return None

    async def _change_series(self, config: Config) -> str | None:
        """Count on by other rules; None, or why that cannot be, and then nothing has changed."""
        before = self._hot_path
        try:
            if isinstance(self._intake, LaneIntake):
                store = _store(config, lanes.choose("compiled"))
                count = len(self._intake.sockets) + (self._tcp is not None)
                hot_path: lanes.HotPath = _compiled(store, config, count)
            else:
                store = _store(config, lanes.PORTABLE)
                hot_path = _portable(store, config, before.stats)
            dropped = await reload.follow(self._store, store, partial(self._feed_to, hot_path))
        except MemoryError:
            if self._hot_path is not before:
                raise
            return "there is too little memory for a second store"
        self._store = self._telemetry.store = store
        self._exposition.show(store)
        if dropped:
            logger.warning("label sets that were dropped, by reason: %s", dropped)
        return None

    async def _feed_to(self, hot_path: lanes.HotPath) -> None:
        """Feed another hot path; when this returns, the one of before is not fed any more."""
        before, intake = self._hot_path, self._intake
        self._hot_path = self._telemetry.hot_path = hot_path
        feed = hot_path.feed_together
        if isinstance(hot_path, lanes.CompiledHotPath):
            hot_path.follow(before)
            feed = hot_path.lanes[-1].feed_together
        if self._tcp is not None:
            self._tcp.feed_to(feed)
        if isinstance(intake, UdpIntake):
            intake.feed_to(feed)
        elif isinstance(hot_path, lanes.CompiledHotPath):
            await intake.feed_to(hot_path.lanes[: len(intake.sockets)])
            hot_path.has_followed()

    async def _take_in(self) -> None:
        try:
            await self._intake.run()
        except LaneFailedError:
            self._is_ready = False
            logger.exception("not ready: the portable lane takes over")
            async with self._moving:
                if self._is_drained:
                    return
                await self._fall_back()
            self._is_ready = not self._stopping.is_set()
            await self._intake.run()

    async def _take_lines_in(self, lines: TcpIntake) -> None:
        """TCP has a lane, and so a bug in it is one of that lane: all of them give way."""
        try:
            await lines.run()
        except Exception as error:
            if not isinstance(self._intake, LaneIntake):
                raise
            self._intake.fail(error)
            await self._has_portable.wait()
            await lines.run()

    async def _fall_back(self) -> None:
        """Go on by the portable lane, with the same sockets, cells and counts."""
        self._intake.settle()
        self._hot_path.settle()
        hot_path = _portable(self._store, self._config, self._hot_path.stats)
        self._intake.stats.lane_failures += 1
        intake = UdpIntake(self._intake.sockets, hot_path.feed_together, self._intake.stats)
        self._hot_path = self._telemetry.hot_path = hot_path
        self._intake = self._telemetry.intake = intake
        if self._tcp is not None:
            self._tcp.go_on(hot_path.feed_together)
        self._has_portable.set()
        await intake.start()
        logger.warning("ready again: lane=%s", hot_path.lane)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        async with self._moving:  # a reload under way ends before
            if self._tcp is not None:
                await self._tcp.stop()
            await self._intake.stop()
            self._is_drained = True
        self._has_portable.set()
        if self._keeper is not None:
            self._keeper.end()
        self._ticks.end()
        self._taps.end()
        self._web.stop()
        for task in tasks:
            if task.get_name() in _ENDLESS:
                task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        self._say_stopped()
        self._close_sockets()
        self._gpus.stop()
        for outcome in (self._bug, *ended):
            if isinstance(outcome, Exception):
                raise outcome

    def _close_sockets(self) -> None:
        for each in self._intake.sockets:
            each.close()
        if self._tcp is not None:
            self._tcp.close()
        if self._keeper is not None:
            self._keeper.close()

    def _say_stopped(self) -> None:
        memory = sockets.memory_of(self._intake.sockets)
        stats = self._hot_path.stats
        logger.info(
            "stopped: %d datagrams, %d lines, %d refused, %d dropped by the kernel",
            self._telemetry.datagrams(stats),
            stats.lines,
            sum(stats.refused.values()),
            memory.drops if memory else 0,
        )

    def _collectors(self) -> Iterator[Collector]:
        yield self._telemetry
        if self._config.host.enabled:
            yield HostCollector(self._config.host.disk_path)
        yield self._gpus
        registry = CollectorRegistry()
        yield ProcessCollector(registry=registry)
        yield PlatformCollector(registry=registry)
        yield GCCollector(registry=registry)

    def _say_ready(self) -> None:
        first = self._intake.sockets[0]
        host, port = first.address
        logger.info(
            "llmstatsd %s ready: lane=%s statsd_udp=%s http=%s%s",
            __version__,
            self._hot_path.lane,
            address.Address(host, port),
            self._web_address,
            "".join(self._further_places()),
        )
        self._warn_of_open_doors()
        if self._config.statsd.lane == "auto" and (reason := lanes.why_missing()):
            logger.info("the portable lane runs, since %s", reason)
        asked, granted = first.asked_buffer_bytes, first.buffer_bytes
        if granted < asked:
            logger.warning(
                "the kernel clamped the receive buffer to %d of %d bytes; "
                "to allow it: sysctl -w net.core.rmem_max=%d",
                granted,
                asked,
                asked,
            )

    def _further_places(self) -> Iterator[str]:
        for each in self._intake.sockets:
            if isinstance(each, unix.UnixSocket):
                yield f" statsd_unix={each.path}"
        if self._tcp is not None:
            yield f" statsd_tcp={address.Address(*self._tcp.address)}"

    def _warn_of_open_doors(self) -> None:
        places = {each.address for each in self._intake.sockets if each.transport == "udp"}
        named = [("UDP", place) for place in sorted(places)]
        if self._tcp is not None:
            named.append(("TCP", self._tcp.address))
        for transport, (host, port) in named:
            if not self._config.statsd.allow_from and not address.is_loopback(host):
                logger.warning(
                    "everybody who reaches %s %s may send: statsd.allow_from can name who may",
                    transport,
                    address.Address(host, port),
                )

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        sweep_at = collect_at = loop.time()
        while True:
            now, idle = loop.time(), self._config.limits.idle_seconds
            with self._store.gate:
                self._store.end_minutes(now)
            self._log_refused(now)
            self._set_cells_aside()
            if idle and now >= sweep_at:
                sweep_at = now + idle / SWEEPS_PER_IDLE_TIME
                for _ in self._hot_path.expire(now):
                    await asyncio.sleep(0)
            if now >= collect_at:
                collect_at = now + garbage.FULL_COLLECTION_SECONDS
                garbage.collect()
            await asyncio.sleep(TICK_SECONDS)

    async def _look(self) -> None:
        """Read once a second what the page and the API show."""
        while True:
            # At least a moment: nothing spins, even if no time were to pass.
            await asyncio.sleep(max(0.001, self._answers.seconds_to_next()))
            if self._answers.seconds_to_next():
                continue  # the timer came early
            try:
                for _ in self._answers.sample():
                    await asyncio.sleep(0)
            except MemoryError:
                self._store.stop_growing()
                await self._look_anew()
            except Exception:
                logger.exception("what the page shows begins anew, by a bug")
                await self._look_anew()
            self._ticks.pass_on()

    async def _look_anew(self) -> None:
        """Whoever may look may not end the daemon: the history begins anew."""
        await asyncio.sleep(1.0)
        with suppress(MemoryError):
            self._answers.begin_anew()

    async def _tell_status(self) -> None:
        """What `systemctl status` shows."""
        before = self._hot_path.stats.lines
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            lines = self._hot_path.stats.lines
            memory = sockets.memory_of(self._intake.sockets)
            self._notifier.status(
                f"{(lines - before) / STATUS_SECONDS:,.0f} lines/s, "
                f"{sum(len(family.cells) for family in list(self._store.families.values())):,} "
                f"label sets, {memory.drops if memory else 0:,} datagrams dropped by the kernel"
            )
            before = lines

    async def _answer_watchdog(self, interval_seconds: float) -> None:
        """Give signs of life as long as every lane and the web make progress.

        A hang of the loop ends them as well, as this runs on it. What hangs once may go on again:
        the manager decides when it has waited long enough.
        """
        while True:
            intake = self._intake
            before = intake.turns()
            await asyncio.sleep(interval_seconds)
            is_moving = intake is not self._intake or all(
                now > then for now, then in zip(intake.turns(), before, strict=True)
            )
            if is_moving and await self._web.makes_progress():
                self._notifier.alive()

    def _set_cells_aside(self) -> None:
        born = self._store.ledger.born
        if born != self._born:
            self._born = born
            garbage.set_aside_cells()

    def _log_refused(self, now: float) -> None:
        stats = self._hot_path.stats
        interval = self._config.log.refused_interval_seconds
        for reason, line in list(stats.refused_lines.items()):
            logged_at, logged_count = self._logged.get(reason, (-interval, 0))
            count = stats.refused[reason]
            if count > logged_count and now - logged_at >= interval:
                self._logged[reason] = (now, count)
                logger.warning(
                    "lines refused as %s: %d, the last one: %r",
                    reason,
                    count - logged_count,
                    line,
                    extra={"about": reason},
                )


def run(config: Config, load: Callable[[], Config] | None = None) -> int:
    """Run a daemon to its end and give the exit code: 0 clean, 3 cannot start, 1 a bug.

    `load` gives the configuration anew, or raises ConfigError, for a reload.
    """
    _open_standard_files()
    log = logs.begin(config.log)
    code = _run_to_its_end(config, load, log.stats)
    for number in _END_SIGNALS:  # it ends, with the exit code that it has
        signal.signal(number, signal.SIG_IGN)
    log.end()
    _give_up_unwritable_stderr()
    return code


def _run_to_its_end(
    config: Config, load: Callable[[], Config] | None, log_stats: logs.LogStats
) -> int:
    try:
        uvloop.run(_serve(config, load, log_stats))
    except (
        BindError,
        ConfigError,
        StateLockedError,
        activation.ActivationError,
        lanes.LaneMissingError,
    ) as error:
        logger.error("%s", error)
        return EXIT_BAD_CONFIGURATION
    except Exception:
        logger.exception("llmstatsd ends by a bug of its own")
        return EXIT_BUG
    return EXIT_CLEAN


def _open_standard_files() -> None:
    """Put /dev/null where standard files are closed, or a socket would take their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _give_up_unwritable_stderr() -> None:
    """Keep the exit code: Python ends with 120 when it cannot flush stderr."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


async def _serve(
    config: Config, load: Callable[[], Config] | None, log_stats: logs.LogStats
) -> None:
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    passed = activation.passed(os.environ)
    daemon = Daemon(config, owns_process=True, log_stats=log_stats, passed=passed, load=load)
    garbage.begin()
    await daemon.run()


def _store(config: Config, twin: lanes.Twin) -> Store:
    return Store(
        config.limits,
        aliases=config.aliases,
        pinned=config.pinned,
        rules={
            name: SeriesRules(series.buckets, series.extra_labels)
            for name, series in config.series.items()
        },
        instruments=twin.instruments,
    )


def _portable(store: Store, config: Config, stats: LineStats | None = None) -> HotPath:
    return HotPath(store, _dialect(config), config.statsd.cache_entries, stats)


def _compiled(store: Store, config: Config, count: int) -> lanes.CompiledHotPath:
    return lanes.CompiledHotPath(store, _dialect(config), config.statsd.cache_entries, count)


def _dialect(config: Config) -> Dialect:
    statsd = config.statsd
    return Dialect(
        librato=statsd.librato_tags,
        influxdb=statsd.influxdb_tags,
        signalfx=statsd.signalfx_tags,
        absolute_signed_gauges=statsd.absolute_signed_gauges,
    )


def _senders(config: Config) -> Senders | None:
    networks = address.networks(config.statsd.allow_from)
    return Senders(networks) if networks else None


def _bind(
    config: Config, twin: lanes.Twin, passed: activation.Passed
) -> tuple[list[sockets.DatagramSocket], socket.socket | None]:
    """The datagram sockets, UDP first, and the TCP listener; all of them or BindError.

    A passed socket stands in for the address that is configured for its kind.
    """
    statsd = config.statsd
    if len(passed.tcp) > 1:
        raise BindError("passed sockets: one TCP listener of lines at most")
    bound = _bind_udp(config, twin, passed.udp)
    try:
        if passed.unix:
            bound += map(unix.UnixSocket, passed.unix)
        elif statsd.unix:
            bound.append(_bind_unix(config))
        if passed.tcp:
            return bound, passed.tcp[0]
        return bound, _bind_tcp(config) if statsd.tcp else None
    except BindError:
        for each in bound:
            each.close()
        raise


def _bind_udp(
    config: Config, twin: lanes.Twin, passed: list[socket.socket]
) -> list[sockets.DatagramSocket]:
    statsd = config.statsd
    if passed:
        asked, senders = statsd.receive_buffer_bytes, _senders(config)
        return [sockets.DatagramSocket(each, asked, senders, is_passed=True) for each in passed]
    count = 1 if twin is lanes.PORTABLE else statsd.lanes
    try:
        return sockets.bind(
            *address.parse(statsd.udp), statsd.receive_buffer_bytes, count, _senders(config)
        )
    except OSError as error:
        raise BindError(f"cannot bind UDP {config.statsd.udp}: {error.strerror}") from error


def _bind_unix(config: Config) -> unix.UnixSocket:
    statsd = config.statsd
    try:
        return unix.bind(statsd.unix, int(statsd.unix_mode, 8), statsd.unix_group)
    except OSError as error:
        raise BindError(f"cannot bind unix socket {statsd.unix}: {error.strerror}") from error


def _bind_tcp(config: Config) -> socket.socket:
    try:
        return tcp.bind(*address.parse(config.statsd.tcp))
    except OSError as error:
        raise BindError(f"cannot bind TCP {config.statsd.tcp}: {error.strerror}") from error


def _bind_web(web: WebServer, config: Config, passed: list[socket.socket]) -> str:
    try:
        return web.bind(passed)
    except OSError as error:
        raise BindError(f"cannot bind HTTP {config.http.listen}: {error.strerror}") from error
