# SPDX-License-Identifier: MIT
"""Server checks of keys: every algorithm that is agreed works, nothing gives the keys away, nonces are fresh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from nts.base.registry import RecordType
from nts.check.findings import counted, labelled
from nts.check.ke.answer import KeAnswer
from nts.check.ke.forge import Stimulus, request
from nts.check.ke.probe import fetched
from nts.check.model import Finding, Group, Severity, Skipped, failed, passed
from nts.check.ntp import judge
from nts.check.ntp.answer import Kind, NtpAnswer
from nts.check.ntp.forge import Forge
from nts.check.server.probe import ServerProbe
from nts.codec.aead import Aead, SessionKeys, possible_contexts
from nts.codec.records import encode_u16s

PIECE = 8  # octets of a key: they come together by chance in no run
REPLIES = 4  # whose nonces are compared

group: Group[ServerProbe] = Group("NTP: keys")


def _agreed(probe: ServerProbe, aead: Aead) -> KeAnswer | None:
    """A key exchange with this algorithm alone; None if the server does not speak it."""
    answer = probe.ke.ask(Stimulus(f"a request with AEAD {aead} alone", request(offer=[aead])))
    chosen = [r.body for r in answer.of(RecordType.AEAD_ALGORITHM)]
    return answer if chosen == [encode_u16s(aead)] and answer.cookies else None


@group.check(
    54, "ntp-aeads", section="5.6", severity=Severity.CRIT, ref="A39 A58 A68",
    sends="For each algorithm that the server agrees to, of 15, 16, 17 and 30, a key exchange and a time request.",
    expects="An authentic reply under the keys of each.",
    rule="The keys of an association are those of its TLS session and its algorithm: requests are sealed with C2S, and"
    " replies with S2C.",
)  # fmt: skip
def ntp_aeads(probe: ServerProbe) -> Iterator[Finding]:
    answers = {aead: answer for aead in Aead if (answer := _agreed(probe, aead))}
    if not answers:
        raise Skipped("could not be judged: the server agrees to no algorithm that we know")
    for aead, answer in answers.items():
        yield labelled(f"AEAD {aead:d}", judge.expect_time(_under(probe, answer, aead)))


def _under(probe: ServerProbe, answer: KeAnswer, aead: Aead) -> NtpAnswer:
    """The reply under the keys of a key exchange, with whatever context the server has: ke-1024-record judges that."""
    make = partial(Forge.usual, label=f"a time request with AEAD {aead:d}")
    for context in possible_contexts(aead, confirmed=False):
        again = partial(probe.ntp.ask_with, fetched(answer, aead, context), make)
        reply = again()
        if reply.kind is Kind.SILENCE:  # or a refusal of the next context would count as the answer
            reply = probe.ntp.duel(reply, again)
        if reply.kind is Kind.TIME:
            break
    return reply


@group.check(
    55, "cookie-opaque", section="6", severity=Severity.CRIT, ref="A92",
    sends="A key exchange, and a time request with one of its cookies and a placeholder.",
    expects="No part of the session's keys in the response, in the reply or in any cookie.",
    rule="A cookie holds the keys of a client, and travels in clear: only the server may be able to read it.",
)  # fmt: skip
def cookie_opaque(probe: ServerProbe) -> Iterator[Finding]:
    answer = _agreed(probe, Aead.AES_SIV_CMAC_256)
    if answer is None:
        raise Skipped("could not be judged: the key exchange gave no cookies")
    session = fetched(answer, Aead.AES_SIV_CMAC_256)
    yield _opaque(session.keys, "the NTS-KE response", [answer.octets])
    reply = probe.ntp.ask_with(session, lambda f: f.with_placeholders(1))
    if reply.kind is Kind.SILENCE:
        probe.ntp.control()  # or silence proves nothing
    yield _opaque(session.keys, "the reply", [reply.octets])
    yield _opaque(session.keys, "each returned cookie", reply.cookies)


def _opaque(keys: SessionKeys, where: str, texts: Sequence[bytes]) -> Finding:
    if leaks(keys, texts):
        return failed(f"{where} holds a part of the session's keys in clear")
    return passed(f"{where} holds no part of the session's keys")


def leaks(keys: SessionKeys, texts: Sequence[bytes]) -> bool:
    """Whether any piece of the keys stands in clear in one of these."""
    pieces = [key[i : i + PIECE] for key in (keys.c2s, keys.s2c) for i in range(len(key) - PIECE + 1)]
    return any(piece in text for text in texts for piece in pieces)


@group.check(
    56, "ntp-nonce-fresh", section="5.6", severity=Severity.CRIT, ref="A56",
    sends=f"{REPLIES} usual requests with the same keys.",
    expects="A nonce in each reply that is in no other.",
    rule="Each nonce serves once under a key, as the AEAD algorithms require (RFC 5116 section 3.1).",
)  # fmt: skip
def ntp_nonce_fresh(probe: ServerProbe) -> Iterator[Finding]:
    forge = probe.ntp.forge
    answers = [probe.ntp.ask(Forge.usual, forge) for _ in range(REPLIES)]
    nonces = [a.nonce for a in answers if a.kind is Kind.TIME]
    if len(nonces) < REPLIES:
        raise Skipped(f"could not be judged: only {len(nonces)} authentic replies")
    if len(set(nonces)) < REPLIES:
        yield failed(f"{REPLIES} replies with {counted(len(set(nonces)), 'different nonce')}")
    else:
        yield passed(f"{REPLIES} replies with different nonces of {len(nonces[0])} octets")
