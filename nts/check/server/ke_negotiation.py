# SPDX-License-Identifier: MIT
"""Checks of what a server agrees to: protocols, algorithms, where the time is (RFC 8915 sections 4.1.2 to 4.1.8)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from nts.base.errors import ResolveError
from nts.base.registry import MAX_COOKIE, RecordType
from nts.base.registry import Protocol as NextProtocol
from nts.base.text import is_ip_address
from nts.check import judge_ke
from nts.check.forge import Ticket
from nts.check.judge_ntp import Kind
from nts.check.ke_answer import KeAnswer
from nts.check.ke_forge import (
    AEAD_15,
    END,
    REQUEST,
    UNKNOWN_AEAD,
    UNKNOWN_PROTOCOL,
    protocols,
    record,
    request,
)
from nts.check.model import (
    Finding,
    Group,
    PathTrouble,
    Severity,
    Skipped,
    Verdict,
    failed,
    passed,
)
from nts.check.probe import ServerProbe
from nts.codec.aead import Aead, possible_contexts
from nts.codec.records import encode_u16s
from nts.system import addresses

group: Group[ServerProbe] = Group("NTS-KE negotiation")
MENU = (15, 16, 17, 30, 31)  # the AEAD algorithms that NTS implementations speak
_GCM_SIV = Aead.AES_128_GCM_SIV
_TRIES = 3  # of an NTP request that gets silence


@group.check(
    25, "ke-proto-unknown", section="4.1.2", severity=Severity.MUST, ref="A16",
    sends="A request for the unknown protocol 0x7777 alone.",
    expects="An empty Next Protocol list and the end, without cookies and without an error.",
    rule="The response lists those of the protocols offered that the server accepts, which may be none.",
)  # fmt: skip
def ke_proto_unknown(probe: ServerProbe) -> Iterator[Finding]:
    octets = protocols(UNKNOWN_PROTOCOL) + AEAD_15 + END
    yield judge_ke.no_protocol(probe.ke.ask(octets, what="a request for an unknown protocol"))


@group.check(
    26, "ke-proto-mixed", section="4.1.2", severity=Severity.MUST, ref="A16",
    sends="A request for the unknown protocol 0x7777 and NTPv4, in this order.",
    expects="NTPv4 alone, and the rest of the usual response.",
    rule="The response lists those of the protocols offered that the server accepts.",
)  # fmt: skip
def ke_proto_mixed(probe: ServerProbe) -> Iterator[Finding]:
    octets = protocols(UNKNOWN_PROTOCOL, NextProtocol.NTPV4) + AEAD_15 + END
    yield judge_ke.agreed(probe.ke.ask(octets, what="a request for an unknown protocol and NTPv4"))


@group.check(
    27, "ke-aead-unknown", section="4.1.5", severity=Severity.MUST, ref="A26",
    sends="A request for NTPv4 with the unknown algorithm 0xFFF0 alone.",
    expects="NTPv4 and an empty AEAD list, without cookies; never an algorithm that was not offered.",
    rule="The server chooses one of the algorithms offered; its list is empty if it speaks none of them.",
)  # fmt: skip
def ke_aead_unknown(probe: ServerProbe) -> Iterator[Finding]:
    yield judge_ke.no_aead(probe.ke.ask(request(offer=[UNKNOWN_AEAD]), what="a request with an unknown algorithm"))


@group.check(
    28, "ke-aead-15-last", section="4.1.5", severity=Severity.MUST, ref="A27",
    sends="A request with 400 algorithms: 399 times 0xFFF0, which is unknown, and then AES-SIV-CMAC-256.",
    expects="AEAD 15 and the rest of the usual response.",
    rule="Every server speaks AES-SIV-CMAC-256, so a client that offers it, wherever in its list, is served.",
)  # fmt: skip
def ke_aead_15_last(probe: ServerProbe) -> Iterator[Finding]:
    offer = [UNKNOWN_AEAD] * 399 + [Aead.AES_SIV_CMAC_256]
    yield judge_ke.agreed(probe.ke.ask(request(offer=offer), what="a request with 400 algorithms, 15 the last"))


@group.check(
    29, "ke-aead-menu", section="4.1.5", severity=Severity.INFO, ref="A26 A27 A96",
    sends="Requests with one algorithm each: 15, 16, 17, 30 and 31.",
    expects="The algorithm offered, or an empty list.",
    rule="A server speaks AES-SIV-CMAC-256 (15) and may speak others. The evidence lists them.",
)  # fmt: skip
def ke_aead_menu(probe: ServerProbe) -> Iterator[Finding]:
    answers = {n: probe.ke.ask(request(offer=[n]), what=f"a request with AEAD {n} alone") for n in MENU}
    yield from judge_ke.menu(answers)


@group.check(
    30, "ke-1024-record", section="5.1", severity=Severity.INFO, ref="A40 A94",
    sends="Requests with AEAD 30 (AES-128-GCM-SIV), without and with a record of type 1024, and a time request each.",
    expects="Keys exported with the number 30 in the context, as the RFC has it, in both cases.",
    rule="The context of the key exporter holds the algorithm's number. Some servers put 15 there for AEAD 30, unless"
    " the client asks for the right one by record 1024.",
)  # fmt: skip
def ke_1024_record(probe: ServerProbe) -> Iterator[Finding]:
    compliant_context = record(RecordType.COMPLIANT_CONTEXT, critical=False)
    for more, label in ((b"", "without record 1024"), (compliant_context, "with record 1024")):
        answer = probe.ke.ask(request(more, offer=[_GCM_SIV]), what=f"a request with AEAD 30 {label}")
        chosen = [r.body for r in answer.of(RecordType.AEAD_ALGORITHM)]
        if answer.message is None or chosen != [encode_u16s(_GCM_SIV)] or not answer.cookies:
            yield passed(f"AEAD 30 is not offered ({judge_ke.seen(answer)})")
            return
        echoed = bool(answer.of(RecordType.COMPLIANT_CONTEXT))
        yield judge_ke.labelled(label, judge_ke.exporter_context(_context(probe, answer), echoed=echoed))


def _context(probe: ServerProbe, answer: KeAnswer) -> int | None:
    """The algorithm's number in the exporter context of the keys that the server uses; None: neither 30 nor 15.

    PathTrouble when no reply comes at all.
    """
    cookie, (server, port) = answer.cookies[0], answer.time_server
    if len(cookie) > MAX_COOKIE:
        raise Skipped(f"could not be judged: a cookie of {len(cookie)} octets fits in no NTP packet")
    endpoint = addresses.resolve(addresses.absolute(server), port, socket.SOCK_DGRAM, probe.target.family)[0]
    silent = True
    for number in possible_contexts(_GCM_SIV, confirmed=False):
        forge = probe.ntp.with_ticket(Ticket(answer.keys(_GCM_SIV, number), cookie))
        for _ in range(_TRIES):
            reply = probe.ntp.ask_at(endpoint, forge.usual(f"a time request under the keys of context {number:d}"))
            if reply.kind is Kind.TIME:
                return number
            if reply.kind is not Kind.SILENCE:
                silent = False
                break
    if silent:
        raise PathTrouble(
            f"no reply from {addresses.format_address(endpoint.address)} by NTP, in {2 * _TRIES} attempts"
        )
    return None


@group.check(
    31, "ke-server-port", section="4.1.7", severity=Severity.MUST, ref="A31 A34 A35 A37",
    sends="The usual request; then one that asks for the server's own address by a Server Negotiation record.",
    expects="At most one Server and one Port Negotiation record, well-formed; a server of the same address family.",
    rule="A server is an IPv4 address in dotted decimal, an IPv6 address without zone, or a fully qualified domain"
    " name, and should be reachable in the family of addresses that the client came by. A port has two octets.",
)  # fmt: skip
def ke_server_port(probe: ServerProbe) -> Iterator[Finding]:
    answer = probe.ke.ask(REQUEST)
    yield from _where(answer)
    address = answer.address.partition("%")[0]
    wish = record(RecordType.SERVER, address.encode("ascii"), critical=False)
    wished = probe.ke.ask(request(wish), what=f"a request for the time server {address}")
    for finding in _where(wished):
        yield judge_ke.labelled("asked for its own address", finding)


def _where(answer: KeAnswer) -> Iterator[Finding]:
    finding = judge_ke.where(answer)
    yield finding
    if finding.verdict is not Verdict.PASS:
        return
    server, port = answer.time_server
    family = socket.AF_INET6 if ":" in answer.address else socket.AF_INET
    try:
        if not is_ip_address(server.partition("%")[0]):
            addresses.resolve(addresses.absolute(server), port, socket.SOCK_DGRAM, family)
    except ResolveError as e:
        yield failed(f"{e}, in the address family of {answer.address}", Severity.SHOULD)
