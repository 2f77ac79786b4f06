# SPDX-License-Identifier: MIT
"""What a fault is: one way in which a server misbehaves, its name, and what a correct client does about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from nts.check.peer.authority import Authority
from nts.check.peer.ke import SOUND_KE, KeBehaviour, KeTalk
from nts.check.peer.ntp import SOUND_NTP, NtpBehaviour, NtpTalk


class Side(Enum):
    """Which of the two servers misbehaves."""

    KE = "KE"
    NTP = "NTP"


class Expected(Enum):
    """What a correct client does, in short."""

    USE = "use it"
    """the key exchange, or the time"""
    ABORT = "abort the key exchange"
    """and send no NTP request to this server"""
    SEND_NOTHING = "abort the handshake"
    """and send no octet of application data"""
    DROP = "drop the reply"
    """and wait for a genuine one"""
    BE_PATIENT = "use it, or give up after a while"
    """but not wait forever, and not use half of it"""
    EITHER = "use it, or give up"
    """the RFC leaves it open"""
    SURVIVE = "take the time or drop the reply, and go on working"
    GIVE_UP = "take no time from it"
    """the answer is authentic, or cannot be ignored, but brings no time"""


Change = Callable[[KeBehaviour, Authority], KeBehaviour]
KeHandler = Callable[[KeTalk], None]
NtpHandler = Callable[[NtpTalk], "list[bytes | float]"]


@dataclass(frozen=True)
class Fault:
    """One way to misbehave."""

    name: str
    side: Side
    does: str
    """what the server does, in words"""
    section: str
    """of RFC 8915, unless it says otherwise"""
    rule: str
    """what a client must do, in our words"""
    expected: Expected
    change: Change = field(repr=False, default=lambda behaviour, _authority: behaviour)
    """of a sound NTS-KE server"""
    answer: NtpHandler | None = field(repr=False, default=None)
    """of the time server; None: the sound one"""

    def ke(self, authority: Authority, base: KeBehaviour = SOUND_KE) -> KeBehaviour:
        """The NTS-KE server with this fault."""
        return self.change(base, authority)

    def ntp(self, base: NtpBehaviour = SOUND_NTP) -> NtpBehaviour:
        """The time server with this fault."""
        return base if self.answer is None else replace(base, answer=self.answer)


def _answering(answer: KeHandler) -> Change:
    return lambda behaviour, _authority: replace(behaviour, answer=answer)


class Register:
    """Faults of one kind, in the order declared.

    Each call declares faults that break one rule: its section, the rule, what a correct client does, and then for each
    fault its name, what the server does, and how.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def change(self, section: str, rule: str, expected: Expected, *faults: tuple[str, str, Change]) -> None:
        """Declare faults of the handshake, or of the NTS-KE server as a whole."""
        self.faults += [Fault(name, Side.KE, does, section, rule, expected, change) for name, does, change in faults]

    def ke(self, section: str, rule: str, expected: Expected, *faults: tuple[str, str, KeHandler]) -> None:
        """Declare faults of the NTS-KE response."""
        self.change(section, rule, expected, *((name, does, _answering(answer)) for name, does, answer in faults))

    def ntp(self, section: str, rule: str, expected: Expected, *faults: tuple[str, str, NtpHandler]) -> None:
        """Declare faults of the time server's reply."""
        for name, does, answer in faults:
            self.faults.append(Fault(name, Side.NTP, does, section, rule, expected, answer=answer))
