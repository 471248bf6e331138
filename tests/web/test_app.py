"""The application by ASGI calls, without sockets."""

import asyncio
import gzip
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope

from llmstatsd import __version__
from llmstatsd.web.app import (
    BLOCK_BYTES,
    CONCURRENT_SCRAPES,
    GZIP_BLOCK_BYTES,
    WebStats,
    accepts_gzip,
    create_app,
)
from tests.web.conftest import DEADLINE_SECONDS, FakeExposition, endless

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

PATHS = ("/", "/metrics", "/-/healthy", "/-/ready")


class App:
    """The application with everything around it that a test may look at or change."""

    def __init__(self) -> None:
        self.exposition = FakeExposition()
        self.is_ready = True
        self.stats = WebStats()
        self.asgi: Starlette = create_app(
            self.exposition, is_ready=lambda: self.is_ready, gzip_level=lambda: 3, stats=self.stats
        )


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        client.headers["accept-encoding"] = "identity"
        yield client


class Scrape:
    """A scrape by bare ASGI messages; it goes on only while `reads` is set."""

    def __init__(self, app: App) -> None:
        self.messages: list[Message] = []
        self.reads = asyncio.Event()
        self.leaves = asyncio.Event()
        self.begun = asyncio.Event()
        self.flows = asyncio.Event()
        self.task = asyncio.create_task(self._run(app))

    async def _run(self, app: App) -> None:
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "path": "/metrics",
            "query_string": b"",
            "headers": [],
        }
        await app.asgi(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)
        self.begun.set()
        if message["type"] == "http.response.body":
            self.flows.set()
        await self.reads.wait()


class HeldScrape(Scrape):
    """One whose reader takes the headers, and nothing of the body until `reads` is set."""

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await super()._send(message)


