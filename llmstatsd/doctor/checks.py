"""All checks, by the names that reports and docs/how-to/doctor.md give them."""

from typing import Final

from llmstatsd.ask import understood
from llmstatsd.doctor import buckets, labels, receiving, running
from llmstatsd.doctor.facts import Facts
from llmstatsd.doctor.report import Report, Rule, report

CHECKS: Final[dict[str, Rule]] = {
    "ready": running.ready,
    "arrivals": receiving.arrivals,
    "kernel-drops": receiving.kernel_drops,
    "queue": receiving.queue,
    "receive-buffer": receiving.receive_buffer,
    "lane": receiving.lane,
    "refused-datagrams": receiving.refused_datagrams,
    "refused-lines": receiving.refused_lines,
    "notes": receiving.notes,
    "tcp": receiving.tcp,
    "cache": receiving.cache,
    "folding": labels.folding,
    "budgets": labels.budgets,
    "buckets-saturated": buckets.saturated,
    "buckets-empty": buckets.empty,
    "thresholds": buckets.thresholds,
    "scrapes": running.scrapes,
    "reload": running.reload,
    "state-file": running.state_file,
    "file-differs": running.file_differs,
}


def diagnose(facts: Facts) -> Report:
    """What all checks find. Raises AskError where the answers are not of the shape they have."""
    return understood(lambda: report(facts, CHECKS))
