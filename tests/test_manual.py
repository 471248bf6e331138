"""The manual page: what it names, and what the programs that show it say of it."""

import re
import subprocess
from pathlib import Path

import pytest

from llmstatsd import cli, config, manual
from tests.tools import tool

ROOT = Path(__file__).parents[1]
CLI_PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("manual") / "llmstatsd.1"
    written.write_text(manual.page())
    return written


@pytest.fixture(scope="module")
def shown(file: Path) -> str:
    """The page as a terminal shows it, in one line: it may be broken anywhere."""
    return " ".join(formatted(file).split())


def formatted(file: Path) -> str:
    command = [tool("groff", "groff-base"), "-man", "-Tutf8", "-P-cbou", str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_command_and_every_flag_with_its_variable_is_on_it(shown: str) -> None:
    for name in cli.main.commands:
        assert f"llmstatsd {name}" in shown
    for option in config.options():
        assert f" {option.flag} " in shown
        assert f"Variable: {option.variable} " in shown


def test_signs_that_people_copy_are_plain_ones(shown: str) -> None:
    assert 'default: "127.0.0.1:8125"]' in shown
    assert not set(shown) & set("“”‘’−ˆ˜")
    assert "llmstatsd serve --config /etc/llmstatsd/llmstatsd.toml &" in shown


def test_a_text_is_never_a_request() -> None:
    assert manual._text(".so /etc/passwd") == r"\&.so /etc/passwd"


def test_signs_with_a_meaning_in_roff_are_escaped() -> None:
    assert manual._text(r"a\b 'c' --d") == r"a\eb \(aqc\(aq \-\-d"


def test_exit_codes_and_signals_are_those_of_the_reference() -> None:
    codes = re.findall(r"^\| (\d) \| (.*) \|$", CLI_PAGE, re.MULTILINE)
    assert [(code, f"{meaning[0].upper()}{meaning[1:]}.") for code, meaning in codes] == list(
        manual.EXIT_CODES.items()
    )
    signals = re.findall(r"^\| (SIG[A-Z, ]+) \|", CLI_PAGE, re.MULTILINE)
    assert signals == list(manual.SIGNALS)


def test_the_files_are_those_of_the_units(shown: str) -> None:
    units = "".join(path.read_text() for path in (ROOT / "systemd").glob("llmstatsd*.s*"))
    for path in (r"--config (/\S+)", r"ListenDatagram=(/\S+)"):
        found = re.search(path, units)
        assert found is not None
        assert f" {found[1]} " in shown
    folder = re.search(r"^StateDirectory=(\S+)$", units, re.MULTILINE)
    assert folder is not None
    assert f" /var/lib/{folder[1]}/llmstatsd.state " in shown


def test_groff_finds_nothing(file: Path) -> None:
    command = [tool("groff", "groff-base"), "-man", "-ww", "-z", str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert said.stdout + said.stderr == ""


def test_man_finds_nothing(file: Path) -> None:
    command = [tool("man", "man-db"), "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", str(file)]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    said = subprocess.run(command, check=True, capture_output=True, env=environment)
    assert said.stdout
    assert said.stderr == b""
