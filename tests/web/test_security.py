"""The security file: what it says, and all that may be wrong with it."""

import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest

from llmstatsd.config import ConfigError
from llmstatsd.web import security
from tests.certificates import Authority

SAMPLE = Path(__file__).parents[2] / "configs" / "web-security.yml"
HASH = bcrypt.hashpw(b"right", b"$2b$04$" + b"a" * 21 + b"u").decode()  # the same in each run


def problems(folder: Path, text: str) -> str:
    file = folder / "web.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        security.load(str(file))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a certificate, its key and an authority, and the key of another."""
    authority = Authority(tmp_path / "made")
    for name, file in (("127.0.0.1", "server"), ("::1", "other")):
        pair = authority.sign(name)
        shutil.copy(pair.certificate, tmp_path / f"{file}.crt")
        shutil.copy(pair.key, tmp_path / f"{file}.key")
    shutil.copy(authority.certificate, tmp_path / "readers-ca.crt")
    return tmp_path


def test_no_file_leaves_everything_open() -> None:
    assert security.load("") == security.OPEN


def test_an_empty_file_leaves_everything_open(tmp_path: Path) -> None:
    (tmp_path / "web.yml").touch()
    assert security.load(str(tmp_path / "web.yml")) == security.OPEN


def test_the_sample_is_valid_for_prometheus_too(folder: Path, promtool: str) -> None:
    sample = shutil.copy(SAMPLE, folder / "web.yml")
    loaded = security.load(str(sample))
    assert loaded.tls is not None
    assert loaded.tls.verify_mode is ssl.CERT_REQUIRED
    assert list(loaded.users) == ["prometheus"]
    subprocess.run([promtool, "check", "web-config", str(sample)], check=True, timeout=60)


TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CA = "  client_ca_file: readers-ca.crt\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "a mapping"),
        ("a: [", "YAML"),
        ("tls_config: {}", "did you mean tls_server_config?"),
        ("rate_limit: {burst: 1}", "rate_limit"),
        (TLS + "  cert: text\n", "name a cert_file"),
        ("tls_server_config: {cert_file: server.crt}", "tls_server_config.key_file"),
        (TLS.replace("server.crt", "none.crt"), "No such file"),
        (TLS.replace("server.key", "other.key"), "cert_file"),
        (TLS.replace("server.crt", "server.key"), "cert_file"),
        (TLS + "  client_auth_type: RequestClientCert\n" + CA, "no certificate unverified"),
        (TLS + "  client_auth_type: RequireAnyClientCert\n" + CA, "no certificate unverified"),
        (TLS + "  client_auth_type: Always\n", "NoClientCert, VerifyClientCertIfGiven"),
        (TLS + "  client_auth_type: RequireAndVerifyClientCert\n", "client_ca_file"),
        (TLS + CA, "a type that asks for certificates"),
        (TLS + "  client_allowed_sans: [a]\n", "only with client_auth_type"),
        (TLS + "  min_version: TLS10\n", "TLS12 or TLS13"),
        (TLS + "  min_version: TLS13\n  max_version: TLS12\n", "at most max_version"),
        (TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", "not for choosing"),
        (TLS + "  curve_preferences: [CurveP256, CurveP384]\n", "takes one"),
        (TLS + "  cert_file: server.crt\n", "written twice"),
        ("http_server_config: {http2: true}", "HTTP/1.1"),
        ("http_server_config: {headers: {Server: x}}", "no such key"),
        ("http_server_config: {headers: {X-Frame-Options: maybe}}", "deny or sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}', "printable"),
        ("basic_auth_users: {alice: secret}", "a bcrypt hash"),
        (f"basic_auth_users: {{'a:b': '{HASH}'}}", "without a colon"),
        (f"basic_auth_users: {{alice: '{HASH.replace('$04$', '$31$')}'}}", "cost 4 to 16"),
    ],
    ids=repr,
)
def test_what_is_wrong_is_named(folder: Path, text: str, expected: str) -> None:
    said = problems(folder, text)
    assert expected in said
    assert "secret" not in said


def test_all_problems_are_named_at_once(folder: Path) -> None:
    said = problems(folder, TLS + "  min_version: TLS9\nbasic_auth_users: {a: b}\nnothing: 1\n")
    assert said.startswith("3 problems")


@pytest.mark.parametrize(
    "line",
    [
        "client_auth_type: VerifyClientCertIfGiven\n" + CA,
        "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
        "prefer_server_cipher_suites: false",
        "curve_preferences: [CurveP384]",
        "max_version: TLS12",
    ],
)
def test_what_can_be_done_is_taken(folder: Path, line: str) -> None:
    (folder / "web.yml").write_text(f"{TLS}  {line}\n")
    assert security.load(str(folder / "web.yml")).tls is not None


def test_check_and_serve_refuse_a_bad_file_by_exit_code_3(folder: Path) -> None:
    (folder / "web.yml").write_text("nothing: 1")
    config = folder / "llmstatsd.toml"
    config.write_text(
        f'[http]\nlisten = "127.0.0.1:0"\nsecurity_file = "{folder}/web.yml"\n'
        '[statsd]\nudp = "127.0.0.1:0"\n'
    )
    for arguments in (["check", str(config)], ["serve", "--config", str(config)]):
        command = [sys.executable, "-m", "llmstatsd", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 3
        assert re.search(r"web\.yml: nothing", ended.stderr), ended.stderr
