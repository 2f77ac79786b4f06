# SPDX-License-Identifier: MIT
"""What is wrong with a message."""

from __future__ import annotations

from dataclasses import dataclass

from nts.check.model import Severity


@dataclass(frozen=True)
class Problem:
    """One broken rule or, with severity INFO, something worth knowing."""

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
    """A broken rule that matters for security."""
    return Problem(Severity.CRIT, text, section)


def must(text: str, section: str) -> Problem:
    """A broken MUST."""
    return Problem(Severity.MUST, text, section)


def should(text: str, section: str) -> Problem:
    """A broken SHOULD."""
    return Problem(Severity.SHOULD, text, section)


def info(text: str, section: str = "") -> Problem:
    """Not a broken rule."""
    return Problem(Severity.INFO, text, section)
