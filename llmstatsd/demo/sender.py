"""One of the demo's applications: a process that reports its calls by the Python client.

    python -m llmstatsd.demo.sender PLAN

PLAN is a `Plan` in JSON. It ends by itself if the plan has an end, with 0.
"""

import itertools
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from llmstatsd.demo.traffic import Call, Line, traffic
from llmstatsd_client import Client

LATE_SECONDS: Final = 2.0
"""Who is later than that, as after a laptop's sleep, leaves out the pause and hurries no more."""


class Whole(msgspec.Struct, frozen=True):
    """What all senders of a demo send together; `seconds` is None for one without an end."""

    seed: int
    rate: float
    story_seconds: float
    seconds: float | None = None


class Plan(msgspec.Struct, frozen=True):
    """What one of them sends, and where to: every `senders`-th of all, the `index`-th first."""

    host: str
    port: int
    whole: Whole
    index: int
    senders: int


def everything(whole: Whole) -> Iterator[Call | Line]:
    """What is sent by all of them, in order."""
    calls = traffic(whole.seed, whole.rate, whole.story_seconds)
    end = whole.seconds
    return calls if end is None else itertools.takewhile(lambda each: each.at_seconds < end, calls)


def send(plan: Plan) -> None:
    """Send everything at its time."""
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with (
        Client(host=plan.host, port=plan.port, disabled=False) as client,
        socket.socket(family, socket.SOCK_DGRAM) as old_client,
    ):
        started = time.monotonic()
        for each in itertools.islice(everything(plan.whole), plan.index, None, plan.senders):
            wait = started + each.at_seconds - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            elif wait < -LATE_SECONDS:
                started -= wait
            if isinstance(each, Call):
                client.send(**each.event)
            else:
                old_client.sendto(each.data, (plan.host, plan.port))


if __name__ == "__main__":
    send(msgspec.json.decode(sys.argv[1], type=Plan))
