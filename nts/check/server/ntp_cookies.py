# SPDX-License-Identifier: MIT
"""Server checks of cookies and cookie placeholders in NTP packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from nts.base.registry import COOKIES_WANTED, MAX_COOKIE, MAX_PACKET, MAX_PLACEHOLDERS, FieldType
from nts.check.model import Finding, Grade, Group, Severity, failed, passed, warned
from nts.check.ntp import judge
from nts.check.ntp.answer import Kind, NtpAnswer
from nts.check.ntp.forge import Forge, Ticket, raw_field
from nts.check.ntp.probe import Make
from nts.check.server.probe import ServerProbe

group: Group[ServerProbe] = Group("NTP: cookies")


def _fitting(forge: Forge, count: int) -> int:
    """`count` placeholders, or as many as fit in a packet that is not fragmented."""
    while count and len(forge.with_placeholders(count).packet) > MAX_PACKET:
        count -= 1
    return count


@group.check(
    35, "ntp-placeholders", section="5.7", severity=Severity.MUST, ref="A69",
    sends="Requests with 1, 3 and 7 cookie placeholders (fewer where a packet would be over 1232 octets).",
    expects="One cookie more than there are placeholders. Fewer is a warning, more or none a failure.",
    rule="A server should return one cookie for the spent one and one for each placeholder, and must not return more.",
)  # fmt: skip
def ntp_placeholders(probe: ServerProbe) -> Iterator[Finding]:
    for count in sorted({_fitting(probe.ntp.forge, n) for n in (1, 3, MAX_PLACEHOLDERS)}):
        answer = probe.ntp.ask(partial(Forge.with_placeholders, count=count))
        yield from judge.findings([answer], partial(judge.expect_time, cookies=count + 1))


@group.check(
    36, "ntp-placeholder-badlen", section="5.5", severity=Severity.MUST, ref="A55",
    sends="A placeholder 4 octets longer than the cookie, one 4 octets shorter, an empty one.",
    expects="A reply with one cookie, or no reply.",
    rule="A placeholder that is not as long as the cookie is invalid and must not bring another or a longer cookie.",
)  # fmt: skip
def ntp_placeholder_badlen(probe: ServerProbe) -> Iterator[Finding]:
    makes: list[Make] = [
        lambda f: f.usual("a placeholder 4 octets too long", extra=[f.placeholder(4)]),
        lambda f: f.usual("a placeholder 4 octets too short", extra=[f.placeholder(-4)]),
        lambda f: f.usual("an empty placeholder", extra=[raw_field(FieldType.COOKIE_PLACEHOLDER)]),
    ]
    yield from judge.findings(probe.ntp.burst(makes), _at_most_one_cookie)


def _at_most_one_cookie(answer: NtpAnswer) -> Finding:
    if answer.kind is Kind.TIME:
        return failed(str(answer)) if len(answer.cookies) > 1 else passed(str(answer))
    return passed(str(answer)) if answer.kind is Kind.SILENCE else warned(str(answer))


def _two_cookies(probe: ServerProbe, make: Make) -> list[Finding]:
    """Judge a placeholder that must count like any other."""

    def judged(answer: NtpAnswer) -> Finding:
        finding = judge.expect_time(answer, cookies=2)
        if finding.grade is Grade.WARN:  # because of this placeholder, or always?
            usual = probe.ntp.ask(partial(Forge.with_placeholders, count=1))
            if len(usual.cookies) > len(answer.cookies):
                return failed(f"{finding.text}, although a usual placeholder brings more")
        return finding

    return judge.findings([probe.ntp.ask(make)], judged)


group.check(
    37, "ntp-placeholder-ff", section="5.5", severity=Severity.MUST, ref="A54",
    sends="A placeholder filled with 0xFF.",
    expects="Two cookies, as for a placeholder of zeros.",
    rule="A server checks the length of a placeholder and ignores its contents.",
)(lambda p: _two_cookies(p, lambda f: f.usual("a placeholder of 0xFF", extra=[f.placeholder(fill=0xFF)])))  # fmt: skip
group.check(
    38, "ntp-placeholder-encrypted", section="5.7", severity=Severity.MUST, ref="A65",
    sends="An encrypted placeholder.",
    expects="Two cookies, as for a placeholder in clear.",
    rule="A client must authenticate its placeholders and may encrypt them, so a server looks inside the ciphertext"
    " too.",
)(lambda p: _two_cookies(p, lambda f: f.usual("an encrypted placeholder", seal=f.seal(f.placeholder()))))  # fmt: skip


@group.check(
    39, "ntp-cookie-chain", section="5.7", severity=Severity.MUST, ref="A70",
    sends="A request for eight cookies, then a request with each of them.",
    expects="Time for each, and no cookie comes twice.",
    rule="The cookies in a reply are fresh, and this server accepts them.",
)  # fmt: skip
def ntp_cookie_chain(probe: ServerProbe) -> Iterator[Finding]:
    start = probe.ntp.forge
    first = probe.ntp.ask(partial(Forge.with_placeholders, count=_fitting(start, MAX_PLACEHOLDERS)), start)
    if first.kind is not Kind.TIME or not first.cookies:
        yield failed(f"{first.request.label}: {first}, so there is no cookie to use")
        return
    unused, seen, answers = deque(first.cookies), [start.ticket.cookie, *first.cookies], list[NtpAnswer]()
    while unused and len(answers) < COOKIES_WANTED:
        cookie = unused.popleft()
        if not 0 < len(cookie) <= MAX_COOKIE:
            yield failed(f"a returned cookie has {len(cookie)} octets, and fits in no NTP packet")
            return
        own = probe.ntp.with_ticket(Ticket(start.ticket.keys, cookie))
        answers.append(probe.ntp.ask(partial(Forge.usual, label=f"returned cookie {len(answers) + 1}"), own))
        unused += answers[-1].cookies
        seen += answers[-1].cookies
    yield from judge.findings(answers, judge.expect_time)
    if len(set(seen)) < len(seen):
        yield failed(f"{len(seen) - len(set(seen))} of {len(seen)} cookies had come before")


@group.check(
    40, "ntp-replay-address", section="5.7", severity=Severity.MUST, ref="A67",
    sends="The same packet twice, from two ports.",
    expects="An authentic reply, both times.",
    rule="The cookie holds everything that a server needs. It keeps no state for a client, so neither the port nor an"
    " earlier use of the cookie matters.",
)  # fmt: skip
def ntp_replay_address(probe: ServerProbe) -> Iterator[Finding]:
    first = probe.ntp.forge.usual("the first time")
    again = replace(first, label="the same packet from another port")
    answers = [probe.ntp.ask(lambda _forge: first), probe.ntp.ask(lambda _forge: again)]
    yield from judge.findings(answers, judge.expect_time)
