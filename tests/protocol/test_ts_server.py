# SPDX-License-Identifier: MIT
"""The time server as a pure function: every shape of request and its verdict, and what each reply holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.codec.aead import Aead
from nts.codec.keyring import KeyRing
from nts.codec.ntp import Header
from nts.protocol.ts_server import MAX_REQUEST, Outcome, SystemVariables, Verdict
from testkit.packets import (
    AUTHENTICATOR,
    COOKIE,
    CURRENT_KEY,
    DEPARTED,
    OLD_KEY,
    PLACEHOLDER,
    RECEIVED,
    REQUEST,
    RING,
    SYSTEM,
    TRANSMIT,
    UID,
    UNIQUE_IDENTIFIER,
    UNKNOWN_FIELD,
    Counter,
    Request,
    answer,
    bounded,
    cookie_of,
    fields_of,
    flipped,
    foreign_cookie,
    mutated,
    open_reply,
    raw_field,
    requests,
    respond,
    session_keys,
)

PLAIN = Header(version=4, mode=3, transmit=TRANSMIT, poll=6).encode()
UNKNOWN = raw_field(UNKNOWN_FIELD, bytes(24))
REPLY_HEADER = Header(
    leap=0, version=4, mode=4, stratum=2, poll=6, precision=-23, root_delay=0x100, root_dispersion=0x200,
    reference_id=bytes([192, 0, 2, 1]), reference_time=SYSTEM.reference_time, origin=TRANSMIT, receive=RECEIVED,
    transmit=DEPARTED,
)  # fmt: skip
NAK_HEADER = replace(REPLY_HEADER, leap=3, stratum=0, reference_id=b"NTSN")


BY_AEAD = pytest.mark.parametrize(
    "request_", [Request(keys=session_keys(a)) for a in Aead], ids=lambda r: f"aead-{int(r.keys.aead)}"
)


# --- replies with time -----------------------------------------------------------------------------------------------


@BY_AEAD
def test_a_good_request_gets_time_identifier_and_one_encrypted_cookie(request_: Request) -> None:
    """A51, A57, A58, A67, A68, check 33: header exact, S2C key, nothing but the identifier in clear."""
    outcome = respond(request_.encode())
    assert outcome.verdict == Verdict.ANSWERED_NTS
    reply = open_reply(outcome.reply or b"", request_.keys)
    assert reply.header == REPLY_HEADER
    assert reply.unique_id == UID
    assert len(reply.cookies) == 1


@BY_AEAD
@pytest.mark.parametrize(("placeholders", "cookies"), [(0, 1), (1, 2), (3, 4), (7, 8), (8, 8), (10, 8)])
def test_each_placeholder_brings_a_cookie_up_to_eight(request_: Request, placeholders: int, cookies: int) -> None:
    """A69, checks 34 and 35: and the reply is never longer than the request."""
    packet = request_.with_placeholders(placeholders).encode()
    reply = answer(packet)
    assert len(open_reply(reply, request_.keys).cookies) == cookies
    assert len(reply) <= len(packet)


@pytest.mark.parametrize("placeholders", range(8))
def test_the_reply_to_a_request_in_the_usual_shape_is_exactly_as_long(placeholders: int) -> None:
    """A71."""
    packet = REQUEST.with_placeholders(placeholders).encode()
    assert len(answer(packet)) == len(packet)


@pytest.mark.parametrize("size", [12, 96, 104, 200])
def test_a_placeholder_of_another_length_brings_no_cookie(size: int) -> None:
    """A55, check 36."""
    packet = REQUEST.with_placeholders(3, bytes(size)).encode()
    assert len(open_reply(answer(packet), REQUEST.keys).cookies) == 1


def test_good_placeholders_among_bad_ones_count() -> None:
    """A55."""
    request = replace(REQUEST, placeholders=(bytes(96), bytes(100), bytes(104), bytes(100)))
    assert len(open_reply(answer(request.encode()), request.keys).cookies) == 3


def test_the_contents_of_a_placeholder_do_not_matter() -> None:
    """A54, check 37."""
    packet = REQUEST.with_placeholders(1, b"\xff" * 100).encode()
    assert len(open_reply(answer(packet), REQUEST.keys).cookies) == 2


@pytest.mark.parametrize(("outside", "inside", "cookies"), [(0, 1, 2), (1, 2, 4), (0, 9, 8), (4, 4, 8)])
def test_encrypted_placeholders_count_too(outside: int, inside: int, cookies: int) -> None:
    """A65, check 38."""
    request = replace(REQUEST.with_placeholders(outside), inside=raw_field(PLACEHOLDER, bytes(100)) * inside)
    packet = request.encode()
    reply = answer(packet)
    assert len(open_reply(reply, request.keys).cookies) == cookies
    assert len(reply) <= len(packet)


def test_placeholders_behind_the_authenticator_do_not_count() -> None:
    """A64, A66."""
    request = replace(REQUEST, after=raw_field(PLACEHOLDER, bytes(100)) * 3)
    assert len(open_reply(answer(request.encode()), request.keys).cookies) == 1


@BY_AEAD
def test_every_fresh_cookie_is_new_and_works_in_a_next_request(request_: Request) -> None:
    """A70, A92, check 39: three generations of eight, each cookie used once."""
    random, seen, stock = Counter("chain"), {request_.cookie}, [request_.cookie]
    for _ in range(3):
        fresh: list[bytes] = []
        for cookie in stock:
            request = replace(request_, cookies=(cookie,)).with_placeholders(7)
            fresh += open_reply(answer(request.encode(), random=random), request.keys).cookies
        assert len(fresh) == len(set(fresh)) == 8 * len(stock)
        assert seen.isdisjoint(fresh)
        assert {len(c) for c in fresh} == {len(request_.cookie)}
        seen.update(fresh)
        stock = fresh[::8]


def test_cookies_of_an_old_key_are_taken_and_replaced_by_those_of_the_current_key() -> None:
    """A91."""
    request = replace(REQUEST, cookies=(cookie_of(REQUEST.keys, OLD_KEY),))
    (cookie,) = open_reply(answer(request.encode()), request.keys).cookies
    assert cookie[:2] == CURRENT_KEY.id.to_bytes(2, "big")


def test_the_same_packet_twice_is_answered_twice_with_other_cookies() -> None:
    """A67, check 40: the server keeps no state."""
    random, packet = Counter("replay"), REQUEST.encode()
    first, second = (open_reply(answer(packet, random=random), REQUEST.keys) for _ in range(2))
    assert first.cookies != second.cookies
    assert first.nonce != second.nonce


@pytest.mark.parametrize(
    ("nonce", "spare"),
    [(16, 0), (13, 0), (15, 0), (24, 0), (32, 0), (128, 0), (8, 8), (1, 12), (12, 4), (8, 64), (16, 64), (16, 256)],
)
def test_nonces_and_padding_of_all_legal_shapes(nonce: int, spare: int) -> None:
    """A56, A61, check 45."""
    request = replace(REQUEST, nonce=bytes(range(nonce)), spare=spare)
    packet = request.encode()
    assert open_reply(answer(packet), request.keys).header == REPLY_HEADER
    assert len(answer(packet)) <= len(packet)


@pytest.mark.parametrize(("nonce", "spare"), [(1, 8), (4, 0), (8, 0), (8, 4), (12, 0), (9, 0)])
def test_a_short_nonce_without_enough_padding_gets_nothing(nonce: int, spare: int) -> None:
    """A61, check 46."""
    assert respond(replace(REQUEST, nonce=bytes(nonce), spare=spare).encode()) == Outcome(Verdict.DROP_PADDING)


def unknown_field_in(where: str, field: bytes) -> Request:
    parts = {"before": b"", "inside": b"", "after": b"", where: field}
    return Request(before=parts["before"], inside=parts["inside"], after=parts["after"])


@pytest.mark.parametrize("where", ["before", "inside", "after"])
@pytest.mark.parametrize("kind", [UNKNOWN_FIELD, 0, 0x0204 ^ 0x8000, 0xF5FF])
def test_unknown_fields_are_skipped_wherever_they_are(where: str, kind: int) -> None:
    """A66, B17, check 47: a reply holds none of them."""
    request = unknown_field_in(where, raw_field(kind, bytes(24)))
    assert open_reply(answer(request.encode()), request.keys).header == REPLY_HEADER


@pytest.mark.parametrize("body", [b"", bytes(4), bytes(8)])
def test_short_fields_inside_the_ciphertext_are_legal(body: bytes) -> None:
    """A59, B03."""
    request = replace(REQUEST, inside=raw_field(UNKNOWN_FIELD, body))
    assert respond(request.encode()).verdict == Verdict.ANSWERED_NTS


@pytest.mark.parametrize("size", [32, 36, 64, 128, 200, 1000])
def test_identifiers_of_any_length_are_echoed(size: int) -> None:
    """A51, check 49: with time, with a NAK, and without NTS."""
    unique_id = Counter("uid")(size)
    request = replace(REQUEST, unique_ids=(unique_id,))
    assert open_reply(answer(request.encode()), request.keys).unique_id == unique_id
    nak = answer(replace(request, key=request.keys.s2c).encode())
    plain = answer(PLAIN + raw_field(UNIQUE_IDENTIFIER, unique_id))
    assert fields_of(nak) == fields_of(plain) == [(UNIQUE_IDENTIFIER, unique_id)]


# --- NTS NAK ---------------------------------------------------------------------------------------------------------

RANDOM_COOKIE = CURRENT_KEY.id.to_bytes(2, "big") + bytes(98)
NAKS: dict[str, tuple[Request, Verdict]] = {
    "42-forged-cookie": (replace(REQUEST, cookies=(RANDOM_COOKIE,)), Verdict.NAK_COOKIE),
    "unknown-master-key": (replace(REQUEST, cookies=(b"\0\0" + bytes(98),)), Verdict.NAK_COOKIE),
    "short-cookie": (replace(REQUEST, cookies=(bytes(12),)), Verdict.NAK_COOKIE),
    "padded-cookie": (replace(REQUEST, cookies=(REQUEST.cookie + bytes(4),)), Verdict.NAK_COOKIE),
    "foreign-cookie": (replace(REQUEST, cookies=(foreign_cookie(b"\0\x1f" + bytes(64)),)), Verdict.NAK_COOKIE),
    "44-key-swap": (replace(REQUEST, key=REQUEST.keys.s2c), Verdict.NAK_AUTH),
    "other-key": (replace(REQUEST, key=bytes(32)), Verdict.NAK_AUTH),
    "other-aead": (replace(REQUEST, keys=session_keys(Aead(17)), key=bytes(32)), Verdict.NAK_AUTH),
}


@pytest.mark.parametrize(("request_", "verdict"), list(NAKS.values()), ids=list(NAKS))
def test_a_nak_is_a_kiss_with_the_identifier_and_nothing_else(request_: Request, verdict: Verdict) -> None:
    """A58, A73, A74, checks 41, 42 and 44: exact octets, never longer than the request."""
    packet = request_.with_placeholders(3).encode()
    outcome = respond(packet)
    assert outcome == Outcome(verdict, NAK_HEADER.encode() + raw_field(UNIQUE_IDENTIFIER, UID))
    assert len(outcome.reply or b"") <= len(packet)


def test_a_tag_that_does_not_match_gets_a_nak() -> None:
    """A73, check 41."""
    assert respond(flipped(REQUEST.encode(), 8 * 220)).verdict == Verdict.NAK_AUTH


def test_a_ciphertext_shorter_than_a_tag_gets_a_nak() -> None:
    body = b"\0\x10\0\x08" + bytes(16) + bytes(8)
    packet = replace(REQUEST, authenticators=0, after=raw_field(AUTHENTICATOR, body)).encode()
    assert respond(packet).verdict == Verdict.NAK_AUTH


def test_a_server_without_any_master_key_naks() -> None:
    """A83."""
    assert respond(REQUEST.encode(), ring=KeyRing()).verdict == Verdict.NAK_COOKIE


# --- no reply --------------------------------------------------------------------------------------------------------

AUTH = REQUEST.encode()[-40:]
SILENCE: dict[str, tuple[bytes, Verdict]] = {
    "empty": (b"", Verdict.DROP_LENGTH),
    "47-octets": (PLAIN[:47], Verdict.DROP_LENGTH),
    "51-octets": (PLAIN + b"\0\0\0", Verdict.DROP_LENGTH),
    "too-long": (PLAIN + raw_field(0xF123, bytes(2044 - 48)) + bytes(4), Verdict.DROP_LENGTH),
    "50-version-1": (replace(REQUEST, version=1).encode(), Verdict.DROP_VERSION),
    "50-version-2": (replace(REQUEST, version=2).encode(), Verdict.DROP_VERSION),
    "50-version-5": (replace(REQUEST, version=5).encode(), Verdict.DROP_VERSION),
    "50-version-3": (replace(REQUEST, version=3).encode(), Verdict.DROP_MAC),
    **{f"50-mode-{m}": (replace(REQUEST, mode=m).encode(), Verdict.DROP_MODE) for m in (0, 1, 2, 4, 5, 6, 7)},
    "mode-6-readvar": (bytes.fromhex("16020001") + bytes(44), Verdict.DROP_VERSION),
    "mac-4": (REQUEST.encode() + bytes(4), Verdict.DROP_MAC),
    "mac-20": (REQUEST.encode() + bytes(20), Verdict.DROP_MAC),
    "mac-24": (REQUEST.encode() + bytes(24), Verdict.DROP_MAC),
    "crypto-nak": (PLAIN + bytes(4), Verdict.DROP_MAC),
    "last-field-24": (PLAIN + raw_field(UNKNOWN_FIELD, bytes(20)), Verdict.DROP_MAC),
    "51-length-0": (PLAIN + raw_field(UNKNOWN_FIELD, bytes(24), 0), Verdict.DROP_FIELDS),
    "51-length-3": (PLAIN + raw_field(UNKNOWN_FIELD, bytes(24), 3), Verdict.DROP_FIELDS),
    "51-length-12": (PLAIN + raw_field(UNKNOWN_FIELD, bytes(24), 12), Verdict.DROP_FIELDS),
    "51-length-odd": (PLAIN + raw_field(UNKNOWN_FIELD, bytes(24), 27), Verdict.DROP_FIELDS),
    "51-overrun": (PLAIN + raw_field(UNKNOWN_FIELD, bytes(24), 32), Verdict.DROP_FIELDS),
    "48-no-uid": (replace(REQUEST, unique_ids=()).encode(), Verdict.DROP_UNIQUE_ID),
    "48-two-uids": (replace(REQUEST, unique_ids=(UID, UID)).encode(), Verdict.DROP_UNIQUE_ID),
    "49-uid-28": (replace(REQUEST, unique_ids=(UID[:28],)).encode(), Verdict.DROP_UNIQUE_ID),
    "49-uid-12": (replace(REQUEST, unique_ids=(UID[:12],)).encode(), Verdict.DROP_UNIQUE_ID),
    "49-uid-only-28": (PLAIN + raw_field(UNIQUE_IDENTIFIER, UID[:28]), Verdict.DROP_UNIQUE_ID),
    "uid-only-two": (PLAIN + raw_field(UNIQUE_IDENTIFIER, UID) * 2, Verdict.DROP_UNIQUE_ID),
    "uid-behind-authenticator": (
        replace(REQUEST, unique_ids=(), after=raw_field(UNIQUE_IDENTIFIER, UID)).encode(),
        Verdict.DROP_UNIQUE_ID,
    ),
    "48-uid-encrypted-only": (
        replace(REQUEST, unique_ids=(), inside=raw_field(UNIQUE_IDENTIFIER, UID)).encode(),
        Verdict.DROP_UNIQUE_ID,
    ),
    "48-no-cookie": (replace(REQUEST, cookies=()).encode(), Verdict.DROP_INCOMPLETE),
    "48-two-cookies": (replace(REQUEST, cookies=(REQUEST.cookie,) * 2).encode(), Verdict.DROP_INCOMPLETE),
    "cookie-behind-authenticator": (
        replace(REQUEST, cookies=(), after=raw_field(COOKIE, REQUEST.cookie)).encode(),
        Verdict.DROP_INCOMPLETE,
    ),
    "48-cookie-encrypted-only": (
        replace(REQUEST, cookies=(), inside=raw_field(COOKIE, REQUEST.cookie)).encode(),
        Verdict.DROP_INCOMPLETE,
    ),
    "48-no-authenticator": (replace(REQUEST, authenticators=0).encode(), Verdict.DROP_INCOMPLETE),
    "48-two-authenticators": (replace(REQUEST, authenticators=2).encode(), Verdict.DROP_INCOMPLETE),
    "placeholder-only": (
        PLAIN + raw_field(UNIQUE_IDENTIFIER, UID) + raw_field(PLACEHOLDER, bytes(100)),
        Verdict.DROP_INCOMPLETE,
    ),
    "46-short-nonce": (replace(REQUEST, nonce=bytes(12)).encode(), Verdict.DROP_PADDING),
    "empty-nonce": (
        replace(REQUEST, authenticators=0, after=raw_field(AUTHENTICATOR, b"\0\0\0\x10" + bytes(32))).encode(),
        Verdict.DROP_FIELDS,
    ),
    "51-nonce-overrun": (
        replace(REQUEST, authenticators=0, after=raw_field(AUTHENTICATOR, b"\0\x24\0\x10" + bytes(32))).encode(),
        Verdict.DROP_FIELDS,
    ),
    "51-ciphertext-overrun": (
        replace(REQUEST, authenticators=0, after=raw_field(AUTHENTICATOR, b"\0\x10\0\x11" + bytes(32))).encode(),
        Verdict.DROP_FIELDS,
    ),
    "48-second-cookie-encrypted": (
        replace(REQUEST, inside=raw_field(COOKIE, REQUEST.cookie)).encode(),
        Verdict.DROP_ENCRYPTED,
    ),
    "48-second-uid-encrypted": (
        replace(REQUEST, inside=raw_field(UNIQUE_IDENTIFIER, UID)).encode(),
        Verdict.DROP_ENCRYPTED,
    ),
    "48-authenticator-encrypted": (replace(REQUEST, inside=AUTH).encode(), Verdict.DROP_ENCRYPTED),
    "encrypted-length-0": (replace(REQUEST, inside=b"\0\1\0\0").encode(), Verdict.DROP_ENCRYPTED),
    "encrypted-half-header": (replace(REQUEST, inside=b"\0\1").encode(), Verdict.DROP_ENCRYPTED),
}


@pytest.mark.parametrize(("packet", "verdict"), list(SILENCE.values()), ids=list(SILENCE))
def test_a_request_that_breaks_a_rule_gets_nothing(packet: bytes, verdict: Verdict) -> None:
    """A52, A62, B01, B02, B04, B05, B06, B07, B09, B10, checks 46 and 48 to 51: no reply; a counter says why."""
    assert respond(packet) == Outcome(verdict)


@pytest.mark.parametrize("size", range(len(REQUEST.with_placeholders(1).encode())))
def test_no_truncation_gets_authentic_time(size: int) -> None:
    """Check 51: a cut at a field's end may leave a plain request; nothing else is answered."""
    outcome = respond(REQUEST.with_placeholders(1).encode()[:size])
    plain = size in (48, 84)  # the header, and the identifier
    assert (outcome.verdict == Verdict.ANSWERED_PLAIN) == plain
    assert (outcome.reply is not None) == plain


