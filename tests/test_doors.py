"""A daemon behind TLS, a client certificate and a password, read by curl and by Prometheus."""

import subprocess
from contextlib import closing
from pathlib import Path

import bcrypt
import pytest

from tests.certificates import Authority, Pair
from tests.conftest import StartDaemon
from tests.servers import Prometheus
from tests.tools import tool

SECURITY = """
tls_server_config:
  cert_file: {own.certificate}
  key_file: {own.key}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {authority.certificate}
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=60
basic_auth_users:
  prometheus: {hash}
"""

SCRAPE = """
scrape_configs:
  - job_name: llmstatsd
    scrape_interval: 1s
    scheme: https
    basic_auth: {{username: prometheus, password: right}}
    tls_config:
      ca_file: {authority.certificate}
      cert_file: {reader.certificate}
      key_file: {reader.key}
    static_configs: [{{targets: ["{address}"]}}]
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def reader(authority: Authority) -> Pair:
    return authority.sign("reader.example")


@pytest.fixture
def address(start_daemon: StartDaemon, authority: Authority, tmp_path: Path) -> str:
    """HOST:PORT of a daemon with all doors shut."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    own = authority.sign("127.0.0.1")
    file = tmp_path / "web.yml"
    file.write_text(SECURITY.format(own=own, authority=authority, hash=hashed))
    daemon = start_daemon("--http-security-file", str(file))
    return daemon.url.removeprefix("http://")


def test_curl_reads_with_a_certificate_and_a_password_and_not_without(
    address: str, authority: Authority, reader: Pair
) -> None:
    def curl(*arguments: str) -> str:
        command = [tool("curl"), "-si", "--max-time", "30", "--cacert", authority.certificate]
        command += [*arguments, f"https://{address}/metrics"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    shown = ("--cert", reader.certificate, "--key", reader.key)
    answer = curl(*shown, "--user", "prometheus:right")
    assert "strict-transport-security: max-age=60" in answer
    assert "llmstatsd_build_info" in answer
    assert " 401 " in curl(*shown, "--user", "prometheus:wrong")
    assert " 401 " in curl(*shown)
    assert curl("--user", "prometheus:right") == ""


def test_prometheus_scrapes_with_a_certificate_and_a_password(
    address: str, authority: Authority, reader: Pair, prometheus: str, tmp_path: Path
) -> None:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    file = folder / "prometheus.yml"
    file.write_text(SCRAPE.format(authority=authority, reader=reader, address=address))
    with closing(Prometheus(prometheus, file, folder)) as server:
        server.wait_for_targets(1)
