# SPDX-License-Identifier: MIT
"""The time client as pure functions: what a request looks like, what is believed of an answer, and the arithmetic."""

from __future__ import annotations

import calendar
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.base.registry import COOKIES_WANTED, MAX_COOKIE, MAX_PACKET
from nts.codec import ntp
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing
from nts.codec.ntp import NS, Header
from nts.protocol.ts_client import (
    AnswerKind,
    Measurement,
    Query,
    build_query,
    count_placeholders,
    judge,
    measure,
    restock,
)
from testkit.packets import (
    AUTHENTICATOR,
    COOKIE,
    DEPARTED,
    PLACEHOLDER,
    RECEIVED,
    RING,
    SYSTEM,
    UNIQUE_IDENTIFIER,
    UNKNOWN_FIELD,
    Counter,
    answer,
    authenticator,
    bounded,
    cookie_of,
    fields_of,
    flipped,
    mutated,
    raw_field,
    respond,
    seal_reply,
    session_keys,
)

KEYS = session_keys()
FRESH = bytes(range(100))
UNKNOWN = raw_field(UNKNOWN_FIELD, bytes(24))


def query_for(keys: SessionKeys = KEYS, placeholders: int = 0, seed: object = "query") -> Query:
    return build_query(keys, cookie_of(keys), placeholders, Counter(seed))


QUERY = query_for()
HEADER = Header(
    mode=4, stratum=2, precision=-23, root_delay=0x100, root_dispersion=0x200, origin=QUERY.transmit, receive=RECEIVED,
    transmit=DEPARTED,
)  # fmt: skip


def reply(
    header: Header = HEADER, *, unique_id: bytes | None = QUERY.unique_id, key: bytes = KEYS.s2c,
    inside: bytes = raw_field(COOKIE, FRESH), clear: bytes = b"", after: bytes = b"",
) -> bytes:  # fmt: skip
    """A genuine answer to QUERY, or one that differs where told."""
    return seal_reply(header, unique_id, key, inside, clear=clear, after=after)


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aead", Aead)
@pytest.mark.parametrize("placeholders", [0, 1, 7])
def test_a_request_has_its_fields_in_order_and_zeros_in_its_placeholders(aead: Aead, placeholders: int) -> None:
    """A50, A53, A56, A60, A62, B02: identifier, cookie as it is, placeholders of its length, authenticator last."""
    keys = session_keys(aead)
    query = query_for(keys, placeholders)
    fields = fields_of(query.packet)
    kinds = [UNIQUE_IDENTIFIER, COOKIE, *[PLACEHOLDER] * placeholders, AUTHENTICATOR]
    assert [kind for kind, _ in fields] == kinds
    assert [body for _, body in fields[:2]] == [query.unique_id, cookie_of(keys)]
    assert {body for kind, body in fields if kind == PLACEHOLDER} <= {bytes(len(cookie_of(keys)))}
    nonce_length = 12 if aead == Aead.AES_128_GCM_SIV else 16
    assert fields[-1][1][:4] == bytes([0, nonce_length, 0, 16])
    assert 4 + len(fields[-1][1]) == 24 + nonce_length


def test_200_requests_show_nothing_but_randomness_and_the_cookie() -> None:
    """A50, A81, C23: constant header, everything else fresh, and the random parts look random."""
    random, cookie = Counter("capture"), cookie_of(KEYS)
    queries = [build_query(KEYS, cookie, 0, random) for _ in range(200)]
    assert {q.packet[:40] for q in queries} == {bytes([0x23]) + bytes(39)}
    assert {len(q.packet) for q in queries} == {48 + 36 + 104 + 40}
    assert {len(q.unique_id) for q in queries} == {32}
    nonces = [fields_of(q.packet)[-1][1][4:20] for q in queries]
    for fresh in ([q.unique_id for q in queries], [q.packet[40:48] for q in queries], nonces):
        assert len(set(fresh)) == 200
        octets = b"".join(fresh)
        ones = sum(octet.bit_count() for octet in octets)
        assert abs(ones - 4 * len(octets)) < 3 * (8 * len(octets)) ** 0.5  # 6 standard deviations of a fair coin


