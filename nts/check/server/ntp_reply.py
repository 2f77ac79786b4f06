# SPDX-License-Identifier: MIT
"""Server checks of the protected reply: its contents, and that it is no longer than its request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from nts.base.registry import ALIGNMENT_SLACK, MAX_PLACEHOLDERS, Leap, Stratum
from nts.check.findings import marked
from nts.check.model import CheckEnded, Finding, Grade, Group, Severity, Skipped, failed, passed, warned
from nts.check.ntp import judge
from nts.check.ntp.answer import Kind
from nts.check.ntp.forge import Forge
from nts.check.ntp.probe import Make
from nts.check.server.probe import ServerProbe
from nts.protocol import ts_client

SLACK_NS = 1_000_000  # for a clock that is read in coarse steps
SHOWN = 5  # exchanges that break the rule
_LEAP_TO_STRATUM, _RECEIVE, _TRANSMIT = (0, 2), (32, 40), (40, 48)  # RFC 5905 section 7.3, octets of the header
ORDINARY: tuple[Make, ...] = (Forge.usual, partial(Forge.plain, label="a plain request"))

group: Group[ServerProbe] = Group("NTP: the reply")


@group.check(
    53, "ntp-answers", section="4.1.8", severity=Severity.MUST, ref="A37 A68",
    sends="A usual NTS request; if there is no reply, a plain one. Six times each at most.",
    expects="Any reply. If only plain requests get one, something on the path may drop NTS.",
    rule="A key exchange names the time server, which serves the client: the cookies are good for nothing else.",
)  # fmt: skip
def ntp_answers(probe: ServerProbe) -> Iterator[Finding]:
    nts, plain = (probe.ntp.knock(make) for make in ORDINARY)
    where, why = probe.ntp.where, f" ({plain.reason})" if plain.reason else ""
    if nts.kind is not Kind.SILENCE:
        yield passed(f"{where} answers: {nts}")
    elif plain.kind is not Kind.SILENCE:
        yield Finding(Grade.PATH, f"{where} answers a plain request, and no NTS request: a filter, or the server")
    elif any(exchange.received for exchange in probe.ntp.tally):
        yield Finding(Grade.PATH, f"{where} has answered before, and does not now{why}")
    else:
        yield failed(f"{where} never answers, neither NTS nor plain requests{why}")


@group.check(
    33, "ntp-basic", section="5.7", severity=Severity.CRIT, ref="A68-A70",
    sends="A usual NTS request: a Unique Identifier of 32 octets, a cookie, an authenticator.",
    expects="An authentic reply with the same identifier, the right origin timestamp, and one fresh, encrypted cookie.",
    rule="A reply holds the request's Unique Identifier and one authenticator under the S2C key. Its cookies are all"
    " encrypted.",
)  # fmt: skip
def ntp_basic(probe: ServerProbe) -> Iterator[Finding]:
    answer = probe.ntp.ask(Forge.usual, linger=True)
    yield from judge.findings([answer], partial(judge.expect_time, cookies=1))
    if probe.ntp.forge.ticket.cookie in answer.cookies:
        yield failed("the reply returns the cookie that was spent", Severity.MUST)
    header = answer.header
    if header and (header.leap == Leap.UNSYNCHRONISED or not 0 < header.stratum <= Stratum.MAX_SYNCHRONISED):
        kiss = f" ({ts_client.kiss_code(header)})" if header.stratum == Stratum.KISS else ""
        text = f"the server's clock is not synchronised: leap {header.leap}, stratum {header.stratum}{kiss}"
        yield marked(warned(text), answer.octets, _LEAP_TO_STRATUM)
    if answer.kind is Kind.TIME and header and not (header.receive and header.transmit):
        text = "an authentic reply without time: its receive or transmit timestamp is zero"
        yield marked(warned(text), answer.octets, _RECEIVE, _TRANSMIT)


@group.check(
    57, "ntp-time", section="RFC 5905 8", severity=Severity.MUST, ref="B12",
    sends="Two usual NTS requests, one after the other.",
    expects="A transmit timestamp that is not before the receive timestamp, and later ones in the second reply. Both"
    " near our clock, or within the dates of the certificate, which is a warning.",
    rule="A server says when the request came and when the reply left, by a clock that others can set theirs by.",
)  # fmt: skip
def ntp_time(probe: ServerProbe) -> Iterator[Finding]:
    answers = [probe.ntp.ask(Forge.usual) for _ in range(2)]
    headers = [a.header for a in answers if a.kind is Kind.TIME and a.header]
    if len(headers) < len(answers):
        raise Skipped("could not be judged: not two authentic replies")
    (first, second), octets = headers, answers[0].octets
    if judge.later(first.transmit, first.receive) < -SLACK_NS:
        yield marked(failed("the transmit timestamp is before the receive timestamp"), octets, _RECEIVE, _TRANSMIT)
    if judge.later(second.receive, first.receive) <= 0:
        text = "the clock stands still: the second request came no later than the first, it says"
        yield marked(failed(text), answers[1].octets, _RECEIVE)
    if first.leap == Leap.UNSYNCHRONISED:
        yield passed("the server says that its clock is not synchronised, so its time may be any")
        return
    dates = probe.ke.dates()
    for name, stamp, span in (("receive", first.receive, _RECEIVE), ("transmit", first.transmit, _TRANSMIT)):
        yield marked(judge.plausible(name, stamp, time.time_ns(), dates), octets, span)


def _many_shapes() -> list[Make]:
    """Requests that a careless server could answer with too much."""
    return [
        Forge.usual,
        lambda f: f.with_placeholders(1),
        lambda f: f.with_placeholders(MAX_PLACEHOLDERS),
        lambda f: f.usual("a placeholder 4 octets too short", extra=[f.placeholder(-4)]),
        lambda f: f.usual("placeholders in excess", extra=[f.placeholder()] * 10),
        lambda f: f.plain("a plain request"),
        lambda f: f.plain("a plain request with an identifier", f.uid()),
        lambda f: f.usual().flipped(-1, 0),
        lambda f: f.usual("a nonce of 8 octets without padding", seal=f.seal(nonce=8)),
        lambda f: f.request("a random cookie", f.uid(), f.random_cookie(), f.seal()),
    ]


@group.check(
    34, "ntp-no-amplify", section="8.4", severity=Severity.CRIT, ref="A71", last=True,
    sends="Ten requests of different shapes, good and bad, once each. This check runs last, because it judges all"
    " exchanges of the run.",
    expects="Everything that a request brings is no longer than the request, apart from 3 octets of alignment.",
    rule="A server must not amplify: the NTS part of a reply is not larger than that of the request.",
)  # fmt: skip
def ntp_no_amplify(probe: ServerProbe) -> Iterator[Finding]:
    trouble: CheckEnded | None = None
    try:
        probe.ntp.burst(_many_shapes(), tries=1)
    except CheckEnded as e:  # what came before still counts
        trouble = e
    exchanges = probe.ntp.tally
    worst = sorted(exchanges, key=lambda e: e.sent - e.received)[:SHOWN]
    excessive = [e for e in worst if e.received > e.sent + ALIGNMENT_SLACK]
    for exchange in excessive:
        yield failed(f"{exchange.label}: {exchange.received} octets in reply to {exchange.sent}")
    if trouble and not excessive:
        raise trouble
    if not excessive:
        answered = sum(e.received > 0 for e in exchanges)
        yield passed(f"{answered} replies to {len(exchanges)} requests, none longer than its request")