# --- without NTS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
def test_plain_requests_are_answered_in_their_version(version: int) -> None:
    """B08, check 52."""
    outcome = respond(Header(version=version, mode=3, transmit=TRANSMIT, poll=6).encode())
    assert outcome == Outcome(Verdict.ANSWERED_PLAIN, replace(REPLY_HEADER, version=version).encode())


def test_an_identifier_is_echoed_without_nts_too() -> None:
    """A51, check 49."""
    packet = PLAIN + UNKNOWN + raw_field(UNIQUE_IDENTIFIER, UID) + UNKNOWN
    assert respond(packet).reply == REPLY_HEADER.encode() + raw_field(UNIQUE_IDENTIFIER, UID)


@pytest.mark.parametrize("size", [228, 500, 956, 1200, MAX_REQUEST])
def test_plain_requests_with_unknown_fields_are_answered_without_them(size: int) -> None:
    """Check 52."""
    assert respond(PLAIN + raw_field(UNKNOWN_FIELD, bytes(size - 52))).reply == REPLY_HEADER.encode()


def test_an_unsynchronised_server_says_so_under_protection() -> None:
    """B12."""
    system = SystemVariables(leap=3, stratum=16, reference_id=b"INIT")
    reply = open_reply(respond(REQUEST.encode(), system=system).reply or b"", REQUEST.keys)
    assert (reply.header.leap, reply.header.stratum, reply.header.reference_id) == (3, 16, b"INIT")


