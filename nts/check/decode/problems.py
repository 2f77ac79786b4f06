# SPDX-License-Identifier: MIT
"""What is wrong with a message."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

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


crit = partial(Problem, Severity.CRIT)
must = partial(Problem, Severity.MUST)
should = partial(Problem, Severity.SHOULD)
info = partial(Problem, Severity.INFO)
