"""Panels of a Grafana dashboard in its classic schema, without their id and place.

Only types of today's Grafana are built: timeseries, heatmap, stat and table.
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

DATA_SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
"""The data source that the variable `datasource` names."""

LINES: Final[Json] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8}
AREAS: Final[Json] = {
    "drawStyle": "line",
    "lineWidth": 0,  # a line of zero on top of the stack would look like a value
    "fillOpacity": 70,
    "stacking": {"mode": "normal", "group": "A"},
}
BARS: Final[Json] = {**AREAS, "drawStyle": "bars", "fillOpacity": 90}
"""How a graph draws: lines to compare, areas that add up, bars for what is rare and adds up."""

_COLORS: Final = {0: ("text",), 1: ("green", "red"), 2: ("green", "orange", "red")}
"""Colours below, between and above so many limits."""


class Target(NamedTuple):
    """One query. `legend` names the labels of the result as `{{model}}`, or says what it is."""

    expr: str
    legend: str


class Limit(NamedTuple):
    """Where an alert stands, and the page that says what to do."""

    value: float
    alert: str
    runbook_url: str


class Column(NamedTuple):
    """One column of a table: an instant query with one value per row."""

    title: str
    expr: str
    unit: str
    limit: Limit | None = None
    decimals: int | None = None


class Panel(NamedTuple):
    """`width` is in columns, of which a dashboard has 24; `height` in units of 30 pixels."""

    content: Json
    width: int
    height: int


class Row(NamedTuple):
    """Panels under a heading; without a title there is none."""

    title: str
    panels: list[Panel]
    collapsed: bool = False


def graph(
    title: str,
    description: str,
    *targets: Target,
    unit: str,
    style: Json = LINES,
    limits: Sequence[Limit] = (),
    axis: str = "",
    log: bool = False,
    ceiling: float | None = None,
    interval: str | None = None,
    missing: str | None = None,
    width: int = 12,
) -> Panel:
    """A graph over time.

    `limits` are drawn as dashed lines, `axis` says what a bare number counts, `ceiling` is the most
    that there can be, `interval` the shortest step, and `missing` what to say without data.
    """
    custom = {
        "axisLabel": axis,
        "showPoints": "auto",
        "spanNulls": False,
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if limits else "off"},
        **style,
    }
    defaults = {
        "unit": unit,
        "color": {"mode": "palette-classic-by-name"},
        "thresholds": _thresholds(limits),
        "custom": custom,
        **({} if log else {"min": 0}),
        **_given(max=ceiling, noValue=missing),
    }
    options = {
        "legend": _legend(has_figures=width >= 12),
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True},
    }
    queries = [_target(at, target) for at, target in enumerate(targets)]
    return _panel(
        "timeseries", title, description, queries, defaults, options, width, 8, limits, interval
    )


def _legend(*, has_figures: bool) -> Json:
    """Names below the graph, where there is room with figures, the highest first."""
    legend = {"showLegend": True, "placement": "bottom"}
    if has_figures:
        figures = {"calcs": ["lastNotNull", "mean", "max"], "sortBy": "Max", "sortDesc": True}
        return {**legend, "displayMode": "table", **figures}
    return {**legend, "displayMode": "list", "calcs": []}


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    limits: Sequence[Limit] = (),
    missing: str | None = None,
    link: Json | None = None,
    width: int = 6,
) -> Panel:
    """The last value in large, in the colour of its limits, over its way in the time range."""
    defaults = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": _thresholds(limits),
        **_given(noValue=missing),
    }
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value",
    }
    targets = [_target(0, Target(expr, title))]
    panel = _panel("stat", title, description, targets, defaults, options, width, 4, limits)
    if link:
        panel.content["links"].insert(0, link)
    return panel


def heatmap(
    title: str, description: str, expr: str, *, unit: str, interval: str, width: int = 12
) -> Panel:
    """How many observations fell into each bucket; `expr` is their increase by `le`."""
    defaults = {"custom": {"scaleDistribution": {"type": "linear"}}}
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "short", "decimals": 0},
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "reverse": False,
            "scale": "exponential",
            "exponent": 0.5,
            "fill": "dark-orange",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},  # an empty cell stays without colour
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    target = {**_target(0, Target(expr, "{{le}}")), "format": "heatmap"}
    return _panel(
        "heatmap", title, description, [target], defaults, options, width, 8, interval=interval
    )


def table(
    title: str,
    description: str,
    label: str,
    *columns: Column,
    sorted_by: str,
    link: Json | None = None,
    missing: str | None = None,
    width: int = 24,
) -> Panel:
    """A row per value of `label`, which opens `link`, and the highest of one column first."""
    first = label.capitalize()
    names = {f"Value #{ascii_uppercase[at]}": column.title for at, column in enumerate(columns)}
    content = _panel(
        "table",
        title,
        description,
        [_instant(at, column) for at, column in enumerate(columns)],
        {"unit": "short", "custom": {"align": "auto"}, **_given(noValue=missing)},
        {"showHeader": True, "sortBy": [{"displayName": sorted_by, "desc": True}]},
        width,
        8,
        [column.limit for column in columns if column.limit],
    ).content
    content["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: at for at, name in enumerate((label, *names))},
                "renameByName": {label: first, **names},
            },
        },
    ]
    content["fieldConfig"]["overrides"] = [
        *([_override(first, {"links": [link]})] if link else []),
        *(_override(column.title, _looks(column)) for column in columns),
    ]
    return Panel(content, width, 8)


def _looks(column: Column) -> Json:
    looks = {"unit": column.unit, **_given(decimals=column.decimals)}
    if column.limit is None:
        return looks
    colored = {"type": "color-text"}
    return {**looks, "thresholds": _thresholds([column.limit]), "custom.cellOptions": colored}


def _override(column: str, properties: Mapping[str, Any]) -> Json:
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def _panel(
    kind: str,
    title: str,
    description: str,
    targets: list[Json],
    defaults: Json,
    options: Json,
    width: int,
    height: int,
    limits: Sequence[Limit] = (),
    interval: str | None = None,
) -> Panel:
    content = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATA_SOURCE,
        **_given(interval=interval),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "links": [_runbook(limit) for limit in limits],
        "targets": targets,
    }
    return Panel(content, width, height)


def _target(at: int, target: Target) -> Json:
    return {
        "refId": ascii_uppercase[at],
        "datasource": DATA_SOURCE,
        "expr": target.expr,
        "legendFormat": target.legend,
        "format": "time_series",
        "range": True,
        "instant": False,
    }


def _instant(at: int, column: Column) -> Json:
    now = {"format": "table", "range": False, "instant": True}
    return {**_target(at, Target(column.expr, column.title)), **now}


def _thresholds(limits: Sequence[Limit]) -> Json:
    """Steps of colour: each begins at its value, the first at minus infinity."""
    values = [None, *(limit.value for limit in limits)]
    colors = _COLORS[len(limits)]
    steps = [{"color": color, "value": value} for color, value in zip(colors, values, strict=True)]
    return {"mode": "absolute", "steps": steps}


def _runbook(limit: Limit) -> Json:
    title = f"Runbook of {limit.alert}"
    return {"title": title, "url": limit.runbook_url, "targetBlank": True}


def _given(**options: Any) -> Json:
    return {name: value for name, value in options.items() if value is not None}
