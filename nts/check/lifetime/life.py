# SPDX-License-Identifier: MIT
"""What the deaths of cookies tell. Pure. All times are seconds since the watch began."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def spoken(seconds: float) -> str:
    """A length of time in its two largest units: 1 h 5 min."""
    left, parts = round(seconds), list[str]()
    for unit, size in _UNITS:
        if left >= size or parts or unit == "s":
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(part for part in parts[:2] if part[:2] != "0 ") or f"{seconds:.1f} s"


def _rounded(seconds: dict[str, Any]) -> dict[str, Any]:
    """To milliseconds, for machines."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in seconds.items()}


@dataclass(frozen=True)
class Span:
    """A length of time that is known to lie between two."""

    least: float
    most: float

    @property
    def bare(self) -> str:
        return f"{spoken(self.least)} to {spoken(self.most)}"

    def __str__(self) -> str:
        least, most = spoken(self.least), spoken(self.most)
        return f"about {least}" if least == most else f"between {least} and {most}"


@dataclass(frozen=True)
class Death:
    """The server no longer accepts cookies that it accepted."""

    accepted: float
    """when the oldest of them was last accepted"""
    refused: float
    """when it was refused"""
    oldest: float
    """when that one was made"""
    youngest: float
    """when the youngest that is refused too was made"""
    survivor: float
    """when the oldest that is still accepted was made"""
    all: bool = False
    """whether none was accepted any more but those of a new key exchange"""
    silent: bool = False
    """whether it is refused by silence rather than by an NTS NAK"""

    @property
    def lived(self) -> Span:
        """How long the oldest was accepted."""
        return Span(self.accepted - self.oldest, self.refused - self.oldest)

    @property
    def shortest(self) -> Span:
        """How long a cookie lives that was made right before the server took its next key."""
        return Span(max(0.0, self.accepted - self.survivor), self.refused - self.youngest)


@dataclass
class Life:
    """All that was learned."""

    interval: float
    seconds: float = 0.0
    """how long the watch has lasted"""
    questions: int = 0
    """NTP requests, without those that were repeated because nothing came"""
    exchanges: int = 0
    """key exchanges"""
    unanswered: int = 0
    """rounds in which no cookie was accepted, not even a new one"""
    accepted: float | None = None
    """the greatest age at which a cookie was accepted; None: none was"""
    deaths: list[Death] = field(default_factory=list)
    used_once: bool = False
    """whether the server refuses a cookie because it was used: then it cannot be watched"""
    interrupted: bool = False

    @property
    def _rotations(self) -> list[Death]:
        """Deaths of age. If none was, the server keeps no old key, and its cookies die all at once."""
        return [d for d in self.deaths if not d.all] or self.deaths

    @property
    def shortest(self) -> Span | None:
        """How long the last cookies of a key live: what a client can rely on."""
        spans = [d.shortest for d in self._rotations]
        return Span(min(s.least for s in spans), min(s.most for s in spans)) if spans else None

    @property
    def rotation(self) -> Span | None:
        """How often the keys change."""
        if len(self._rotations) < 2:
            return None
        first, second = self._rotations[:2]
        return Span(max(0.0, second.accepted - first.refused), second.refused - first.accepted)

    @property
    def longest(self) -> Span | None:
        """How long the first cookies of a key live."""
        if len(self._rotations) < 2:
            return None
        first, second = self._rotations[:2]
        return Span(max(0.0, second.accepted - first.survivor), second.refused - first.youngest)

    @property
    def complete(self) -> bool:
        """Whether more would tell no more."""
        return self.used_once or len(self._rotations) >= 2

    @property
    def json(self) -> dict[str, Any]:
        spans = {name: getattr(self, name) for name in ("shortest", "rotation", "longest")}
        return _rounded({
            "interval": self.interval, "seconds": self.seconds, "questions": self.questions,
            "exchanges": self.exchanges, "unanswered": self.unanswered, "accepted": self.accepted,
            **{name: span and _rounded(asdict(span)) for name, span in spans.items()},
            "deaths": [_rounded(asdict(d)) for d in self.deaths], "used_once": self.used_once,
            "interrupted": self.interrupted,
        })  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """The result for a person."""
        head = (
            f"{spoken(self.seconds)}, one question in {spoken(self.interval)}: {self.questions} NTP requests,"
            f" {self.exchanges} key exchange{'s' * (self.exchanges != 1)}"
        )
        return [
            head,
            *self._findings(),
            *(["Interrupted: this is what was learned so far."] if self.interrupted else []),
        ]

    def _findings(self) -> list[str]:
        if self.used_once:
            return ["The server refuses a cookie that was used before, so the life of cookies cannot be watched."]
        if self.accepted is None:
            return ["No cookie was accepted: nothing was learned."]
        lines = [f"The oldest cookie that was accepted was {spoken(self.accepted)} old."]
        if self.shortest is None:
            lines.append("None died of age: cookies live longer than that.")
        else:
            lines.append(f"Made right before the server takes its next key, a cookie lives {self.shortest}.")
        if self.rotation and self.longest:
            lines.append(f"Made right after, it lives {self.longest}. A key is dropped every {self.rotation.bare}.")
        elif self.shortest:
            lines.append("How often keys change would show when the next cookies die.")
        if lost := [d for d in self.deaths if d.all]:
            times = ", ".join(spoken(d.refused) for d in lost)
            lines.append(f"After {times} it refused all cookies at once: it keeps no old keys, or has lost them.")
        return lines
