"""Rules on cardinality: what folds into `other`, and which budgets are nearly used up."""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from llmstatsd.config import options
from llmstatsd.doctor.facts import Facts
from llmstatsd.doctor.receiving import NEAR
from llmstatsd.doctor.report import Found, advice, problem
from llmstatsd.terminal import count, share

FEW_TIMES: Final = 3
"""An estimate of up to so many times the limit may well be names; far more are none."""

HEAVIEST_SHOWN: Final = 8

_DATED: Final = re.compile(
    r"""(?P<base> .+? ) - (?:
        (?P<year> 20\d\d ) -? (?: 0[1-9] | 1[0-2] ) -? (?: 0[1-9] | [12]\d | 3[01] )   # 2024-08-06
      | (?: 0[1-9] | 1[0-2] ) (?: 0[1-9] | [12]\d | 3[01] )                            # 0613
      | latest )""",
    re.VERBOSE,
)
"""A name of a model with the date of its version behind it, as providers write it."""

_MADE: Final = re.compile(
    r"[0-9a-f]{12,} | [0-9a-f]{8}-[0-9a-f]{4}- | \d{7,} | \s", re.VERBOSE | re.IGNORECASE
)
"""What ids, hashes, times and sentences have in them, and names of models have not."""


class Folding(NamedTuple):
    """A label that folds, in one series or several."""

    label: str
    series: list[str]
    values: int
    limit: int
    estimate: int
    heaviest: dict[str, int]


def folding(facts: Facts) -> Iterator[Found]:
    """Values become `other`: a problem above `folded_ratio` of all samples in one series."""
    for label, parts in _labels_that_fold(facts).items():
        yield _folds(facts, _together(label, parts))
    for reason in ("label_sets", "exposition_lines"):
        folded = {
            each["series"]: each["folded_samples"].get(reason, 0)
            for each in facts.cardinality["series"]
        }
        series = [name for name, number in folded.items() if number]
        if series:
            yield _folds_as_a_whole(facts, reason, series, sum(folded.values()))


def _labels_that_fold(facts: Facts) -> dict[str, list[tuple[str, Any]]]:
    found: dict[str, list[tuple[str, Any]]] = {}
    for each in facts.cardinality["series"]:
        for label in each["labels"]:
            if label["estimate"] is not None and each["folded_samples"].get("label_values"):
                found.setdefault(label["label"], []).append((each["series"], label))
    return found


def _together(label: str, parts: list[tuple[str, Any]]) -> Folding:
    heaviest: dict[str, int] = {}
    for _, part in parts:
        for heavy in part["heaviest"]:
            heaviest[heavy["value"]] = heaviest.get(heavy["value"], 0) + heavy["samples"]
    most = sorted(heaviest.items(), key=lambda item: -item[1])[:HEAVIEST_SHOWN]
    return Folding(
        label,
        [series for series, _ in parts],
        max(part["values"] for _, part in parts),
        parts[0][1]["values_limit"],
        max(part["estimate"] for _, part in parts),
        dict(most),
    )


def _folds(facts: Facts, found: Folding) -> Found:
    saw = [
        f"about {count(found.estimate)} values, {count(found.limit)} are allowed",
        f"in {', '.join(found.series)}",
    ]
    if found.heaviest:
        heavy = ", ".join(f"{value} ({count(n)})" for value, n in found.heaviest.items())
        saw.append(f"the heaviest in other, by samples: {heavy}")
    return _kind(facts, found.series)(
        f"values of the label {found.label} are counted as other", saw, list(_cures(found))
    )


def _kind(facts: Facts, series: list[str]) -> Callable[[str, list[str], list[str]], Found]:
    samples = max(1, facts.ladder["samples"])
    most = max(
        sum(each["folded_samples"].values()) / samples
        for each in facts.cardinality["series"]
        if each["series"] in series
    )
    return problem if most > facts.config.thresholds.folded_ratio else advice


