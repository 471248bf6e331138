"""The command line: what it calls, what it prints, and the code it ends with."""

import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import llmstatsd
from llmstatsd import address
from llmstatsd.cli import main
from llmstatsd.config import Config, options
from llmstatsd.series import lanes
from llmstatsd.wire import parse_line
from llmstatsd.wire.event import FIELDS
from llmstatsd_client.settings import PAYLOAD_BYTES_LIMIT

DEADLINE_SECONDS = 5.0


def run(*arguments: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=environ)


def receiver(family: socket.AddressFamily, host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.settimeout(DEADLINE_SECONDS)
    listener.bind((host, 0))
    return listener


@pytest.fixture
def daemon_socket() -> Iterator[socket.socket]:
    with receiver(socket.AF_INET, "127.0.0.1") as listener:
        yield listener


def send_to(
    listener: socket.socket,
    *arguments: str,
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
) -> Result:
    to = address.Address(*listener.getsockname()[:2])
    return run("send", "--to", str(to), *arguments, stdin=stdin, environ=environ)


# llmstatsd


def test_the_version_says_portable_where_the_extension_is_switched_off() -> None:
    result = run("--version", environ={lanes.NO_EXTENSIONS: "1"})
    assert "(lane: portable," in result.output


def test_the_version_names_lane_and_python() -> None:
    result = run("--version")
    python, lane = platform.python_version(), lanes.choose("auto").name
    assert result.output == f"llmstatsd {llmstatsd.__version__} (lane: {lane}, Python {python})\n"
    assert result.exit_code == 0


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmstatsd", "nothing"],
        capture_output=True,
        text=True,
        cwd=Path(llmstatsd.__file__).parent.parent,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: llmstatsd ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("--nothing",),
        ("check",),
        ("check", "a", "b"),
        ("serve", "extra"),
        ("serve", "--http"),
        ("serve", "--nothing", "1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(("Usage: ", "Error: "))


# llmstatsd serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A daemon in place of the real one: keeps its configuration and ends with `exit_code`."""
    seen = SimpleNamespace(config=None, load=None, exit_code=0)

    def run_daemon(config: Config, load: Callable[[], Config]) -> int:
        seen.config, seen.load = config, load
        return int(seen.exit_code)

    module = ModuleType("llmstatsd.daemon")
    module.run = run_daemon  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llmstatsd.daemon", module)
    monkeypatch.setattr(llmstatsd, "daemon", module, raising=False)
    return seen


def test_serve_without_arguments_runs_on_the_defaults(served: SimpleNamespace) -> None:
    assert run("serve").exit_code == 0
    assert served.config == Config()
    assert served.load() == Config()


def test_serve_reads_file_variables_and_flags(served: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "llmstatsd.toml"
    path.write_text("[http]\ngzip_level = 4\nconnections = 8\nheader_bytes = 2048\n")
    result = run(
        *("serve", "--config", str(path), "--http", "127.0.0.1:0", "--http-gzip-level", "6"),
        environ={"LLMSTATSD_HTTP_GZIP_LEVEL": "5", "LLMSTATSD_HTTP_CONNECTIONS": "9"},
    )
    assert result.exit_code == 0
    http = served.config.http
    assert (http.listen, http.gzip_level) == ("127.0.0.1:0", 6)
    assert (http.connections, http.header_bytes) == (9, 2048)
    assert served.load() == served.config
    path.write_text("[http]\nheader_bytes = 4096\n")
    assert served.load().http.header_bytes == 4096


@pytest.mark.parametrize("exit_code", [0, 3])
def test_serve_ends_with_the_code_of_the_daemon(served: SimpleNamespace, exit_code: int) -> None:
    served.exit_code = exit_code
    assert run("serve").exit_code == exit_code


def test_serve_names_every_problem_on_stderr_and_ends_with_3(
    served: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("http.gzip_level = 0\n")
    result = run(
        *("serve", "--config", str(path), "--log-level", "loud"),
        environ={"LLMSTATSD_HTPP": "x"},
    )
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "3 problems" in result.stderr
    for part in (f"{path}: http.gzip_level = 0", "LLMSTATSD_HTPP", "--log-level"):
        assert part in result.stderr
    assert served.config is None


@pytest.mark.parametrize("command", ["serve", "kit"])
def test_every_option_has_its_flag_on_serve_or_on_kit(command: str) -> None:
    text = run(command, "--help").output
    for option in options():
        flag = f"  {option.flag} {option.type.upper()}"
        assert (flag in text) == (option.is_kit == (command == "kit"))


# llmstatsd check


def test_check_sums_up_what_a_valid_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "llmstatsd.toml"
    path.write_text(
        "limits.label_values = 250\nhttp.listen = ':9000'\nhttp.gzip_level = 3\n"
        "aliases.model.a = 'b'\naliases.model.'c/d *' = 'b'\npinned.model = ['b']\n"
        "series.llm_tokens_total = {}\nseries.llm_total_duration_seconds.buckets = [1, 10]\n"
    )
    result = run("check", str(path))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{path}: valid",
        '  http.listen = ":9000"  (default ":2112")',
        "  limits.label_values = 250  (default 100)",
        '  aliases.model.a = "b"',
        '  aliases.model."c/d *" = "b"',
        '  pinned.model = ["b"]',
        "  series.llm_total_duration_seconds.buckets = [1.0, 10.0]",
    ]


def test_check_names_every_problem_on_stderr_and_ends_with_3(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[http]\ngzip_level = 0\nport = 80\n")
    result = run("check", str(path))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "http.gzip_level = 0; allowed: a whole number from 1 to 9" in result.stderr
    assert "http.port = 80; allowed: known names only" in result.stderr


def test_check_of_a_missing_file_ends_with_3(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "missing.toml"))
    assert result.exit_code == 3
    assert "No such file" in result.stderr


def test_check_reads_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "llmstatsd.toml"
    path.write_text("")
    result = run("check", str(path), environ={"LLMSTATSD_HTTP_GZIP_LEVEL": "12"})
    assert (result.exit_code, result.stdout) == (0, f"{path}: valid\n")


# llmstatsd kit


def test_kit_writes_a_folder_and_names_the_files(tmp_path: Path) -> None:
    result = run("kit", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    rules = tmp_path / "out" / "prometheus" / "alert-rules.yml"
    assert f"written: {rules}\n" in result.stdout
    assert rules.is_file()
    again = run("kit", "--out", str(tmp_path / "out"))
    assert again.stdout.endswith(" files, 0 of them written\n")


def test_kit_reads_file_variables_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "llmstatsd.toml"
    path.write_text("[thresholds]\nerror_rate = 3\nerror_ratio = 0.3\nfallback_ratio = 0.3\n")
    result = run(
        *("kit", "--out", str(tmp_path), "--config", str(path), "--error-ratio", "0.55"),
        environ={
            "LLMSTATSD_THRESHOLDS_ERROR_RATIO": "0.44",
            "LLMSTATSD_THRESHOLDS_ERROR_RATE": "4",
        },
    )
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "prometheus" / "alert-rules.yml").read_text()
    for part in ("rate(llm_error_total[5m]) > 4\n", "ratio_rate5m > 0.55\n", " > 0.3\n"):
        assert part in text


def test_kit_refuses_a_threshold_off_a_bucket_bound_and_lists_the_bounds(tmp_path: Path) -> None:
    result = run("kit", "--out", str(tmp_path / "out"), "--latency", "12", "--error-ratio", "2")
    assert result.exit_code == 3
    assert "--error-ratio = " in result.stderr
    result = run("kit", "--out", str(tmp_path / "out"), "--latency", "12")
    assert result.exit_code == 3
    assert "--latency = 12.0; allowed: a bucket bound of " in result.stderr
    assert " 7.5, 10.0, 15.0, " in result.stderr
    assert not (tmp_path / "out").exists()


def test_kit_never_writes_over_a_changed_file_without_force(tmp_path: Path) -> None:
    run("kit", "--out", str(tmp_path))
    rules = tmp_path / "prometheus" / "alert-rules.yml"
    rules.write_text("mine")
    kept = run("kit", "--out", str(tmp_path))
    assert kept.exit_code == 0
    assert f"kept, changed by hand: {rules}\n" in kept.stdout
    refused = run("kit", "--out", str(tmp_path), "--latency", "20")
    assert refused.exit_code == 2
    assert f"--force replaces them:\n  {rules}\n" in refused.stderr
    assert rules.read_text() == "mine"
    assert run("kit", "--out", str(tmp_path), "--latency", "20", "--force").exit_code == 0
    assert "> 20\n" in rules.read_text()


def test_kit_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "prometheus").write_text("a file")
    result = run("kit", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert f"cannot write to {tmp_path}: Not a directory" in result.stderr


# llmstatsd send


def test_a_line_is_sent_as_it_is(daemon_socket: socket.socket) -> None:
    result = send_to(daemon_socket, "llm_request_total:1|c|#model:gpt-4o")
    assert (result.exit_code, result.output) == (0, "")
    assert daemon_socket.recv(65536) == b"llm_request_total:1|c|#model:gpt-4o"


def test_lines_and_standard_input_go_out_in_one_datagram(daemon_socket: socket.socket) -> None:
    result = send_to(daemon_socket, "a:1|c", "-", "d:1|g", stdin=b"b:1|c\n\xff:1|c")
    assert result.exit_code == 0
    assert daemon_socket.recv(65536) == b"a:1|c\nb:1|c\n\xff:1|c\nd:1|g"


def test_a_line_is_sent_over_ipv6() -> None:
    try:
        listener = receiver(socket.AF_INET6, "::1")
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")
    with listener:
        assert send_to(listener, "a:1|c").exit_code == 0
        assert listener.recv(65536) == b"a:1|c"


@pytest.mark.parametrize("host", ["localhost", ""], ids=["localhost", "empty"])
def test_a_name_with_both_families_goes_to_ipv4(daemon_socket: socket.socket, host: str) -> None:
    port = daemon_socket.getsockname()[1]
    assert run("send", "--to", f"{host}:{port}", "a:1|c").exit_code == 0
    assert daemon_socket.recv(65536) == b"a:1|c"


def test_verbose_prints_what_was_sent(daemon_socket: socket.socket) -> None:
    result = send_to(daemon_socket, "-v", "-", stdin=b"a:1|c\n\xff:1|c")
    port = daemon_socket.getsockname()[1]
    assert result.output == f"sent 11 bytes to 127.0.0.1:{port}:\na:1|c\n\\xff:1|c\n"


EVENT = {
    "model": "gpt-4o",
    "operation": "chat",
    "duration_seconds": 1.5,
    "tokens": 230,
    "prompt_tokens": 200,
    "completion_tokens": 30,
    "cached_tokens": 0,
    "cost_dollars": 0.0125,
    "load_duration_seconds": 0.0,
    "prompt_eval_duration_seconds": 0.25,
    "total_duration_seconds": 1.5,
    "time_to_first_token_seconds": 0.3,
    "time_per_output_token_seconds": 0.04,
    "error": "timeout",
    "rate_limited": True,
    "fallback": True,
}


def test_every_field_of_an_event_has_an_option_and_is_read_by_the_daemon(
    daemon_socket: socket.socket,
) -> None:
    arguments: list[str] = []
    for name, value in EVENT.items():
        flag = f"--{name.replace('_', '-')}"
        arguments += [flag] if value is True else [flag, str(value)]
    assert send_to(daemon_socket, *arguments).exit_code == 0
    assert EVENT.keys() == FIELDS
    parsed = [parse_line(line) for line in daemon_socket.recv(65536).split(b"\n")]
    assert {(each.reason, each.notes) for each in parsed} == {(None, ())}
    assert len({sample.name for each in parsed for sample in each.samples}) == 15


def test_fields_that_are_not_given_are_not_sent(daemon_socket: socket.socket) -> None:
    assert send_to(daemon_socket, "--model", "gpt-4o", "--cached-tokens", "0").exit_code == 0
    assert daemon_socket.recv(65536) == (
        b"llm_request_total:1|c|#model:gpt-4o\nllm_cached_tokens_total:0|c|#model:gpt-4o"
    )


def test_an_event_over_one_datagram_is_shown_and_sent_as_two(daemon_socket: socket.socket) -> None:
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in EVENT.items() if value]
    flags = [each.removesuffix("=True") for each in arguments]
    result = send_to(daemon_socket, "-v", *flags, "--model", "m" * 128)
    sent = [daemon_socket.recv(65536).decode() for _ in range(2)]
    shown = re.split(r"sent \d+ bytes to [\d.:]+:\n", result.output)
    assert shown == ["", *(f"{datagram}\n" for datagram in sent)]


def test_without_a_destination_the_variables_of_the_clients_decide(
    daemon_socket: socket.socket, tmp_path: Path
) -> None:
    variables = {"LLMSTATSD_PORT": str(daemon_socket.getsockname()[1])}
    assert run("send", "a:1|c", environ=variables).exit_code == 0
    assert daemon_socket.recv(65536) == b"a:1|c"
    path = tmp_path / "unix.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        result = run("send", "-v", "a:1|c", environ={"LLMSTATSD_SOCKET": str(path)})
        assert result.output == f"sent 5 bytes to {path}:\na:1|c\n"
        assert listener.recv(65536) == b"a:1|c"


def test_what_the_variables_switch_off_is_not_sent(daemon_socket: socket.socket) -> None:
    result = send_to(daemon_socket, "-v", "a:1|c", environ={"LLMSTATSD_DISABLE": "1"})
    assert (result.exit_code, result.stdout) == (0, "")
    assert "LLMSTATSD_DISABLE" in result.stderr
    daemon_socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        daemon_socket.recv(65536)


def test_a_socket_that_nobody_made_is_named(tmp_path: Path) -> None:
    result = run("send", "a:1|c", environ={"LLMSTATSD_SOCKET": str(tmp_path / "none")})
    assert result.exit_code == 2
    assert f"cannot send to {tmp_path / 'none'}: No such file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either lines or event options."),
        (("a:1|c", "--model", "gpt-4o"), "Give either lines or event options."),
        (("a:1|c", "--fallback"), "Give either lines or event options."),
        (("",), "there is nothing to send"),
        (("-",), "there is nothing to send"),
        (("--tokens", "-1"), "x>=0"),
        (("--tokens", "1.5"), "not a valid integer"),
        (("--duration-seconds", "-1"), "duration_seconds"),
        (("--duration-seconds", "nan"), "duration_seconds"),
        (("--cost-dollars", "inf"), "cost_dollars"),
        (("--duration-seconds", "fast"), "not a valid float"),
        (("--error", "boom"), "rate_limit"),
        (("--to", "127.0.0.1", "a:1|c"), "HOST:PORT"),
        (("--to", "::1:8125", "a:1|c"), "HOST:PORT"),
        (("--to", "127.0.0.1:0", "a:1|c"), "port 0"),
        (("--to", "nowhere.invalid:8125", "a:1|c"), "cannot send to nowhere.invalid:8125: "),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_what_cannot_be_sent_is_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    result = run("send", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_datagram_holds_65507_bytes_and_not_one_more(daemon_socket: socket.socket) -> None:
    line = b"a" * 65_503 + b":1|c"
    assert send_to(daemon_socket, "-", stdin=line).exit_code == 0
    assert daemon_socket.recv(70_000) == line
    result = send_to(daemon_socket, "-", stdin=line + b"\n")
    assert result.exit_code == 2
    assert "at most 65507 bytes" in result.stderr
    assert result.stdout == ""


def test_endless_standard_input_is_refused_after_one_datagram() -> None:
    with Path("/dev/zero").open("rb") as endless:
        result = CliRunner().invoke(main, ["send", "-"], input=endless)
    assert result.exit_code == 2
    assert "at most 65507 bytes" in result.stderr


def test_the_payload_limit_is_that_of_ipv4() -> None:
    assert PAYLOAD_BYTES_LIMIT == 65_535 - 20 - 8
