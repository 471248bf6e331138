"""Composes the parts: the only file that knows them all. Start, run, drain, stop."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

from llmstatsd import __version__, address, garbage, logs
from llmstatsd.config import EXIT_BAD_CONFIGURATION, Config
from llmstatsd.exposition import lanes as renderers
from llmstatsd.exposition.text import Exposition
from llmstatsd.gpu import GpuCollector
from llmstatsd.host import HostCollector
from llmstatsd.intake import sockets
from llmstatsd.intake.lanes import LaneFailedError, LaneIntake, give_way
from llmstatsd.intake.udp import UdpIntake
from llmstatsd.series import lanes
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.store import SeriesRules, Store
from llmstatsd.telemetry import Telemetry
from llmstatsd.web.app import WebStats, create_app
from llmstatsd.web.server import WebServer
from llmstatsd.wire.statsd import Dialect

EXIT_CLEAN: Final = 0
EXIT_BUG: Final = 1

TICK_SECONDS: Final = 1.0
GIL_SWITCH_SECONDS: Final = 0.0005
"""How long a lane that needs Python waits at most for a thread that computes.

Python's own 5 ms are longer than a receive buffer lasts at a million datagrams a second.
"""

SWEEPS_PER_IDLE_TIME: Final = 60
"""A label set leaves at most 1/60 of the idle time late."""

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
    ) -> None:
        """Bind every socket; BindError names the one that fails.

        `owns_process` lets it lower the priority of the thread that runs it below its lanes'.
        `log_stats` is what the process's log counts, for the daemon's own series.
        Raises lanes.LaneMissingError when the configuration wants a lane that is not there.
        """
        self._config = config
        self._owns_process = owns_process
        twin = lanes.choose(config.statsd.lane)
        self._store = _store(config, twin)
        self._hot_path, self._intake = self._take_in_by(twin, _bind_udp(config, twin))
        self._is_ready = False
        self._stopping = asyncio.Event()
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
        exposition = Exposition(
            self._store, list(self._collectors()), renderers.renderers(twin.name)
        )
        app = create_app(
            exposition,
            is_ready=lambda: self._is_ready,
            gzip_level=config.http.gzip_level,
            stats=self._web_stats,
        )
        self._web = WebServer(app, config.http)
        self._web_address = _bind_web(self._web, config)

    def _take_in_by(
        self, twin: lanes.Twin, bound: list[sockets.UdpSocket]
    ) -> tuple[lanes.HotPath, UdpIntake | LaneIntake]:
        statsd = self._config.statsd
        if twin is lanes.PORTABLE:
            portable = HotPath(self._store, _dialect(self._config), statsd.cache_entries)
            return portable, UdpIntake(bound, portable.feed_together)
        compiled = lanes.CompiledHotPath(
            self._store, _dialect(self._config), statsd.cache_entries, statsd.lanes
        )
        return compiled, LaneIntake(bound, compiled.lanes)

    async def run(self) -> None:
        """Serve until a signal, then drain and stop; raises what is a bug of ours."""
        loop = asyncio.get_running_loop()
        ends = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
            ends.append(signal.SIGHUP)
        for number in ends:
            loop.add_signal_handler(number, self._stopping.set)
        await self._intake.start()
        if self._owns_process and isinstance(self._intake, LaneIntake):
            give_way()
        tasks = [
            asyncio.create_task(self._take_in(), name="intake"),
            asyncio.create_task(self._web.serve(), name="web"),
            asyncio.create_task(self._keep_time(), name="time"),
        ]
        waiter = asyncio.create_task(self._stopping.wait(), name="signals")
        self._say_ready()
        self._is_ready = True
        if self._config.gpu.enabled:
            self._gpus.start()
        await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
        self._is_ready = False
        waiter.cancel()
        await self._stop(tasks)

    def stop(self) -> None:
        """Begin to stop, as a signal does."""
        self._stopping.set()

    async def _take_in(self) -> None:
        try:
            await self._intake.run()
        except LaneFailedError:
            self._is_ready = False
            logger.exception("not ready: the portable lane takes over")
            await self._fall_back()
            self._is_ready = not self._stopping.is_set()
            await self._intake.run()

    async def _fall_back(self) -> None:
        """Go on by the portable lane, with the same sockets, cells and counts."""
        self._hot_path.settle()
        statsd = self._config.statsd
        hot_path = HotPath(
            self._store, _dialect(self._config), statsd.cache_entries, self._hot_path.stats
        )
        self._intake.stats.lane_failures += 1
        intake = UdpIntake(self._intake.sockets, hot_path.feed_together, self._intake.stats)
        self._hot_path = self._telemetry.hot_path = hot_path
        self._intake = self._telemetry.intake = intake
        await intake.start()
        logger.warning("ready again: lane=%s", hot_path.lane)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        intake, web, time = tasks
        await self._intake.stop()
        self._web.stop()
        time.cancel()
        ended = await asyncio.gather(intake, web, time, return_exceptions=True)
        self._say_stopped()
        for each in self._intake.sockets:
            each.close()
        self._gpus.stop()
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    def _say_stopped(self) -> None:
        memory = sockets.memory_of(self._intake.sockets)
        stats = self._hot_path.stats
        logger.info(
            "stopped: %d datagrams, %d lines, %d refused, %d dropped by the kernel",
            stats.datagrams,
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
            "llmstatsd %s ready: lane=%s statsd_udp=%s http=%s",
            __version__,
            self._hot_path.lane,
            address.Address(host, port),
            self._web_address,
        )
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

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        idle = self._config.limits.idle_seconds
        sweep_at = collect_at = loop.time()
        while True:
            now = loop.time()
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


def run(config: Config) -> int:
    """Run a daemon to its end and give the exit code: 0 clean, 3 cannot bind, 1 a bug."""
    _open_standard_files()
    log = logs.begin(config.log)
    code = _run_to_its_end(config, log.stats)
    log.end()
    _give_up_unwritable_stderr()
    return code


def _run_to_its_end(config: Config, log_stats: logs.LogStats) -> int:
    try:
        uvloop.run(_serve(config, log_stats))
    except (BindError, lanes.LaneMissingError) as error:
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


async def _serve(config: Config, log_stats: logs.LogStats) -> None:
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    daemon = Daemon(config, owns_process=True, log_stats=log_stats)
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


def _dialect(config: Config) -> Dialect:
    statsd = config.statsd
    return Dialect(
        librato=statsd.librato_tags,
        influxdb=statsd.influxdb_tags,
        signalfx=statsd.signalfx_tags,
        absolute_signed_gauges=statsd.absolute_signed_gauges,
    )


def _bind_udp(config: Config, twin: lanes.Twin) -> list[sockets.UdpSocket]:
    statsd = config.statsd
    count = 1 if twin is lanes.PORTABLE else statsd.lanes
    try:
        return sockets.bind(*address.parse(statsd.udp), statsd.receive_buffer_bytes, count)
    except OSError as error:
        raise BindError(f"cannot bind UDP {config.statsd.udp}: {error.strerror}") from error


def _bind_web(web: WebServer, config: Config) -> str:
    try:
        return web.bind()
    except OSError as error:
        raise BindError(f"cannot bind HTTP {config.http.listen}: {error.strerror}") from error