@given(st.integers(1, MAX_COOKIE), st.integers(0, 12))
@bounded(200)
def test_packets_never_exceed_what_passes_unfragmented(length: int, left: int) -> None:
    """A64, C13: for every cookie that we keep; and an answer with as many cookies would fit too."""
    placeholders = count_placeholders(left, length)
    assert 0 <= placeholders <= max(0, 7 - left)
    packet = build_query(KEYS, bytes(length), placeholders, Counter()).packet
    assert len(packet) <= MAX_PACKET
    assert len(packet) % 4 == 0
    one_more = len(packet) + 4 + max(12, length + -length % 4)
    assert placeholders == max(0, 7 - left) or one_more > MAX_PACKET


def test_every_cookie_length_and_stock_fits() -> None:
    """A64."""
    for length in range(1, MAX_COOKIE + 1):
        field = 4 + max(12, length + -length % 4)
        for left in range(COOKIES_WANTED + 1):
            assert 48 + 36 + field * (1 + count_placeholders(left, length)) + 40 <= MAX_PACKET


@pytest.mark.parametrize(
    ("left", "length", "placeholders"),
    [(7, 100, 0), (6, 100, 1), (0, 100, 7), (8, 100, 0), (20, 100, 0), (0, 164, 5), (0, 256, 3), (0, 1104, 0)],
)
def test_placeholders_refill_the_stock_to_eight(left: int, length: int, placeholders: int) -> None:
    """A64."""
    assert count_placeholders(left, length) == placeholders


def test_a_cookie_that_fits_no_packet_is_refused() -> None:
    """A30."""
    assert len(build_query(KEYS, bytes(MAX_COOKIE), 0, Counter()).packet) == MAX_PACKET
    with pytest.raises(FormatError, match="1105 octets"):
        build_query(KEYS, bytes(MAX_COOKIE + 1), 0, Counter())


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aead", Aead)
@pytest.mark.parametrize("placeholders", [0, 1, 3, 7])
def test_client_and_server_understand_each_other(aead: Aead, placeholders: int) -> None:
    """A57, A58, A68, A72: with cookies that make the next request."""
    keys = session_keys(aead)
    query = query_for(keys, min(placeholders, count_placeholders(0, len(cookie_of(keys)))))
    judgement = judge(answer(query.packet), query)
    assert judgement.kind == AnswerKind.TIME
    assert len(judgement.cookies) == fields_of(query.packet).count((PLACEHOLDER, bytes(len(cookie_of(keys))))) + 1
    assert judgement.header == replace(
        HEADER, origin=query.transmit, reference_id=SYSTEM.reference_id, reference_time=SYSTEM.reference_time
    )
    for number, cookie in enumerate(judgement.cookies):
        following = build_query(keys, cookie, 0, Counter(number))
        assert judge(answer(following.packet), following).kind == AnswerKind.TIME


def test_the_genuine_answer_is_accepted() -> None:
    judgement = judge(reply(), QUERY)
    assert (judgement.kind, judgement.header, judgement.cookies) == (AnswerKind.TIME, HEADER, (FRESH,))
    assert judgement.reason == ""


