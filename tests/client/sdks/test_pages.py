"""The pages on SDKs: their code runs, and what they show is what comes of it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.client.sdks.provider import Provider
from tests.conftest import DEADLINE_SECONDS, RunningDaemon, wait_for

PAGES: Final = Path(__file__).parents[3] / "docs" / "how-to"
BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES: Final = ("openai", "anthropic", "ollama", "litellm", "langchain")


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / f"{page}.md").read_text()
    return [body for name, body in BLOCK.findall(text) if name == language]


def run(code: str, provider: Provider, daemon: RunningDaemon) -> None:
    """Run a program as its own process, which knows the provider and the daemon by variables."""
    variables = {
        "LLMSTATSD_PORT": str(daemon.udp[1]),
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": provider.url,
        "OLLAMA_HOST": provider.url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", NAMES)
def test_the_first_call_of_a_page_gives_the_lines_it_shows(
    page: str, provider: Provider, daemon: RunningDaemon
) -> None:
    run(blocks(page, "python")[0], provider, daemon)
    (shown,) = blocks(page, "")
    expected = set(shown.splitlines())
    assert expected
    wait_for(f"the lines of {page}.md", lambda: expected <= set(daemon.scrape().splitlines()))


@pytest.mark.parametrize("page", NAMES)
def test_every_block_of_a_page_runs(page: str, provider: Provider, daemon: RunningDaemon) -> None:
    run("\n".join(blocks(page, "python")), provider, daemon)
    assert provider.requests
