"""The image and the compose file: what they name exists, and is what the daemon takes."""

import configparser
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from llmstatsd import __version__, address, cli, config
from llmstatsd.config import Config
from llmstatsd.kit.contents import contents
from tests.conftest import DEADLINE_SECONDS, StartDaemon
from tests.servers import Server

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "how-to" / "docker.md"
TEXTS: Final = {document.path: document.text for document in contents(Config())}
_YAML: Final = re.compile(r"(?ms)^```yaml\n(.*?)^```$")
DAEMON_PORTS: Final = {
    f"{address.parse(Config().statsd.udp).port}/udp",
    f"{address.parse(Config().http.listen).port}/tcp",
}


class Instruction(NamedTuple):
    """One line of a Dockerfile: `RUN` and what is run, for example."""

    name: str
    value: str


def dockerfile() -> DockerfileParser:
    return DockerfileParser(fileobj=io.BytesIO(TEXTS["docker/Dockerfile"].encode()))


def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for entry in dockerfile().structure:
        if entry["instruction"] == "FROM":
            found.append([])
        if entry["instruction"] != "COMMENT":
            found[-1].append(Instruction(entry["instruction"], entry["value"]))
    return found


BUILD, FINAL = stages()


def values(stage: list[Instruction], name: str) -> list[str]:
    return [value for instruction, value in stage if instruction == name]


def only(name: str) -> str:
    """The value of an instruction that stands once in the final stage."""
    (value,) = values(FINAL, name)
    return value


def health_check() -> list[str]:
    command: list[str] = json.loads(only("HEALTHCHECK").partition(" CMD ")[2])
    return command


def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_stage_is_of_one_image_with_a_minor_version_that_the_package_supports() -> None:
    images = {values(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)}
    assert len(images) == 1
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", images.pop())
    assert version
    supported = metadata()["metadata"]["classifiers"].splitlines()
    assert f"Programming Language :: Python :: {version[1]}" in supported


def test_the_final_stage_runs_nothing_and_takes_only_what_the_first_has_built() -> None:
    assert values(FINAL, "RUN") == []
    assert values(FINAL, "ADD") == []
    assert all(copied.startswith("--from=build ") for copied in values(FINAL, "COPY"))
    assert "gcc" in "".join(values(BUILD, "RUN"))


def test_the_program_runs_as_a_number_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", only("USER"))
    names = [name for name, _ in FINAL]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD"])
def test_a_command_needs_no_shell(name: str) -> None:
    command = json.loads(only(name))
    assert command
    assert all(isinstance(word, str) for word in command)


def test_the_container_is_stopped_as_the_daemon_stops() -> None:
    assert only("STOPSIGNAL") == "SIGTERM"


def test_the_entry_point_is_a_script_of_the_package_and_on_the_path() -> None:
    (program,) = json.loads(only("ENTRYPOINT"))
    scripts = metadata()["options.entry_points"]["console_scripts"].strip().splitlines()
    assert f"{program} = llmstatsd.cli:main" in scripts
    built, placed = only("COPY").removeprefix("--from=build ").split()
    assert built == placed
    assert only("ENV").startswith(f"PATH={placed}/bin:$PATH")
    assert any(f"venv --without-pip {built} " in command for command in values(BUILD, "RUN"))


def test_the_arguments_are_a_command_that_is_taken() -> None:
    name, *arguments = json.loads(only("CMD"))
    context = cli.main.commands[name].make_context(name, arguments)
    assert set(context.params.values()) == {None}  # variables and the file decide


def variables() -> dict[str, str]:
    """The daemon's variables of the final stage."""
    environ = dict(assignment.split("=", 1) for assignment in only("ENV").split())
    return {name: value for name, value in environ.items() if name != "PATH"}


def test_every_variable_is_an_option_and_its_value_is_taken() -> None:
    assert set(variables()) <= {option.variable for option in config.options()}
    loaded = config.load(None, variables(), {})
    assert address.parse(loaded.statsd.udp).host == ""  # every interface of the container
    assert address.parse(loaded.http.listen).host == ""


