"""Every option declared once, and one `load` that reads them from file, variables and flags.

A field of a struct below is the only place that knows an option: its name with the unit in it, its
type, default, range and help. The TOML reader, the `LLMSTATSD_*` variables, the flags of
`llmstatsd serve` and the checks of the sample file and the reference page all come from there.
"""

import difflib
import functools
import itertools
import json
import math
import re
import tomllib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from llmstatsd import address
from llmstatsd.catalog import CATALOG
from llmstatsd.series import naming
from llmstatsd.series.family import lines_of, values_from_start
from llmstatsd.series.lanes import NO_EXTENSIONS, LaneName
from llmstatsd.series.limits import Limits

FILE_BYTES_LIMIT: Final = 1 << 20
"""Most bytes of a configuration file."""

EXIT_BAD_CONFIGURATION: Final = 3
"""Exit code of a command whose configuration is bad, or names a socket that is not to be had."""

ENTRY_CHARACTERS: Final = 1000
"""Longest value of a table's entry that is shown whole: 100 bounds of buckets, or as many names."""

BUCKETS_LIMIT: Final = 200
EXTRA_LABELS_LIMIT: Final = 8

VARIABLE_PREFIX: Final = "LLMSTATSD_"
NO_OPTIONS: Final = frozenset(
    {NO_EXTENSIONS}
    | {f"LLMSTATSD_{name}" for name in ("HOST", "PORT", "SOCKET", "DISABLE", "PASSWORD")}
)
"""Variables with the prefix of the build, of the clients, and of those who ask a daemon."""

