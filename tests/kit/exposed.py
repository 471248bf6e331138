"""Every sample that Prometheus stores of a daemon, as docs/reference/metrics.md lists them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmstatsd.config import Config
from llmstatsd.kit.recording import recording_rules

_METRICS: Final = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
_ROW: Final = re.compile(
    r"^\| `([a-z]+_\w+)` \| (counter|gauge|histogram|info) \| ([^|]*) \|", re.MULTILINE
)
_TARGET: Final = frozenset({"job", "instance"})


def _samples() -> Iterator[tuple[str, frozenset[str]]]:
    for name, kind, cell in _ROW.findall(_METRICS.read_text()):
        labels = _TARGET | set(re.findall(r"`(\w+)`", cell))
        if kind == "histogram":
            yield f"{name}_bucket", labels | {"le"}
            yield from ((f"{name}_{suffix}", labels) for suffix in ("count", "sum"))
        else:
            yield name, labels
    yield from ((name, _TARGET) for name in ("up", "scrape_duration_seconds"))


SAMPLES: Final = dict(_samples())
"""Labels by the name of each sample; those that Prometheus adds, and its own, included."""

_DOCUMENTED_RATES: Final = {
    "llm:request_rate_5m": "llm_request_total",
    "llm:error_rate_5m": "llm_error_total",
    "llm:token_rate_5m": "llm_tokens_total",
}


def _recorded_labels(record: str) -> frozenset[str]:
    if record in _DOCUMENTED_RATES:
        return SAMPLES[_DOCUMENTED_RATES[record]]
    level, metric, _ = record.split(":")
    labels = {"job"} | ({level} - {"job"})
    return frozenset(labels | {"le"} if metric.endswith("_bucket") else labels)


RECORDED: Final = {rule.record: _recorded_labels(rule.record) for rule in recording_rules(Config())}
"""Labels by the name of each recorded series, as the name says them."""
