# SPDX-License-Identifier: MIT
"""Checks of NTS-KE messages: valid requests of all shapes, and the form of responses (RFC 8915 section 4)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.check.findings import together
from nts.check.ke import judge
from nts.check.ke.forge import (
    AEAD_15,
    END,
    MIN_REQUEST,
    NTPV4,
    REQUEST,
    UNKNOWN_TYPES,
    Stimulus,
    padded,
    record,
    request,
)
from nts.check.model import Finding, Group, Severity
from nts.check.server.probe import ServerProbe

group: Group[ServerProbe] = Group("NTS-KE messages")

group.check(
    6, "ke-basic", section="4", severity=Severity.MUST, ref="A09 A14 A16 A25 A29",
    sends="The usual request: NTPv4 and AEAD 15.",
    expects="NTPv4, AEAD 15, cookies and End of Message, with critical bits as the RFC requires.",
    rule="A response has exactly one Next Protocol record, one AEAD record, cookies, and End of Message as its end.",
)(lambda p: [judge.agreed(p.ke.ask())])  # fmt: skip
group.check(
    7, "ke-order", section="4", severity=Severity.MUST, ref="A09",
    sends="The usual request with its AEAD record first.",
    expects="The usual response.",
    rule="The records of a message may come in any order, except End of Message.",
)(lambda p: [judge.agreed(p.ke.ask(Stimulus("a request with AEAD first", AEAD_15 + NTPV4 + END)))])  # fmt: skip
group.check(
    8, "ke-cookie-count", section="4.1.6", severity=Severity.SHOULD, ref="A29",
    sends="The usual request.",
    expects="Eight distinct cookies in records that are not critical.",
    rule="A server must send at least one cookie and should send eight, with the critical bit clear.",
)(lambda p: [judge.cookie_count(p.ke.ask())])  # fmt: skip
group.check(
    9, "ke-cookie-shape", section="6", severity=Severity.INFO, ref="A92",
    sends="The usual request.",
    expects="Cookies of one length, a multiple of 4, from 12 to 256 octets.",
    rule="No rule: the format of cookies is up to the server. But some clients cannot store others.",
)(lambda p: [judge.cookie_shape(p.ke.ask())])  # fmt: skip
group.check(
    10, "ke-close-notify", section="4", severity=Severity.MUST, ref="A07",
    sends="The usual request.",
    expects="After the response, TLS close_notify, not just the end of the TCP connection. A warning if the server"
    " only answers our close_notify.",
    rule="Client and server send close_notify after their message.",
)(lambda p: [judge.closed_properly(p.ke.ask(Stimulus(patient=True)))])  # fmt: skip
group.check(
    11, "ke-segmented", section="4", severity=Severity.MUST, ref="A08",
    sends="The usual request in TLS records of one octet each; then another in two halves with a pause between them.",
    expects="The usual response to both.",
    rule="End of Message says where a message ends. How TLS or TCP cuts it up must not matter.",
)(lambda p: together(_segmented(p)))  # fmt: skip


def _segmented(probe: ServerProbe) -> Iterator[tuple[str, Finding]]:
    octets = probe.ke.ask(Stimulus("a request in TLS records of one octet", record_size=1))
    yield "in single octets", judge.agreed(octets)
    halves = probe.ke.ask(Stimulus("a request in halves, with a pause between", halt=len(NTPV4) + 1))
    yield "in halves", judge.agreed(halves)


group.check(
    12, "ke-1024", section="4", severity=Severity.MUST, ref="A10",
    sends="A request of exactly 1024 octets, padded with an unknown record that is not critical.",
    expects="The usual response.",
    rule="A server accepts requests of at least 1024 octets.",
)(lambda p: [judge.agreed(p.ke.ask(Stimulus("a request of 1024 octets", padded(MIN_REQUEST))))])  # fmt: skip
group.check(
    13, "ke-noncrit-unknown", section="4", severity=Severity.MUST, ref="A12 A13",
    sends="Requests with a record of type 0x3FFF, 0x0801, 0x4001, not critical, with a body of odd length.",
    expects="The usual response to each.",
    rule="A server ignores unknown records that are not critical. A type has 15 bits, a body any length.",
)(lambda p: together(_with_unknown(p, kind) for kind in UNKNOWN_TYPES))  # fmt: skip


def _with_unknown(probe: ServerProbe, kind: int) -> tuple[str, Finding]:
    label = f"type {kind:#06x}"
    answer = probe.ke.ask(Stimulus(f"a request with {label}", request(record(kind, b"odd", critical=False))))
    return label, judge.agreed(answer)


group.check(
    32, "ke-second-request", section="4", severity=Severity.MUST, ref="A06",
    sends="The usual request, and a second one on the same connection once the response has come.",
    expects="One response.",
    rule="A connection serves one request and one response.",
)(lambda p: [
    judge.one_response(p.ke.ask(Stimulus("a request, and another after its response", again=REQUEST))),
])  # fmt: skip
