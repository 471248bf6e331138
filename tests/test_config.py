"""One declaration of every option: sources, precedence, ranges, problems, sample, reference."""

import re
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

import msgspec
import pytest

from llmstatsd import address, config
from llmstatsd.catalog import CATALOG
from llmstatsd.config import Config, ConfigError, Option, Problem, SeriesOptions, load, options

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "configs" / "llmstatsd.toml"
REFERENCE = ROOT / "docs" / "reference" / "configuration.md"
CLI_REFERENCE = ROOT / "docs" / "reference" / "cli.md"

BY_KEY = {option.key: option for option in options()}
BOUND_OF = {
    "thresholds.latency_seconds": "llm_request_duration_seconds",
    "thresholds.model_load_seconds": "llm_model_load_duration_seconds",
}
"""Options that stand on a bucket bound, with the series of the buckets."""
NUMBERS = [
    option
    for option in options()
    if option.type in ("integer", "number") and option.key not in BOUND_OF
]
BOUNDS = re.compile(r"from (\S+) to (\S+)")

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_toml(text: str) -> Path:
        path = tmp_path / "llmstatsd.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_toml


def problems_of(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, flags or {})
    return caught.value.problems


# Sources and precedence


def test_without_any_source_every_option_has_its_default() -> None:
    loaded = load(None, {}, {})
    assert loaded == Config()
    assert {option.key: option.value(loaded) for option in options()} == {
        option.key: option.default for option in options()
    }


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((), 3),
        (("file",), 4),
        (("file", "variable"), 5),
        (("file", "variable", "flag"), 6),
        (("variable",), 5),
        (("variable", "flag"), 6),
        (("file", "flag"), 6),
    ],
)
def test_a_flag_beats_a_variable_beats_the_file(
    write: Write, sources: tuple[str, ...], expected: int
) -> None:
    path = write("[http]\ngzip_level = 4\n") if "file" in sources else None
    environ = {"LLMSTATSD_HTTP_GZIP_LEVEL": "5"} if "variable" in sources else {}
    flags = {"--http-gzip-level": "6" if "flag" in sources else None}
    assert load(path, environ, flags).http.gzip_level == expected


OTHER_VALUES = {"boolean": "false", "integer": "4096", "number": "2.5", "text": "/data"}
OTHER_TEXTS = {
    "statsd.udp": "[::1]:0",
    "statsd.unix": "/run/llmstatsd/dsd.sock",
    "statsd.unix_mode": "0660",
    "statsd.unix_group": "statsd",
    "statsd.tcp": "127.0.0.1:8125",
    "statsd.allow_from": "10.0.0.0/8,::1",
    "statsd.absolute_signed_gauges": "true",
    "statsd.lane": "portable",
    "statsd.lanes": "4",
    "http.listen": "127.0.0.1:0",
    "http.gzip_level": "9",
    "limits.labels_per_series": "3",
    "http.concurrent_scrapes": "2",
    "http.streams": "2",
    "http.tap": "true",
    "http.reload": "true",
    "log.format": "json",
    "log.level": "error",
    "thresholds.latency_seconds": "20",
    "thresholds.model_load_seconds": "60",
    "kit.runbooks_url": "https://runbooks.example/llm",
    **{
        option.key: "0.25"
        for option in options()
        if option.section == "thresholds" and option.name.endswith("_ratio")
    },
    "thresholds.objective_ratio": "0.999",
}


@pytest.mark.parametrize("option", options(), ids=lambda option: option.key)
def test_every_option_is_set_by_its_variable_and_by_its_flag(option: Option) -> None:
    text = OTHER_TEXTS.get(option.key, OTHER_VALUES[option.type])
    by_variable = load(None, {option.variable: text}, {})
    by_flag = load(None, {}, {option.flag: text})
    assert by_variable == by_flag
    assert [changed for changed, _ in config.changed(by_flag)] == [option]


def test_flags_variables_and_keys_are_unique_names() -> None:
    for names in ("flag", "variable", "key"):
        assert len({getattr(option, names) for option in options()}) == len(options())
    assert BY_KEY["http.listen"].flag == "--http"
    assert BY_KEY["statsd.udp"].flag == "--statsd-udp"


