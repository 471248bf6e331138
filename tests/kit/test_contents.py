"""The kit as a whole: what `configs/` holds is what the command writes."""

import json
from pathlib import Path, PurePosixPath

import msgspec
import pytest
import yaml

from llmstatsd.config import Config, Option, load, options
from llmstatsd.kit import folder
from llmstatsd.kit.contents import contents
from llmstatsd.kit.document import Document

CONFIGS = Path(__file__).parents[2] / "configs"
DOCUMENTS = contents(Config())

HAND_WRITTEN = {"llmstatsd.toml", "web-security.yml"}
"""What lies in `configs/` and is not of the kit."""

OTHER_VALUES = {
    "error_rate": 0.35,
    "error_ratio": 0.085,
    "latency_seconds": 20.0,
    "objective_ratio": 0.995,
    "minimum_requests": 77,
    "rate_limited_ratio": 0.15,
    "fallback_ratio": 0.25,
    "model_load_seconds": 60.0,
    "saturated_ratio": 0.035,
    "dropped_ratio": 0.0075,
    "refused_ratio": 0.045,
    "folded_ratio": 0.065,
    "scrape_duration_seconds": 2.25,
    "runbooks_url": "https://runbooks.example/llm/",
}
KIT_OPTIONS = [option for option in options() if option.is_kit]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.path)
def test_a_file_in_configs_is_what_the_kit_writes_for_the_defaults(document: Document) -> None:
    assert (CONFIGS / document.path).read_text("utf-8") == document.text


def test_configs_holds_the_kit_and_its_sums_and_nothing_else() -> None:
    found = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*") if path.is_file()}
    assert found == {document.path for document in DOCUMENTS} | HAND_WRITTEN | {folder.SUMS}
    sums = folder.sums({document.path: document.text.encode() for document in DOCUMENTS})
    assert (CONFIGS / folder.SUMS).read_text() == sums


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.path)
def test_a_document_is_text_with_a_plain_relative_path(document: Document) -> None:
    path = PurePosixPath(document.path)
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert document.text.endswith("\n")
    assert not document.text.endswith("\n\n")
    assert not [line for line in document.text.splitlines() if line != line.rstrip()]
    if path.suffix == ".json":
        assert json.loads(document.text)
    elif path.suffix in {".yml", ".yaml"}:
        assert document.text.startswith("# ")
        assert all(yaml.safe_load_all(document.text))


def test_no_two_documents_have_the_same_path() -> None:
    assert len({document.path for document in DOCUMENTS}) == len(DOCUMENTS)


@pytest.mark.parametrize("option", KIT_OPTIONS, ids=lambda option: option.key)
def test_every_option_of_the_kit_changes_what_is_written(option: Option) -> None:
    changed = contents(load(None, {}, {option.flag: str(OTHER_VALUES[option.name])}))
    different = [new.path for new, old in zip(changed, DOCUMENTS, strict=True) if new != old]
    assert "prometheus/alert-rules.yml" in different


def test_other_buckets_change_the_rules_that_stand_on_them() -> None:
    with_buckets = {"series": {"llm_request_duration_seconds": {"buckets": [1, 10, 77.5]}}}
    config = msgspec.convert(with_buckets, Config)
    text = {document.path: document.text for document in contents(config)}
    assert 'le="77.5"' in text["prometheus/alert-rules.yml"]
    assert 'le="600.0"}[15m]' in text["prometheus/alert-rules.yml"]  # of llm_total_duration_seconds
