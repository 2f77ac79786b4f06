# SPDX-License-Identifier: MIT
"""Judgements on what came of a connection to an NTS-KE server. Pure: an answer in, a finding out.

What RFC 8915 leaves open is accepted both ways: a Next Protocol record in an error response, the critical bit of AEAD,
server and port records, the order of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from nts.base.errors import FormatError, NTSError
from nts.base.registry import ALPN, COOKIES_WANTED, ERROR_NAMES, ErrorCode, Protocol, RecordType
from nts.base.text import is_ip_address
from nts.check.ke_answer import CLOSED, End, KeAnswer
from nts.check.model import Finding, Severity, Verdict, counted, failed, passed, warned
from nts.codec import records
from nts.codec.aead import Aead
from nts.codec.records import Record
from nts.protocol import ke_client

COOKIE_LENGTHS = range(12, 257)  # octets that all clients known to us can store
_LISTED = 12
_NTPV4 = [Protocol.NTPV4]
_OFFERED = (Aead.AES_SIV_CMAC_256,)


def labelled(label: str, finding: Finding) -> Finding:
    """A finding of one stimulus among several."""
    return replace(finding, text=f"{label}: {finding.text}")


def together(findings: Iterable[tuple[str, Finding]]) -> Iterator[Finding]:
    """Findings of several stimuli with their labels; what passed alike is said once."""
    alike: dict[str, list[str]] = {}
    for label, finding in findings:
        if finding.verdict is Verdict.PASS:
            alike.setdefault(finding.text, []).append(label)
        else:
            yield labelled(label, finding)
    for text, labels in alike.items():
        yield passed(f"{', '.join(labels)}: {text}")


def listed(things: Iterable[object]) -> str:
    """Some things as people write them, the first few of many: what a server sends may have no end."""
    texts = [str(t) for t in things]
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED] + [f"{more} more"] * (more > 0)) or "none"


# --- what came, in words ---------------------------------------------------------------------------------------------


def seen(answer: KeAnswer) -> str:
    """What came, in one line. Cookies are counted only."""
    if not answer.handshake:
        return f"no TLS: the server {answer.ending}"
    if answer.message is None:
        return f"{answer.problem or 'no answer'}: the server {answer.ending} after {answer.seconds:.1f} s"
    parts = [_shown(r) for r in answer.message.records[:-1] if r.type != RecordType.NEW_COOKIE]
    if answer.cookies:
        parts.append(counted(len(answer.cookies), "cookie"))
    if answer.message.trailing:
        parts.append(f"{answer.message.trailing} octets after the end")
    return listed(parts) if parts else "a message without a record but its end"


_SHORT = {RecordType.NEXT_PROTOCOL: "protocols", RecordType.AEAD_ALGORITHM: "AEAD"}


def _shown(record: Record) -> str:
    try:
        match record.type:
            case RecordType.NEXT_PROTOCOL | RecordType.AEAD_ALGORITHM:
                numbers = records.u16_list(record)
                return f"{_SHORT[RecordType(record.type)]} [{listed(numbers) if numbers else ''}]"
            case RecordType.ERROR:
                code = records.single_u16(record)
                return f"Error {code} ({ERROR_NAMES.get(code, 'unknown')})"
            case RecordType.WARNING:
                return f"Warning {records.single_u16(record)}"
            case RecordType.SERVER:
                return f"server {records.server_name(record)}"
            case RecordType.PORT:
                return f"port {records.single_u16(record)}"
    except FormatError as e:
        return f"a malformed {record.name} record ({e})"
    return f"a record of type {record.type}"


# --- TLS -------------------------------------------------------------------------------------------------------------


def old_tls_refused(answer: KeAnswer) -> Finding:
    """Of a handshake that offered TLS 1.2 at most (section 3)."""
    if answer.handshake:
        return failed(f"the server agreed to {answer.tls_version}")
    said = f"the server {answer.ending}"
    return passed(said) if answer.end in CLOSED else warned(f"not agreed to, but not refused: {said}")


def alpn_selected(answer: KeAnswer) -> Finding:
    """Of a handshake that offered ntske/1 among others (section 4)."""
    if not answer.handshake:
        return failed(seen(answer))
    if answer.alpn != ALPN:
        return failed(f"the server selected {answer.alpn.decode('ascii', 'replace') or 'no protocol'}")
    return passed("ntske/1 selected")


def nothing_given(answer: KeAnswer) -> Finding:
    """Of a connection without ntske/1, in which no key exchange may take place (section 4).

    The RFC does not say how it ends. One that stays open is a warning: it costs the server, and helps nobody.
    """
    text = seen(answer)
    if answer.cookies:
        return failed(f"served all the same: {text}")
    if answer.message and not answer.closed:
        text += f", and then the server {answer.ending}"
    # OpenSSL itself ends a handshake in which the server selects what was not offered: no merit of the server.
    return passed(text) if answer.closed and not answer.problem else warned(text)


# --- responses that agree --------------------------------------------------------------------------------------------


def agreed(answer: KeAnswer, offered: tuple[Aead, ...] = _OFFERED) -> Finding:
    """Of a good request for NTPv4: the answer keeps to every rule of section 4 and brings cookies."""
    if answer.message is None:
        return failed(seen(answer))
    try:
        ke_client.judge_response(answer.message, offered)
        protocols = records.u16_list(answer.of(RecordType.NEXT_PROTOCOL)[0])
    except NTSError as e:
        return failed(f"{e} ({seen(answer)})")
    if protocols != _NTPV4:
        return failed(f"next protocols {listed(protocols)}, not all of which were offered")
    return passed(seen(answer))


def cookie_count(answer: KeAnswer) -> Finding:
    """Section 4.1.6: at least one, eight if all is well, none twice, none critical."""
    count = len(answer.cookies)
    if not count:
        return failed(f"no cookies: {seen(answer)}", Severity.MUST)
    if len(set(answer.cookies)) < count:
        return failed(f"{count} cookies, only {len(set(answer.cookies))} of them distinct")
    if any(r.critical for r in answer.of(RecordType.NEW_COOKIE)):
        return failed("New Cookie records with the critical bit set")
    text = counted(count, "distinct cookie")
    return passed(text) if count == COOKIES_WANTED else warned(f"{text}, and {COOKIES_WANTED} are usual")


def cookie_shape(answer: KeAnswer) -> Finding:
    """What makes cookies easy for clients; no rule of the RFC."""
    lengths = sorted({len(c) for c in answer.cookies})
    if not lengths:
        return failed(f"no cookies: {seen(answer)}", Severity.MUST)
    text = f"cookies of {listed(lengths)} octets"
    if len(lengths) > 1:
        return warned(f"{text}: not all of one length")
    if lengths[0] % 4:
        return warned(f"{text}: not a multiple of 4, so clients return them with padding")
    if lengths[0] not in COOKIE_LENGTHS:
        return warned(f"{text}: {COOKIE_LENGTHS[0]} to {COOKIE_LENGTHS[-1]} suit all clients")
    return passed(text)


def closed_properly(answer: KeAnswer) -> Finding:
    """Section 4: close_notify follows the response.

    Client and server have to send it, and neither is told to be the first, nor how soon: a server that only returns the
    client's is a warning.
    """
    if answer.message is None:
        return failed(seen(answer))
    said = f"after its response the server {answer.ending}"
    if answer.end is not End.CLOSE_NOTIFY:
        return failed(said)
    return warned(f"{said}, and not by itself") if answer.prompted else passed(said)


def one_response(answer: KeAnswer) -> Finding:
    """Of a connection on which a second request was sent (section 4)."""
    if answer.message is None:
        return failed(seen(answer))
    if answer.message.trailing:
        return failed(f"{answer.message.trailing} more octets after the first response")
    return passed(f"one response, then the server {answer.ending}")


# --- errors ----------------------------------------------------------------------------------------------------------


def error(answer: KeAnswer, code: ErrorCode = ErrorCode.BAD_REQUEST, *, may_close: bool = False) -> Finding:
    """Of a bad request: an Error record with this code (section 4.1.3). `may_close`: just closing is bearable."""
    if answer.message is None:
        bearable = may_close and not answer.octets and answer.end in CLOSED
        return (warned if bearable else failed)(seen(answer))
    errors = answer.of(RecordType.ERROR)
    if not errors:
        return failed(f"accepted: {seen(answer)}")
    try:
        records.check_end_of_message(answer.message)
        codes = {records.single_u16(r) for r in errors}
    except FormatError as e:
        return failed(f"an illegal error response: {e}")
    if codes != {code}:
        return failed(f"{seen(answer)}, where Error {int(code)} is due")
    if not all(r.critical for r in errors):
        return failed("an Error record that is not critical")
    if answer.cookies:
        return warned(f"cookies beside an error: {seen(answer)}")
    return passed(seen(answer))


def gave_up(answer: KeAnswer) -> Finding:
    """Of a client that says nothing: Error 1, and then the end, or at least the end, of the server's own accord."""
    finding = error(answer, may_close=True)
    if answer.message is None or answer.closed:
        return labelled(f"after {answer.seconds:.0f} s", finding) if answer.message else finding
    return failed(f"{seen(answer)}, but then the server {answer.ending}")