UID_FIELD = raw_field(UNIQUE_IDENTIFIER, QUERY.unique_id)
IGNORED = {
    "empty": (b"", AnswerKind.NOT_AUTHENTIC),
    "47-octets": (HEADER.encode()[:47], AnswerKind.NOT_AUTHENTIC),
    "B01-field-length": (HEADER.encode() + raw_field(UNKNOWN_FIELD, bytes(24), 3), AnswerKind.NOT_AUTHENTIC),
    "C01-plain": (HEADER.encode(), AnswerKind.NOT_AUTHENTIC),
    "B06-crypto-nak": (HEADER.encode() + bytes(4), AnswerKind.NOT_AUTHENTIC),
    "C02-uid-without-authenticator": (HEADER.encode() + UID_FIELD, AnswerKind.NOT_AUTHENTIC),
    "C03-authenticator-without-uid": (reply(unique_id=None), AnswerKind.MISMATCH),
    "C04-wrong-uid": (reply(unique_id=bytes(32)), AnswerKind.MISMATCH),
    "C04-uid-prefix": (reply(unique_id=QUERY.unique_id[:28]), AnswerKind.MISMATCH),
    "C04-uid-extended": (reply(unique_id=QUERY.unique_id + bytes(4)), AnswerKind.MISMATCH),
    "two-uids": (reply(clear=UID_FIELD), AnswerKind.MISMATCH),
    "uid-behind-authenticator": (reply(unique_id=None, after=UID_FIELD), AnswerKind.NOT_AUTHENTIC),
    "uid-encrypted": (reply(unique_id=None, inside=UID_FIELD), AnswerKind.MISMATCH),
    "C05-tag-with-c2s-key": (reply(key=KEYS.c2s), AnswerKind.NOT_AUTHENTIC),
    "C05-tag-with-other-key": (reply(key=bytes(32)), AnswerKind.NOT_AUTHENTIC),
    "two-authenticators": (reply(after=reply()[-160:]), AnswerKind.NOT_AUTHENTIC),
    "encrypted-fields-malformed": (reply(inside=b"\2\4\0\3"), AnswerKind.NOT_AUTHENTIC),
    "B11-wrong-origin": (reply(replace(HEADER, origin=QUERY.transmit ^ 1)), AnswerKind.MISMATCH),
    "origin-zero": (reply(replace(HEADER, origin=0)), AnswerKind.MISMATCH),
    "B09-mode-3": (reply(replace(HEADER, mode=3)), AnswerKind.MISMATCH),
    "mode-5": (reply(replace(HEADER, mode=5)), AnswerKind.MISMATCH),
    "version-3": (reply(replace(HEADER, version=3)), AnswerKind.MISMATCH),
    "our-own-request": (QUERY.packet, AnswerKind.MISMATCH),
}


@pytest.mark.parametrize(("datagram", "verdict"), list(IGNORED.values()), ids=list(IGNORED))
def test_what_cannot_be_trusted_is_ignored_and_brings_nothing(datagram: bytes, verdict: AnswerKind) -> None:
    """A52, A57, A58, A72, B01, B05, B06, B11, C01 to C05."""
    judgement = judge(datagram, QUERY)
    assert judgement.kind == verdict
    assert judgement.reason
    assert (judgement.header, judgement.cookies) == (None, ())


KISS = replace(HEADER, leap=3, stratum=0, reference_id=b"NTSN")


@pytest.mark.parametrize(
    ("datagram", "verdict"),
    [
        pytest.param(KISS.encode() + UID_FIELD, AnswerKind.NAK, id="ntsn"),
        pytest.param(replace(KISS, reference_id=b"RATE").encode() + UID_FIELD, AnswerKind.KISS, id="C11-rate"),
        pytest.param(replace(KISS, reference_id=b"DENY").encode() + UID_FIELD, AnswerKind.KISS, id="C11-deny"),
        pytest.param(KISS.encode(), AnswerKind.NOT_AUTHENTIC, id="C08-ntsn-without-uid"),
        pytest.param(
            KISS.encode() + raw_field(UNIQUE_IDENTIFIER, bytes(32)), AnswerKind.MISMATCH, id="C08-ntsn-wrong-uid"
        ),
        pytest.param(replace(KISS, origin=0).encode() + UID_FIELD, AnswerKind.MISMATCH, id="ntsn-wrong-origin"),
    ],
)
def test_an_unprotected_kiss_counts_only_with_our_identifier_and_origin(datagram: bytes, verdict: AnswerKind) -> None:
    """A73, A75, B13, C08, C11."""
    judgement = judge(datagram, QUERY)
    assert (judgement.kind, judgement.cookies) == (verdict, ())


