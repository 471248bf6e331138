"""The clients for shells: every vector that arguments can express, and real sockets."""

import contextlib
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.tools import tool

ROOT: Final = Path(__file__).parents[2]
CLIENT: Final = ROOT / "client" / "shell"
CASES: Final[list[dict[str, Any]]] = json.loads((ROOT / "client" / "vectors.json").read_text())[
    "cases"
]
TEXTS: Final = ("model", "operation", "error")
SWITCHES: Final = ("rate_limited", "fallback")
AS_DOUBLES: Final = 4.999999999999999e-10
"""The cost that doubles round up, and its text down; shells round the text."""

NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")

SHELLS: Final = {
    "bash": (("bash",), "llmstatsd.bash"),
    "dash": (("dash",), "llmstatsd.sh"),
    "busybox ash": (("busybox", "ash"), "llmstatsd.sh"),
    "bash as sh": (("bash", "--posix"), "llmstatsd.sh"),
}

RUN_SECONDS: Final = 30

NOTHING_DONE: Final = {
    "events": 0,
    "refused_fields": 0,
    "closed_events": 0,
    "sent_datagrams": 0,
    "sent_bytes": 0,
    "dropped_full": 0,
    "dropped_unresolved": 0,
    "dropped_unreachable": 0,
    "dropped_error": 0,
}
SETTINGS: Final = (
    *("LLMSTATSD_SOCKET", "LLMSTATSD_HOST", "LLMSTATSD_PORT", "LLMSTATSD_DISABLE"),
    *("DD_AGENT_HOST", "DD_DOGSTATSD_PORT", "STATSD_HOST", "STATSD_PORT"),
)

Shell = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """Runs a script that has sourced the client, in an empty folder."""
    command, client = SHELLS[request.param]
    tool(command[0])
    if client == "llmstatsd.sh":
        tool("nc", "netcat-openbsd")
    return script_runner(command, client, tmp_path)


@pytest.fixture
def dash(tmp_path: Path) -> Shell:
    """The same for dash alone."""
    tool("dash")
    return script_runner(*SHELLS["dash"], tmp_path)


