"""The page in a real browser, over a real daemon: what it shows is what was sent.

axe-core comes in the wheel of axe-playwright-python: one package of the same registry as all
others, so that no test needs npm.
"""

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
)
from playwright.sync_api import expect as expect_at_once

from bench.browser import chromium
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, StartDaemon, wait_for
from tests.tools import tool

expect_at_once.set_options(timeout=DEADLINE_SECONDS * 1000)
expect = expect_at_once
"""Polls until the usual deadline."""

CALL = b'{"model":"gpt-4o","operation":"chat","duration_seconds":1.5,"tokens":40}'
TIMEOUT = b'{"model":"llama3","operation":"chat","duration_seconds":30,"error":"timeout"}'
PHONE: ViewportSize = {"width": 360, "height": 740}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}

SCRIPT = "<script>window.isHacked=1</script>"
IMAGE = "<img src=x onerror=window.isHacked=1>"
RIGHT_TO_LEFT = "نموذج"
WIDE = "模" * 128
HOSTILE = (SCRIPT, IMAGE, RIGHT_TO_LEFT, WIDE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's own browser, which starts once."""
    tool("chromium")
    with chromium() as launched:
        yield launched


class Seen:
    """A page under test, and everything that went wrong in it."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.may_lose_the_daemon = False
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.outside: list[str] = []
        self._origin = origin
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        page.on("request", self._look_at)

    def _note(self, message: ConsoleMessage) -> None:
        is_of_network = message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning"):
            (self.lost if is_of_network else self.wrong).append(message.text)

    def _look_at(self, request: Request) -> None:
        if not request.url.startswith((self._origin, "data:")):
            self.outside.append(request.url)

    def check(self) -> None:
        """Nothing went wrong, and nobody else was asked."""
        assert (self.wrong, self.outside) == ([], [])
        assert self.may_lose_the_daemon or not self.lost
        assert self.page.evaluate("window.isHacked") is None

    def tile(self, name: str) -> str:
        """A figure at the top, and what stands under it."""
        return " | ".join(self.page.locator(f"#tile-{name} dd").all_inner_texts())

    def row(self, model: str) -> list[str]:
        """The cells of a model's row but its name."""
        rows = self.page.locator("#models tbody tr")
        return rows.filter(has_text=model).locator("td").all_inner_texts()

    def is_wider_than_the_window(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


Look = Callable[..., Seen]


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens a daemon's page; at the end of the test it must have been without any fault."""
    opened: list[Seen] = []

    def open_page(daemon: RunningDaemon, fragment: str = "", **options: Any) -> Seen:
        context = browser.new_context(**{"locale": "en-US", "viewport": DESKTOP, **options})
        opened.append(Seen(context.new_page(), daemon.url))
        opened[-1].page.goto(f"{daemon.url}/{fragment}")
        return opened[-1]

    yield open_page
    for seen in opened:
        seen.check()
        seen.page.context.close()


def wait_for_tile(seen: Seen, name: str, text: str) -> None:
    tile = seen.page.locator(f"#tile-{name}")
    expect(tile).to_contain_text(text)


def test_the_figures_are_those_that_were_sent(daemon: RunningDaemon, look: Look) -> None:
    daemon.send(*[CALL] * 1230, *[TIMEOUT] * 10, b"llm_fallback_total:2|c", b"a:1,5|c")
    daemon.send(b'{"model":"x","operation":"chat","rate_limited":true,"error":"rate_limit"}')
    seen = look(daemon)
    wait_for_tile(seen, "requests", "1,241 in 5 minutes")
    wait_for_tile(seen, "limited", "2 fallbacks")
    assert seen.tile("errors") == "0.89% | 11 in 5 minutes"
    assert seen.tile("tokens").endswith("| 49,200 in 5 minutes")
    assert seen.tile("limited") == "1 | 2 fallbacks"
    assert seen.tile("lost").startswith("0 |")
    assert seen.tile("p50") == f"1.5 s | mean {(1230 * 1.5 + 300) / 1240:.2f} s"
    assert [seen.row("gpt-4o")[at] for at in (0, 2, 3)] == ["1,230", "0", "0%"]
    assert [seen.row("llama3")[at] for at in (0, 2, 3)] == ["10", "10", "100%"]
    totals = {
        step: seen.page.locator(f"#step-{step} .total").inner_text()
        for step in ("datagrams", "lines", "refused", "accepted", "dropped")
    }
    assert totals == {
        "datagrams": "1,243",
        "lines": "1,243",
        "refused": "1",
        "accepted": "1,242",
        "dropped": "0",
    }
    expect(seen.page.locator("#refused .line")).to_have_text("a:1,5|c")
    expect(seen.page.locator("#error-legend")).to_contain_text("timeout 10")
    assert "10 requests, most often by timeout" in seen.page.locator("#findings").inner_text()


def test_an_update_arrives_by_itself(daemon: RunningDaemon, look: Look) -> None:
    seen = look(daemon)
    expect(seen.page.locator("#state")).to_have_text("Live")
    for total in (3, 6):
        daemon.send(*[CALL] * 3)
        wait_for_tile(seen, "requests", f"{total} in 5 minutes")


def test_a_page_without_data_tells_how_to_send_and_what_it_tells_works(
    daemon: RunningDaemon, look: Look
) -> None:
    seen = look(daemon)
    command = seen.page.locator("#first-command")
    expect(command).to_contain_text(f"/dev/udp/127.0.0.1/{daemon.udp[1]}")
    subprocess.run([tool("bash"), "-c", command.inner_text()], check=True, timeout=30)
    wait_for_tile(seen, "requests", "1 in 5 minutes")
    expect(seen.page.locator("#first")).to_be_hidden()
    assert seen.row("my-model")[0] == "1"


def test_a_model_and_a_window_are_chosen_by_keyboard_and_kept_in_the_address(
    daemon: RunningDaemon, look: Look
) -> None:
    daemon.send(*[CALL] * 5, *[TIMEOUT] * 3)
    seen = look(daemon)
    wait_for_tile(seen, "requests", "8 in 5 minutes")
    seen.page.get_by_role("button", name="llama3").focus()
    seen.page.keyboard.press("Enter")
    wait_for_tile(seen, "requests", "3 in 5 minutes")
    expect(seen.page.get_by_role("button", name="llama3")).to_have_attribute("aria-pressed", "true")
    seen.page.get_by_role("radio", name="5 minutes").focus()
    seen.page.keyboard.press("ArrowRight")
    wait_for_tile(seen, "requests", "3 in the hour")
    assert seen.page.url.endswith("#window=1h&model=llama3")
    seen.page.reload()
    wait_for_tile(seen, "requests", "3 in the hour")
    seen.page.get_by_label("Model", exact=True).select_option("gpt-4o")
    wait_for_tile(seen, "requests", "5 in the hour")
    seen.page.get_by_label("Model", exact=True).select_option("All models")
    wait_for_tile(seen, "requests", "8 in the hour")


def test_models_are_sorted_by_any_column(daemon: RunningDaemon, look: Look) -> None:
    daemon.send(*[CALL] * 5, *[TIMEOUT] * 3, b"llm_request_total:1|c|#model:b,operation:chat")
    seen = look(daemon)
    names = seen.page.locator("#models tbody th bdi")
    expect(names).to_have_text(["gpt-4o", "llama3", "b"])
    for heading, order in {
        "Model": ["b", "gpt-4o", "llama3"],
        "p99": ["llama3", "gpt-4o", "b"],
        "Errors": ["llama3", "gpt-4o", "b"],
    }.items():
        button = seen.page.get_by_role("button", name=heading, exact=True)
        button.click()
        expect(names).to_have_text(order)
        sort = "ascending" if heading == "Model" else "descending"
        expect(button.locator("..")).to_have_attribute("aria-sort", sort)


def test_a_moment_is_read_by_keyboard_and_by_table(daemon: RunningDaemon, look: Look) -> None:
    daemon.send(*[CALL] * 5, *[TIMEOUT] * 2)
    seen = look(daemon)
    wait_for_tile(seen, "requests", "7 in 5 minutes")
    chart = seen.page.locator("#chart-errors")
    label = chart.locator("canvas").get_attribute("aria-label") or ""
    assert label == "Errors by type over the last 5 minutes: timeout 2."
    chart.locator("canvas").focus()
    seen.page.keyboard.press("Home")
    time = r"^\d+:\d\d:\d\d [AP]M: "
    expect(chart.locator(".readout")).to_have_text(re.compile(f"{time}before the start$"))
    seen.page.keyboard.press("End")
    expect(chart.locator(".readout")).to_have_text(re.compile(f"{time}(none|timeout 2)$"))
    seen.page.keyboard.press("Escape")
    expect(chart.locator(".readout")).to_have_text("29% of requests")
    seen.page.get_by_text("The same as a table").click()
    requests = seen.page.locator("#values tbody td:nth-child(2)")
    expect(requests.first).to_be_visible()
    assert sum(int(text) for text in requests.all_inner_texts()) == 7
    table = seen.page.locator("#values tbody")
    expect(table).to_contain_text("timeout 2")
    expect(table).to_contain_text("≤ 2 s: 5")


def test_the_ladder_tells_of_tcp_once_there_is_any(start_daemon: StartDaemon, look: Look) -> None:
    daemon = start_daemon("--statsd-tcp", "127.0.0.1:0", "--statsd-tcp-line-bytes", "64")
    seen = look(daemon)
    expect(seen.page.locator("#step-lines")).to_be_visible()
    expect(seen.page.locator("#step-tcp-lines")).to_have_count(0)
    with socket.create_connection(daemon.tcp, timeout=DEADLINE_SECONDS) as sender:
        sender.sendall(b"llm_fallback_total:1|c\n" + b"b" * 65 + b"\n")
        expect(seen.page.locator("#step-tcp .total")).to_have_text("1")
        expect(seen.page.locator("#step-tcp-lines .total")).to_have_text("1")
        expect(seen.page.locator("#step-tcp-too_long")).to_have_text("not read: too long1")
    expect(seen.page.locator("#step-tcp")).to_have_count(0)


def test_what_folded_and_what_is_configured_is_shown(
    start_daemon: StartDaemon, look: Look, tmp_path: Path
) -> None:
    file = tmp_path / "llmstatsd.toml"
    file.write_text("[pinned]\nmodel = ['kept']\n[aliases.model]\n'a-*' = '<b>a'\n")
    daemon = start_daemon("--limits-label-values", "2", "--config", str(file))
    for model in ("a", "b", *["heavy"] * 20, "c"):
        daemon.send(b"llm_request_total:1|c|#operation:chat,model:" + model.encode())
    seen = look(daemon)
    row = seen.page.locator("#cardinality tr", has_text="llm_request_total")
    expect(row).to_contain_text("21 samples folded")
    expect(row.get_by_role("meter", name="Values of model")).to_have_attribute(
        "aria-valuetext", "2 of 2"
    )
    expect(row.locator(".heavy")).to_contain_text("heavy")
    expect(seen.page.locator("#findings")).to_contain_text("The label model has about 4 values")
    changed = seen.page.locator("#settings-changed tr", has_text="limits.label_values")
    expect(changed.locator("td")).to_have_text(["2", "100"])
    entries = seen.page.locator("#settings-entries tbody tr")
    expect(entries).to_have_text(['aliases.model."a-*""<b>a"', 'pinned.model["kept"]'])


def test_hostile_values_are_text_and_break_nothing(daemon: RunningDaemon, look: Look) -> None:
    for value in HOSTILE:
        event = f'{{"model":"{value}","operation":"{value}","duration_seconds":1}}'
        daemon.send(event.encode(), f"{value}:1,5|c|#a:\u202e{value}".encode())
    seen = look(daemon, viewport=PHONE)
    wait_for_tile(seen, "requests", f"{len(HOSTILE)} in 5 minutes")
    names = seen.page.locator("#models tbody th bdi").all_inner_texts()
    assert sorted(names) == sorted(HOSTILE)
    assert seen.page.locator("#models bdi script, #models bdi img").count() == 0
    lines = seen.page.locator("#refused .line").all_inner_texts()
    assert any("#a:‹U+202E›" in line for line in lines)
    wide = seen.page.locator("#models").get_by_role("button", name=WIDE)
    box = wide.bounding_box()
    assert box is not None
    assert box["width"] < PHONE["width"]
    wide.click()
    wait_for_tile(seen, "requests", "1 in 5 minutes")
    assert not seen.is_wider_than_the_window()


def test_everybody_can_use_it_by_day_by_night_and_on_a_phone(
    start_daemon: StartDaemon, look: Look, tmp_path: Path
) -> None:
    """axe-core finds nothing serious; a picture of each lies in the test's folder."""
    daemon = start_daemon("--limits-label-values", "2")
    seen = look(daemon)
    expect(seen.page.locator("#first-command")).to_contain_text("/dev/udp")
    assert serious(seen) == []
    daemon.send(*[CALL] * 30, *[TIMEOUT] * 12, b"a:1,5|c", b"_sc|a|0")
    daemon.send(*(b'{"model":"m%d","operation":"chat"}' % at for at in range(20)))
    wait_for_tile(seen, "requests", "62 in 5 minutes")
    expect(seen.page.locator("#cardinality .heavy").first).to_be_visible()
    seen.page.get_by_text("The same as a table").click()
    seen.page.evaluate("scrollTo(0, 0)")
    seen.page.screenshot(path=tmp_path / "light.png", full_page=True)
    assert serious(seen) == []
    bright = brightness(seen)
    seen.page.emulate_media(color_scheme="dark")
    seen.page.screenshot(path=tmp_path / "dark.png", full_page=True)
    assert serious(seen, "color-contrast") == []
    assert brightness(seen) < bright / 4
    seen.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    seen.page.set_viewport_size(PHONE)
    seen.page.screenshot(path=tmp_path / "narrow.png", full_page=True)
    assert not seen.is_wider_than_the_window()


def serious(seen: Seen, *rules: str) -> list[str]:
    """The violations that axe-core calls serious or critical, of all rules or of some."""
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = Axe().run(seen.page, options=options).response["violations"]
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def brightness(seen: Seen) -> int:
    back = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", back)))


def test_a_daemon_that_goes_and_comes_back_is_explained_and_found_again(
    start_daemon: StartDaemon, look: Look
) -> None:
    daemon = start_daemon()
    daemon.send(CALL)
    seen = look(daemon)
    seen.may_lose_the_daemon = True
    wait_for_tile(seen, "requests", "1 in 5 minutes")
    assert daemon.end() == 0
    state = seen.page.get_by_role("status").first
    expect(state).to_contain_text("The daemon does not answer. The figures are those of")
    again = start_daemon("--http", daemon.url.removeprefix("http://"))
    again.send(*[CALL] * 4)
    wait_for_tile(seen, "requests", "4 in 5 minutes")
    expect(state).to_have_text("Live")


def test_a_daemon_that_hangs_is_waited_for(daemon: RunningDaemon, look: Look) -> None:
    seen = look(daemon)
    state = seen.page.locator("#state")
    expect(state).to_have_text("Live")
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        expect(state).not_to_have_text("Live")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    daemon.send(CALL)
    wait_for_tile(seen, "requests", "1 in 5 minutes")
    expect(state).to_have_text("Live")


def test_of_200_pages_16_are_live_and_others_are_told_why(
    daemon: RunningDaemon, look: Look
) -> None:
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    daemon.send(*[CALL] * 5)
    with ExitStack() as stack:
        for _ in range(16):
            live = stack.enter_context(socket.create_connection((host, int(port))))
            live.settimeout(DEADLINE_SECONDS)
            live.send(b"GET /api/v1/stream HTTP/1.1\r\nHost: a\r\n\r\n")
            assert live.recv(12) == b"HTTP/1.1 200"
        with httpx.Client(timeout=DEADLINE_SECONDS) as client:
            url = f"{daemon.url}/api/v1/stream"
            assert {client.get(url).status_code for _ in range(183)} == {503}
        seen = look(daemon)
        seen.may_lose_the_daemon = True
        expect(seen.page.locator("#state")).to_contain_text("Too many live pages are open")
        wait_for_tile(seen, "requests", "5 in 5 minutes")
        refused = wait_for(
            "refusals", lambda: daemon.value("llmstatsd_web_refused_total", reason="streams")
        )
        assert refused >= 184
    expect(seen.page.locator("#state")).to_have_text("Live")
