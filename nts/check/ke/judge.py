# SPDX-License-Identifier: MIT
"""Judges what a connection to an NTS-KE server brought. Pure: an answer in, a finding out.

Where RFC 8915 leaves something open, both ways pass: a Next Protocol record in an error response; the critical bit of
AEAD, Server and Port records; the order of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Concatenate, ParamSpec

from nts.base.errors import FormatError, NTSError
from nts.base.registry import ALPN, COOKIES_WANTED, ErrorCode, Protocol, RecordType
from nts.base.text import is_ip_address
from nts.check.findings import counted, labelled, listed, marked
from nts.check.ke import forge
from nts.check.ke.answer import CLOSED, End, KeAnswer
from nts.check.model import Finding, Grade, Severity, failed, passed, warned
from nts.codec import records
from nts.codec.aead import Aead
from nts.protocol import ke_client

COOKIE_LENGTHS = range(12, 257)  # octets that all clients known to us can store
LEFT_OPEN = "the RFC leaves it open"
_NTPV4 = [Protocol.NTPV4]
_OFFERED = (Aead.AES_SIV_CMAC_256,)
Q = ParamSpec("Q")


Judge = Callable[Concatenate[KeAnswer, Q], Finding]


def _blaming(judge: Judge[Q]) -> Judge[Q]:
    """The same judgement. If it is no PASS, it names the request, where that is unusual, and the response."""

    @wraps(judge)
    def judged(answer: KeAnswer, /, *args: Q.args, **kwargs: Q.kwargs) -> Finding:
        finding = judge(answer, *args, **kwargs)
        if finding.marks:  # from another judgement that this one has asked
            return finding
        return marked(marked(finding, answer.sent, *forge.oddities(answer.sent)), answer.octets)

    return judged


# --- TLS -------------------------------------------------------------------------------------------------------------


@_blaming
def old_tls_refused(answer: KeAnswer) -> Finding:
    """A handshake that offers TLS 1.2 at most must be refused (section 3)."""
    if answer.handshake:
        return failed(f"the server agreed to {answer.tls_version}")
    said = f"the server {answer.ending}"
    return passed(said) if answer.end in CLOSED else warned(f"neither agreed to nor refused: {said}")


@_blaming
def alpn_selected(answer: KeAnswer) -> Finding:
    """A handshake that offers ntske/1 among others must select it (section 4)."""
    if not answer.handshake:
        return failed(str(answer))
    if answer.alpn != ALPN:
        return failed(f"the server selected {answer.alpn.decode('ascii', 'replace') or 'no protocol'}")
    return passed("ntske/1 selected")


@_blaming
def nothing_given(answer: KeAnswer) -> Finding:
    """Without ntske/1 there must be no key exchange (section 4).

    The RFC does not say how the connection ends. Leaving it open is a warning: it costs the server and helps nobody.
    """
    text = str(answer)
    if answer.cookies:
        return failed(f"served anyway: {text}")
    if answer.message and not answer.closed:
        text += f", and then the server {answer.ending}"
    if not answer.closed:
        text += f"; {LEFT_OPEN}"
    # If the server selects a protocol that was not offered, OpenSSL ends the handshake: the server gets no credit.
    return passed(text) if answer.closed and not answer.problem else warned(text)


# --- responses that agree --------------------------------------------------------------------------------------------


@_blaming
def agreed(answer: KeAnswer, offered: tuple[Aead, ...] = _OFFERED) -> Finding:
    """The answer to a valid request for NTPv4 must keep every rule of section 4 and bring cookies."""
    if answer.message is None:
        return failed(str(answer))
    if answer.of(RecordType.ERROR):
        return failed(f"{answer}, although the request is valid")
    if [r.body for r in answer.of(RecordType.AEAD_ALGORITHM)] == [b""]:
        return failed(f"no algorithm is chosen, although AEAD {listed(int(a) for a in offered)} was offered ({answer})")
    try:
        ke_client.judge_response(answer.message, offered)
        protocols = records.u16_list(answer.of(RecordType.NEXT_PROTOCOL)[0])
    except NTSError as e:
        return failed(f"{e} ({answer})")
    if protocols != _NTPV4:
        return failed(f"next protocols {listed(protocols)}, of which some were not offered")
    return passed(str(answer))


@_blaming
def cookie_count(answer: KeAnswer) -> Finding:
    """At least one cookie, eight if all is well, all distinct, none critical (section 4.1.6)."""
    count = len(answer.cookies)
    if not count:
        return failed(f"no cookies: {answer}", Severity.MUST)
    if len(set(answer.cookies)) < count:
        return failed(f"{count} cookies, only {len(set(answer.cookies))} of them distinct")
    if any(r.critical for r in answer.of(RecordType.NEW_COOKIE)):
        return failed("New Cookie records with the critical bit set")
    text = counted(count, "distinct cookie")
    return passed(text) if count == COOKIES_WANTED else warned(f"{text}, and {COOKIES_WANTED} are usual")


@_blaming
def cookie_shape(answer: KeAnswer) -> Finding:
    """Cookies that every client can store. No rule of the RFC."""
    lengths = sorted({len(c) for c in answer.cookies})
    if not lengths:
        return failed(f"no cookies: {answer}", Severity.MUST)
    text = f"cookies of {listed(lengths)} octets"
    if len(lengths) > 1:
        return warned(f"{text}: not all of one length")
    if lengths[0] % 4:
        return warned(f"{text}: not a multiple of 4, so clients return them with padding")
    if lengths[0] not in COOKIE_LENGTHS:
        return warned(f"{text}: {COOKIE_LENGTHS[0]} to {COOKIE_LENGTHS[-1]} suit all clients")
    return passed(text)


@_blaming
def closed_properly(answer: KeAnswer) -> Finding:
    """close_notify must follow the response (section 4).

    Both sides must send it, but the RFC does not say which side goes first or how soon. So a server that only returns
    the client's gets a warning.
    """
    if answer.message is None:
        return failed(str(answer))
    said = f"after its response the server {answer.ending}"
    if answer.end is not End.CLOSE_NOTIFY:
        return failed(said)
    return warned(f"{said}, and not on its own; {LEFT_OPEN}") if answer.prompted else passed(said)


@_blaming
def one_response(answer: KeAnswer) -> Finding:
    """A second request on the same connection must get no response (section 4)."""
    if answer.message is None:
        return failed(str(answer))
    if answer.message.trailing:
        return failed(f"{answer.message.trailing} more octets after the first response")
    return passed(f"one response, then the server {answer.ending}")


# --- errors ----------------------------------------------------------------------------------------------------------


def _no_answer(answer: KeAnswer, due: str, *, patient: bool = False) -> Finding:
    """Judge an answer without a message. Closing without a word is a warning, whatever the request: it does no harm.

    `patient` says that the server need not have noticed yet that something is wrong: its time-out is its own affair.
    """
    if answer.octets or not (answer.end in CLOSED or (patient and answer.end is End.OPEN)):
        return failed(str(answer))
    late = "" if answer.closed else f"; how long a server waits, {LEFT_OPEN.replace(' it', '')}"
    return warned(f"{answer}, where {due} is due{late}")


@_blaming
def error(answer: KeAnswer, code: ErrorCode = ErrorCode.BAD_REQUEST, *, patient: bool = False) -> Finding:
    """A bad request must get an Error record with this code (section 4.1.3). `patient` as for `_no_answer`."""
    if answer.message is None:
        return _no_answer(answer, f"Error {int(code)}", patient=patient)
    errors = answer.of(RecordType.ERROR)
    if not errors:
        return failed(f"accepted: {answer}")
    try:
        records.check_end_of_message(answer.message)
        codes = {records.single_u16(r) for r in errors}
    except FormatError as e:
        return failed(f"an illegal error response: {e}")
    if codes != {code}:
        return failed(f"{answer}, where Error {int(code)} is due")
    if not all(r.critical for r in errors):
        return failed("an Error record that is not critical")
    if answer.cookies:
        return warned(f"cookies beside an error: {answer}")
    return passed(str(answer))


@_blaming
def gave_up(answer: KeAnswer) -> Finding:
    """A silent client must get Error 1, and then the server must close. Just closing is a warning.

    So is waiting longer than we do, since the time-out is implementation-defined, and closing only once we have.
    """
    finding = error(answer, patient=True)
    if answer.message is None or answer.closed:
        return labelled(f"after {answer.seconds:.0f} s", finding) if answer.message else finding
    text = f"{answer}, but then the server {answer.ending}"
    if answer.prompted and answer.end is End.CLOSE_NOTIFY and finding.grade is Grade.PASS:
        return warned(f"{text}; {LEFT_OPEN}")
    return failed(text)


@_blaming
def after_the_end(answer: KeAnswer) -> Finding:
    """Octets that follow End of Message in a TLS record of their own may be an error, or no part of the message."""
    if answer.message is None:
        return _no_answer(answer, "a response or Error 1", patient=True)
    finding = error(answer) if answer.of(RecordType.ERROR) else agreed(answer)
    return passed(f"{answer}; {LEFT_OPEN}") if finding.grade is Grade.PASS else finding


# --- responses without agreement -----------------------------------------------------------------------------------


def _choice(answer: KeAnswer) -> tuple[list[int], list[int] | None]:
    """The protocols and AEAD algorithms in a response without an error. FormatError when it breaks a rule."""
    assert answer.message is not None
    records.check_end_of_message(answer.message)
    if answer.of(RecordType.ERROR) or answer.of(RecordType.WARNING):
        raise FormatError(f"{answer}, although the request is valid")
    protocols, aeads = answer.of(RecordType.NEXT_PROTOCOL), answer.of(RecordType.AEAD_ALGORITHM)
    if len(protocols) != 1 or not protocols[0].critical:
        raise FormatError(f"{answer}: it must have exactly one Next Protocol record, a critical one")
    if len(aeads) > 1:
        raise FormatError(f"{answer}: more than one AEAD record")
    return records.u16_list(protocols[0]), records.u16_list(aeads[0]) if aeads else None


def _refused(answer: KeAnswer, judge_choice: Callable[[list[int], list[int] | None], Finding]) -> Finding:
    if answer.message is None:
        return _no_answer(answer, "a response")
    if answer.cookies:
        return failed(f"cookies anyway: {answer}")
    try:
        return judge_choice(*_choice(answer))
    except FormatError as e:
        return failed(str(e))


@_blaming
def no_protocol(answer: KeAnswer) -> Finding:
    """A request for only an unknown protocol must get an empty list (section 4.1.2)."""
    return _refused(answer, lambda protocols, _aeads: (failed if protocols else passed)(str(answer)))


@_blaming
def no_aead(answer: KeAnswer) -> Finding:
    """A request for NTPv4 with only an unknown algorithm must get an empty list (section 4.1.5)."""

    def judge_choice(protocols: list[int], aeads: list[int] | None) -> Finding:
        if aeads or protocols not in ([], _NTPV4):
            return failed(f"{answer}, which was not offered")
        if not protocols:
            return warned(f"{answer}: NTPv4 is refused, although only the algorithm is unknown")
        return failed(f"no AEAD record: {answer}") if aeads is None else passed(str(answer))

    return _refused(answer, judge_choice)


def menu(answers: Mapping[int, KeAnswer]) -> Iterator[Finding]:
    """Which algorithms the server speaks, from the answers to requests with one algorithm each, by its number."""
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
            yield failed(f"AEAD {listed(chosen)} chosen, although only {number} was offered", Severity.MUST)
    if unclear:
        yield warned(f"no proper answer to AEAD {listed(unclear)} ({answers[unclear[0]]})")
    if Aead.AES_SIV_CMAC_256 not in spoken:
        yield failed("AEAD 15 (AES-SIV-CMAC-256), which every server must speak, is refused", Severity.MUST)
    yield passed(f"AEAD {listed(spoken)}; not {listed(n for n in answers if n not in spoken)}")


# --- where to find the time ------------------------------------------------------------------------------------------


@_blaming
def where(answer: KeAnswer) -> Finding:
    """Syntax, number and address family of the Server and Port Negotiation records (sections 4.1.7, 4.1.8)."""
    servers, ports = answer.of(RecordType.SERVER), answer.of(RecordType.PORT)
    if answer.message is None or answer.of(RecordType.ERROR):
        return failed(str(answer))
    if len(servers) > 1 or len(ports) > 1:
        return failed(f"{len(servers)} Server and {len(ports)} Port Negotiation records, where one of each is allowed")
    try:
        server, port = answer.time_server
    except FormatError as e:
        return failed(str(e))
    if not port:
        return failed("UDP port 0")
    if is_ip_address(server) and (":" in server) != (":" in answer.address):
        return failed(f"server {server} for a client that connected to {answer.address}", Severity.SHOULD)
    return passed(f"{server if servers else 'the same address'}, UDP port {port}")


def exporter_context(number: int | None, *, echoed: bool) -> Finding:
    """The exporter context that the server uses for AEAD 30 (section 5.1), by the algorithm's number in it.

    `echoed` says whether the server confirmed record 1024, which promises the right context.
    """
    confirmed = " (and record 1024 in the response)" if echoed else ""
    if number == Aead.AES_128_GCM_SIV:
        return passed(f"context 30{confirmed}")
    if number is None:
        return failed(f"neither context 30 nor 15 opens what the server sends{confirmed}")
    return (failed if echoed else warned)(f"context {number} instead of 30{confirmed}")
