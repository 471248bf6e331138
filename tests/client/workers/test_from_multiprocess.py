"""docs/how-to/from-multiprocess.md: the old way and the new one, side by side."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.client.workers import HERE, Page, Site, Workers, environment, running, samples, settle
from tests.conftest import DEADLINE_SECONDS, RunningDaemon

PAGE: Final = Page("from-multiprocess.md")

# What multiprocess mode needs, and what this page is there to remove.
APPLICATION: Final = """\
from both import chat
from old_metrics import QUEUE
from own import statsd
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


def metrics():
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def app(environ, start_response):
    QUEUE.set(3)
    statsd("app_queue_depth:3|g")
    status, body = "200 OK", b"answered"
    if environ["PATH_INFO"] == "/metrics":
        body = metrics()
    else:
        try:
            chat(environ["QUERY_STRING"])
        except ConnectionError:
            status = "502 Bad Gateway"
    start_response(status, [("Content-Type", "text/plain")])
    return [body]
"""
SETTINGS: Final = """\
from prometheus_client.multiprocess import mark_process_dead


def child_exit(server, worker):
    mark_process_dead(worker.pid)
"""

SAME: Final = (
    "llm_request_total",
    "llm_tokens_total",
    "llm_error_total",
    "llm_request_duration_seconds_count",
)


@contextmanager
def application(folder: Path, daemon: RunningDaemon) -> Iterator[tuple[Site, Workers]]:
    """The application of the page under gunicorn, with files in the folder `multiprocess`."""
    for file in ("old_metrics.py", "both.py", "own.py"):
        (folder / file).write_text(PAGE.code(file))
    (folder / "application.py").write_text(APPLICATION)
    (folder / "gunicorn.conf.py").write_text(SETTINGS)
    files = folder / "multiprocess"
    files.mkdir()
    command = ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "--no-control-socket"]
    with running(
        [*command, "application:app"], folder, daemon, PROMETHEUS_MULTIPROC_DIR=str(files)
    ) as workers:
        yield Site(workers), workers


def sums(text: str) -> dict[str, float]:
    """The sum over all label sets of each sample's name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def assert_same(daemon: RunningDaemon, site: Site, calls: int, refused: int) -> None:
    """Both have counted the same, and that is the truth."""
    settle(daemon)
    old, new = sums(site.get("/metrics")[1]), sums(daemon.scrape())
    truth = (calls, (calls - refused) * 592, refused, calls)
    assert [old[name] for name in SAME] == list(truth)
    assert [new[name] for name in SAME] == list(truth)


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "multiprocess").iterdir()}


def refuse(site: Site, times: int) -> int:
    answers = [site.get("/?refused")[0] for _ in range(times)]
    assert answers == [502] * times
    return times


def test_both_count_the_same_and_only_the_old_way_keeps_something_of_a_dead_worker(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    with application(tmp_path, daemon) as (site, workers):
        answered = site.ask_until_seen(2)
        refused = refuse(site, 5)
        assert_same(daemon, site, answered + refused, refused)
        first = files(tmp_path)

        os.kill(min(workers.pids()), signal.SIGKILL)
        answered += site.ask_until_seen(3)
        assert_same(daemon, site, answered + refused, refused)
        assert files(tmp_path) > first

        old, new = site.get("/metrics")[1], daemon.scrape()
        assert len(samples(old, "app_queue_depth")) == 3
        assert samples(new, "app_queue_depth") == ["app_queue_depth 3.0"]
        assert len(samples(new, "llm_request_total")) == 1
        workers.end()


def test_a_deployment_resets_the_old_counters_and_not_the_daemons(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    counted = []
    for number in range(2):
        folder = tmp_path / f"deployment{number}"
        folder.mkdir()
        with application(folder, daemon) as (site, workers):
            site.ask(10)
            settle(daemon)
            old, new = sums(site.get("/metrics")[1]), sums(daemon.scrape())
            counted.append((old["llm_request_total"], new["llm_request_total"]))
            workers.end()
    assert counted == [(10, 10), (10, 20)]


def run(folder: Path, daemon: RunningDaemon, script: str) -> None:
    (folder / "seen").mkdir()
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=folder,
        env=environment(daemon, SEEN=str(folder / "seen"), PYTHONPATH=f"{folder}:{HERE}"),
        timeout=DEADLINE_SECONDS,
        check=True,
    )


def test_what_is_left_counts_calls_tokens_errors_and_durations(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    (tmp_path / "after.py").write_text(PAGE.code("after.py"))
    run(
        tmp_path,
        daemon,
        "import contextlib, after\n"
        "after.chat('why')\n"
        "with contextlib.suppress(ConnectionError): after.chat('refused')\n",
    )
    settle(daemon)
    new = sums(daemon.scrape())
    assert [new[name] for name in SAME] == [2, 592, 1, 2]


def test_each_line_of_the_page_gives_the_series_that_it_says(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    row = re.compile(r"^\|[^|]+\| `([^`]+)` \| `(\w+)` \|$", re.MULTILINE)
    rows = [(line.replace("\\|", "|"), series) for line, series in row.findall(PAGE.text)]
    assert len(rows) == 6
    (tmp_path / "own.py").write_text(PAGE.code("own.py"))
    run(tmp_path, daemon, f"import own\nfor line in {[line for line, _ in rows]}: own.statsd(line)")
    settle(daemon)
    exposed = sums(daemon.scrape())
    assert {series for _, series in rows} <= set(exposed)
    assert exposed["llmstatsd_refused_lines_total"] == 0
    assert (exposed["jobs_total"], exposed["job_wait_seconds_sum"]) == (2, 1.84)
