# SPDX-License-Identifier: MIT
"""Reports sorted by server and time, and what the site shows of each. Pure.

Reports may come from anyone: what is not as expected counts as unknown, and `printable` makes every text harmless.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from nts.base.registry import KE_PORT
from nts.check import facts
from nts.check.facts import Facts
from nts.check.output import grade
from nts.check.output.text import printable
from nts.check.saved import reading
from nts.check.saved.reading import Report

T = TypeVar("T")
OPEN = ("SKIP", "PATH?")


@dataclass(frozen=True)
class Run:
    """One report."""

    report: Report

    @property
    def seconds(self) -> float:
        """When it was started, in Unix time."""
        return reading.moment(self.report["started"]).timestamp()

    @property
    def day(self) -> str:
        return str(self.report["started"])[:10]

    @property
    def when(self) -> str:
        return str(self.report["started"])[:16].replace("T", " ") + " UTC"

    @property
    def failure(self) -> str | None:
        """Why the server could not be reached; None if it could."""
        return reading.text(self.report, "failure.message")

    @property
    def results(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.report.get("results") or []
        return found

    @property
    def counts(self) -> Counter[str]:
        """How many results have each verdict; `OPEN` together are "open"."""
        return Counter("open" if r["verdict"] in OPEN else r["verdict"] for r in self.results)

    @property
    def conforms(self) -> bool | None:
        return reading.conforms(self.report)

    @property
    def grade(self) -> dict[str, Any]:
        """The grade with its caps, empty if there is none; made now if the report is from before there were grades."""
        try:
            found = self.report.get("grade") or (None if self.failure else grade.grade(self.report))
            return found if found and found["letter"] in grade.LETTERS and isinstance(found["caps"], list) else {}
        except (KeyError, TypeError, ValueError, AttributeError):
            return {}

    @property
    def letter(self) -> str | None:
        found: str | None = self.grade.get("letter")
        return found

    @property
    def rank(self) -> int:
        """The place of the grade, best first; no grade comes last."""
        return grade.LETTERS.index(self.letter) if self.letter else len(grade.LETTERS)

    @property
    def facts(self) -> Facts | None:
        """The fact sheet, if the report has one that makes sense."""
        told: Any = self.report.get("facts")
        try:
            return Facts(
                _made(facts.KeFacts, told["ke"]), _made(facts.CertificateFacts, told["certificate"]),
                _made(facts.NtsFacts, told["nts"]), _made(facts.NtpFacts, told["ntp"]),
                _made(facts.Implementation, told["implementation"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def number(self, path: str) -> float | None:
        """A number among the facts."""
        return reading.number(self.report, f"facts.{path}")

    @property
    def state(self) -> str:
        """In a sentence, what it found."""
        if self.failure is not None:
            return f"It could not be reached: {printable(self.failure)}."
        if not self.results:
            return "Only facts are known: nothing was judged."
        fatal = [r["name"] for r in self.results if r["verdict"] == "FAIL" and r["severity"] in ("CRIT", "MUST")]
        if self.conforms is False:
            return f"It does not conform: {', '.join(map(printable, fatal))}."
        return "It conforms: no failure at MUST or CRIT." if self.conforms else "Nobody can say whether it conforms."


def _made(kind: type[T], values: dict[str, Any]) -> T:
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return kind(**{n: _clean(values[n]) for n in names if n in values})


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    return tuple(map(_clean, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Server:
    """A server and its runs, the oldest first."""

    target: str
    folder: str
    """of its page"""
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The target, without the port that is usual."""
        return self.target.removesuffix(f":{KE_PORT}")

    @property
    def latest(self) -> Run:
        """The last run that judged anything, or could not; else the last one."""
        return next((r for r in reversed(self.runs) if r.results or r.failure is not None), self.runs[-1])

    @property
    def told(self) -> Run:
        """The last run with facts; else the last one."""
        return next((r for r in reversed(self.runs) if r.facts), self.runs[-1])

    @property
    def place(self) -> tuple[object, ...]:
        """Where it stands in the list: by grade, then by what failed; those that cannot be reached come last."""
        counts = self.latest.counts
        return self.latest.failure is not None, self.latest.rank, counts["FAIL"], counts["WARN"], self.target


def servers(reports: Iterable[Report]) -> list[Server]:
    """The servers, best first. A report that is there twice counts once."""
    runs: dict[str, dict[str, Run]] = {}
    for report in reports:
        runs.setdefault(printable(report["target"]), {})[report["started"]] = Run(report)
    folders: set[str] = set()
    found = []
    for target in sorted(runs):
        folder = _folder(target, folders)
        found.append(Server(target, folder, tuple(sorted(runs[target].values(), key=lambda run: run.seconds))))
        folders.add(folder)
    return sorted(found, key=lambda server: server.place)


def _folder(target: str, taken: set[str]) -> str:
    name = re.sub(r"[^a-z0-9.-]+", "_", target.lower().removesuffix(f":{KE_PORT}")).strip("._")[:80] or "server"
    numbers = ("", *(f"_{n}" for n in range(2, len(taken) + 3)))
    return next(name + n for n in numbers if name + n not in taken)