def script_runner(command: tuple[str, ...], client: str, folder: Path) -> Shell:
    def run(script: str, before: str = "", **settings: str) -> subprocess.CompletedProcess[bytes]:
        file = folder / "script"
        file.write_bytes(
            f"{before}\n. {CLIENT / client}\n{script}\n".encode(errors="surrogateescape")
        )
        inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        return subprocess.run(
            [tool(command[0]), *command[1:], str(file)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=RUN_SECONDS,
            cwd=folder,
            env={**inherited, **settings},
        )

    return run


class Receiver:
    """A bound datagram socket; loopback has delivered what a script sent when it ends."""

    def __init__(self, receiver: socket.socket) -> None:
        self.socket = receiver

    @property
    def settings(self) -> dict[str, str]:
        return {"LLMSTATSD_HOST": "127.0.0.1", "LLMSTATSD_PORT": self.port}

    @property
    def port(self) -> str:
        return str(self.socket.getsockname()[1])

    def wait(self) -> bytes:
        self.socket.settimeout(RUN_SECONDS)
        return self.socket.recv(65536)

    def all(self) -> list[bytes]:
        datagrams = []
        self.socket.setblocking(False)
        try:
            while True:
                datagrams.append(self.socket.recv(65536))
        except BlockingIOError:
            return datagrams


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        yield Receiver(udp)


@pytest.fixture
def unused_port() -> str:
    """The port of a socket that is gone: what is sent there is refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return str(udp.getsockname()[1])


def stats(ran: subprocess.CompletedProcess[bytes]) -> dict[str, int]:
    """The counts in the last line that a script printed; it said nothing else and went well."""
    assert (ran.returncode, ran.stderr) == (0, b"")
    counts: dict[str, int] = json.loads(ran.stdout.splitlines()[-1])
    assert list(counts) == list(NOTHING_DONE)
    return counts


def counted(**counts: int) -> dict[str, int]:
    return {**NOTHING_DONE, **counts}


# The vectors


def arguments(event: dict[str, Any]) -> list[str] | None:
    """The arguments that say the same as an event; None if there are none."""
    made: list[str] = []
    for field, value in event.items():
        if value is None:
            continue
        text = argument(field, value)
        if text is None:
            return None
        made.append(f"--{field.replace('_', '-')}{text}")
    return made


def argument(field: str, value: object) -> str | None:
    """What follows a field's name; None for a value that would be another one as text."""
    if isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return None if field in TEXTS else f"={str(value).lower()}"
    if field in TEXTS:
        return f"={value}" if isinstance(value, str) and "\0" not in value else None
    if isinstance(value, str):
        return f"={value}" if value in NOT_FINITE else None
    return None if value == AS_DOUBLES else f"={value!r}"


EXPRESSIBLE: Final = [
    (case, made) for case in CASES if (made := arguments(case["event"])) is not None
]


def test_arguments_express_nearly_every_vector() -> None:
    untyped = sum(1 for case in CASES if case.get("untyped"))
    typed = [case for case, _ in EXPRESSIBLE if not case.get("untyped")]
    assert len(CASES) - untyped - len(typed) == 2, "the text with a NUL, and AS_DOUBLES"


def test_every_vector_that_arguments_express_is_met(shell: Shell, receiver: Receiver) -> None:
    script = [". /dev/null"]
    for case, made in EXPRESSIBLE:
        event = " ".join(map(shlex.quote, made))
        most = case.get("max_datagram_bytes", 1432)
        script += [
            f"llmstatsd_encode --max-datagram-bytes {most} {event}; printf '\\000'",
            f"llmstatsd_send {event}; llmstatsd_stats; printf '\\000'",
        ]
    ran = shell("\n".join(script), **receiver.settings)
    assert (ran.returncode, ran.stderr) == (0, b"")
    answers = ran.stdout.split(b"\0")
    refused = 0
    for number, (case, _) in enumerate(EXPRESSIBLE):
        lines, counts = answers[2 * number : 2 * number + 2]
        assert lines.decode() == "\n\n".join(case["datagrams"]) + "\n", case["name"]
        refused += len(case.get("refused", ()))
        assert json.loads(counts)["refused_fields"] == refused, case["name"]


DECIMALS: Final = {
    "1.": "1000",
    ".5": "500",
    "+2": "2000",
    "0001.50": "1500",
    "1E3": "1000000",
    "12e-3": "12",
    "0e99999999999999999999": "0",
    "1e-99999999999999999999": "0",
    "0.0000004999999999999999999999999": "0",
    "0.0000005": "0.001",
    "1.84" + "0" * 300: "1840",
    "1000000000.0": "1000000000000",
}


def test_a_decimal_is_a_number(shell: Shell) -> None:
    ran = shell("\n".join(f"llmstatsd_encode --duration-seconds {text}" for text in DECIMALS))
    lines = ran.stdout.decode().split("\n")[1::2]
    expected = [f"llm_request_duration_seconds:{number}|ms" for number in DECIMALS.values()]
    assert lines == expected


NO_NUMBERS: Final = (
    *(".", "e5", "1e", "1e+", "--1", "1.2.3", "0x10", "1_0", "1,5", " 1", "1 ", "1\n", "\uff11"),
    *("1e99999999999999999999", "1000000000.0000001", "-1e-300", "9" * 401, "a[$(touch x)]"),
)


def test_anything_else_is_refused(shell: Shell, receiver: Receiver, tmp_path: Path) -> None:
    given = [shlex.quote(text) for text in NO_NUMBERS]
    script = [f"llmstatsd_send --tokens {text} --duration-seconds={text}" for text in given]
    script += [f"llmstatsd_encode --max-datagram-bytes {text}" for text in given]
    ran = shell("\n".join([*script, "llmstatsd_stats"]), **receiver.settings)
    assert receiver.all() == [b"llm_request_total:1|c"] * len(given)
    assert ran.stdout.splitlines()[:-1] == [b"llm_request_total:1|c"] * len(given)
    assert stats(ran)["refused_fields"] == 2 * len(given)
    assert not (tmp_path / "x").exists()


BYTES: Final = {
    b"a\xffb": b"a_b",
    b"\x80\xbf": b"__",
    b"\xc0\xaf": b"__",
    b"\xe0\x80\xaf": b"___",
    b"\xed\xa0\x80": b"___",
    b"\xf0\x82\x82\xac": b"____",
    b"\xf4\x90\x80\x80": b"____",
    b"\xf5\x80\x80\x80": b"____",
    b"\xe6\xa8": b"__",
    b"\xe6\xa8|": b"___",
    b"\xc3\xc3\xbc": b"_\xc3\xbc",
    b"\xed\x9f\xbf\xee\x80\x80": b"\xed\x9f\xbf\xee\x80\x80",
    b"\xf4\x8f\xbf\xbf": b"\xf4\x8f\xbf\xbf",
    b"\xff" * 1000: b"_" * 128,
}


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_byte_that_is_not_utf_8_is_an_underscore(shell: Shell, locale: str) -> None:
    models = [shlex.quote(given.decode(errors="surrogateescape")) for given in BYTES]
    script = "\n".join(f"llmstatsd_encode --model {model}" for model in models)
    ran = shell(script, LC_ALL=locale)
    expected = [b"llm_request_total:1|c|#model:" + label for label in BYTES.values()]
    assert ran.stdout.splitlines() == expected
    assert ran.stderr == b""


HOSTILE: Final = (
    *("$(touch x)", "`touch x`", "';touch x;'", '";touch x;"', "*", "~", "!!", "\\", "\\n", "%s%n"),
    *("a b\tc", "-n", "--", "--error", "x\ny\n", "$IFS", "a=b", "&1", "[a-z]*", "-v", "{a}"),
)


def test_a_text_is_only_a_text(shell: Shell, receiver: Receiver, tmp_path: Path) -> None:
    script = [f"llmstatsd_send --model {shlex.quote(model)}" for model in HOSTILE]
    ran = shell("\n".join([*script, "llmstatsd_stats"]), **receiver.settings)
    safe = [model.replace("\t", "_").replace("\n", "_") for model in HOSTILE]
    lines = [f"llm_request_total:1|c|#model:{model}".encode() for model in safe]
    assert receiver.all() == lines
    size = sum(map(len, lines))
    assert stats(ran) == counted(events=len(lines), sent_datagrams=len(lines), sent_bytes=size)
    assert not (tmp_path / "x").exists()


# Sending

CALL: Final = "llmstatsd_send --model gpt-4o --operation chat --duration-seconds 1.84 --tokens 230"
CALL_LINES: Final = (
    b"llm_request_total:1|c|#model:gpt-4o,operation:chat\n"
    b"llm_request_duration_seconds:1840|ms|#model:gpt-4o,operation:chat\n"
    b"llm_tokens_total:230|c|#model:gpt-4o"
)


def test_a_call_is_one_datagram(shell: Shell, receiver: Receiver) -> None:
    ran = shell(f"{CALL}\n{CALL}\nllmstatsd_stats", **receiver.settings)
    assert receiver.all() == [CALL_LINES, CALL_LINES]
    assert stats(ran) == counted(events=2, sent_datagrams=2, sent_bytes=2 * len(CALL_LINES))


def test_a_long_call_is_cut_between_lines(shell: Shell, receiver: Receiver) -> None:
    event = next(case["event"] for case in CASES if case["name"].startswith("an event over one"))
    made = " ".join(map(shlex.quote, arguments(event) or ()))
    ran = shell(
        f"llmstatsd_send {made}\nllmstatsd_encode {made}\nllmstatsd_stats", **receiver.settings
    )
    datagrams = receiver.all()
    assert len(datagrams) > 1
    assert max(map(len, datagrams)) <= 1432
    lines, _, _ = ran.stdout.rpartition(b"\n{")
    assert b"\n".join(datagrams) == lines.replace(b"\n\n", b"\n")


def test_a_unix_socket_is_sent_to(shell: Shell, tmp_path: Path) -> None:
    tool("nc", "netcat-openbsd")
    path = tmp_path / "a socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        unix.bind(str(path))
        ran = shell(f"{CALL}\nllmstatsd_stats", LLMSTATSD_SOCKET=str(path))
        assert Receiver(unix).all() == [CALL_LINES]
    assert stats(ran) == counted(events=1, sent_datagrams=1, sent_bytes=len(CALL_LINES))


def test_a_full_unix_socket_is_a_counted_drop_and_is_tried_again(
    shell: Shell, tmp_path: Path
) -> None:
    tool("timeout", "coreutils")
    tool("nc", "netcat-openbsd")
    path = tmp_path / "a socket"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        unix.bind(str(path))
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"full", str(path))
        ran = shell(
            "llmstatsd_send; llmstatsd_send; llmstatsd_stats",
            LLMSTATSD_SOCKET=str(path),
        )
        assert json.loads(ran.stdout) == {**NOTHING_DONE, "events": 2, "dropped_full": 2}
        Receiver(unix).all()
        ran = shell(
            f"llmstatsd_send; _llmstatsd_full_to='{path}'; _llmstatsd_full_until=1; "
            "llmstatsd_send; llmstatsd_stats",
            LLMSTATSD_SOCKET=str(path),
        )
        assert json.loads(ran.stdout)["sent_datagrams"] == 2
        assert len(Receiver(unix).all()) == 2