def test_the_servers_own_nak_is_understood() -> None:
    """A73."""
    query = build_query(KEYS, bytes(100), 0, Counter("query"))
    assert judge(answer(query.packet), query).kind == AnswerKind.NAK


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (replace(HEADER, stratum=0, reference_id=b"RATE"), "kiss-o'-death RATE"),
        (replace(HEADER, stratum=0, reference_id=b"DENY"), "kiss-o'-death DENY"),
        (replace(HEADER, stratum=0, reference_id=b"\x1b[2J"), "kiss-o'-death ?[2J"),
        (replace(HEADER, stratum=0, reference_id=bytes(4)), "kiss-o'-death ????"),
        (replace(HEADER, leap=3), "not synchronised"),
        (replace(HEADER, stratum=16), "not synchronised"),
        (replace(HEADER, stratum=255), "not synchronised"),
        (replace(HEADER, receive=0), "timestamps are zero"),
        (replace(HEADER, transmit=0), "timestamps are zero"),
        (replace(HEADER, root_delay=32 << 16), "root distance"),
        (replace(HEADER, root_delay=0, root_dispersion=16 << 16), "root distance"),
        (replace(HEADER, root_delay=2**32 - 1, root_dispersion=2**32 - 1), "root distance"),
    ],
)
def test_an_authentic_answer_without_usable_time_still_brings_its_cookies(header: Header, reason: str) -> None:
    """A75, B12, B13, C11."""
    judgement = judge(reply(header), QUERY)
    assert (judgement.kind, judgement.cookies, judgement.header) == (AnswerKind.UNUSABLE, (FRESH,), header)
    assert reason in judgement.reason


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, stratum=1, leap=1),
        replace(HEADER, stratum=15, leap=2),
        replace(HEADER, root_delay=0, root_dispersion=(16 << 16) - 1),
        replace(HEADER, poll=-128, precision=127),
        replace(HEADER, reference_id=b"NTSN"),
    ],
)
def test_extreme_but_legal_headers_are_usable(header: Header) -> None:
    assert judge(reply(header), QUERY).kind == AnswerKind.TIME


@pytest.mark.parametrize("where", ["clear", "after"])
def test_cookies_outside_of_the_ciphertext_are_not_kept(where: str) -> None:
    """A66, A68, C07: the answer itself stays good."""
    extra = raw_field(COOKIE, bytes(100))
    judgement = judge(reply(clear=extra) if where == "clear" else reply(after=extra), QUERY)
    assert (judgement.kind, judgement.cookies) == (AnswerKind.TIME, (FRESH,))


@pytest.mark.parametrize("where", ["clear", "inside", "after", "mac"])
def test_unknown_fields_and_a_mac_are_discarded(where: str) -> None:
    """A59, A66, B03, B04, B17."""
    datagram = {
        "clear": reply(clear=UNKNOWN), "inside": reply(inside=raw_field(COOKIE, FRESH) + raw_field(UNKNOWN_FIELD)),
        "after": reply(after=UNKNOWN), "mac": reply(after=bytes(20)),
    }[where]  # fmt: skip
    assert judge(datagram, QUERY).cookies == (FRESH,)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([], []),
        ([100] * 20, [100] * 20),
        ([1000], [1000]),
        ([16, 100, 256], [16, 100, 256]),
        ([MAX_COOKIE, MAX_COOKIE + 4, 0], [MAX_COOKIE]),
    ],
)
def test_any_number_and_length_of_cookies_is_survived(sizes: list[int], kept: list[int]) -> None:
    """A30, A68, C13: and the stock never exceeds eight."""
    inside = b"".join(raw_field(COOKIE, bytes(size)) for size in sizes)
    judgement = judge(reply(inside=inside), QUERY)
    assert judgement.kind == AnswerKind.TIME
    assert [len(c) for c in judgement.cookies] == kept
    assert len(restock((), judgement.cookies)) <= COOKIES_WANTED


