"""Provisioning: Grafana finds the dashboards and the Prometheus that they ask."""

import json
from typing import Any

import yaml

from llmstatsd.config import Config
from llmstatsd.kit import grafana
from llmstatsd.kit.prometheus import scraping

DOCUMENTS = {document.path: document.text for document in grafana.documents(Config())}


def provisioned(path: str, kind: str) -> dict[str, Any]:
    content = yaml.safe_load(DOCUMENTS[path])
    assert content["apiVersion"] == 1
    (found,) = content[kind]
    return dict(found)


def test_the_documents_are_two_dashboards_and_their_provisioning() -> None:
    assert set(DOCUMENTS) == {
        "grafana/dashboards/llm-performance.json",
        "grafana/dashboards/llm-errors.json",
        "grafana/provisioning/dashboards/llmstatsd.yml",
        "grafana/provisioning/datasources/prometheus.yml",
    }


def test_the_dashboards_come_from_files_and_stay_as_they_are() -> None:
    provider = provisioned(grafana.PROVIDER_PATH, "providers")
    assert provider["type"] == "file"
    assert provider["options"]["path"] == grafana.DASHBOARDS_FOLDER
    assert provider["folder"] == "LLM"
    assert provider["disableDeletion"] is True
    assert provider["allowUiUpdates"] is False


def test_the_data_source_is_the_prometheus_of_this_host() -> None:
    source = provisioned("grafana/provisioning/datasources/prometheus.yml", "datasources")
    assert source["type"] == "prometheus"
    assert source["url"] == "http://localhost:9090"
    assert source["uid"] == "llmstatsd-prometheus"
    assert source["jsonData"]["httpMethod"] == "POST"
    assert source["jsonData"]["manageAlerts"] is True


def test_a_data_source_has_the_url_that_it_was_given() -> None:
    (source,) = grafana.datasource("http://prometheus:9090")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_the_data_source_knows_how_often_prometheus_scrapes() -> None:
    (source,) = grafana.datasource("http://prometheus:9090")["datasources"]
    (job,) = scraping("llmstatsd:2112", "alertmanager:9093")["scrape_configs"]
    assert source["jsonData"]["timeInterval"] == job["scrape_interval"]


def test_an_existing_grafana_keeps_its_default_data_source() -> None:
    """Two defaults among provisioned data sources keep Grafana from starting."""
    (source,) = grafana.datasource("http://prometheus:9090")["datasources"]
    assert "isDefault" not in source


def test_a_dashboard_is_indented_json_with_its_title_near_the_top() -> None:
    for path, text in DOCUMENTS.items():
        if path.endswith(".json"):
            assert text.startswith('{\n  "uid": "llm-')
            assert json.loads(text)["title"] in text[:200]