def test_a_unix_socket_that_is_not_there_is_a_counted_drop(shell: Shell, tmp_path: Path) -> None:
    tool("nc", "netcat-openbsd")
    ran = shell(f"{CALL}\nllmstatsd_stats", LLMSTATSD_SOCKET=str(tmp_path / "none"))
    assert stats(ran) == counted(events=1, dropped_unreachable=1)


def test_nobody_listening_does_no_harm(shell: Shell, unused_port: str) -> None:
    ran = shell(f"{CALL}\n{CALL}\n{CALL}\nllmstatsd_stats", LLMSTATSD_PORT=unused_port)
    counts = stats(ran)
    assert counts["events"] == 3
    assert counts["sent_datagrams"] + counts["dropped_unreachable"] == 3


@pytest.mark.parametrize("host", ["nowhere.invalid", "-e", "a/../b", "$(touch x)", "a b", "*"])
def test_a_host_that_is_not_found_is_a_counted_drop(
    shell: Shell, tmp_path: Path, host: str
) -> None:
    ran = shell(f"{CALL}\n{CALL}\nllmstatsd_stats", LLMSTATSD_HOST=host)
    assert stats(ran) == counted(events=2, dropped_unresolved=2)
    assert not (tmp_path / "x").exists()


def test_a_name_is_resolved(shell: Shell, receiver: Receiver) -> None:
    shell(CALL, LLMSTATSD_HOST="localhost", LLMSTATSD_PORT=receiver.port)
    assert receiver.all() == [CALL_LINES]


