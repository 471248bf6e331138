"""Sockets that a service manager holds open and passes on, by the protocol of sd_listen_fds(3)."""

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START of sd-daemon.h
SOCKETS_LIMIT: Final = 64
"""Most sockets taken: as many as lanes can be asked for."""

_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_INET: Final = (socket.AF_INET, socket.AF_INET6)


class ActivationError(Exception):
    """A passed socket that cannot be used; the text names it and says why."""


@dataclass
class Passed:
    """The sockets that were passed, by what they are for."""

    udp: list[socket.socket] = field(default_factory=list)
    unix: list[socket.socket] = field(default_factory=list)
    tcp: list[socket.socket] = field(default_factory=list)
    web: list[socket.socket] = field(default_factory=list)


def passed(environ: MutableMapping[str, str]) -> Passed:
    """Takes over what was passed to this process, once: the variables are removed.

    A socket is recognised by its name (`statsd-udp`, `statsd-unix`, `statsd-tcp`, `web`), any
    other by its kind, where a stream is the web's: StatsD over TCP has to be named.
    Raises ActivationError for a socket that is unfit for its name.
    """
    said_pid, said_count, said_names = (environ.pop(name, "") for name in _VARIABLES)
    sockets = Passed()
    if said_pid != str(os.getpid()):
        return sockets
    if not said_count.isascii() or not said_count.isdigit() or int(said_count) > SOCKETS_LIMIT:
        raise ActivationError(f"LISTEN_FDS={said_count[:20]!r}: at most {SOCKETS_LIMIT} sockets")
    names = said_names.split(":")
    for at in range(int(said_count)):
        _take(FIRST_DESCRIPTOR + at, names[at] if at < len(names) else "", sockets)
    return sockets


def _take(descriptor: int, name: str, sockets: Passed) -> None:
    shown = f"passed descriptor {descriptor} ({name or 'unnamed'})"
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ActivationError(f"{shown}: {error.strerror}") from error
    places = {
        "statsd-udp": (sockets.udp, socket.SOCK_DGRAM, _INET),
        "statsd-unix": (sockets.unix, socket.SOCK_DGRAM, (socket.AF_UNIX,)),
        "statsd-tcp": (sockets.tcp, socket.SOCK_STREAM, _INET),
        "web": (sockets.web, socket.SOCK_STREAM, _INET),
    }
    by_kind = ("statsd-udp", "statsd-unix", "web")
    for known in [name] if name in places else by_kind:
        place, kind, families = places[known]
        if taken.type == kind and taken.family in families:
            if kind == socket.SOCK_STREAM and not _listens(taken):
                raise ActivationError(f"{shown}: a stream socket that does not listen")
            taken.setblocking(False)
            place.append(taken)
            return
    raise ActivationError(f"{shown}: neither a datagram socket nor a stream that fits its name")


def _listens(taken: socket.socket) -> bool:
    return bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
