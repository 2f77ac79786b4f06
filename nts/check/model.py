# SPDX-License-Identifier: MIT
"""What a check is, what it finds, and how findings become a result. Pure: no socket, no clock, no output.

A check is a generator that stimulates a peer through a probe and yields what it found, worst or not. Checks are
declared next to their code, in groups by subject; adding one is adding one function in one file:

    group = Group("NTS-KE messages")

    @group.check(14, "ke-crit-unknown", section="4.1.3", severity=Severity.MUST, ref="A20", sends=..., expects=...,
                 rule=...)
    def ke_crit_unknown(probe: ServerProbe) -> Iterator[Finding]:
        yield judge.error_record(probe.ke.ask(...), ErrorCode.UNRECOGNIZED_CRITICAL_RECORD)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

P = TypeVar("P")


class Verdict(Enum):
    """What came of a check. The value is how it is written."""

    FAIL = "FAIL"
    """the peer breaks the rule"""
    PATH = "PATH?"
    """packets vanish in a way that points to the path rather than to the peer"""
    WARN = "WARN"
    """allowed or harmless, but not as one would wish"""
    PASS = "PASS"
    SKIP = "SKIP"
    """could not be judged; the evidence says why"""


_WORST_FIRST = list(Verdict)


class Severity(Enum):
    """How much a failure matters, the worst first."""

    CRIT = "CRIT"
    """security"""
    MUST = "MUST"
    SHOULD = "SHOULD"
    INFO = "INFO"


class Direction(Enum):
    """Where an exhibit comes from, seen from the probe."""

    SENT = "sent"
    RECEIVED = "received"
    NOTE = "note"


class Protocol(Enum):
    """How an exhibit's octets are to be decoded."""

    NTS_KE = "NTS-KE"
    NTP = "NTP"
    NONE = ""


@dataclass(frozen=True)
class Exhibit:
    """One thing that went over the wire, or failed to: what a report shows as evidence."""

    direction: Direction
    text: str
    """one line: what it is"""
    protocol: Protocol = Protocol.NONE
    octets: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Finding:
    """One judgement of a check."""

    verdict: Verdict
    text: str
    """one line: what was seen"""
    severity: Severity | None = None
    """where it is not that of the check"""


def passed(text: str) -> Finding:
    """A finding that is as it should be."""
    return Finding(Verdict.PASS, text)


def warned(text: str) -> Finding:
    """A finding that is allowed but not as it should be."""
    return Finding(Verdict.WARN, text)


def failed(text: str, severity: Severity | None = None) -> Finding:
    """A finding that breaks the rule."""
    return Finding(Verdict.FAIL, text, severity)


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 cookie, 2 cookies."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Skipped(Exception):
    """Raised by a probe or a check that cannot go on; the text says why in one line."""


class PathTrouble(Exception):
    """Raised by a probe when a control request goes unanswered too, so that silence proves nothing."""


class Silenced(Exception):
    """Raised by a probe when a peer answered right before a stimulus, and after it no more: that is a FAIL."""


@dataclass(frozen=True)
class Check(Generic[P]):
    """One rule and how it is put to the test."""

    id: str
    """its number among the server's checks, or C and the number among the client's"""
    name: str
    group: str
    section: str
    """of RFC 8915, unless it says otherwise"""
    severity: Severity
    ref: str
    """the requirements of docs/rfc8915.md"""
    sends: str
    """the stimulus, for a person"""
    expects: str
    """what passes, for a person"""
    rule: str
    """what the RFC says, in our words"""
    run: Callable[[P], Iterator[Finding]] = field(repr=False)
    last: bool = False
    """to be run after all others, because it judges what they have seen"""


@dataclass(frozen=True)
class Result(Generic[P]):
    """A check that has been run."""

    check: Check[P]
    verdict: Verdict
    severity: Severity
    evidence: str
    """one line: the worst finding, or what was seen where all is well"""
    findings: tuple[Finding, ...]
    exhibits: tuple[Exhibit, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @property
    def fatal(self) -> bool:
        """Whether it alone makes the peer non-conforming."""
        return self.verdict is Verdict.FAIL and self.severity in (Severity.CRIT, Severity.MUST)


class Group(Generic[P]):
    """Checks of one subject, in the order declared."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.checks: list[Check[P]] = []

    def check(
        self, number: int | str, name: str, *, section: str, severity: Severity, ref: str, sends: str, expects: str,
        rule: str, last: bool = False,
    ) -> Callable[[Callable[[P], Iterator[Finding]]], Callable[[P], Iterator[Finding]]]:  # fmt: skip
        """Declares the decorated generator as a check of this group."""

        def declare(run: Callable[[P], Iterator[Finding]]) -> Callable[[P], Iterator[Finding]]:
            self.checks.append(
                Check(str(number), name, self.title, section, severity, ref, sends, expects, rule, run, last)
            )  # fmt: skip
            return run

        return declare


def conclude(
    check: Check[P], findings: Iterable[Finding], exhibits: Iterable[Exhibit] = (), seconds: float = 0.0
) -> Result[P]:
    """The result of a check: its worst findings decide, and among them the most severe.

    No finding at all is a mistake of the check's author.
    """
    found = tuple(findings)
    if not found:
        raise AssertionError(f"{check.name} found nothing")
    verdict = min((f.verdict for f in found), key=_WORST_FIRST.index)
    decisive = [f for f in found if f.verdict is verdict]
    severity = min((f.severity or check.severity for f in decisive), key=list(Severity).index)
    evidence = "; ".join(dict.fromkeys(f.text for f in decisive))
    return Result(check, verdict, severity, evidence, found, tuple(exhibits), seconds)
