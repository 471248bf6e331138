"""A provider on loopback, and a client of the daemon that counts the calls of it."""

from collections.abc import Iterator

import pytest

from llmstatsd_client import Client
from tests.client.sdks.provider import Provider
from tests.conftest import RunningDaemon


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of models, for one test."""
    running = Provider()
    yield running
    running.stop()


@pytest.fixture
def metrics(daemon: RunningDaemon) -> Iterator[Client]:
    """A client that sends to the daemon, and raises what goes wrong."""
    with Client(port=daemon.udp[1], strict=True) as client:
        yield client