def test_a_closed_client_counts_its_events(shell: Shell, receiver: Receiver) -> None:
    ran = shell(f"{CALL}\nllmstatsd_close\n{CALL}\nllmstatsd_stats", **receiver.settings)
    assert receiver.all() == [CALL_LINES]
    size = len(CALL_LINES)
    assert stats(ran) == counted(events=2, closed_events=1, sent_datagrams=1, sent_bytes=size)


@pytest.mark.parametrize("value", ["1", "true", "YES", "On"])
def test_a_disabled_client_only_counts_events(shell: Shell, receiver: Receiver, value: str) -> None:
    ran = shell(f"{CALL}\nllmstatsd_stats", **receiver.settings, LLMSTATSD_DISABLE=value)
    assert receiver.all() == []
    assert stats(ran) == counted(events=1)


@pytest.mark.parametrize("value", ["", "0", "false", "no", "2"])
def test_any_other_value_does_not_disable(shell: Shell, receiver: Receiver, value: str) -> None:
    shell(CALL, **receiver.settings, LLMSTATSD_DISABLE=value)
    assert receiver.all() == [CALL_LINES]


PRECEDENCE: Final = {
    "the first pair": {"LLMSTATSD_PORT": "HERE", "DD_DOGSTATSD_PORT": "9", "STATSD_PORT": "9"},
    "the second pair": {"DD_DOGSTATSD_PORT": "HERE", "STATSD_PORT": "9"},
    "the third pair": {"STATSD_PORT": "HERE"},
    "Kubernetes' port": {"LLMSTATSD_PORT": "udp://10.0.0.1:8125", "DD_DOGSTATSD_PORT": "HERE"},
    "port 0": {"LLMSTATSD_PORT": "0", "DD_DOGSTATSD_PORT": "HERE"},
    "a port too high": {"LLMSTATSD_PORT": "65536", "STATSD_PORT": "HERE"},
    "a port far too high": {"LLMSTATSD_PORT": "9" * 30, "STATSD_PORT": "HERE"},
    "a port with a sign": {"LLMSTATSD_PORT": "+9", "STATSD_PORT": "HERE"},
    "empty variables": {"LLMSTATSD_SOCKET": "", "LLMSTATSD_HOST": "", "STATSD_PORT": "HERE"},
}