# Kubernetes and Docker links describe a service called llmstatsd to every container beside it.
_SERVICE_LINK: Final = re.compile(
    r"LLMSTATSD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key that TOML 1.0 takes without quotes."""


def _check_address(text: str) -> None:
    address.parse(text)


def _check_address_or_none(text: str) -> None:
    if text:
        address.parse(text)


def _check_networks(text: str) -> None:
    address.networks(text)


def _check_label_name(name: str) -> None:
    if not name or naming.label_name(name) != name:
        raise ValueError(name)


def _check_label_value(value: str) -> None:
    if not value or naming.label_value(value) != value:
        raise ValueError(value)


def _check_page_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(url)
    if not url.isascii() or not url.isprintable() or set(url) & set(' "{}\\'):
        raise ValueError(url)


def _check_buckets(bounds: tuple[float, ...]) -> None:
    if not all(math.isfinite(bound) and bound > 0 for bound in bounds):
        raise ValueError(bounds)
    if not all(low < high for low, high in itertools.pairwise(bounds)):
        raise ValueError(bounds)


# What msgspec cannot say: `check` raises ValueError, `allowed` is the text for people.
HostPort = Annotated[str, Meta(extra={"check": _check_address, "allowed": address.ALLOWED})]
HostPortOrNone = Annotated[
    str,
    Meta(extra={"check": _check_address_or_none, "allowed": f"nothing, or {address.ALLOWED}"}),
]
Networks = Annotated[
    str, Meta(extra={"check": _check_networks, "allowed": address.NETWORKS_ALLOWED})
]
SocketPath = Annotated[
    str,
    Meta(
        # sun_path of unix(7) has 108 bytes, with a NUL at its end
        pattern=r"\A(/[\x01-\x7e]{1,106})?\Z",
        extra={"allowed": "nothing, or an absolute path of at most 107 ASCII characters"},
    ),
]
FilePath = Annotated[
    str,
    Meta(pattern=r"\A(/[^\0]*)?\Z", extra={"allowed": "nothing, or an absolute path"}),
]
LabelName = Annotated[
    str,
    Meta(
        extra={
            "check": _check_label_name,
            "allowed": "a label name: letters, digits and _, no digit or __ first, not le",
        }
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        extra={
            "check": _check_label_value,
            "allowed": f"a text of 1 to {naming.VALUE_LENGTH_LIMIT} characters,"
            " no control characters",
        }
    ),
]
Buckets = Annotated[
    tuple[float, ...],
    Meta(
        min_length=1,
        max_length=BUCKETS_LIMIT,
        extra={
            "check": _check_buckets,
            "allowed": f"1 to {BUCKETS_LIMIT} numbers, finite, above 0 and ascending",
        },
    ),
]
PageUrl = Annotated[
    str,
    Meta(
        max_length=500,
        extra={
            "check": _check_page_url,
            "allowed": "an http or https URL without query, at most 500 characters",
        },
    ),
]


def _bucket_bound(series: str, flag: str, description: str) -> Meta:
    """Declares a number of seconds that an alert compares with quantiles of a histogram.

    Only at a bound is the comparison exact, because a quantile is interpolated between two of
    them; and no quantile is ever above the last finite one.
    """
    return Meta(
        description=description,
        extra={
            "bound_of": series,
            "flag": flag,
            "allowed": f"a bucket bound of {series} below its last",
        },
    )


class Statsd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How lines come in, and which dialects are read."""

    udp: Annotated[
        HostPort, Meta(description="Where StatsD lines and JSON events are received over UDP.")
    ] = "127.0.0.1:8125"
    unix: Annotated[
        SocketPath, Meta(description="Where they are received over a unix datagram socket.")
    ] = ""
    unix_mode: Annotated[
        str,
        Meta(
            pattern=r"\A0[0-7]{3}\Z",
            description="Permissions of that socket: who may write to it may send.",
            extra={"allowed": "an octal number of four digits, 0 first"},
        ),
    ] = "0666"
    unix_group: Annotated[
        str,
        Meta(
            pattern=r"\A[a-z0-9_.$-]{0,64}\Z",
            description="Group that owns that socket; nothing: the daemon's own.",
            extra={"allowed": "nothing, or the name or number of a group"},
        ),
    ] = ""
    tcp: Annotated[
        HostPortOrNone, Meta(description="Where lines are received over TCP, one after the other.")
    ] = ""
    tcp_connections: Annotated[
        int, Meta(ge=1, le=65536, description="Concurrent TCP connections; one more is closed.")
    ] = 1024
    tcp_idle_seconds: Annotated[
        float,
        Meta(ge=1, le=86_400, description="A TCP connection silent for that long is closed."),
    ] = 300.0
    tcp_line_bytes: Annotated[
        int,
        Meta(
            ge=64,
            le=65_536,
            description="Longest line over TCP; a longer one is refused, and what follows it read.",
        ),
    ] = 8192
    allow_from: Annotated[
        Networks,
        Meta(
            description="Networks whose datagrams and TCP connections are taken, with commas"
            " between them; nothing: all."
        ),
    ] = ""
    receive_buffer_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1 << 30,
            description="Kernel receive buffer to ask for; it is the only queue of the daemon.",
        ),
    ] = 4194304
    cache_entries: Annotated[
        int,
        Meta(
            ge=16,
            le=1 << 20,
            description="Resolved pairs of name and suffix kept for the hot path.",
        ),
    ] = 16384
    lane: Annotated[
        LaneName,
        Meta(
            description="How datagrams are taken in: by the compiled extension or by Python;"
            " `auto` takes the extension where it is installed."
        ),
    ] = "auto"
    lanes: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Sockets on the one address, each with a thread; for the compiled lane"
            " only, and for more senders than one core can serve.",
        ),
    ] = 1
    librato_tags: Annotated[bool, Meta(description="Read tags in the name as in `name#k=v`.")] = (
        True
    )
    influxdb_tags: Annotated[bool, Meta(description="Read tags in the name as in `name,k=v`.")] = (
        True
    )
    signalfx_tags: Annotated[bool, Meta(description="Read tags in the name as in `name[k=v]`.")] = (
        True
    )
    absolute_signed_gauges: Annotated[
        bool,
        Meta(
            description="Take a signed gauge value as absolute (DogStatsD), not as a step (StatsD)."
        ),
    ] = False


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener of `/metrics` and the health pages."""

    listen: Annotated[
        HostPort,
        Meta(
            description="Where HTTP is served; an empty host means every interface.",
            extra={"flag": "--http"},
        ),
    ] = ":2112"
    gzip_level: Annotated[
        int, Meta(ge=1, le=9, description="Effort of gzip for a scraper that accepts it.")
    ] = 3
    header_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="A connection without whole request headers by then is closed.",
        ),
    ] = 10.0
    header_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 20, description="Largest request headers accepted.")
    ] = 16384
    connections: Annotated[
        int, Meta(ge=1, le=4096, description="Concurrent connections; one more is answered 503.")
    ] = 64
    shutdown_timeout_seconds: Annotated[
        float,
        Meta(ge=0, le=300, description="Time that requests in flight get to finish at the end."),
    ] = 5.0
    concurrent_scrapes: Annotated[
        int, Meta(ge=1, le=64, description="Scrapes under way at once; further ones wait.")
    ] = 8
    streams: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Live pages, and other readers of the stream, at once; one more gets 503.",
        ),
    ] = 16
    tap: Annotated[
        bool,
        Meta(
            description="Let everybody who reaches the port see lines as they arrive; off: only"
            " who asks from this machine."
        ),
    ] = False
    security_file: Annotated[
        FilePath,
        Meta(
            description="TLS and passwords, in the words of Prometheus' web configuration file.",
        ),
    ] = ""
    reload: Annotated[
        bool, Meta(description="Let `POST /-/reload` load the configuration anew, as SIGHUP does.")
    ] = False


class SeriesOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be changed on one documented series.

    `buckets` are finite upper bounds of a histogram; None means the catalogue's own.
    `extra_labels` are kept beside the documented labels, at most `EXTRA_LABELS_LIMIT` of them.
    """

    buckets: Buckets | None = None
    extra_labels: tuple[LabelName, ...] = ()


class State(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What outlives a restart."""

    path: Annotated[
        FilePath,
        Meta(
            description="File that keeps all series over a restart; nothing: `llmstatsd.state` in"
            " $STATE_DIRECTORY where systemd sets that, else none.",
            extra={"flag": "--state"},
        ),
    ] = ""
    interval_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Time from one writing of it to the next: what a crash may lose.",
        ),
    ] = 10.0


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `llmstatsd_host_*` series."""

    enabled: Annotated[bool, Meta(description="Expose figures of the host.")] = True
    disk_path: Annotated[
        str,
        Meta(
            pattern=r"\A/[^\0]*\Z",
            description="A path on the file system whose free space is exposed.",
            extra={"allowed": "an absolute path"},
        ),
    ] = "/"


class Gpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `llmstatsd_gpu_*` series; they need the extra `gpu` of the package and a driver."""

    enabled: Annotated[
        bool, Meta(description="Expose figures of NVIDIA GPUs where there are any.")
    ] = True
    interval_seconds: Annotated[
        float, Meta(ge=1, le=300, description="Time from one reading of the GPUs to the next.")
    ] = 5.0


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to stderr."""

    format: Annotated[
        Literal["auto", "text", "journal", "json"],
        Meta(
            description="How messages are written: with a time, with a level for the journal, or"
            " as one JSON object a line; `auto` is `journal` where stderr is the journal."
        ),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe messages that are written."),
    ] = "info"
    refused_interval_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="One sample line per refusal reason is logged at most this often.",
        ),
    ] = 60.0


Ratio = Annotated[float, Meta(ge=0.0001, le=0.9999)]


class Thresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the alerts that `llmstatsd kit` writes stand; the daemon does not use them."""

    error_rate: Annotated[
        float,
        Meta(
            ge=0.0001,
            le=1_000_000,
            description="Errors per second of one model and type (HighErrorRate).",
        ),
    ] = 0.1
    error_ratio: Annotated[
        Ratio, Meta(description="Share of a model's requests that fail (HighErrorRatio).")
    ] = 0.05
    latency_seconds: Annotated[
        float,
        _bucket_bound(
            "llm_request_duration_seconds",
            "--latency",
            "p95 of request durations (HighLatency, HighModelLatency), and what counts as slow.",
        ),
    ] = 10.0
    objective_ratio: Annotated[
        float,
        Meta(
            # The fast burn alert is at 14.4 times the budget, which must stay below all requests.
            ge=0.94,
            le=0.99999,
            description="Share of requests meant to succeed; the rest is the error budget"
            " (ErrorBudgetBurnFast, ErrorBudgetBurnSlow).",
        ),
    ] = 0.99
    minimum_requests: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Requests under which alerts on shares and p95 by model keep quiet: in five"
            " minutes, for burn alerts in their hour or six.",
        ),
    ] = 20
    rate_limited_ratio: Annotated[
        Ratio, Meta(description="Share of a model's requests answered by a 429 (RateLimited).")
    ] = 0.1
    fallback_ratio: Annotated[
        Ratio, Meta(description="Share of requests answered by a fallback (FallbackSpike).")
    ] = 0.1
    model_load_seconds: Annotated[
        float,
        _bucket_bound(
            "llm_model_load_duration_seconds",
            "--model-load",
            "p95 of model load durations (SlowModelLoad).",
        ),
    ] = 30.0
    saturated_ratio: Annotated[
        Ratio,
        Meta(description="Share of observations above the last bucket bound (TopBucketSaturated)."),
    ] = 0.01
    dropped_ratio: Annotated[
        Ratio, Meta(description="Share of datagrams lost at the socket (DatagramsDropped).")
    ] = 0.001
    refused_ratio: Annotated[
        Ratio, Meta(description="Share of lines refused for one reason (LinesRefused).")
    ] = 0.01
    folded_ratio: Annotated[
        Ratio,
        Meta(description="Share of samples of one series put into `other` (CardinalityFolded)."),
    ] = 0.01
    scrape_duration_seconds: Annotated[
        float,
        Meta(
            ge=0.001,
            # Prometheus gives up after its scrape_timeout of 10 s, and the target is down then.
            le=9,
            description="Mean duration of a scrape (ScrapeSlow).",
            extra={"flag": "--scrape-duration"},
        ),
    ] = 5.0