def _cures(found: Folding) -> Iterator[str]:
    names = [
        value for value in found.heaviest if not _MADE.search(value) or _DATED.fullmatch(value)
    ]
    aliases = {pattern: base for value in names for pattern, base in _alias(value)}
    pinned = [value for value in names if not _DATED.fullmatch(value)]
    if aliases:
        lines = [f"{_toml(pattern)} = {_toml(base)}" for pattern, base in aliases.items()]
        yield "\n".join(["Bring versions of a model together:", f"[aliases.{found.label}]", *lines])
    if pinned:
        values = ", ".join(map(_toml, pinned))
        yield (
            "Pin what you know, beside what is pinned already:\n"
            f"[pinned]\n{found.label} = [{values}]"
        )
    if found.estimate <= FEW_TIMES * found.limit:
        more = _rounded(1.25 * found.estimate)
        yield (
            "Or allow more, with room for 15 error types of each model:\n"
            f"[limits]\n{_limit('label_values', more)}\n{_limit('label_sets', 15 * more)}"
        )
    else:
        yield (
            f"There are far too many for names: let the senders put no ids, prompts or users into"
            f" {found.label}; they belong in other."
        )
    yield "Then reload: kill -HUP, or systemctl reload llmstatsd."


def _alias(value: str) -> Iterator[tuple[str, str]]:
    dated = _DATED.fullmatch(value)
    if dated:
        yield (f"{dated['base']}-20*" if dated["year"] else value), dated["base"]


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _rounded(number: float) -> int:
    """The next number of two digits and zeros."""
    size = int(10.0 ** max(0, int(math.log10(max(1.0, number))) - 1))
    return math.ceil(number / size) * size


def _limit(name: str, wanted: int) -> str:
    """The line of TOML that sets a limit, within the option's range."""
    [option] = [option for option in options() if option.key == f"limits.{name}"]
    most = min(meta.le for meta in option.hint.__metadata__ if meta.le is not None)
    return f"{name} = {min(wanted, most)}"


_WHOLE: Final = {
    "label_sets": "combinations of labels",
    "exposition_lines": "lines of the exposition",
}


def _folds_as_a_whole(facts: Facts, reason: str, series: list[str], folded: int) -> Found:
    limit = facts.setting(f"limits.{reason}")
    return _kind(facts, series)(
        f"there are too many {_WHOLE[reason]}, so that whole label sets are counted as other",
        [f"{count(folded)} samples, in {', '.join(series)}", f"limits.{reason} is {limit}"],
        [
            (
                "Send fewer labels with many values, or allow more, and reload:\n"
                f"[limits]\n{_limit(reason, 2 * int(limit))}"
            )
        ],
    )


def budgets(facts: Facts) -> Iterator[Found]:
    """A budget is used to four fifths, and nothing has folded or been refused for it yet."""
    cardinality = facts.cardinality
    for name in ("exposition_lines", "undeclared_names"):
        held, limit = cardinality[name], cardinality[f"{name}_limit"]
        if limit and held >= NEAR * limit:
            yield advice(
                f"{name.replace('_', ' ')} are near their limit",
                [f"{count(held)} of {count(limit)}"],
                [
                    (
                        "See what makes them (llmstatsd top, cardinality), or allow more:\n"
                        f"[limits]\n{_limit(name, 2 * limit)}"
                    )
                ],
            )
    for each in cardinality["series"]:
        if each["label_sets"] >= NEAR * each["label_sets_limit"]:
            yield _near(each["series"], "label sets", each["label_sets"], each["label_sets_limit"])
        for label in each["labels"]:
            held, limit = label["values"], label["values_limit"]
            if held >= NEAR * limit and label["estimate"] is None:
                yield _near(each["series"], f"values of {label['label']}", held, limit)


def _near(series: str, what: str, held: int, limit: int) -> Found:
    name = "label_sets" if what == "label sets" else "label_values"
    return advice(
        f"{series} has nearly as many {what} as are allowed",
        [f"{count(held)} of {count(limit)}, {share(held / limit)}"],
        [
            (
                "Pin the values that dashboards and alerts name, so that they never fold; or allow"
                f" more:\n[limits]\n{_limit(name, 2 * limit)}"
            )
        ],
    )
