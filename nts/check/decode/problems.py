# SPDX-License-Identifier: MIT
"""What is wrong with a message."""

from __future__ import annotations

from dataclasses import dataclass

from nts.check.model import Severity


@dataclass(frozen=True)
class Problem:
    """One rule that is broken, or with severity INFO, something that is worth to be known."""

    severity: Severity
    text: str
    """one line, without a key or a cookie"""
    section: str = ""
    """of RFC 8915, unless it names another"""

    @property
    def wrong(self) -> bool:
        """Whether a rule is broken."""
        return self.severity is not Severity.INFO

    def __str__(self) -> str:
        where = self.section if self.section.startswith("RFC") or not self.section else f"RFC 8915 {self.section}"
        return f"{self.severity.value}: {self.text}{where and f' ({where})'}"


def crit(text: str, section: str) -> Problem:
    """A rule whose breach is a matter of security."""
    return Problem(Severity.CRIT, text, section)


def must(text: str, section: str) -> Problem:
    """A MUST that is broken."""
    return Problem(Severity.MUST, text, section)


def should(text: str, section: str) -> Problem:
    """A SHOULD that is broken."""
    return Problem(Severity.SHOULD, text, section)


def info(text: str, section: str = "") -> Problem:
    """Nothing wrong."""
    return Problem(Severity.INFO, text, section)