class Kit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What else `llmstatsd kit` writes into its files; the daemon does not use it."""

    runbooks_url: Annotated[
        PageUrl,
        Meta(description="Folder of the runbooks that alerts and dashboards link to."),
    ] = "https://github.com/llmstatsd/llmstatsd/blob/main/docs/how-to/runbooks"


KIT_SECTIONS: Final = frozenset({"thresholds", "kit"})
"""Sections that have their flags on `llmstatsd kit`; those of all others are on `serve`."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of one daemon, valid and complete.

    `aliases` maps label -> pattern -> value, in the order of the file.
    `pinned` maps label -> values that exist from the start.
    `series` maps the name of a documented series to its options.
    """

    statsd: Statsd = Statsd()
    http: Http = Http()
    limits: Limits = Limits()
    aliases: dict[LabelName, dict[LabelValue, LabelValue]] = {}
    pinned: dict[LabelName, tuple[LabelValue, ...]] = {}
    series: dict[str, SeriesOptions] = {}
    state: State = State()
    host: Host = Host()
    gpu: Gpu = Gpu()
    log: Log = Log()
    thresholds: Thresholds = Thresholds()
    kit: Kit = Kit()

    def buckets(self, series: str) -> tuple[float, ...]:
        """The finite upper bounds of a documented series in force; none if it is a counter."""
        changed = self.series.get(series, SeriesOptions()).buckets
        return changed or CATALOG[series].buckets or ()


class Option(Struct, frozen=True, kw_only=True):
    """One scalar option as flags and reference pages need it.

    `type` is boolean, integer, number or text; `allowed` says the range in words.
    `flag` and `variable` are the other two names it can be set by.
    """

    section: str
    name: str
    type: str
    default: bool | int | float | str
    allowed: str
    help: str
    flag: str
    variable: str
    hint: Any

    @property
    def key(self) -> str:
        """Its place in the file: `statsd.udp`."""
        return f"{self.section}.{self.name}"

    @property
    def default_text(self) -> str:
        """Its default as TOML writes it."""
        return json.dumps(self.default)

    @property
    def is_kit(self) -> bool:
        """Whether it is for `llmstatsd kit` and not for `serve`."""
        return self.section in KIT_SECTIONS

    def value(self, config: Config) -> Any:
        """What it is set to."""
        return getattr(getattr(config, self.section), self.name)


class Problem(Struct, frozen=True):
    """One thing wrong: where it stands, what it is, and what may stand there instead.

    `source` is the file's path, `environment` or `command line`.
    `key` and `value` are empty if the source as a whole is wrong.
    """

    source: str
    key: str
    value: str
    allowed: str

    def __str__(self) -> str:
        key = self.key if self.key.isprintable() else json.dumps(self.key)
        place = f"{self.source}: {key} = {self.value}" if key else self.source
        return f"{place}; allowed: {self.allowed}"


class ConfigError(Exception):
    """Everything wrong in every source at once; `str()` is one line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        title = f"{count} problem{'s' if count > 1 else ''} in the configuration:"
        return "\n  ".join([title, *map(str, self.problems)])


