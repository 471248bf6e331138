"""The container image, and a compose file with all that the kit configures."""

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from llmstatsd import __version__
from llmstatsd.config import Config
from llmstatsd.kit import grafana
from llmstatsd.kit.document import Document, remarked, yaml_document
from llmstatsd.kit.prometheus import PORT, RULE_FILES, scraping

STATSD_PORT: Final = 8125
"""Where datagrams are received by default."""

IMAGE: Final = f"llmstatsd:{__version__}"

USER: Final = 65532
"""User and group in the container: `nonroot` of distroless images, and nobody of a usual host."""

HEALTH_PATH: Final = "/-/healthy"

PYTHON_IMAGE: Final = "python:3.13-slim-trixie"
PROMETHEUS_IMAGE: Final = "prom/prometheus:v3.13.2"
ALERTMANAGER_IMAGE: Final = "prom/alertmanager:v0.34.0"
GRAFANA_IMAGE: Final = "grafana/grafana:13.2.1"

APPLICATIONS_NETWORK: Final = "llmstatsd"
"""The network that applications join; of the compose services it holds the daemon alone."""

MEMORY_MEBIBYTES: Final = 256
"""Most memory of a daemon; with every default limit reached it takes about half of it."""

_SPARE_SECONDS: Final = 5
"""Time to drain datagrams and to leave, beside that of requests in flight."""

_HEALTH_SECONDS: Final = 6
"""Longest time for a health check; `llmstatsd healthcheck` gives up after 4 s by itself."""

_CONFINED: Final = {
    "restart": "unless-stopped",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}

_DOCKERFILE_PATH: Final = "docker/Dockerfile"

_DOCKERFILE_REMARK: Final = f"""
The image of llmstatsd. Build it in the top folder of the source:
    docker build --file configs/{_DOCKERFILE_PATH} --tag {IMAGE} .
Run it:
    docker run --publish 127.0.0.1:{STATSD_PORT}:{STATSD_PORT}/udp --publish 127.0.0.1:{PORT}:{PORT} {IMAGE}
StatsD has no passwords: whoever reaches the port can write. Publish it on loopback.
"""  # noqa: E501 - a command that is to be copied

_LABELS: Final = {
    "title": "llmstatsd",
    "description": "LLM call metrics for Prometheus: UDP datagrams in, bounded exact series out",
    "version": __version__,
    "licenses": "Apache-2.0",
    "source": "https://github.com/llmstatsd/llmstatsd",
}

_COMPOSE: Final = f"""
llmstatsd, Prometheus, Alertmanager and Grafana, each with its files of this kit. Start:
    echo "GRAFANA_ADMIN_PASSWORD=$(openssl rand -hex 16)" > .env
    docker compose up --detach
Grafana: http://127.0.0.1:3000, user admin, the password is in .env and is taken at the first start.
Datagrams: 127.0.0.1:{STATSD_PORT}/udp on this host, llmstatsd:{STATSD_PORT} on the network {APPLICATIONS_NETWORK}.
All ports are published on loopback only: none of them but Grafana's asks for a password.
SOURCE_OF_LLMSTATSD names the top folder of the source where this file is not in it.
"""  # noqa: E501 - an address that is to be copied

_PROMETHEUS: Final = """
The Prometheus of compose.yaml: prometheus/prometheus.yml with the names of the services.
"""

_DATASOURCE: Final = """
The data source of Grafana in compose.yaml: the Prometheus beside it.
"""


def documents(config: Config) -> Iterator[Document]:
    """The files of docker/."""
    yield Document(_DOCKERFILE_PATH, _dockerfile())
    yield yaml_document("docker/compose.yaml", _COMPOSE, _compose(config))
    prometheus = scraping(f"llmstatsd:{PORT}", "alertmanager:9093")
    yield yaml_document("docker/prometheus.yml", _PROMETHEUS, prometheus)
    datasource = grafana.datasource("http://prometheus:9090")
    yield yaml_document("docker/grafana-datasource.yml", _DATASOURCE, datasource)


def grace_seconds(config: Config) -> int:
    """How long a daemon may take to end, before it is killed."""
    return math.ceil(config.http.shutdown_timeout_seconds) + _SPARE_SECONDS


def _dockerfile() -> str:
    labels = " \\\n      ".join(
        f"org.opencontainers.image.{name}={json.dumps(text)}" for name, text in _LABELS.items()
    )
    check = json.dumps(["llmstatsd", "healthcheck"])
    return f"""{remarked(_DOCKERFILE_REMARK)}
FROM {PYTHON_IMAGE} AS build

# For dependencies without a wheel for this processor. The compiler stays in this stage.
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends gcc libc6-dev \\
 && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY LICENSE README.md pyproject.toml setup.* ./
COPY llmstatsd ./llmstatsd
COPY client/python ./client/python
RUN python -m venv --without-pip /opt/llmstatsd \\
 && pip --python /opt/llmstatsd install --no-cache-dir ./client/python '.[gpu]'


FROM {PYTHON_IMAGE}

LABEL {labels}

COPY --from=build /opt/llmstatsd /opt/llmstatsd

# Every interface of the container; what may reach it is decided where its ports are published.
ENV PATH=/opt/llmstatsd/bin:$PATH \\
    LLMSTATSD_STATSD_UDP=:{STATSD_PORT} \\
    LLMSTATSD_HTTP_LISTEN=:{PORT}

# By number, so that Kubernetes can tell that it is not root.
USER {USER}:{USER}
EXPOSE {STATSD_PORT}/udp {PORT}/tcp
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout={_HEALTH_SECONDS}s --start-period=10s --retries=3 \\
    CMD {check}

ENTRYPOINT ["llmstatsd"]
CMD ["serve"]
"""


