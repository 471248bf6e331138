"""Each alert says the right thing at the right moment, by promtool's unit tests in rules/."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from llmstatsd.catalog import CATALOG
from llmstatsd.config import Config, Option, load, options
from llmstatsd.kit.alerts import Alert, alerts
from llmstatsd.kit.contents import contents
from llmstatsd.kit.prometheus import alert_group, documents
from tests.kit.exposed import RECORDED, SAMPLES
from tests.kit.expressions import Selector, parse, parts
from tests.kit.unit_tests import (
    FOLDER,
    Rules,
    accepted,
    cases,
    file_of,
    needed_by,
    passing,
    read_by,
)

ALERTS = alerts(Config())
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)

OTHER_CONFIG = """
[series."llm_request_duration_seconds"]
buckets = [0.2, 1, 4, 10, 12.5, 40]
[series."llm_model_load_duration_seconds"]
buckets = [1, 15, 45]
[series."llm_total_duration_seconds"]
buckets = [5]
[thresholds]
latency_seconds = 12.5
model_load_seconds = 15
error_rate = 2
error_ratio = 0.015
objective_ratio = 0.9995
minimum_requests = 3
saturated_ratio = 0.25
"""


@pytest.fixture(scope="module", params=["defaults", "other buckets and thresholds"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration that a kit is made for."""
    if request.param == "defaults":
        return Config()
    file = tmp_path_factory.mktemp("config") / "llmstatsd.toml"
    file.write_text(OTHER_CONFIG)
    return load(file, {}, {})


# The unit tests


@each_alert
def test_an_alert_does_what_its_unit_tests_say(alert: Alert, promtool: str, tmp_path: Path) -> None:
    assert passing(promtool, [file_of(alert)], tmp_path) == {file_of(alert)}


def test_what_must_not_page_does_not(promtool: str, tmp_path: Path) -> None:
    file = FOLDER / "no-trouble.yml"
    assert passing(promtool, [file], tmp_path) == {file}


def test_every_file_of_unit_tests_belongs_to_an_alert() -> None:
    of_alerts = {file_of(alert).name for alert in ALERTS}
    of_none = {"no-trouble.yml", "recording-rules.yml"}
    assert {path.name for path in FOLDER.iterdir()} == of_alerts | of_none


