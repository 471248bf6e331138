"""Every PromQL expression of the kit, as Prometheus gets it from its rules and from Grafana."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from llmstatsd.config import Config
from llmstatsd.kit.contents import contents

_DOCUMENTS: Final = {document.path: document.text for document in contents(Config())}


class Expression(NamedTuple):
    """`where` names the file, and the rule or the panel."""

    where: str
    text: str


def _rules() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("recording-rules.yml", "alert-rules.yml"):
        for group in yaml.safe_load(_DOCUMENTS[f"prometheus/{name}"])["groups"]:
            yield from ((name, rule) for rule in group["rules"])


def _dashboards() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, text in _DOCUMENTS.items():
        if path.startswith("grafana/") and path.endswith(".json"):
            yield Path(path).name, json.loads(text)


_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


def _substituted(text: str) -> str:
    """An expression as Grafana sends it, where the time range is five minutes and all is chosen."""
    return _VARIABLE.sub(
        lambda found: "5m" if (found[1] or found[2]).startswith("__") else ".+", text
    )


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those inside of collapsed rows too."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _shown() -> Iterator[Expression]:
    for name, dashboard in _dashboards():
        for panel in _panels(dashboard["panels"]):
            for target in panel.get("targets", []):
                where = f"{name}: {panel['title']}: {target['refId']}"
                yield Expression(where, _substituted(target["expr"]))
        for annotation in dashboard["annotations"]["list"]:
            yield Expression(f"{name}: {annotation['name']}", _substituted(annotation["expr"]))


def _choices() -> Iterator[Expression]:
    for name, dashboard in _dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                query = _substituted(variable["query"]["query"])
                yield Expression(f"{name}: {variable['name']}", query)


ALERTS: Final = [Expression(f"{at}: {r['alert']}", r["expr"]) for at, r in _rules() if "alert" in r]
RECORDS: Final = [
    Expression(f"{at}: {r['record']}", r["expr"]) for at, r in _rules() if "record" in r
]
SHOWN: Final = list(_shown())
CHOICES: Final = list(_choices())
