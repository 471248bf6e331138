"""The client over asyncio-dgram, against real sockets."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llmstatsd_client import AsyncClient
from llmstatsd_client import aio as module

PACKAGE = Path(__file__).parents[1]
LINE = "llm_request_total:1|c|#model:m"


@pytest.fixture
async def aclient(receiver: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(port=receiver.port) as client:
        yield client


def bound(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    sock.settimeout(10)
    return sock


async def test_one_call_is_one_datagram(aclient: AsyncClient, receiver: Any) -> None:
    aclient.send(model="m", tokens=3)
    await aclient.flush()
    assert receiver.waiting() == [f"{LINE}\nllm_tokens_total:3|c|#model:m"]
    assert aclient.stats()[:4] == (1, 0, 0, 1)


async def test_send_never_waits_and_closing_sends_the_rest(receiver: Any) -> None:
    async with AsyncClient(port=receiver.port) as client:
        for _ in range(500):
            client.send(model="m")
    assert receiver.waiting() == [LINE] * 500
    assert client.stats().sent_bytes == 500 * len(LINE)


async def test_the_first_event_starts_the_task(receiver: Any) -> None:
    client = AsyncClient(port=receiver.port)
    client.send(model="m")
    await client.aclose()
    assert receiver.waiting() == [LINE]


def test_events_wait_for_a_loop_and_outlive_it(receiver: Any) -> None:
    client = AsyncClient(port=receiver.port)
    client.send(model="m")
    assert receiver.waiting() == []

    async def work() -> None:
        client.send(model="m")
        await client.flush()

    asyncio.run(work())
    assert receiver.waiting() == [LINE] * 2
    asyncio.run(work())  # a loop of its own
    assert receiver.waiting() == [LINE]
    asyncio.run(client.aclose())


async def test_a_full_queue_drops_and_counts(aclient: AsyncClient, receiver: Any) -> None:
    for _ in range(module.QUEUE_LIMIT + 5):
        aclient.send(model="m")  # the task has not run yet
    assert aclient.stats().dropped_full == 5
    await aclient.flush()
    assert len(receiver.waiting()) == module.QUEUE_LIMIT


async def test_threads_may_send(aclient: AsyncClient, receiver: Any) -> None:
    def work() -> None:
        for _ in range(100):
            aclient.send(model="m")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.join)
    await aclient.flush()
    assert len(receiver.waiting()) == 400


async def test_a_sleeping_task_is_woken(aclient: AsyncClient, receiver: Any) -> None:
    for _ in range(3):
        aclient.send(model="m")
        await aclient.flush()
        await asyncio.to_thread(aclient.send, model="m")
        while aclient.stats().sent_datagrams % 2:
            await asyncio.sleep(0.001)
    assert len(receiver.waiting()) == 6


async def test_a_unix_socket_that_came_back_is_found(unix_path: str) -> None:
    async with AsyncClient(socket=unix_path) as client:
        client.send()
        await client.flush()
        assert client.stats().dropped_unreachable == 1
        for _ in range(2):
            with bound(unix_path) as receiver:
                client.send()
                await client.flush()
                assert receiver.recv(9000)
    assert client.stats().sent_datagrams == 2


async def test_nobody_listening_is_no_error_of_the_application() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    async with AsyncClient(port=port) as client:
        for _ in range(10):
            client.send()
            await client.flush()
    assert client.stats().sent_datagrams + client.stats().dropped_unreachable == 10


async def test_a_name_that_does_not_resolve_drops_and_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with AsyncClient(host="llmstatsd.example") as client:
        client.send()
        await client.flush()
        assert client.stats().dropped_unresolved == 1


async def test_an_invalid_argument_is_nowhere() -> None:
    async with AsyncClient(port=0) as client:
        client.send()
        await client.flush()
    assert client.stats().dropped_unresolved == 1


async def test_an_address_is_looked_up_again_after_a_minute(
    aclient: AsyncClient, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    real = module.Link._address

    async def look(self: Any) -> Any:
        looked.append(1)
        return await real(self)

    now = [0.0]
    monkeypatch.setattr(module.Link, "_address", look)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for seconds in (0.0, 59.0, 61.0):
        now[0] = seconds
        aclient.send(model="m")
        await aclient.flush()
    assert len(looked) == 2
    assert len(receiver.waiting()) == 3


async def test_another_error_opens_the_stream_anew(
    aclient: AsyncClient, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncio_dgram.aio import DatagramClient

    async def fail(self: Any, _: bytes) -> None:
        raise OSError("mine")

    with monkeypatch.context() as patch:
        patch.setattr(DatagramClient, "send", fail)
        aclient.send(model="m")
        await aclient.flush()
    aclient.send(model="m")
    await aclient.flush()
    assert aclient.stats()[-1] == 1
    assert receiver.waiting() == [LINE]


async def test_a_closed_client_counts_and_sends_nothing(
    aclient: AsyncClient, receiver: Any
) -> None:
    await aclient.aclose()
    aclient.send(model="m")
    await aclient.flush()
    await aclient.aclose()
    assert aclient.stats()[:4] == (1, 0, 1, 0)
    assert receiver.waiting() == []


async def test_what_cannot_be_sent_in_time_is_counted(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncio_dgram.aio import DatagramClient

    async def hang(self: Any, _: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DatagramClient, "send", hang)
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    client = AsyncClient(port=receiver.port)
    for _ in range(3):
        client.send()
    await client.aclose()
    assert client.stats().dropped_full == 3


async def test_a_request_is_the_same_as_of_the_other_client(
    aclient: AsyncClient, receiver: Any
) -> None:
    async with aclient.request(model="m"):
        pass
    await aclient.flush()
    assert receiver.lines()[0] == LINE


async def test_a_disabled_client_starts_no_task() -> None:
    before = len(asyncio.all_tasks())
    async with AsyncClient(disabled=True) as client:
        client.send()
        await client.flush()
        assert len(asyncio.all_tasks()) == before
    assert client.stats() == (1, *[0] * 8)


async def test_a_strict_client_raises_for_a_field(receiver: Any) -> None:
    async with AsyncClient(port=receiver.port, strict=True) as client:
        with pytest.raises(ValueError, match="tokens"):
            client.send(tokens=-1)


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_client_that_is_dropped_ends_its_task_quietly(receiver: Any) -> None:
    run(
        f"""
import asyncio, gc
from llmstatsd_client import AsyncClient
async def main():
    client = AsyncClient(port={receiver.port})
    client.send(model="m")
    await client.flush()
    del client
    gc.collect()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)
asyncio.run(main())
"""
    )
    assert receiver.waiting() == [LINE]


def test_a_child_of_a_fork_begins_anew(receiver: Any) -> None:
    run(
        f"""
import asyncio, os
from llmstatsd_client import AsyncClient
client = AsyncClient(port={receiver.port})
client.send(model="m")
child = os.fork()
if child == 0:
    assert client.stats().events == 0
    async def main():
        async with client:
            client.send(model="m")
    asyncio.run(main())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert receiver.waiting() == [LINE]


def test_without_asyncio_dgram_the_class_says_so(receiver: Any) -> None:
    run(
        """
import sys
sys.modules["asyncio_dgram"] = None
from llmstatsd_client import Client
Client()
try:
    from llmstatsd_client import AsyncClient
except ImportError as error:
    assert "asyncio_dgram" in str(error)
else:
    raise SystemExit("no error")
"""
    )
