"""Drops and their causes, on real sockets."""

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmstatsd_client import Client
from llmstatsd_client import sender as module

Eventually = Callable[[Callable[[], object]], None]


def bound(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    sock.settimeout(10)
    return sock


def drops(client: Client) -> dict[str, int]:
    return {
        name: count
        for name, count in client.stats()._asdict().items()
        if name.startswith("dropped") and count
    }


def test_one_call_is_one_datagram(client: Client, receiver: Any) -> None:
    client.send(model="m", operation="chat", duration_seconds=1.84, tokens=3)
    assert receiver.lines() == [
        "llm_request_total:1|c|#model:m,operation:chat",
        "llm_request_duration_seconds:1840|ms|#model:m,operation:chat",
        "llm_tokens_total:3|c|#model:m",
    ]
    assert client.stats()[:5] == (1, 0, 0, 1, 136)


def test_the_socket_opens_with_the_first_event(client: Client) -> None:
    sender: Any = client._sender
    assert not sender._socket
    client.send()
    assert sender._socket.getblocking() is False


def test_a_unix_socket_takes_datagrams(unix_path: str) -> None:
    with bound(unix_path) as receiver, Client(socket=unix_path) as client:
        client.send(model="m" * 128, operation="o" * 128, prompt_tokens=1)
        assert receiver.recv(9000).startswith(b"llm_request_total:1|c|#model:mmm")


def test_an_ipv6_address_takes_datagrams() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        try:
            receiver.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on loopback")
        receiver.settimeout(10)
        with Client(host="::1", port=receiver.getsockname()[1]) as client:
            client.send()
        assert receiver.recv(9000) == b"llm_request_total:1|c"


def test_a_full_buffer_drops_and_counts(unix_path: str) -> None:
    with bound(unix_path), Client(socket=unix_path) as client:
        for _ in range(2000):
            client.send()
        stats = client.stats()
    assert stats.sent_datagrams > 0
    assert stats.dropped_full > 0
    assert stats.sent_datagrams + stats.dropped_full == 2000


def test_a_full_buffer_raises_only_if_strict(unix_path: str) -> None:
    def send_many() -> None:
        for _ in range(2000):
            client.send()

    with bound(unix_path), Client(socket=unix_path, strict=True) as client:
        with pytest.raises(BlockingIOError):
            send_many()
        assert drops(client) == {"dropped_full": 1}


def test_nobody_listening_is_no_error_of_the_application() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with Client(port=port, strict=True) as client:
        for _ in range(10):
            client.send()
        # Each refusal tells of the datagram before, so each is sent at the second try.
        assert client.stats().sent_datagrams == 10


def test_a_refusal_at_the_second_try_is_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bytes] = []

    def refuse(datagram: bytes) -> int:
        tries.append(datagram)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(client._sender, "_send", refuse)
    client.send()
    assert len(tries) == 2
    assert drops(client) == {"dropped_unreachable": 1}


def test_no_unix_socket_is_unreachable(unix_path: str) -> None:
    with Client(socket=unix_path) as client:
        client.send()
        assert drops(client) == {"dropped_unreachable": 1}
        with bound(unix_path) as receiver:
            client.send()
            assert receiver.recv(9000) == b"llm_request_total:1|c"


def test_a_unix_socket_that_came_back_loses_nothing(unix_path: str) -> None:
    with Client(socket=unix_path) as client:
        with bound(unix_path) as first:
            client.send()
            assert first.recv(9000)
        with bound(unix_path) as second:
            client.send()
            assert second.recv(9000)
        client.send()
        assert drops(client) == {"dropped_unreachable": 1}


