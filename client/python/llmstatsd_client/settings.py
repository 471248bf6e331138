"""Where a client sends to: an argument beats a variable, a variable beats the default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llmstatsd_client.encoding import UDP_DATAGRAM_BYTES, UNIX_DATAGRAM_BYTES

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8125

PAYLOAD_BYTES_LIMIT: Final = 65_507
"""Most bytes of one datagram: 65,535 less the headers of IPv4 (20) and UDP (8), RFC 768 and 791."""

HOST_LIMIT: Final = 253
"""Longest name of a host in characters (RFC 1035 leaves so many of its 255 octets)."""

SOCKET_PATH_LIMIT: Final = 107
"""Longest path of a unix socket in bytes: sun_path less the NUL at its end, unix(7)."""

_PAIRS: Final = (
    ("LLMSTATSD_HOST", "LLMSTATSD_PORT"),
    ("DD_AGENT_HOST", "DD_DOGSTATSD_PORT"),
    ("STATSD_HOST", "STATSD_PORT"),
)
_YES: Final = frozenset({"1", "true", "yes", "on"})
_PORT: Final = re.compile("[0-9]{1,5}", re.ASCII).fullmatch


@dataclass(frozen=True)
class Udp:
    """A host, which is an IP address or a name, and a port."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT


@dataclass(frozen=True)
class Unix:
    """The path of a unix datagram socket; one that begins with NUL is abstract."""

    path: str


@dataclass(frozen=True)
class Nowhere:
    """An argument that is no destination; every datagram is dropped as unresolved."""

    problem: str


Destination = Udp | Unix | Nowhere


@dataclass(frozen=True)
class Settings:
    """What a client is made with; `problem` says what is wrong with an argument."""

    destination: Destination
    disabled: bool
    max_datagram_bytes: int
    problem: str | None = None


def settings(
    host: object = None,
    port: object = None,
    socket: object = None,
    disabled: object = None,
    max_datagram_bytes: object = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings in force; raises nothing, whatever the arguments are."""
    try:
        given = _given(host, port, socket)
    except Exception:  # noqa: BLE001 an argument may be an object that raises anything
        given = Nowhere("host, port and socket must be a text, a whole number and a path")
    destination = given or _from_variables(environ)
    most = UNIX_DATAGRAM_BYTES if isinstance(destination, Unix) else UDP_DATAGRAM_BYTES
    problem = destination.problem if isinstance(destination, Nowhere) else None
    if type(max_datagram_bytes) is int and 1 <= max_datagram_bytes <= PAYLOAD_BYTES_LIMIT:
        most = max_datagram_bytes
    elif max_datagram_bytes is not None:
        problem = problem or f"max_datagram_bytes must be a whole number 1..{PAYLOAD_BYTES_LIMIT}"
    if disabled is None:
        disabled = environ.get("LLMSTATSD_DISABLE", "").lower() in _YES
    return Settings(destination, disabled is True, most, problem)


def _given(host: object, port: object, socket: object) -> Destination | None:
    """What the arguments say; of host and port, the missing half is the default."""
    if socket is not None and socket != "":
        return _unix(socket)
    has_host, has_port = host is not None and host != "", port is not None
    if not has_host and not has_port:
        return None
    if has_host and not _is_host(host):
        return Nowhere(f"host must be a name or an IP address of at most {HOST_LIMIT} characters")
    number = read_port(port) if has_port else DEFAULT_PORT
    if number is None:
        return Nowhere("port must be a whole number 1..65535")
    return Udp(_bare(str(host)) if has_host else DEFAULT_HOST, number)


def _is_host(host: object) -> bool:
    return isinstance(host, str) and len(host) <= HOST_LIMIT and "\0" not in host


def _bare(host: str) -> str:
    """An IPv6 address without the brackets that URLs put around it."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _unix(path: object) -> Destination:
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    try:
        encoded = os.fsencode(path) if isinstance(path, str) else b""
    except UnicodeEncodeError:
        encoded = b""
    if not 0 < len(encoded) <= SOCKET_PATH_LIMIT or b"\0" in encoded[1:]:
        return Nowhere(f"socket must be a path of at most {SOCKET_PATH_LIMIT} bytes")
    return Unix(str(path))


def read_port(port: object) -> int | None:
    """A port from a whole number or its digits, or None.

    Kubernetes sets `LLMSTATSD_PORT=udp://10.0.0.1:8125` beside a service called llmstatsd.
    """
    if isinstance(port, str):
        port = int(port) if _PORT(port) else None
    return port if type(port) is int and 1 <= port <= 65_535 else None


def _from_variables(environ: Mapping[str, str]) -> Destination:
    if environ.get("LLMSTATSD_SOCKET"):
        return _unix(environ["LLMSTATSD_SOCKET"])
    for host_name, port_name in _PAIRS:
        host, port = environ.get(host_name), read_port(environ.get(port_name))
        if host or port:
            return _given(host, port, None) or Udp()
    return Udp()
