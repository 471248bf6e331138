"""The recording rules keep what their names say, by promtool's unit tests in rules/."""

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmstatsd.config import Config
from llmstatsd.kit.prometheus import recording_group
from llmstatsd.kit.recording import RecordingRule, recording_rules
from tests.kit.exposed import RECORDED, SAMPLES
from tests.kit.unit_tests import FOLDER, Rules, accepted, cases, passing, read_by

UNIT_TESTS = FOLDER / "recording-rules.yml"
RULES = recording_rules(Config())
AGGREGATES = [rule for rule in RULES if not rule.record.startswith("llm:")]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.record)

LEVELS = {"job": {"job"}, "instance": {"job", "instance"}, "model": {"job", "model"}}
"""What is left of the labels at each level; the job always is."""


def test_the_rules_keep_what_their_unit_tests_say(promtool: str, tmp_path: Path) -> None:
    assert passing(promtool, [UNIT_TESTS], tmp_path) == {UNIT_TESTS}


def test_the_documented_rules_are_exactly_the_rates_of_their_series() -> None:
    group = recording_group(Config())
    assert group["name"] == "llm_rules"
    assert [rule for rule in group["rules"] if rule["record"].startswith("llm:")] == [
        {"record": "llm:request_rate_5m", "expr": "rate(llm_request_total[5m])"},
        {"record": "llm:error_rate_5m", "expr": "rate(llm_error_total[5m])"},
        {"record": "llm:token_rate_5m", "expr": "rate(llm_tokens_total[5m])"},
    ]


def wrong(rule: RecordingRule) -> Iterator[tuple[str, RecordingRule]]:
    """Changes of a rule, by what is wrong."""
    yield f"twice {rule.record}", rule._replace(expr=f"2 * ({rule.expr})")
    if " > 0" in rule.expr:
        unguarded = rule._replace(expr=rule.expr.replace(" > 0", ""))
        yield f"{rule.record} divides by zero", unguarded


def test_the_unit_tests_fail_for_each_wrong_rule(promtool: str, tmp_path: Path) -> None:
    rules: dict[str, Rules] = {"right": RULES}
    for rule in RULES:
        for name, changed in wrong(rule):
            rules[name] = [changed if one is rule else one for one in RULES]
    assert list(accepted(promtool, UNIT_TESTS, rules, tmp_path)) == ["right"]


@each_rule
def test_the_unit_tests_ask_for_a_rule(rule: RecordingRule) -> None:
    asked = {
        name
        for case in cases(UNIT_TESTS)
        for question in case["promql_expr_test"]
        if question["exp_samples"]
        for name in read_by(question["expr"])
    }
    assert rule.record in asked


@pytest.mark.parametrize("rule", AGGREGATES, ids=lambda rule: rule.record)
def test_a_name_is_level_metric_and_operation(rule: RecordingRule) -> None:
    level, metric, operation = rule.record.split(":")
    assert level in LEVELS
    assert not metric.endswith("_total")
    assert re.fullmatch(r"(?:ratio_|p\d\d_)?rate(?:5m|30m|1h|6h)", operation)
    assert ("_per_" in metric) == operation.startswith("ratio_")


@each_rule
def test_a_name_says_the_range_of_its_rates(rule: RecordingRule) -> None:
    said = re.findall(r"rate_?(\d+[mh])$", rule.record)
    ranges = set(re.findall(r"\[(\d+[mh])\]", rule.expr))
    read = {found for name in read_by(rule.expr) for found in re.findall(r"rate_?(\d+[mh])$", name)}
    assert ranges | read == set(said)


def test_a_rule_reads_series_that_exist_and_rules_before_it() -> None:
    before = accumulate(RULES, lambda names, rule: names | {rule.record}, initial=set[str]())
    for rule, recorded in zip(RULES, before, strict=False):
        assert read_by(rule.expr) <= SAMPLES.keys() | recorded, rule.record


def fed() -> list[dict[str, str]]:
    """A load in which each series has every label that it can have."""
    rows = []
    for name in sorted({name for rule in RULES for name in read_by(rule.expr)} - RECORDED.keys()):
        labels = {label: f"some {label}" for label in SAMPLES[name]}
        for le in ("10.0", "+Inf") if "le" in labels else ("",):
            matchers = labels | ({"le": le} if le else {})
            shown = ", ".join(f"{label}={json.dumps(value)}" for label, value in matchers.items())
            rows.append({"series": f"{name}{{{shown}}}", "values": "0+60x5"})
    return rows


def test_the_labels_left_are_those_of_the_level(promtool: str, tmp_path: Path) -> None:
    """And of buckets `le` as well; the documented rates keep every label."""
    questions = []
    for rule in AGGREGATES:
        level, metric, _ = rule.record.split(":")
        left = {label: f"some {label}" for label in LEVELS[level]}
        shown = ", ".join(f'{label}="{value}"' for label, value in left.items())
        ends = [', le="10.0"', ', le="+Inf"'] if metric.endswith("_bucket") else [""]
        samples = [{"labels": f"{rule.record}{{{shown}{end}}}"} for end in ends]
        expr = f"0 * {{__name__='{rule.record}'}}"
        expected = [{"labels": s["labels"].removeprefix(rule.record), "value": 0} for s in samples]
        questions.append({"expr": expr, "eval_time": "5m", "exp_samples": expected})
    case = {"interval": "1m", "input_series": fed(), "promql_expr_test": questions}
    rules, tests = tmp_path / "rules.yml", tmp_path / "tests.yml"
    rules.write_text(json.dumps({"groups": [recording_group(Config())]}))
    tests.write_text(
        json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]})
    )
    command = [promtool, "test", "rules", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seconds", [7.5, 10.0, 15.0])
def test_the_share_of_slow_requests_is_cut_at_the_threshold(seconds: float) -> None:
    thresholds = replace(Config().thresholds, latency_seconds=seconds)
    rules = dict(recording_rules(replace(Config(), thresholds=thresholds)))
    assert f'{{le="{seconds}"}}' in rules["model:llm_slow_request_per_llm_request:ratio_rate5m"]
