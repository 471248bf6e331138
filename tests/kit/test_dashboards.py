"""What Grafana's dashboard linter asks, and what an operator relies on.

The linter's rules (https://github.com/grafana/dashboard-linter, docs/rules), restated here:

- template-datasource-rule, template-job-rule, template-instance-rule, template-label-promql-rule,
  template-on-time-change-reload-rule, uneditable-dashboard
- panel-datasource-rule, panel-title-description-rule, panel-units-rule, panel-no-targets-rule;
  here they hold for heatmaps as well
- target-promql-rule, target-rate-interval-rule, target-counter-agg-rule, target-job-rule
- target-instance-rule, but for the recorded `job:...` series and ALERTS: they have no instance

Rules that do not apply: target-logql-rule and target-logql-auto-rule, because nothing reads Loki;
target-required-matchers-rule and template-required-variables-rule, which ask for nothing unless
they are configured. A rule of ours takes their place: an expression is narrowed by those variables
that all its series have as labels, so that both sides of a share speak of the same requests.
"""

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest
import yaml

from llmstatsd.catalog import CATALOG
from llmstatsd.config import Config
from llmstatsd.kit import grafana
from llmstatsd.kit.alerts import alerts
from llmstatsd.kit.limits import limits
from llmstatsd.kit.promql import number
from llmstatsd.kit.recording import recording_rules

Json = dict[str, Any]

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

OTHER: Final = msgspec.convert(
    {
        "thresholds": {
            "error_ratio": 0.085,
            "latency_seconds": 20.0,
            "objective_ratio": 0.995,
            "rate_limited_ratio": 0.15,
            "fallback_ratio": 0.25,
            "model_load_seconds": 60.0,
            "dropped_ratio": 0.0075,
            "refused_ratio": 0.045,
            "folded_ratio": 0.065,
            "scrape_duration_seconds": 2.25,
        },
        "kit": {"runbooks_url": "https://runbooks.example/llm/"},
    },
    Config,
)
CONFIGS = {"the defaults": Config(), "other thresholds": OTHER}

# The ids of Grafana's units that are used, and what they are.
UNITS = {
    "Bps": "bytes per second",
    "bytes": "bytes",
    "celsius": "degrees",
    "cps": "counts per second",
    "currencyUSD": "dollars",
    "joule": "joules",
    "locale": "a whole number",
    "none": "a number",
    "percentunit": "a share from 0 to 1",
    "pps": "packets per second",
    "reqps": "requests per second",
    "s": "seconds",
    "short": "a number with k, Mil",
    "watt": "watts",
}

VARIABLES = ("datasource", "job", "instance", "model", "operation")
NARROWING = {"model", "operation"}

_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}(\[[^\]]*\])?")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_WORDS = {
    *("sum", "max", "count", "by", "on", "group_left", "or"),
    *("rate", "increase", "histogram_quantile", "clamp_min", "vector"),
}


def boards(config: Config) -> dict[str, Json]:
    files = (document for document in grafana.documents(config) if ".json" in document.path)
    return {Path(file.path).stem: json.loads(file.text) for file in files}


BOARDS = boards(Config())


