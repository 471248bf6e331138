"""Argument beats variable beats default."""

from pathlib import Path
from typing import Any

import pytest

from llmstatsd_client import Client
from llmstatsd_client.settings import Nowhere, Udp, Unix, settings

KUBERNETES = "udp://10.0.0.1:8125"


@pytest.mark.parametrize(
    ("variables", "destination"),
    [
        ({}, Udp("127.0.0.1", 8125)),
        ({"LLMSTATSD_SOCKET": "/s", "LLMSTATSD_HOST": "h"}, Unix("/s")),
        ({"LLMSTATSD_HOST": "h", "LLMSTATSD_PORT": "1", "DD_AGENT_HOST": "d"}, Udp("h", 1)),
        ({"LLMSTATSD_HOST": "h", "DD_DOGSTATSD_PORT": "2"}, Udp("h", 8125)),
        ({"LLMSTATSD_PORT": "65535", "DD_AGENT_HOST": "d"}, Udp("127.0.0.1", 65535)),
        ({"DD_AGENT_HOST": "d", "STATSD_HOST": "s"}, Udp("d", 8125)),
        ({"DD_DOGSTATSD_PORT": "2", "STATSD_HOST": "s"}, Udp("127.0.0.1", 2)),
        ({"STATSD_HOST": "s", "STATSD_PORT": "3"}, Udp("s", 3)),
        ({"STATSD_PORT": "3"}, Udp("127.0.0.1", 3)),
        ({"LLMSTATSD_SOCKET": "", "LLMSTATSD_HOST": "", "STATSD_HOST": "s"}, Udp("s", 8125)),
        ({"LLMSTATSD_PORT": KUBERNETES}, Udp("127.0.0.1", 8125)),
        ({"LLMSTATSD_PORT": KUBERNETES, "DD_AGENT_HOST": "d"}, Udp("d", 8125)),
        ({"LLMSTATSD_PORT": KUBERNETES, "LLMSTATSD_HOST": "h"}, Udp("h", 8125)),
        ({"LLMSTATSD_PORT": "0", "STATSD_PORT": "3"}, Udp("127.0.0.1", 3)),
        ({"LLMSTATSD_PORT": "65536"}, Udp("127.0.0.1", 8125)),
        ({"LLMSTATSD_PORT": "-1"}, Udp("127.0.0.1", 8125)),
        ({"LLMSTATSD_PORT": "8_1"}, Udp("127.0.0.1", 8125)),
        ({"LLMSTATSD_PORT": "８１２５"}, Udp("127.0.0.1", 8125)),
        ({"LLMSTATSD_HOST": "[::1]"}, Udp("::1", 8125)),
    ],
    ids=str,
)
def test_the_first_variable_that_is_there_decides(
    variables: dict[str, str], destination: object
) -> None:
    assert settings(environ=variables).destination == destination


EVERY_VARIABLE = {"LLMSTATSD_SOCKET": "/s", "LLMSTATSD_HOST": "h", "LLMSTATSD_PORT": "1"}


@pytest.mark.parametrize(
    ("arguments", "destination"),
    [
        ({"socket": "/a"}, Unix("/a")),
        ({"socket": Path("/a")}, Unix("/a")),
        ({"socket": "\0abstract"}, Unix("\0abstract")),
        ({"socket": "/a", "host": "b"}, Unix("/a")),
        ({"host": "b"}, Udp("b", 8125)),
        ({"port": 5}, Udp("127.0.0.1", 5)),
        ({"port": "5"}, Udp("127.0.0.1", 5)),
        ({"host": "b", "port": 5}, Udp("b", 5)),
        ({"host": "", "socket": ""}, Unix("/s")),
    ],
    ids=str,
)
def test_an_argument_beats_every_variable(
    arguments: dict[str, object], destination: object
) -> None:
    assert settings(**arguments, environ=EVERY_VARIABLE).destination == destination


@pytest.mark.parametrize(
    "arguments",
    [
        *({"port": 0}, {"port": 65536}, {"port": -1}, {"port": 1.5}, {"port": "x"}),
        *({"port": True}, {"host": 5}, {"host": "a\0b"}, {"host": "a" * 254}, {"host": b"a"}),
        *({"socket": "/" + "a" * 107}, {"socket": "a\0"}, {"socket": 5}, {"socket": "\ud800"}),
    ],
    ids=str,
)
def test_an_invalid_argument_is_nowhere(arguments: dict[str, Any]) -> None:
    assert isinstance(settings(**arguments).destination, Nowhere)
    client = Client(**arguments)
    client.send()
    assert client.stats()._asdict() == {
        **dict.fromkeys(client.stats()._fields, 0),
        "events": 1,
        "dropped_unresolved": 1,
    }
    with pytest.raises(ValueError, match="must be"):
        Client(**arguments, strict=True)


def test_an_argument_that_raises_is_nowhere() -> None:
    class Evil:
        def __fspath__(self) -> str:
            raise ZeroDivisionError

        def __ne__(self, other: object) -> bool:
            raise ZeroDivisionError

        __hash__ = None  # type: ignore[assignment]

    for name in ("host", "port", "socket"):
        assert isinstance(settings(**{name: Evil()}).destination, Nowhere)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "Yes", "on"])
def test_a_variable_disables(text: str) -> None:
    assert settings(environ={"LLMSTATSD_DISABLE": text}).disabled
    assert not settings(disabled=False, environ={"LLMSTATSD_DISABLE": text}).disabled


@pytest.mark.parametrize("text", ["", "0", "false", "no", "off", "y", " 1"])
def test_another_text_does_not_disable(text: str) -> None:
    assert not settings(environ={"LLMSTATSD_DISABLE": text}).disabled
    assert settings(disabled=True, environ={"LLMSTATSD_DISABLE": text}).disabled


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ({}, 1432),
        ({"socket": "/s"}, 8192),
        ({"max_datagram_bytes": 512}, 512),
        ({"max_datagram_bytes": 512, "socket": "/s"}, 512),
        ({"max_datagram_bytes": 0}, 1432),
        ({"max_datagram_bytes": 65508}, 1432),
        ({"max_datagram_bytes": "512"}, 1432),
        ({"max_datagram_bytes": True}, 1432),
    ],
    ids=str,
)
def test_the_size_of_a_datagram_follows_the_destination(
    arguments: dict[str, Any], most: int
) -> None:
    assert settings(**arguments).max_datagram_bytes == most


def test_variables_are_read_when_the_client_is_made(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSTATSD_PORT", str(receiver.port))
    with Client() as client:
        client.send(model="m")
    assert receiver.receive() == "llm_request_total:1|c|#model:m"


def test_a_disabled_client_counts_and_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSTATSD_DISABLE", "on")
    client = Client(strict=True)
    client.send(model="m")
    with client.request(model="m"):
        pass
    assert client._sender._socket is None
    assert client.stats() == (2, *[0] * 8)