@functools.cache
def options() -> tuple[Option, ...]:
    """Every scalar option in the order of the sample file; tables are not among them."""
    return tuple(
        _option(section, field.name, hint, field.default)
        for section, struct in _hints(Config).items()
        if _is_struct(struct)
        for field, hint in zip(msgspec.structs.fields(struct), _hints(struct).values(), strict=True)
    )


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """The configuration of a file (None: no file), `LLMSTATSD_*` variables and flags.

    `flags` maps a flag as it is typed (`--http`) to its value; None means not given.
    A flag beats a variable, a variable beats the file, the file beats the default.
    Raises ConfigError with every problem of all three sources, overridden values too.
    """
    problems: list[Problem] = []
    placed: list[_Placed] = []
    values = _Source(str(path), problems, placed).read_file(path) if path is not None else {}
    _Source("environment", problems, placed).overlay(
        {option.variable: option for option in options()}, _own_variables(environ), values
    )
    _Source("command line", problems, placed).overlay(
        {option.flag: option for option in options()},
        {flag: value for flag, value in flags.items() if value is not None},
        values,
    )
    if not problems:
        config = msgspec.convert(values, Config)
        problems += [*_pinned_too_many(config, str(path)), *_misplaced(config, str(path), placed)]
    if problems:
        raise ConfigError(problems)
    return config


def _pinned_too_many(config: Config, source: str) -> Iterator[Problem]:
    most, pinned = config.limits.exposition_lines, _pinned_lines(config)
    if pinned > most:
        allowed = f"at most limits.exposition_lines = {most} lines of them; these make {pinned}"
        yield Problem(source, "pinned", shown(config.pinned), allowed)


class _Placed(Struct, frozen=True):
    """A number of seconds, from any source, that has to stand on a bucket bound of a series."""

    source: str
    key: str
    value: float
    hint: Any


def _misplaced(config: Config, source: str, placed: list[_Placed]) -> Iterator[Problem]:
    """The numbers that stand on no bucket bound, and defaults that changed buckets left alone."""
    given = [number.hint for number in placed]
    defaults = [
        _Placed(source, option.key, option.value(config), option.hint)
        for option in options()
        if option.hint not in given
    ]
    for number in [*placed, *defaults]:
        for series in _said_by(number.hint, "bound_of"):
            bounds = config.buckets(series)[:-1]
            if number.value not in bounds:
                names = ", ".join(map(shown, bounds)) or "it has but one"
                allowed = f"{_allowed(number.hint)}: {names}"
                yield Problem(number.source, number.key, shown(number.value), allowed)


def _pinned_lines(config: Config) -> int:
    """Exposition lines of the label sets that exist from the start because of pinned values."""
    lines = 0
    for documented in CATALOG.values():
        if not documented.extra:
            options = config.series.get(documented.name, SeriesOptions())
            labels = (*documented.labels, *options.extra_labels)
            values = values_from_start(documented.name, labels, config.pinned)
            buckets = config.buckets(documented.name)
            lines += math.prod(map(len, values)) * lines_of(documented.type, buckets)
    return lines


def changed(config: Config) -> Iterator[tuple[Option, object]]:
    """The scalar options that differ from their defaults, each with its value."""
    for option in options():
        value = option.value(config)
        if value != option.default:
            yield option, value


def entries(config: Config) -> Iterator[tuple[str, str]]:
    """What the tables hold: each entry's place in the file, and its value, shown.

    As in `aliases.model."gpt-4o-2024-08-06"`, `pinned.model`, `series.llm_total.buckets`.
    """
    for place, value in _entries(config):
        yield place, _shown_entry(value)


def entries_total(config: Config) -> int:
    """How many of them there are."""
    series = sum(sum(map(bool, msgspec.structs.astuple(one))) for one in config.series.values())
    return sum(map(len, config.aliases.values())) + len(config.pinned) + series


