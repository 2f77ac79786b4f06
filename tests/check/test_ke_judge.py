# SPDX-License-Identifier: MIT
"""Judgements on NTS-KE answers, without a network: octets and an end in, a finding out."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.registry import ErrorCode, RecordType
from nts.check.findings import together
from nts.check.ke import judge as judge_ke
from nts.check.ke.answer import End, KeAnswer
from nts.check.ke.forge import AEAD_15, END, NTPV4, UNKNOWN_TYPE, aeads, protocols, record
from nts.check.model import Finding, Grade, Severity, failed, passed
from nts.check.peer.craft import random_cookies, response
from nts.codec import records

FAIL, WARN, PASS = Grade.FAIL, Grade.WARN, Grade.PASS
Judge = Callable[[KeAnswer], Finding]
ERROR_1 = record(RecordType.ERROR, b"\0\1")
COOKIE = record(RecordType.NEW_COOKIE, bytes(100), critical=False)
SHORT = response(cookies=random_cookies(7))
bearable = functools.partial(judge_ke.error, patient=True)
unknown = functools.partial(judge_ke.error, code=ErrorCode.UNRECOGNIZED_CRITICAL_RECORD)


def answer(octets: bytes = b"", end: End = End.CLOSE_NOTIFY, **more: object) -> KeAnswer:
    return KeAnswer(octets, end, address="192.0.2.1", **more)  # type: ignore[arg-type]


def server(name: bytes, *, critical: bool = True) -> bytes:
    return record(RecordType.SERVER, name, critical=critical)


CASES: list[tuple[Judge, KeAnswer, Grade, str]] = [
    (judge_ke.old_tls_refused, answer(end=End.ALERT, handshake=False), PASS, "a TLS alert"),
    (judge_ke.old_tls_refused, answer(end=End.EOF, handshake=False), PASS, "without close_notify"),
    (judge_ke.old_tls_refused, answer(end=End.OPEN, handshake=False), WARN, "left the connection open"),
    (judge_ke.old_tls_refused, answer(end=End.BROKEN, handshake=False), WARN, "broke TLS"),
    (judge_ke.old_tls_refused, answer(tls_version="TLSv1.2"), FAIL, "agreed to TLSv1.2"),
    (judge_ke.alpn_selected, answer(response()), PASS, "ntske/1"),
    (judge_ke.alpn_selected, answer(response(), alpn=b"h2"), FAIL, "h2"),
    (judge_ke.alpn_selected, answer(response(), alpn=b""), FAIL, "no protocol"),
    (judge_ke.alpn_selected, answer(end=End.ALERT, handshake=False, detail="no_application_protocol"), FAIL, "alert"),
    (judge_ke.nothing_given, answer(response()), FAIL, "served anyway"),
    (judge_ke.nothing_given, answer(b"\0\0"), WARN, "2 octets without an End of Message"),
    (judge_ke.nothing_given, answer(ERROR_1 + END), PASS, "Error 1"),
    (judge_ke.nothing_given, answer(end=End.OPEN), WARN, "left the connection open"),
    (judge_ke.nothing_given, answer(end=End.CLOSE_NOTIFY, prompted=True), WARN, "once we had"),
    (judge_ke.nothing_given, answer(ERROR_1 + END, prompted=True), WARN, "and then the server closed"),
    (judge_ke.nothing_given, answer(end=End.OPEN, handshake=False), WARN, "left the connection open"),
    (judge_ke.nothing_given, answer(end=End.BROKEN, handshake=False), WARN, "broke TLS"),
    (judge_ke.nothing_given, answer(end=End.ALERT, handshake=False), PASS, "a TLS alert"),
    #
    (judge_ke.agreed, answer(response()), PASS, "protocols [0], AEAD [15], 8 cookies"),
    (judge_ke.agreed, answer(SHORT), PASS, "7 cookies"),
    (judge_ke.agreed, answer(response(), End.RESET), PASS, "8 cookies"),
    (judge_ke.agreed, answer(response(more=server(b"192.0.2.7"))), PASS, "server 192.0.2.7"),
    (judge_ke.agreed, answer(response(more=server(b"192.0.2.7", critical=False))), PASS, "server 192.0.2.7"),
    (judge_ke.agreed, answer(response(aeads=None, more=record(4, b"\0\x0f", critical=False))), PASS, "AEAD [15]"),
    (judge_ke.agreed, answer(response(more=record(UNKNOWN_TYPE, critical=False))), PASS, "a record of type 16383"),
    (judge_ke.agreed, answer(), FAIL, "no answer: the server closed with close_notify"),
    (judge_ke.agreed, answer(response()[:-1]), FAIL, "octets without an End of Message"),
    (judge_ke.agreed, answer(response(protocols=None)), FAIL, "no Next Protocol"),
    (judge_ke.agreed, answer(response(more=NTPV4)), FAIL, "two NTS Next Protocol"),
    (judge_ke.agreed, answer(response(protocols=b"\0\0\0\1")), FAIL, "the next protocols 1, which were not offered"),
    (judge_ke.agreed, answer(response(protocols=b"")), FAIL, "does not offer NTPv4"),
    (judge_ke.agreed, answer(response(protocols=None, more=protocols(0, critical=False))), FAIL, "not critical"),
    (judge_ke.agreed, answer(response(aeads=b"\0\x0f\0\x10")), FAIL, "more than one AEAD"),
    (judge_ke.agreed, answer(response(aeads=b"\0\x11")), FAIL, "17, which was not offered"),
    (judge_ke.agreed, answer(response(cookies=[])), FAIL, "no cookies"),
    (judge_ke.agreed, answer(response(more=record(UNKNOWN_TYPE))), FAIL, "unknown critical record"),
    (judge_ke.agreed, answer(response(more=record(RecordType.WARNING, b"\0\0"))), FAIL, "Warning 0"),
    (judge_ke.agreed, answer(response(end=record(0, critical=False))), FAIL, "not critical"),
    (judge_ke.agreed, answer(response(end=record(0, b"x"))), FAIL, "has a body"),
    (judge_ke.agreed, answer(response() + END), FAIL, "4 octets after"),
    #
    (judge_ke.cookie_count, answer(response()), PASS, "8 distinct"),
    (judge_ke.cookie_count, answer(SHORT), WARN, "7 distinct cookies, and 8"),
    (judge_ke.cookie_count, answer(response(cookies=random_cookies(9))), WARN, "9 distinct"),
    (judge_ke.cookie_count, answer(response(cookies=random_cookies(1))), WARN, "1 distinct cookie,"),
    (judge_ke.cookie_count, answer(response(cookies=[bytes(100)] * 8)), FAIL, "8 cookies, only 1 "),
    (judge_ke.cookie_count, answer(response(cookies=[], more=record(5, b"x" * 100))), FAIL, "critical bit"),
    (judge_ke.cookie_shape, answer(response()), PASS, "100 octets"),
    (judge_ke.cookie_shape, answer(response(cookies=[bytes(100), bytes(104)])), WARN, "not all of one length"),
    (judge_ke.cookie_shape, answer(response(cookies=[bytes(101)])), WARN, "not a multiple of 4"),
    (judge_ke.cookie_shape, answer(response(cookies=[bytes(260)])), WARN, "12 to 256"),
    (judge_ke.cookie_shape, answer(response(cookies=[bytes(8)])), WARN, "12 to 256"),
    (judge_ke.cookie_shape, answer(response(cookies=[bytes(256)])), PASS, "256 octets"),
    (judge_ke.closed_properly, answer(response()), PASS, "closed with close_notify"),
    (judge_ke.closed_properly, answer(response(), prompted=True), WARN, "once we had, and not on its own"),
    (judge_ke.closed_properly, answer(response(), End.EOF), FAIL, "closed without close_notify"),
    (judge_ke.closed_properly, answer(response(), End.RESET), FAIL, "reset"),
    (judge_ke.closed_properly, answer(response(), End.OPEN), FAIL, "left the connection open"),
    (judge_ke.one_response, answer(response()), PASS, "one response"),
    (judge_ke.one_response, answer(response(), End.RESET), PASS, "one response"),
    (judge_ke.one_response, answer(response() + ERROR_1 + END), FAIL, "10 more octets"),
    #
    (judge_ke.error, answer(ERROR_1 + END), PASS, "Error 1 (Bad Request)"),
    (judge_ke.error, answer(NTPV4 + ERROR_1 + END, End.EOF), PASS, "protocols [0], Error 1"),
    (judge_ke.error, answer(record(RecordType.ERROR, b"\0\1", critical=False) + END), FAIL, "not critical"),
    (judge_ke.error, answer(record(RecordType.ERROR, b"\0\0") + END), FAIL, "where Error 1 is due"),
    (judge_ke.error, answer(record(RecordType.ERROR, b"\0\2") + END), FAIL, "where Error 1 is due"),
    (judge_ke.error, answer(record(RecordType.ERROR, b"\1") + END), FAIL, "illegal error response"),
    (judge_ke.error, answer(ERROR_1 + record(0, b"x")), FAIL, "illegal error response"),
    (judge_ke.error, answer(ERROR_1), FAIL, "6 octets without an End of Message"),
    (judge_ke.error, answer(ERROR_1 + COOKIE + END), WARN, "cookies beside an error"),
    (judge_ke.error, answer(response()), FAIL, "accepted"),
    (judge_ke.error, answer(), WARN, "where Error 1 is due"),
    (judge_ke.error, answer(end=End.OPEN), FAIL, "left the connection open"),
    (judge_ke.error, answer(end=End.BROKEN), FAIL, "broke TLS"),
    (bearable, answer(), WARN, "no answer"),
    (bearable, answer(end=End.RESET), WARN, "reset"),
    (bearable, answer(end=End.OPEN), WARN, "the RFC leaves open"),
    (bearable, answer(ERROR_1), FAIL, "6 octets without an End of Message"),
    (unknown, answer(record(RecordType.ERROR, b"\0\0") + END), PASS, "Error 0"),
    (unknown, answer(ERROR_1 + END), FAIL, "where Error 0 is due"),
    (judge_ke.gave_up, answer(ERROR_1 + END, seconds=5), PASS, "after 5 s: Error 1"),
    (judge_ke.gave_up, answer(end=End.EOF, seconds=2), WARN, "without close_notify after 2.0 s"),
    (judge_ke.gave_up, answer(end=End.OPEN, seconds=60), WARN, "left the connection open after 60.0 s"),
    (judge_ke.gave_up, answer(ERROR_1 + END, End.OPEN), FAIL, "but then"),
    (judge_ke.gave_up, answer(ERROR_1 + END, prompted=True), WARN, "but then the server closed with close_notify"),
    (judge_ke.gave_up, answer(response(), prompted=True), FAIL, "8 cookies"),
    (judge_ke.after_the_end, answer(response()), PASS, "8 cookies; the RFC leaves it open"),
    (judge_ke.after_the_end, answer(ERROR_1 + END), PASS, "Error 1 (Bad Request); the RFC leaves it open"),
    (judge_ke.after_the_end, answer(response(aeads=b"\0\x11")), FAIL, "not offered"),
    (judge_ke.after_the_end, answer(), WARN, "is due"),
    #
    (judge_ke.no_protocol, answer(protocols() + END), PASS, "protocols []"),
    (judge_ke.no_protocol, answer(protocols() + aeads() + END), PASS, "protocols [], AEAD []"),
    (judge_ke.no_protocol, answer(protocols(0) + aeads() + END), FAIL, "protocols [0]"),
    (judge_ke.no_protocol, answer(response()), FAIL, "cookies anyway"),
    (judge_ke.no_protocol, answer(ERROR_1 + END), FAIL, "although the request is valid"),
    (judge_ke.no_protocol, answer(END), FAIL, "one Next Protocol record"),
    (judge_ke.no_protocol, answer(protocols(critical=False) + END), FAIL, "a critical one"),
    (judge_ke.no_protocol, answer(record(1, b"\0") + END), FAIL, "odd length"),
    (
        judge_ke.no_protocol,
        answer(),
        WARN,
        ", where a response is due",
    ),
    (judge_ke.no_aead, answer(NTPV4 + aeads() + END), PASS, "AEAD []"),
    (judge_ke.no_aead, answer(protocols() + END), WARN, "NTPv4 is refused"),
    (judge_ke.no_aead, answer(NTPV4 + END), FAIL, "no AEAD record"),
    (judge_ke.no_aead, answer(NTPV4 + AEAD_15 + END), FAIL, "not offered"),
    (judge_ke.no_aead, answer(NTPV4 + aeads() + aeads() + END), FAIL, "more than one AEAD"),
    (judge_ke.no_aead, answer(protocols(7) + aeads() + END), FAIL, "not offered"),
    (judge_ke.no_aead, answer(response()), FAIL, "cookies anyway"),
    (judge_ke.no_aead, answer(ERROR_1 + END), FAIL, "although the request is valid"),
    #
    (judge_ke.where, answer(response()), PASS, "the same address, UDP port 123"),
    (judge_ke.where, answer(response(more=server(b"time.example"))), PASS, "time.example, UDP port 123"),
    (judge_ke.where, answer(response(more=record(7, b"\x10\x1b"))), PASS, "the same address, UDP port 4123"),
    (judge_ke.where, answer(response(more=server(b"192.0.2.9"))), PASS, "192.0.2.9"),
    (judge_ke.where, answer(response(more=server(b"2001:db8::1"))), FAIL, "connected to 192.0.2.1"),
    (judge_ke.where, answer(response(more=server(b"a") + server(b"a"))), FAIL, "2 Server"),
    (judge_ke.where, answer(response(more=record(7, b"\0\1") * 2)), FAIL, "2 Port"),
    (judge_ke.where, answer(response(more=server(b"fe80::1%eth0"))), FAIL, "neither"),
    (judge_ke.where, answer(response(more=server(b"[::1]"))), FAIL, "neither"),
    (judge_ke.where, answer(response(more=server(b""))), FAIL, "neither"),
    (judge_ke.where, answer(response(more=record(7, b"\0\0"))), FAIL, "UDP port 0"),
    (judge_ke.where, answer(response(more=record(7, b"\0\0\1"))), FAIL, "3 octets"),
    (judge_ke.where, answer(ERROR_1 + END), FAIL, "Error 1"),
]


@pytest.mark.parametrize(("judge", "answered", "verdict", "text"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_judgement(judge: Judge, answered: KeAnswer, verdict: Grade, text: str) -> None:
    finding = judge(answered)
    assert (finding.grade, text in finding.text) == (verdict, True), finding


def test_a_server_in_another_family_breaks_a_should_only() -> None:
    assert judge_ke.where(answer(response(more=server(b"::1")))).severity is Severity.SHOULD


def menu(**answers: KeAnswer) -> list[Finding]:
    return list(judge_ke.menu({int(name[1:]): a for name, a in answers.items()}))


def chosen(*numbers: int) -> KeAnswer:
    return answer(response(aeads=records.encode_u16s(*numbers), cookies=None if numbers else []))


def test_the_menu_lists_what_is_spoken() -> None:
    (finding,) = menu(a15=chosen(15), a16=chosen(), a30=chosen(30))
    assert (finding.grade, finding.text) == (PASS, "AEAD 15, 30; not 16")


@pytest.mark.parametrize(
    ("answers", "verdict", "severity", "text"),
    [
        ({"a15": chosen(15), "a17": chosen(15)}, FAIL, Severity.MUST, "AEAD 15 chosen, although only 17"),
        ({"a15": chosen(), "a17": chosen(17)}, FAIL, Severity.MUST, "AEAD 15 (AES-SIV-CMAC-256)"),
        ({"a15": chosen(15), "a17": answer(ERROR_1 + END)}, WARN, None, "AEAD 17 (Error 1"),
        ({"a15": chosen(15), "a17": answer()}, WARN, None, "AEAD 17 (no answer"),
    ],
)
def test_the_menu_shows_faults(
    answers: dict[str, KeAnswer], verdict: Grade, severity: Severity | None, text: str
) -> None:
    first = menu(**answers)[0]
    assert (first.grade, first.severity, text in first.text) == (verdict, severity, True), first


@pytest.mark.parametrize(
    ("number", "echoed", "verdict"),
    [(30, False, PASS), (30, True, PASS), (15, False, WARN), (15, True, FAIL), (None, False, FAIL)],
)
def test_exporter_contexts(number: int | None, echoed: bool, verdict: Grade) -> None:
    assert judge_ke.exporter_context(number, echoed=echoed).grade is verdict


def test_evidence_is_short_whatever_comes() -> None:
    many = [
        response(more=record(UNKNOWN_TYPE, critical=False) * 20_000),
        response(protocols=bytes(60_000)),
        response(aeads=bytes(60_000)),
        response(cookies=[b"%d" % i for i in range(10_000)]),
        response(cookies=[bytes(i) for i in range(1, 300)]),
        (ERROR_1 + COOKIE) * 1000 + END,
    ]
    for octets in many:
        for judge in JUDGES:
            assert len(judge(answer(octets)).text) < 500


def test_cookies_never_get_into_a_finding() -> None:
    cookie = b"\xfeNOT TO BE SEEN"
    shown = repr(answer(response(cookies=[cookie]))) + judge_ke.agreed(answer(response(cookies=[cookie]))).text
    assert "NOT TO BE SEEN" not in shown
    assert cookie.hex() not in shown


def test_what_passed_alike_is_said_once() -> None:
    findings = [("a", passed("so")), ("b", failed("thus")), ("c", passed("so")), ("d", passed("else"))]
    assert list(together(findings)) == [failed("b: thus"), passed("a, c: so"), passed("d: else")]


JUDGES = {judge: None for judge, *_ in CASES}
RECORDS = st.builds(
    record, st.integers(0, 9) | st.just(1024), st.sampled_from([b"", b"\0\0", b"\0\x0f"]) | st.binary(max_size=9),
    critical=st.booleans(),
)  # fmt: skip
OCTETS = st.binary(max_size=64) | st.lists(RECORDS, max_size=8).map(b"".join)


@given(OCTETS, st.sampled_from(End), st.booleans())
def test_no_judgement_raises(octets: bytes, end: End, handshake: bool) -> None:
    answered = KeAnswer(octets, end, handshake=handshake, address="2001:db8::1")
    for judge in JUDGES:
        assert judge(answered).text
    assert list(judge_ke.menu({15: answered, 30: answered}))
