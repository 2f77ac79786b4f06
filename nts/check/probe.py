# SPDX-License-Identifier: MIT
"""The probe that server checks work with: whom to ask, how fast, and the record of what went over the wire."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from nts.check.ke_probe import KeProbe
from nts.check.model import Direction, Exhibit, Protocol
from nts.check.ntp_probe import NtpProbe

MAX_EXHIBITS = 64  # of one check: a sweep need not show every packet


@dataclass(frozen=True)
class Target:
    """The server to check."""

    host: str
    port: int
    ca: Path | None = None
    """the CA file; None: the system's store"""
    verify_name: str | None = None
    """the name the certificate must be for, if not `host`"""
    family: socket.AddressFamily = socket.AF_UNSPEC
    timeout: float = 5.0
    """seconds for a key exchange that is as usual"""
    patience: float = 2.0
    """seconds to wait for an NTP reply"""
    silence: float = 60.0
    """seconds after which a key exchange server must have given up on a client that does not finish"""


@dataclass
class Pace:
    """At most one packet, or TCP connection, in so many seconds: a checker must not be a load."""

    interval: float = 1.0
    """seconds; 0 for one's own servers"""
    _next: float = field(default=0.0, init=False)

    def wait(self) -> None:
        """Until the next one may go."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self.interval


@dataclass
class Record:
    """What went over the wire since it was last taken."""

    exhibits: list[Exhibit] = field(default_factory=list)

    def add(self, direction: Direction, text: str, protocol: Protocol = Protocol.NONE, octets: bytes = b"") -> None:
        """Keep one more exhibit, unless there are many already."""
        if len(self.exhibits) < MAX_EXHIBITS:
            self.exhibits.append(Exhibit(direction, text, protocol, octets))

    def take(self) -> list[Exhibit]:
        """All of them; the record is empty again."""
        taken, self.exhibits = self.exhibits, []
        return taken


class ServerProbe:
    """What a server check gets.

    `ke` talks NTS-KE, `ntp` talks NTP with the cookies that `ke` fetches; both are paced and record what they do.
    """

    def __init__(self, target: Target, *, pace: float = 1.0, seed: int | None = None) -> None:
        self.target = target
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self.random = random.Random(self.seed)
        """for stimuli, so that a run can be repeated; never for keys"""
        self.record = Record()
        self.ke_pace, self.ntp_pace = Pace(pace), Pace(pace)
        self.ke = KeProbe(self)
        self.ntp = NtpProbe(self)

    def take_exhibits(self) -> list[Exhibit]:
        return self.record.take()
