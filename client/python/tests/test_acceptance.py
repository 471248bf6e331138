"""The program that is run against a live daemon does what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[1]


@pytest.mark.parametrize("buffered", [(), ("--buffered",)], ids=["at once", "buffered"])
def test_it_sends_the_vector_and_prints_the_stats(receiver: Any, buffered: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "tests/acceptance.py", "--threads", "3", "--calls", "20", *buffered],
        cwd=PACKAGE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "LLMSTATSD_PORT": str(receiver.port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    stats = json.loads(done.stdout)
    datagrams = receiver.waiting()
    assert stats["events"] == 60
    assert stats["sent_datagrams"] == len(datagrams)
    assert stats["sent_bytes"] == sum(map(len, datagrams))
    text = "\n".join(datagrams)
    assert text.count("llm_tokens_total:230|c|#model:gpt-4o\n") == 60
    assert text.count("type:timeout") == 60
    assert done.stderr == ""


@pytest.mark.parametrize(
    "example", sorted((PACKAGE / "examples").glob("*.py")), ids=lambda path: path.name
)
def test_an_example_runs_and_sends(example: Path, receiver: Any) -> None:
    subprocess.run(
        [sys.executable, str(example)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "LLMSTATSD_PORT": str(receiver.port)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert any("llm_request_total:1|c|#model:" in datagram for datagram in receiver.waiting())