# --- responses that don't agree --------------------------------------------------------------------------------------


def _choice(answer: KeAnswer) -> tuple[list[int], list[int] | None]:
    """The protocols and AEAD algorithms of a response without an error. FormatError when it is illegal."""
    assert answer.message is not None
    records.check_end_of_message(answer.message)
    if answer.of(RecordType.ERROR) or answer.of(RecordType.WARNING):
        raise FormatError(f"{seen(answer)}, where nothing is wrong with the request")
    protocols, aeads = answer.of(RecordType.NEXT_PROTOCOL), answer.of(RecordType.AEAD_ALGORITHM)
    if len(protocols) != 1 or not protocols[0].critical:
        raise FormatError(f"{seen(answer)}: there must be one Next Protocol record, and critical")
    if len(aeads) > 1:
        raise FormatError(f"{seen(answer)}: more than one AEAD record")
    return records.u16_list(protocols[0]), records.u16_list(aeads[0]) if aeads else None


def _refused(answer: KeAnswer, judge: Callable[[list[int], list[int] | None], Finding]) -> Finding:
    if answer.message is None:
        return failed(seen(answer))
    if answer.cookies:
        return failed(f"cookies all the same: {seen(answer)}")
    try:
        return judge(*_choice(answer))
    except FormatError as e:
        return failed(str(e))