def test_every_option_says_what_it_is_for() -> None:
    assert all(option.help.endswith(".") for option in options())


@pytest.mark.parametrize("text", ["true", "TRUE", "1"])
def test_a_switch_in_a_variable_is_true_false_1_or_0(text: str) -> None:
    assert load(None, {"LLMSTATSD_HOST_ENABLED": text}, {}).host.enabled is True


def test_tables_keep_their_content_and_the_order_of_the_file(write: Write) -> None:
    loaded = load(
        write(
            """
            aliases.model = { "gpt-4o-mini*" = "mini", "gpt-4o-*" = "gpt-4o", "a.b" = "é" }
            pinned.model = ["gpt-4o"]
            [series.llm_request_duration_seconds]
            buckets = [0.5, 1, 10, 20]
            extra_labels = ["tenant", "region"]
            [series.llm_fallback_total]
            """
        ),
        {},
        {},
    )
    assert list(loaded.aliases["model"].items()) == [
        ("gpt-4o-mini*", "mini"),
        ("gpt-4o-*", "gpt-4o"),
        ("a.b", "é"),
    ]
    assert loaded.pinned == {"model": ("gpt-4o",)}
    changed = loaded.series["llm_request_duration_seconds"]
    assert changed.buckets == (0.5, 1.0, 10.0, 20.0)
    assert changed.extra_labels == ("tenant", "region")
    assert loaded.series["llm_fallback_total"] == config.SeriesOptions()


def test_the_configuration_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(AttributeError):
        load(None, {}, {}).statsd.udp = ":1"  # type: ignore[misc]


# Ranges


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.key)
def test_a_number_holds_at_both_ends_of_its_range_and_not_beyond(
    write: Write, option: Option
) -> None:
    low, high = bounds_of(option)
    step = 1 if option.type == "integer" else 0.001
    for value in (low, high):
        path = write(f"[{option.section}]\n{option.name} = {value}\n")
        assert option.value(load(path, {}, {})) == float(value)
        assert option.value(load(None, {option.variable: value}, {})) == float(value)
    for beyond in (number(low) - step, number(high) + step):
        path = write(f"[{option.section}]\n{option.name} = {beyond}\n")
        flags = {option.flag: str(beyond)}
        assert [
            (problem.key, problem.value, problem.allowed)
            for problem in problems_of(path, {}, flags)
        ] == [
            (option.key, str(beyond), option.allowed),
            (option.flag, f'"{beyond}"', option.allowed),
        ]


def bounds_of(option: Option) -> tuple[str, str]:
    bounds = BOUNDS.search(option.allowed)
    assert bounds is not None
    return bounds[1], bounds[2]


def number(text: str) -> float:
    return float(text) if "." in text else int(text)


@pytest.mark.parametrize("word", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.key)
def test_no_number_is_nan_or_infinite(write: Write, option: Option, word: str) -> None:
    path = write(f"[{option.section}]\n{option.name} = {word}\n")
    flags = {option.flag: word}
    assert len(problems_of(path, {option.variable: word}, flags)) == 3


# Thresholds on bucket bounds


@pytest.mark.parametrize("key", BOUND_OF)
def test_a_threshold_stands_on_any_bucket_bound_but_the_last(key: str) -> None:
    option, series = BY_KEY[key], CATALOG[BOUND_OF[key]]
    assert series.buckets
    for bound in series.buckets[:-1]:
        assert option.value(load(None, {option.variable: str(bound)}, {})) == bound
    problems_of(None, {option.variable: str(series.buckets[-1])})


