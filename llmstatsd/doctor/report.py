"""What was found, for people and for scripts."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from llmstatsd.doctor.facts import Facts
from llmstatsd.terminal import plain, span

VERSION: Final = 1
"""Of the JSON report; it grows when a field changes its meaning or goes."""

Severity = Literal["problem", "advice"]


class Found(Struct, frozen=True):
    """One thing: what is so in plain words, the numbers that show it, and what to do.

    An item of `do` is a sentence, or lines to be taken as they are: of TOML or of a shell.
    """

    severity: Severity
    says: str
    saw: Sequence[str] = ()
    do: Sequence[str] = ()


Rule = Callable[[Facts], Iterable[Found]]


def problem(says: str, saw: Sequence[str] = (), do: Sequence[str] = ()) -> Found:
    """Something is lost, wrong or about to break."""
    return Found("problem", says, saw, do)


def advice(says: str, saw: Sequence[str] = (), do: Sequence[str] = ()) -> Found:
    """It works, and could work better."""
    return Found("advice", says, saw, do)


class Finding(Struct, frozen=True):
    """What a check found, with its name as docs/how-to/doctor.md has it."""

    name: str
    severity: Severity
    says: str
    saw: list[str]
    do: list[str]


class Report(Struct, frozen=True):
    """All of it: problems first; `right` are the checks that found nothing."""

    version: int
    url: str
    daemon: str
    findings: list[Finding]
    right: list[str]

    @property
    def problems(self) -> int:
        """How many of the findings are problems."""
        return sum(finding.severity == "problem" for finding in self.findings)

    def json(self) -> str:
        """For scripts."""
        return json.dumps(msgspec.to_builtins(self))

    def text(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield plain(self.daemon or self.url)
        yield ""
        for finding in self.findings:
            yield f"{finding.severity.upper()} {finding.name}: {plain(finding.says)}"
            yield from (f"    saw: {plain(each)}" for each in finding.saw)
            for each in finding.do:
                first, *others = each.split("\n")
                yield f"    do:  {plain(first)}"
                yield from (f"         {plain(other)}" for other in others)
            yield ""
        if self.right:
            yield f"found right: {', '.join(self.right)}"
        advised = len(self.findings) - self.problems
        if not self.findings:
            yield "nothing is wrong"
        else:
            yield f"{_counted(self.problems, 'problem')}, {_counted(advised, 'advice')}"


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' if number > 1 and what == 'problem' else ''}"


def report(facts: Facts, checks: dict[str, Rule]) -> Report:
    """What the checks find."""
    findings: list[Finding] = []
    right = []
    for name, rule in checks.items():
        found = [
            Finding(name, each.severity, each.says, list(each.saw), list(each.do))
            for each in rule(facts)
        ]
        findings += found
        if not found:
            right.append(name)
    findings.sort(key=lambda finding: finding.severity != "problem")
    about = facts.summary["about"]
    daemon = (
        f"llmstatsd {about['version']} at {facts.url}: {about['lane']} lane,"
        f" up {span(about['uptime_seconds'])}"
    )
    return Report(VERSION, facts.url, daemon, findings, right)


_NOBODY: Final = (
    "See whether it runs, and what it logged: systemctl status llmstatsd, or docker logs."
)
_SOMEBODY: Final = (
    "See what listens there, whether it is a daemon of this command's version, and whether it wants"
    " a password."
)


def unreachable(url: str, why: str, *, is_answered: bool) -> Report:
    """There is nothing to look at: nobody is there, or somebody who does not tell."""
    finding = Finding(
        "reachable",
        "problem",
        "what answers is no daemon, or does not tell" if is_answered else "no daemon answers",
        [why],
        [
            _SOMEBODY if is_answered else _NOBODY,
            "If it listens elsewhere, name it: llmstatsd doctor --url http://HOST:2112",
        ],
    )
    return Report(VERSION, url, "", [finding], [])