def _compose(config: Config) -> dict[str, Any]:
    services = {
        "llmstatsd": _daemon(config),
        "prometheus": _prometheus(),
        "alertmanager": _alertmanager(),
        "grafana": _grafana(),
    }
    return {
        "name": "llmstatsd",
        "services": {name: service | _CONFINED for name, service in services.items()},
        "networks": {"applications": {"name": APPLICATIONS_NETWORK}},
        "volumes": {"prometheus": {}, "alertmanager": {}, "grafana": {}},
    }


def _daemon(config: Config) -> dict[str, Any]:
    return {
        "image": IMAGE,
        "build": {
            "context": "${SOURCE_OF_LLMSTATSD:-../..}",
            "dockerfile": f"configs/{_DOCKERFILE_PATH}",
        },
        "pull_policy": "build",
        "ports": [f"127.0.0.1:{STATSD_PORT}:{STATSD_PORT}/udp", _published(PORT)],
        "networks": ["default", "applications"],
        "stop_grace_period": f"{grace_seconds(config)}s",
        "mem_limit": f"{MEMORY_MEBIBYTES}m",
        "read_only": True,
    }


def _prometheus() -> dict[str, Any]:
    folder = "/etc/prometheus"
    return {
        "image": PROMETHEUS_IMAGE,
        "command": [
            f"--config.file={folder}/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
        ],
        "ports": [_published(9090)],
        "volumes": [
            _bound("./prometheus.yml", f"{folder}/prometheus.yml"),
            *(_bound(f"../prometheus/{name}", f"{folder}/{name}") for name in RULE_FILES),
            _kept("prometheus", "/prometheus"),
        ],
        "healthcheck": _healthy(f"http://127.0.0.1:9090{HEALTH_PATH}"),
        # Not until they are healthy: an alert about a daemon that does not come up is wanted.
        "depends_on": _after("service_started", "llmstatsd", "alertmanager"),
        "mem_limit": "1g",
        "read_only": True,
    }


def _alertmanager() -> dict[str, Any]:
    file = "/etc/alertmanager/alertmanager.yml"
    return {
        "image": ALERTMANAGER_IMAGE,
        "command": [
            f"--config.file={file}",
            "--storage.path=/alertmanager",
            "--cluster.listen-address=",
        ],
        "ports": [_published(9093)],
        "volumes": [
            _bound("../alertmanager/alertmanager.yml", file),
            _kept("alertmanager", "/alertmanager"),
        ],
        "healthcheck": _healthy(f"http://127.0.0.1:9093{HEALTH_PATH}"),
        "mem_limit": "256m",
        "read_only": True,
    }


def _grafana() -> dict[str, Any]:
    return {
        "image": GRAFANA_IMAGE,
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_ADMIN_PASSWORD:?set it in .env}",
            "GF_AUTH_ANONYMOUS_ENABLED": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        },
        "ports": [_published(3000)],
        "volumes": [*_provisioning(), _kept("grafana", "/var/lib/grafana")],
        "healthcheck": _healthy("http://127.0.0.1:3000/api/health"),
        "depends_on": _after("service_healthy", "prometheus"),
        "mem_limit": "1g",
    }


def _provisioning() -> list[dict[str, Any]]:
    folder = "/etc/grafana/provisioning"
    return [
        _bound("./grafana-datasource.yml", f"{folder}/datasources/llmstatsd.yml"),
        _bound(f"../{grafana.PROVIDER_PATH}", f"{folder}/dashboards/llmstatsd.yml"),
        _bound("../grafana/dashboards", grafana.DASHBOARDS_FOLDER),
    ]


def _published(port: int) -> str:
    return f"127.0.0.1:{port}:{port}"


def _bound(source: str, target: str) -> dict[str, Any]:
    """A file or folder of the kit; one that is missing is an error, not a new empty folder."""
    return {
        "type": "bind",
        "source": source,
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _kept(volume: str, target: str) -> dict[str, Any]:
    return {"type": "volume", "source": volume, "target": target}


def _healthy(url: str) -> dict[str, Any]:
    return {
        "test": ["CMD", "wget", "-q", "--spider", url],
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": "60s",
    }


def _after(condition: str, *services: str) -> dict[str, Any]:
    return {service: {"condition": condition} for service in services}