@pytest.mark.parametrize("value", ["7", "-1", "0", "10.000001", "nan", "inf", "1e300"])
@pytest.mark.parametrize("key", BOUND_OF)
def test_a_threshold_off_a_bound_is_refused_in_every_source_with_the_bounds(
    write: Write, key: str, value: str
) -> None:
    option, series = BY_KEY[key], CATALOG[BOUND_OF[key]]
    assert series.buckets
    path = write(f"[{option.section}]\n{option.name} = {value}\n")
    problems = problems_of(path, {option.variable: value}, {option.flag: value})
    assert [problem.key for problem in problems] == [option.key, option.variable, option.flag]
    listed = ", ".join(map(str, series.buckets[:-1]))
    assert {problem.allowed for problem in problems} == {f"{option.allowed}: {listed}"}


@pytest.mark.parametrize("key", BOUND_OF)
def test_a_threshold_stands_on_the_buckets_in_force(write: Write, key: str) -> None:
    option = BY_KEY[key]
    path = write(f"[series.{BOUND_OF[key]}]\nbuckets = [7.0, 10.0, 11.5, 40.0]\n")
    loaded = load(path, {}, {option.flag: "11.5"})
    assert loaded.buckets(BOUND_OF[key]) == (7.0, 10.0, 11.5, 40.0)
    for refused in ("40", "20"):
        (problem,) = problems_of(path, {}, {option.flag: refused})
        assert problem.allowed.endswith(": 7.0, 10.0, 11.5")


def test_buckets_without_the_default_threshold_ask_for_another(write: Write) -> None:
    path = write("[series.llm_model_load_duration_seconds]\nbuckets = [1.0, 2.0]\n")
    (problem,) = problems_of(path)
    assert (problem.source, problem.key) == (str(path), "thresholds.model_load_seconds")
    assert problem.allowed.endswith(": 1.0")


def test_a_fast_burn_of_the_error_budget_is_always_below_all_requests() -> None:
    lowest, _ = bounds_of(BY_KEY["thresholds.objective_ratio"])
    assert 14.4 * (1 - float(lowest)) < 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/runbooks",
        "docs/how-to/runbooks",
        "https://",
        "https://host/?page=",
        "https://host/#page",
        "https://host/a b",
        'https://host/"',
        "https://host/{{",
        "https://host/\u00fc",
        "https://host/" + "a" * 500,
    ],
    ids=ascii,
)
def test_runbooks_have_a_plain_http_url(url: str) -> None:
    problems_of(None, {}, {"--runbooks-url": url})


# Problems


