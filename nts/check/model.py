# SPDX-License-Identifier: MIT
"""What a check is, what it finds, and how its findings become a result. Pure: no socket, no clock, no output.

A check is a generator. It stimulates a peer through a probe and yields a finding for each thing it judges. A check is
declared next to its code, in the group of its subject, so a new check is one declaration in one file. If it is only
one question and one judgement, it is a lambda:

    group = Group("NTS-KE messages")

    @group.check(30, "ke-1024-record", section="5.1", ..., rule="The exporter context holds the algorithm's number.")
    def ke_1024_record(probe: ServerProbe) -> Iterator[Finding]:
        ...

    group.check(
        16, "ke-no-aead", section="4.1.5", ..., rule="A request for NTPv4 holds exactly one AEAD record.",
    )(lambda p: [judge.error(p.ke.ask(Stimulus("a request without an AEAD record", NTPV4 + END)))])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import ClassVar, Generic, TypeVar

P = TypeVar("P")
MAX_EXHIBITS = 64  # per check: a sweep need not show every packet


class Grade(Enum):
    """The verdict of a check, worst first. The value is how reports write it."""

    FAIL = "FAIL"
    """the peer breaks the rule"""
    PATH = "PATH?"
    """packets vanish in a way that points to the path rather than to the peer"""
    WARN = "WARN"
    """allowed or harmless, but undesirable"""
    SKIP = "SKIP"
    """could not be judged; the evidence says why"""
    PASS = "PASS"

    @property
    def unjudged(self) -> bool:
        """Whether it says nothing about the peer."""
        return self in (Grade.PATH, Grade.SKIP)


class Severity(Enum):
    """How much a failure matters, worst first."""

    CRIT = "CRIT"
    """security"""
    MUST = "MUST"
    SHOULD = "SHOULD"
    INFO = "INFO"


BINDING = (Severity.CRIT, Severity.MUST)
"""severities that conformance depends on"""


class Direction(Enum):
    """Where an exhibit comes from, as the probe sees it."""

    SENT = "sent"
    RECEIVED = "received"
    NOTE = "note"


class Protocol(Enum):
    """How to decode the octets of an exhibit."""

    NTS_KE = "NTS-KE"
    NTP = "NTP"
    NONE = ""


@dataclass(frozen=True)
class Exhibit:
    """One event on the wire, shown in reports as evidence."""

    direction: Direction
    text: str
    """one line: what it is"""
    protocol: Protocol = Protocol.NONE
    octets: bytes = field(default=b"", repr=False)


@dataclass
class Transcript:
    """The exhibits collected since the last `take`."""

    exhibits: list[Exhibit] = field(default_factory=list)

    def add(self, direction: Direction, text: str, protocol: Protocol = Protocol.NONE, octets: bytes = b"") -> None:
        """Add an exhibit, unless there are MAX_EXHIBITS already."""
        if len(self.exhibits) < MAX_EXHIBITS:
            self.exhibits.append(Exhibit(direction, text, protocol, octets))

    def take(self) -> list[Exhibit]:
        """Return all exhibits and forget them."""
        taken, self.exhibits = self.exhibits, []
        return taken


Span = tuple[int, int]
"""from an octet, up to but without another"""


@dataclass(frozen=True)
class Mark:
    """What on the wire a finding is about."""

    octets: bytes = field(repr=False)
    """those of the exhibit"""
    spans: tuple[Span, ...] = ()
    """where in it; none: nowhere in particular"""


@dataclass(frozen=True)
class Finding:
    """One judgement of a check."""

    grade: Grade
    text: str
    """one line: what was seen"""
    severity: Severity | None = None
    """None: the severity of the check"""
    marks: tuple[Mark, ...] = field(default=(), compare=False, repr=False)
    """the packets that are to blame, if it is no PASS"""


passed = partial(Finding, Grade.PASS)
warned = partial(Finding, Grade.WARN)
failed = partial(Finding, Grade.FAIL)
skipped = partial(Finding, Grade.SKIP)


Run = Callable[[P], Iterable[Finding]]
"""stimulates a peer through a probe; the findings, preferably as they come"""


class CheckEnded(Exception):
    """Ends a check early. The text, one line, becomes its last finding, with the grade of the class."""

    grade: ClassVar[Grade]


class Skipped(CheckEnded):
    """The probe or the check cannot go on."""

    grade = Grade.SKIP


class PathTrouble(CheckEnded):
    """Control requests go unanswered too, so silence proves nothing."""

    grade = Grade.PATH


class Silenced(CheckEnded):
    """The peer answered right before a stimulus, and no longer after it."""

    grade = Grade.FAIL


@dataclass(frozen=True)
class Check(Generic[P]):
    """One rule and how it is tested."""

    id: str
    """the number of a server check; C and the number of a client case"""
    name: str
    group: str
    section: str
    """of RFC 8915, unless it names another document"""
    severity: Severity
    ref: str
    """the requirements in docs/rfc8915.md"""
    sends: str
    """the stimulus, in words"""
    expects: str
    """what passes, in words"""
    rule: str
    """what the RFC says, in our words"""
    run: Run[P] = field(repr=False)
    last: bool = False
    """runs after all others, because it judges what they have seen"""

    @property
    def texts(self) -> dict[str, str]:
        """What explains it, by the label that reports give it."""
        return {"sends": self.sends, "passes": self.expects, "rule": self.rule}


@dataclass(frozen=True)
class Result(Generic[P]):
    """The outcome of one check."""

    check: Check[P]
    grade: Grade
    severity: Severity
    evidence: str
    """one line: the worst findings, or what was seen if all is well"""
    findings: tuple[Finding, ...]
    exhibits: tuple[Exhibit, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @property
    def fatal(self) -> bool:
        """Whether this result alone makes the peer non-conforming."""
        return self.grade is Grade.FAIL and self.severity in BINDING

    @property
    def open(self) -> Severity | None:
        """The severity of a binding rule that could not be judged, in whole or in part; None: there is none."""
        found = {f.severity or self.check.severity for f in self.findings if f.grade.unjudged}
        return next((severity for severity in BINDING if severity in found), None)


class Group(Generic[P]):
    """The checks of one subject, in the order they are declared."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.checks: list[Check[P]] = []

    def check(
        self, number: int | str, name: str, *, section: str, severity: Severity, ref: str, sends: str, expects: str,
        rule: str, last: bool = False,
    ) -> Callable[[Run[P]], Run[P]]:  # fmt: skip
        """Declare the decorated generator, or a lambda with the findings of one question, as a check of this group."""

        def declare(run: Run[P]) -> Run[P]:
            self.checks.append(
                Check(str(number), name, self.title, section, severity, ref, sends, expects, rule, run, last)
            )  # fmt: skip
            return run

        return declare


def conclude(
    check: Check[P], findings: Iterable[Finding], exhibits: Iterable[Exhibit] = (), seconds: float = 0.0
) -> Result[P]:
    """Make the result of a check. The worst grade decides, and among findings of that grade the highest severity.

    What could not be judged about a binding rule is never lost: it comes before a PASS, and is part of the evidence. A
    check that finds nothing at all is a bug in the check.
    """
    found = tuple(findings)
    if not found:
        raise AssertionError(f"{check.name} found nothing")
    weighty = [f for f in found if f.grade is not Grade.SKIP or (f.severity or check.severity) in BINDING]
    grade = min((f.grade for f in weighty or found), key=list(Grade).index)
    decisive = [f for f in found if f.grade is grade]
    severity = min((f.severity or check.severity for f in decisive), key=list(Severity).index)
    shown = decisive + [f for f in weighty if f.grade.unjudged]
    evidence = "; ".join(dict.fromkeys(f.text for f in shown))
    return Result(check, grade, severity, evidence, found, tuple(exhibits), seconds)
