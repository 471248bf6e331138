"""Rules on buckets: whether they hold what comes, and whether thresholds stand on them."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from llmstatsd.catalog import CATALOG
from llmstatsd.config import BUCKETS_LIMIT, on_bounds
from llmstatsd.doctor.facts import HISTOGRAMS, Facts, Histogram
from llmstatsd.doctor.report import Found, advice, problem
from llmstatsd.terminal import count, seconds, share

ENOUGH: Final = 1000
"""Observations from which on the shape of a histogram says something."""

FIRST_HOLDS: Final = 0.99
"""Share in the first bucket from which on no quantile is known."""

ONE_HOLDS: Final = 0.5
"""Share in one bucket from which on it is worth being split."""

MILLISECONDS_SENT: Final = 1000.0
"""A mean of more seconds than this, with most above the last bound, is milliseconds."""


def saturated(facts: Facts) -> Iterator[Found]:
    """More than `saturated_ratio` lies above the last bound, or nearly all in the first bucket."""
    for name in HISTOGRAMS:
        whole = facts.histogram(name)
        if whole is None or whole.count < ENOUGH:
            continue
        if whole.above > facts.config.thresholds.saturated_ratio:
            yield _above(facts, name, whole)
        elif whole.counts[0] / whole.count >= FIRST_HOLDS:
            yield _all_in_the_first(facts, name, whole)


def _above(facts: Facts, name: str, whole: Histogram) -> Found:
    mean = whole.sum / whole.count
    by_model = {model: one.counts[-1] for model, one in facts.histograms(name).items()}
    most = sorted(by_model.items(), key=lambda item: -item[1])[:3]
    do = []
    if mean > MILLISECONDS_SENT:
        do.append(
            "Milliseconds are probably sent as seconds: the type ms takes milliseconds; h, d and"
            " the event's fields take seconds."
        )
    do.append(_setting(facts, name, whole))
    return problem(
        f"{name} is saturated: its quantiles are no higher than {seconds(whole.bounds[-1])},"
        " whatever happens",
        [
            f"{share(whole.above)} of {count(whole.count)} observations are above the last bound",
            f"the mean is {seconds(mean)}",
            f"most by {', '.join(f'{model} ({count(number)})' for model, number in most)}",
        ],
        do,
    )


def _all_in_the_first(facts: Facts, name: str, whole: Histogram) -> Found:
    part = whole.counts[0] / whole.count
    return advice(
        f"{name} tells nothing: nearly everything is in its first bucket",
        [
            (
                f"{share(part)} of {count(whole.count)} observations are up to"
                f" {seconds(whole.bounds[0])}"
            ),
            f"the mean is {seconds(whole.sum / whole.count)}",
        ],
        [
            "See whether seconds are sent as milliseconds (type ms takes milliseconds).",
            _setting(facts, name, whole),
        ],
    )


def empty(facts: Facts) -> Iterator[Found]:
    """Half of the buckets never fill and could be others, once there are enough observations."""
    for name in HISTOGRAMS:
        whole = facts.histogram(name)
        if whole is None or whole.count < ENOUGH:
            continue
        unused = [
            bound
            for bound, number in zip(whole.bounds, whole.counts[:-1], strict=True)
            if not number
        ]
        is_said = whole.counts[0] / whole.count >= FIRST_HOLDS or whole.above > 0.01
        spare = set(unused) - set(suggested(whole, _kept(facts, name)))
        if len(spare) * 2 < len(whole.bounds) or is_said:
            continue
        yield advice(
            f"most buckets of {name} never fill, and the others are coarse",
            [
                (
                    f"{len(unused)} of {len(whole.bounds)} hold none of"
                    f" {count(whole.count)} observations"
                ),
                f"the fullest one holds {share(max(whole.counts) / whole.count)}",
            ],
            [_setting(facts, name, whole)],
        )


def _kept(facts: Facts, name: str) -> set[float]:
    """Bounds that thresholds and the documented alert stand on."""
    keep = {float(option.value(facts.config)) for option, series in on_bounds() if series == name}
    kept = CATALOG[name].kept_bound
    return keep | ({kept} if kept else set())


def _setting(facts: Facts, name: str, whole: Histogram) -> str:
    bounds = suggested(whole, _kept(facts, name))
    return (
        "Bounds that fit what came, for the daemon and the kit (the history of the old ones stays"
        " in Prometheus):\n"
        f'[series."{name}"]\nbuckets = [{", ".join(f"{bound:g}" for bound in bounds)}]'
    )


def suggested(whole: Histogram, keep: set[float]) -> list[float]:
    """Bounds around what came: full buckets are split, empty ones joined, `keep` stays.

    A threshold has to stand below the last bound, so each of `keep` has the next one above it.
    """
    bounds = set(keep)
    for kept in keep:
        bounds.add(min((bound for bound in whole.bounds if bound > kept), default=2 * kept))
    limits = (0.0, *whole.bounds)
    for (low, high), number in zip(pairwise(limits), whole.counts[:-1], strict=True):
        if number:
            bounds |= {low, high}
        if number >= ONE_HOLDS * whole.count:
            bounds |= _between(low, high)
    if whole.counts[-1]:
        last = whole.bounds[-1]
        bounds |= {last, *(_rounded(last * times) for times in (1.5, 2, 3, 5))}
    bounds.discard(0.0)
    return sorted(bounds)[:BUCKETS_LIMIT]


def _between(low: float, high: float) -> set[float]:
    """Three bounds inside a bucket; those of the first one come closer to nothing."""
    if low == 0.0:
        return {_rounded(high / parts) for parts in (2, 5, 10, 50)}
    step = (high - low) / 4
    return {_rounded(low + step * at) for at in (1, 2, 3)}


def _rounded(number: float) -> float:
    """Three digits, as people would write a bound."""
    return round(number, 2 - math.floor(math.log10(number)))


def thresholds(facts: Facts) -> Iterator[Found]:
    """Thresholds of the file for the kit that stand on no bound of the daemon's buckets."""
    if facts.file is None:
        return
    for option, series in on_bounds():
        value = option.value(facts.config)
        whole = facts.histogram(series)
        if whole is not None and value not in whole.bounds[:-1]:
            bounds = ", ".join(f"{bound:g}" for bound in whole.bounds[:-1])
            yield problem(
                f"{option.key} stands on no bucket bound of the daemon: the alert is not exact,"
                " or never fires",
                [f"{value:g} in {facts.file}", f"bounds of {series} below the last: {bounds}"],
                [
                    (
                        "Give the daemon the file that the kit was written with, or choose one of"
                        " these bounds and write the kit again: llmstatsd kit --config FILE"
                    )
                ],
            )