def flat(board: Json) -> list[Json]:
    """Rows and panels, those in collapsed rows as well."""
    return [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", []))]


def panels(board: Json) -> list[Json]:
    return [panel for panel in flat(board) if panel["type"] != "row"]


class Query(NamedTuple):
    """A target and where it is."""

    place: str
    panel: Json
    target: Json

    @property
    def expr(self) -> str:
        return str(self.target["expr"])


PANELS = {f"{uid}: {panel['title']}": panel for uid in BOARDS for panel in panels(BOARDS[uid])}
QUERIES = [
    Query(f"{place} {target['refId']}", panel, target)
    for place, panel in PANELS.items()
    for target in panel["targets"]
]
ANNOTATIONS = [
    Query(f"{uid}: {annotation['name']}", {}, annotation)
    for uid, board in BOARDS.items()
    for annotation in board["annotations"]["list"]
]

by_uid = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
by_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
by_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
by_expression = pytest.mark.parametrize(
    "query", [*QUERIES, *ANNOTATIONS], ids=lambda query: query.place
)
by_variable = pytest.mark.parametrize("name", VARIABLES[1:])


class Metric(NamedTuple):
    """What an expression may select: `type` is counter, gauge or info."""

    type: str
    labels: frozenset[str]


def _documented() -> Iterator[tuple[str, Metric]]:
    for series in CATALOG.values():
        labels = frozenset(series.labels)
        if series.type == "histogram":
            yield f"{series.name}_bucket", Metric("counter", labels | {"le"})
            yield f"{series.name}_count", Metric("counter", labels)
            yield f"{series.name}_sum", Metric("counter", labels)
        else:
            yield series.name, Metric(series.type, labels)


def _own() -> Iterator[tuple[str, Metric]]:
    """What docs/reference/metrics.md says of the daemon, the host, the GPUs and the process."""
    row = r"(?m)^\| `((?:llmstatsd|process|python)_\w+)` \| (\w+) \| ([^|]*) \|"
    for name, kind, labels in re.findall(row, REFERENCE.read_text("utf-8")):
        yield name, Metric(kind, frozenset(re.findall(r"`(\w+)`", labels)))


SCRAPED = {
    name: Metric(metric.type, metric.labels | {"job", "instance"})
    for name, metric in (*_documented(), *_own())
}
OF_PROMETHEUS = {
    name: Metric("gauge", frozenset({"job", "instance"}))
    for name in ("up", "scrape_duration_seconds")
}
WITHOUT_INSTANCE = {
    "ALERTS": Metric("gauge", frozenset({"job", "alertstate"})),
    **{
        rule.record: Metric("gauge", frozenset({"job"}))
        for rule in recording_rules(Config())
        if rule.record.startswith("job:")
    },
}
METRICS = SCRAPED | OF_PROMETHEUS | WITHOUT_INSTANCE


class Selector(NamedTuple):
    """`name{label=~"value"}[window]` with what stands before it, such as `rate(`."""

    name: str
    matchers: dict[str, str]
    window: str
    before: str


def selectors(expr: str) -> list[Selector]:
    return [
        Selector(
            found[1],
            {label: how + value for label, how, value in _MATCHER.findall(found[2])},
            found[3] or "",
            expr[: found.start()],
        )
        for found in _SELECTOR.finditer(expr)
    ]


def in_parentheses(text: str) -> str:
    """What is within the parentheses that the text begins with."""
    depth = 0
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return text[1:at]
    raise ValueError(text)


def aggregations(expr: str) -> list[tuple[set[str], str]]:
    """The labels and the operand of each `sum by (...) (...)`; without `by` there are none."""
    return [
        (set(re.findall(r"\w+", found[1] or "")), in_parentheses(expr[found.end() :]))
        for found in re.finditer(r"\b(?:sum|max|count)(?: by \(([^)]*)\) )?(?=\()", expr)
    ]


def kept_labels(expr: str) -> set[str]:
    """The labels of the result: every aggregation has the same, unless `group_left` adds some."""
    kept = [labels - {"le"} for labels, _ in aggregations(expr)]
    if "group_left" not in expr:
        assert kept.count(kept[0]) == len(kept)
    return set().union(*kept)


def substituted(expr: str) -> str:
    """As Grafana sends it with every variable on All."""
    expr = expr.replace("$__rate_interval", "1m").replace("$__range", "1h")
    return re.sub(r"\$\w+", ".+", expr)


def variable(board: Json, name: str) -> Json:
    (found,) = [one for one in board["templating"]["list"] if one["name"] == name]
    return dict(found)


# The dashboards


def test_the_dashboards_have_their_names() -> None:
    assert {uid: board["title"] for uid, board in BOARDS.items()} == {
        "llm-performance": "LLM Performance",
        "llm-errors": "LLM Errors",
    }


@by_uid
def test_a_dashboard_is_of_the_classic_schema_and_its_uid_is_its_file_name(board: Json) -> None:
    assert 39 <= board["schemaVersion"] <= 41
    assert BOARDS[board["uid"]] is board
    assert "__inputs" not in board
    assert board["description"].endswith(".")
    assert board["tags"]


@by_uid
def test_a_dashboard_is_not_edited_in_the_browser(board: Json) -> None:
    assert board["editable"] is False


@by_uid
def test_a_dashboard_shows_the_last_hours_and_refreshes(board: Json) -> None:
    assert re.fullmatch(r"now-\d+h", board["time"]["from"])
    assert board["time"]["to"] == "now"
    assert board["refresh"] == "30s"


@by_uid
def test_no_two_panels_have_the_same_id_or_title(board: Json) -> None:
    ids = [panel["id"] for panel in flat(board)]
    assert all(type(number) is int and number > 0 for number in ids)
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in flat(board)]
    assert len(set(titles)) == len(titles)


