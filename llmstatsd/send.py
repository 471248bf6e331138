"""One datagram out: what `llmstatsd send` does, the way any application would."""

import json
import socket
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from llmstatsd.address import Address
from llmstatsd.wire.event import Event

PAYLOAD_BYTES_LIMIT: Final = 65_507
"""Most bytes of one datagram: 65,535 less the headers of IPv4 (20) and UDP (8), RFC 768 and 791."""


def event_line(fields: Mapping[str, object]) -> str:
    """The JSON event of the fields given; None and False mean not given.

    Raises ValueError for a value that the daemon would refuse: an amount that is negative, not
    finite or above 1e280, an empty error type.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    given = {name: value for name, value in given.items() if value is not False}
    try:
        msgspec.convert(given, Event)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    return json.dumps(given, separators=(",", ":"))


def payload(lines: Iterable[bytes]) -> bytes:
    """The lines as one datagram. Raises ValueError if it is empty or over the limit."""
    data = b"\n".join(lines)
    if not data.strip():
        raise ValueError("there is nothing to send")
    if len(data) > PAYLOAD_BYTES_LIMIT:
        raise ValueError(f"a datagram holds at most {PAYLOAD_BYTES_LIMIT} bytes, got {len(data)}")
    return data


def send_datagram(data: bytes, to: Address) -> None:
    """Send to a host and a port from 1 to 65535; an empty host means this machine.

    Whether anybody received it is not known: that is UDP.
    Raises OSError if the host cannot be resolved or the system refuses to send.
    """
    found = socket.getaddrinfo(to.host or None, to.port, type=socket.SOCK_DGRAM)
    # A name such as localhost often has both families, and the daemon's default is IPv4.
    family, kind, protocol, _, place = min(found, key=lambda info: info[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as sender:
        sender.sendto(data, place)
