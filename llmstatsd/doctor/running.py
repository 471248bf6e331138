"""Rules on the process: readiness, scrapes, its configuration and its state file."""

from collections.abc import Iterator
from typing import Final

from llmstatsd import config
from llmstatsd.doctor.facts import Facts
from llmstatsd.doctor.receiving import YOUNG_SECONDS
from llmstatsd.doctor.report import Found, advice, problem
from llmstatsd.terminal import count, seconds, span

SELDOM_SECONDS: Final = 300.0
"""A scrape in so long is as good as none: after five minutes Prometheus takes a series for gone.

Who asks the daemon by this command is counted as a scrape too.
"""

DIFFERENCES_SHOWN: Final = 20
"""Most differences between a file and the daemon that are told one by one."""

WRITINGS_MISSED: Final = 3
"""Intervals of the state file without a writing after which it is late."""


def ready(facts: Facts) -> Iterator[Found]:
    """The daemon answers and takes nothing in."""
    if not facts.summary["about"]["is_ready"]:
        yield problem(
            "the daemon is not ready: it takes no datagrams in",
            [f"it has been up for {span(facts.uptime_seconds)}"],
            ["Wait if it has just started or is ending; else look in its log, and restart it."],
        )


def scrapes(facts: Facts) -> Iterator[Found]:
    """Scrapes take longer than `scrape_duration_seconds`, or nobody scrapes."""
    number = facts.value("llmstatsd_scrapes_total")
    last = facts.value("llmstatsd_last_scrape_duration_seconds")
    mean = facts.value("llmstatsd_scrape_seconds_total") / number if number else 0.0
    limit = facts.config.thresholds.scrape_duration_seconds
    if max(last, mean) > limit:
        yield problem(
            "scrapes take long; Prometheus gives up after its scrape_timeout, 10 s by default",
            [
                (
                    f"the last one {seconds(last)}, the mean of {count(number)} {seconds(mean)};"
                    f" the threshold is {seconds(limit)}"
                ),
                f"{count(facts.cardinality['exposition_lines'])} lines",
            ],
            [
                "Fewer lines: lower [limits] exposition_lines or label_values, or fewer buckets.",
                "See whether the network or the reader is slow: that time is counted too.",
            ],
        )
    elif facts.uptime_seconds > max(YOUNG_SECONDS, number * SELDOM_SECONDS):
        yield advice(
            "nobody scrapes the daemon, or seldom",
            [f"{count(number)} scrapes in {span(facts.uptime_seconds)}"],
            [
                (
                    "Add it to Prometheus:\n"
                    "scrape_configs:\n  - job_name: llmstatsd\n    static_configs:\n"
                    f'      - targets: ["{facts.url.partition("://")[2]}"]'
                )
            ],
        )


def reload(facts: Facts) -> Iterator[Found]:
    """The last reload failed."""
    if ("llmstatsd_config_reload_success" in facts.samples) and not facts.value(
        "llmstatsd_config_reload_success"
    ):
        since = facts.value("llmstatsd_config_last_reload_success_timestamp_seconds")
        yield problem(
            "the last reload failed, and the configuration of before is in force",
            [f"it was loaded {span(max(0.0, facts.summary['time'] - since))} ago"],
            ["See what is wrong with the file, and reload again:\nllmstatsd check FILE"],
        )


def state_file(facts: Facts) -> Iterator[Found]:
    """Writings of the state file fail, or the last one is long ago."""
    failures = facts.value("llmstatsd_state_write_failures_total")
    last = facts.value("llmstatsd_state_last_write_timestamp_seconds")
    path = facts.setting("state.path")
    if not (failures or last or path):
        return
    interval = float(facts.setting("state.interval_seconds") or 10.0)
    since = facts.summary["time"] - last if last else facts.uptime_seconds
    is_late = since > WRITINGS_MISSED * interval
    if not (failures or is_late):
        return
    kind = problem if is_late else advice
    yield kind(
        "the state file is not written: a restart would lose what came since"
        if is_late
        else "writing the state file failed before, and works again",
        [
            f"{path or 'the file of $STATE_DIRECTORY'}: {count(failures)} writings failed",
            f"the last one that went well was {span(max(0.0, since))} ago" if last else "none yet",
        ],
        ["See why in its log, and whether its folder exists, is writable and has room (df)."],
    )


def file_differs(facts: Facts) -> Iterator[Found]:
    """The daemon runs by other values than the file that was given."""
    if facts.file is None:
        return
    in_force = {each["option"]: each["value"] for each in facts.settings["settings"]}
    other = [
        f"{option.key} is {in_force[option.key]}, and {config.shown(value)} in the file"
        for option, value in config.changed(facts.config)
        if in_force.get(option.key, config.shown(value)) != config.shown(value)
    ]
    other += _other_entries(facts, facts.config)
    if other:
        yield advice(
            "the daemon does not run by this file alone",
            _first(other),
            [
                (
                    "Reload it (kill -HUP), or restart it; flags and variables beat the file, and"
                    " some options need a restart: docs/explanation/reliability.md#reload"
                )
            ],
        )


def _other_entries(facts: Facts, file: config.Config) -> Iterator[str]:
    """Entries of tables that the daemon has not, or other ones; beyond those it shows, none."""
    in_force = {each["entry"]: each["value"] for each in facts.settings["entries"]}
    is_all = facts.settings["entries_total"] == len(in_force)
    for entry, ours in config.entries(file):
        there = in_force.pop(entry, None)
        if there is not None and there != ours:
            yield f"{entry} is {there}, and {ours} in the file"
        elif there is None and is_all:
            yield f"{entry} is in the file alone"
    for entry in in_force:
        yield f"{entry} is in force, and not in the file"


def _first(texts: list[str]) -> list[str]:
    more = len(texts) - DIFFERENCES_SHOWN
    return texts if more <= 0 else [*texts[:DIFFERENCES_SHOWN], f"and {count(more)} more"]
