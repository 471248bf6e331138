"""docs/how-to/web-workers.md: its applications under real gunicorn and uvicorn."""

import http.client
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.client.workers import Page, Site, Workers, running, samples, settle
from tests.conftest import RunningDaemon

PAGE: Final = Page("web-workers.md")
REQUESTS: Final = 'llm_request_total{model="gpt-4o",operation="chat"}'
TOKENS: Final = 'llm_tokens_total{model="gpt-4o"}'
TOKENS_OF_A_CALL: Final = 592

OWN: Final = ("--bind", "127.0.0.1:0", "--no-control-socket")
"""What each gunicorn here is told, so that it meets no other."""

Served = AbstractContextManager[tuple[Site, Workers]]

BUFFERED: Final = pytest.mark.parametrize("is_buffered", [False, True], ids=["at once", "buffered"])

# The client is used before the fork as well: the workers inherit an open socket, or an event that
# waits and that they are not to send once more.
PRELOADED: Final = """\
from app import app, client

client.send(model="before the fork")
"""


def write(folder: Path, file: str, *, is_buffered: bool) -> None:
    code = PAGE.code(file)
    if is_buffered:
        assert code.count("Client()") == 1
        code = code.replace("Client()", "Client(buffered=True)")
    (folder / file).write_text(code)


@contextmanager
def gunicorn(
    folder: Path, daemon: RunningDaemon, *options: str, is_buffered: bool = False
) -> Iterator[tuple[Site, Workers]]:
    """gunicorn as the page starts it, with further options."""
    write(folder, "app.py", is_buffered=is_buffered)
    (folder / "preloaded.py").write_text(PRELOADED)
    *arguments, application = PAGE.command("gunicorn")
    assert application == "app:app"
    command = ["gunicorn", *arguments, *OWN, *options, "preloaded:app"]
    with running(command, folder, daemon) as workers:
        yield Site(workers), workers


@contextmanager
def uvicorn(
    folder: Path, daemon: RunningDaemon, *options: str, is_buffered: bool = False
) -> Iterator[tuple[Site, Workers]]:
    """uvicorn as the page starts it, with further options."""
    write(folder, "api.py", is_buffered=is_buffered)
    with running(
        ["uvicorn", *PAGE.command("uvicorn"), "--port", "0", *options], folder, daemon
    ) as workers:
        yield Site(workers), workers


def assert_counted(daemon: RunningDaemon, calls: int) -> None:
    """Exactly so many successful calls, in one series."""
    settle(daemon)
    scrape = daemon.scrape()
    ours = [line for line in samples(scrape, "llm_request_total") if "before the fork" not in line]
    assert ours == [f"{REQUESTS} {float(calls)}"]
    assert samples(scrape, "llm_tokens_total") == [f"{TOKENS} {float(calls * TOKENS_OF_A_CALL)}"]
    assert not [line for line in samples(scrape, "llm_error_total") if not line.endswith(" 0.0")]


@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
@BUFFERED
def test_every_call_of_three_forked_gunicorn_workers_counts_once(
    daemon: RunningDaemon, tmp_path: Path, worker_class: str, is_buffered: bool
) -> None:
    options = ("--worker-class", worker_class, "--threads", "2" if "th" in worker_class else "1")
    with gunicorn(tmp_path, daemon, *options, is_buffered=is_buffered) as (site, workers):
        answered = site.ask_until_seen(3)
        answered += site.ask(12)
        assert workers.end() == 0
    assert_counted(daemon, answered)
    assert daemon.value("llm_request_total", model="before the fork", operation="unknown") == 1


@BUFFERED
def test_gunicorn_workers_that_are_recycled_lose_nothing(
    daemon: RunningDaemon, tmp_path: Path, is_buffered: bool
) -> None:
    often = ("--max-requests", "10", "--max-requests-jitter", "0")
    with gunicorn(tmp_path, daemon, *often, is_buffered=is_buffered) as (site, workers):
        answered = site.ask(60)
        assert len(workers.pids()) > 3
        assert workers.end() == 0
    assert_counted(daemon, answered)


def test_a_call_that_outlasts_gunicorns_timeout_is_cancelled(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    with gunicorn(tmp_path, daemon, "--timeout", "1") as (site, workers):
        status, _ = site.get("/?hang")
        assert status == 500
        workers.end()
    settle(daemon)
    assert daemon.value("llm_request_total", model="gpt-4o", operation="chat") == 1
    assert daemon.value("llm_error_total", model="gpt-4o", type="cancelled") == 1


def test_a_killed_worker_loses_the_call_under_way_alone(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    with gunicorn(tmp_path, daemon) as (site, workers), ThreadPoolExecutor(1) as pool:
        answered = site.ask_until_seen(3)
        hanging = pool.submit(site.get, "/?hang")
        os.kill(workers.hanging(), signal.SIGKILL)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            hanging.result()
        answered += site.ask_until_seen(4)
        workers.end()
    assert_counted(daemon, answered)


@BUFFERED
def test_every_call_of_two_uvicorn_workers_counts_once(
    daemon: RunningDaemon, tmp_path: Path, is_buffered: bool
) -> None:
    with uvicorn(tmp_path, daemon, is_buffered=is_buffered) as (site, workers):
        answered = site.ask_until_seen(2)
        answered += site.ask(6)
        assert workers.end() == 0
    assert_counted(daemon, answered)


def test_what_waits_in_uvicorn_is_sent_although_the_signal_ends_the_process(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    with uvicorn(tmp_path, daemon, "--workers", "1", is_buffered=True) as (site, workers):
        answered = site.ask(1)
        assert workers.end() == -signal.SIGTERM
    assert_counted(daemon, answered)


def test_uvicorn_workers_that_are_recycled_lose_nothing(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    with uvicorn(tmp_path, daemon, "--limit-max-requests", "10") as (site, workers):
        answered = 0
        for _ in range(30):
            try:
                answered += site.get("/?why")[0] == 200
            except (http.client.HTTPException, ConnectionError):
                continue  # accepted by a worker on its way out, which has not read it
        workers.wait_for_log(re.compile("Started server process"), times=3)
        workers.end()
    assert answered
    assert_counted(daemon, answered)


@BUFFERED
def test_every_call_of_gunicorns_own_asgi_workers_counts_once(
    daemon: RunningDaemon, tmp_path: Path, is_buffered: bool
) -> None:
    write(tmp_path, "api.py", is_buffered=is_buffered)
    options = ("--worker-class", "asgi", "--workers", "2", *OWN)
    with running(["gunicorn", *options, "api:app"], tmp_path, daemon) as workers:
        site = Site(workers)
        answered = site.ask_until_seen(2)
        assert workers.end() == 0
    assert_counted(daemon, answered)


@pytest.mark.parametrize("server", [gunicorn, uvicorn])
def test_the_page_shows_what_six_questions_give(
    daemon: RunningDaemon, tmp_path: Path, server: Callable[..., Served]
) -> None:
    with server(tmp_path, daemon) as (site, workers):
        site.ask(6)
        workers.end()
    assert_counted(daemon, 6)
    assert PAGE.shown() == [f"{REQUESTS} 6.0", f"{TOKENS} {6.0 * TOKENS_OF_A_CALL}"]
