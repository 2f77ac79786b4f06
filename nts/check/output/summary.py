# SPDX-License-Identifier: MIT
"""What all outputs say of a run: whom it was about, the results, how they count, and the exit code they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nts.base.errors import ExitCode
from nts.check.findings import counted
from nts.check.model import Check, Grade, Result, Severity
from nts.check.output.text import duration

TOOL = "nts_check"
NOTHING_JUDGED = 3  # an exit code that no other tool of the suite has
INTERRUPTED = 130  # what a shell makes of Ctrl-C
ORDER = (Grade.PASS, Grade.WARN, Grade.FAIL, Grade.PATH, Grade.SKIP)
"""how verdicts are counted for a person"""
GRAVITY = (Grade.FAIL, Grade.PATH, Grade.WARN, Grade.SKIP, Grade.PASS)
"""what to look at first"""

R = TypeVar("R", bound=Result[Any])
C = TypeVar("C", bound=Check[Any])


@dataclass(frozen=True)
class Report:
    """A run, over or interrupted."""

    command: str
    """the subcommand: what was checked, a server or a client"""
    target: str
    started_ns: int
    """Unix time"""
    seed: int | None
    pace: float | None
    """seconds from one packet to the next, at least"""
    planned: int
    """how many checks were to be run"""
    seconds: float = 0.0
    results: tuple[Result[Any], ...] = ()
    interrupted: bool = False
    strict: bool = False
    """whether a run in which nothing could be judged has an exit code of its own"""

    @property
    def counts(self) -> Counter[Grade]:
        """How many results of each verdict."""
        return Counter(r.grade for r in self.results)

    @property
    def failures(self) -> Counter[Severity]:
        """How many failures of each severity."""
        return Counter(r.severity for r in self.results if r.grade is Grade.FAIL)

    @property
    def fatal(self) -> list[str]:
        """The names of the checks that alone make the peer non-conforming."""
        return [r.check.name for r in self.results if r.fatal]

    @property
    def unjudged(self) -> int:
        """How many checks came to no judgement."""
        return self.counts[Grade.SKIP] + self.counts[Grade.PATH]

    @property
    def is_void(self) -> bool:
        """Whether nothing could be judged, though the run came to its end."""
        return not self.interrupted and self.unjudged == len(self.results)

    @property
    def exit_code(self) -> int:
        """0 without a failure at MUST or CRIT, 1 with one, 130 when interrupted; when strict, 3 for a void run."""
        if self.interrupted:
            return INTERRUPTED
        if self.strict and self.is_void:
            return NOTHING_JUDGED
        return int(ExitCode.FAILURE if self.fatal else ExitCode.OK)


def in_groups(items: Iterable[C]) -> list[C]:
    """Checks with those of a group together; groups in the order of their first check."""
    checks = list(items)
    titles = list(dict.fromkeys(c.group for c in checks))
    return sorted(checks, key=lambda c: titles.index(c.group))


def by_gravity(results: Iterable[R]) -> list[R]:
    """Worst first; equals stay in order."""
    severities = list(Severity)
    return sorted(results, key=lambda r: (GRAVITY.index(r.grade), severities.index(r.severity)))


def counts_line(report: Report) -> str:
    """Such as "52 checks: 49 PASS, 1 WARN, 2 FAIL (1 MUST, 1 SHOULD)"."""
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


def meaning(report: Report) -> str:
    """What the counts mean, in a sentence."""
    rest = f"; {report.unjudged} could not be judged" if report.unjudged else ""
    if report.interrupted:
        text = "Interrupted" + (f", with a failure at MUST or CRIT in {_names(report.fatal)}" if report.fatal else "")
    elif report.fatal:
        text = f"The {report.command} does not conform: {_names(report.fatal)}"
    elif report.is_void:
        text, rest = f"Nothing could be judged about the {report.command}", ""
    elif report.counts[Grade.PASS] == len(report.results):
        text = "Every check passes"
    else:
        text = f"The {report.command} conforms: no failure at MUST or CRIT"
    return f"{text}{rest}."


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
