# SPDX-License-Identifier: MIT
"""The NTS-KE client as a pure function: what of a response is accepted, and why everything else is not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import ExitCode, KeErrorRecord, KeResponseError
from nts.base.registry import MAX_COOKIE
from nts.base.text import is_server_name
from nts.codec.aead import Aead
from nts.codec.records import MessageReader
from nts.protocol.ke_client import MAX_RESPONSE, Agreement, build_request, judge_response
from testkit.packets import bounded, message_of, u16s
from testkit.raw_ke import AEAD_15, END, NEXT_PROTOCOL_NTPV4, record, split_records

OFFERED = (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_512)
COOKIES = tuple(bytes([i]) * 100 for i in range(8))
COOKIE_RECORDS = b"".join(record(5, c, critical=False) for c in COOKIES)
GOOD = NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIE_RECORDS
AGREED = Agreement(Aead.AES_SIV_CMAC_256, None, 123, COOKIES)


def judge(records: bytes, end: bytes = END) -> Agreement:
    return judge_response(message_of(records + end), OFFERED)


@pytest.mark.parametrize("aeads", [(15,), (15, 16, 17), (17, 15)])
def test_a_request_offers_ntpv4_and_the_algorithms_in_order_and_holds_nothing_else(aeads: tuple[int, ...]) -> None:
    """A14, A15, A18, A25, A36."""
    octets = build_request(tuple(map(Aead, aeads)))
    assert split_records(octets) == [(1, True, b"\0\0"), (4, True, u16s(aeads)), (0, True, b"")]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(GOOD, id="usual"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x0f", critical=False) + COOKIE_RECORDS, id="aead-optional"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15 + b"".join(record(5, c) for c in COOKIES), id="cookies-critical"),
        pytest.param(record(0x3FFF, b"odd", critical=False) + GOOD, id="C15-unknown"),
        pytest.param(GOOD + record(0x4001, b"", critical=False) * 2, id="unknown-twice"),
    ],
)  # fmt: skip
def test_legal_responses_are_accepted(records: bytes) -> None:
    """A12, A13, A25, A36, A37."""
    assert judge(records) == AGREED


def test_records_may_come_in_any_order() -> None:
    """A30, A31, A37."""
    parts = [NEXT_PROTOCOL_NTPV4, AEAD_15, record(6, b"192.0.2.1"), record(7, b"\x10\x1b"), COOKIE_RECORDS]
    for order in itertools.permutations(parts):
        assert judge(b"".join(order)) == Agreement(Aead.AES_SIV_CMAC_256, "192.0.2.1", 4123, COOKIES)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        pytest.param(record(0x3FFF) + GOOD, "unknown critical record of type 16383", id="C15-unknown-critical"),
        pytest.param(AEAD_15 + COOKIE_RECORDS, "no Next Protocol", id="C16-no-npn"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + GOOD, "two NTS Next Protocol", id="C16-two-npn"),
        pytest.param(record(1, b"\0\0", critical=False) + AEAD_15 + COOKIE_RECORDS, "not critical", id="npn-optional"),
        pytest.param(record(1, b"\0") + AEAD_15 + COOKIE_RECORDS, "odd length", id="npn-odd"),
        pytest.param(record(1) + END[:0], "does not offer NTPv4", id="C17-npn-empty"),
        pytest.param(record(1, b"\x80\x01") + AEAD_15 + COOKIE_RECORDS, "not offered", id="C17-npn-unoffered"),
        pytest.param(
            record(1, b"\0\0\x80\x01") + AEAD_15 + COOKIE_RECORDS, "32769, which were", id="C17-ntpv4-among-others"
        ),
        pytest.param(
            record(1, u16s(range(30000))) + AEAD_15, "protocols 1, 2, 3, 4, 5, 6, 7, 8, and more, which", id="npn-many"
        ),
        pytest.param(NEXT_PROTOCOL_NTPV4 + COOKIE_RECORDS, "no AEAD", id="no-aead"),
        pytest.param(AEAD_15 + GOOD, "two AEAD", id="two-aead-records"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4), "supports none of", id="C17-aead-empty"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x10") + COOKIE_RECORDS, "not offered", id="C17-unoffered"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x1e") + COOKIE_RECORDS, "not offered", id="C17-unknown"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x0f\0\x11") + COOKIE_RECORDS, "more than one", id="C17-two"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4, b"\x0f") + COOKIE_RECORDS, "odd length", id="aead-odd"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15, "no cookies", id="no-cookies"),
        pytest.param(GOOD + record(5, b"", critical=False), "empty cookie", id="empty-cookie"),
        pytest.param(GOOD + record(7, b"\0\0"), "port 0", id="C20-port-0"),
        pytest.param(GOOD + record(7, b"\x7b"), "1 octet", id="C20-port-1-octet"),
        pytest.param(GOOD + record(7, b"\0\0\x7b"), "3 octets", id="port-3-octets"),
        pytest.param(GOOD + record(7, b"\0\x7b") * 2, "two NTPv4 Port", id="two-ports"),
        pytest.param(GOOD + record(6, b"a.example") * 2, "two NTPv4 Server", id="C19-two-servers"),
        pytest.param(GOOD + record(2, b"\0"), "Error record with a body of 1", id="error-malformed"),
        pytest.param(GOOD + record(3, b""), "Warning record with a body of 0", id="warning-malformed"),
    ],
)
def test_illegal_responses_are_refused(records: bytes, complaint: str) -> None:
    """A09, A13, A17, A25, A28, A29, A34, A37."""
    with pytest.raises(KeResponseError, match=complaint) as caught:
        judge(records)
    assert caught.value.exit_code == ExitCode.KE_RESPONSE


@pytest.mark.parametrize(
    ("end", "complaint"),
    [(record(0, critical=False), "not critical"), (record(0, b"x"), "has a body"), (END + b"x", "1 octet after")],
)
def test_a_malformed_end_of_message_is_refused(end: bytes, complaint: str) -> None:
    """A14, C16."""
    with pytest.raises(KeResponseError, match=complaint):
        judge(GOOD, end)


@pytest.mark.parametrize(
    ("refusal", "complaint"),
    [
        pytest.param(record(2, b"\0\0"), r"Error 0 \(Unrecognized Critical Record\)", id="error-0"),
        pytest.param(record(2, b"\0\1"), r"Error 1 \(Bad Request\)", id="error-1"),
        pytest.param(record(2, b"\0\2"), r"Error 2 \(Internal Server Error\)", id="error-2"),
        pytest.param(record(2, b"\x99\x99"), r"Error 39321 \(unknown\)", id="error-9999"),
        pytest.param(record(2, b"\0\2", critical=False), "Error 2", id="error-not-critical"),
        pytest.param(record(3, b"\0\0"), "Warning 0", id="warning-0"),
        pytest.param(record(3, b"\x80\0", critical=False), "Warning 32768", id="warning-private"),
    ],
)
@pytest.mark.parametrize("around", ["alone", "with NPN", "before", "after"])
def test_an_error_or_warning_ends_it_whatever_else_is_there(refusal: bytes, complaint: str, around: str) -> None:
    """A09, A19, A24, C14: known code or not, critical or not, with all else in order or not."""
    records = {
        "alone": refusal, "with NPN": NEXT_PROTOCOL_NTPV4 + refusal, "before": refusal + GOOD, "after": GOOD + refusal,
    }  # fmt: skip
    with pytest.raises(KeErrorRecord, match=complaint) as caught:
        judge(records[around])
    assert caught.value.exit_code == ExitCode.KE_ERROR_RECORD


def test_each_error_code_has_a_hint_of_its_own() -> None:
    """A23: what may be repeated and what not."""
    hints = set()
    for code in range(3):
        with pytest.raises(KeErrorRecord) as caught:
            judge(record(2, bytes([0, code])))
        hints.add(caught.value.hint)
    assert len(hints - {None}) == 3


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1", "ntp.example.com", "ntp1"])
@pytest.mark.parametrize("critical", [True, False])
def test_the_time_servers_name_is_taken(name: str, critical: bool) -> None:
    """A31, A36, C19."""
    assert judge(GOOD + record(6, name.encode(), critical=critical)).server == name


@pytest.mark.parametrize("name", [b"fe80::1%eth0", b"[::1]", b"\xc3\xbc.example", b"a\0b", b"a b", b"", b"a" * 300])
def test_a_bad_name_of_a_time_server_is_refused(name: bytes) -> None:
    """A31, C19."""
    with pytest.raises(KeResponseError, match="server name"):
        judge(GOOD + record(6, name))


@pytest.mark.parametrize("critical", [True, False])
def test_a_port_counts_without_a_server_too(critical: bool) -> None:
    """A36, A37, C20."""
    assert judge(GOOD + record(7, b"\x10\x1b", critical=critical)) == Agreement(OFFERED[0], None, 4123, COOKIES)


@pytest.mark.parametrize("sizes", [(1,), (15, 16), (100, 101), (256, 512, 1000), (MAX_COOKIE,)])
def test_cookies_are_kept_octet_by_octet(sizes: tuple[int, ...]) -> None:
    """A30: of any length and mixed lengths, in the order of the response."""
    cookies = tuple(bytes([size % 256]) * size for size in sizes)
    records = b"".join(record(5, c, critical=False) for c in cookies)
    assert judge(NEXT_PROTOCOL_NTPV4 + AEAD_15 + records).cookies == cookies


def test_cookies_that_no_packet_could_carry_are_left_out() -> None:
    """A30."""
    too_long = record(5, bytes(MAX_COOKIE + 1), critical=False)
    assert judge(too_long + GOOD + too_long).cookies == COOKIES
    with pytest.raises(KeResponseError, match="too long"):
        judge(NEXT_PROTOCOL_NTPV4 + AEAD_15 + too_long)


def test_a_response_of_65536_octets_is_accepted() -> None:
    """A11, C18: in pieces of 1000 octets."""
    filling = 65536 - len(GOOD) - len(END)
    sizes = [60000, filling - 60000 - 8]
    octets = GOOD + b"".join(record(0x3FFF, bytes(s), critical=False) for s in sizes) + END
    assert len(octets) == 65536
    reader = MessageReader(MAX_RESPONSE)
    pieces = [reader.feed(octets[i : i + 1000]) for i in range(0, len(octets), 1000)]
    assert pieces[:-1] == [None] * (len(pieces) - 1)
    assert pieces[-1] is not None
    assert judge_response(pieces[-1], OFFERED) == AGREED


def test_repr_of_an_agreement_shows_no_cookie() -> None:
    assert "cookies" not in repr(AGREED)


CHUNKS = [
    NEXT_PROTOCOL_NTPV4, AEAD_15, record(4, b"\0\x11"), record(4), record(5, bytes(100), critical=False),
    record(6, b"a.example"), record(6, b"\xff"), record(7, b"\x10\x1b"), record(7, b"\0\0"), record(2, b"\0\1"),
    record(0x3FFF, b"", critical=False), record(0x3FFF, b""),
]  # fmt: skip


@given(st.lists(st.sampled_from(CHUNKS) | st.binary(max_size=6).map(lambda b: record(5, b)), max_size=9))
@bounded(300)
def test_any_response_is_an_agreement_on_something_offered_or_refused(records: list[bytes]) -> None:
    try:
        agreement = judge(b"".join(records))
    except (KeResponseError, KeErrorRecord):
        return
    assert agreement.aead in OFFERED
    assert all(0 < len(c) <= MAX_COOKIE for c in agreement.cookies)
    assert agreement.cookies
    assert 0 < agreement.port < 65536
    assert is_server_name(agreement.server or "a")