def no_protocol(answer: KeAnswer) -> Finding:
    """Of a request for an unknown protocol alone (section 4.1.2): an empty list."""

    def judge(protocols: list[int], _aeads: list[int] | None) -> Finding:
        return (failed if protocols else passed)(seen(answer))

    return _refused(answer, judge)


def no_aead(answer: KeAnswer) -> Finding:
    """Of a request for NTPv4 with an unknown algorithm alone (section 4.1.5): an empty list."""

    def judge(protocols: list[int], aeads: list[int] | None) -> Finding:
        if aeads or protocols not in ([], _NTPV4):
            return failed(f"{seen(answer)}, which was not offered")
        if not protocols:
            return warned(f"{seen(answer)}: NTPv4 is refused, where only the algorithm is unknown")
        return failed(f"no AEAD record: {seen(answer)}") if aeads is None else passed(seen(answer))

    return _refused(answer, judge)


def menu(answers: Mapping[int, KeAnswer]) -> Iterator[Finding]:
    """Of requests with one algorithm each, by its number: which of them the server speaks."""
    spoken, unclear = [], []
    for number, answer in answers.items():
        try:
            chosen = _choice(answer)[1] if answer.message else None
        except FormatError:
            chosen = None
        if chosen is None:
            unclear.append(number)
        elif chosen == [number]:
            spoken.append(number)
        elif chosen:
            yield failed(f"AEAD {listed(chosen)} chosen, where only {number} was offered", Severity.MUST)
    if unclear:
        yield warned(f"no proper answer to AEAD {listed(unclear)} ({seen(answers[unclear[0]])})")
    if Aead.AES_SIV_CMAC_256 not in spoken:
        yield failed("AEAD 15 (AES-SIV-CMAC-256), which every server must speak, is refused", Severity.MUST)
    yield passed(f"AEAD {listed(spoken)}; not {listed(n for n in answers if n not in spoken)}")


# --- where to find the time ------------------------------------------------------------------------------------------


def where(answer: KeAnswer) -> Finding:
    """The Server and Port Negotiation records (sections 4.1.7, 4.1.8): syntax, number, and the address family."""
    servers, ports = answer.of(RecordType.SERVER), answer.of(RecordType.PORT)
    if answer.message is None or answer.of(RecordType.ERROR):
        return failed(seen(answer))
    if len(servers) > 1 or len(ports) > 1:
        return failed(f"{len(servers)} Server and {len(ports)} Port Negotiation records; one of each at most")
    try:
        server, port = answer.time_server
    except FormatError as e:
        return failed(str(e))
    if not port:
        return failed("UDP port 0")
    if is_ip_address(server) and (":" in server) != (":" in answer.address):
        return failed(f"server {server} for a client that came to {answer.address}", Severity.SHOULD)
    return passed(f"{server if servers else 'the same address'}, UDP port {port}")


def exporter_context(number: int | None, *, echoed: bool) -> Finding:
    """Of AEAD 30: the algorithm's number in the context of the key exporter that the server uses (section 5.1).

    `echoed`: whether the server confirmed record 1024, and with it that it uses the right one.
    """
    confirmed = " (and record 1024 in the response)" if echoed else ""
    if number == Aead.AES_128_GCM_SIV:
        return passed(f"context 30{confirmed}")
    if number is None:
        return failed(f"neither context 30 nor 15 opens what the server sends{confirmed}")
    return (failed if echoed else warned)(f"context {number}, and not 30{confirmed}")
