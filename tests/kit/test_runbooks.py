"""Each alert has its page, and a page names only what exists."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import msgspec
import pytest
import yaml

from llmstatsd.config import Config, Option, load, options
from llmstatsd.kit.alerts import Alert, alerts
from tests.kit.exposed import RECORDED, SAMPLES
from tests.kit.expressions import Call, Selector, parse, parts

FOLDER = Path(__file__).parents[2] / "docs" / "how-to" / "runbooks"
INDEX = FOLDER / "README.md"
PAGES = sorted(FOLDER.glob("*.md"))
ALERTS = alerts(Config())
OPTIONS = {option.key: option for option in options()}

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

KNOWN = SAMPLES | RECORDED

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_SERIES = re.compile(
    r"(?<![\w.])(?:(?:llm|llmstatsd|process|prometheus)_\w+|(?:llm|model|job|instance):[\w:]+)"
)
_OPTION = re.compile(rf"\b(?:{'|'.join({option.section for option in options()})})\.\w+")


class Block(NamedTuple):
    """A fenced block: what it is in, and its lines without their indentation."""

    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for _, language, text in _FENCE.findall(page.read_text()):
        yield Block(language, dedent(text).strip())


def questions(page: Path) -> list[str]:
    """The expressions of a page; each has a block of its own."""
    return [text for language, text in blocks(page) if language == "promql"]


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def thresholds(alert: Alert) -> list[Option]:
    """The options that move an alert: whose other value changes its expression."""
    found = []
    for option in options():
        if option.section == "thresholds":
            assert not isinstance(option.default, str)
            other = msgspec.structs.replace(
                Config().thresholds, **{option.name: option.default + 1}
            )
            changed = alerts(msgspec.structs.replace(Config(), thresholds=other))
            if alert.expr not in {one.expr for one in changed}:
                found.append(option)
    return found


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.name for page in PAGES} == {alert.runbook for alert in ALERTS} | {INDEX.name}


@each_alert
def test_a_page_says_meaning_impact_diagnosis_and_mitigation(alert: Alert) -> None:
    headings = re.findall(r"^#+ .*$", prose(FOLDER / alert.runbook), re.MULTILINE)
    sections = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
    assert headings == [f"# {alert.name}", *sections]


@each_alert
def test_a_section_is_not_empty(alert: Alert) -> None:
    for section in (FOLDER / alert.runbook).read_text().split("\n## ")[1:]:
        heading, _, content = section.partition("\n")
        assert content.strip(), heading


@each_alert
def test_a_page_has_commands_for_the_diagnosis(alert: Alert) -> None:
    text = (FOLDER / alert.runbook).read_text()
    diagnosis = text.partition("## Diagnosis")[2].partition("## Mitigation")[0]
    assert "```promql\n" in diagnosis or "```sh\n" in diagnosis


@each_alert
def test_a_page_names_each_threshold_of_its_alert_with_the_default(alert: Alert) -> None:
    meaning = prose(FOLDER / alert.runbook).partition("## Meaning")[2].partition("\n## ")[0]
    named = re.findall(r"`(thresholds\.\w+)` \(([\d.]+)\)", meaning)
    assert sorted(named) == sorted(
        (option.key, f"{option.default:.15g}") for option in thresholds(alert)
    )


@each_alert
def test_a_page_does_not_repeat_the_expression(alert: Alert) -> None:
    for question in questions(FOLDER / alert.runbook):
        assert question.split() != alert.expr.split()


def test_the_index_lists_every_alert_with_its_severity_in_their_order() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(([\w.-]+)\) \| (\w+) \|", INDEX.read_text(), re.MULTILINE)
    assert rows == [(alert.name, alert.runbook, alert.severity) for alert in ALERTS]


@each_page
def test_every_alert_that_a_page_names_exists(page: Path) -> None:
    links = re.findall(r"\[([A-Z]\w+[A-Z]\w+)\]\(([\w.-]+\.md)", prose(page))
    assert set(links) <= {(alert.name, alert.runbook) for alert in ALERTS}


@each_page
def test_every_series_that_a_page_names_exists(page: Path) -> None:
    text = "\n".join(_CODE.findall(prose(page)))
    names = set(_SERIES.findall(text)) - {"runbook_check_total"}
    histograms = {name.removesuffix("_bucket") for name in SAMPLES if name.endswith("_bucket")}
    assert names <= KNOWN.keys() | histograms


@each_page
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    code = [*_CODE.findall(prose(page)), *(text for _, text in blocks(page))]
    named = {key for text in code if ".md" not in text for key in _OPTION.findall(text)}
    assert named <= OPTIONS.keys()


@each_page
def test_every_expression_reads_series_by_labels_that_they_have(page: Path) -> None:
    for question in questions(page):
        for part in parts(parse(question)):
            if isinstance(part, Selector):
                assert set(part.labels) <= KNOWN[part.name], question
            if isinstance(part, Call) and part.grouping:
                read = [KNOWN[p.name] for p in parts(part) if isinstance(p, Selector)]
                assert set(part.labels) <= frozenset().union(*read), question


def test_promtool_can_read_every_expression(promtool: str, tmp_path: Path) -> None:
    found = [question for page in PAGES for question in questions(page)]
    rules = [{"record": f"page:question:{at}", "expr": expr} for at, expr in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(found)} rules found" in done.stdout


@each_page
def test_every_shell_block_can_be_read_by_bash(page: Path) -> None:
    for language, text in blocks(page):
        if language == "sh":
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
            assert done.stderr == "", text


@each_page
def test_a_line_of_a_page_has_one_sentence(page: Path) -> None:
    for line in prose(page).splitlines():
        text = re.sub(r"^ *(?:\d+\.|-) ", "", line)
        if not line.startswith("|"):
            assert not re.search(r"[.?!] (?=[A-Z`\[])", text), line


@each_page
def test_a_configuration_that_a_page_shows_is_valid(page: Path, tmp_path: Path) -> None:
    for language, text in blocks(page):
        if language == "toml":
            file = tmp_path / "llmstatsd.toml"
            file.write_text(text)
            assert load(file, {}, {}) != Config()