@pytest.mark.parametrize("settings", PRECEDENCE.values(), ids=PRECEDENCE.keys())
def test_the_first_variable_that_is_there_decides(
    shell: Shell, receiver: Receiver, settings: dict[str, str]
) -> None:
    here = {name: value.replace("HERE", receiver.port) for name, value in settings.items()}
    shell(CALL, **here)
    assert receiver.all() == [CALL_LINES]


def test_the_destination_may_change_between_calls(shell: Shell, receiver: Receiver) -> None:
    script = f"LLMSTATSD_PORT=9\n{CALL}\nLLMSTATSD_PORT={receiver.port}\n{CALL}"
    shell(script)
    assert receiver.all() == [CALL_LINES]


# The calling script


STRICT: Final = """set -eu -C -f
if [ -n "${BASH_VERSION-}" ]; then
    set -E -o pipefail
    trap 'echo trapped' ERR
fi
IFS=0123456789.abc
readonly host=1 port=2 model=3 name=4 max=5 text=6 line=7 fd=8 value=9 number=0 to=1"""


@pytest.mark.parametrize(
    "settings",
    [{}, {"LLMSTATSD_HOST": "nowhere.invalid"}, {"LLMSTATSD_DISABLE": "1"}],
    ids=["sent", "not resolved", "disabled"],
)
def test_a_strict_script_is_not_disturbed(
    shell: Shell, receiver: Receiver, settings: dict[str, str]
) -> None:
    script = f"""{CALL}
llmstatsd_send --model
llmstatsd_send stray --unknown 1 --tokens x --fallback=maybe
llmstatsd_time
llmstatsd_time --model
llmstatsd_time --model m -- true
llmstatsd_encode >/dev/null
llmstatsd_encode --max-datagram-bytes >/dev/null
llmstatsd_close
llmstatsd_send
llmstatsd_stats"""
    ran = shell(script, before=STRICT, **{**receiver.settings, **settings})
    counts = stats(ran)
    assert ran.stdout.count(b"\n") == 1
    assert counts["events"] == 5
    assert counts["closed_events"] == 1


def test_an_unknown_option_is_a_refused_field(shell: Shell, receiver: Receiver) -> None:
    script = "llmstatsd_send stray --unknown 1 --fallback=maybe --model m --tokens\nllmstatsd_stats"
    counts = stats(shell(script, **receiver.settings))
    assert receiver.all() == [b"llm_request_total:1|c|#model:m"]
    assert counts["refused_fields"] == 4


def test_a_text_of_1_mb_is_cut(shell: Shell, receiver: Receiver) -> None:
    script = """big=aaaaaaaaaaaaaaaa
while [ "${#big}" -lt 1000000 ]; do big=$big$big; done
llmstatsd_send --model "$big" --operation="$big" --tokens "$big"
llmstatsd_stats"""
    counts = stats(shell(script, **receiver.settings))
    assert receiver.all() == [
        b"llm_request_total:1|c|#model:" + b"a" * 128 + b",operation:" + b"a" * 128
    ]
    assert counts["refused_fields"] == 1


