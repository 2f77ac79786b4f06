# SPDX-License-Identifier: MIT
"""Judges what came back for an NTP request. Pure: an answer in, a finding out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from nts.base.registry import FieldType, Mode
from nts.check.findings import counted, marked, merged, true_of
from nts.check.model import Finding, Grade, Severity, failed, passed, warned
from nts.check.ntp.answer import REFUSALS, Kind, NtpAnswer
from nts.codec import ntp
from nts.codec.ntp import NS

NEAR = 60.0  # seconds


def flaws_of_time(answer: NtpAnswer) -> list[str]:
    """What is wrong with the form of an authentic reply (section 5.7, RFC 5905 section 8)."""
    header = answer.header
    assert header is not None
    seals, clear = answer.count(FieldType.AUTHENTICATOR), answer.count(FieldType.COOKIE)
    inside = sum(f.type in (FieldType.UNIQUE_IDENTIFIER, FieldType.AUTHENTICATOR) for f in answer.inner)
    return true_of({
        "the Unique Identifier does not come back once and unchanged": not answer.echoes,
        "the origin timestamp is not the one sent": not answer.origin_is_right,
        f"mode {header.mode} instead of {Mode.SERVER}": header.mode != Mode.SERVER,
        f"version {header.version} instead of {answer.request.version}": header.version != answer.request.version,
        f"{seals} authenticators instead of one": seals != 1,
        f"{counted(clear, 'cookie')} in clear": clear > 0,
        "a cookie placeholder in a reply": answer.count(FieldType.COOKIE_PLACEHOLDER) > 0,
        "an encrypted identifier or authenticator": inside > 0,
    })  # fmt: skip


def expect_time(answer: NtpAnswer, cookies: int | None = None) -> Finding:
    """PASS for an authentic reply in proper form, with exactly `cookies` cookies unless that is None."""
    if answer.kind is not Kind.TIME:
        return failed(f"{answer} instead of time")
    flaws = flaws_of_time(answer)
    if flaws:
        return failed(", ".join(flaws))
    found = len(answer.cookies)
    if cookies is None or found == cookies:
        return passed(str(answer))
    text = f"{counted(found, 'cookie')} instead of {cookies}"
    # Section 5.7: a server MUST NOT send more than were asked for, and SHOULD send as many.
    return failed(text, Severity.MUST) if found > cookies or not found else warned(text)


def expect_no_time(answer: NtpAnswer) -> Finding:
    """PASS for silence and refusals."""
    return passed(str(answer)) if answer.kind in REFUSALS else failed(str(answer))


def expect_nothing_authentic(answer: NtpAnswer) -> Finding:
    """PASS for anything but an authentic reply: without an authenticator, a request is one for plain time, or none."""
    if answer.kind is Kind.TIME:
        return failed(str(answer))
    return passed(f"{answer}; the RFC leaves it open" if answer.kind is Kind.PLAIN else str(answer))


def expect_no_authentic_time(answer: NtpAnswer) -> Finding:
    """Like `expect_no_time`, but WARN for time without protection, which no client accepts."""
    if answer.kind is Kind.TIME:
        return failed(str(answer))
    return passed(str(answer)) if answer.kind in REFUSALS else warned(str(answer))


def later(stamp: int, than: int) -> int:
    """How many nanoseconds one NTP timestamp is later than another, across eras; negative if it is earlier."""
    steps = (stamp - than + (1 << 63)) % (1 << 64) - (1 << 63)
    return steps * NS >> 32


def plausible(name: str, stamp: int, now_ns: int, dates: tuple[int, int] | None) -> Finding:
    """A timestamp must be near our clock, in Unix nanoseconds, or within the certificate's dates: one may be wrong."""
    told = ntp.unix_ns(stamp, now_ns)
    seconds = (told - now_ns) / NS
    if abs(seconds) <= NEAR:
        return passed(f"the {name} timestamp is {seconds:+.3f} s from our clock")
    text = f"the {name} timestamp is {seconds:+.0f} s from our clock"
    if dates and dates[0] <= told <= dates[1]:
        return warned(f"{text}, but within the certificate's dates")
    return failed(f"{text}, and {'outside the dates of the certificate' if dates else 'no certificate supports it'}")


def expect_nak(answer: NtpAnswer) -> Finding:
    """PASS for a correct NTS NAK (sections 5.7 and 7.4), WARN for silence, FAIL for any time."""
    if answer.kind is Kind.SILENCE:
        return warned("silence, although NTSN would tell a client that it needs new cookies")
    if answer.kind in (Kind.TIME, Kind.PLAIN, Kind.UNPROVEN):
        return failed(str(answer), Severity.CRIT)
    if answer.kind is not Kind.NAK:
        return warned(f"{answer} instead of NTSN")
    header = answer.header
    assert header is not None
    wrong = true_of({
        "its Unique Identifier is not the one sent": not answer.echoes,
        "its origin timestamp is not the one sent": not answer.origin_is_right,
        "it holds a cookie": answer.count(FieldType.COOKIE) > 0,
        "it holds an authenticator": answer.count(FieldType.AUTHENTICATOR) > 0,
        f"it is {answer.excess} octets longer than the request": answer.excess > 0,
        f"it is of version {header.version}": header.version != answer.request.version,
    })  # fmt: skip
    return failed(f"NTSN, but {', '.join(wrong)}", Severity.MUST) if wrong else passed(str(answer))


def blaming(answer: NtpAnswer, finding: Finding) -> Finding:
    """The finding. If it is no PASS, it names the request, where that is unusual, and the reply."""
    finding = marked(finding, answer.request.packet, *answer.request.oddities)
    return marked(finding, answer.octets, *answer.oddities)


def findings(answers: Iterable[NtpAnswer], judged: Callable[[NtpAnswer], Finding]) -> list[Finding]:
    """A finding for each answer, named after its request. Equal findings become one."""
    return merged((answer.request.label, blaming(answer, judged(answer))) for answer in answers)


def sweep(answers: Sequence[NtpAnswer], judged: Callable[[NtpAnswer], Finding], what: str) -> list[Finding]:
    """The findings of a sweep that are not PASS, or one for all of them if there are none."""
    notable = [f for f in findings(answers, judged) if f.grade is not Grade.PASS]
    kinds = Counter(a.kind.value for a in answers).most_common()
    tally = ", ".join(f"{number} x {kind}" for kind, number in kinds)
    return notable or [passed(f"{len(answers)} {what}: {tally}")]
