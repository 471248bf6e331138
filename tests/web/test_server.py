"""The server by real sockets on loopback."""

import asyncio
import errno
import logging
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from llmstatsd.config import Http
from llmstatsd.web import server
from llmstatsd.web.app import WebStats, create_app
from llmstatsd.web.server import REFUSED_CONNECTIONS, WebServer
from tests.web.conftest import DEADLINE_SECONDS, FakeExposition, StartSite, endless

HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def unbound(**options: Any) -> WebServer:
    app = create_app(
        FakeExposition(), is_ready=lambda: True, gzip_level=lambda: 3, stats=WebStats()
    )
    return WebServer(app, Http(**options))


def has_ipv6_loopback() -> bool:
    try:
        with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)):
            return True
    except OSError:
        return False


class Gate:
    """A text of two lines whose second comes when `opens` is set; it never blocks a step."""

    def __init__(self) -> None:
        self.opens = asyncio.Event()

    def pieces(self) -> Iterator[bytes]:
        yield b"first 1\n" * 10_000
        while not self.opens.is_set():
            yield b""
        yield b"last 1\n"


async def wait_until_closed(exposition: FakeExposition) -> None:
    await asyncio.wait_for(exposition.closed.wait(), DEADLINE_SECONDS)


async def test_port_0_is_a_free_port_and_the_text_names_it(start_site: StartSite) -> None:
    site = await start_site(listen="127.0.0.1:0")
    assert site.host == "127.0.0.1"
    assert site.port > 0
    assert (await site.get("/-/healthy")).text == "ok"


async def test_a_name_listens_on_each_of_its_addresses(start_site: StartSite) -> None:
    site = await start_site(listen="localhost:0")
    for host in {str(where[0]) for *_, where in socket.getaddrinfo("localhost", None)}:
        if host != "::1" or has_ipv6_loopback():
            _, writer = await asyncio.open_connection(host, site.port)
            writer.close()


@pytest.mark.skipif(not has_ipv6_loopback(), reason="no IPv6 on this machine")
async def test_an_ipv6_address_stands_in_brackets(start_site: StartSite) -> None:
    site = await start_site(listen="[::1]:0")
    assert site.host == "[::1]"
    assert (await site.get("/-/healthy")).text == "ok"


@pytest.mark.parametrize(("dual_stack", "host"), [(True, "::"), (False, "0.0.0.0")])  # noqa: S104
async def test_an_empty_host_is_every_interface(
    monkeypatch: pytest.MonkeyPatch, dual_stack: bool, host: str
) -> None:
    asked: list[tuple[tuple[Any, ...], Any]] = []
    create_server = socket.create_server

    def on_loopback(where: tuple[Any, ...], **options: Any) -> socket.socket:
        asked.append((where[:2], options["dualstack_ipv6"]))
        return create_server(("127.0.0.1", 0))

    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual_stack)
    monkeypatch.setattr(socket, "create_server", on_loopback)
    web = unbound(listen=":0")
    assert web.bind().startswith("127.0.0.1:")
    assert asked == [((host, 0), dual_stack)]
    web.stop()
    await web.serve()


async def test_an_address_in_use_is_named(start_site: StartSite) -> None:
    site = await start_site()
    listen = f"127.0.0.1:{site.port}"
    with pytest.raises(OSError, match=listen) as caught:
        unbound(listen=listen).bind()
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == "Address already in use"
    assert caught.value.filename == listen


def test_an_address_that_is_not_of_this_machine_is_named() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0") as caught:
        unbound(listen="192.0.2.1:0").bind()
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_name_that_stands_for_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match=r"host\.example:0") as caught:
        unbound(listen="host.example:0").bind()
    assert caught.value.strerror == "Name or service not known"


def test_an_address_in_use_leaves_no_socket_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
        for host in ("127.0.0.1", "127.0.0.2")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    made: list[socket.socket] = []
    create_server = socket.create_server

    def only_once(where: tuple[Any, ...], **options: Any) -> socket.socket:
        if made:
            raise OSError(errno.EADDRINUSE, "in use")
        made.append(create_server(where, **options))
        return made[0]

    monkeypatch.setattr(socket, "create_server", only_once)
    with pytest.raises(OSError, match=r"host\.example:0"):
        unbound(listen="host.example:0").bind()
    assert made[0].fileno() == -1


async def test_a_connection_is_kept_alive_between_requests(start_site: StartSite) -> None:
    site = await start_site()
    client = await site.connect()
    for _ in range(3):
        client.send(HEALTHY)
        assert (await client.answer()).endswith(b"\r\n\r\nok")


async def test_pipelined_requests_are_answered_in_order(start_site: StartSite) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(HEALTHY + HEALTHY.replace(b"healthy", b"ready") + HEALTHY)
    answers = [await client.answer() for _ in range(3)]
    assert [answer.rpartition(b"\r\n\r\n")[2] for answer in answers] == [b"ok", b"ready", b"ok"]


