"""docs/how-to/celery.md: its tasks under a real worker with a pool of forked processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.client.workers import HERE, Page, Workers, environment, running, samples, settle
from tests.conftest import DEADLINE_SECONDS, RunningDaemon

PAGE: Final = Page("celery.md")
MODEL: Final = {"model": "gpt-4o", "operation": "chat"}
FLUSH: Final = "at the end of tasks.py, for a buffered client"

# A broker that is a folder: no server, and yet between processes.
ON_FILES: Final = """\
from tasks import app, chat

app.conf.update(
    broker_transport_options={
        "data_folder_in": "queue",
        "data_folder_out": "queue",
        "control_folder": "control",
        "polling_interval": 0.1,
    },
    task_ignore_result=True,
)
"""


def write(folder: Path, *, is_buffered: bool = False) -> None:
    code = PAGE.code("tasks.py")
    if is_buffered:
        assert code.count("Client()") == 1
        code = code.replace("Client()", "Client(buffered=True)") + PAGE.code(FLUSH)
    (folder / "tasks.py").write_text(code)
    (folder / "on_files.py").write_text(ON_FILES)
    for name in ("queue", "control"):
        (folder / name).mkdir()


@contextmanager
def celery(folder: Path, daemon: RunningDaemon, *options: str) -> Iterator[Workers]:
    """A worker as the page starts it, with further options; `end` it where its end matters.

    Else it is killed: Celery takes five seconds to end.
    """
    program, name, *rest = PAGE.command("celery")
    assert (program, name) == ("--app", "tasks")
    own = ("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")
    command = ["celery", "--app", "on_files", *rest, *own, *options]
    with running(command, folder, daemon, CELERY_BROKER_URL="filesystem://") as workers:
        workers.wait_for_log(re.compile(r"celery@\S+ ready"))
        yield workers


def enqueue(folder: Path, daemon: RunningDaemon, script: str) -> None:
    """Run a script of an application that knows the task `chat`."""
    subprocess.run(
        [sys.executable, "-c", f"from on_files import chat\n{script}"],
        cwd=folder,
        env=environment(
            daemon,
            CELERY_BROKER_URL="filesystem://",
            PYTHONPATH=f"{folder}:{HERE}",
        ),
        timeout=DEADLINE_SECONDS,
        check=True,
    )


def errors(daemon: RunningDaemon) -> list[str]:
    return [line for line in samples(daemon.scrape(), "llm_error_total") if " 0.0" not in line]


def test_each_attempt_of_a_task_counts_as_the_page_shows(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    write(tmp_path)
    *_, command = PAGE.command("python")
    with celery(tmp_path, daemon) as workers:
        enqueue(tmp_path, daemon, command)
        daemon.wait_for_value(15, "llm_request_total", **MODEL)
        assert workers.end() == 0
    assert len(workers.pids()) == 2
    settle(daemon)
    assert len(PAGE.shown()) == 2
    assert samples(daemon.scrape(), "llm_request_total") + errors(daemon) == PAGE.shown()


def test_a_task_that_succeeds_at_the_second_attempt_is_two_calls_and_one_error(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    write(tmp_path)
    with celery(tmp_path, daemon):
        enqueue(tmp_path, daemon, "chat.delay('refused once')")
        daemon.wait_for_value(2, "llm_request_total", **MODEL)
    settle(daemon)
    assert daemon.value("llm_request_total", **MODEL) == 2
    assert errors(daemon) == ['llm_error_total{model="gpt-4o",type="connection"} 1.0']


def test_a_soft_time_limit_is_a_timeout_and_a_hard_one_at_most_a_cancelled_call(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    write(tmp_path)
    with celery(tmp_path, daemon) as workers:
        enqueue(
            tmp_path,
            daemon,
            "chat.apply_async(('hang',), soft_time_limit=1)\n"
            "chat.apply_async(('hang',), time_limit=1, soft_time_limit=None)",
        )
        workers.wait_for_log(re.compile(r"Hard time limit \(1"))
        daemon.wait_for_value(1, "llm_error_total", model="gpt-4o", type="timeout")
    settle(daemon)
    # Celery gives the child 0.1 s to unwind, which is enough unless the machine is busy.
    cancelled = daemon.value("llm_error_total", model="gpt-4o", type="cancelled")
    assert cancelled in (0, 1)
    assert daemon.value("llm_request_total", **MODEL) == 1 + cancelled
    assert len(errors(daemon)) == 1 + cancelled


def test_a_task_that_is_delivered_again_counts_the_call_that_ended(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    write(tmp_path)
    late = tmp_path / "on_files.py"
    late.write_text(late.read_text() + "chat.acks_late = chat.reject_on_worker_lost = True\n")
    with celery(tmp_path, daemon) as workers:
        enqueue(tmp_path, daemon, "chat.delay('hang once')")
        os.kill(workers.hanging(), signal.SIGKILL)
        daemon.wait_for_value(1, "llm_request_total", **MODEL)
    settle(daemon)
    assert daemon.value("llm_request_total", **MODEL) == 1
    assert errors(daemon) == []


@pytest.mark.parametrize("is_buffered", [False, True], ids=["at once", "buffered"])
def test_children_that_end_after_each_task_lose_nothing(
    daemon: RunningDaemon, tmp_path: Path, is_buffered: bool
) -> None:
    write(tmp_path, is_buffered=is_buffered)
    with celery(tmp_path, daemon, "--max-tasks-per-child", "1") as workers:
        enqueue(tmp_path, daemon, "for _ in range(8): chat.delay('Why?')")
        workers.wait_for_log(re.compile(r"Task \S+ succeeded"), times=8)
        workers.end()
    settle(daemon)
    assert len(workers.pids()) == 8
    assert daemon.value("llm_request_total", **MODEL) == 8
