"""Binding sockets, and what the kernel tells of them."""

import socket

import pytest

from llmstatsd.intake import sockets


def test_a_clamped_buffer_is_seen_in_what_was_granted() -> None:
    bound = sockets.bind("127.0.0.1", 0, 1 << 30)[0]
    assert bound.buffer_bytes < bound.asked_buffer_bytes
    bound.close()


def test_a_port_in_use_is_an_os_error() -> None:
    bound = sockets.bind("127.0.0.1", 0, 1 << 16)[0]
    with pytest.raises(OSError, match="in use"):
        sockets.bind("127.0.0.1", bound.address[1], 1 << 16)
    bound.close()


def test_a_port_in_use_by_a_single_socket_is_not_shared() -> None:
    bound = sockets.bind("127.0.0.1", 0, 1 << 16)[0]
    with pytest.raises(OSError, match="in use"):
        sockets.bind("127.0.0.1", bound.address[1], 1 << 16, 2)
    bound.close()


def test_shared_sockets_have_one_address_and_their_memory_is_summed() -> None:
    bound = sockets.bind("127.0.0.1", 0, 1 << 16, 3)
    assert len({each.address for each in bound}) == 1
    for number in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"%d" % number, bound[0].address)
    memory = sockets.memory_of(bound)
    assert memory is not None
    waiting = [each.memory() for each in bound]
    assert memory.queued_bytes == sum(each.queued_bytes for each in waiting if each) > 0
    for each in bound:
        each.close()
    assert sockets.memory_of(bound) is None


def test_a_name_means_ipv4_where_it_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    bound = sockets.bind("localhost", 0, 1 << 16)[0]
    assert bound.address[0] == "127.0.0.1"
    bound.close()


def test_an_address_that_is_not_here_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 0)),
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    bound = sockets.bind("both.test", 0, 1 << 16)[0]
    assert bound.address[0] == "::1"
    bound.close()
