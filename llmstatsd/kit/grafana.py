"""What Grafana reads: the dashboards, and the provisioning of them and of their data source."""

from collections.abc import Iterator
from typing import Any, Final

from llmstatsd.config import Config
from llmstatsd.kit import dashboards
from llmstatsd.kit.document import Document, json_document, yaml_document
from llmstatsd.kit.promql import SCRAPE_INTERVAL

DASHBOARDS_FOLDER: Final = "/var/lib/grafana/dashboards/llmstatsd"
"""Where the provisioned Grafana looks for the dashboards."""

PROVIDER_PATH: Final = "grafana/provisioning/dashboards/llmstatsd.yml"
"""The file of the kit that tells Grafana of that folder."""

_DASHBOARDS: Final = f"""
Shows the dashboards of {DASHBOARDS_FOLDER} in the folder LLM.
Place: /etc/grafana/provisioning/dashboards/ of Grafana.
"""

_DATA_SOURCE: Final = """
The Prometheus that scrapes llmstatsd.
Place: /etc/grafana/provisioning/datasources/ of Grafana. Leave it out where Grafana knows your
Prometheus already: the dashboards ask which one to use.
"""


def documents(config: Config) -> Iterator[Document]:
    """The files of grafana/."""
    for content in (dashboards.performance(config), dashboards.errors(config)):
        yield json_document(f"grafana/dashboards/{content['uid']}.json", content)
    yield yaml_document(PROVIDER_PATH, _DASHBOARDS, provider())
    yield yaml_document(
        "grafana/provisioning/datasources/prometheus.yml",
        _DATA_SOURCE,
        datasource("http://localhost:9090"),
    )


def provider() -> dict[str, Any]:
    """Reads the dashboards from files; nobody saves over them or deletes them in the browser."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "llmstatsd",
                "type": "file",
                "folder": "LLM",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 30,
                "options": {"path": DASHBOARDS_FOLDER},
            }
        ],
    }


def datasource(url: str) -> dict[str, Any]:
    """A Prometheus by its URL as Grafana reaches it.

    `timeInterval` is how often it scrapes: `$__rate_interval` is four times that at least.
    """
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus of llmstatsd",
                "uid": "llmstatsd-prometheus",
                "type": "prometheus",
                "access": "proxy",
                "url": url,
                "editable": False,
                "jsonData": {
                    "httpMethod": "POST",
                    "timeInterval": SCRAPE_INTERVAL,
                    "manageAlerts": True,
                },
            }
        ],
    }
