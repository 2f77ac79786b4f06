# SPDX-License-Identifier: MIT
"""Server checks of extension fields: their form, place and number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from nts.base.registry import MIN_UNIQUE_ID, FieldType
from nts.check.model import Finding, Group, Severity, failed, passed
from nts.check.ntp import judge
from nts.check.ntp.answer import Kind, NtpAnswer
from nts.check.ntp.forge import UNKNOWN_LENGTH, Forge, Request
from nts.check.ntp.probe import Make
from nts.check.server.probe import ServerProbe

UID_LENGTHS = (MIN_UNIQUE_ID, 36, 64, 128, 200, 300, 600)  # octets

group: Group[ServerProbe] = Group("NTP: extension fields")


@group.check(
    45, "ntp-nonce-shapes", section="5.6", severity=Severity.MUST, ref="A56 A61",
    sends="Nonces of 15, 24 and 32 octets, one of 8 with 8 octets of Additional Padding, one of 16 with 64.",
    expects="An authentic reply to each.",
    rule="The nonce has any length that the AEAD algorithm accepts, padded to four octets. There may be more"
    " Additional Padding than required.",
)  # fmt: skip
def ntp_nonce_shapes(probe: ServerProbe) -> Iterator[Finding]:
    shapes = ((15, 0), (24, 0), (32, 0), (8, 8), (16, 64))
    answers = [probe.ntp.ask(partial(_with_nonce, length=nonce, padding=padding)) for nonce, padding in shapes]
    yield from judge.findings(answers, judge.expect_time)


def _with_nonce(forge: Forge, length: int, padding: int) -> Request:
    label = f"a nonce of {length} octets" + (f" and {padding} of padding" if padding else "")
    return forge.usual(label, seal=forge.seal(nonce=length, padding=padding))


group.check(
    46, "ntp-nonce-short-nopad", section="5.6", severity=Severity.MUST, ref="A61",
    sends="A nonce of 8 octets without Additional Padding.",
    expects="NTSN or silence, no time.",
    rule="A request with a nonce under 16 octets must be padded, so that a reply with a nonce of 16 octets is not"
    " longer. A server must discard it otherwise.",
)(lambda p: judge.findings(
    p.ntp.burst([lambda f: f.usual("a nonce of 8 octets without padding", seal=f.seal(nonce=8))]), judge.expect_no_time
))  # fmt: skip


@group.check(
    47, "ntp-ef-placement", section="5.7", severity=Severity.MUST, ref="A66",
    sends=f"A field of {UNKNOWN_LENGTH} octets with an experimental type: before all others, encrypted, after the"
    " authenticator.",
    expects="An authentic reply in all three cases.",
    rule="Other extension fields may come before the authenticator, inside it or after it. Fields after it are not"
    " authenticated; the server ignores them, and the packet stays valid.",
)  # fmt: skip
def ntp_ef_placement(probe: ServerProbe) -> Iterator[Finding]:
    makes: list[Make] = [
        lambda f: f.request("an unknown field before the others", f.unknown(), f.uid(), f.cookie(), f.seal()),
        lambda f: f.usual("an encrypted unknown field", seal=f.seal(f.unknown())),
        lambda f: f.request("an unknown field after the authenticator", f.uid(), f.cookie(), f.seal(), f.unknown()),
    ]
    yield from judge.findings([probe.ntp.ask(make) for make in makes], judge.expect_time)


CARDINALITY: list[Make] = [
    lambda f: f.request("no identifier", f.cookie(), f.seal()),
    lambda f: f.request("two identifiers", f.uid(), f.uid(), f.cookie(), f.seal()),
    lambda f: f.request("the identifier encrypted", f.cookie(), f.seal(f.uid())),
    lambda f: f.request("no cookie", f.uid(), f.seal()),
    lambda f: f.request("two cookies", f.uid(), f.cookie(), f.cookie(), f.seal()),
    lambda f: f.request("the cookie encrypted", f.uid(), f.seal(f.cookie())),
    lambda f: f.request("no authenticator", f.uid(), f.cookie()),
    lambda f: f.request("two authenticators", f.uid(), f.cookie(), f.seal(), f.seal()),
]
"""requests that lack a field, or have it twice"""


@group.check(
    48, "ntp-cardinality", section="5.7", severity=Severity.MUST, ref="A62",
    sends="Requests with none and with two of: Unique Identifier, cookie, authenticator; with an encrypted identifier"
    " or cookie instead of one in clear; with a second, encrypted cookie.",
    expects="No authentic reply, except that the encrypted second cookie may get one with a single cookie. The server"
    " still answers usual requests. Time without protection is a warning, unless the request has no authenticator.",
    rule="A request holds exactly one Unique Identifier, one cookie and one authenticator. Identifier and cookie are"
    " authenticated but not encrypted.",
)  # fmt: skip
def ntp_cardinality(probe: ServerProbe) -> Iterator[Finding]:
    *answers, last = probe.ntp.burst([*CARDINALITY, another_cookie_encrypted])
    yield from judge.findings(answers, _judge_cardinality)
    yield from judge.findings([last], _no_second_cookie)


def another_cookie_encrypted(forge: Forge) -> Request:
    """One cookie where it must be, and one where none may be."""
    return forge.usual("another cookie encrypted", seal=forge.seal(forge.cookie()))


def _judge_cardinality(answer: NtpAnswer) -> Finding:
    sent = answer.request.bodies(FieldType.UNIQUE_IDENTIFIER)
    if answer.kind is Kind.TIME and len(sent) > 1:
        returned = sum(f.type == FieldType.UNIQUE_IDENTIFIER and f.body in sent for f in answer.fields)
        return failed(f"{answer}, which returns {returned} of {len(sent)} identifiers")
    if not answer.request.bodies(FieldType.AUTHENTICATOR):
        return judge.expect_nothing_authentic(answer)
    return judge.expect_no_authentic_time(answer)


def _no_second_cookie(answer: NtpAnswer) -> Finding:
    one = answer.kind is Kind.TIME and len(answer.cookies) == 1
    return passed(str(answer)) if one else judge.expect_no_authentic_time(answer)


@group.check(
    49, "ntp-uid-lengths", section="5.3", severity=Severity.MUST, ref="A51",
    sends="Unique Identifiers of 32, 36, 64, 128, 200, 300 and 600 octets; one of 32 octets in a packet without any"
    " other field.",
    expects="An authentic reply with the same identifier to each. The last may go unanswered, but a reply to it must"
    " hold its identifier.",
    rule="The identifier has at least 32 octets and no other limit. The server returns it unchanged in every reply to"
    " a packet that holds one.",
)  # fmt: skip
def ntp_uid_lengths(probe: ServerProbe) -> Iterator[Finding]:
    answers = [probe.ntp.ask(partial(_with_identifier, length=n)) for n in UID_LENGTHS]
    yield from judge.findings(answers, judge.expect_time)
    alone = probe.ntp.burst([lambda f: f.plain("an identifier alone", f.uid())])
    yield from judge.findings(alone, _echoed_if_answered)


def _with_identifier(forge: Forge, length: int) -> Request:
    return forge.request(f"identifier of {length} octets", forge.uid(length), forge.cookie(), forge.seal())


def _echoed_if_answered(answer: NtpAnswer) -> Finding:
    if answer.kind is Kind.SILENCE or answer.echoes:
        return passed(str(answer))
    return failed(f"{answer}, without the identifier")
