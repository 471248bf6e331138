"""client/vectors.json, the contract of all clients: event -> exact bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmstatsd.wire import parse_datagram
from llmstatsd_client import FIELDS, Client, encode
from llmstatsd_client.encoding import Encoder, finish, split
from llmstatsd_client.event import NUMBERS

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
CASES = VECTORS["cases"]
NOT_FINITE = {text: float(text) for text in ("NaN", "Infinity", "-Infinity")}

each_case = pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])


def event_of(case: dict[str, Any]) -> dict[str, Any]:
    return {
        field: NOT_FINITE.get(value, value)
        if field in FIELDS[NUMBERS] and isinstance(value, str)
        else value
        for field, value in case["event"].items()
    }


def datagrams_of(case: dict[str, Any]) -> list[bytes]:
    return [datagram.encode() for datagram in case["datagrams"]]


def test_there_are_at_least_80_cases() -> None:
    assert len(CASES) >= 80


@each_case
def test_encode_gives_the_exact_bytes(case: dict[str, Any]) -> None:
    encoded = encode(event_of(case), case.get("max_datagram_bytes", 1432))
    assert encoded.datagrams == datagrams_of(case)
    assert sorted(encoded.refused) == sorted(case.get("refused", []))


@each_case
def test_a_template_gives_the_same_bytes(case: dict[str, Any]) -> None:
    encoder, event = Encoder(), event_of(case)
    for _ in range(2):  # the first makes the template
        prepared, refused = encoder.prepare(tuple(event.get(field) for field in FIELDS))
        limit = case.get("max_datagram_bytes", 1432)
        assert list(split(finish(prepared), limit)) == datagrams_of(case)
        assert sorted(refused or []) == sorted(case.get("refused", []))


@each_case
def test_a_client_sends_the_exact_bytes(case: dict[str, Any], receiver: Any) -> None:
    with Client(port=receiver.port, max_datagram_bytes=case.get("max_datagram_bytes")) as client:
        client.send(**event_of(case))
    assert [datagram.encode() for datagram in receiver.waiting()] == datagrams_of(case)
    assert client.stats().refused_fields == len(case.get("refused", []))


@each_case
def test_the_daemon_reads_every_line(case: dict[str, Any]) -> None:
    for datagram in datagrams_of(case):
        for line in parse_datagram(datagram):
            assert line.reason is None
            assert line.notes == ()
            assert line.samples