@pytest.mark.parametrize("nonce", [1, 8, 12, 16, 24, 33])
def test_an_answer_needs_no_additional_padding_whatever_its_nonce(nonce: int) -> None:
    """A56, A61."""
    head = HEADER.encode() + UID_FIELD
    datagram = head + authenticator(KEYS.s2c, bytes(nonce), raw_field(COOKIE, FRESH), head)
    assert judge(datagram, QUERY).kind == AnswerKind.TIME


@pytest.mark.parametrize("aead", Aead)
def test_no_bit_of_an_authentic_answer_can_be_flipped(aead: Aead) -> None:
    """A57, A72: every bit up to the end of the authenticator; what follows is not authenticated and does not matter."""
    keys = session_keys(aead)
    query = query_for(keys)
    genuine = answer(query.packet)
    for bit in range(8 * len(genuine)):
        judgement = judge(flipped(genuine, bit), query)
        assert judgement.kind not in (AnswerKind.TIME, AnswerKind.UNUSABLE), f"bit {bit}"
        assert judgement.cookies == ()
    longer = genuine + UNKNOWN
    for bit in range(8 * (len(genuine) + 4), 8 * len(longer)):
        assert judge(flipped(longer, bit), query) == judge(genuine, query)


@pytest.mark.parametrize("size", range(len(reply())))
def test_no_truncation_of_an_authentic_answer_is_accepted(size: int) -> None:
    """A72."""
    assert judge(reply()[:size], QUERY).kind in (AnswerKind.NOT_AUTHENTIC, AnswerKind.MISMATCH)


@given(st.binary(max_size=300) | mutated(st.just(reply())) | st.binary(max_size=90).map(lambda b: reply()[:48] + b))
@bounded(400)
def test_judge_never_raises_and_believes_only_what_is_authentic(datagram: bytes) -> None:
    """A72."""
    judgement = judge(datagram, QUERY)
    if judgement.kind in (AnswerKind.TIME, AnswerKind.UNUSABLE):
        assert datagram[: len(reply())] == reply()
    else:
        assert judgement.cookies == ()
    if judgement.kind in (AnswerKind.NAK, AnswerKind.KISS):
        assert UID_FIELD in datagram


def test_every_verdict_is_reached_by_some_datagram_here() -> None:
    rate = replace(KISS, reference_id=b"RATE")
    datagrams = [
        *(d for d, _ in IGNORED.values()),
        reply(),
        reply(KISS),
        *(k.encode() + UID_FIELD for k in (KISS, rate)),
    ]
    assert {judge(d, QUERY).kind for d in datagrams} == set(AnswerKind)


def test_repr_shows_neither_keys_nor_cookies() -> None:
    assert KEYS.c2s.hex() not in repr(QUERY)
    assert "packet" not in repr(QUERY)
    assert "cookies" not in repr(judge(reply(), QUERY))


# --- the arithmetic --------------------------------------------------------------------------------------------------

T0 = 1_800_000_000 * NS
ERA_END = calendar.timegm((2036, 2, 7, 6, 28, 16)) * NS
PRECISE = Header(precision=-30)  # contributes 0 ns