async def test_no_answer_names_the_software(start_site: StartSite) -> None:
    site = await start_site()
    assert "server" not in (await site.get("/")).headers


@pytest.mark.parametrize("sent", [b"", b"GET", HEALTHY[:-2]], ids=repr)
async def test_headers_that_do_not_come_end_the_connection(
    start_site: StartSite, sent: bytes
) -> None:
    site = await start_site(header_timeout_seconds=0.1)
    client = await site.connect()
    client.send(sent)
    assert await client.rest() == b""


async def test_bytes_that_trickle_in_do_not_move_the_deadline(start_site: StartSite) -> None:
    site = await start_site(header_timeout_seconds=0.3)
    client = await site.connect()
    closed = asyncio.create_task(client.rest())
    while not closed.done():
        client.send(b"G")
        await asyncio.wait({closed}, timeout=0.02)
    assert b"200" not in closed.result()


async def test_the_deadline_holds_for_later_requests_too(start_site: StartSite) -> None:
    site = await start_site(header_timeout_seconds=0.1)
    client = await site.connect()
    client.send(HEALTHY)
    await client.answer()
    client.send(HEALTHY[:-2])
    assert await client.rest() == b""


async def test_an_idle_connection_outlives_the_header_deadline(start_site: StartSite) -> None:
    site = await start_site(header_timeout_seconds=0.1)
    idle = await site.connect()
    idle.send(HEALTHY)
    await idle.answer()
    late = await site.connect()
    await late.rest()
    idle.send(HEALTHY)
    assert (await idle.answer()).endswith(b"ok")


async def test_an_idle_connection_ends_at_last(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.1)
    site = await start_site()
    client = await site.connect()
    client.send(HEALTHY)
    await client.answer()
    assert await client.rest() == b""