def _entries(config: Config) -> Iterator[tuple[str, object]]:
    for label, rules in config.aliases.items():
        for pattern, alias in rules.items():
            yield _place("aliases", label, pattern), alias
    for label, values in config.pinned.items():
        yield _place("pinned", label), values
    for name, one in config.series.items():
        for option, value in msgspec.structs.asdict(one).items():
            if value:
                yield _place("series", name, option), value


def _shown_entry(value: object) -> str:
    """One that is cut ends in a checksum, so that values which differ are shown so."""
    whole = json.dumps(value)
    if len(whole) <= ENTRY_CHARACTERS:
        return whole
    return f"{whole[: ENTRY_CHARACTERS - 14]} ... #{zlib.crc32(whole.encode()):08x}"


def _place(*keys: str) -> str:
    """A dotted key of TOML."""
    return ".".join(key if _BARE_KEY.fullmatch(key) else json.dumps(key) for key in keys)


def on_bounds() -> Iterator[tuple[Option, str]]:
    """The options that have to stand on a bucket bound, each with the series of the buckets."""
    for option in options():
        for series in _said_by(option.hint, "bound_of"):
            yield option, series


def _own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(VARIABLE_PREFIX)
        and name not in NO_OPTIONS
        and not _SERVICE_LINK.fullmatch(name)
    }


class _Source:
    """Reads one source, and adds what is wrong in it to the problems of all sources."""

    def __init__(self, name: str, problems: list[Problem], placed: list[_Placed]) -> None:
        self._name = name
        self._problems = problems
        self._placed = placed

    def read_file(self, path: Path) -> dict[str, Any]:
        document = self._parse(path)
        values = self._struct("", document, Config)
        for name, series in values.get("series", {}).items():
            self._check_series(name, series)
        return values

    def overlay(
        self, known: Mapping[str, Option], given: Mapping[str, object], values: dict[str, Any]
    ) -> None:
        """Put texts of variables or flags over the values of a weaker source."""
        for name, value in given.items():
            option = known.get(name)
            if option is None:
                self._refuse_unknown(name, value, known)
                continue
            section = values.setdefault(option.section, {})
            section[option.name] = self._leaf(name, value, option.hint, strict=False)

    def _parse(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_LIMIT + 1)
            if len(content) > FILE_BYTES_LIMIT:
                raise ValueError(f"at most {FILE_BYTES_LIMIT} bytes")
            return tomllib.loads(content.decode())
        except OSError as error:
            self._refuse_whole(f"a file that can be read ({error.strerror})")
        except (ValueError, RecursionError) as error:
            self._refuse_whole(f"TOML 1.0 in UTF-8 ({error})")
        return {}

    def _value(self, key: str, value: object, hint: Any) -> Any:
        """The value converted to its declared type; None after a problem."""
        if _is_struct(hint):
            return self._struct(key, value, hint)
        if get_origin(hint) is dict:
            return self._table(key, value, *get_args(hint))
        if get_origin(hint) is tuple:
            return self._list(key, value, get_args(hint)[0])
        return self._leaf(key, value, hint)

    def _struct(self, key: str, value: object, struct: type[Struct]) -> dict[str, Any]:
        hints = {_dotted(key, name): (name, hint) for name, hint in _hints(struct).items()}
        values = {}
        for place, entry in self._entries(key, value):
            if place in hints:
                name, hint = hints[place]
                values[name] = self._value(place, entry, hint)
            else:
                self._refuse_unknown(place, entry, [*hints, *(option.key for option in options())])
        return values

    def _table(self, key: str, value: object, name_hint: Any, hint: Any) -> dict[str, Any]:
        values = {}
        for place, entry in self._entries(key, value):
            name = place.removeprefix(f"{key}.")
            self._leaf(f"a name in {key}", name, name_hint)
            values[name] = self._value(place, entry, hint)
        return values

    def _entries(self, key: str, value: object) -> list[tuple[str, object]]:
        if isinstance(value, dict):
            return [(_dotted(key, name), entry) for name, entry in value.items()]
        self._refuse(key, value, "a table")
        return []

    def _list(self, key: str, value: object, hint: Any) -> list[Any]:
        if not isinstance(value, list):
            self._refuse(key, value, "a list")
            return []
        read = [self._leaf(f"{key}[{at}]", entry, hint) for at, entry in enumerate(value)]
        entries = [entry for entry in read if entry is not None]
        if len(set(entries)) < len(entries):
            self._refuse(key, value, "each entry once")
        return entries

    def _leaf(self, key: str, value: object, hint: Any, *, strict: bool = True) -> Any:
        """A scalar or a list of buckets; `strict` off reads the text of a variable or flag."""
        try:
            converted = msgspec.convert(value, hint, strict=strict)
            for check in _said_by(hint, "check"):
                check(converted)
        except (ValueError, msgspec.ValidationError):
            self._refuse(key, value, _allowed(hint))
            return None
        if any(_said_by(hint, "bound_of")):
            self._placed.append(_Placed(self._name, key, converted, hint))
        return converted

    def _check_series(self, name: str, series: dict[str, Any]) -> None:
        key = f"series.{name}"
        documented = CATALOG.get(name)
        if documented is None:
            known = [f"series.{series_name}" for series_name in CATALOG]
            self._refuse(key, series, f"a documented series ({_nearest(key, known)})")
            return
        buckets, labels = series.get("buckets"), series.get("extra_labels", [])
        if buckets is not None and documented.type != "histogram":
            self._refuse(f"{key}.buckets", buckets, f"on a histogram only; {name} is a counter")
        bound = documented.kept_bound
        if buckets is not None and bound is not None and bound not in buckets:
            self._refuse(f"{key}.buckets", buckets, f"with {bound:g} among them: an alert needs it")
        if len(labels) > EXTRA_LABELS_LIMIT:
            self._refuse(f"{key}.extra_labels", labels, f"at most {EXTRA_LABELS_LIMIT} labels")
        if set(labels) & set(documented.labels):
            has = " and ".join(documented.labels)
            self._refuse(f"{key}.extra_labels", labels, f"labels it has not yet (it has {has})")

    def _refuse_unknown(self, key: str, value: object, known: Iterable[str]) -> None:
        self._refuse(key, value, f"known names only ({_nearest(key, known)})")

    def _refuse_whole(self, allowed: str) -> None:
        self._problems.append(Problem(self._name, "", "", allowed))

    def _refuse(self, key: str, value: object, allowed: str) -> None:
        self._problems.append(Problem(self._name, key, shown(value), allowed))


