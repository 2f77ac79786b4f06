# SPDX-License-Identifier: MIT
"""Checks of what a server agrees to: protocol, algorithm, time server (RFC 8915 sections 4.1.2 to 4.1.8)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

from nts.base.errors import ResolveError
from nts.base.registry import Protocol, RecordType
from nts.base.text import is_ip_address
from nts.check.findings import labelled
from nts.check.ke import judge
from nts.check.ke.answer import KeAnswer
from nts.check.ke.forge import AEAD_15, END, UNKNOWN_AEAD, UNKNOWN_PROTOCOL, Stimulus, protocols, record, request
from nts.check.ke.probe import fetched
from nts.check.model import Finding, Grade, Group, PathTrouble, Severity, failed, passed
from nts.check.ntp.answer import Kind
from nts.check.ntp.forge import Forge
from nts.check.server.probe import ServerProbe
from nts.codec.aead import Aead, possible_contexts
from nts.codec.records import encode_u16s
from nts.system import addresses

group: Group[ServerProbe] = Group("NTS-KE negotiation")
MENU = (15, 16, 17, 30, 31)  # the AEAD algorithms that NTS implementations speak
_GCM_SIV = Aead.AES_128_GCM_SIV


@group.check(
    25, "ke-proto-unknown", section="4.1.2", severity=Severity.MUST, ref="A16",
    sends="A request for only the unknown protocol 0x7777.",
    expects="An empty Next Protocol list and End of Message, without cookies or an error.",
    rule="The response lists the offered protocols that the server accepts, perhaps none.",
)  # fmt: skip
def ke_proto_unknown(probe: ServerProbe) -> Iterator[Finding]:
    octets = protocols(UNKNOWN_PROTOCOL) + AEAD_15 + END
    yield judge.no_protocol(probe.ke.ask(Stimulus("a request for an unknown protocol", octets)))


@group.check(
    26, "ke-proto-mixed", section="4.1.2", severity=Severity.MUST, ref="A16",
    sends="A request for the unknown protocol 0x7777 and NTPv4, in this order.",
    expects="NTPv4 alone, and the rest of the usual response.",
    rule="The response lists the offered protocols that the server accepts.",
)  # fmt: skip
def ke_proto_mixed(probe: ServerProbe) -> Iterator[Finding]:
    octets = protocols(UNKNOWN_PROTOCOL, Protocol.NTPV4) + AEAD_15 + END
    yield judge.agreed(probe.ke.ask(Stimulus("a request for an unknown protocol and NTPv4", octets)))


group.check(
    27, "ke-aead-unknown", section="4.1.5", severity=Severity.MUST, ref="A26",
    sends="A request for NTPv4 with only the unknown algorithm 0xFFF0.",
    expects="NTPv4 and an empty AEAD list, without cookies; never an algorithm that was not offered.",
    rule="The server chooses one of the offered algorithms. If it speaks none of them, its list is empty.",
)(lambda p: [
    judge.no_aead(p.ke.ask(Stimulus("a request with an unknown algorithm", request(offer=[UNKNOWN_AEAD])))),
])  # fmt: skip


@group.check(
    28, "ke-aead-15-last", section="4.1.5", severity=Severity.MUST, ref="A27",
    sends="A request with 400 algorithms: 399 times the unknown 0xFFF0, and then AES-SIV-CMAC-256.",
    expects="AEAD 15 and the rest of the usual response.",
    rule="Every server speaks AES-SIV-CMAC-256, so it must serve a client that offers it anywhere in its list.",
)  # fmt: skip
def ke_aead_15_last(probe: ServerProbe) -> Iterator[Finding]:
    offer = [UNKNOWN_AEAD] * 399 + [Aead.AES_SIV_CMAC_256]
    yield judge.agreed(probe.ke.ask(Stimulus("a request with 400 algorithms, 15 the last", request(offer=offer))))


@group.check(
    29, "ke-aead-menu", section="4.1.5", severity=Severity.INFO, ref="A26 A27 A96",
    sends="Requests with one algorithm each: 15, 16, 17, 30 and 31.",
    expects="The offered algorithm, or an empty list.",
    rule="A server speaks AES-SIV-CMAC-256 (15) and may speak others. The evidence lists them.",
)  # fmt: skip
def ke_aead_menu(probe: ServerProbe) -> Iterator[Finding]:
    answers = {n: probe.ke.ask(Stimulus(f"a request with AEAD {n} alone", request(offer=[n]))) for n in MENU}
    yield from judge.menu(answers)


@group.check(
    30, "ke-1024-record", section="5.1", severity=Severity.INFO, ref="A40 A94",
    sends="Requests with AEAD 30 (AES-128-GCM-SIV), without and with record 1024, and a time request after each.",
    expects="In both cases, keys exported with the number 30 in the context, as the RFC requires.",
    rule="The exporter context holds the algorithm's number. Some servers put 15 there for AEAD 30, unless the client"
    " asks for the right number with record 1024.",
)  # fmt: skip
def ke_1024_record(probe: ServerProbe) -> Iterator[Finding]:
    compliant_context = record(RecordType.COMPLIANT_CONTEXT, critical=False)
    for more, label in ((b"", "without record 1024"), (compliant_context, "with record 1024")):
        stimulus = Stimulus(f"a request with AEAD 30 {label}", request(more, offer=[_GCM_SIV]))
        answer = probe.ke.ask(stimulus)
        chosen = [r.body for r in answer.of(RecordType.AEAD_ALGORITHM)]
        if answer.message is None or chosen != [encode_u16s(_GCM_SIV)] or not answer.cookies:
            yield passed(f"AEAD 30 is not offered ({answer})")
            return
        echoed = bool(answer.of(RecordType.COMPLIANT_CONTEXT))
        yield labelled(label, judge.exporter_context(_context(probe, answer), echoed=echoed))


def _context(probe: ServerProbe, answer: KeAnswer) -> int | None:
    """The number in the exporter context of the keys that the server uses: 30, 15, or None if neither fits.

    PathTrouble when one of the requests gets no reply.
    """
    silent = False
    for number in possible_contexts(_GCM_SIV, confirmed=False):
        label = f"a time request under the keys of context {number:d}"
        reply = probe.ntp.ask_with(fetched(answer, _GCM_SIV, number), partial(Forge.usual, label=label))
        if reply.kind is Kind.TIME:
            return number
        silent |= reply.kind is Kind.SILENCE
    if silent:
        server, port = answer.time_server
        raise PathTrouble(f"no reply from {addresses.format_address((server, port))} by NTP to a request")
    return None


@group.check(
    31, "ke-server-port", section="4.1.7", severity=Severity.MUST, ref="A31 A34 A35 A37",
    sends="The usual request; then one with a Server Negotiation record that asks for the server's own address.",
    expects="At most one Server and one Port Negotiation record, well-formed; a server of the same address family.",
    rule="A server is an IPv4 address in dotted decimal, an IPv6 address without a zone, or a fully qualified domain"
    " name. It should be reachable in the address family that the client uses. A port has two octets.",
)  # fmt: skip
def ke_server_port(probe: ServerProbe) -> Iterator[Finding]:
    answer = probe.ke.ask()
    yield from _where(answer)
    address = answer.address.partition("%")[0]
    wish = record(RecordType.SERVER, address.encode("ascii"), critical=False)
    wished = probe.ke.ask(Stimulus(f"a request for the time server {address}", request(wish)))
    for finding in _where(wished):
        yield labelled("asked for its own address", finding)


def _where(answer: KeAnswer) -> Iterator[Finding]:
    finding = judge.where(answer)
    yield finding
    if finding.grade is not Grade.PASS:
        return
    server, port = answer.time_server
    family = addresses.family_of(answer.address)
    try:
        if not is_ip_address(server.partition("%")[0]):
            addresses.resolve(addresses.absolute(server), port, socket.SOCK_DGRAM, family)
    except ResolveError as e:
        yield failed(f"{e}, in the address family of {answer.address}", Severity.SHOULD)
