"""The doors of the web by real sockets: TLS, certificates, passwords, methods, bodies, origins."""

import asyncio
import base64
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from llmstatsd.web import security
from llmstatsd.web.page import PAGE_HEADERS
from llmstatsd.web.passwords import REMEMBERED, Passwords
from llmstatsd.web.security import Security
from llmstatsd.web.server import EARLY_BYTES, _Door
from tests.certificates import DAY, NOW, Authority, Pair
from tests.web.conftest import DEADLINE_SECONDS, FakeExposition, Site, StartSite

USERS = {"alice": bcrypt.hashpw(b"right", bcrypt.gensalt(4))}
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def guarded(authority: Authority, folder: Path, *lines: str) -> Security:
    own = authority.sign("127.0.0.1")
    file = folder / "web.yml"
    first = ("tls_server_config:", f"  cert_file: {own.certificate}", f"  key_file: {own.key}")
    file.write_text("\n".join([*first, *lines]))
    return security.load(str(file))


def certified(authority: Authority, folder: Path, *lines: str) -> Security:
    return guarded(
        authority,
        folder,
        "  client_auth_type: RequireAndVerifyClientCert",
        f"  client_ca_file: {authority.certificate}",
        *lines,
    )


async def ask(
    site: Site, authority: Authority, pair: Pair | None = None, **options: Any
) -> httpx.Response:
    context = ssl.create_default_context(cafile=authority.certificate)
    if pair:
        context.load_cert_chain(*pair)
    async with httpx.AsyncClient(verify=context, timeout=DEADLINE_SECONDS) as client:
        return await client.get(f"https://{site.host}:{site.port}/metrics", **options)