_TYPE_NAMES: Final = {bool: "boolean", int: "integer", float: "number", str: "text"}


def _option(section: str, name: str, hint: Any, default: Any) -> Option:
    key = f"{section}_{name}"
    flag = name if section in KIT_SECTIONS else key
    return Option(
        section=section,
        name=name,
        type=_TYPE_NAMES[type(default)],
        default=default,
        allowed=_allowed(hint),
        help=" ".join(meta.description for meta in _metas(hint) if meta.description),
        flag=next(_said_by(hint, "flag"), f"--{flag.replace('_', '-')}"),
        variable=VARIABLE_PREFIX + key.upper(),
        hint=hint,
    )


def _allowed(hint: Any) -> str:
    """The range of a declared type in words."""
    for text in _said_by(hint, "allowed"):
        return str(text)
    base, meta = get_args(hint)[0], _metas(hint)[0]
    if base is bool:
        return "true or false"
    if get_origin(base) is Literal:
        *others, last = get_args(base)
        return f"{', '.join(others)} or {last}"
    number = "a whole number" if base is int else "a number"
    return f"{number} from {meta.ge} to {meta.le}"


def _said_by(hint: Any, word: str) -> Iterator[Any]:
    """What the metadata of a declared type says under one word, those of `| None` too."""
    for part in (hint, *get_args(hint)):
        for meta in _metas(part):
            if meta.extra and word in meta.extra:
                yield meta.extra[word]


def _metas(hint: Any) -> tuple[Meta, ...]:
    return getattr(hint, "__metadata__", ())


@functools.cache
def _hints(struct: type[Struct]) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _nearest(name: str, known: Iterable[str]) -> str:
    return f"the nearest is {difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]}"


def shown(value: object) -> str:
    """The value in one bounded line of ASCII, near to what stands in the file."""
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # an integer too long to be written in decimal
        return "a number too long to show"
    return text if len(text) <= 80 else f"{text[:76]} ..."