def test_the_ports_that_are_exposed_are_those_of_the_daemon() -> None:
    loaded = config.load(None, variables(), {})
    udp, http = address.parse(loaded.statsd.udp), address.parse(loaded.http.listen)
    assert set(only("EXPOSE").split()) == {f"{udp.port}/udp", f"{http.port}/tcp"} == DAEMON_PORTS


def test_the_labels_are_those_of_the_package() -> None:
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): text for name, text in dockerfile().labels.items()}
    assert labels["version"] == __version__
    assert labels["licenses"] == metadata()["metadata"]["license"]
    assert labels["title"] == metadata()["metadata"]["name"]
    assert Config().kit.runbooks_url.startswith(labels["source"])


def test_the_extras_that_are_installed_are_of_the_package() -> None:
    (named,) = re.findall(r"'\.\[(\w+)\]'", " ".join(values(BUILD, "RUN")))
    assert metadata().has_option("options.extras_require", named)


def test_the_image_is_described_with_the_name_that_compose_gives_it() -> None:
    assert f"--tag {COMPOSE['services']['llmstatsd']['image']} ." in TEXTS["docker/Dockerfile"]


def as_expression(pattern: str) -> re.Pattern[str]:
    """A pattern of .dockerignore: `**/` is any number of folders, `*` stays within one."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        re.sub(
            r"\*\*/|\*\*|\*|\?|[^*?]+",
            lambda part: parts.get(part[0], re.escape(part[0])),
            pattern,
        )
    )


def is_sent(path: str) -> bool:
    """Whether a file is in the build context, by the rules of Docker for .dockerignore.

    The last line that fits the path or a folder above it decides
    (https://docs.docker.com/build/concepts/context/#dockerignore-files).
    """
    places = [str(place) for place in (PurePosixPath(path), *PurePosixPath(path).parents)]
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            expression = as_expression(pattern.removeprefix("!"))
            if any(expression.fullmatch(place) for place in places):
                sent = pattern.startswith("!")
    return sent


def copied() -> Iterator[str]:
    """What the first stage copies, as it is written."""
    for value in values(BUILD, "COPY"):
        yield from value.split()[:-1]


@pytest.mark.parametrize("source", list(copied()))
def test_what_is_copied_is_there_and_in_the_build_context(source: str) -> None:
    found = [path.relative_to(ROOT).as_posix() for path in ROOT.glob(source)]
    assert found
    assert all(map(is_sent, found))


@pytest.mark.parametrize("package", ["llmstatsd", "client/python/llmstatsd_client"])
def test_the_whole_package_is_in_the_build_context(package: str) -> None:
    files = [path for path in (ROOT / package).rglob("*") if path.suffix in {".py", ".typed"}]
    assert all(is_sent(path.relative_to(ROOT).as_posix()) for path in files)
    assert {path.suffix for path in files} == {".py", ".typed"}


def test_what_the_metadata_reads_is_copied() -> None:
    about = metadata()["metadata"]
    read = {about["license_files"], about["long_description"].removeprefix("file: ")}
    assert read | {"pyproject.toml", "setup.*"} <= set(copied())


def test_the_client_is_installed_from_the_same_tree() -> None:
    assert "client/python" in set(copied())
    assert " ./client/python " in "".join(values(BUILD, "RUN"))


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "configs/docker/.env",
        "docs/tutorial.md",
        "llmstatsd/__pycache__/cli.cpython-313.pyc",
        "llmstatsd/series/hotpath.so",
        "tests/conftest.py",
    ],
)
def test_nothing_else_is_in_the_build_context(path: str) -> None:
    assert not is_sent(path)


def run_health_check(port: int, proxy: str) -> int:
    """Exit code of the health check, with the variables of the image but for the port."""
    program, *arguments = health_check()
    assert program == json.loads(only("ENTRYPOINT"))[0]
    environ = {
        **variables(),
        "LLMSTATSD_HTTP_LISTEN": f":{port}",
        "http_proxy": proxy,
        "HTTP_PROXY": proxy,
    }
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        env=environ,
        capture_output=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    ).returncode


def test_the_health_check_passes_while_the_daemon_runs_and_asks_no_proxy(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(env=variables())
    port = urlsplit(daemon.url).port or 0
    assert run_health_check(port, proxy="http://127.0.0.1:9") == 0
    assert daemon.end() == 0
    assert run_health_check(port, proxy="http://127.0.0.1:9") != 0


COMPOSE: Final[dict[str, Any]] = yaml.safe_load(TEXTS["docker/compose.yaml"])
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
COMPOSE_FOLDER: Final = PurePosixPath("docker")


def is_valid_compose(text: str, folder: Path) -> bool:
    """By the JSON schema of the compose specification, which check-jsonschema brings."""
    file = folder / "compose.yaml"
    file.write_text(text)
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, check=False, timeout=DEADLINE_SECONDS
    )
    return done.returncode == 0


def test_the_compose_file_is_as_the_specification_says(tmp_path: Path) -> None:
    assert is_valid_compose(TEXTS["docker/compose.yaml"], tmp_path)


def test_the_specification_refuses_an_unknown_key(tmp_path: Path) -> None:
    unknown = TEXTS["docker/compose.yaml"].replace("mem_limit:", "memory_limit:", 1)
    assert not is_valid_compose(unknown, tmp_path)


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_whole_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_the_image_of_the_daemon_has_its_version_and_is_built_here() -> None:
    daemon = SERVICES["llmstatsd"]
    assert daemon["image"] == f"llmstatsd:{__version__}"
    assert daemon["pull_policy"] == "build"  # a name that anybody could take is never fetched


def test_the_image_is_built_from_this_repository_unless_another_is_named() -> None:
    build = SERVICES["llmstatsd"]["build"]
    default = re.fullmatch(r"\$\{\w+:-(.+)\}", build["context"])
    assert default
    context = (ROOT / "configs" / COMPOSE_FOLDER / default[1]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).read_text() == TEXTS["docker/Dockerfile"]


def published(name: str) -> set[str]:
    """Ports of a service as an image exposes them, all of them published alike on loopback."""
    ports = set()
    for port in SERVICES[name]["ports"]:
        shape = re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)(/udp)?", port)
        assert shape
        assert shape[1] == shape[2]
        ports.add(f"{shape[1]}{shape[3] or '/tcp'}")
    return ports


def test_every_port_is_published_on_loopback_only() -> None:
    assert {name: published(name) for name in SERVICES} == {
        "llmstatsd": DAEMON_PORTS,
        "prometheus": {"9090/tcp"},
        "alertmanager": {"9093/tcp"},
        "grafana": {"3000/tcp"},
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"[1-9]\d*[mg]", service["mem_limit"])
    assert "privileged" not in service


@pytest.mark.parametrize("name", ["llmstatsd", "prometheus", "alertmanager"])
def test_a_service_writes_to_its_volumes_only(name: str) -> None:
    assert SERVICES[name]["read_only"] is True


def test_only_these_variables_are_asked_for_and_none_is_taken_for_an_option() -> None:
    asked = re.findall(r"\$\{(\w+)(:[-?])", yaml.safe_dump(COMPOSE))
    assert asked.count(("GRAFANA_ADMIN_PASSWORD", ":?")) == 1  # without it nothing starts
    assert {name for name, _ in asked} == {"GRAFANA_ADMIN_PASSWORD", "SOURCE_OF_LLMSTATSD"}
    assert yaml.safe_dump(COMPOSE).count("$") == len(asked)
    assert not [name for name, _ in asked if name.startswith(config.VARIABLE_PREFIX)]


def test_nobody_sees_grafana_without_a_password() -> None:
    environ = SERVICES["grafana"]["environment"]
    assert environ["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environ["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environ["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_ADMIN_PASSWORD:?")


def mounts(name: str, kind: str) -> dict[str, str]:
    """Source by target of the mounts of one kind."""
    found = [mount for mount in SERVICES[name].get("volumes", []) if mount["type"] == kind]
    return {mount["target"]: mount["source"] for mount in found}


def test_every_volume_is_declared_and_used_once() -> None:
    used = [source for name in SERVICES for source in mounts(name, "volume").values()]
    assert sorted(used) == sorted(COMPOSE["volumes"])


def in_kit(kit: Path, source: str) -> Path:
    return (kit / COMPOSE_FOLDER / source).resolve()


@pytest.mark.parametrize("name", SERVICES)
def test_every_mounted_file_is_of_the_kit_and_cannot_be_written(name: str, kit: Path) -> None:
    for mount in SERVICES[name].get("volumes", []):
        if mount["type"] == "bind":
            path = in_kit(kit, mount["source"])
            assert path.exists()
            assert path.is_relative_to(kit)
            assert mount["read_only"] is True
            assert mount["bind"] == {"create_host_path": False}


@pytest.fixture
def root_of(kit: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Lays out the files that a service has mounted, below a folder that stands for its root."""

    def lay(name: str) -> Path:
        root = tmp_path / name
        for target, source in mounts(name, "bind").items():
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            path = in_kit(kit, source)
            if path.is_dir():
                shutil.copytree(path, place)
            else:
                shutil.copy(path, place)
        for target in mounts(name, "volume"):
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return root

    return lay


def flags(name: str) -> dict[str, str]:
    return dict(flag.split("=", 1) for flag in SERVICES[name]["command"])


def test_prometheus_finds_its_configuration_and_its_rules(
    root_of: Callable[[str], Path], promtool: str
) -> None:
    root = root_of("prometheus")
    file = root / flags("prometheus")["--config.file"].lstrip("/")
    rules = [file.parent / name for name in yaml.safe_load(file.read_text())["rule_files"]]
    assert rules
    assert all(path.is_file() for path in rules)
    subprocess.run([promtool, "check", "config", str(file)], check=True, timeout=DEADLINE_SECONDS)


def test_alertmanager_finds_its_configuration(root_of: Callable[[str], Path], amtool: str) -> None:
    file = root_of("alertmanager") / flags("alertmanager")["--config.file"].lstrip("/")
    subprocess.run([amtool, "check-config", str(file)], check=True, timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_what_a_server_stores_is_in_its_volume(name: str) -> None:
    (folder,) = mounts(name, "volume")
    stored = {"prometheus": "--storage.tsdb.path", "alertmanager": "--storage.path"}[name]
    assert flags(name)[stored] == folder


@pytest.mark.parametrize("service", ["prometheus", "alertmanager"])
def test_a_server_takes_the_command_of_its_service_and_is_healthy(
    service: str, root_of: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    root = root_of(service)
    command = [re.sub(r"=/", f"={root}/", flag) for flag in SERVICES[service]["command"]]
    program = request.getfixturevalue(service)
    *wget, url = SERVICES[service]["healthcheck"]["test"]
    assert wget == ["CMD", "wget", "-q", "--spider"]
    assert f"{urlsplit(url).port}/tcp" in published(service)
    with closing(
        Server(root, "/-/ready", program, *command, "--web.listen-address=127.0.0.1:0")
    ) as server:
        assert httpx.head(server.url + urlsplit(url).path).is_success  # as wget --spider asks


def places() -> set[str]:
    """HOST:PORT of every service, as the others reach it."""
    return {
        f"{name}:{port.removesuffix('/tcp')}"
        for name in SERVICES
        for port in published(name)
        if port.endswith("/tcp")
    }


def test_prometheus_names_services_and_their_ports() -> None:
    prometheus = yaml.safe_load(TEXTS["docker/prometheus.yml"])
    (job,) = prometheus["scrape_configs"]
    (alertmanagers,) = prometheus["alerting"]["alertmanagers"]
    configs = [*job["static_configs"], *alertmanagers["static_configs"]]
    targets = {target for one in configs for target in one["targets"]}
    assert targets == {"llmstatsd:2112", "alertmanager:9093"}
    assert targets <= places()


def test_the_prometheus_of_compose_differs_from_the_other_in_addresses_only() -> None:
    text = TEXTS["docker/prometheus.yml"]
    for service in ("llmstatsd", "alertmanager"):
        text = text.replace(f"- {service}:", "- localhost:")
    assert yaml.safe_load(text) == yaml.safe_load(TEXTS["prometheus/prometheus.yml"])


def test_grafana_is_given_the_prometheus_beside_it(root_of: Callable[[str], Path]) -> None:
    folder = root_of("grafana") / "etc/grafana/provisioning/datasources"
    (file,) = folder.iterdir()
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert urlsplit(source["url"]).netloc in places()


def test_grafana_finds_the_dashboards_where_its_provisioning_looks(
    root_of: Callable[[str], Path],
) -> None:
    root = root_of("grafana")
    (file,) = (root / "etc/grafana/provisioning/dashboards").iterdir()
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    found = {path.name for path in (root / provider["options"]["path"].lstrip("/")).rglob("*.json")}
    wanted = {PurePosixPath(path) for path in TEXTS if path.startswith("grafana/dashboards/")}
    assert found == {path.name for path in wanted}
    assert found


def test_what_is_waited_for_is_there_and_says_how_it_is() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            assert name in SERVICES
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]


def test_prometheus_does_not_wait_for_the_health_of_what_it_watches() -> None:
    conditions = SERVICES["prometheus"]["depends_on"]
    assert conditions["llmstatsd"] == {"condition": "service_started"}


def test_applications_share_a_network_with_the_daemon_alone() -> None:
    joined = {name: service.get("networks", ["default"]) for name, service in SERVICES.items()}
    (network,) = COMPOSE["networks"]
    assert [name for name, networks in joined.items() if network in networks] == ["llmstatsd"]
    assert all("default" in networks for networks in joined.values())


@pytest.mark.parametrize("seconds", [0.0, 5.0, 60.5])
def test_the_daemon_has_time_to_drain_before_it_is_killed(seconds: float) -> None:
    shorter = msgspec.convert({"http": {"shutdown_timeout_seconds": seconds}}, Config)
    (text,) = [one.text for one in contents(shorter) if one.path == "docker/compose.yaml"]
    grace = yaml.safe_load(text)["services"]["llmstatsd"]["stop_grace_period"]
    assert seconds + 5 <= int(grace.removesuffix("s")) < seconds + 6


def examples() -> list[tuple[str, str]]:
    """The YAML blocks of the page, each with the title of its section."""
    sections = PAGE.read_text().split("\n## ")
    return [
        (section.split("\n")[0], block) for section in sections for block in _YAML.findall(section)
    ]


@pytest.mark.parametrize(
    "block", [block for _, block in examples()], ids=[title for title, _ in examples()]
)
def test_a_compose_example_of_the_page_is_as_the_specification_says(
    block: str, tmp_path: Path
) -> None:
    assert is_valid_compose(block, tmp_path)
    for service in yaml.safe_load(block).get("services", {}).values():
        environ = service.get("environment", {})
        own = {name: value for name, value in environ.items() if name.startswith("LLMSTATSD_")}
        config.load(None, own, {})
        if service.get("command"):
            name, *arguments = service["command"]
            cli.main.commands[name].make_context(name, arguments)


def test_every_variable_that_the_page_names_is_an_option() -> None:
    named = set(re.findall(r"\bLLMSTATSD_\w+", PAGE.read_text()))
    assert named
    assert named <= {option.variable for option in config.options()}


def test_the_page_names_the_network_that_applications_join() -> None:
    (network,) = COMPOSE["networks"].values()
    joined = [
        given["name"]
        for _, block in examples()
        for given in yaml.safe_load(block).get("networks", {}).values()
        if given.get("external")
    ]
    assert joined == [network["name"]]