@pytest.mark.parametrize(
    ("start", "offset", "out", "inside", "back"),
    [
        pytest.param(T0, 0, 10_000, 2_000, 10_000, id="equal-clocks"),
        pytest.param(T0, 5_000_000, 10_000, 2_000, 10_000, id="server-ahead"),
        pytest.param(T0, -5_000_000, 10_000, 2_000, 10_000, id="server-behind"),
        pytest.param(T0, 3600 * NS, 50_000_000, 0, 50_000_000, id="an-hour-ahead"),
        pytest.param(ERA_END - 5 * NS, 10 * NS, 10_000, 2_000, 10_000, id="server-in-the-next-era"),
        pytest.param(ERA_END + 5 * NS, -10 * NS, 10_000, 2_000, 10_000, id="server-in-the-last-era"),
        pytest.param(ERA_END - 15_000, 0, 10_000, 10_000, 10_000, id="era-ends-on-the-way"),
    ],
)
def test_offset_and_delay_of_known_times(start: int, offset: int, out: int, inside: int, back: int) -> None:
    """RFC 5905 section 8, with an offset that is exact for equal ways."""
    arrived = start + out + offset
    header = replace(PRECISE, receive=ntp.timestamp(arrived), transmit=ntp.timestamp(arrived + inside))
    received = start + out + inside + back
    assert measure(header, start, received) == Measurement(offset, out + back, (out + back) // 2 + 1000)


@given(
    st.integers(0, 2**31 * NS), st.integers(-(10**15), 10**15), st.integers(0, NS), st.integers(0, NS),
    st.integers(0, NS),
)  # fmt: skip
@bounded(200)
def test_the_true_offset_lies_within_the_error_bound(start: int, offset: int, out: int, inside: int, back: int) -> None:
    """However unequal the ways are."""
    arrived = start + out + offset
    header = replace(PRECISE, receive=ntp.timestamp(arrived), transmit=ntp.timestamp(arrived + inside))
    measured = measure(header, start, start + out + inside + back)
    assert measured is not None
    assert abs(measured.offset - offset) <= measured.error
    assert measured.delay == out + back


def test_the_error_bound_counts_root_distance_and_precision() -> None:
    """RFC 5905 section 8 and appendix A: half the root delay, the dispersion, the precision, half the delay."""
    stamp = ntp.timestamp(T0)
    header = Header(precision=-1, root_delay=2 << 16, root_dispersion=3 << 16, receive=stamp, transmit=stamp)
    measured = measure(header, T0, T0)
    assert measured is not None
    assert measured.error == NS + 3 * NS + NS // 2 + 1000


@pytest.mark.parametrize("precision", [-128, 127])
def test_absurd_precisions_do_no_harm(precision: int) -> None:
    stamp = ntp.timestamp(T0)
    header = Header(precision=precision, receive=stamp, transmit=stamp)
    measured = measure(header, T0, T0)
    assert measured is not None
    assert 1000 <= measured.error <= 64 * NS + 1000


@pytest.mark.parametrize(("precision", "slack"), [(-30, 1000), (-20, 1000 + 953), (-1, NS // 2 + 1000)])
def test_a_delay_that_no_precision_explains_is_refused(precision: int, slack: int) -> None:
    """A server whose timestamps are further apart than the answer took would get a tiny error for any offset."""
    for beyond in (0, 1):
        late = T0 + slack + beyond
        header = Header(precision=precision, receive=ntp.timestamp(T0), transmit=ntp.timestamp(late))
        measured = measure(header, T0, T0)
        assert (measured is None) == bool(beyond)
        assert measured is None or measured.error >= slack


def test_the_stock_keeps_the_newest_eight() -> None:
    """A64, C13."""
    stock = tuple(bytes([i]) for i in range(20))
    assert restock(stock[:3], stock[3:5]) == stock[:5]
    assert restock(stock[:7], stock[7:9]) == stock[1:9]
    assert restock((), stock) == stock[12:]
    assert restock(stock[:2], ()) == stock[:2]


def test_a_ring_without_the_key_is_answered_with_a_nak_and_not_with_time() -> None:
    """A73, A83."""
    outcome = respond(QUERY.packet, ring=KeyRing(RING.keys[:1]))
    assert judge(outcome.reply or b"", QUERY).kind == AnswerKind.NAK