@pytest.mark.parametrize(
    ("toml", "key", "allowed"),
    [
        # scalars
        ("statsd.udp = 'localhost'", "statsd.udp", "[IPv6]:PORT"),
        ("statsd.udp = 8125", "statsd.udp", "HOST:PORT"),
        ("statsd.udp = ''", "statsd.udp", "HOST:PORT"),
        ("http.listen = '::1:80'", "http.listen", "[IPv6]:PORT"),
        ("http.listen = ':65536'", "http.listen", "0 to 65535"),
        ("statsd.cache_entries = '16384'", "statsd.cache_entries", "whole number"),
        ("statsd.cache_entries = 16384.5", "statsd.cache_entries", "whole number"),
        ("statsd.cache_entries = true", "statsd.cache_entries", "whole number"),
        (f"statsd.cache_entries = 0x{'f' * 9000}", "statsd.cache_entries", "whole number"),
        ("statsd.librato_tags = 1", "statsd.librato_tags", "true or false"),
        ("statsd.librato_tags = 'true'", "statsd.librato_tags", "true or false"),
        ("limits.idle_seconds = 1979-05-27", "limits.idle_seconds", "a number"),
        ("limits.idle_seconds = [1]", "limits.idle_seconds", "a number"),
        ("log.level = 'INFO'", "log.level", "debug, info, warning or error"),
        ("host.disk_path = ''", "host.disk_path", "an absolute path"),
        ("host.disk_path = 'data'", "host.disk_path", "an absolute path"),
        (r'host.disk_path = "/a\u0000b"', "host.disk_path", "an absolute path"),
        # shapes and unknown names
        ("http = 1", "http", "a table"),
        ("[[http]]", "http", "a table"),
        ("statsd.host = { }", "statsd.host", "known names"),
        ("[statsdd]", "statsdd", "nearest is statsd)"),
        ("statsd.receive_bufer_bytes = 1", "statsd.receive_bufer_bytes", ".receive_buffer_bytes)"),
        ("statsd.gzip_level = 1", "statsd.gzip_level", "nearest is http.gzip_level)"),
        ("udp = ':1'", "udp", "nearest is statsd.udp)"),
        # aliases
        ("aliases = 'gpt'", "aliases", "a table"),
        ("aliases.model = 'gpt'", "aliases.model", "a table"),
        ("aliases.le = {}", "a name in aliases", "a label name"),
        ("aliases.__model = {}", "a name in aliases", "a label name"),
        ("aliases.9 = {}", "a name in aliases", "a label name"),
        ("aliases.'' = {}", "a name in aliases", "a label name"),
        ("aliases.'a-b' = {}", "a name in aliases", "a label name"),
        ("aliases.model.a = ''", "aliases.model.a", "1 to 128 characters"),
        (f"aliases.model.a = '{'x' * 129}'", "aliases.model.a", "1 to 128 characters"),
        (r'aliases.model.a = "\n"', "aliases.model.a", "no control characters"),
        ("aliases.model.a = 1", "aliases.model.a", "1 to 128 characters"),
        ("aliases.model.gpt-4.1 = 'x'", "aliases.model.gpt-4", "a text"),
        ("aliases.model.'' = 'x'", "a name in aliases.model", "1 to 128 characters"),
        # pinned
        ("pinned = ['a']", "pinned", "a table"),
        ("pinned.model = 'a'", "pinned.model", "a list"),
        ("pinned.le = ['a']", "a name in pinned", "a label name"),
        ("pinned.model = ['a', '']", "pinned.model[1]", "1 to 128 characters"),
        (f"pinned.model = ['{'x' * 129}']", "pinned.model[0]", "1 to 128 characters"),
        ("pinned.model = [['a']]", "pinned.model[0]", "1 to 128 characters"),
        ("pinned.model = ['a', 'b', 'a']", "pinned.model", "each entry once"),
        # series
        ("series.llm_token_total = {}", "series.llm_token_total", "is series.llm_tokens_total)"),
        ("series.llm_tokens_total = 1", "series.llm_tokens_total", "a table"),
        (
            "series.llm_tokens_total.labels = []",
            "series.llm_tokens_total.labels",
            "nearest is series.llm_tokens_total.extra_labels)",
        ),
        (
            "series.llm_tokens_total.buckets = [1]",
            "series.llm_tokens_total.buckets",
            "on a histogram only; llm_tokens_total is a counter",
        ),
    ],
    ids=lambda text: text[:60],
)
def test_a_bad_file_names_the_key_and_what_is_allowed(
    write: Write, toml: str, key: str, allowed: str
) -> None:
    path = write(toml)
    (problem,) = problems_of(path)
    assert (problem.source, problem.key) == (str(path), key)
    assert allowed in problem.allowed


COUNTER = "llm_tokens_total"
TOKENS = f"series.{COUNTER}"
BUCKETS_KEY = "series.llm_request_duration_seconds.buckets"
LABELS_KEY = "series.llm_request_duration_seconds.extra_labels"


@pytest.mark.parametrize(
    "buckets",
    [
        *("[]", "1", "'1'", "['1']", "[2, 1]", "[1, 1]", "[0]", "[-1, 1]", "[1, nan]", "[nan]"),
        *("[inf]", "[1, inf]", "[true]", f"[{'9' * 400}]", str(list(range(1, 202)))),
    ],
    ids=lambda text: text[:20],
)
def test_buckets_are_1_to_200_ascending_finite_positive_numbers(write: Write, buckets: str) -> None:
    (problem,) = problems_of(write(f"{BUCKETS_KEY} = {buckets}"))
    assert problem.key == BUCKETS_KEY
    assert problem.allowed == "1 to 200 numbers, finite, above 0 and ascending"


def test_200_buckets_are_allowed(write: Write) -> None:
    loaded = load(write(f"{BUCKETS_KEY} = {list(range(1, 201))}"), {}, {})
    assert loaded.series["llm_request_duration_seconds"].buckets == tuple(range(1, 201))


