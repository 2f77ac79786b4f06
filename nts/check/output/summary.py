# SPDX-License-Identifier: MIT
"""What all outputs say about a run: the target, the results, the counts, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nts.base.errors import ExitCode
from nts.check.facts import Facts
from nts.check.findings import counted
from nts.check.model import Check, Grade, Result, Severity
from nts.check.output.text import duration

TOOL = "nts_check"
CANNOT_SAY = 3  # no other tool of the suite uses this exit code
INTERRUPTED = 130  # the shell's exit code for Ctrl-C
ORDER = (Grade.PASS, Grade.WARN, Grade.FAIL, Grade.PATH, Grade.SKIP)
"""how people see verdicts counted"""
GRAVITY = (Grade.FAIL, Grade.PATH, Grade.WARN, Grade.SKIP, Grade.PASS)
"""what to look at first"""

R = TypeVar("R", bound=Result[Any])
C = TypeVar("C", bound=Check[Any])


@dataclass(frozen=True)
class Report:
    """A run, finished or interrupted."""

    command: str
    """the subcommand: server or client"""
    target: str
    started_ns: int
    """Unix time"""
    seed: int | None
    pace: float | None
    """least number of seconds between two packets, as it was asked for"""
    planned: int
    """how many checks were planned; 0: only the facts were wanted"""
    ke_pace: float | None = None
    """the same between two connections"""
    final_pace: float | None = None
    """the pace at the end, after a server that limits the rate of packets"""
    final_ke_pace: float | None = None
    facts: Facts | None = None
    grade: dict[str, Any] | None = None
    """as in the JSON; None: it is a client, or nobody can say"""
    seconds: float = 0.0
    results: tuple[Result[Any], ...] = ()
    interrupted: bool = False
    strict: bool = False
    """whether a rule at MUST or CRIT that could not be judged counts as broken"""

    @property
    def software(self) -> str | None:
        """The implementation that the server seems to be."""
        return self.facts.implementation.name if self.facts else None

    @property
    def counts(self) -> Counter[Grade]:
        """How many results have each grade."""
        return Counter(r.grade for r in self.results)

    @property
    def failures(self) -> Counter[Severity]:
        """How many failures have each severity."""
        return Counter(r.severity for r in self.results if r.grade is Grade.FAIL)

    @property
    def fatal(self) -> list[str]:
        """The names of the checks that alone make the peer non-conforming."""
        return [r.check.name for r in self.results if r.fatal]

    @property
    def unjudged(self) -> int:
        """How many checks could not be judged."""
        return sum(r.grade.unjudged for r in self.results)

    @property
    def open(self) -> list[str]:
        """The names of the checks that leave a rule at MUST or CRIT unjudged, in whole or in part."""
        return [r.check.name for r in self.results if r.open]

    @property
    def is_void(self) -> bool:
        """Whether nothing could be judged, although the run was not interrupted."""
        return not self.interrupted and self.planned > 0 and self.unjudged == len(self.results)

    @property
    def conforms(self) -> bool | None:
        """Whether the peer conforms, as far as the planned checks go; None: nobody can say."""
        if self.fatal:
            return False
        return None if self.interrupted or self.open or self.is_void or not self.planned else True

    @property
    def exit_code(self) -> int:
        """0 if the peer conforms, 1 if not, 3 if nobody can say (1 if strict); 130 when interrupted.

        0 also if nothing was to be judged.
        """
        if self.interrupted:
            return INTERRUPTED
        if not self.planned:
            return int(ExitCode.OK)
        if self.conforms is None and not self.strict:
            return CANNOT_SAY
        return int(ExitCode.OK if self.conforms else ExitCode.FAILURE)


def in_groups(items: Iterable[C]) -> list[C]:
    """Sort checks by group. Groups keep the order of their first checks."""
    checks = list(items)
    titles = list(dict.fromkeys(c.group for c in checks))
    return sorted(checks, key=lambda c: titles.index(c.group))


def by_gravity(results: Iterable[R]) -> list[R]:
    """Sort results, worst first. Equals keep their order."""
    severities = list(Severity)
    return sorted(results, key=lambda r: (GRAVITY.index(r.grade), severities.index(r.severity)))


def counts_line(report: Report) -> str:
    """A line like "52 checks: 49 PASS, 1 WARN, 2 FAIL (1 MUST, 1 SHOULD); 12 s"."""
    done = len(report.results)
    total = counted(report.planned, "check")
    head = total if done == report.planned else f"{done} of {total}"
    parts = []
    for verdict in ORDER:
        if count := report.counts[verdict]:
            failures = [f"{report.failures[s]} {s.value}" for s in Severity if report.failures[s]]
            detail = f" ({', '.join(failures)})" if verdict is Grade.FAIL else ""
            parts.append(f"{count} {verdict.value}{detail}")
    return f"{head}: {', '.join(parts) or 'nothing judged'}; {duration(report.seconds)}"


def grade_line(report: Report) -> str:
    """The letter, and what caps it there, unless `meaning` names all of that; empty without a grade."""
    if report.grade is None:
        return ""
    letter = report.grade["letter"]
    caps = [cap["check"] or cap["reason"] for cap in report.grade["caps"] if cap["letter"] == letter]
    return f"Grade {letter}{'' if set(caps) <= set(report.fatal) else f': {_names(caps)}'}."


def meaning(report: Report) -> str:
    """What the counts mean, in a sentence."""
    rest = f"; {report.unjudged} could not be judged" if report.unjudged else ""
    if report.interrupted:
        text = "Interrupted" + (f", with a failure at MUST or CRIT in {_names(report.fatal)}" if report.fatal else "")
    elif report.fatal:
        text = f"The {report.command} does not conform: {_names(report.fatal)}"
    elif not report.planned:
        text = "Nothing was judged: only the facts were asked for"
    elif report.is_void:
        text, rest = f"Nothing could be judged about the {report.command}", ""
    elif report.open:
        text = f"Nobody can say whether the {report.command} conforms: a rule at MUST or CRIT is open in"
        text, rest = f"{text} {_names(report.open)}", ""
    elif report.counts[Grade.PASS] == len(report.results):
        text = "Every check passes"
    else:
        text = f"The {report.command} conforms: no failure at MUST or CRIT"
    return f"{text}{rest}."


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
