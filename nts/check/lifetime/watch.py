# SPDX-License-Identifier: MIT
"""Watches the cookies of a server. Whom to ask, the clock and the sleep are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from nts.base.errors import NTSError
from nts.check.lifetime.life import Death, Life, spoken


class Fate(Enum):
    """What became of a request with a cookie."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """by an NTS NAK, or something else that gives no time"""
    SILENCE = "silence"


@dataclass(frozen=True)
class Reply:
    """The answer to a question."""

    fate: Fate
    cookie: bytes | None = field(default=None, repr=False)
    """a new one"""


class Server(Protocol):
    """Whom to ask."""

    def fetch(self) -> Sequence[bytes]:
        """New cookies by a key exchange, at least one. NTSError when it fails."""

    def ask(self, cookie: bytes) -> Reply:
        """Whether a cookie is accepted; silence after some tries."""


@dataclass
class Cookie:
    """A cookie, or several that were made at the same time."""

    made: float
    octets: list[bytes] = field(repr=False)


class Watch:
    """One watch. `life` has what was learned, at any time."""

    def __init__(
        self, server: Server, interval: float, *, clock: Callable[[], float], sleep: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`interval`: seconds from one question to the next. `clock` and `sleep` are in seconds too."""
        self.life = Life(interval)
        self._server, self._clock, self._sleep, self._tell = server, clock, sleep, tell
        self._begin = clock()
        self._stock: list[Cookie] = []  # the oldest first
        self._accepted = 0.0  # when the oldest was last accepted

    def _now(self) -> float:
        return self._clock() - self._begin

    def run(self, duration: float) -> Life:
        """Ask for so many seconds, or until nothing more can be learned, or Ctrl-C.

        NTSError when the first key exchange fails.
        """
        life, rounds = self.life, 0
        try:
            while not life.complete and rounds * life.interval <= duration:
                self._sleep(max(0.0, rounds * life.interval - self._now()))
                self._round()
                rounds += 1
        except KeyboardInterrupt:
            life.interrupted = True
        life.seconds = self._now()
        return life

    def _round(self) -> None:
        """Ask once, and find out more if the oldest cookie is refused."""
        if not self._stock:
            self._stock = [self._new()]
        oldest, newest = self._stock[0], self._stock[-1]
        reply, now = self._ask(oldest), self._now()
        if reply.fate is Fate.ACCEPTED:
            self._grow(reply, now)
            self._accepted = now
            self.life.accepted = max(self.life.accepted or 0.0, now - oldest.made)
            return
        witness = self._again(newest, self._ask(newest)) if newest is not oldest else reply
        if witness.fate is not Fate.ACCEPTED:
            self._start_again(oldest, now)
        elif self._again(oldest, reply).fate is not Fate.ACCEPTED and not self._is_used_up(oldest):
            self._bury(self._boundary(), now, reply)
            self._grow(witness, now)

    def _new(self) -> Cookie:
        """The first cookies of a stock. NTSError."""
        made = self._now()
        self.life.exchanges += 1
        return Cookie(made, list(self._server.fetch()))

    def _start_again(self, oldest: Cookie, now: float) -> None:
        """No cookie is accepted. If a new one is, and the oldest is still not, then all have died."""
        try:
            new = self._new()
        except NTSError as e:
            self.life.unanswered += 1
            self._tell(f"no cookie is accepted, and a key exchange fails: {e}")
            return
        if self._ask(new).fate is not Fate.ACCEPTED:
            self.life.unanswered += 1
            self._tell("no cookie is accepted, not even a new one")
        elif (reply := self._ask(oldest)).fate is not Fate.ACCEPTED:
            dead = len(self._stock)
            self._stock.append(new)
            self._bury(dead, now, reply, everything=True)

    def _ask(self, cookie: Cookie) -> Reply:
        self.life.questions += 1
        return self._server.ask(cookie.octets[0])

    def _grow(self, reply: Reply, now: float) -> None:
        if reply.cookie is not None:
            self._stock.append(Cookie(now, [reply.cookie]))

    def _is_used_up(self, cookie: Cookie) -> bool:
        """Whether one that was made at the same time, and never used, is accepted in its place."""
        if len(cookie.octets) > 1:
            self.life.used_once = self._ask(Cookie(cookie.made, cookie.octets[1:2])).fate is Fate.ACCEPTED
        return self.life.used_once

    def _again(self, cookie: Cookie, reply: Reply) -> Reply:
        """The reply; after silence, that to another question, because packets get lost."""
        return self._ask(cookie) if reply.fate is Fate.SILENCE else reply

    def _boundary(self) -> int:
        """Where in the stock the first cookie is that is accepted. The oldest is not, and the newest is."""
        refused, accepted = 0, len(self._stock) - 1
        while accepted - refused > 1:
            middle = (refused + accepted) // 2
            if self._again(self._stock[middle], self._ask(self._stock[middle])).fate is Fate.ACCEPTED:
                accepted = middle
            else:
                refused = middle
        return accepted

    def _bury(self, dead: int, now: float, reply: Reply, *, everything: bool = False) -> None:
        """The first so many cookies are refused."""
        oldest, youngest, survivor = self._stock[0], self._stock[dead - 1], self._stock[dead]
        silent = reply.fate is Fate.SILENCE
        last = max(self._accepted, oldest.made)
        self.life.deaths.append(Death(last, now, oldest.made, youngest.made, survivor.made, everything, silent))
        self._stock, self._accepted = self._stock[dead:], now
        how = "no longer answers" if silent else "refuses"
        rest = "all others too" if everything else f"those of {spoken(now - survivor.made)} live on"
        self._tell(f"the server {how} cookies of {spoken(now - youngest.made)} and more; {rest}")
