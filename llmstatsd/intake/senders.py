"""Which networks may send: for Python one address at a time, for the compiled loop a table.

An IPv4 address that is mapped into IPv6 (RFC 4291, section 2.5.5.2), as a socket for both families
shows it, counts as IPv4, in networks too.
"""

import functools
import struct
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from llmstatsd.address import Network, ip_of

KNOWN_HOSTS: Final = 4096
"""Addresses whose answer is kept."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_ROW: Final = struct.Struct("=BB16s")  # struct Network of senders.h


class Senders:
    """The networks that may send."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(map(_unmapped_network, networks))
        self.may_send = functools.lru_cache(KNOWN_HOSTS)(self._may_send)
        """Whether an IP address, with a zone or without, may send; the last answers are kept."""

    @property
    def table(self) -> bytes:
        """The networks as an array of struct Network of senders.h."""
        return b"".join(
            _ROW.pack(each.version, each.prefixlen, each.network_address.packed)
            for each in self._networks
        )

    def _may_send(self, host: str) -> bool:
        sender = ip_of(host)
        return any(sender in network for network in self._networks)


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.packed[12:]
        return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network