def test_another_error_is_counted_and_the_socket_reopened(
    client: Client, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.send()
    before = client._sender._socket

    def fail(_: bytes) -> int:
        raise OSError(errno.ENETUNREACH, "no route")

    monkeypatch.setattr(client._sender, "_send", fail)
    client.send()
    assert drops(client) == {"dropped_error": 1}
    client.send()
    assert client._sender._socket is not before
    assert len(receiver.waiting()) == 2


def test_a_descriptor_that_the_application_closed_is_left_alone(
    client: Client, receiver: Any
) -> None:
    client.send()
    assert client._sender._socket
    number = client._sender._socket.fileno()
    os.close(number)  # what a daemonising library does to every descriptor
    client.send()
    assert drops(client) == {"dropped_error": 1}
    client.send()
    assert len(receiver.waiting()) == 2


def test_a_descriptor_that_became_a_file_is_not_closed(
    client: Client, receiver: Any, tmp_path: Path
) -> None:
    client.send()
    assert client._sender._socket
    number = client._sender._socket.fileno()
    with (tmp_path / "file").open("w") as file:
        os.dup2(file.fileno(), number)
    client.send()
    client.send()
    assert drops(client) == {"dropped_error": 1}
    os.fstat(number)  # raises if it was closed
    os.close(number)
    assert len(receiver.waiting()) == 2


class Names:
    """Takes the place of getaddrinfo for names, and counts the look-ups."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = 0
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        real = socket.getaddrinfo

        def look(host: str, port: int, type: int, flags: int = 0) -> Any:  # noqa: A002
            if flags == socket.AI_NUMERICHOST:
                return real(host, port, type=type, flags=flags)
            self.asked += 1
            self.may_answer.wait(10)
            if not self.port:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            v6 = (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", self.port, 0, 0))
            v4 = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", self.port))
            return [v6, v4]

        monkeypatch.setattr(socket, "getaddrinfo", look)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def test_an_ip_address_is_never_looked_up(names: Names, receiver: Any) -> None:
    with Client(host="127.0.0.1", port=receiver.port) as client:
        client.send()
    assert receiver.receive()
    assert names.asked == 0


def test_a_name_is_looked_up_once_and_ipv4_comes_first(names: Names, receiver: Any) -> None:
    names.port = receiver.port
    with Client(host="llmstatsd.example", port=1) as client:
        for _ in range(3):
            client.send()
    assert len(receiver.waiting()) == 3
    assert names.asked == 1


def test_a_name_that_does_not_resolve_drops_and_counts(names: Names) -> None:
    with Client(host="llmstatsd.example") as client:
        for _ in range(3):
            client.send()
        assert drops(client) == {"dropped_unresolved": 3}
    assert names.asked == 1


def test_a_strict_client_raises_for_a_name(names: Names) -> None:
    with (
        Client(host="llmstatsd.example", strict=True) as client,
        pytest.raises(OSError, match=r"llmstatsd\.example has no address"),
    ):
        client.send()


def test_a_slow_resolver_is_waited_for_once_and_briefly(
    names: Names, receiver: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(module, "FIRST_LOOK_SECONDS", 0.01)
    names.port = receiver.port
    names.may_answer.clear()
    with Client(host="llmstatsd.example") as client:
        client.send()
        monkeypatch.setattr(module, "FIRST_LOOK_SECONDS", 1e6)  # waiting again would never end
        client.send()
        assert drops(client) == {"dropped_unresolved": 2}
        names.may_answer.set()

        def arrives() -> bool:
            client.send()
            return bool(receiver.waiting())

        eventually(arrives)


def test_a_name_is_looked_up_again_after_a_minute(
    names: Names, receiver: Any, eventually: Eventually
) -> None:
    names.port = receiver.port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as moved:
        moved.bind(("127.0.0.1", 0))
        with Client(host="llmstatsd.example") as client:
            client.send()
            names.port = moved.getsockname()[1]
            sender: Any = client._sender
            assert 59 < sender._look_at - sender._looked_at <= module.RESOLVE_SECONDS
            sender._look_at = 0.0  # the minute has passed
            client.send()
            eventually(lambda: sender._found[1][1] == names.port)
            client.send()
            moved.settimeout(10)
            assert moved.recv(9000)
        assert names.asked == 2


def test_a_name_is_looked_up_again_after_an_error(
    names: Names, receiver: Any, eventually: Eventually
) -> None:
    names.port = receiver.port
    with Client(host="llmstatsd.example") as client:
        client.send()
        sender: Any = client._sender
        sender._socket.detach()  # the next send fails
        client.send()
        assert drops(client) == {"dropped_error": 1}
        assert sender._look_at == sender._looked_at + module.RETRY_SECONDS
        sender._look_at = 0.0
        client.send()
        eventually(lambda: names.asked == 2)
    assert len(receiver.waiting()) == 2


def test_no_thread_to_resolve_in_is_a_drop(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    with Client(host="llmstatsd.example") as client:
        client.send()
        assert drops(client) == {"dropped_unresolved": 1}


def test_a_closed_client_counts_and_sends_nothing(client: Client, receiver: Any) -> None:
    client.send()
    client.close()
    client.send()
    client.close()
    assert client.stats()[:4] == (2, 0, 1, 1)
    assert client._sender._socket is None
    assert len(receiver.waiting()) == 1


def test_a_closed_strict_client_raises(strict: Client) -> None:
    strict.close()
    with pytest.raises(ValueError, match="closed"):
        strict.send()
