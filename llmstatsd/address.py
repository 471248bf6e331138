"""HOST:PORT as people write it: `127.0.0.1:8125`, `[::1]:8125`, `example.org:8125`, `:2112`.

The square brackets around an IPv6 address are the rule of RFC 3986, section 3.2.2.
"""

import errno
import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

ALLOWED: Final = "HOST:PORT, [IPv6]:PORT or :PORT, with a port from 0 to 65535"
"""What `parse` takes, for messages and reference pages."""

NETWORKS_ALLOWED: Final = "nothing, or at most 64 networks with commas between: 10.0.0.0/8,::1"
"""What `networks` takes."""

NETWORKS_LIMIT: Final = 64

Network = IPv4Network | IPv6Network

NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors of binding to an address that this machine has not: another one of a name may do."""

_UNNAMED: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound

_SHAPE: Final = re.compile(
    r"""
    (?: \[ (?P<v6> [^\[\]]+ ) \]                            # [::1]  or  [fe80::1%eth0]
      | (?P<host> ( [\w-]{1,63} (\. [\w-]{1,63})* \.? )? ) )  # 127.0.0.1, a name, or nothing
    : (?P<port> [0-9]{1,5} )
    """,
    re.VERBOSE | re.ASCII,
)
_ONLY_DIGITS_AND_DOTS: Final = re.compile(r"[0-9.]+")


class Address(NamedTuple):
    """Where a socket stands: `str()` gives HOST:PORT back, an IPv6 host in square brackets.

    An empty `host` means every interface of the machine.
    Port 0 asks the system for a free port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse(text: str) -> Address:
    """The host, without square brackets, and the port (0 to 65535) of a HOST:PORT text.

    A host of digits and dots must be a whole IPv4 address, because resolvers read `127.1` in ways
    nobody expects. Raises ValueError for anything else than `ALLOWED`.
    """
    shape = _SHAPE.fullmatch(text)
    if shape is None or int(shape["port"]) > 65535:
        raise ValueError(f"{text!r} is not {ALLOWED}")
    host = shape["host"]
    if host is None:
        host = shape["v6"]
        IPv6Address(host)
    elif _ONLY_DIGITS_AND_DOTS.fullmatch(host):
        IPv4Address(host)
    return Address(host, int(shape["port"]))


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a text with commas between them; a plain address is a network of its own.

    Raises ValueError for anything else than `NETWORKS_ALLOWED`, bits behind a prefix among them.
    """
    parts = text.split(",") if text.strip() else []
    if len(parts) > NETWORKS_LIMIT:
        raise ValueError(f"{len(parts)} networks are too many")
    return tuple(ip_network(part.strip()) for part in parts)


def ip_of(host: str) -> IPv4Address | IPv6Address:
    """An IP address without its zone; one of IPv4 that is mapped into IPv6 as IPv4 has it.

    RFC 4291, section 2.5.5.2; a socket for both families shows them so. Raises ValueError for a
    name.
    """
    found = ip_address(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def is_loopback(host: str) -> bool:
    """Whether an IP address is one that only this machine reaches; ValueError for a name."""
    return ip_of(host).is_loopback


def every_interface() -> str:
    """What an empty host stands for: IPv6 and IPv4 by one socket where that is possible."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - what was asked for


def on_this_machine(host: str) -> str:
    """Where who listens on a host is reached by its own machine: an unnamed one is any address."""
    return _UNNAMED.get(host, host)
