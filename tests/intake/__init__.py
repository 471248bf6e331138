"""What the tests of the intake share: an intake of either lane that hands over what it takes."""

import importlib
from collections.abc import Callable, Sequence
from typing import Final

from llmstatsd.intake.lanes import LaneIntake
from llmstatsd.intake.sockets import DatagramSocket
from llmstatsd.intake.udp import UdpIntake
from tests import twins

DEADLINE_SECONDS: Final = 20.0

Intake = UdpIntake | LaneIntake
Feed = Callable[[Sequence[bytes]], None]


def ignore(_: Sequence[bytes]) -> None:
    """Feed nothing."""


def intake_of(lane: str, sockets: Sequence[DatagramSocket], feed: Feed) -> Intake:
    """An intake of a lane; in the compiled one, `feed` is called in its thread."""
    if lane == twins.PORTABLE:
        return UdpIntake(sockets, feed)
    compiled = importlib.import_module("llmstatsd.intake.compiled")
    return LaneIntake(sockets, [compiled.Callback(feed) for _ in sockets])