async def wait_for_refusals(site: Site, reason: str, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while site.stats.refused[reason] < count:
            await asyncio.sleep(0.01)


async def test_a_scrape_goes_over_tls(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    site = await start_site(guarded=guarded(authority, tmp_path))
    answers = await asyncio.gather(*(ask(site, authority) for _ in range(50)))
    assert {answer.text for answer in answers} == {"up 1\n"}
    assert site.stats.refused["tls"] == 0


async def test_plain_http_on_a_tls_port_is_refused_and_does_no_harm(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    site = await start_site(guarded=guarded(authority, tmp_path))
    client = await site.connect()
    client.send(HEALTHY)
    assert b"200" not in await client.rest()
    await wait_for_refusals(site, "tls", 1)
    assert (await ask(site, authority)).status_code == 200


async def test_tls_on_a_plain_port_is_refused_and_does_no_harm(
    start_site: StartSite, authority: Authority
) -> None:
    site = await start_site()
    with pytest.raises(httpx.ConnectError):
        await ask(site, authority)
    assert (await site.get("/metrics")).status_code == 200


async def test_a_handshake_that_does_not_come_ends_the_connection(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    site = await start_site(guarded=guarded(authority, tmp_path), header_timeout_seconds=0.2)
    client = await site.connect()
    client.send(b"\x16\x03\x01")
    await client.rest()
    await wait_for_refusals(site, "tls", 1)
    assert site.server._server.server_state.connections == set()


async def test_500_silent_handshakes_leave_room_for_a_scrape(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    site = await start_site(guarded=guarded(authority, tmp_path))
    for _ in range(500):
        await site.connect()
    assert (await ask(site, authority)).text == "up 1\n"


async def test_tls_1_1_is_refused(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    site = await start_site(guarded=guarded(authority, tmp_path))
    context = ssl.create_default_context(cafile=authority.certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what is tested
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(site.host, site.port, ssl=context)
    await wait_for_refusals(site, "tls", 1)


async def test_the_right_certificate_is_admitted(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    allowed = certified(authority, tmp_path, "  client_allowed_sans: [prometheus.example]")
    site = await start_site(guarded=allowed)
    pair = authority.sign("prometheus.example")
    assert (await ask(site, authority, pair)).text == "up 1\n"


@pytest.mark.parametrize("which", ["none", "foreign", "expired", "not yet", "san"])
async def test_a_certificate_that_does_not_do_is_refused(
    start_site: StartSite, authority: Authority, tmp_path: Path, which: str
) -> None:
    allowed = certified(authority, tmp_path, "  client_allowed_sans: [prometheus.example]")
    site = await start_site(guarded=allowed)
    name = "prometheus.example"
    pairs: dict[str, Callable[[], Pair | None]] = {
        "none": lambda: None,
        "foreign": lambda: Authority(tmp_path / "other").sign(name),
        "expired": lambda: authority.sign(name, NOW - 2 * DAY, NOW - DAY),
        "not yet": lambda: authority.sign(name, NOW + DAY, NOW + 2 * DAY),
        "san": lambda: authority.sign("somebody.example"),
    }
    with pytest.raises(httpx.TransportError):
        await ask(site, authority, pairs[which]())
    await wait_for_refusals(site, "tls", 1)
    assert site.exposition.asked == []


async def test_a_new_context_holds_for_new_connections_and_old_ones_go_on(
    start_site: StartSite, authority: Authority, tmp_path: Path
) -> None:
    site = await start_site(guarded=guarded(authority, tmp_path))
    other = Authority(tmp_path / "other")
    context = ssl.create_default_context(cafile=authority.certificate)
    async with httpx.AsyncClient(verify=context, timeout=DEADLINE_SECONDS) as old:
        url = f"https://{site.host}:{site.port}/-/healthy"
        await old.get(url)
        site.server.set_security(guarded(other, tmp_path))
        assert (await old.get(url)).text == "ok"
    assert (await ask(site, other)).status_code == 200
    with pytest.raises(httpx.ConnectError):
        await ask(site, authority)


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nothing"])
async def test_no_path_is_exempt_from_the_password(start_site: StartSite, path: str) -> None:
    site = await start_site(guarded=Security(users=USERS))
    answer = await site.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("alice:right"), 200),
        (basic("alice:wrong"), 401),
        (basic("alice:"), 401),
        (basic("bob:right"), 401),
        (basic("alice:right" + "x" * 72), 401),
        (basic("alice:right\0"), 401),
        (basic("no colon"), 401),
        ({"authorization": "Basic !"}, 401),
        ({"authorization": "Bearer alice:right"}, 401),
    ],
    ids=repr,
)
async def test_only_the_right_password_is_admitted(
    start_site: StartSite, headers: dict[str, str], status: int
) -> None:
    site = await start_site(guarded=Security(users=USERS))
    for _ in range(2):  # the second time from memory
        assert (await site.get("/metrics", headers)).status_code == status
    assert site.stats.refused["password"] == (0 if status == 200 else 2)


async def test_what_is_remembered_of_passwords_is_bounded() -> None:
    passwords = Passwords(USERS)
    assert await passwords.admit(basic("alice:right")["authorization"])
    for number in range(REMEMBERED + 20):
        assert not await passwords.admit(basic(f"alice:{number}")["authorization"])
    assert len(passwords._wrong) == REMEMBERED
    assert len(passwords._right) == 1


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 36\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +36\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n24;a=b\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x24\r\n",
        b"GET / HTTP/1.1\nHost: x\nContent-Length: 36\n\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    ],
    ids=repr,
)
async def test_nothing_is_smuggled_behind_a_request(
    start_site: StartSite, request_bytes: bytes
) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(request_bytes + SMUGGLED)
    answer = await client.rest()
    # A body broken while its answer is under way cuts the connection before or after the answer.
    assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 501")
    assert answer.count(b"HTTP/1.1") <= 1
    assert site.exposition.asked == []


@pytest.mark.parametrize(
    "target",
    [
        b"/../../etc/passwd",
        b"/metrics/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"//etc/passwd",
        b"/metrics%00",
        b"http://other.example/etc/passwd",
        b"*",
    ],
    ids=repr,
)
async def test_a_path_leads_nowhere_else(start_site: StartSite, target: bytes) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await client.rest())[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 400")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "X"])
async def test_other_methods_than_get_and_head_are_405(start_site: StartSite, method: str) -> None:
    site = await start_site()
    client = await site.connect()
    client.send(f"{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"allow: GET, HEAD\r\n" in answer
    assert site.stats.refused["method"] == 1


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/nothing"])
async def test_every_answer_bears_the_headers_of_safety(start_site: StartSite, path: str) -> None:
    headers = (await (await start_site()).get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers


async def test_headers_of_the_file_replace_ours(start_site: StartSite) -> None:
    headers = {"Strict-Transport-Security": "max-age=60", "X-Frame-Options": ""}
    site = await start_site(guarded=Security(headers=headers))
    answer = await site.get("/metrics")
    assert answer.headers["strict-transport-security"] == "max-age=60"
    assert "x-frame-options" not in answer.headers


@pytest.mark.parametrize("policy", ["default-src 'self'", ""])
async def test_a_policy_of_the_file_is_for_all_but_the_page_which_runs_by_its_own(
    start_site: StartSite, policy: str
) -> None:
    site = await start_site(guarded=Security(headers={"Content-Security-Policy": policy}))
    page = (await site.get("/")).headers.get_list("content-security-policy")
    assert page == [PAGE_HEADERS["Content-Security-Policy"]]
    assert (await site.get("/metrics")).headers.get("content-security-policy", "") == policy


async def post_reload(site: Site, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
        return await client.post(f"{site.url}/-/reload", headers=named)


async def test_a_reload_says_how_it_went(start_site: StartSite) -> None:
    outcomes = [None, "the file is bad"]

    async def reload() -> str | None:
        return outcomes.pop(0)

    site = await start_site(reload=reload)
    assert (await post_reload(site, origin=site.url)).status_code == 200
    answer = await post_reload(site)
    assert (answer.status_code, answer.text) == (500, "the file is bad")
    assert (await site.get("/-/reload")).status_code == 405


async def test_a_reload_that_is_off_is_404(start_site: StartSite) -> None:
    assert (await post_reload(await start_site())).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
    ids=repr,
)
async def test_the_page_of_another_site_reloads_nothing(
    start_site: StartSite, headers: dict[str, str]
) -> None:
    async def reload() -> str | None:
        pytest.fail("it was called")

    site = await start_site(reload=reload)
    assert (await post_reload(site, **headers)).status_code == 403
    assert site.stats.refused["origin"] == 1


@pytest.mark.parametrize("path", ["/api/v1/stream", "/api/v1/tap"])
async def test_the_page_of_another_site_takes_no_place(start_site: StartSite, path: str) -> None:
    site = await start_site()
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
        for where, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 404)):
            answer = await client.get(f"{site.url}{path}", headers={"Sec-Fetch-Site": where})
            assert answer.status_code == status
    assert site.stats.refused["origin"] == 2


async def test_who_was_let_in_outlasts_strangers_whatever_they_do(start_site: StartSite) -> None:
    gate = asyncio.Event()

    def pieces() -> Iterator[bytes]:
        while not gate.is_set():
            yield b"# more\n"

    site = await start_site(FakeExposition(pieces), Security(users=USERS), connections=2)
    ask = (
        b"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: "
        + basic("alice:right")["authorization"].encode()
        + b"\r\n\r\n"
    )
    known, busy = await site.connect(), await site.connect()
    known.send(ask % b"/-/healthy")
    assert (await known.answer()).startswith(b"HTTP/1.1 200 ")
    for _ in range(5):  # one after the other takes the place of the silent one before
        busy = await site.connect()
    busy.send(ask % b"/metrics")
    assert (await busy.head()).startswith(b"HTTP/1.1 200 ")
    for _ in range(5):  # now there is none
        late = await site.connect()
        late.send(ask % b"/-/healthy")
        assert (await late.rest()).startswith(b"HTTP/1.1 503 ")
    known.send(ask % b"/-/healthy")
    assert (await known.answer()).startswith(b"HTTP/1.1 200 ")
    gate.set()


async def test_a_client_that_says_too_much_before_its_handshake_is_looked_at_is_let_go(
    start_site: StartSite,
) -> None:
    site = await start_site()
    server = site.server._server
    refused = site.stats.refused
    door = _Door(site.server._config, server.server_state, {}, asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    with theirs:
        door.transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=ours
        )
        for _ in range(EARLY_BYTES // 1024):
            door.data_received(bytes(1024))
        assert not door.transport.is_closing()
        assert refused["tls"] == 0
        door.data_received(b"x")
        assert door.transport.is_closing()
        assert refused["tls"] == 1
        assert len(door._early) == EARLY_BYTES
