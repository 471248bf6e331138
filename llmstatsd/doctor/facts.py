"""What the rules look at: the documents of a daemon and those samples of its scrape that count."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from llmstatsd.ask import AskError, Daemon, Document
from llmstatsd.catalog import CATALOG
from llmstatsd.config import Config

HISTOGRAMS: Final = tuple(name for name, one in CATALOG.items() if one.type == "histogram")

_OWN_SAMPLES: Final = (
    "llmstatsd_cache_entries",
    "llmstatsd_cache_entries_limit",
    "llmstatsd_cache_misses_total",
    "llmstatsd_config_last_reload_success_timestamp_seconds",
    "llmstatsd_config_reload_success",
    "llmstatsd_label_sets_limit",
    "llmstatsd_lane_failures_total",
    "llmstatsd_last_scrape_duration_seconds",
    "llmstatsd_scrape_seconds_total",
    "llmstatsd_scrapes_total",
    "llmstatsd_state_last_write_timestamp_seconds",
    "llmstatsd_state_write_failures_total",
    "llmstatsd_tcp_open_connections_limit",
)

DOCUMENTS: Final = ("summary", "cardinality", "refused", "settings")

QUESTIONS: Final = len(DOCUMENTS) + 1
"""The documents, and a scrape."""

SAMPLES: Final = (
    *_OWN_SAMPLES,
    *(f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum")),
)
"""Samples that are asked for; a scrape as a whole may be long."""

Labels = Mapping[str, str]


class Histogram(Struct, frozen=True):
    """A histogram of one model or of all: `counts` by bucket, one more than finite `bounds`."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float

    @property
    def count(self) -> float:
        """Observations."""
        return sum(self.counts)

    @property
    def above(self) -> float:
        """Share of them above the last finite bound."""
        return self.counts[-1] / self.count if self.count else 0.0


class Facts(Struct, frozen=True):
    """All that is known of a daemon at one time.

    `samples` maps a sample's name to its label sets and values. `config` holds the thresholds;
    it is the one of `file` where one is given. `own_lane` is what a daemon of this installation
    would run.
    """

    url: str
    summary: Document
    cardinality: Document
    refused: Document
    settings: Document
    samples: Mapping[str, list[tuple[Labels, float]]]
    config: Config = Config()
    file: Path | None = None
    own_lane: str = ""

    def value(self, name: str, **labels: str) -> float:
        """The sum of a series' samples that have these labels; 0 where there are none."""
        return sum(
            value
            for has, value in self.samples.get(name, ())
            if all(has.get(label) == wanted for label, wanted in labels.items())
        )

    def setting(self, option: str) -> Any:
        """An option in force, None where the daemon has none of that name."""
        for each in self.settings["settings"]:
            if each["option"] == option:
                try:
                    return json.loads(each["value"])
                except ValueError:  # cut short
                    return each["value"]
        return None

    @property
    def ladder(self) -> Document:
        """From datagrams to samples."""
        ladder: Document = self.summary["ladder"]
        return ladder

    @property
    def uptime_seconds(self) -> float:
        """Since the daemon started."""
        return float(self.summary["about"]["uptime_seconds"])

    def histogram(self, name: str) -> Histogram | None:
        """All models of a documented histogram together; None where nothing came."""
        parts = list(self.histograms(name).values())
        if not parts:
            return None
        counts = tuple(map(sum, zip(*(part.counts for part in parts), strict=True)))
        return Histogram(parts[0].bounds, counts, sum(part.sum for part in parts))

    def histograms(self, name: str) -> dict[str, Histogram]:
        """The same by model."""
        below: dict[str, dict[float, float]] = {}
        for labels, value in self.samples.get(f"{name}_bucket", ()):
            one = below.setdefault(labels.get("model", ""), {})
            bound = float(labels["le"])
            one[bound] = one.get(bound, 0.0) + value
        return {
            model: self._one(name, model, cumulative)
            for model, cumulative in below.items()
            if max(cumulative.values()) > 0
        }

    def _one(self, name: str, model: str, cumulative: dict[float, float]) -> Histogram:
        bounds = sorted(cumulative)
        totals = [0.0, *(cumulative[bound] for bound in bounds)]
        counts = tuple(max(0.0, high - low) for low, high in pairwise(totals))
        labels = {"model": model} if model else {}
        finite = tuple(bound for bound in bounds if math.isfinite(bound))
        return Histogram(finite, counts, self.value(f"{name}_sum", **labels))


def _tell_nobody(what: str) -> None:
    pass


def gather(
    daemon: Daemon,
    config: Config | None = None,
    file: Path | None = None,
    own_lane: str = "",
    tell: Callable[[str], None] = _tell_nobody,
) -> Facts:
    """Ask for everything, once; `tell` is told what is asked for next. Raises AskError."""
    documents = {}
    for what in DOCUMENTS:
        tell(what)
        documents[what] = daemon.document(what)
    tell("metrics")
    return Facts(
        url=daemon.url,
        **documents,
        samples=_samples(daemon.text("/metrics", **{"name[]": list(SAMPLES)})),
        config=config or Config(),
        file=file,
        own_lane=own_lane,
    )


def _samples(text: str) -> dict[str, list[tuple[Labels, float]]]:
    found: dict[str, list[tuple[Labels, float]]] = {}
    try:
        for name, labels, value in _parsed(text):
            found.setdefault(name, []).append((labels, value))
    except ValueError as error:
        text = f"what /metrics answers is no text of Prometheus: {error}"
        raise AskError(text, is_answered=True) from error
    return found


def _parsed(text: str) -> Iterator[tuple[str, Labels, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, float(sample.value)