# --- order, clock and random source ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        pytest.param(REQUEST.encode(), ["random"] * 2 + ["now"], id="time"),
        pytest.param(REQUEST.with_placeholders(7).encode(), ["random"] * 9 + ["now"], id="time-eight-cookies"),
        pytest.param(PLAIN, ["now"], id="plain"),
        pytest.param(replace(REQUEST, key=bytes(32)).encode(), ["now"], id="nak-auth"),
        pytest.param(replace(REQUEST, cookies=(RANDOM_COOKIE,)).encode(), ["now"], id="nak-cookie"),
        pytest.param(replace(REQUEST, mode=4).encode(), [], id="drop"),
        pytest.param(replace(REQUEST, inside=b"\0\1").encode(), [], id="drop-encrypted"),
    ],
)
def test_the_clock_is_read_once_for_each_reply_and_after_all_that_is_random(packet: bytes, expected: list[str]) -> None:
    log: list[str] = []

    def now() -> int:
        log.append("now")
        return DEPARTED

    respond(packet, random=Counter(log=log), now=now)
    assert log == expected


# --- properties ------------------------------------------------------------------------------------------------------


@given(requests())
@bounded(150)
def test_every_good_request_gets_time_in_no_more_octets_than_it_has(request_: Request) -> None:
    """A54-A56, A59, A61, A64-A66, A69-A71."""
    packet = request_.encode()
    outcome = respond(packet)
    if len(packet) > MAX_REQUEST:
        assert outcome.verdict == Verdict.DROP_LENGTH
        return
    assert outcome.verdict == Verdict.ANSWERED_NTS
    assert outcome.reply is not None
    assert len(outcome.reply) <= len(packet)
    reply = open_reply(outcome.reply, request_.keys)
    assert (reply.header, reply.unique_id) == (REPLY_HEADER, request_.unique_ids[0])
    asked = [*request_.placeholders, *(b for k, b in fields_of(request_.inside, 0) if k == PLACEHOLDER)]
    assert len(reply.cookies) == 1 + min(7, sum(len(p) == len(request_.cookie) for p in asked))
    assert {len(c) for c in reply.cookies} == {len(request_.cookie)}