# Commands


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        *((0, None), (1, "other"), (124, "timeout"), (127, "other")),
        *((130, "cancelled"), (137, "other"), (143, "cancelled")),
    ],
)
def test_a_timed_command_keeps_its_status(
    shell: Shell, receiver: Receiver, status: int, type_: str | None
) -> None:
    ran = shell(
        "llmstatsd_time --model m --operation=chat -- "
        f"sh -c 'echo out; echo err >&2; exit {status}'",
        **receiver.settings,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (status, b"out\n", b"err\n")
    lines = receiver.wait().decode().split("\n")
    assert lines[0] == "llm_request_total:1|c|#model:m,operation:chat"
    assert lines[1].startswith("llm_request_duration_seconds:")
    assert lines[2:] == ([f"llm_error_total:1|c|#model:m,type:{type_}"] if type_ else [])


def test_a_failed_command_has_the_error_that_is_given(shell: Shell, receiver: Receiver) -> None:
    shell(
        "llmstatsd_time --error quota true; llmstatsd_time --error quota false",
        **receiver.settings,
    )
    first, second = receiver.all()
    assert b"llm_error_total" not in first
    assert second.endswith(b"llm_error_total:1|c|#type:quota")


def test_the_time_is_measured(shell: Shell, receiver: Receiver) -> None:
    shell("llmstatsd_time --model m sleep 0.3", **receiver.settings)
    line = receiver.wait().decode().split("\n")[1]
    milliseconds = float(line.split(":")[1].split("|")[0])
    assert 250 <= milliseconds < 1000 * RUN_SECONDS


def test_a_timed_function_may_report_calls_itself(shell: Shell, receiver: Receiver) -> None:
    script = """inner() {
    llmstatsd_time --model "$1" true
    llmstatsd_send --model sent
    cat
    return 3
}
echo input | { llmstatsd_time --model 'out er' --fallback -- inner 'in ner'; echo "$?"; }"""
    ran = shell(script, **receiver.settings)
    assert ran.stdout == b"input\n3\n"
    models = [datagram.split(b"\n")[0].partition(b"model:")[2] for datagram in receiver.all()]
    assert models == [b"in ner", b"sent", b"out er"]


def test_a_command_may_have_options_of_its_own(shell: Shell, receiver: Receiver) -> None:
    ran = shell("llmstatsd_time --model m printf '%s.' --model x -- y", **receiver.settings)
    assert ran.stdout == b"--model.x.--.y."
    assert receiver.all()[0].startswith(b"llm_request_total:1|c|#model:m\n")


# Netcats


def test_without_netcat_a_datagram_is_a_counted_drop(dash: Shell, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("awk", "date"):
        (programs / name).symlink_to(tool(name))
    ran = dash(f"{CALL}\nllmstatsd_stats", PATH=str(programs))
    assert stats(ran) == counted(events=1, dropped_error=1)


def test_without_awk_a_datagram_is_a_counted_drop(dash: Shell) -> None:
    ran = dash(f"{CALL}\nllmstatsd_stats", before="PATH=/nowhere")
    assert stats(ran) == counted(events=1, dropped_error=1)


def test_a_netcat_that_stays_is_left_to_itself(
    dash: Shell, receiver: Receiver, tmp_path: Path
) -> None:
    """Such a one has no -q: here it ends only when the test has seen that nobody waits for it."""
    end = tmp_path / "end"
    os.mkfifo(end)
    netcat = tmp_path / "nc"
    netcat.write_text(
        "#!/bin/sh\n"
        "if [ \"$1\" = -h ]; then echo '  -u  UDP mode' >&2; exit 1; fi\n"
        f"if [ \"$*\" = '-u -w 1 127.0.0.1 {receiver.port}' ]; then\n"
        f"  {tool('nc')} -u -q 0 -w 1 127.0.0.1 {receiver.port}\n"
        f"  read -r _ <{end}\n"
        "fi\n"
    )
    netcat.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = dash(f"{CALL}\nllmstatsd_stats", **receiver.settings, PATH=path)
    assert stats(ran) == counted(events=1, sent_datagrams=1, sent_bytes=len(CALL_LINES))
    assert receiver.wait() == CALL_LINES
    end.write_text("\n")


def test_the_traditional_netcat_will_do(dash: Shell, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "nc").symlink_to(tool("nc.traditional", "netcat-traditional"))
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = dash(f"{CALL}\nllmstatsd_stats", **receiver.settings, PATH=path)
    assert stats(ran) == counted(events=1, sent_datagrams=1, sent_bytes=len(CALL_LINES))
    assert receiver.all() == [CALL_LINES]


# The files


@pytest.mark.parametrize("program", ["bash", "sh"])
@pytest.mark.parametrize("kind", ["tests/acceptance", "examples/call"])
def test_a_program_prints_the_counts(receiver: Receiver, kind: str, program: str) -> None:
    if program == "sh":
        tool("nc", "netcat-openbsd")
    ran = subprocess.run(
        [program, str(CLIENT / f"{kind}.{program}"), "--threads", "2", "--calls", "3"],
        capture_output=True,
        timeout=RUN_SECONDS,
        env={**os.environ, **receiver.settings},
    )
    counts = stats(ran)
    assert len(receiver.all()) == counts["sent_datagrams"] == counts["events"] > 0


FILES: Final = sorted(
    str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*") if path.suffix in {".sh", ".bash"}
)


@pytest.mark.parametrize("file", FILES)
def test_shellcheck_finds_nothing(file: str) -> None:
    command = [tool("shellcheck"), "--external-sources", file]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=CLIENT, timeout=RUN_SECONDS)
    assert (ran.returncode, ran.stdout) == (0, "")
