"""The Kubernetes objects: valid by real schemas, and in agreement with daemon, image and rules."""

import copy
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import httpx
import kubernetes_validate
import msgspec
import pytest
import yaml
from msgspec import Meta, Struct

from llmstatsd import __version__, address, cli, config
from llmstatsd.config import Config
from llmstatsd.kit.contents import contents
from llmstatsd.kit.promql import JOB, SCRAPE_INTERVAL
from tests.conftest import DEADLINE_SECONDS, RunningDaemon

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "kubernetes.md"
VERSIONS: Final = ("1.26", kubernetes_validate.latest_version())
"""The first that has all that is used (internalTrafficPolicy), and the latest known."""

Object = dict[str, Any]


def kit(settings: Config = Config()) -> dict[str, str]:  # noqa: B008 - it cannot change
    """Text by path of the whole kit."""
    return {document.path: document.text for document in contents(settings)}


TEXTS: Final = kit()
OBJECTS: Final[dict[str, Object]] = {
    Path(path).name: yaml.safe_load(text)
    for path, text in TEXTS.items()
    if path.startswith("kubernetes/")
}
KUSTOMIZATION: Final = OBJECTS.pop("kustomization.yaml")

# The objects of the Prometheus Operator as its API reference has them, cut down to the fields that
# the kit needs (https://prometheus-operator.dev/docs/api-reference/api/, monitoring.coreos.com/v1).
Duration = Annotated[
    str, Meta(pattern=r"^(0|((\d+)y)?((\d+)w)?((\d+)d)?((\d+)h)?((\d+)m)?((\d+)s)?((\d+)ms)?)$")
]
LabelName = Annotated[str, Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")]


class Strict(Struct, forbid_unknown_fields=True, rename="camel"):
    """Refuses what is not declared."""


class Metadata(Strict):
    name: str
    labels: dict[str, str]


class Rule(Strict):
    expr: str
    record: str = ""
    alert: str = ""
    lasting: Duration = msgspec.field(name="for", default="")
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RuleGroup(Strict):
    name: Annotated[str, Meta(min_length=1)]
    rules: list[Rule]


class PrometheusRuleSpec(Strict):
    groups: list[RuleGroup]


class Operators(Strict, tag_field="kind"):
    api_version: Literal["monitoring.coreos.com/v1"]
    metadata: Metadata


class PrometheusRule(Operators):
    spec: PrometheusRuleSpec


class Relabeling(Strict):
    target_label: str
    replacement: str = ""
    source_labels: list[LabelName] = []


class Endpoint(Strict):
    port: str
    path: str
    interval: Duration
    relabelings: list[Relabeling]


class LabelSelector(Strict):
    match_labels: dict[str, str]


class ServiceMonitorSpec(Strict):
    selector: LabelSelector
    endpoints: list[Endpoint]


class ServiceMonitor(Operators):
    spec: ServiceMonitorSpec


OF_KUBERNETES: Final = ("daemonset.yaml", "service.yaml")
OF_THE_OPERATOR: Final = ("servicemonitor.yaml", "prometheusrule.yaml")

DAEMON_SET: Final = OBJECTS["daemonset.yaml"]["spec"]
POD: Final = DAEMON_SET["template"]["spec"]
(CONTAINER,) = POD["containers"]
SERVICE: Final = OBJECTS["service.yaml"]["spec"]
MONITOR: Final = OBJECTS["servicemonitor.yaml"]["spec"]
(ENDPOINT,) = MONITOR["endpoints"]


def refusal(content: Object, version: str) -> str:
    """What a version of Kubernetes has against an object; "" if nothing. Unknown fields are."""
    try:
        kubernetes_validate.validate(content, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


def operator_refusal(content: Object) -> str:
    """The same for the Prometheus Operator."""
    try:
        msgspec.convert(content, ServiceMonitor | PrometheusRule)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OF_KUBERNETES)
def test_kubernetes_takes_an_object(name: str, version: str) -> None:
    assert refusal(OBJECTS[name], version) == ""


@pytest.mark.parametrize("name", OF_THE_OPERATOR)
def test_the_operator_takes_an_object(name: str) -> None:
    assert operator_refusal(OBJECTS[name]) == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_refuses_an_unknown_field(version: str) -> None:
    misspelt = OBJECTS["service.yaml"] | {"spec": SERVICE | {"trafficPolicy": "Local"}}
    assert "trafficPolicy" in refusal(misspelt, version)


@pytest.mark.parametrize("wrong", [{"scrapePeriod": "15s"}, {"interval": "15"}], ids=str)
def test_the_operator_refuses_an_unknown_field_and_a_wrong_value(wrong: Object) -> None:
    spec = MONITOR | {"endpoints": [ENDPOINT | wrong]}
    monitor = OBJECTS["servicemonitor.yaml"] | {"spec": spec}
    assert operator_refusal(monitor)


def test_every_kind_has_one_object_and_one_schema() -> None:
    kinds = [content["kind"] for content in OBJECTS.values()]
    assert sorted(kinds) == ["DaemonSet", "PrometheusRule", "Service", "ServiceMonitor"]
    assert set(OBJECTS) == {*OF_KUBERNETES, *OF_THE_OPERATOR}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_of_the_namespace_that_it_is_applied_to(name: str) -> None:
    assert "namespace" not in yaml.safe_dump(OBJECTS[name]["metadata"])


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_has_the_recommended_labels(name: str) -> None:
    labels = OBJECTS[name]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "llmstatsd"
    assert labels["app.kubernetes.io/version"] == __version__
    assert "app.kubernetes.io/component" in labels


def test_kustomize_applies_every_object() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(OBJECTS)


def test_kustomize_names_the_image_of_the_daemon() -> None:
    (image,) = KUSTOMIZATION["images"]
    assert CONTAINER["image"] == f"{image['name']}:{image['newTag']}" == f"llmstatsd:{__version__}"
    compose = yaml.safe_load(TEXTS["docker/compose.yaml"])
    assert CONTAINER["image"] == compose["services"]["llmstatsd"]["image"]


def test_every_selector_finds_its_objects() -> None:
    pod_labels = DAEMON_SET["template"]["metadata"]["labels"].items()
    assert DAEMON_SET["selector"]["matchLabels"].items() <= pod_labels
    assert SERVICE["selector"].items() <= pod_labels
    service_labels = OBJECTS["service.yaml"]["metadata"]["labels"].items()
    assert MONITOR["selector"]["matchLabels"].items() <= service_labels


def test_no_selector_holds_what_changes_with_a_release() -> None:
    for selector in (DAEMON_SET["selector"]["matchLabels"], SERVICE["selector"]):
        assert selector == {"app.kubernetes.io/name": "llmstatsd"}


def container_ports() -> dict[str, tuple[int, str]]:
    return {port["name"]: (port["containerPort"], port["protocol"]) for port in CONTAINER["ports"]}


def test_the_ports_are_those_of_the_daemon() -> None:
    defaults = Config()
    assert container_ports() == {
        "statsd": (address.parse(defaults.statsd.udp).port, "UDP"),
        "http": (address.parse(defaults.http.listen).port, "TCP"),
    }


def test_only_datagrams_are_taken_at_the_address_of_the_node() -> None:
    at_node = {port["name"]: port["hostPort"] for port in CONTAINER["ports"] if "hostPort" in port}
    assert at_node == {"statsd": container_ports()["statsd"][0]}


def test_the_service_has_every_port_of_the_container_under_the_same_number() -> None:
    of_service = {port["targetPort"]: (port["port"], port["protocol"]) for port in SERVICE["ports"]}
    assert of_service == container_ports()
    assert all(port["name"] == port["targetPort"] for port in SERVICE["ports"])


def test_the_service_leads_to_the_daemon_of_the_own_node() -> None:
    assert SERVICE["internalTrafficPolicy"] == "Local"
    assert "type" not in SERVICE  # only within the cluster


def test_the_user_is_that_of_the_image() -> None:
    of_image = re.search(r"(?m)^USER (\d+):(\d+)$", TEXTS["docker/Dockerfile"])
    assert of_image
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(of_image[1]), int(of_image[2]))
    assert context["runAsNonRoot"] is True