async def test_the_page_links_every_other_and_names_the_version(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'data-version="{__version__}"' in page.text
    links = set(re.findall(r'href="([^"#:]*)"', page.text))
    assert {f"/{link}" for link in links} == {*PATHS, "/api/v1/summary"} - {"/"}


@pytest.mark.parametrize("part", ["style", "script"])
async def test_the_page_allows_its_own_parts_and_nothing_else(
    client: httpx.AsyncClient, part: str
) -> None:
    page = await client.get("/")
    [own] = re.findall(rf"<{part}>(.*?)</{part}>", page.text, re.DOTALL)
    digest = b64encode(sha256(own.encode()).digest()).decode()
    policy = page.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert f"{part}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in page.headers["content-security-policy"]


async def test_the_page_asks_nobody_else(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert set(re.findall(r"\w+://[^'\" ]*", page.text)) == {"http://www.w3.org/2000/svg"}


async def test_the_process_is_healthy_while_it_answers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/-/healthy")
    assert (answer.status_code, answer.text) == (200, "ok")


async def test_ready_says_what_the_daemon_says(app: App, client: httpx.AsyncClient) -> None:
    assert (await client.get("/-/ready")).status_code == 200
    app.is_ready = False
    assert (await client.get("/-/ready")).status_code == 503


@pytest.mark.parametrize("path", ["/metrics/", "/-/", "/-/healthy/x", "/favicon.ico", "/%2e%2e/"])
async def test_an_unknown_path_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_a_wrong_method_is_405_and_learns_the_right_ones(
    client: httpx.AsyncClient, path: str, method: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize("path", PATHS)
async def test_head_gives_the_headers_of_get_and_no_body(
    client: httpx.AsyncClient, path: str
) -> None:
    head, get = await client.head(path), await client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_head_makes_no_exposition(app: App, client: httpx.AsyncClient) -> None:
    await client.head("/metrics")
    assert app.exposition.asked == []


async def test_the_format_follows_the_accept_header(app: App, client: httpx.AsyncClient) -> None:
    plain = await client.get("/metrics")
    openmetrics = await client.get("/metrics", headers={"accept": OPENMETRICS})
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert [chosen.openmetrics for chosen, _ in app.exposition.asked] == [False, True]
    assert plain.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", None),
        ("?name[]=", None),
        ("?other=1", None),
        ("?name[]=a", {"a"}),
        ("?name%5B%5D=a&name[]=b&name[]=a", {"a", "b"}),
    ],
)
async def test_names_select_samples(
    app: App, client: httpx.AsyncClient, query: str, names: set[str] | None
) -> None:
    await client.get(f"/metrics{query}")
    assert app.exposition.asked[0][1] == names


@pytest.mark.parametrize(
    "header",
    ["gzip", "GZIP", "deflate, gzip;q=0.5", "gzip ; q=1", "*", "br, *;q=0.1", "identity;q=0, gzip"],
)
def test_gzip_is_accepted_by(header: str) -> None:
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header",
    ["", "identity", "br", "gzip;q=0", "gzip;q=0.0", "*;q=0", "gzip;q=0, *", "gzip;q=x", "xgzip"],
)
def test_gzip_is_not_accepted_by(header: str) -> None:
    assert not accepts_gzip(header)


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, GZIP_BLOCK_BYTES, 2 * GZIP_BLOCK_BYTES + 7]
)
async def test_gzip_changes_nothing_of_the_text(
    app: App, client: httpx.AsyncClient, size: int
) -> None:
    text = (b"0123456789\n" * (size // 11 + 1))[:size]
    app.exposition.pieces = lambda: (text[at : at + 999] for at in range(0, size, 999))
    plain = await client.get("/metrics")
    async with client.stream("GET", "/metrics", headers={"accept-encoding": "gzip"}) as packed:
        raw = b"".join([data async for data in packed.aiter_raw()])
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.content == gzip.decompress(raw) == text


async def test_small_pieces_leave_in_large_blocks(app: App) -> None:
    app.exposition.pieces = lambda: iter([b"x" * 100] * 2000)
    scrape = Scrape(app)
    scrape.reads.set()
    await scrape.task
    sizes = [len(message["body"]) for message in scrape.messages[1:]]
    assert sum(sizes) == 200_000
    assert len(sizes) <= 200_000 // BLOCK_BYTES + 2


async def test_a_block_is_made_only_when_its_reader_took_the_one_before(app: App) -> None:
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(4):
            asked.append(number)
            yield b"x" * BLOCK_BYTES

    app.exposition.pieces = pieces
    scrape = HeldScrape(app)
    await scrape.flows.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked == [0]
    scrape.reads.set()
    await scrape.task
    assert asked == [0, 1, 2, 3]


async def test_the_loop_takes_a_turn_after_every_long_step_of_all_scrapes(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmstatsd.web.app.TURN_SECONDS", 0.0)
    turns = 0
    steps: list[int] = []

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            steps.append(turns)
            yield b"x"

    app.exposition.pieces = pieces
    ticker = asyncio.create_task(take_turns())
    scrapes = [Scrape(app) for _ in range(3)]
    for scrape in scrapes:
        scrape.reads.set()
    await asyncio.gather(*(scrape.task for scrape in scrapes))
    ticker.cancel()
    assert len(steps) == 150
    assert len(set(steps)) == 150


async def test_scrapes_over_the_limit_wait_for_their_turn(app: App) -> None:
    scrapes = [Scrape(app) for _ in range(CONCURRENT_SCRAPES + 2)]
    for scrape in scrapes[:CONCURRENT_SCRAPES]:
        await scrape.begun.wait()
    assert not any(scrape.begun.is_set() for scrape in scrapes[CONCURRENT_SCRAPES:])
    for scrape in scrapes:
        scrape.reads.set()
    await asyncio.gather(*(scrape.task for scrape in scrapes))
    assert app.stats.scrapes == CONCURRENT_SCRAPES + 2


async def test_a_client_that_goes_away_ends_its_scrape_and_frees_its_slot(app: App) -> None:
    app.exposition.pieces = endless
    for _ in range(CONCURRENT_SCRAPES + 1):
        app.exposition.closed.clear()
        scrape = Scrape(app)
        scrape.reads.set()
        await scrape.flows.wait()
        scrape.leaves.set()
        await scrape.task
        await asyncio.wait_for(app.exposition.closed.wait(), DEADLINE_SECONDS)
    assert app.stats.scrapes == 0


async def test_a_client_that_goes_away_while_it_waits_makes_no_work(app: App) -> None:
    app.exposition.pieces = endless
    holders = [Scrape(app) for _ in range(CONCURRENT_SCRAPES)]
    for holder in holders:
        await holder.begun.wait()
    waiter = Scrape(app)
    waiter.leaves.set()
    await waiter.task
    assert waiter.messages == []
    for holder in holders:
        holder.leaves.set()
    await asyncio.gather(*(holder.task for holder in holders))


async def test_an_error_of_ours_is_not_hidden_and_frees_its_slot(
    app: App, client: httpx.AsyncClient
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    app.exposition.pieces = broken
    for _ in range(CONCURRENT_SCRAPES + 1):
        with pytest.raises(ZeroDivisionError):
            await client.get("/metrics")


async def test_scrapes_are_counted_with_the_text_made_and_their_time(
    app: App, client: httpx.AsyncClient
) -> None:
    app.exposition.pieces = lambda: iter([b"x" * 1000, b"y" * 500])
    await client.get("/metrics", headers={"accept-encoding": "gzip"})
    await client.get("/metrics")
    assert (app.stats.scrapes, app.stats.bytes) == (2, 3000)
    assert 0 < app.stats.last_seconds < app.stats.seconds
