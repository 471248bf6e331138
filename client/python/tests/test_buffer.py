"""Buffered events: when they go, how they share datagrams, and that memory stays bounded."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmstatsd_client import Client
from llmstatsd_client import buffer as module

Eventually = Callable[[Callable[[], object]], None]

LINE = "llm_request_total:1|c|#model:m"
FITS = (1432 + 1) // (len(LINE) + 1)
"""Events of that one line that fit into a datagram."""


@pytest.fixture
def buffered(receiver: Any) -> Iterator[Client]:
    with Client(port=receiver.port, buffered=True) as client:
        yield client


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes for the thread: it flushes when it is woken only."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", threading.TIMEOUT_MAX)


@pytest.mark.usefixtures("never")
def test_events_share_datagrams_and_flush_sends_them(buffered: Client, receiver: Any) -> None:
    for _ in range(FITS + 1):
        buffered.send(model="m")
    assert receiver.waiting() == []
    buffered.flush()
    assert receiver.waiting() == ["\n".join([LINE] * FITS), LINE]
    assert buffered.stats()[:4] == (FITS + 1, 0, 0, 2)


@pytest.mark.usefixtures("never")
def test_an_event_is_not_cut_to_fill_a_datagram(buffered: Client, receiver: Any) -> None:
    for _ in range(3):
        buffered.send(model="m" * 100, operation="o" * 100, tokens=1, prompt_tokens=1)
    buffered.flush()
    assert [datagram.count("llm_request_total") for datagram in receiver.waiting()] == [2, 1]


def test_what_waits_goes_after_300_ms(buffered: Client, receiver: Any) -> None:
    started = time.monotonic()
    buffered.send(model="m")
    assert receiver.receive() == LINE
    assert time.monotonic() - started >= 0.29


@pytest.mark.usefixtures("never")
def test_many_events_go_before_the_time(buffered: Client, receiver: Any) -> None:
    for _ in range(module.BATCH):
        buffered.send(model="m")
    assert receiver.receive().startswith(LINE)


@pytest.mark.usefixtures("never")
def test_the_thread_goes_on_sleeping_and_waking(
    buffered: Client, receiver: Any, eventually: Eventually
) -> None:
    for _ in range(5):
        for _ in range(module.BATCH):
            buffered.send(model="m")
        eventually(lambda: not buffered._buffer._waiting)
    buffered.flush()
    assert sum(datagram.count(LINE) for datagram in receiver.waiting()) == 5 * module.BATCH


@pytest.mark.usefixtures("never")
def test_close_sends_what_waits(receiver: Any) -> None:
    with Client(port=receiver.port, buffered=True) as client:
        client.send(model="m")
    assert receiver.waiting() == [LINE]


@pytest.mark.usefixtures("never")
def test_an_event_that_comes_while_closing_is_not_left_behind(
    buffered: Client, receiver: Any
) -> None:
    deliver: Any = buffered._deliver
    buffered.close()
    deliver(b"late:1|c")  # a thread that was inside send when another closed
    assert receiver.waiting() == ["late:1|c"]


@pytest.mark.usefixtures("never")
def test_values_are_those_of_the_call(buffered: Client, receiver: Any) -> None:
    name = bytearray(b"before")
    anything: Any = name
    buffered.send(model=anything)
    name[:] = b"after_"
    buffered.flush()
    assert receiver.receive() == "llm_request_total:1|c|#model:before"


@pytest.mark.usefixtures("never")
def test_refused_fields_count_at_the_call(buffered: Client) -> None:
    buffered.send(tokens=-1)
    assert buffered.stats().refused_fields == 1


def test_without_a_thread_nothing_is_lost_and_nothing_piles_up(
    buffered: Client, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    for _ in range(3):
        buffered.send(model="m")
    assert receiver.waiting() == [LINE] * 3


def test_a_sender_over_the_limit_flushes_itself(
    buffered: Client, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("_thread.start_new_thread", lambda *_: 0)  # one that never runs
    for _ in range(3 * module.LIMIT):
        buffered.send(model="m")
        assert len(buffered._buffer._waiting) <= module.LIMIT
    buffered.flush()
    assert sum(datagram.count(LINE) for datagram in receiver.waiting()) == 3 * module.LIMIT


def test_long_lines_do_not_wait(
    buffered: Client, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("_thread.start_new_thread", lambda *_: 0)
    buffered.send(model="m")
    buffered.send(model="😀" * 128, operation="😀" * 128, tokens=1, cost_dollars=-1)
    assert receiver.waiting()[0] == LINE
    assert not buffered._buffer._waiting


@pytest.mark.usefixtures("never")
def test_a_strict_client_raises_at_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(socket="/nonexistent/llmstatsd.sock", buffered=True, strict=True)
    client.send()
    with pytest.raises(FileNotFoundError):
        client.flush()
    assert client.stats().dropped_unreachable == 1
    client.close()


def test_an_unbuffered_client_starts_no_thread(
    client: Client, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    client.send()
    client.flush()
    assert receiver.receive()
