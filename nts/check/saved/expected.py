# SPDX-License-Identifier: MIT
"""What a user expects of a report: no worse than an older one, and as a policy promises. Decides the exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nts.base.errors import ConfigError
from nts.check.saved import changes, policy, reading
from nts.check.saved.changes import Changes
from nts.check.saved.policy import Policy, Promise
from nts.check.saved.reading import Report

FAILED, CANNOT_SAY = 1, 3


@dataclass(frozen=True)
class Judgement:
    """How a report compares with what was expected. None: nothing was."""

    changes: Changes | None = None
    promises: tuple[Promise, ...] | None = None

    @property
    def json(self) -> dict[str, Any]:
        """Members for the report."""
        found: dict[str, Any] = {}
        if self.changes is not None:
            found["changes"] = self.changes.json
        if self.promises is not None:
            found["policy"] = [p.json for p in self.promises]
        return found

    @property
    def lines(self) -> list[str]:
        """All of it for a person."""
        lines = self.changes.lines if self.changes else []
        return [*lines, *(f"Policy: {p}" for p in self.promises or ())]

    @property
    def summary(self) -> str:
        """The numbers, in a line; empty if nothing was expected."""
        kept = [p.kept for p in self.promises or ()]
        told = {"PASS": kept.count(True), "FAIL": kept.count(False), "SKIP": kept.count(None)}
        policy = ", ".join(f"{n} {what}" for what, n in told.items() if n)
        parts = [self.changes.line if self.changes else "", policy and f"policy {policy}"]
        return "; ".join(part for part in parts if part)

    def exit_code(self, otherwise: int, *, strict: bool = False) -> int:
        """1 for a regression or a broken promise, 3 (1 if strict) for one that nobody can judge, else 0.

        `otherwise` if nothing was expected.
        """
        if self.changes is None and self.promises is None:
            return otherwise
        kept = {p.kept for p in self.promises or ()}
        if (self.changes and self.changes.regressed) or False in kept or (strict and None in kept):
            return FAILED
        return CANNOT_SAY if None in kept else 0


@dataclass(frozen=True)
class Expected:
    """What --baseline and --policy ask for."""

    baseline: dict[str, Report] | None = None
    """the last report about each target"""
    policy: Policy | None = None
    source: Path = field(default_factory=Path)
    """of the baseline"""

    @staticmethod
    def load(baseline: Path | None, policy_: Path | None) -> Expected:
        """Read both files. ConfigError."""
        reports = None if baseline is None else {r["target"]: r for r in reading.read(baseline)}
        promised = None if policy_ is None else policy.load(policy_)
        return Expected(reports, promised, baseline or Path())

    def require(self, target: str) -> None:
        """ConfigError if there is a baseline without this target."""
        if self.baseline is not None and target not in self.baseline:
            known = ", ".join(list(self.baseline)[:3])
            raise ConfigError(f"{self.source} has no report about {target}", hint=f"it is about {known}")

    def judge(self, report: Report) -> Judgement:
        """Hold a report against it. A server that the baseline does not have has no changes."""
        report = json.loads(json.dumps(report))  # a new one may have tuples
        old = (self.baseline or {}).get(report["target"])
        return Judgement(
            None if old is None else changes.compare(old, report),
            None if self.policy is None else self.policy.hold(report),
        )
