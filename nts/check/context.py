# SPDX-License-Identifier: MIT
"""What the probes of one run share: whom to ask, where to keep exhibits, how fast to go."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nts.check.model import Transcript
from nts.system.addresses import Endpoint


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


class Turns:
    """Who may be sent something when. Probes that share it, in whatever thread, keep their pace together."""

    def __init__(self) -> None:
        self._next: dict[Endpoint, float] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()

    def wait(self, interval: float, peers: Iterable[Endpoint]) -> None:
        """Sleep until each peer has had its interval since its last turn. KeyboardInterrupt once `end` was called."""
        wanted = list(peers)
        with self._lock:
            now = time.monotonic()
            turn = max([now, *(self._next.get(peer, now) for peer in wanted)])
            self._next.update(dict.fromkeys(wanted, turn + interval))
        if self._ended.wait(turn - now):
            raise KeyboardInterrupt

    def sent(self, interval: float, peers: Iterable[Endpoint]) -> None:
        """Count the interval from now: something was sent late, on a busy machine."""
        with self._lock:
            due = time.monotonic() + interval
            self._next.update((peer, max(self._next.get(peer, due), due)) for peer in peers)

    def end(self) -> None:
        """Let nobody have another turn."""
        self._ended.set()


@dataclass
class Pace:
    """At most one packet, or one TCP connection, to a peer per interval: a checker must not be a load."""

    interval: float
    """seconds; 0 for a server of your own"""
    auto: bool = False
    """whether to go slower when the server limits the rate"""
    slowest: float = 16.0
    """seconds, for `auto`"""
    turns: Turns = field(default_factory=Turns)

    def slow_down(self) -> bool:
        """Go at half the pace, if that is allowed; whether it is."""
        if not self.auto or self.interval >= self.slowest:
            return False
        self.interval = min(2 * self.interval or 1.0, self.slowest)
        return True

    def wait(self, peer: Endpoint, *more: Endpoint) -> None:
        """Sleep until the next packet may go to any of these addresses."""
        self.turns.wait(self.interval, (peer, *more))

    def sent(self, peer: Endpoint, *more: Endpoint) -> None:
        """The packet has just left, so that the next one is not too early even if this one was late."""
        self.turns.sent(self.interval, (peer, *more))


@dataclass(frozen=True)
class Context:
    """One run against one server."""

    target: Target
    random: random.Random
    """for stimuli, so that a run can be repeated; never for keys"""
    transcript: Transcript = field(default_factory=Transcript)
