"""A web server on uvloop, as the daemon has it, over an exposition that tests steer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvloop

from llmstatsd.config import Http
from llmstatsd.exposition.text import Format
from llmstatsd.web.app import WebStats, create_app
from llmstatsd.web.security import OPEN, Security
from llmstatsd.web.server import WebServer

DEADLINE_SECONDS = 20.0


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class FakeExposition:
    """Gives `pieces`, and notes what was asked; `closed` is set when a scrape's text ends."""

    pieces: Callable[[], Iterator[bytes]] = lambda: iter([b"up 1\n"])
    asked: list[tuple[Format, frozenset[str] | None]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def chunks(self, chosen: Format, names: frozenset[str] | None) -> Iterator[bytes]:
        self.asked.append((chosen, names))
        try:
            yield from self.pieces()
        finally:
            self.closed.set()


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


@dataclass
class Client:
    """A connection that sends what a test says, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        """The next status line and headers."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_SECONDS)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        received = b""
        with suppress(ConnectionError):
            while data := await asyncio.wait_for(self.reader.read(65536), DEADLINE_SECONDS):
                received += data
        return received

    async def chunked(self) -> bytes:
        """The text of a body in chunks (RFC 9112, section 7.1)."""
        text = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                text += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
        return text

    async def answer(self) -> bytes:
        """The next answer, whose length its head must tell."""
        head = await self.head()
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await asyncio.wait_for(self.reader.readexactly(length), DEADLINE_SECONDS)


@dataclass
class Site:
    """A server under test, with the exposition behind it."""

    host: str
    port: int
    server: WebServer
    task: "asyncio.Task[None]"
    exposition: FakeExposition
    stats: WebStats
    clients: list[Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def connect(self) -> Client:
        """A connection that is closed with the site, if not before."""
        self.clients.append(Client(*await asyncio.open_connection(self.host, self.port)))
        return self.clients[-1]

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
            return await client.get(self.url + path, headers=headers)

    def held_bytes(self) -> int:
        """What the sockets have not yet taken of all answers."""
        connections = self.server._server.server_state.connections
        return sum(each.transport.get_write_buffer_size() for each in connections)

    async def stop(self) -> None:
        self.server.stop()
        await asyncio.wait_for(self.task, DEADLINE_SECONDS)


StartSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start_site() -> AsyncIterator[StartSite]:
    """Starts servers on free loopback ports, by options of `[http]`; each is stopped at the end."""
    sites: list[Site] = []

    async def start(
        exposition: FakeExposition | None = None,
        guarded: Security = OPEN,
        reload: Callable[[], Awaitable[str | None]] | None = None,
        **options: Any,
    ) -> Site:
        exposition = exposition or FakeExposition()
        stats = WebStats()
        app = create_app(
            exposition, is_ready=lambda: True, gzip_level=lambda: 3, stats=stats, reload=reload
        )
        http = Http(**{"listen": "127.0.0.1:0", **options})
        server = WebServer(app, http, stats, guarded)
        host, _, port = server.bind().rpartition(":")
        task = asyncio.create_task(server.serve())
        sites.append(Site(host, int(port), server, task, exposition, stats))
        return sites[-1]

    yield start
    for site in sites:
        for client in site.clients:
            client.writer.transport.abort()
        await site.stop()
