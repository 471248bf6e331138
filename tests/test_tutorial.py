"""The tutorial is typed in, block after block, and shows what it says that it shows."""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from llmstatsd import cli
from llmstatsd.address import Address
from llmstatsd.demo import stage
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, wait_for
from tests.test_demo import Demo
from tests.tools import tool

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ENDED = {"top": ["--once"], "doctor": [], "tap": ["--count", "100"]}
"""What makes the commands that go on for ever come to an end."""


class Step(NamedTuple):
    """What is typed in, and what the page shows of the answer, if it does."""

    typed: str
    shown: str | None


def steps(section: int) -> Iterator[Step]:
    """The blocks of one numbered section."""
    text = TEXT.partition(f"\n## {section}. ")[2].partition("\n## ")[0]
    blocks = [*_FENCE.findall(text), ("", "")]
    for (language, block), (next_language, answer) in itertools.pairwise(blocks):
        if language == "sh":
            yield Step(block, answer if not next_language and answer else None)


def bash(script: str) -> str:
    """What a script prints, but an estimate only about: it may differ."""
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    return about(done.stdout)


def about(text: str) -> str:
    return re.sub(r"(_estimate\{.*\}) 1\d\d\.0", r"\1 about 150", text)


def here(script: str, web: str, udp: str = "") -> str:
    """The script, turned to other ports."""
    return script.replace("localhost:2112", web).replace("127.0.0.1/8125", udp)


def wait_for_answer(script: str, shown: str) -> None:
    """What was sent just now may not be counted yet."""
    try:
        wait_for(script, lambda: bash(script) == shown)
    finally:
        assert bash(script) == shown


def wait_for_model(script: str, model: str) -> None:
    wait_for(f"{model} in {script}", lambda: model in bash(script))


def test_the_first_page_is_what_the_demo_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "command", lambda: ".venv/bin/llmstatsd")
    wish = stage.Wish(Address("127.0.0.1", 8125), Address("127.0.0.1", 2112), None, 40.0, 1, None)
    guide = stage.guide(wish, stage.USUAL_URL, "127.0.0.1:8125")
    assert f"```\n{guide}```\n" in TEXT
    options = {param.name: param.default for param in cli.demo.params}
    assert (options["statsd_udp"], options["http"]) == (str(wish.statsd_udp), str(wish.http))
    assert (options["rate"], options["seed"]) == (wish.rate, wish.seed)


def test_what_is_asked_of_the_demo_is_answered(tmp_path: Path) -> None:
    tool("curl")
    demo = Demo(tmp_path, "--rate", "200", "--story-seconds", "10")
    try:
        url = demo.wait_until_it_plays()
        web = url.removeprefix("http://")
        asked = [step.typed for step in steps(1) if step.typed.startswith("curl ")]
        assert len(asked) == 2
        for script in asked:
            wait_for_model(here(script, web), "mistral-large")
        for name in set(re.findall(r"^\.venv/bin/llmstatsd (\w+)", TEXT, re.MULTILINE)):
            done = subprocess.run(
                [sys.executable, "-m", "llmstatsd", name, "--url", url, *ENDED[name]],
                cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
            )  # fmt: skip
            assert "gpt-4o" in done.stdout, done
    finally:
        demo.close()


def test_calls_of_ones_own_show_what_the_page_shows(daemon: RunningDaemon) -> None:
    tool("curl")
    web, udp = daemon.url.removeprefix("http://"), "{}/{}".format(*daemon.udp)
    for section in range(2, 7):
        for step in steps(section):
            script = here(step.typed, web, udp)
            at = script.find("curl ")
            sends, looks = (script, "") if at < 0 else (script[:at], script[at:])
            if "/dev/udp" in sends:
                bash(sends)
            if looks:
                assert step.shown is not None
                wait_for_answer(looks, about(step.shown))
    for reason in ("bad_value", "not_finite"):
        wait_for(reason, lambda: f"lines refused as {reason}: 1" in daemon.log.read_text())  # noqa: B023 asked at once
