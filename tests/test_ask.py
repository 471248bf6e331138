"""Asking a daemon: TLS, passwords, a connection that is kept, and what must not be followed."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from click.testing import CliRunner, Result

from llmstatsd.ask import AskError, Daemon
from llmstatsd.cli import main
from tests.certificates import Authority
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon
from tests.servers import answering
from tests.terminals import Terminal

USER, PASSWORD = "reader", "pä:ss wörd"


@pytest.fixture
def guarded(start_daemon: StartDaemon, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of a daemon with TLS and a password, and its authority's certificate.

    It is sent a line now and then.
    """
    authority = Authority(tmp_path / "ca")
    pair = authority.sign("localhost")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    file = tmp_path / "web.yml"
    file.write_text(
        f"tls_server_config: {{cert_file: {pair.certificate}, key_file: {pair.key}}}\n"
        f"basic_auth_users: {{{USER}: '{hashed}'}}\n"
    )
    daemon = start_daemon("--http-security-file", str(file))
    is_over = threading.Event()

    def send() -> None:
        while not is_over.wait(0.1):
            daemon.send(b"a:1|c")

    sending = threading.Thread(target=send)
    sending.start()
    yield daemon.url.replace("http://127.0.0.1", "https://localhost"), authority.certificate
    is_over.set()
    sending.join()


def run(*arguments: str, password: str | None = None) -> Result:
    env = {"LLMSTATSD_PASSWORD": password, "HTTPS_PROXY": "http://127.0.0.1:1"}
    return CliRunner().invoke(main, arguments, env=env)


def test_a_guarded_daemon_is_asked_with_authority_user_and_password(
    guarded: tuple[str, str],
) -> None:
    url, ca_file = guarded
    where = ("--url", url, "--ca-file", ca_file)
    for command, said in (
        (("top", "--once"), f"at {url}: "),
        (("doctor",), f"at {url}: "),
        (("healthcheck",), "ready"),
        (("tap", "--count", "1"), "accepted"),
    ):
        result = run(*command, *where, "--user", USER, password=PASSWORD)
        assert said in result.stdout, result.output
        wrong = run(*command, *where, "--user", USER, password=USER)
        assert wrong.exit_code == 1
        assert "it asks for a password" in wrong.output
        assert "it asks for a password" in run(*command, *where).output
        untrusted = run(*command, "--url", url)
        assert untrusted.exit_code == 1
        assert "its certificate is not trusted" in untrusted.output
        plain = run(*command, "--url", url.replace("https", "http"))
        assert "is it http or https?" in plain.output or "reset by peer" in plain.output
        for each in (result, wrong, untrusted, plain):
            assert PASSWORD not in each.output


def test_the_other_way_round_is_explained_too(daemon: RunningDaemon) -> None:
    url = daemon.url.replace("http", "https")
    assert "no TLS: is it http?" in run("top", "--once", "--url", url).output


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"version": 1}'
    with answering(answer, times=2) as url, Daemon(f"{url}/below/") as daemon:
        assert daemon.document("summary") == {"version": 1}
        assert daemon.document("summary") == {"version": 1}


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmstatsd.ask.ANSWER_BYTES_LIMIT", 100_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            taken, _ = listener.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                try:
                    for _ in range(10_000):
                        taken.sendall(b" " * 65536)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Daemon(url) as daemon, pytest.raises(AskError, match="more than 100000 bytes"):
            daemon.text("/metrics")
        thread.join()


@pytest.mark.parametrize("command", [("doctor",), ("top", "--once"), ("top", "--json")], ids=str)
def test_at_a_terminal_it_is_shown_what_is_waited_for(
    command: tuple[str, ...],
) -> None:
    """By a server that takes the question and never answers it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        asking = (sys.executable, "-m", "llmstatsd", *command, "--url", url)
        terminal = Terminal(100, 30, *asking)
        try:
            terminal.shows("asking for summary", "0:00:01")
            assert terminal.exit_code() == 1
            assert "timed out" in terminal.text()
            assert "asking for" not in terminal.text()
        finally:
            terminal.close()
    written = subprocess.run(
        asking,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert written.returncode == 1
    assert "asking for" not in written.stdout + written.stderr
