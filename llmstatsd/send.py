"""One datagram out: what `llmstatsd send` does, by the client that any application would use."""

from collections.abc import Iterable, Mapping

from llmstatsd.address import Address
from llmstatsd_client.encoding import encode
from llmstatsd_client.event import read
from llmstatsd_client.sender import resolve, sender
from llmstatsd_client.settings import (
    PAYLOAD_BYTES_LIMIT,
    Destination,
    Nowhere,
    Settings,
    Udp,
    Unix,
    settings,
)
from llmstatsd_client.stats import Counts


def chosen(to: Address | None) -> Settings:
    """The client's settings: `to`, else what its variables say, else 127.0.0.1:8125."""
    return settings(to.host, to.port) if to else settings()


def shown(to: Destination) -> str:
    """A destination as people write it."""
    match to:
        case Udp(host, port):
            return str(Address(host, port))
        case Unix(path):
            return path
        case Nowhere(problem):
            return f"nowhere, because {problem}"


def event_datagrams(fields: Mapping[str, object], max_datagram_bytes: int) -> list[bytes]:
    """The datagrams of one finished call; None and False mean not given.

    Raises ValueError for a value that the client would leave out.
    """
    _, refused = read(fields.items())
    for problem in refused.values():
        raise ValueError(str(problem))
    return encode(fields, max_datagram_bytes).datagrams


def payload(lines: Iterable[bytes]) -> bytes:
    """The lines as one datagram. Raises ValueError if it is empty or over the limit."""
    data = b"\n".join(lines)
    if not data.strip():
        raise ValueError("there is nothing to send")
    if len(data) > PAYLOAD_BYTES_LIMIT:
        raise ValueError(f"a datagram holds at most {PAYLOAD_BYTES_LIMIT} bytes, got {len(data)}")
    return data


def send_datagrams(datagrams: Iterable[bytes], to: Destination) -> None:
    """Send them one after the other.

    Whether anybody received them is not known: that is UDP.
    Raises OSError if the host cannot be resolved or the system refuses to send.
    """
    if isinstance(to, Udp):  # a command may wait for a name; a client of an application may not
        _, place = resolve(to)
        to = Udp(place[0], to.port)
    outlet = sender(to, Counts(), strict=True)
    for datagram in datagrams:
        outlet.transmit(datagram)
