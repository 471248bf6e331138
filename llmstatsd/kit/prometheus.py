"""What Prometheus and Alertmanager read: scrape configurations, rules, routes."""

from collections.abc import Iterator
from typing import Any, Final

from llmstatsd.config import Config
from llmstatsd.kit import alerts, recording
from llmstatsd.kit.document import Document, yaml_document
from llmstatsd.kit.promql import JOB, SCRAPE_INTERVAL

RULE_FILES: Final = ("recording-rules.yml", "alert-rules.yml")

PORT: Final = 2112
"""Where the daemon serves /metrics by default."""

_ALERTMANAGER: Final = "localhost:9093"

_PROMETHEUS: Final = """
Scrapes the llmstatsd of this host, records and alerts.
Start: prometheus --config.file=prometheus.yml
Check: promtool check config prometheus.yml
"""

_MANY_HOSTS: Final = """
Scrapes one llmstatsd per host, as targets/*.yml names them; a change there is read at once.
Start: prometheus --config.file=prometheus-many-hosts.yml
"""

_TARGETS: Final = """
The hosts that prometheus-many-hosts.yml scrapes. Their labels come on all their series.
On each of them llmstatsd has to serve HTTP where Prometheus reaches it (http.listen).
"""

_REMOTE_WRITE: Final = """
Scrapes the llmstatsd of this host and sends what it scrapes and records on.
VictoriaMetrics takes it at :8428/api/v1/write. For Mimir write http://HOST:8080/api/v1/push, and
where it serves several tenants the header X-Scope-OrgID as well:
    headers: {X-Scope-OrgID: TENANT}
external_labels tell apart what several Prometheus send to one store: each needs a cluster of its
own. Two that scrape the same are a pair; docs/how-to/many-hosts.md says what theirs have to be.
"""

_ROUTES: Final = """
Groups alerts by name and model; a fast burn of the error budget silences the slow one.
The receiver is empty: add where your alerts go (webhook_configs, slack_configs, pagerduty_configs
and so on, https://prometheus.io/docs/alerting/latest/configuration/).
Check: amtool check-config alertmanager.yml
"""


def documents(config: Config) -> Iterator[Document]:
    """The files of prometheus/ and alertmanager/."""
    folder = "prometheus"
    yield yaml_document(
        f"{folder}/prometheus.yml", _PROMETHEUS, scraping(f"localhost:{PORT}", _ALERTMANAGER)
    )
    yield yaml_document(f"{folder}/prometheus-many-hosts.yml", _MANY_HOSTS, _many_hosts())
    yield yaml_document(
        f"{folder}/targets/hosts.yml",
        _TARGETS,
        [{"targets": [f"localhost:{PORT}"], "labels": {"environment": "production"}}],
    )
    yield yaml_document(f"{folder}/prometheus-remote-write.yml", _REMOTE_WRITE, _remote_write())
    yield yaml_document(
        f"{folder}/recording-rules.yml",
        "Recording rules over the series of llmstatsd, named level:metric:operation.\n"
        "Check: promtool check rules --lint=all recording-rules.yml",
        {"groups": [recording_group(config)]},
    )
    yield yaml_document(
        f"{folder}/alert-rules.yml",
        "Alerts over the series of llmstatsd; some read those of recording-rules.yml.\n"
        "Check: promtool check rules --lint=all alert-rules.yml",
        {"groups": [alert_group(config)]},
    )
    yield yaml_document("alertmanager/alertmanager.yml", _ROUTES, _alertmanager())


def recording_group(config: Config) -> dict[str, Any]:
    """The rule group `llm_rules`."""
    rules = [rule._asdict() for rule in recording.recording_rules(config)]
    return {"name": recording.GROUP, "rules": rules}


def alert_group(config: Config) -> dict[str, Any]:
    """The rule group `llm_alerts`."""
    rules = [_alert_rule(alert, config.kit.runbooks_url) for alert in alerts.alerts(config)]
    return {"name": alerts.GROUP, "rules": rules}


def _alert_rule(alert: alerts.Alert, runbooks_url: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasting,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks_url.rstrip('/')}/{alert.runbook}",
        },
    }


def scraping(target: str, alertmanager: str) -> dict[str, Any]:
    """A Prometheus that scrapes one daemon; both are HOST:PORT."""
    return _prometheus({"static_configs": [{"targets": [target]}]}, alertmanager)


def _many_hosts() -> dict[str, Any]:
    return _prometheus({"file_sd_configs": [{"files": ["targets/*.yml"]}]}, _ALERTMANAGER)


def _remote_write() -> dict[str, Any]:
    here = scraping(f"localhost:{PORT}", _ALERTMANAGER)
    here["global"]["external_labels"] = {"cluster": "main", "replica": "a"}
    here["remote_write"] = [{"url": "http://localhost:8428/api/v1/write"}]
    return here


def _prometheus(targets: dict[str, Any], alertmanager: str) -> dict[str, Any]:
    job = {"job_name": JOB, "scrape_interval": SCRAPE_INTERVAL, "metrics_path": "/metrics"}
    return {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
        "rule_files": list(RULE_FILES),
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}],
        },
        "scrape_configs": [job | targets],
    }


def _alertmanager() -> dict[str, Any]:
    return {
        "route": {
            "receiver": "default",
            "group_by": ["alertname", "job", "model"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
        },
        "receivers": [{"name": "default"}],
        "inhibit_rules": [
            {
                "source_matchers": ['alertname = "ErrorBudgetBurnFast"'],
                "target_matchers": ['alertname = "ErrorBudgetBurnSlow"'],
                "equal": ["job"],
            },
        ],
    }