@pytest.mark.parametrize(
    ("labels", "key", "allowed"),
    [
        ("['le']", f"{LABELS_KEY}[0]", "a label name"),
        ("['__x']", f"{LABELS_KEY}[0]", "a label name"),
        ("['a', '9a']", f"{LABELS_KEY}[1]", "a label name"),
        ("['a b']", f"{LABELS_KEY}[0]", "a label name"),
        ("['']", f"{LABELS_KEY}[0]", "a label name"),
        ("[1]", f"{LABELS_KEY}[0]", "a label name"),
        ("'tenant'", LABELS_KEY, "a list"),
        ("['model']", LABELS_KEY, "labels it has not yet (it has model and operation)"),
        ("['a', 'a']", LABELS_KEY, "each entry once"),
        (str(list("abcdefghi")), LABELS_KEY, "at most 8 labels"),
    ],
)
def test_extra_labels_are_up_to_8_new_label_names(
    write: Write, labels: str, key: str, allowed: str
) -> None:
    (problem,) = problems_of(write(f"{LABELS_KEY} = {labels}"))
    assert (problem.key, problem.allowed.startswith(allowed)) == (key, True)


def test_8_extra_labels_are_allowed_on_every_documented_series(write: Write) -> None:
    toml = "\n".join(f"[series.{name}]\nextra_labels = {list('abcdefgh')}" for name in CATALOG)
    assert load(write(toml), {}, {}).series.keys() == CATALOG.keys()


def test_label_values_of_128_characters_are_allowed(write: Write) -> None:
    long = "é" * 128
    loaded = load(write(f"aliases.model.'{long}' = '{long}'\npinned.model = ['{long}']"), {}, {})
    assert loaded.aliases["model"] == {long: long}
    assert loaded.pinned["model"] == (long,)


def test_all_problems_of_all_sources_stand_in_one_message(write: Write) -> None:
    path = write(
        """
        [statsd]
        udp = "localhost"
        recieve_buffer_bytes = 65536
        [limits]
        label_values = 0
        [series.llm_tokens_total]
        buckets = [1]
        extra_labels = ["model"]
        """
    )
    environ = {"LLMSTATSD_HTTP_GZIP_LEVEL": "12", "LLMSTATSD_LOG_LEVLE": "info", "PATH": "/bin"}
    flags = {"--http": "here", "--log-level": "loud", "--host-enabled": None}
    with pytest.raises(ConfigError) as caught:
        load(path, environ, flags)
    known = "allowed: known names only (the nearest is"
    own, environment, command_line = f"  {path}: ", "  environment: ", "  command line: "
    assert str(caught.value).splitlines() == [
        "9 problems in the configuration:",
        f'{own}statsd.udp = "localhost"; allowed: {address.ALLOWED}',
        f"{own}statsd.recieve_buffer_bytes = 65536; {known} statsd.receive_buffer_bytes)",
        f"{own}limits.label_values = 0; allowed: a whole number from 1 to 100000",
        f"{own}{TOKENS}.buckets = [1.0]; allowed: on a histogram only; {COUNTER} is a counter",
        f'{own}{TOKENS}.extra_labels = ["model"]; allowed: labels it has not yet (it has model)',
        f'{environment}LLMSTATSD_HTTP_GZIP_LEVEL = "12"; allowed: a whole number from 1 to 9',
        f'{environment}LLMSTATSD_LOG_LEVLE = "info"; {known} LLMSTATSD_LOG_LEVEL)',
        f'{command_line}--http = "here"; allowed: {address.ALLOWED}',
        f'{command_line}--log-level = "loud"; allowed: debug, info, warning or error',
    ]


