"""docs/how-to/any-language.md: the first call of each client is the one of its README."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.client.workers import HOW_TO
from tests.conftest import RunningDaemon
from tests.tools import tool

PAGE: Final = (HOW_TO / "any-language.md").read_text()
CLIENT: Final = HOW_TO.parents[1] / "client"
CLIENTS: Final = {
    "python": "python",
    "js": "node",
    "go": "go",
    "java": "java",
    "rust": "rust",
    "c": "c",
    "bash": "shell",
}


def block(language: str) -> str:
    """The one block of a language, before the part for languages without a client."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def statement(line: str) -> str:
    """A line without its comment and its indentation."""
    return re.sub(r"\s+(?://|# ).*", "", line).strip()


@pytest.mark.parametrize(("language", "client"), CLIENTS.items(), ids=CLIENTS)
def test_the_first_call_is_that_of_the_clients_readme(language: str, client: str) -> None:
    readme = (CLIENT / client / "README.md").read_text()
    known = {statement(line) for line in readme.splitlines()}
    assert [line for line in block(language).splitlines() if statement(line) not in known] == []


def test_every_client_has_a_row() -> None:
    linked = set(re.findall(r"\]\(\.\./\.\./client/(\w+)/README\.md\)", PAGE))
    assert (
        linked == {path.parent.name for path in CLIENT.glob("*/README.md")} == set(CLIENTS.values())
    )


@pytest.mark.parametrize("language", ["ruby", "php"])
def test_an_event_of_a_language_without_a_client_counts(
    daemon: RunningDaemon, tmp_path: Path, language: str
) -> None:
    code = block(language)
    assert code.count("8125") == 1
    script = tmp_path / "send"
    script.write_text(code.replace("8125", str(daemon.udp[1])))
    subprocess.run(
        [tool(language, f"{language}-cli" if language == "php" else language), script],
        timeout=30,
        check=True,
    )
    daemon.wait_for_value(592, "llm_tokens_total", model="gpt-4o")
    assert daemon.value("llm_request_total", model="gpt-4o", operation="chat") == 1
