"""The security file: TLS, passwords and headers in the words of Prometheus' web configuration.

The words are those of exporter-toolkit's docs/web-configuration.md. Python's ssl cannot do all that
Go's can: what it cannot is refused by name, and nothing is passed over in silence.
"""

import difflib
import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from llmstatsd.config import ConfigError, Problem, shown

FILE_BYTES_LIMIT: Final = 1 << 20
"""Most bytes of a security file, and of each certificate and key it names."""

USERS_LIMIT: Final = 100
HIGHEST_COST: Final = 16
"""Of bcrypt, whose work doubles with each step: 16 takes some seconds, 31 takes a day."""

_HASH: Final = re.compile(r"\A\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERSIONS_ALLOWED: Final = "TLS12 or TLS13; TLS10 and TLS11 are broken and not offered"

_CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
_CURVES_ALLOWED: Final = f"one of {', '.join(_CURVES)}; Python's ssl takes one, and no X25519 alone"

# Go's names for TLS 1.2 (crypto/tls, CipherSuites) to OpenSSL's (openssl-ciphers(1)).
_CIPHERS: Final = {
    f"TLS_ECDHE_{key}_WITH_{ours}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for ours, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
}
_CIPHERS_ALLOWED: Final = (
    f"of TLS 1.2: {', '.join(_CIPHERS)}; those of TLS 1.3 are not for choosing"
)

_VERIFY: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert")

_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""What `http_server_config.headers` may set, and to what where that is a closed set."""

_TLS_KEYS: Final = (
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "min_version",
    "max_version",
    "curve_preferences",
)
_UNAVAILABLE: Final = {
    "tls_server_config.cert": "no text in place; name a cert_file",
    "tls_server_config.key": "no text in place; name a key_file",
    "tls_server_config.client_ca": "no text in place; name a client_ca_file",
    "rate_limit": "not available; [http] connections and concurrent_scrapes bound the load",
}
"""Words of the format that mean something which is not done here."""


@dataclass(frozen=True, slots=True)
class Security:
    """What guards the web: nothing at all by default.

    `tls` is None for plain HTTP. A client's certificate has to bear one of `allowed_sans`, unless
    there are none. `users` maps names to bcrypt hashes. `headers` go on every answer; an empty
    value takes the header away.
    """

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    users: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_closed(self) -> bool:
        """Whether nobody is answered without a password or a certificate."""
        asks = self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED
        return asks or bool(self.users)


OPEN: Final = Security()


def load(path: str) -> Security:
    """What the file at `path` asks for; `OPEN` where the path is empty.

    Relative paths in it start from its folder. Raises ConfigError with all its problems.
    """
    return _Reader(Path(path)).read() if path else OPEN


def sans(certificate: Mapping[str, Any]) -> frozenset[str]:
    """The names of a certificate as `SSLObject.getpeercert` gives it, in the file's writing."""
    return frozenset(_san(kind, name) for kind, name in certificate.get("subjectAltName", ()))


def _san(kind: str, name: str) -> str:
    """OpenSSL writes IPv6 addresses at length and in capitals; Go and people do not."""
    if kind == "IP Address":
        return _shortest(name)
    return name if kind in ("DNS", "email", "URI") else ""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key written twice, as Prometheus does: the later one would win unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                None, None, f"written twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)


class _Reader:
    """Reads one file and gathers what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[Problem] = []

    def read(self) -> Security:
        root = self._table(
            "",
            self._parsed(),
            ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"),
        )
        tls, sans_allowed = self._tls(root.get("tls_server_config"))
        security = Security(
            tls=tls,
            allowed_sans=sans_allowed,
            users=self._users(root.get("basic_auth_users")),
            headers=self._http(root.get("http_server_config")),
        )
        if self._problems:
            raise ConfigError(self._problems)
        return security

    def _refuse(self, key: str, value: object, allowed: str) -> None:
        self._problems.append(Problem(str(self._path), key, shown(value), allowed))

    def _fail(self, text: str) -> None:
        self._problems.append(Problem(str(self._path), "", "", text))

    def _parsed(self) -> object:
        try:
            with self._path.open("rb") as file:
                text = file.read(FILE_BYTES_LIMIT + 1)
            if len(text) > FILE_BYTES_LIMIT:
                self._fail(f"at most {FILE_BYTES_LIMIT} bytes")
                return None
            return yaml.load(text, _UniqueKeys)  # noqa: S506  a SafeLoader
        except OSError as error:
            self._fail(f"a file that can be read: {error.strerror}")
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
            self._fail(f"YAML: {' '.join(str(error).split())}")
        return None

    def _table(self, key: str, value: object, known: tuple[str, ...]) -> dict[str, Any]:
        """A mapping with no other keys than `known`; what is not there stands for nothing."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._refuse(key, value, "a mapping")
            return {}
        for name in value:
            place = f"{key}.{name}" if key else str(name)
            if place in _UNAVAILABLE:
                self._refuse(place, "...", _UNAVAILABLE[place])
            elif name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"no such key; did you mean {near[0]}?" if near else "no such key"
                self._refuse(place, "...", f"{hint} (known: {', '.join(known)})")
        return value

    def _text(self, key: str, value: object) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        self._refuse(key, value, "a text")
        return ""

    def _texts(self, key: str, value: object) -> list[str]:
        if value is None:
            return []
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
        self._refuse(key, value, "a list of texts")
        return []

    def _switch(self, key: str, value: object, default: bool) -> bool:
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self._refuse(key, value, "true or false")
        return default

    def _tls(self, value: object) -> tuple[ssl.SSLContext | None, frozenset[str]]:
        place = "tls_server_config"
        table = self._table(place, value, _TLS_KEYS)
        if not table:
            return None, frozenset()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        self._versions(context, table)
        self._ciphers(context, table)
        self._certificate(context, table)
        auth = self._client_auth(context, table)
        allowed = self._texts(f"{place}.client_allowed_sans", table.get("client_allowed_sans"))
        if allowed and auth != "RequireAndVerifyClientCert":
            self._refuse(
                f"{place}.client_allowed_sans",
                allowed,
                "only with client_auth_type RequireAndVerifyClientCert",
            )
        return context, frozenset(_shortest(each) for each in allowed)

    def _versions(self, context: ssl.SSLContext, table: Mapping[str, Any]) -> None:
        chosen = []
        for name, default in (("min_version", "TLS12"), ("max_version", "TLS13")):
            version = table.get(name) or default
            if not isinstance(version, str) or version not in _VERSIONS:
                self._refuse(f"tls_server_config.{name}", version, _VERSIONS_ALLOWED)
                return
            chosen.append(_VERSIONS[version])
        if chosen[0] > chosen[1]:
            self._refuse("tls_server_config.min_version", "TLS13", "at most max_version")
            return
        context.minimum_version, context.maximum_version = chosen

    def _ciphers(self, context: ssl.SSLContext, table: Mapping[str, Any]) -> None:
        place = "tls_server_config"
        suites = self._texts(f"{place}.cipher_suites", table.get("cipher_suites"))
        unknown = [each for each in suites if each not in _CIPHERS]
        if unknown:
            self._refuse(f"{place}.cipher_suites", unknown, _CIPHERS_ALLOWED)
        elif suites:
            context.set_ciphers(":".join(_CIPHERS[each] for each in suites))
        key = f"{place}.prefer_server_cipher_suites"
        if self._switch(key, table.get("prefer_server_cipher_suites"), True):
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        curves = self._texts(f"{place}.curve_preferences", table.get("curve_preferences"))
        if len(curves) > 1 or any(each not in _CURVES for each in curves):
            self._refuse(f"{place}.curve_preferences", curves, _CURVES_ALLOWED)
        elif curves:
            context.set_ecdh_curve(_CURVES[curves[0]])

    def _certificate(self, context: ssl.SSLContext, table: Mapping[str, Any]) -> None:
        certificate, key = (self._file(table, name, True) for name in ("cert_file", "key_file"))
        if certificate is None or key is None:
            return
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            self._refuse(
                "tls_server_config.cert_file",
                table["cert_file"],
                f"a PEM certificate and in key_file its key, without a password: {_why(error)}",
            )

    def _client_auth(self, context: ssl.SSLContext, table: Mapping[str, Any]) -> str:
        place = "tls_server_config.client_auth_type"
        auth = self._text(place, table.get("client_auth_type")) or "NoClientCert"
        authority = self._file(table, "client_ca_file", False)
        if auth in _UNVERIFIED:
            self._refuse(
                place,
                auth,
                "a type that verifies: Python's ssl takes no certificate unverified; "
                "VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            )
        elif auth not in _VERIFY:
            self._refuse(place, auth, f"{', '.join(_VERIFY)}")
        elif auth == "NoClientCert":
            if table.get("client_ca_file"):
                self._refuse(place, auth, "with client_ca_file, a type that asks for certificates")
        elif not table.get("client_ca_file"):
            self._refuse("tls_server_config.client_ca_file", "", f"a file, as {auth} needs one")
        elif authority is not None:
            self._authority(context, authority)
            context.verify_mode = _VERIFY[auth]
        return auth

    def _authority(self, context: ssl.SSLContext, path: Path) -> None:
        try:
            context.load_verify_locations(path)
        except (OSError, ValueError) as error:
            self._refuse(
                "tls_server_config.client_ca_file", str(path), f"PEM certificates: {_why(error)}"
            )

    def _file(self, table: Mapping[str, Any], name: str, needed: bool) -> Path | None:
        """The path of a file that can be read, or None with the problem noted."""
        key = f"tls_server_config.{name}"
        text = self._text(key, table.get(name))
        if not text:
            if needed:
                self._refuse(key, text, "a file, as there is a tls_server_config")
            return None
        path = self._path.parent / text
        try:
            with path.open("rb") as file:
                if len(file.read(FILE_BYTES_LIMIT + 1)) > FILE_BYTES_LIMIT:
                    self._refuse(key, text, f"at most {FILE_BYTES_LIMIT} bytes")
                    return None
        except (OSError, ValueError) as error:
            self._refuse(key, text, f"a file that can be read: {_why(error)}")
            return None
        return path

    def _users(self, value: object) -> dict[str, bytes]:
        users: dict[str, bytes] = {}
        if value is None:
            return users
        if not isinstance(value, dict) or len(value) > USERS_LIMIT:
            self._refuse("basic_auth_users", "...", f"at most {USERS_LIMIT} names with their hash")
            return users
        for name, text in value.items():
            key = f"basic_auth_users.{name}"
            found = _HASH.match(text) if isinstance(text, str) else None
            if not isinstance(name, str) or not name or ":" in name:
                self._refuse(key, "...", "a name that is a text without a colon")
            elif found is None or not 4 <= int(found[1]) <= HIGHEST_COST:
                # The value is not shown: it may be a password put there by mistake.
                self._refuse(key, "...", f"a bcrypt hash, $2y$10$..., cost 4 to {HIGHEST_COST}")
            else:
                users[name] = text.encode()
        return users

    def _http(self, value: object) -> dict[str, str]:
        table = self._table("http_server_config", value, ("http2", "headers"))
        if self._switch("http_server_config.http2", table.get("http2"), False):
            self._refuse("http_server_config.http2", True, "false: HTTP/1.1 is what is served")
        place = "http_server_config.headers"
        headers = self._table(place, table.get("headers"), tuple(_HEADERS))
        return dict(self._header(f"{place}.{name}", name, headers) for name in headers)

    def _header(self, key: str, name: str, headers: Mapping[str, Any]) -> tuple[str, str]:
        text = self._text(key, headers[name])
        allowed = _HEADERS.get(name, ())
        if allowed and text and text not in allowed:
            self._refuse(key, text, " or ".join(allowed))
        elif not text.isascii() or (text and not text.isprintable()):
            self._refuse(key, text, "printable ASCII")
        return name, text


def _shortest(text: str) -> str:
    """An IP address in its shortest form, and any other name as it is."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _no_password() -> str:
    """Called for an encrypted key: OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)