def test_the_pod_may_do_nothing_beside_its_work() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & POD.keys()


def test_it_runs_on_every_node_whatever_its_taints() -> None:
    assert POD["tolerations"] == [{"operator": "Exists"}]
    assert POD["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert "affinity" not in POD


def test_a_new_pod_waits_for_the_old_one_to_free_the_port_of_the_node() -> None:
    rolling = DAEMON_SET["updateStrategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] not in (0, "0%")
    assert rolling.get("maxSurge", 0) in (0, "0%")


def test_memory_is_bounded_and_the_processor_is_not() -> None:
    resources = CONTAINER["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}
    compose = yaml.safe_load(TEXTS["docker/compose.yaml"])["services"]["llmstatsd"]
    assert resources["limits"]["memory"] == compose["mem_limit"].replace("m", "Mi")


@pytest.mark.parametrize("seconds", [0.0, 5.0, 60.5])
def test_the_daemon_has_time_to_drain_before_it_is_killed(seconds: float) -> None:
    shorter = msgspec.convert({"http": {"shutdown_timeout_seconds": seconds}}, Config)
    daemon_set = yaml.safe_load(kit(shorter)["kubernetes/daemonset.yaml"])
    grace = daemon_set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert seconds + 5 <= grace < seconds + 6


def test_the_probes_and_the_scrape_ask_for_pages_that_the_daemon_has(daemon: RunningDaemon) -> None:
    probes = {name: CONTAINER[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert probes["livenessProbe"]["path"] == "/-/healthy"
    assert probes["readinessProbe"]["path"] == "/-/ready"
    for asked in (*probes.values(), ENDPOINT):
        assert asked["port"] in container_ports()
        assert httpx.get(daemon.url + asked["path"]).status_code == httpx.codes.OK


def test_a_busy_daemon_is_not_killed_for_a_slow_answer() -> None:
    probe = CONTAINER["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


def test_the_container_starts_as_its_image_says() -> None:
    assert not {"command", "args", "env", "envFrom"} & CONTAINER.keys()


def relabelled(labels: dict[str, str]) -> dict[str, str]:
    """What the relabelings of the endpoint make of labels; all of them replace, as by default."""
    for rule in ENDPOINT["relabelings"]:
        assert rule.keys() <= {"sourceLabels", "targetLabel", "replacement"}
        joined = ";".join(labels.get(name, "") for name in rule.get("sourceLabels", []))
        labels = labels | {rule["targetLabel"]: rule.get("replacement", joined)}
    return labels


def test_a_scrape_has_the_job_of_the_rules_and_the_node_as_instance() -> None:
    discovered = {
        "job": "llmstatsd",  # as the operator names it, after the Service
        "instance": "10.0.0.7:2112",
        "__meta_kubernetes_pod_node_name": "node-3",
    }
    scraped = relabelled(discovered)
    assert scraped["job"] == JOB == "llm-metrics"
    assert scraped["instance"] == "node-3"
    assert ENDPOINT["interval"] == SCRAPE_INTERVAL


def test_the_rules_of_the_operator_are_those_of_the_rule_files() -> None:
    groups = [
        group
        for name in ("recording-rules.yml", "alert-rules.yml")
        for group in yaml.safe_load(TEXTS[f"prometheus/{name}"])["groups"]
    ]
    assert OBJECTS["prometheusrule.yaml"]["spec"]["groups"] == groups
    assert [group["name"] for group in groups] == ["llm_rules", "llm_alerts"]


def test_other_thresholds_are_in_the_rules_of_the_operator_too() -> None:
    texts = kit(config.load(None, {}, {"--latency": "20"}))
    assert "> 20\n" in texts["kubernetes/prometheusrule.yaml"]
    assert "> 20\n" not in TEXTS["kubernetes/prometheusrule.yaml"]


def page_objects() -> list[Object]:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", PAGE.read_text())
    return [content for block in blocks for content in yaml.safe_load_all(block)]


def of_page(kind: str) -> list[Object]:
    return [content for content in page_objects() if content.get("kind") == kind]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy"])
def test_kubernetes_takes_an_example_of_the_page(kind: str, version: str) -> None:
    assert of_page(kind)
    for content in of_page(kind):
        assert refusal(content, version) == ""


def test_the_application_of_the_page_sends_to_its_node() -> None:
    (deployment,) = of_page("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    addresses = {
        variable["name"]: variable["valueFrom"]["fieldRef"]["fieldPath"]
        for variable in container["env"]
        if "valueFrom" in variable
    }
    assert addresses == {"STATSD_HOST": "status.hostIP", "DD_AGENT_HOST": "status.hostIP"}


def test_the_network_policy_of_the_page_is_about_the_daemon_and_its_ports() -> None:
    (policy,) = of_page("NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == SERVICE["selector"]
    ports = {
        (port["port"], port["protocol"])
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert ports == set(container_ports().values())


def test_the_kustomization_of_the_page_names_the_image_and_its_version() -> None:
    (own,) = of_page("Kustomization")
    (image,) = own["images"]
    assert image["name"] == KUSTOMIZATION["images"][0]["newName"]
    assert image["newTag"] == __version__


def patches() -> dict[str, list[Object]]:
    """The JSON patches of the page, by what they do first."""
    found = {}
    for content in page_objects():
        for patch in content.get("patches", []):
            metadata = OBJECTS["daemonset.yaml"]["metadata"]
            assert patch["target"] == {"kind": "DaemonSet", "name": metadata["name"]}
            operations = yaml.safe_load(patch["patch"])
            found[operations[0]["op"]] = operations
    return found


def patched(operations: list[Object]) -> Object:
    """The DaemonSet with a patch of RFC 6902 applied; only `add` and `remove` are known."""
    result = copy.deepcopy(OBJECTS["daemonset.yaml"])
    for operation in operations:
        *steps, last = operation["path"].strip("/").split("/")
        place: Any = result
        for step in steps:
            place = place[int(step) if step.isdigit() else step]
        if operation["op"] == "add":
            assert last not in place
            place[last] = operation["value"]
        else:
            assert operation["op"] == "remove"
            del place[last]
    return result


def test_the_page_takes_the_port_of_the_node_away() -> None:
    without = patched(patches()["remove"])
    assert refusal(without, VERSIONS[-1]) == ""
    assert "hostPort" in yaml.safe_dump(OBJECTS["daemonset.yaml"])
    assert "hostPort" not in yaml.safe_dump(without)


def test_the_page_starts_the_daemon_with_a_file_that_is_mounted() -> None:
    with_file = patched(patches()["add"])
    assert refusal(with_file, VERSIONS[-1]) == ""
    (container,) = with_file["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    name, *arguments = container["args"]
    file = cli.main.commands[name].make_context(name, arguments).params["path"]
    (generated,) = [
        made for content in page_objects() for made in content.get("configMapGenerator", [])
    ]
    assert file == Path(mount["mountPath"]) / generated["files"][0]
    (volume,) = with_file["spec"]["template"]["spec"]["volumes"]
    assert volume == {"name": mount["name"], "configMap": {"name": generated["name"]}}


def test_prometheus_takes_the_scrape_of_the_page(tmp_path: Path, promtool: str) -> None:
    (scraping,) = [content for content in page_objects() if "scrape_configs" in content]
    (job,) = scraping["scrape_configs"]
    assert (job["job_name"], job["scrape_interval"]) == (JOB, SCRAPE_INTERVAL)
    kept = {rule.get("action"): rule.get("regex") for rule in job["relabel_configs"]}["keep"]
    assert kept == f"{SERVICE['selector']['app.kubernetes.io/name']};{ENDPOINT['port']}"
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # Debian's promtool lacks it
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(scraping))
    subprocess.run([promtool, "check", "config", str(file)], check=True, timeout=DEADLINE_SECONDS)


def test_every_variable_that_the_page_names_is_an_option() -> None:
    named = set(re.findall(r"\bLLMSTATSD_\w+", PAGE.read_text()))
    assert named
    assert named <= {option.variable for option in config.options()}
