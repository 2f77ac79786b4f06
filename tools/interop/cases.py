# SPDX-License-Identifier: MIT
"""The cases of the matrix: what happens on the stage, and what the packets must show then.

A case plays first: it waits until the client takes the time, and disturbs it. Failed says who did not do what. Then it
judges what was captured, as far as there were keys to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from testkit.processes import eventually
from tools.interop import network
from tools.interop.evidence import Evidence

PATIENCE = 45.0  # seconds for whatever a client is to do next
_SOME = 3  # answers that a client takes
_LOST = 3  # answers


class Rule(NamedTuple):
    """A sentence of RFC 8915."""

    section: str
    text: str


NO_RULE = Rule("", "")
_WHERE = Rule(
    "4.1.7",
    "If no record of this type is sent, the client SHALL interpret this as a directive to associate with an NTPv4"
    " server at the same IP address as the NTS-KE server.",
)
_PORT = Rule(
    "4.1.8",
    "If no record of this type is sent, the client SHALL assume a default of 123 (the registered port number for NTP).",
)
_MANDATORY = Rule(
    "4.1.5",
    "Server implementations of NTS extension fields for NTPv4 MUST support AEAD_AES_SIV_CMAC_256 (Numeric Identifier"
    " 15).",
)
_CHOICE = Rule("4.1.5", "Servers may select among any of the client's offered choices.")
_REFILL = Rule(
    "5.7",
    "The number of NTS Cookie Placeholder extension fields that the client includes SHOULD be such that if the client"
    " includes N placeholders and the server sends back N+1 cookies, the number of unused cookies stored by the client"
    " will come to eight.",
)
_FRESH = Rule(
    "5.7",
    "The number of NTS Cookie extension fields included SHOULD be equal to, and MUST NOT exceed, one plus the number of"
    " valid NTS Cookie Placeholder extension fields included in the request.",
)
_NAK = Rule(
    "5.7",
    "If the server is unable to validate the cookie or authenticate the request, it SHOULD respond with a Kiss-o'-Death"
    ' (KoD) packet (see RFC 5905, Section 7.4) with kiss code "NTSN", meaning "NTS NAK" (NTS negative-acknowledgment).',
)
_RENEW = Rule(
    "5.7",
    "Upon reception of the NTS NAK kiss code, the client SHOULD wait until the next poll for a valid NTS-protected"
    " response and if none is received, initiate a fresh NTS-KE handshake.",
)
_OLD_KEYS = Rule(
    "6",
    "Servers should continue to accept any cookie generated using keys that they have not yet erased, even if those"
    " keys are no longer current.",
)


class Fault(NamedTuple):
    """What somebody did not do, and the sentence that says it should be done."""

    text: str
    rule: Rule


class Failed(Exception):
    """It did not work; the text says what did not happen."""


class Unsupported(Exception):
    """These two cannot do it; the text says why."""


class Stage(Protocol):
    """Server and client at work, and what can be done to them."""

    wire: network.Wire

    def takes(self, answers: int, after: str) -> None:
        """Wait until the client has taken so many more answers. Failed."""

    def restart_server(self, *actions: str) -> None:
        """Stop it, have its program do these, start it again."""

    def rotate(self) -> None:
        """Have the server make a new master key."""

    def restart_client(self, between: Callable[[], None]) -> None:
        """Stop it, do something, start it again."""


@dataclass(frozen=True)
class Case:
    """One case."""

    name: str
    letter: str
    """what stands for it in tables"""
    what: str
    """one line: what happens, and what is expected"""
    play: Callable[[Stage], None]
    judge: Callable[[Evidence, Case], Iterator[Fault]] = lambda _evidence, _case: iter(())
    """what is missing in the evidence"""
    rule: Rule = NO_RULE
    """what it is about, where a client does not take the time"""
    aead: int = 0
    """the one algorithm to use; 0: whichever they agree on"""
    ipv6: bool = False
    ntp_port: int = 123
    time_host: str = ""
    """the address that a Server Negotiation record is to name"""
    forgets: bool = False
    """whether the server loses its master keys, so that an NTS NAK is in order"""


# --- what happens -----------------------------------------------------------------------------------------------------


def _exchange(stage: Stage) -> None:
    stage.takes(_SOME, "the start")


def _refill(stage: Stage) -> None:
    stage.takes(1, "the start")
    with stage.wire.losing() as lost:
        if not eventually(lambda: lost() >= _LOST, PATIENCE):
            raise Failed(f"only {lost()} answers came while they were to be lost")
    stage.takes(_SOME, f"{_LOST} answers were lost")


def _used_up(stage: Stage) -> None:
    stage.takes(1, "the start")
    before = stage.wire.exchanges()
    with stage.wire.losing():
        if not eventually(lambda: stage.wire.exchanges() > before, PATIENCE):
            raise Failed(f"client: it begins no key exchange within {PATIENCE:g} s though no answer comes")
    stage.takes(_SOME, "its cookies were used up")


def _rotation(stage: Stage) -> None:
    stage.takes(_SOME, "the start")
    stage.rotate()
    stage.takes(_SOME, "the server has a new master key")


def _nak(stage: Stage) -> None:
    stage.takes(_SOME, "the start")
    stage.restart_server("forget")
    stage.takes(_SOME, "the server has lost its master keys")


def _expired(stage: Stage) -> None:
    stage.takes(_SOME, "the start")
    stage.restart_client(lambda: stage.restart_server("forget"))
    stage.takes(_SOME, "it starts again with cookies that have expired")


# --- what the packets must show ---------------------------------------------------------------------------------------


def _judge_refill(evidence: Evidence, _case: Case) -> Iterator[Fault]:
    if not any(r.placeholders for r in evidence.requests):
        yield Fault("client: after the loss it asks for one cookie at a time", _REFILL)
    for request in evidence.requests:
        reply = evidence.replies.get(request.frame)
        if request.placeholders and reply and reply.cookies is not None and reply.cookies < 1 + request.placeholders:
            asked = 1 + request.placeholders
            yield Fault(f"server: {reply.cookies} cookies for a request that asks for {asked}", _FRESH)
            return


def _judge_rotation(evidence: Evidence, _case: Case) -> Iterator[Fault]:
    if evidence.naks:
        yield Fault("server: it refuses cookies of its previous master key", _OLD_KEYS)
    elif evidence.exchanges > 1:
        yield Fault("client: it makes another key exchange though its cookies are good", NO_RULE)
    if evidence.readable and len(evidence.key_ids) < 2:
        yield Fault("server: its cookies show no new master key", NO_RULE)


def _judge_nak(evidence: Evidence, _case: Case) -> Iterator[Fault]:
    if not evidence.naks:
        yield Fault("server: it answers nothing to a cookie that it cannot open, and no NTS NAK", _NAK)
    if evidence.exchanges < 2:
        yield Fault("client: it makes no other key exchange", _RENEW)


def _judge_aead(evidence: Evidence, case: Case) -> Iterator[Fault]:
    if not evidence.algorithms:
        raise Unsupported("no key opens the capture, so nobody sees which algorithm they use")
    if evidence.algorithms != {case.aead}:
        used = ", ".join(map(str, sorted(evidence.algorithms)))
        raise Unsupported(f"neither can be held to this algorithm, and they agree on {used}")
    yield from ()


def _judge_address(evidence: Evidence, case: Case) -> Iterator[Fault]:
    server = case.time_host or (network.SERVER6 if case.ipv6 else network.SERVER)
    wanted = f"[{server}]:{case.ntp_port}" if case.ipv6 else f"{server}:{case.ntp_port}"
    if evidence.targets != {wanted}:
        yield Fault(f"client: it asks {', '.join(sorted(evidence.targets)) or 'nobody'} and not {wanted}", case.rule)


def _judge_large(evidence: Evidence, case: Case) -> Iterator[Fault]:
    yield from _judge_aead(evidence, case)
    yield from _judge_refill(evidence, case)


CASES = {
    case.name: case
    for case in (
        Case("exchange", "E", "a key exchange, then three answers", _exchange),
        Case(
            "refill", "F", "three answers are lost; the client asks for cookies to make up for them, and gets them",
            _refill, _judge_refill,
        ),
        Case("used-up", "U", "answers are lost until the client makes another key exchange", _used_up, rule=_RENEW),
        Case(
            "rotation", "R", "the server gets a new master key; cookies of the old one stay good", _rotation,
            _judge_rotation, _OLD_KEYS,
        ),
        Case(
            "nak", "N", "the server loses its master keys; it sends an NTS NAK, and the client gets new cookies", _nak,
            _judge_nak, _RENEW, forgets=True,
        ),
        Case(
            "expired", "X", "the client starts again with cookies whose master key is gone, and gets new ones",
            _expired, _judge_nak, _RENEW, forgets=True,
        ),
        Case("aead-15", "A", "they use AEAD_AES_SIV_CMAC_256", _exchange, _judge_aead, _MANDATORY, aead=15),
        Case("aead-17", "B", "they use AEAD_AES_SIV_CMAC_512", _exchange, _judge_aead, _CHOICE, aead=17),
        Case("aead-30", "C", "they use AEAD_AES_128_GCM_SIV", _exchange, _judge_aead, _CHOICE, aead=30),
        Case("ipv6", "6", "all of it over IPv6", _exchange, _judge_address, _WHERE, ipv6=True),
        Case("port", "P", "the key exchange names another UDP port", _exchange, _judge_address, _PORT, ntp_port=4123),
        Case(
            "server", "S", "the key exchange names another address than its own", _exchange, _judge_address, _WHERE,
            time_host=network.OTHER,
        ),
        Case(
            "large-cookies", "L", "cookies with keys of 64 octets, and several in a packet", _refill, _judge_large,
            aead=17,
        ),
    )
}  # fmt: skip