def test_a_bad_value_is_a_problem_even_where_a_flag_overrides_it(write: Write) -> None:
    (problem,) = problems_of(write("http.gzip_level = 12"), {}, {"--http-gzip-level": "3"})
    assert problem.key == "http.gzip_level"


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        (b"[statsd", "TOML 1.0 in UTF-8 ("),
        (b"[statsd]\nudp = \n", "at line 2, column 7"),
        (b"[http]\n[http]\n", "at line 2"),
        (b"a = 1\na = 2\n", "at line 2"),
        (b"# \xff\n", "TOML 1.0 in UTF-8 ("),
        (b"a = " + b"[" * 20_000, "TOML 1.0 in UTF-8 ("),
        (b"#" * (config.FILE_BYTES_LIMIT + 1), "at most 1048576 bytes"),
    ],
    ids=["header", "value", "table", "key", "bytes", "depth", "size"],
)
def test_a_file_that_is_no_toml_is_a_problem(tmp_path: Path, content: bytes, allowed: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    first, second = problems_of(path, {"LLMSTATSD_LOG_LEVEL": ""})
    assert (first.source, first.key, first.value) == (str(path), "", "")
    assert allowed in first.allowed
    assert second.key == "LLMSTATSD_LOG_LEVEL"


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert [str(problem) for problem in problems_of(missing)] == [
        f"{missing}; allowed: a file that can be read (No such file or directory)"
    ]
    assert "Is a directory" in problems_of(tmp_path)[0].allowed


def test_a_long_value_is_shown_shortened_and_in_ascii(write: Write) -> None:
    (problem,) = problems_of(write(f"statsd.udp = '{'é' * 5000}'"))
    assert len(problem.value) == 80
    assert problem.value.isascii()


def test_a_key_with_a_line_end_stays_on_its_line(write: Write) -> None:
    (problem,) = problems_of(write(r'"udp\n\u001b[2J" = 1'))
    assert r': "udp\n\u001b[2J" = 1; allowed: ' in str(problem)


@pytest.mark.parametrize(
    "variable",
    [
        "LLMSTATSD_NO_EXTENSIONS",
        "LLMSTATSD_SERVICE_HOST",
        "LLMSTATSD_SERVICE_PORT",
        "LLMSTATSD_SERVICE_PORT_METRICS",
        "LLMSTATSD_PORT",
        "LLMSTATSD_PORT_8125_UDP",
        "LLMSTATSD_PORT_8125_UDP_ADDR",
        "LLMSTATSD_PORT_2112_TCP_PROTO",
        "STATSD_HOST",
        "llmstatsd_http_listen",
    ],
)
def test_variables_of_others_are_left_alone(variable: str) -> None:
    assert load(None, {variable: "tcp://10.0.0.1:8125"}, {}) == Config()


@pytest.mark.parametrize(
    "variable",
    ["LLMSTATSD_HTTP", "LLMSTATSD_", "LLMSTATSD_http_listen", "LLMSTATSD_PORT_8125"],
)
def test_any_other_variable_with_the_prefix_is_a_problem(variable: str) -> None:
    (problem,) = problems_of(None, {variable: "x"})
    assert (problem.source, problem.key, problem.value) == ("environment", variable, '"x"')
    assert problem.allowed.startswith("known names only (the nearest is LLMSTATSD_")


# Code, sample and reference name the same options with the same defaults


def sample_text() -> str:
    return SAMPLE.read_text(encoding="utf-8")


def sample_sections() -> dict[str, str]:
    return dict(re.findall(r"(?ms)^\[(\w+)\]\n(.*?)(?=^\[|\Z)", sample_text()))


def test_the_sample_sets_every_option_to_its_default(write: Write) -> None:
    loaded = load(SAMPLE, {}, {})
    assert loaded == Config()
    named = [
        f"{section}.{name}"
        for section, body in sample_sections().items()
        for name in re.findall(r"(?m)^(\w+) = ", body)
    ]
    assert named == [option.key for option in options()]


@pytest.mark.parametrize("option", options(), ids=lambda option: option.key)
def test_the_sample_has_a_heading_range_and_default_for_an_option(option: Option) -> None:
    pattern = rf"(?m)^# ## {option.name}\n((?:# .+\n)+)^{option.name} = (.+)$"
    (found,) = re.findall(pattern, sample_sections()[option.section])
    remark, value = found
    assert value == option.default_text
    assert remark.splitlines()[-1] == f"# Default: {option.default_text}"
    if option in NUMBERS:
        assert "({} to {})".format(*bounds_of(option)) in remark


def test_what_the_sample_leaves_switched_off_is_valid_and_complete(write: Write) -> None:
    switched_on = re.sub(r"(?m)^#(?=[^# \n])", "", sample_text())
    loaded = load(write(switched_on), {}, {})
    assert loaded.aliases
    assert loaded.pinned
    (series,) = loaded.series.values()
    assert series.buckets
    assert series.extra_labels


def test_the_reference_page_has_one_row_for_each_option() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    for section, group in groupby(options(), key=lambda option: option.section):
        (body,) = re.findall(rf"(?ms)^### `\[{section}\]`.*?\n\n(.*?)\n\n", page)
        header, rule, *rows = body.splitlines()
        assert header == "| option | default | allowed | meaning |"
        assert rule == "|---|---|---|---|"
        assert rows == [
            f"| `{o.name}` | `{o.default_text}` | {o.allowed} | {o.help} |" for o in group
        ]


def test_the_reference_page_describes_the_tables() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    tables = set(Config.__struct_fields__) - {option.section for option in options()}
    assert set(re.findall(r"(?m)^## `\[(\w+)", page)) == tables
    for field in config.SeriesOptions.__struct_fields__:
        assert f"\n| `{field}` |" in page
    for example in re.findall(r"(?s)```toml\n(.*?)```", page):
        assert example in sample_text().replace("\n#", "\n")


def test_the_command_line_page_lists_every_flag_and_variable() -> None:
    page = CLI_REFERENCE.read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| `(--\S+)` \| `(LLMSTATSD_\w+)` \| `(\S+)` \|$", page) == [
        (option.flag, option.variable, option.key) for option in options()
    ]