@by_uid
def test_no_two_panels_overlap_and_each_line_is_full(board: Json) -> None:
    rows = [panel["panels"] for panel in board["panels"] if panel.get("collapsed")]
    for shown in (board["panels"], *rows):
        cells = [cell for panel in shown for cell in _cells(panel["gridPos"])]
        assert len(set(cells)) == len(cells)
        lines = itertools.groupby(sorted(cells, key=lambda cell: cell[1]), lambda cell: cell[1])
        assert {len(list(line)) for _, line in lines} == {24}


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    columns = range(place["x"], place["x"] + place["w"])
    return itertools.product(columns, range(place["y"], place["y"] + place["h"]))


@by_uid
def test_the_first_line_is_of_single_numbers(board: Json) -> None:
    assert {panel["type"] for panel in board["panels"] if panel["gridPos"]["y"] == 0} == {"stat"}


def test_the_documented_panels_are_there() -> None:
    kinds = {place: panel["type"] for place, panel in PANELS.items()}
    graphs = {
        "llm-performance": ("Request Rate", "Token Usage", "Model load", "Prompt evaluation"),
        "llm-errors": ("Error Rate by type", "Fallback Rate", "Rate limits", "Budget burn"),
    }
    for uid, titles in graphs.items():
        assert {kinds[f"{uid}: {title}"] for title in titles} == {"timeseries"}
    assert kinds["llm-performance: Response Time"] == "heatmap"
    assert kinds["llm-errors: Worst models"] == "table"


def test_only_the_row_of_gpus_is_collapsed() -> None:
    rows = [row for board in BOARDS.values() for row in board["panels"] if row["type"] == "row"]
    assert [row["title"] for row in rows if row["collapsed"]] == ["GPUs"]
    assert all(bool(row["panels"]) is row["collapsed"] for row in rows)
    gpus = next(row for row in rows if row["collapsed"])["panels"]
    assert all("gpu_" in target["expr"] for panel in gpus for target in panel["targets"])
    rest = [query for query in QUERIES if query.panel not in gpus]
    assert not [query.place for query in rest if "gpu_" in query.expr]


# Variables


@by_uid
def test_the_variables_are_the_data_source_and_four_labels(board: Json) -> None:
    assert tuple(one["name"] for one in board["templating"]["list"]) == VARIABLES
    source = variable(board, "datasource")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert source["label"] == "Data source"


@by_uid
@by_variable
def test_a_variable_holds_the_values_of_a_label_and_may_be_all_of_them(
    board: Json, name: str
) -> None:
    found = variable(board, name)
    assert found["type"] == "query"
    assert found["label"] == name.capitalize()
    assert found["multi"] is True
    assert found["includeAll"] is True
    assert found["allValue"] == ".+"
    assert found["current"]["value"] == ["$__all"]


@by_uid
@by_variable
def test_a_variable_is_read_anew_when_the_time_range_changes(board: Json, name: str) -> None:
    assert variable(board, name)["refresh"] == 2


@by_uid
@by_variable
def test_a_variable_asks_for_a_label_that_its_series_has(board: Json, name: str) -> None:
    found = variable(board, name)
    query = re.fullmatch(r"label_values\((\w+)(?:\{(.*)\})?, (\w+)\)", found["query"]["query"])
    assert query
    assert query[3] == name
    assert name in METRICS[query[1]].labels
    assert found["definition"] == found["query"]["query"]


@by_uid
@pytest.mark.parametrize(
    ("name", "chosen_before"),
    [
        ("job", []),
        ("instance", ["job"]),
        ("model", ["job", "instance"]),
        ("operation", ["job", "instance"]),
    ],
    ids=VARIABLES[1:],
)
def test_a_variable_offers_what_the_chosen_daemons_have(
    board: Json, name: str, chosen_before: list[str]
) -> None:
    matchers = _MATCHER.findall(variable(board, name)["definition"])
    assert matchers == [(label, "=~", f"${label}") for label in chosen_before]


@by_uid
def test_each_variable_is_used(board: Json) -> None:
    used = "".join(target["expr"] for panel in panels(board) for target in panel["targets"])
    assert set(re.findall(r'=~"\$(\w+)"', used)) == set(VARIABLES) - {"datasource"}


# Panels


