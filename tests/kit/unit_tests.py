"""Promtool's unit tests of the rules, run against the kit's rules or against changed ones."""

import functools
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from llmstatsd.config import Config
from llmstatsd.kit import prometheus
from llmstatsd.kit.alerts import Alert
from llmstatsd.kit.recording import RecordingRule, recording_rules
from tests.kit.expressions import Selector, parse, parts

FOLDER: Final = Path(__file__).parent / "rules"

_PASSED: Final = re.compile(r"^Unit Testing:  (\S+)\n  SUCCESS$", re.MULTILINE)
_RULES: Final = prometheus.alert_group(Config())["rules"]
_NOT_A_RULE: Final = re.compile(r"parse error|unmarshal|no such file|could not")

Rules = Sequence[RecordingRule | Alert]
"""Recording rules, and alerts after the ones that they read."""


def file_of(alert: Alert) -> Path:
    """The file with the unit tests of an alert, named as its runbook."""
    return FOLDER / alert.runbook.replace(".md", ".yml")


@functools.cache
def cases(file: Path) -> list[dict[str, Any]]:
    """The tests in a file."""
    tests: list[dict[str, Any]] = yaml.safe_load(file.read_text())["tests"]
    return tests


def passing(promtool: str, files: Sequence[Path], folder: Path) -> set[Path]:
    """The files whose tests all pass; `folder` is where promtool is started."""
    command = [promtool, "test", "rules", *map(str, files)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert not _NOT_A_RULE.search(done.stderr), done.stderr
    return {Path(path) for path in _PASSED.findall(done.stdout)}


def accepted(
    promtool: str, file: Path, changes: Mapping[str, Rules], folder: Path
) -> Iterator[str]:
    """The names of those sets of rules that a file's tests pass with, all of them in one run."""
    places = {
        _place(folder / str(at), file, rules): name
        for at, (name, rules) in enumerate(changes.items())
    }
    passed = passing(promtool, list(places), folder)
    yield from (name for place, name in places.items() if place in passed)


def _place(root: Path, file: Path, rules: Rules) -> Path:
    """Copy a file to where it finds these rules in place of the kit's."""
    copy = root / "tests" / "kit" / "rules" / file.name
    copy.parent.mkdir(parents=True)
    copy.write_text(file.read_text())
    folder = root / "configs" / "prometheus"
    folder.mkdir(parents=True)
    records = [rule._asdict() for rule in rules if isinstance(rule, RecordingRule)]
    alerts = [_alert(rule) for rule in rules if isinstance(rule, Alert)]
    for kind, group in (("recording", records), ("alert", alerts)):
        name = {"recording": "llm_rules", "alert": "llm_alerts"}[kind]
        groups = {"groups": [{"name": name, "rules": group}] if group else []}
        (folder / f"{kind}-rules.yml").write_text(yaml.safe_dump(groups))
    return copy


def _alert(alert: Alert) -> dict[str, Any]:
    """The rule of an alert as the kit writes it, with what was changed in it."""
    rule: dict[str, Any] = next(rule for rule in _RULES if rule["alert"] == alert.name)
    return rule | {"expr": alert.expr, "for": alert.lasting}


def read_by(expression: str) -> set[str]:
    """The names of the series that an expression reads."""
    return {part.name for part in parts(parse(expression)) if isinstance(part, Selector)}


def needed_by(expression: str) -> list[RecordingRule]:
    """The recording rules that an expression reads, and those that they read, in their order."""
    rules = {rule.record: rule for rule in recording_rules(Config())}
    waiting = [expression]
    needed: set[str] = set()
    while waiting:
        new = (read_by(waiting.pop()) & rules.keys()) - needed
        needed |= new
        waiting += [rules[name].expr for name in new]
    return [rule for name, rule in rules.items() if name in needed]
