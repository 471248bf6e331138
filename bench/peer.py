"""The well-known StatsD servers as receivers under measurement, each by its own documentation.

Each listens on loopback alone, in a folder of its own under the temporary files, with the settings
of its documentation that favour it here: the largest receive buffer it can ask for, and nothing
switched on that this load does not need. `lines_counted` asks the server itself what it took in.
"""

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import harness
from bench.harness import BenchError, Process, Received, Scrape
from llmstatsd.catalog import UNDECLARED_BUCKETS

NODE_PREFIX = "NODE_PREFIX"
"""A variable that names the folder in which `npm install` put `statsd`."""


def free_port(kind: int) -> int:
    """A loopback port that is free now, for servers that cannot choose one themselves."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def find(*names: str, folders: Sequence[str] = ()) -> str | None:
    """The first of these programs, on PATH, in `folders`, or where `go install` puts them."""
    places = [os.environ.get("PATH", ""), *folders, os.environ.get("GOBIN", "")]
    path = os.pathsep.join([*places, str(Path.home() / "go/bin")])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


class Peer(Process):
    """A server of others; `program` is None where it is not installed.

    `plain` ones know no tags: they get label values as parts of the name, see `loads.py`.
    """

    name: ClassVar[str]
    install: ClassVar[str]

    def __init__(self) -> None:
        program = self.program()
        if program is None:
            raise BenchError(f"{self.name} is not installed: {self.install}")
        self._folder = tempfile.TemporaryDirectory(prefix="llmstatsd-bench-")
        self.folder = Path(self._folder.name)
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.tcp_port = free_port(socket.SOCK_STREAM)
        super().__init__(self.command(program))
        try:
            harness.wait_until(self.is_ready, harness.READY_SECONDS, f"{self.name} ready")
        except BenchError as error:
            words = self.last_words()
            self.stop()
            raise BenchError(f"{error.message}; its last words:\n{words}") from None

    @classmethod
    def program(cls) -> str | None:
        """Where it is installed."""
        raise NotImplementedError

    def command(self, program: str) -> list[str]:
        """How it is started; what it reads is written to `folder` before."""
        raise NotImplementedError

    def lines_counted(self) -> int:
        """What it says of itself, once it has come to rest."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether its port is bound; raises BenchError when it has ended."""
        if not self.is_running():
            raise BenchError(f"{self.name} has ended")
        with contextlib.suppress(BenchError):
            harness.udp_socket(self.udp_port)
            return True
        return False

    def finish(self, lines_per_datagram: int) -> Received:
        """Its own count of lines, as datagrams, and stop it."""
        self.wait_drained()
        dropped = self.dropped()
        lines = self.lines_counted()
        self.stop()
        return Received(lines // lines_per_datagram, lines, dropped)

    def stop(self) -> str:
        """End it and remove its folder."""
        out = super().stop()
        self._folder.cleanup()
        return out

    def __enter__(self) -> Self:
        return self

    def get(self, path: str) -> str:
        """A page of its HTTP server."""
        url = f"http://127.0.0.1:{self.tcp_port}{path}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return str(response.read().decode())


class StatsdExporter(Peer):
    """prometheus/statsd_exporter: one mapping-free daemon, only DogStatsD tags parsed."""

    name = "statsd_exporter"
    install = "go install github.com/prometheus/statsd_exporter@latest"

    @classmethod
    def program(cls) -> str | None:
        """A Go program."""
        return find("statsd_exporter", "prometheus-statsd-exporter")

    def command(self, program: str) -> list[str]:
        """Histograms take the buckets of the documented series, as ours do."""
        mapping = self.folder / "mapping.yml"
        buckets = list(UNDECLARED_BUCKETS)
        mapping.write_text(
            f"defaults:\n  observer_type: histogram\n  histogram_options: {{buckets: {buckets}}}\n"
        )
        return [
            program,
            f"--statsd.listen-udp=127.0.0.1:{self.udp_port}",
            "--statsd.listen-tcp=",
            f"--web.listen-address=127.0.0.1:{self.tcp_port}",
            f"--statsd.read-buffer={harness.RECEIVE_BUFFER_BYTES}",
            f"--statsd.mapping-config={mapping}",
            "--no-statsd.parse-influxdb-tags",
            "--no-statsd.parse-librato-tags",
            "--no-statsd.parse-signalfx-tags",
            "--log.level=error",
        ]

    def is_ready(self) -> bool:
        """Its HTTP server too."""
        if not super().is_ready():
            return False
        with contextlib.suppress(OSError):
            self.get("/-/healthy")
            return True
        return False

    def dropped(self) -> int:
        """What its own queue had no room for, too."""
        drops = Scrape(self.get("/metrics")).sum("statsd_exporter_udp_packet_drops_total")
        return super().dropped() + int(drops)

    def lines_counted(self) -> int:
        """Lines that became events."""
        scrape = Scrape(self.get("/metrics"))
        errors = scrape.sum("statsd_exporter_sample_errors_total")
        return int(scrape.sum("statsd_exporter_lines_total") - errors)


class Statsd(Peer):
    """etsy's statsd, with a backend that adds up what each flush tells."""

    name = "statsd"
    install = f"npm install statsd, and the folder in {NODE_PREFIX}"
    plain = True

    @classmethod
    def program(cls) -> str | None:
        """Its main script; node has to be there too."""
        script = Path(os.environ.get(NODE_PREFIX, ".")) / "node_modules/statsd/stats.js"
        return str(script) if script.exists() and shutil.which("node") else None

    def command(self, program: str) -> list[str]:
        """Flushes every second."""
        told = self.folder / "told.json"
        backend = self.folder / "adding.js"
        backend.write_text(
            "var fs = require('fs'), lines = 0;\n"
            "exports.init = function (started, config, events) {\n"
            "  events.on('flush', function (time, metrics) {\n"
            "    lines += metrics.counters['statsd.metrics_received'];\n"
            "    lines -= metrics.counters['statsd.bad_lines_seen'];\n"
            f"    fs.writeFileSync({json.dumps(str(told))}, JSON.stringify(lines));\n"
            "  });\n"
            "  return true;\n"
            "};\n"
        )
        config = self.folder / "config.js"
        config.write_text(
            f"{{ port: {self.udp_port}, address: '127.0.0.1', mgmt_port: {self.tcp_port},\n"
            f"  mgmt_address: '127.0.0.1', flushInterval: 1000, backends: ['{backend}'] }}\n"
        )
        return [str(shutil.which("node")), program, str(config)]

    def lines_counted(self) -> int:
        """What the backend has written once two flushes have told nothing more."""
        return _settled(lambda: int(_read(self.folder / "told.json") or 0))


class Netdata(Peer):
    """netdata with nothing but its StatsD server, kept in memory."""

    name = "netdata"
    install = "apt-get install netdata-core"
    plain = True

    @classmethod
    def program(cls) -> str | None:
        """Debian's."""
        return find("netdata", folders=["/usr/sbin"])

    def command(self, program: str) -> list[str]:
        """A configuration of its own; no plugin runs but the server."""
        user = "root" if os.geteuid() == 0 else ""
        (self.folder / "netdata.conf").write_text(
            f"[global]\n    run as user = {user}\n    memory mode = ram\n    history = 600\n"
            f"[directories]\n    cache = {self.folder}\n    lib = {self.folder}\n"
            f"    log = {self.folder}\n"
            "[db]\n    mode = ram\n    retention = 600\n"
            "[ml]\n    enabled = no\n[health]\n    enabled = no\n[registry]\n    enabled = no\n"
            "[plugins]\n    proc = no\n    diskspace = no\n    cgroups = no\n    tc = no\n"
            "    idlejitter = no\n    timex = no\n    checks = no\n    apps = no\n"
            "    python.d = no\n    charts.d = no\n    node.d = no\n    go.d = no\n    ebpf = no\n"
            "    fping = no\n    perf = no\n    slabinfo = no\n    nfacct = no\n    ioping = no\n"
            "    enable running new plugins = no\n    netdata monitoring = yes\n    statsd = yes\n"
            f"[web]\n    bind to = 127.0.0.1:{self.tcp_port}\n"
            "[statsd]\n    enabled = yes\n    create private charts for metrics matching = !*\n"
            f"    bind to = udp:127.0.0.1:{self.udp_port}\n"
        )
        return [program, "-D", "-c", str(self.folder / "netdata.conf")]

    def is_ready(self) -> bool:
        """Its chart has begun: what came before would not be in it."""
        return super().is_ready() and bool(self._events())

    def lines_counted(self) -> int:
        """Its chart of events, which has one value per second."""
        return _settled(lambda: round(sum(self._events())))

    def _events(self) -> list[float]:
        """One number for each second and type, the last one of errors left out."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            path = "/api/v1/data?chart=netdata.statsd_events&after=-600&format=json"
            rows = json.loads(self.get(path))["data"]
            return [value for row in rows for value in row[1:-1] if value is not None]
        return []


class Collectd(Peer):
    """collectd with its statsd plugin and the CSV writer, each second."""

    name = "collectd"
    install = "apt-get install collectd-core"
    plain = True

    @classmethod
    def program(cls) -> str | None:
        """Debian's."""
        return find("collectd", folders=["/usr/sbin"])

    def command(self, program: str) -> list[str]:
        """Timers tell their count, counters their sum."""
        config = self.folder / "collectd.conf"
        config.write_text(
            f'Hostname "bench"\nFQDNLookup false\nInterval 1\nBaseDir "{self.folder}"\n'
            f'PIDFile "{self.folder}/pid"\nLoadPlugin csv\nLoadPlugin statsd\n'
            f'<Plugin csv>\n  DataDir "{self.folder}/csv"\n</Plugin>\n'
            f'<Plugin statsd>\n  Host "127.0.0.1"\n  Port "{self.udp_port}"\n'
            "  TimerCount true\n  CounterSum true\n</Plugin>\n"
        )
        return [program, "-f", "-C", str(config)]

    def lines_counted(self) -> int:
        """What its counters and the counts of its timers add up to."""

        def told() -> int:
            counts = [
                float(row.rpartition(",")[2])
                for file in (self.folder / "csv").glob("*/statsd/*")
                if file.name.startswith("count-") or "-count-" in file.name
                for row in file.read_text().splitlines()[1:]
            ]
            return round(sum(counts))

        return _settled(told)


FIGURES = (".min", ".max", ".mean", ".median", ".std")
"""How navdoon's other figures of a timer end."""


class Navdoon(Peer):
    """navdoon, pure Python, which writes what it has each second."""

    name = "navdoon"
    install = "pip install navdoon"
    plain = True

    @classmethod
    def program(cls) -> str | None:
        """A script of PyPI."""
        return find("navdoon")

    def command(self, program: str) -> list[str]:
        """Counters and the counts of timers go to a file."""
        return [
            program,
            f"--collect-udp=127.0.0.1:{self.udp_port}",
            "--flush-interval=1",
            f"--flush-file-csv={self.folder / 'flushed.csv'}",
            "--log-level=ERROR",
        ]

    def lines_counted(self) -> int:
        """What its counters and the counts of its timers add up to."""

        def told() -> int:
            rows = [row.split('"') for row in _read(self.folder / "flushed.csv").splitlines()]
            #  "name","value","time"
            counts = [row[3] for row in rows if len(row) > 4 and not row[1].endswith(FIGURES)]
            return round(sum(map(float, counts)))

        return _settled(told)


def _settled(told: Callable[[], int], seconds: float = 60.0) -> int:
    """What a server tells once it tells the same for three seconds: it flushes each second."""
    ends, last, since = time.monotonic() + seconds, told(), time.monotonic()
    while time.monotonic() < ends and time.monotonic() - since < 3.0:
        time.sleep(0.2)
        now = told()
        if now != last:
            last, since = now, time.monotonic()
    return last


def _read(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text()
    return ""


PEERS: tuple[type[Peer], ...] = (StatsdExporter, Netdata, Collectd, Statsd, Navdoon)


def installed(peer: type[Peer]) -> bool:
    """Whether it can be started here."""
    return peer.program() is not None