@given(st.binary(max_size=300) | mutated(requests().map(Request.encode)) | mutated(st.just(REQUEST.encode())))
@bounded(400)
def test_nothing_raises_and_nothing_is_amplified(packet: bytes) -> None:
    """A71, B10, checks 34 and 51."""
    outcome = respond(packet)
    assert isinstance(outcome.verdict, Verdict)
    assert (outcome.reply is None) == outcome.verdict.name.startswith("DROP")
    assert len(outcome.reply or b"") <= len(packet)


@BY_AEAD
def test_no_bit_of_an_authenticated_request_can_be_flipped(request_: Request) -> None:
    """A57, check 43: every bit of a request with everything in it; and never a reply of more octets."""
    packet = replace(
        request_.with_placeholders(1), inside=raw_field(PLACEHOLDER, bytes(len(request_.cookie))), before=UNKNOWN
    ).encode()
    assert respond(packet).verdict == Verdict.ANSWERED_NTS
    verdicts = set()
    for bit in range(8 * len(packet)):
        outcome = respond(flipped(packet, bit))
        assert outcome.verdict != Verdict.ANSWERED_NTS, f"bit {bit}"
        assert len(outcome.reply or b"") <= len(packet)
        verdicts.add(outcome.verdict)
    assert {Verdict.NAK_COOKIE, Verdict.NAK_AUTH, Verdict.DROP_FIELDS, Verdict.DROP_MODE} <= verdicts


def test_every_verdict_is_reached_by_some_packet_here() -> None:
    packets = [PLAIN, REQUEST.encode(), *(p for p, _ in SILENCE.values())]
    packets += [r.encode() for r, _ in NAKS.values()]
    from_outside = {Verdict.DROP_DESTINATION, Verdict.DROP_BUSY, Verdict.KISS_RATE, Verdict.DROP_RATE}
    assert {respond(p).verdict for p in packets} == set(Verdict) - from_outside


def test_a_ring_may_lose_the_key_of_a_request() -> None:
    """A83: what was answered before is NAKed after its key has gone."""
    packet = replace(REQUEST, cookies=(cookie_of(REQUEST.keys, OLD_KEY),)).encode()
    assert respond(packet, ring=RING).verdict == Verdict.ANSWERED_NTS
    assert respond(packet, ring=KeyRing((CURRENT_KEY,))).verdict == Verdict.NAK_COOKIE