@pytest.mark.parametrize(("size", "status"), [(1024, b"200"), (1026, b"400"), (50_000, b"400")])
async def test_headers_are_bounded(start_site: StartSite, size: int, status: bytes) -> None:
    site = await start_site(header_bytes=1024)
    client = await site.connect()
    head = HEALTHY[:-2] + b"Connection: close\r\nX: \r\n\r\n"
    client.send(head.replace(b"X: ", b"X: ".ljust(3 + size - len(head), b"x")))
    assert (await client.rest()).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "request_bytes",
    [b"\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\nHost: x\r\n\r\n"],
    ids=repr,
)
async def test_what_is_no_http_is_400_and_closed(
    start_site: StartSite, request_bytes: bytes
) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(request_bytes)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_broken_body_closes_the_connection_and_is_no_error_of_ours(
    start_site: StartSite, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    if waits:
        await client.head()
    client.send(b"no chunk\r\n")
    await client.rest()
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_an_endless_body_ends_the_connection(start_site: StartSite) -> None:
    site = await start_site(header_timeout_seconds=0.2)
    client = await site.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    closed = asyncio.create_task(client.rest())
    while not closed.done():
        client.send(b"x")
        await asyncio.wait({closed}, timeout=0.02)
    assert closed.result().startswith(b"HTTP/1.1 405 ")


async def test_one_request_over_the_limit_is_told_503(start_site: StartSite) -> None:
    gate = Gate()
    site = await start_site(FakeExposition(gate.pieces), connections=2)
    clients = [await site.connect() for _ in range(2)]
    for client in clients:
        client.send(SCRAPE)
        await client.head()
    late = await site.connect()
    late.send(HEALTHY)
    assert (await late.rest()).startswith(b"HTTP/1.1 503 ")
    gate.opens.set()
    for client in clients:
        assert (await client.chunked()).endswith(b"last 1\n")


async def test_answers_of_the_server_itself_have_the_headers_of_all_others(
    start_site: StartSite,
) -> None:
    site = await start_site(FakeExposition(endless), connections=1)
    wrong = await site.connect()
    wrong.send(b"nonsense\r\n\r\n")
    answers = [await wrong.rest()]
    busy = await site.connect()
    busy.send(SCRAPE)
    await busy.head()
    late = await site.connect()
    late.send(HEALTHY)
    answers.append(await late.rest())
    assert [answer.split()[1] for answer in answers] == [b"400", b"503"]
    for answer in answers:
        assert b"x-content-type-options: nosniff" in answer.lower()
        assert b"content-security-policy: default-src 'none'" in answer.lower()
        assert b"cache-control: no-store" in answer.lower()
    assert site.stats.refused["limit"] == 1


async def test_connections_far_over_the_limit_are_closed_at_once(start_site: StartSite) -> None:
    site = await start_site(FakeExposition(endless), connections=1)
    busy = await site.connect()
    busy.send(SCRAPE)
    await busy.head()
    silent = [await site.connect() for _ in range(REFUSED_CONNECTIONS + 1)]
    assert await silent[0].rest() == b""


@pytest.mark.parametrize("sent", [b"", b"GET /metr", HEALTHY], ids=repr)
async def test_500_silent_connections_leave_room_for_a_scrape(
    start_site: StartSite, sent: bytes
) -> None:
    site = await start_site()
    for _ in range(500):
        (await site.connect()).send(sent)
    assert (await site.get("/metrics")).text == "up 1\n"
    assert site.stats.refused["idle"] >= 500 - 64
    assert len(site.server._server.server_state.connections) <= 64


async def test_a_large_scrape_arrives_whole_and_compressed(start_site: StartSite) -> None:
    lines = [f'llm_request_total{{model="m{number}"}} {number}\n' for number in range(50_000)]
    site = await start_site(FakeExposition(lambda: (line.encode() for line in lines)))
    answer = await site.get("/metrics", {"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "".join(lines)
    assert site.stats.bytes == len(answer.content)


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_a_plain_body_is_framed_in_chunks(start_site: StartSite, size: int) -> None:
    text = random.Random(size).randbytes(size)
    pieces = [text[at : at + 99_999] for at in range(0, size, 99_999)]
    site = await start_site(FakeExposition(lambda: iter(pieces)))
    client = await site.connect()
    for _ in range(2):
        client.send(SCRAPE)
        assert b"transfer-encoding: chunked" in (await client.head()).lower()
        assert await client.chunked() == text


async def test_a_client_of_http_1_0_gets_the_bare_body(start_site: StartSite) -> None:
    text = b"0123456789\n" * 30_000
    site = await start_site(FakeExposition(lambda: iter([text, text])))
    client = await site.connect()
    client.send(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in (await client.head()).lower()
    assert await client.rest() == text + text


async def test_head_sends_no_body(start_site: StartSite) -> None:
    site = await start_site()
    client = await site.connect()
    for path in (b"/metrics", b"/-/healthy"):
        client.send(HEALTHY.replace(b"GET /-/healthy", b"HEAD " + path))
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    client.send(HEALTHY)
    assert (await client.answer()).endswith(b"ok")


async def test_for_a_client_that_does_not_read_little_is_held(start_site: StartSite) -> None:
    """A block, and what may wait for the socket before no more is made."""
    site = await start_site(FakeExposition(endless))
    with socket.create_connection((site.host, site.port)) as client:
        client.sendall(SCRAPE)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (held := site.held_bytes()):
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
            held = max(held, site.held_bytes())
    block = len(b"10000\r\n" + next(endless()) + b"\r\n")
    assert held <= HIGH_WATER_LIMIT + block


async def test_a_lost_client_ends_the_generation(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = await start_site(FakeExposition(endless))
    client = await site.connect()
    client.send(SCRAPE)
    await client.head()
    client.writer.transport.abort()
    await wait_until_closed(site.exposition)
    assert caplog.records == []


async def test_a_client_that_does_not_read_ends_the_generation(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RESPONSE_SECONDS", 0.2)
    site = await start_site(FakeExposition(endless))
    with socket.create_connection((site.host, site.port)) as client:
        client.sendall(SCRAPE)
        await wait_until_closed(site.exposition)
    assert site.stats.scrapes == 0


async def test_an_error_of_ours_is_logged_and_cuts_the_answer(
    start_site: StartSite, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 70_000
        raise ZeroDivisionError

    site = await start_site(FakeExposition(broken))
    with pytest.raises(httpx.RemoteProtocolError):
        await site.get("/metrics")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info is not None


async def test_stopping_lets_a_scrape_in_flight_finish(start_site: StartSite) -> None:
    gate = Gate()
    site = await start_site(FakeExposition(gate.pieces))
    client = await site.connect()
    client.send(SCRAPE)
    await client.head()
    site.server.stop()
    await wait_until_refused(site.host, site.port)
    assert not site.task.done()
    gate.opens.set()
    assert b"last 1\n" in await client.rest()
    await site.stop()


async def wait_until_refused(host: str, port: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was in the queue when the listener was closed
                continue
            writer.close()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_stopping_does_not_wait_for_a_scrape_without_end(
    start_site: StartSite, seconds: float
) -> None:
    site = await start_site(FakeExposition(endless), shutdown_timeout_seconds=seconds)
    client = await site.connect()
    client.send(SCRAPE)
    await client.head()
    await site.stop()
    assert site.exposition.closed.is_set()


@pytest.mark.parametrize("sent", [b"", HEALTHY, HEALTHY[:9]], ids=repr)
async def test_stopping_closes_connections_without_a_request(
    start_site: StartSite, sent: bytes
) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(sent)
    if sent == HEALTHY:
        await client.answer()
    await site.stop()
    assert await client.rest() == b""


async def test_a_server_stopped_before_it_serves_ends_at_once() -> None:
    web = unbound(listen="127.0.0.1:0")
    host, _, port = web.bind().rpartition(":")
    web.stop()
    await asyncio.wait_for(web.serve(), DEADLINE_SECONDS)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_signals_and_logging_stay_as_the_daemon_set_them(start_site: StartSite) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    site = await start_site()
    await site.get("/-/healthy")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert logging.getLogger("uvicorn").handlers == []
    await site.stop()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
