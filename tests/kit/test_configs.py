"""Prometheus' and Alertmanager's own checkers find nothing wrong with the files of the kit."""

import shutil
import subprocess
from pathlib import Path

import pytest

from llmstatsd.config import Config
from llmstatsd.kit.contents import contents
from tests.conftest import DEADLINE_SECONDS

PROMETHEUS = [
    document.path
    for document in contents(Config())
    if Path(document.path).match("prometheus*.yml") and "alerting:" in document.text
]


def checked(*command: str) -> tuple[int, str]:
    """The exit code, and all that was said."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_kit_has_configurations_for_one_host_for_many_and_for_docker() -> None:
    assert set(PROMETHEUS) == {
        "docker/prometheus.yml",
        "prometheus/prometheus.yml",
        "prometheus/prometheus-many-hosts.yml",
        "prometheus/prometheus-remote-write.yml",
    }


@pytest.mark.parametrize("path", PROMETHEUS)
def test_promtool_takes_a_configuration(
    path: str, kit: Path, tmp_path: Path, promtool: str
) -> None:
    """That of Docker is mounted beside the rules."""
    folder = shutil.copytree(kit / "prometheus", tmp_path / "prometheus", dirs_exist_ok=True)
    file = shutil.copy(kit / path, folder)
    code, said = checked(promtool, "check", "config", str(file))
    assert code == 0, said
    assert said.count(" rules found") == 2, said
    assert "FAILED" not in said
    assert "WARNING" not in said


def test_amtool_takes_the_configuration(kit: Path, amtool: str) -> None:
    code, said = checked(amtool, "check-config", str(kit / "alertmanager" / "alertmanager.yml"))
    assert code == 0, said
    assert "1 inhibit rules" in said