@by_panel
def test_a_panel_has_a_current_type(panel: Json) -> None:
    assert panel["type"] in {"timeseries", "heatmap", "stat", "table"}


@by_panel
def test_a_panel_has_a_title_and_a_description_in_sentences(panel: Json) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")


@by_panel
def test_a_panel_has_a_unit(panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"] in UNITS
    else:
        assert defaults["unit"] in UNITS
    for override in panel["fieldConfig"]["overrides"]:
        assert {one["value"] for one in override["properties"] if one["id"] == "unit"} <= set(UNITS)


@by_panel
def test_a_panel_asks_something_of_the_chosen_data_source(panel: Json) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    assert panel["datasource"] == source
    assert all(target["datasource"] == source for target in panel["targets"])
    ids = [target["refId"] for target in panel["targets"]]
    assert len(set(ids)) == len(ids)


def test_nothing_names_another_data_source() -> None:
    text = json.dumps(BOARDS)
    assert set(re.findall(r'"uid": "(\$[^"]*)"', text)) == {"${datasource}"}
    assert set(re.findall(r'"uid": "([^$"]*)"', text)) == set(BOARDS)


@by_panel
def test_a_heatmap_reads_buckets_and_a_table_reads_one_moment(panel: Json) -> None:
    formats = {"heatmap": "heatmap", "table": "table"}
    for target in panel["targets"]:
        assert target["format"] == formats.get(panel["type"], "time_series")
        assert target["instant"] is (panel["type"] == "table")
        assert target["range"] is (panel["type"] != "table")
    if panel["type"] == "heatmap":
        assert panel["options"]["calculate"] is False
        assert [labels for labels, _ in aggregations(panel["targets"][0]["expr"])] == [{"le"}]


@pytest.mark.parametrize(
    "panel",
    [panel for panel in PANELS.values() if panel["type"] == "table"],
    ids=lambda p: p["title"],
)
def test_a_table_names_each_column_and_is_sorted_by_one(panel: Json) -> None:
    (organized,) = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    values = [f"Value #{target['refId']}" for target in panel["targets"]]
    names = organized["renameByName"]
    assert list(names) == ["model", *values]
    assert len(set(names.values())) == len(names)
    (sort,) = panel["options"]["sortBy"]
    assert sort["displayName"] in names.values()
    assert sort["desc"] is True
    overridden = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert overridden <= set(names.values())


@by_panel
def test_a_panel_that_may_have_no_data_says_why(panel: Json) -> None:
    names = {one.name for target in panel["targets"] for one in selectors(target["expr"])}
    optional = {
        name
        for name in names
        if name.startswith(("llmstatsd_gpu_", "job:"))
        or any(one.extra and name.startswith(one.name) for one in CATALOG.values())
    }
    assert ("noValue" in panel["fieldConfig"]["defaults"]) is bool(optional)


# Expressions


@by_expression
def test_an_expression_selects_series_that_exist_by_labels_that_they_have(query: Query) -> None:
    found = selectors(query.expr)
    assert found
    for one in found:
        assert set(one.matchers) <= METRICS[one.name].labels
    for labels, operand in aggregations(query.expr):
        for one in selectors(operand):
            assert labels <= METRICS[one.name].labels


@by_expression
def test_an_expression_has_no_series_outside_of_a_selector(query: Query) -> None:
    rest = re.sub(r"\b(?:by|on|group_left) \([^)]*\)", "", _SELECTOR.sub("", query.expr))
    assert set(re.findall(r"[a-zA-Z_]\w*", rest)) <= _WORDS


@by_expression
def test_a_selector_has_the_chosen_job_and_instance(query: Query) -> None:
    for one in selectors(query.expr):
        assert one.matchers["job"] == "=~$job"
        if one.name not in WITHOUT_INSTANCE:
            assert one.matchers["instance"] == "=~$instance"


@by_query
def test_an_expression_is_narrowed_by_what_all_its_series_know(query: Query) -> None:
    """The columns of a table speak of the same requests as well."""
    found = selectors(query.expr)
    others = query.panel["targets"] if query.panel["type"] == "table" else [query.target]
    beside = [one for target in others for one in selectors(target["expr"])]
    known = NARROWING.intersection(*(METRICS[one.name].labels for one in beside))
    for one in found:
        assert set(one.matchers) & NARROWING == known
        assert all(one.matchers[label] == f"=~${label}" for label in known)


@by_expression
def test_a_counter_is_read_as_rate_or_increase_and_a_gauge_is_not(query: Query) -> None:
    for one in selectors(query.expr):
        if METRICS[one.name].type == "counter":
            assert one.before.endswith(("rate(", "increase("))
            assert one.window
        else:
            assert not one.window


@by_query
def test_a_window_is_the_rate_interval_or_in_a_table_the_time_range(query: Query) -> None:
    windows = {one.window for one in selectors(query.expr)} - {""}
    expected = "[$__range]" if query.panel["type"] == "table" else "[$__rate_interval]"
    assert windows <= {expected}


@by_query
def test_a_division_by_zero_is_a_gap(query: Query) -> None:
    for found in re.finditer(r" / (?:on \([^)]*\) group_left \([^)]*\) )?", query.expr):
        divisor = in_parentheses(query.expr[found.end() :])
        assert divisor.endswith(" > 0") or re.fullmatch(r"1 - 0\.\d+", divisor)


@by_query
def test_a_quantile_without_observations_is_a_gap(query: Query) -> None:
    if "histogram_quantile" in query.expr:
        assert query.expr.endswith(") >= 0")


@by_query
def test_a_legend_names_every_label_that_is_kept(query: Query) -> None:
    legend = set(re.findall(r"\{\{(\w+)\}\}", query.target["legendFormat"]))
    if query.panel["type"] == "timeseries":
        assert legend == kept_labels(query.expr)
    elif query.panel["type"] == "table":
        assert kept_labels(query.expr) == {"model"}
    elif query.panel["type"] == "heatmap":
        assert legend == {"le"}
    else:
        assert aggregations(query.expr)[0][0] <= {"le"}


@by_panel
def test_no_two_queries_of_a_panel_have_the_same_legend(panel: Json) -> None:
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert all(legends)
    assert len(set(legends)) == len(legends)


@pytest.mark.parametrize("name", CATALOG)
def test_every_documented_series_is_in_a_panel(name: str) -> None:
    shown = {one.name for query in QUERIES for one in selectors(query.expr)}
    assert shown & {name, f"{name}_bucket", f"{name}_sum"}


def test_every_figure_of_the_gpus_is_in_a_panel() -> None:
    shown = {one.name for query in QUERIES for one in selectors(query.expr)}
    assert {name for name in SCRAPED if "_gpu_" in name} <= shown


def test_promtool_reads_every_expression(promtool: str, tmp_path: Path) -> None:
    selected = [
        re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable(board, name)["definition"])
        for board in BOARDS.values()
        for name in VARIABLES[1:]
    ]
    expressions = [query.expr for query in (*QUERIES, *ANNOTATIONS)] + selected
    rules = [
        {"record": f"expression:{at}", "expr": substituted(expr)}
        for at, expr in enumerate(expressions)
    ]
    assert "$" not in str(rules)
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


