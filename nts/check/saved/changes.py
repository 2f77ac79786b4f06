# SPDX-License-Identifier: MIT
"""What has changed between two reports about a server. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nts.check.findings import counted, listed
from nts.check.saved.reading import Report, letter, member

RANKS = ("PASS", "WARN", "FAIL INFO", "FAIL SHOULD", "FAIL MUST", "FAIL CRIT")  # the last is the worst
MEASURED = {"ntp.root_distance_s", "ntp.offset_s", "ntp.offset_bound_s", "ntp.processing_s", "certificate.days_left"}
"""facts that are never the same twice"""
REACHED = "reachable"  # stands among the names of checks, as does
GRADE = "grade"


@dataclass(frozen=True)
class Change:
    """Something that was one way and is another."""

    name: str
    """of a check, or the path of a fact"""
    before: Any
    now: Any
    evidence: str = ""
    """what is seen now"""

    def __str__(self) -> str:
        seen = f": {self.evidence}" if self.evidence else ""
        return f"{self.name}, {_shown(self.before)} before, is {_shown(self.now)}{seen}"


@dataclass(frozen=True)
class Changes:
    """The difference between two reports."""

    since: str
    """when the older one was started"""
    regressed: tuple[Change, ...]
    """verdicts that are worse than they were; no answer at all and a worse grade count too"""
    fixed: tuple[Change, ...]
    """those that are better"""
    unclear: tuple[Change, ...]
    """those that cannot be compared, because one of the two is SKIP or PATH?"""
    new: tuple[str, ...]
    """checks that only the newer report has"""
    gone: tuple[str, ...]
    """checks that only the older one has"""
    facts: tuple[Change, ...]

    @property
    def json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def line(self) -> str:
        """The numbers, in a line."""
        names = ("regressed", "fixed", "unclear", "new", "gone")
        parts = [f"{len(found)} {name}" for name in names if (found := self._of(name))]
        parts += [counted(len(self.facts), "other fact")] if self.facts else []
        return ", ".join(parts) or "nothing has changed"

    def _of(self, name: str) -> tuple[object, ...]:
        found: tuple[object, ...] = getattr(self, name)
        return found

    @property
    def lines(self) -> list[str]:
        """All of it, a line each."""
        rows = [
            (label, str(change))
            for label in ("regressed", "fixed", "unclear")
            for change in self._of(label)
        ]  # fmt: skip
        rows += [(label, listed(names)) for label, names in (("new", self.new), ("gone", self.gone)) if names]
        rows += [("fact", str(change)) for change in self.facts]
        return [f"Since {self.since[:16].replace('T', ' ')}: {self.line}.", *(f"  {a:9} {b}" for a, b in rows)]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return listed(map(_shown, value))
    return {None: "unknown", True: "yes", False: "no"}.get(value, value) if _is_plain(value) else str(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | str)


def compare(old: Report, new: Report) -> Changes:
    """What has changed from `old` to `new`, two reports about one server."""
    then, now = _standing(old), _standing(new)
    evidence = {r["name"]: r["evidence"] for r in new.get("results", ())}
    evidence[REACHED] = member(new, "failure.message") or ""
    both = [
        Change(name, then[name][0], now[name][0], evidence.get(name, ""))
        for name in then if name in now and then[name] != now[name]
    ]  # fmt: skip
    ranks = {c.name: (then[c.name][1], now[c.name][1]) for c in both}
    was_reached = "failure" not in old and "failure" not in new
    return Changes(
        old["started"],
        tuple(c for c in both if _worse(*ranks[c.name])),
        tuple(c for c in both if _worse(*reversed(ranks[c.name]))),
        tuple(c for c in both if None in ranks[c.name]),
        tuple(n for n in now if n not in then) if was_reached else (),
        tuple(n for n in then if n not in now) if was_reached else (),
        tuple(_facts(old, new)),
    )


Rank = int | None


def _standing(report: Report) -> dict[str, tuple[str, Rank]]:
    """Each verdict, with its rank (the higher, the worse; None: not judged), by the name of the check."""
    reached = "failure" not in report
    found: dict[str, tuple[str, Rank]] = {REACHED: ("yes" if reached else "no", 0 if reached else 1)}
    for result in report.get("results", ()):
        failed = result["verdict"] == "FAIL"
        verdict = f"FAIL {result['severity']}" if failed else result["verdict"]
        found[result["name"]] = verdict, RANKS.index(verdict) if verdict in RANKS else None
    if grade := letter(report):
        found[GRADE] = grade, grade_rank(grade)
    return found


def grade_rank(grade: str) -> int:
    """The place of a grade: the higher, the worse. A+ is before A, and A before A-."""
    return 3 * ord(grade[:1] or "Z") + {"+": 0, "-": 2}.get(grade[1:], 1)


def _worse(old: Rank, new: Rank) -> bool:
    return old is not None and new is not None and new > old


def _facts(old: Report, new: Report) -> Iterator[Change]:
    then, now = (dict(_flat(report.get("facts"))) for report in (old, new))
    if then and now:  # a report without any says nothing
        for name in {**then, **now}:
            if name not in MEASURED and then.get(name) != now.get(name):
                yield Change(name, then.get(name), now.get(name))


def _flat(facts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items() if isinstance(facts, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
