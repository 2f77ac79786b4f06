# SPDX-License-Identifier: MIT
"""The steps of an explanation, as they are taken, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from nts.client.finding_texts import Finding


class Mark(Enum):
    """How a step went."""

    OK = "OK"
    NOTE = "NOTE"
    """not as it should be, but the way goes on"""
    FAIL = "FAIL"


@dataclass(frozen=True)
class Step:
    """A step of the way."""

    name: str
    mark: Mark
    seen: str
    """in one line, fit for a terminal"""
    milliseconds: float


Shower = Callable[[Step], None]


class End(Exception):
    """The way ends here."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.id)
        self.finding = finding


class Log:
    """The steps so far. A step lasts from the one before it, or from `start`."""

    def __init__(self, show: Shower) -> None:
        """`show` is called after each step."""
        self.steps: list[Step] = []
        self._show, self._began = show, time.perf_counter()

    def start(self) -> None:
        """A step begins now."""
        self._began = time.perf_counter()

    def step(self, name: str, mark: Mark, seen: str) -> None:
        """A step has ended."""
        step = Step(name, mark, seen, round((time.perf_counter() - self._began) * 1000, 1))
        self.steps.append(step)
        self._show(step)
        self.start()

    def ok(self, name: str, seen: str) -> None:
        """A step has gone well."""
        self.step(name, Mark.OK, seen)

    def fail(self, name: str, seen: str, finding: Finding) -> NoReturn:
        """A step has failed, and this is why."""
        self.step(name, Mark.FAIL, seen)
        raise End(finding)