# Alerts and limits


@by_uid
def test_firing_alerts_are_marked_in_all_graphs(board: Json) -> None:
    (annotation,) = board["annotations"]["list"]
    assert annotation["expr"] == 'ALERTS{alertstate="firing", job=~"$job"}'
    assert annotation["enable"] is True
    assert annotation["titleFormat"] == "{{alertname}}"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_limit_is_the_number_that_its_alert_compares_with(config: Config) -> None:
    expressions = {alert.name: alert.expr for alert in alerts(config)}
    for name, limit in limits(config).items():
        comparison = re.escape(f"> {number(limit.value)}") + r"(?: \* \(1 - \d|$)"
        assert re.search(comparison, expressions[name], re.MULTILINE), name


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_panels_show_the_limits_of_the_configuration(config: Config) -> None:
    at = config.thresholds
    burn = [6, 14.4]
    assert _limits_shown(boards(config)) == {
        "llm-performance: Error ratio": [at.error_ratio],
        "llm-performance: p95 response time": [at.latency_seconds],
        "llm-performance: Response time quantiles": [at.latency_seconds],
        "llm-performance: p95 response time by model": [at.latency_seconds],
        "llm-performance: Model load": [at.model_load_seconds],
        "llm-performance: Lost datagrams": [at.dropped_ratio],
        "llm-performance: Refused lines": [at.refused_ratio],
        "llm-performance: Folded samples": [at.folded_ratio],
        "llm-performance: Scrape duration": [at.scrape_duration_seconds],
        "llm-errors: Error ratio": [at.error_ratio],
        "llm-errors: Rate limited": [at.rate_limited_ratio],
        "llm-errors: Fallbacks": [at.fallback_ratio],
        "llm-errors: Budget burn over 1 h": burn,
        "llm-errors: Firing alerts": [1],
        "llm-errors: Error ratio by model": [at.error_ratio],
        "llm-errors: Worst models, Error ratio": [at.error_ratio],
        "llm-errors: Worst models, Rate limited": [at.rate_limited_ratio],
        "llm-errors: Worst models, p95": [at.latency_seconds],
        "llm-errors: Error ratio by instance": [at.error_ratio],
        "llm-errors: Fallback share": [at.fallback_ratio],
        "llm-errors: Rate limited share": [at.rate_limited_ratio],
        "llm-errors: Budget burn": burn,
    }


