# SPDX-License-Identifier: MIT
"""What the probes of one run share: whom to ask, where to keep exhibits, how fast to go."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from nts.check.model import Transcript


@dataclass(frozen=True)
class Target:
    """The server to check."""

    host: str
    port: int
    ca: Path | None = None
    """the CA file; None: the system's store"""
    verify_name: str | None = None
    """the name the certificate must be for; None: `host`"""
    family: socket.AddressFamily = socket.AF_UNSPEC
    timeout: float = 5.0
    """seconds for an ordinary key exchange"""
    patience: float = 2.0
    """seconds to wait for an NTP reply"""
    silence: float = 60.0
    """seconds within which an NTS-KE server must give up on a client that does not finish"""


@dataclass
class Pace:
    """At most one packet, or one TCP connection, per interval: a checker must not be a load."""

    interval: float
    """seconds; 0 for a server of your own"""
    auto: bool = False
    """whether to go slower when the server limits the rate"""
    slowest: float = 16.0
    """seconds, for `auto`"""
    _next: float = field(default=0.0, init=False)

    def slow_down(self) -> bool:
        """Go at half the pace, if that is allowed; whether it is."""
        if not self.auto or self.interval >= self.slowest:
            return False
        self.interval = min(2 * self.interval or 1.0, self.slowest)
        return True

    def wait(self) -> None:
        """Sleep until the next packet may go."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self.interval


@dataclass(frozen=True)
class Context:
    """One run against one server."""

    target: Target
    random: random.Random
    """for stimuli, so that a run can be repeated; never for keys"""
    transcript: Transcript = field(default_factory=Transcript)
