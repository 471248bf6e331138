"""What is around the panels of a dashboard: variables, alerts as annotations, links, places."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from llmstatsd.kit.panels import DATA_SOURCE, Json, Panel, Row

SCHEMA_VERSION: Final = 39
"""Of Grafana 10.4 and 11; later ones bring it up to date when they load it."""

COLUMNS: Final = 24

TAGS: Final = ["llm", "llmstatsd"]


class Page(NamedTuple):
    """A dashboard as links name it; its uid is part of its address and never changes."""

    uid: str
    title: str
    description: str
    first_range: str


PERFORMANCE: Final = Page(
    "llm-performance",
    "LLM Performance",
    "How many LLM calls there are, how long they take and what they use.",
    "now-1h",
)
ERRORS: Final = Page(
    "llm-errors",
    "LLM Errors",
    "How many LLM calls fail, of what, with which model, and how fast the error budget burns.",
    "now-6h",
)


def dashboard(page: Page, rows: Sequence[Row], links: Sequence[Json]) -> Json:
    """The whole document, for the import as well as for provisioning."""
    return {
        "uid": page.uid,
        "title": page.title,
        "description": page.description,
        "tags": TAGS,
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,  # the same moment is marked in all graphs
        "refresh": "30s",
        "time": {"from": page.first_range, "to": "now"},
        "timezone": "browser",
        "links": list(links),
        "annotations": {"list": [_firing_alerts()]},
        "templating": {"list": _variables()},
        "panels": placed(rows),
    }


def _variables() -> list[Json]:
    """Each choice narrows those after it."""
    calls = '{job=~"$job", instance=~"$instance"}'
    return [
        _data_source(),
        _variable("job", "llmstatsd_build_info", "Job of Prometheus that scrapes the daemons."),
        _variable("instance", 'llmstatsd_build_info{job=~"$job"}', "Daemons, one per host."),
        _variable(
            "model",
            f"llm_request_total{calls}",
            "Models. Fallbacks, hosts and daemons are shown whatever is chosen here.",
        ),
        _variable(
            "operation",
            f"llm_request_total{calls}",
            "Operations. Requests, their durations and times of tokens have one;"
            " all else is shown whatever is chosen here.",
        ),
    ]


def _data_source() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "description": "The Prometheus that scrapes llmstatsd.",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "regex": "",
        "options": [],
        "current": {},
    }


def _variable(label: str, series: str, description: str) -> Json:
    """The values of a label, read anew with each time range, all of them at first."""
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "description": description,
        "type": "query",
        "datasource": DATA_SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"Variable-{label}"},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "regex": "",
        "options": [],
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _firing_alerts() -> Json:
    return {
        "name": "Firing alerts",
        "datasource": DATA_SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", job=~"$job"}',
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{model}} {{type}} {{instance}}",
        "tagKeys": "severity",
        "useValueForTime": False,
    }


def link_to(page: Page) -> Json:
    """For the top of another dashboard; it keeps what is chosen there."""
    return {
        "type": "link",
        "title": page.title,
        "tooltip": page.description,
        "url": f"/d/{page.uid}",
        "icon": "dashboard",
        "keepTime": True,
        "includeVars": True,
        "targetBlank": False,
        "asDropdown": False,
        "tags": [],
    }


def link_out(title: str, tooltip: str, url: str) -> Json:
    """For the top of a dashboard, to a page that is not Grafana's."""
    return {
        **link_to(Page("", title, tooltip, "")),
        "url": url,
        "icon": "doc",
        "keepTime": False,
        "includeVars": False,
        "targetBlank": True,
    }


def panel_link(page: Page, title: str, variables: str = "${__all_variables}") -> Json:
    """For a panel or a field; the time range and the variables named stay as they are."""
    return {"title": title, "url": f"/d/{page.uid}?${{__url_time_range}}&{variables}"}


def placed(rows: Sequence[Row]) -> list[Any]:
    """The panels in reading order, each with its id and place; no two overlap.

    Panels of a collapsed row lie inside it, and what follows comes right under its heading.
    """
    numbers = itertools.count(1)
    panels: list[Json] = []
    top = 0
    for row in rows:
        if row.title:
            panels.append(_heading(row, next(numbers), top))
            top += 1
        inside = list(_flowing(row.panels, numbers, top))
        if row.collapsed:
            panels[-1]["panels"] = inside
        else:
            panels.extend(inside)
            top = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in inside)
    return panels


def _heading(row: Row, number: int, top: int) -> Json:
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": row.collapsed,
        "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        "panels": [],
    }


def _flowing(panels: Sequence[Panel], numbers: Iterator[int], top: int) -> Iterator[Json]:
    """From left to right, a new line where a panel does not fit; a line is as high as its first."""
    left = height = 0
    for panel in panels:
        if left + panel.width > COLUMNS:
            left, top = 0, top + height
        if left == 0:
            height = panel.height
        place = {"x": left, "y": top, "w": panel.width, "h": height}
        yield {"id": next(numbers), **panel.content, "gridPos": place}
        left += panel.width
