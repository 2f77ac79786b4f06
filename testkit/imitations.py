# SPDX-License-Identifier: MIT
"""NTS-KE servers that answer as other implementations do, by the sources of those. Nobody opens their cookies.

The octets are built by hand, so that an error of ours is not in both places.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from nts.check.peer import KeBehaviour, KeTalk
from nts.check.peer.ke import strict_alpn

CRITICAL = 0x8000
ERROR_1 = struct.pack(">HHHHH", CRITICAL | 2, 2, 1, CRITICAL, 0)


def record(kind: int, body: bytes) -> bytes:
    return struct.pack(">HH", kind, len(body)) + body


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


@dataclass(frozen=True)
class Imitation:
    """How an implementation answers."""

    aeads: tuple[int, ...]
    """spoken; the first one of the client's list is taken"""
    cookie: Callable[[], bytes]
    order: str
    """of what stands between the first two records and the last: p(ort), s(erver), c(ookies)"""
    refuse: str
    """what an offer of unknown algorithms gets: empty, error, 15"""
    aead_critical: bool = True
    reads: int = 1 << 16
    """algorithms of a list"""

    @property
    def behaviour(self) -> KeBehaviour:
        return KeBehaviour(self._answer, alpn=strict_alpn, timeout=1.0)

    def _answer(self, talk: KeTalk) -> None:
        request = talk.request()
        if len(request) < 16:
            return
        (length,) = struct.unpack(">H", request[8:10])
        offered = struct.unpack(f">{length // 2}H", request[10 : 10 + length])[: self.reads]
        chosen = next((a for a in offered if a in self.aeads), 15 if self.refuse == "15" else None)
        npn, end = record(CRITICAL | 1, numbers(0)), record(CRITICAL, b"")
        if chosen is None:
            talk.send(ERROR_1 if self.refuse == "error" else npn + record(CRITICAL | 4, b"") + end)
            return
        first = npn + record((CRITICAL if self.aead_critical else 0) | 4, numbers(chosen))
        parts = {
            "p": record(CRITICAL | 7, numbers(talk.behaviour.ntp_port)),
            "s": record(CRITICAL | 6, b"127.0.0.1"),
            "c": b"".join(record(5, self.cookie()) for _ in range(8)),
        }
        talk.send(first + b"".join(parts[letter] for letter in self.order) + end)


def keyed(identifier: bytes, length: int) -> Callable[[], bytes]:
    """Cookies of one master key, random after its identifier."""
    return lambda: identifier + os.urandom(length - len(identifier))


CHRONY = Imitation((15, 30), keyed(os.urandom(3) + b"\xff", 100), "pc", "empty", reads=128)
IMITATIONS = {
    "chrony": CHRONY,
    "NTPsec": Imitation((15, 16, 17), keyed(os.urandom(4), 104), "c", "15", aead_critical=False),
    "ntpd-rs": Imitation((15, 17), keyed(os.urandom(4) + numbers(82), 104), "cp", "empty"),
    "cfnts": Imitation((15,), keyed(os.urandom(4), 100), "cp", "15"),
    "facebook/time": Imitation((30, 15, 17), keyed(bytes((0, 0, 0, 3)), 100), "spc", "error"),
}
"""by the name that the fact sheet gives them"""
