"""One daemon per node of a Kubernetes cluster, and what the Prometheus Operator needs of it."""

from collections.abc import Iterator
from typing import Any, Final

from llmstatsd import __version__
from llmstatsd.config import Config
from llmstatsd.kit.docker import (
    HEALTH_PATH,
    IMAGE,
    MEMORY_MEBIBYTES,
    STATSD_PORT,
    USER,
    grace_seconds,
)
from llmstatsd.kit.document import Document, yaml_document
from llmstatsd.kit.prometheus import PORT, alert_group, recording_group
from llmstatsd.kit.promql import JOB, SCRAPE_INTERVAL

NAME: Final = "llmstatsd"
"""Name of every object, in whichever namespace they are applied to."""

READY_PATH: Final = "/-/ready"

_OPERATOR_API: Final = "monitoring.coreos.com/v1"

_SELECTED: Final = {"app.kubernetes.io/name": NAME}

_LABELS: Final = _SELECTED | {
    "app.kubernetes.io/component": "metrics",
    "app.kubernetes.io/version": __version__,
}

_DAEMON_SET: Final = f"""
One llmstatsd per node. Pods send datagrams to their node's address, port {STATSD_PORT}:
    env:
      - name: STATSD_HOST
        valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}
StatsD has no passwords: everybody who reaches port {STATSD_PORT} of a node can write.
Shut it off from outside the cluster.
A namespace that enforces the Pod Security Standard "baseline" or "restricted" refuses the hostPort:
take it away there, and send to the Service.
"""

_SERVICE: Final = f"""
Another way to the daemon of the own node, without a hostPort: {NAME}.NAMESPACE:{STATSD_PORT}
The ServiceMonitor finds the daemons by it, those of all nodes.
"""

_SERVICE_MONITOR: Final = """
Scrapes every daemon as the job that rules and dashboards look for; an instance is a node.
It needs the Prometheus Operator. If that selects by label, this object and the PrometheusRule
need the label as well, often release: NAME-OF-THE-HELM-RELEASE (kustomization.yaml, "labels").
"""

_RULE: Final = """
The rules of prometheus/recording-rules.yml and prometheus/alert-rules.yml for the Prometheus
Operator.
"""

_KUSTOMIZATION: Final = """
Apply: kubectl apply --namespace NAMESPACE --kustomize configs/kubernetes
The image is on no public registry: build it with docker/Dockerfile, push it to a registry that the
nodes reach, and name that here, as newName: REGISTRY/llmstatsd
Without the Prometheus Operator take servicemonitor.yaml and prometheusrule.yaml out of the list.
"""


def documents(config: Config) -> Iterator[Document]:
    """The files of kubernetes/."""
    objects = {
        "daemonset.yaml": (_DAEMON_SET, _daemon_set(config)),
        "service.yaml": (_SERVICE, _service()),
        "servicemonitor.yaml": (_SERVICE_MONITOR, _service_monitor()),
        "prometheusrule.yaml": (_RULE, _prometheus_rule(config)),
    }
    for name, (remark, content) in objects.items():
        yield yaml_document(f"kubernetes/{name}", remark, content)
    yield yaml_document(
        "kubernetes/kustomization.yaml", _KUSTOMIZATION, _kustomization(list(objects))
    )


def _object(api: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": NAME, "labels": _LABELS}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def _daemon_set(config: Config) -> dict[str, Any]:
    spec = {
        "selector": {"matchLabels": _SELECTED},
        # The old pod holds the hostPort until it has ended, so none can be there in surplus.
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
        "template": {"metadata": {"labels": _LABELS}, "spec": _pod(config)},
    }
    return _object("apps/v1", "DaemonSet", spec)


def _pod(config: Config) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": grace_seconds(config),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container()],
    }


def _container() -> dict[str, Any]:
    return {
        "name": NAME,
        "image": IMAGE,
        "ports": [
            {
                "name": "statsd",
                "containerPort": STATSD_PORT,
                "hostPort": STATSD_PORT,
                "protocol": "UDP",
            },
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
        ],
        # Two minutes: a restart loses what was counted, a busy daemon does not.
        "livenessProbe": _probe(HEALTH_PATH, period=20, failures=6),
        "readinessProbe": _probe(READY_PATH, period=5, failures=3),
        # No limit on CPU: a throttled daemon does not read, and the kernel drops what comes then.
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": f"{MEMORY_MEBIBYTES}Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _service() -> dict[str, Any]:
    ports = [
        {"name": "statsd", "port": STATSD_PORT, "targetPort": "statsd", "protocol": "UDP"},
        {"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"},
    ]
    spec = {"selector": _SELECTED, "internalTrafficPolicy": "Local", "ports": ports}
    return _object("v1", "Service", spec)


def _service_monitor() -> dict[str, Any]:
    endpoint = {
        "port": "http",
        "path": "/metrics",
        "interval": SCRAPE_INTERVAL,
        "relabelings": [
            {"targetLabel": "job", "replacement": JOB},
            {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "instance"},
        ],
    }
    spec = {"selector": {"matchLabels": _SELECTED}, "endpoints": [endpoint]}
    return _object(_OPERATOR_API, "ServiceMonitor", spec)


def _prometheus_rule(config: Config) -> dict[str, Any]:
    groups = [recording_group(config), alert_group(config)]
    return _object(_OPERATOR_API, "PrometheusRule", {"groups": groups})


def _kustomization(resources: list[str]) -> dict[str, Any]:
    name, tag = IMAGE.split(":")
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
        "images": [{"name": name, "newName": name, "newTag": tag}],
    }
