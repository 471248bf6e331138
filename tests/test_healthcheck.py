"""The command that containers ask: a real daemon, nobody, and somebody else."""

import socket
import subprocess
import sys

import pytest

from llmstatsd import ask as asking
from llmstatsd import healthcheck
from tests.conftest import RunningDaemon
from tests.servers import answering


def ask(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    command = [sys.executable, "-m", "llmstatsd", "healthcheck", *arguments]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env=env, timeout=60
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_a_daemon_that_is_ready_is_healthy(daemon: RunningDaemon) -> None:
    assert ask("--url", daemon.url) == (0, "ready\n")
    listen = daemon.url.removeprefix("http://")
    assert ask(env={"LLMSTATSD_HTTP_LISTEN": listen}) == (0, "ready\n")


def test_where_nobody_listens_nobody_is_healthy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        code, said = ask("--url", f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert code == 1
    assert "Connection refused" in said


def test_an_answer_other_than_200_is_not_ready() -> None:
    with answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as url:
        assert healthcheck.why_not_ready(asking.Daemon(url)) == f"{url}/-/ready answers 503"


def test_a_daemon_that_takes_nobody_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        reason = healthcheck.why_not_ready(asking.Daemon(url, timeout_seconds=0.1))
    assert reason is not None
    assert "timed out" in reason


def test_what_is_no_url_is_wrong_usage() -> None:
    code, said = ask("--url", "file:///etc/passwd")
    assert code == 2
    assert "no http or https URL" in said


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (":2112", "http://127.0.0.1:2112"),
        ("[::]:1", "http://[::1]:1"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("example.org:2112", "http://example.org:2112"),
    ],
)
def test_a_daemon_is_asked_on_its_own_machine(listen: str, url: str) -> None:
    assert asking.url_of(listen) == url
