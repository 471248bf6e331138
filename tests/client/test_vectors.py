"""The vectors that every client meets: the daemon takes each datagram as it is meant."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from llmstatsd.catalog import CATALOG, ERROR_TYPES
from llmstatsd.config import Config, load
from llmstatsd.wire.datagram import parse_datagram
from llmstatsd.wire.statsd import Sample

VECTORS: Final = Path(__file__).parents[2] / "client" / "vectors.json"
CASES: Final[list[dict[str, Any]]] = json.loads(VECTORS.read_text("utf-8"))["cases"]
DATAGRAM_BYTES: Final = 1432

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def samples(case: dict[str, Any]) -> list[Sample]:
    read = [line for text in case["datagrams"] for line in parse_datagram(text.encode())]
    assert [(line.reason, line.notes, line.set_aside) for line in read] == [(None, (), None)] * len(
        read
    )
    return [sample for line in read for sample in line.samples]


@each_case
def test_the_daemon_takes_every_line_without_a_remark(case: dict[str, Any]) -> None:
    for sample in samples(case):
        documented = CATALOG[sample.name]
        assert sample.type == ("c" if documented.type == "counter" else "ms")
        assert {label for label, _ in sample.tags} <= set(documented.labels)


@each_case
def test_each_series_is_met_once(case: dict[str, Any]) -> None:
    names = [sample.name for sample in samples(case)]
    assert names[0] == "llm_request_total"
    assert len(set(names)) == len(names)


@each_case
def test_a_datagram_is_not_too_long_and_takes_what_fits(case: dict[str, Any]) -> None:
    most = case.get("max_datagram_bytes", DATAGRAM_BYTES)
    texts = case["datagrams"]
    assert all(text and not text.endswith("\n") for text in texts)
    assert all(len(text.encode()) <= most or "\n" not in text for text in texts)
    for text, following in pairwise(texts):
        assert len(f"{text}\n{following.partition(chr(10))[0]}".encode()) > most


FIELDS: Final = {
    "llm_request_duration_seconds": "duration_seconds",
    "llm_prompt_tokens_total": "prompt_tokens",
    "llm_completion_tokens_total": "completion_tokens",
    "llm_cached_tokens_total": "cached_tokens",
    "llm_cost_dollars_total": "cost_dollars",
    "llm_model_load_duration_seconds": "load_duration_seconds",
    "llm_prompt_eval_duration_seconds": "prompt_eval_duration_seconds",
    "llm_total_duration_seconds": "total_duration_seconds",
    "llm_time_to_first_token_seconds": "time_to_first_token_seconds",
    "llm_time_per_output_token_seconds": "time_per_output_token_seconds",
}


@each_case
def test_an_amount_is_the_event_s_to_the_microsecond(case: dict[str, Any]) -> None:
    given = {sample.name: sample.value for sample in samples(case)}
    refused = set(case.get("refused", []))
    for name, field in FIELDS.items():
        amount = case["event"].get(field)
        if amount is None or field in refused:
            assert name not in given
        else:
            value = given[name]
            assert isinstance(value, float)
            assert math.isclose(value, amount, rel_tol=1e-15, abs_tol=0.5000001e-6)


@each_case
def test_labels_are_those_of_the_event_cut_and_made_safe(case: dict[str, Any]) -> None:
    for label in ("model", "operation"):
        found = {dict(sample.tags).get(label) for sample in samples(case)} - {None}
        given = case["event"].get(label)
        if not given or label in case.get("refused", []):
            assert not found
        else:
            (value,) = found
            assert value is not None
            assert len(value) == min(len(given), 128)
            assert all(mine in (theirs, "_") for mine, theirs in zip(value, given, strict=False))
    for sample in samples(case):
        assert dict(sample.tags).get("type", "other") in ERROR_TYPES


def test_there_are_enough_cases_of_every_kind() -> None:
    assert len(CASES) >= 80
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert sum("refused" in case for case in CASES) > 20
    assert sum(len(case["datagrams"]) > 1 for case in CASES) > 2


@pytest.mark.parametrize("name", ["HOST", "PORT", "SOCKET", "DISABLE"])
def test_the_daemon_leaves_the_clients_variables_alone(name: str) -> None:
    assert load(None, {f"LLMSTATSD_{name}": "x"}, {}) == Config()