def looks(alert: Alert) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Name of the case, minute and what fires, for every look that its unit tests take."""
    for case in cases(file_of(alert)):
        for look in case["alert_rule_test"]:
            assert look["alertname"] == alert.name
            yield case["name"], int(look["eval_time"].removesuffix("m")), look["exp_alerts"]


@each_alert
def test_an_alert_is_seen_firing_and_not_firing_and_at_its_boundary(alert: Alert) -> None:
    assert {bool(firing) for _, _, firing in looks(alert)} == {True, False}
    assert [name for name, _, _ in looks(alert) if name.startswith("boundary: ")]


@each_alert
def test_an_alert_is_seen_quiet_a_minute_before_it_fires(alert: Alert) -> None:
    seen = {(name, minute): bool(firing) for name, minute, firing in looks(alert)}
    fires = {moment for moment, firing in seen.items() if firing}
    assert [(name, minute) for name, minute in fires if seen.get((name, minute - 1)) is False]


@each_alert
def test_an_alert_is_seen_with_two_jobs_and_two_instances(alert: Alert) -> None:
    seen = [
        Series(row["series"]).labels
        for case in cases(file_of(alert))
        for row in case["input_series"]
    ]
    for label in ("job", "instance"):
        assert len({labels[label] for labels in seen}) > 1, label


def test_all_alerts_are_seen_quiet_on_a_fresh_daemon_and_under_a_healthy_load() -> None:
    names = {alert.name for alert in ALERTS}
    for case in cases(FOLDER / "no-trouble.yml"):
        assert {look["alertname"] for look in case["alert_rule_test"]} == names
        assert not any(look["exp_alerts"] for look in case["alert_rule_test"])


def test_the_saturation_of_every_documented_histogram_is_seen() -> None:
    alert = next(alert for alert in ALERTS if alert.name == "TopBucketSaturated")
    seen = {one["exp_labels"]["series"] for _, _, firing in looks(alert) for one in firing}
    assert seen == {series.name for series in CATALOG.values() if series.type == "histogram"}


class Series:
    """One series of a unit test: its name and labels."""

    def __init__(self, text: str) -> None:
        selector = parse(text)
        assert isinstance(selector, Selector)
        self.name = selector.name
        self.labels = selector.labels


INPUTS = sorted(
    {
        row["series"]
        for file in FOLDER.iterdir()
        for case in cases(file)
        for row in case["input_series"]
    }
)


def test_the_unit_tests_are_fed_with_series_that_a_daemon_exposes() -> None:
    for series in map(Series, INPUTS):
        assert series.labels.keys() == SAMPLES[series.name], series.name
        if "le" in series.labels and series.labels["le"] != "+Inf":
            bounds = Config().buckets(series.name.removesuffix("_bucket"))
            assert float(series.labels["le"]) in bounds, series.name


# What the unit tests would miss


def neighbours(option: Option) -> Iterator[object]:
    """Values of a threshold below and above its default that unit tests have to tell from it.

    Below is 1 %, as a boundary is exact; above is a fifth, as what fires shows a round figure.
    """
    value = option.default
    assert not isinstance(value, str)
    series = {"latency_seconds": "request", "model_load_seconds": "model_load"}.get(option.name)
    if series:
        bounds = Config().buckets(f"llm_{series}_duration_seconds")
        at = bounds.index(value)
        yield from (bounds[at - 1], bounds[at + 1])
    elif isinstance(value, int):
        yield from (value - 1, value + 1)
    elif option.name == "objective_ratio":
        yield from (1 - (1 - value) * part for part in (0.99, 1.2))
    else:
        yield from (value * 0.99, value * 1.2)


def with_other_thresholds(alert: Alert) -> Iterator[tuple[str, Alert]]:
    for option in options():
        if option.section == "thresholds":
            for value in neighbours(option):
                thresholds = msgspec.structs.replace(Config().thresholds, **{option.name: value})
                changed = alerts(msgspec.structs.replace(Config(), thresholds=thresholds))
                expr = next(one.expr for one in changed if one.name == alert.name)
                if expr != alert.expr:
                    yield f"{option.name} = {value}", alert._replace(expr=expr)


def with_other_waits(alert: Alert) -> Iterator[tuple[str, Alert]]:
    minutes = int(alert.lasting.removesuffix("m"))
    for wait in (minutes - 1, minutes + 1):
        yield f"for: {wait}m", alert._replace(lasting=f"{wait}m")


def without_a_condition(alert: Alert) -> Iterator[tuple[str, Alert]]:
    lines = alert.expr.splitlines()
    for at, line in enumerate(lines):
        if line.startswith(("and ", "unless ")):
            rest = "\n".join(lines[:at] + lines[at + 1 :])
            yield f"without {line}", alert._replace(expr=rest)
    if alert.name.startswith("ErrorBudgetBurn"):
        rest = "\n".join(lines[1:]).removeprefix("and ")
        yield f"without {lines[0]}", alert._replace(expr=rest)


def changes(alert: Alert) -> dict[str, Alert]:
    """Alerts that are wrong, by what is wrong."""
    return {
        "never": alert._replace(expr="vector(1) > 2"),
        "always": alert._replace(expr="vector(1)"),
        **dict(with_other_waits(alert)),
        **dict(with_other_thresholds(alert)),
        **dict(without_a_condition(alert)),
    }


@each_alert
def test_the_unit_tests_of_an_alert_fail_for_a_wrong_one(
    alert: Alert, promtool: str, tmp_path: Path
) -> None:
    rules: dict[str, Rules] = {
        change: [*needed_by(alert.expr), changed]
        for change, changed in {"right": alert, **changes(alert)}.items()
    }
    assert list(accepted(promtool, file_of(alert), rules, tmp_path)) == ["right"]


def test_each_threshold_is_tried_on_an_alert() -> None:
    tried = {name.split(" = ")[0] for alert in ALERTS for name in changes(alert) if " = " in name}
    assert tried == {option.name for option in options() if option.section == "thresholds"}


# What the rules say


def test_the_documented_alerts_are_word_for_word_as_documented() -> None:
    rules = {rule["alert"]: rule for rule in alert_group(Config())["rules"]}
    errors, latency = rules["HighErrorRate"], rules["HighLatency"]
    assert errors["expr"] == "rate(llm_error_total[5m]) > 0.1"
    assert errors["annotations"]["summary"] == "High LLM error rate"
    assert latency["expr"] == (
        "histogram_quantile(0.95, rate(llm_request_duration_seconds_bucket[5m])) > 10"
    )
    assert latency["annotations"]["summary"] == "High LLM latency"
    for rule in (errors, latency):
        assert rule["for"] == "5m"
        assert rule["labels"] == {"severity": "warning"}


@pytest.mark.parametrize("rule", alert_group(Config())["rules"], ids=lambda rule: rule["alert"])
def test_an_alert_has_all_that_whoever_gets_it_needs(rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert not annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert "{{ $" in annotations["description"]


@each_alert
def test_an_alert_reads_series_that_exist(alert: Alert, config: Config) -> None:
    same = next(one for one in alerts(config) if one.name == alert.name)
    assert read_by(same.expr) <= SAMPLES.keys() | RECORDED.keys()


@pytest.mark.parametrize("name", ["recording-rules.yml", "alert-rules.yml"])
def test_promtool_finds_nothing_to_say_about_the_rules(
    name: str, config: Config, promtool: str, tmp_path: Path
) -> None:
    text = {document.path: document.text for document in documents(config)}
    file = tmp_path / name
    file.write_text(text[f"prometheus/{name}"])
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    rules = yaml.safe_load(file.read_text())["groups"][0]["rules"]
    assert done.stdout.split("\n", 1)[1].strip() == f"SUCCESS: {len(rules)} rules found"


# Where thresholds stand

QUANTILE = re.compile(r"histogram_quantile\(|:p\d+_rate5m")
DURATIONS = re.compile(r"(llm_\w+_seconds)(?:_bucket|:)")


def test_a_quantile_is_compared_with_a_bucket_bound_below_the_last(config: Config) -> None:
    compared = {}
    for alert in alerts(config):
        if QUANTILE.search(alert.expr):
            series = DURATIONS.search(alert.expr)
            threshold = re.search(r" > ([\d.e+-]+)$", alert.expr.splitlines()[0])
            assert series
            assert threshold
            compared[alert.name] = (series[1], float(threshold[1]))
    assert compared.keys() == {"HighLatency", "HighModelLatency", "SlowModelLoad"}
    for name, value in compared.values():
        assert value in config.buckets(name)[:-1]


def texts(node: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from texts(child)


def expressions(config: Config) -> Iterator[str]:
    """Every text in rules and dashboards."""
    for document in contents(config):
        if document.path.endswith(".json"):
            yield from texts(json.loads(document.text))
        elif "-rules.yml" in document.path:
            yield from texts(yaml.safe_load(document.text))


def bounds_named(config: Config) -> Iterator[tuple[str, str]]:
    """Each documented histogram with a value of `le` that the kit selects from it."""
    for text in expressions(config):
        if "_bucket" not in text or "le=" not in text:
            continue
        for part in parts(parse(re.sub(r"\$(\w+)", "5m", text))):
            if isinstance(part, Selector) and "le" in part.labels:
                (series,) = re.findall(r"(llm_\w+_seconds)_bucket", part.name)
                yield series, part.labels["le"]


def test_every_bound_that_the_kit_names_is_a_bucket_as_the_daemon_writes_it(config: Config) -> None:
    named = set(bounds_named(config))
    for series, bound in named:
        if bound != "+Inf":
            assert str(float(bound)) == bound
            assert float(bound) in config.buckets(series)
    assert len(named) >= sum(series.type == "histogram" for series in CATALOG.values())