def test_every_default_is_within_its_own_range() -> None:
    everything = msgspec.to_builtins(Config())
    assert msgspec.convert(everything, Config) == Config()


def test_the_bound_that_an_alert_stands_on_cannot_be_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text("[series.llm_request_duration_seconds]\nbuckets = [1.0, 20.0]\n")
    with pytest.raises(config.ConfigError, match="with 10 among them"):
        config.load(file, {}, {})
    file.write_text("[series.llm_request_duration_seconds]\nbuckets = [1.0, 10.0, 20.0]\n")
    assert config.load(file, {}, {}).series


def test_pinned_values_that_make_more_lines_than_the_budget_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "llmstatsd.toml"
    models = ", ".join(f'"m{number}"' for number in range(100))
    file.write_text(f"[pinned]\nmodel = [{models}]\noperation = [{models}]\n")
    with pytest.raises(config.ConfigError, match=r"limits\.exposition_lines = 100000"):
        config.load(file, {}, {})
    file.write_text(f'[pinned]\nmodel = [{models}]\noperation = ["chat"]\n')
    assert config.load(file, {}, {}).pinned


def test_long_entries_that_differ_at_their_end_are_shown_so() -> None:
    names = tuple(f"a-model-of-some-length-{number}" for number in range(100))
    shown = {
        dict(config.entries(Config(pinned={"model": pinned})))["pinned.model"]
        for pinned in (names, (*names, "one-more"), (*names[:-1], "another"))
    }
    assert len(shown) == 3
    assert {len(text) for text in shown} == {config.ENTRY_CHARACTERS}


def test_entries_are_counted_without_being_made() -> None:
    one = Config(
        aliases={"model": {"a": "b", "c": "d"}, "tenant": {"e": "f"}},
        pinned={"model": ("b",)},
        series={
            "llm_tokens_total": SeriesOptions(extra_labels=("tenant",)),
            "llm_total_duration_seconds": SeriesOptions(
                buckets=(1.0, 2.0), extra_labels=("tenant",)
            ),
            "llm_error_total": SeriesOptions(),
        },
    )
    assert config.entries_total(one) == len(list(config.entries(one))) == 7