def _limits_shown(given: dict[str, Json]) -> dict[str, list[float]]:
    """The steps above the first, of panels and of columns."""
    shown = {}
    for uid, board in given.items():
        for panel in panels(board):
            fields = panel["fieldConfig"]
            place = f"{uid}: {panel['title']}"
            shown[place] = fields["defaults"].get("thresholds")
            for override in fields["overrides"]:
                for one in override["properties"]:
                    if one["id"] == "thresholds":
                        shown[f"{place}, {override['matcher']['options']}"] = one["value"]
    steps = {place: found["steps"][1:] for place, found in shown.items() if found}
    return {place: [step["value"] for step in above] for place, above in steps.items() if above}


@by_panel
def test_a_graph_draws_its_limits(panel: Json) -> None:
    if panel["type"] == "timeseries":
        defaults = panel["fieldConfig"]["defaults"]
        has_limits = len(defaults["thresholds"]["steps"]) > 1
        assert defaults["custom"]["thresholdsStyle"]["mode"] == ("dashed" if has_limits else "off")


def test_the_error_budget_is_that_of_the_objective() -> None:
    burns = [
        target["expr"]
        for panel in panels(boards(OTHER)["llm-errors"])
        for target in panel["targets"]
        if "ratio_rate" in target["expr"]
    ]
    assert len(burns) == 5
    assert all(expr.rstrip(")").endswith("/ (1 - 0.995") for expr in burns)


def test_slow_requests_are_counted_at_the_bound_of_the_latency_threshold() -> None:
    (panel,) = [
        panel
        for panel in panels(boards(OTHER)["llm-performance"])
        if panel["title"] == "Slow requests"
    ]
    (first, *_) = selectors(panel["targets"][0]["expr"])
    assert first.matchers["le"] == "=20.0"
    assert "longer than 20 s" in panel["description"]


# Links


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_link_leads_to_the_other_dashboard_or_to_a_runbook(config: Config) -> None:
    folder = config.kit.runbooks_url.rstrip("/")
    pages = {config.kit.runbooks_url} | {f"{folder}/{alert.runbook}" for alert in alerts(config)}
    for uid, board in boards(config).items():
        urls = re.findall(r'"url": "([^"]*)"', json.dumps(board))
        within = {url.split("?")[0] for url in urls if url.startswith("/")}
        assert within == {f"/d/{other}" for other in BOARDS if other != uid}
        assert {url for url in urls if not url.startswith("/")} <= pages


@by_uid
def test_the_link_to_the_other_dashboard_keeps_time_and_variables(board: Json) -> None:
    (link,) = [link for link in board["links"] if link["url"].startswith("/d/")]
    assert link["keepTime"] is True
    assert link["includeVars"] is True
    assert link["title"] == BOARDS[link["url"].removeprefix("/d/")]["title"]


def test_a_model_among_the_worst_leads_to_its_performance() -> None:
    (override, *_) = PANELS["llm-errors: Worst models"]["fieldConfig"]["overrides"]
    assert override["matcher"] == {"id": "byName", "options": "Model"}
    ((link,),) = [one["value"] for one in override["properties"] if one["id"] == "links"]
    assert link["url"].startswith("/d/llm-performance?")
    assert "var-model=${__data.fields.Model" in link["url"]
    assert "${__url_time_range}" in link["url"]


@by_panel
def test_a_panel_with_a_limit_leads_to_the_runbook_of_its_alert(panel: Json) -> None:
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    runbooks = [link for link in panel["links"] if link["title"].startswith("Runbook of ")]
    if panel["type"] != "table":
        assert len(runbooks) == max(0, len(steps) - 1)
    for link in runbooks:
        assert link["targetBlank"] is True
