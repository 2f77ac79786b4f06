# SPDX-License-Identifier: MIT
"""nts_check's requests and its judgement of replies: nts.check.ntp.forge and nts.check.ntp.judge, without a network."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from nts.base.registry import FieldType
from nts.check.model import Grade, Severity, conclude, failed, passed
from nts.check.ntp import judge as judge_ntp
from nts.check.ntp.answer import Kind, classify
from nts.check.ntp.forge import UNKNOWN_FIELD, Forge, Request, Seal, Ticket, raw_field
from nts.check.server import CHECKS, ntp_fields, ntp_robustness
from nts.codec.ntp import Header
from nts.protocol.ts_server import Verdict as Outcome
from testkit import packets
from testkit.packets import AUTHENTICATOR, COOKIE, PLACEHOLDER, UNIQUE_IDENTIFIER, bounded, fields_of

# --- the forge -------------------------------------------------------------------------------------------------------

KEYS = packets.session_keys()
TICKET = Ticket(KEYS, packets.cookie_of(KEYS))


def forge(seed: object = 0) -> Forge:
    return Forge(TICKET, packets.Counter(seed))


def answered(request: Request) -> bytes:
    return packets.answer(request.packet)


def test_a_usual_request_is_what_an_independent_peer_would_build() -> None:
    request = forge().usual()
    (a, uid), (b, cookie), (c, body) = fields_of(request.packet)
    assert (a, b, c) == (UNIQUE_IDENTIFIER, COOKIE, AUTHENTICATOR)
    assert (len(uid), cookie, len(body)) == (32, TICKET.cookie, 36)
    assert request.unique_id == uid
    nonce, sealed = body[4:20], body[20:]
    assert AESSIV(KEYS.c2s).decrypt(sealed, [request.packet[:-40], nonce]) == b""
    assert request.packet[:40] == bytes([0x23]) + bytes(39)
    assert request.packet[40:48] == struct.pack(">Q", request.transmit)


def test_each_request_is_its_own() -> None:
    maker = forge()
    assert len({maker.usual().transmit for _ in range(20)} | {maker.usual().unique_id for _ in range(20)}) == 40


@bounded(60)
@given(st.integers(1, 40), st.integers(0, 20), st.integers(0, 3), st.booleans(), st.booleans())
def test_good_requests_of_any_shape_are_answered(
    nonce: int, padding: int, placeholders: int, before: bool, after: bool
) -> None:
    maker = forge((nonce, padding))
    seal = maker.seal(maker.placeholder(), nonce=nonce, padding=4 * padding + max(0, 16 - nonce - -nonce % 4))
    clear = [maker.placeholder()] * placeholders
    parts: list[bytes | Seal] = [
        *[maker.unknown()] * before,
        maker.uid(),
        maker.cookie(),
        *clear,
        seal,
        *[maker.unknown()] * after,
    ]
    request = maker.request("any", *parts)
    reply = packets.open_reply(answered(request), KEYS)
    assert len(reply.cookies) == 2 + placeholders
    assert reply.unique_id == request.unique_id
    assert reply.header.origin == request.transmit


@bounded(60)
@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(1, 33))
def test_a_seal_lies_as_told(length: int, nonce_length: int, ciphertext_length: int, nonce: int) -> None:
    lying = Seal(
        KEYS.c2s_cipher, bytes(nonce), length=length, nonce_length=nonce_length, ciphertext_length=ciphertext_length
    ).over(b"head")
    assert struct.unpack(">4H", lying[:8]) == (AUTHENTICATOR, length, nonce_length, ciphertext_length)
    assert len(lying) == 8 + nonce + -nonce % 4 + 16


def test_parts_come_in_their_order_and_a_seal_covers_what_is_before_it() -> None:
    maker = forge()
    inside, behind = maker.unknown(), maker.unknown()
    request = maker.request("", maker.cookie(), maker.seal(inside), maker.uid(), behind)
    kinds = [k for k, _ in fields_of(request.packet)]
    assert kinds == [COOKIE, AUTHENTICATOR, UNIQUE_IDENTIFIER, UNKNOWN_FIELD]
    at = request.offset(FieldType.AUTHENTICATOR)
    body = fields_of(request.packet)[1][1]
    assert AESSIV(KEYS.c2s).decrypt(body[20:], [request.packet[:at], body[4:20]]) == inside


def test_placeholders_have_the_length_of_the_cookie_unless_told() -> None:
    maker = forge()
    assert maker.placeholder() == raw_field(PLACEHOLDER, bytes(len(TICKET.cookie)))
    assert len(maker.placeholder(-4)) == len(maker.placeholder()) - 4
    assert maker.placeholder(fill=0xFF)[4:] == b"\xff" * len(TICKET.cookie)


def test_flipping_and_cutting_say_what_they_did() -> None:
    request = forge().usual()
    flipped = request.flipped(50, 3, "the identifier")
    assert packets.flipped(request.packet, 50 * 8 + 4) == flipped.packet
    assert flipped.label == "bit 3 of octet 50 flipped (the identifier)"
    assert request.cut(51).packet == request.packet[:51]
    assert not request.cut(51).is_well_formed
    assert request.cut(0).version == request.cut(0).transmit == 0


def test_secrets_are_not_in_what_is_printed() -> None:
    maker = forge()
    shown = repr((TICKET, maker.seal(), maker.usual(), classify(maker.usual(), [])))
    for secret in (KEYS.c2s, KEYS.s2c, TICKET.cookie):
        assert repr(secret)[2:-1] not in shown


STIMULI: dict[Outcome, list[str]] = {
    Outcome.DROP_UNIQUE_ID: ["no identifier", "two identifiers", "the identifier encrypted"],
    Outcome.DROP_INCOMPLETE: [
        "no cookie", "two cookies", "the cookie encrypted", "no authenticator", "two authenticators",
    ],
    Outcome.DROP_ENCRYPTED: ["another cookie encrypted"],
    Outcome.DROP_MODE: [
        *(f"mode {m}" for m in (1, 2, 4, 5, 6, 7)), *(f"mode {m} without NTS" for m in (2, 4, 5, 6, 7)),
    ],
    Outcome.DROP_VERSION: [f"version {v}" for v in (1, 2, 5)],
    Outcome.DROP_MAC: ["version 3"],
    Outcome.DROP_LENGTH: ["cut to 47 octets", "a header and 3 octets"],
    Outcome.DROP_FIELDS: [
        *(f"an identifier field of length {n}" for n in (0, 2, 3, 35, 65532)),
        *(f"a cookie field of length {n}" for n in (0, 3, 65532)),
        *(f"an authenticator field of length {n}" for n in (0, 3, 65532)),
        *(f"a nonce of length {n}" for n in (0, 40, 65535)),
        *(f"a ciphertext of length {n}" for n in (20, 65535)),
    ],
    Outcome.NAK_AUTH: ["a ciphertext of length 0", "a ciphertext of length 15"],
}  # fmt: skip


def test_broken_requests_are_broken_in_one_way_each() -> None:
    """What the reference server makes of the stimuli of checks 48, 50 and 51."""
    makes = [
        *ntp_fields.CARDINALITY, ntp_fields.another_cookie_encrypted,
        *ntp_robustness.oddities(), *ntp_robustness.lies(),
    ]  # fmt: skip
    found: dict[Outcome, list[str]] = {}
    for make in makes:
        request = make(forge())
        found.setdefault(packets.respond(request.packet).verdict, []).append(request.label)
    assert found == STIMULI


# --- the judge -------------------------------------------------------------------------------------------------------


def kind_of(request: Request, *datagrams: bytes) -> Kind:
    return classify(request, datagrams).kind


def test_kinds_of_answers() -> None:
    request = forge().usual()
    reply = answered(request)
    header = Header.decode(reply)
    kiss = replace(header, stratum=0, reference_id=b"DENY").encode()
    assert kind_of(request) is Kind.SILENCE
    assert kind_of(request, reply) is Kind.TIME
    assert kind_of(request, answered(request.flipped(len(request.packet) - 1, 0))) is Kind.NAK
    assert kind_of(request, kiss) is Kind.KISS
    assert "DENY" in str(classify(request, [kiss]))
    assert kind_of(request, header.encode()) is Kind.PLAIN
    assert kind_of(request, header.encode() + bytes(4)) is Kind.CRYPTO_NAK
    assert kind_of(request, header.encode() + b"\0\0\0\1") is Kind.PLAIN
    assert kind_of(request, packets.flipped(reply, 8 * len(reply) - 1)) is Kind.UNPROVEN
    assert kind_of(request, header.encode() + raw_field(UNIQUE_IDENTIFIER, bytes(40), 6)) is Kind.MALFORMED
    assert kind_of(request, request.packet[:48]) is Kind.OTHER
    assert kind_of(request, b"short") is Kind.OTHER


def test_a_reply_to_a_plain_request_cannot_be_authentic() -> None:
    maker = forge()
    assert kind_of(maker.plain("plain"), answered(maker.usual())) is Kind.UNPROVEN


def test_the_reply_that_is_for_the_request_is_taken() -> None:
    maker = forge()
    request, reply = maker.usual(), answered(maker.usual())
    own = answered(request)
    assert classify(request, [b"junk", reply, own, b"junk"]).octets is own
    assert classify(request, [b"junk", reply]).octets == b"junk"


def test_a_refusal_does_not_undo_time() -> None:
    """A server that sends NTSN, and time right behind it, has given time."""
    maker = forge()
    request = maker.usual()
    uid = raw_field(FieldType.UNIQUE_IDENTIFIER, request.unique_id or b"")
    nak, plain = (
        Header(mode=4, stratum=stratum, reference_id=refid, origin=request.transmit).encode() + uid
        for stratum, refid in ((0, b"NTSN"), (2, b"GPS\0"))
    )
    assert classify(request, [nak, plain]).kind is Kind.PLAIN
    assert classify(request, [nak, nak]).octets is nak
    assert judge_ntp.expect_nak(classify(request, [nak, plain])).severity is Severity.CRIT


@bounded(300)
@given(st.lists(st.binary(max_size=300), max_size=3))
def test_any_octets_are_judged(datagrams: list[bytes]) -> None:
    answer = classify(forge().usual(), datagrams)
    assert str(answer)
    assert (answer.kind is Kind.SILENCE) == (not datagrams)
    for judged in (judge_ntp.expect_time, judge_ntp.expect_no_time, judge_ntp.expect_nak):
        assert judge_ntp.findings([answer], judged)[0].text


def without(octets: bytes, part: slice) -> bytes:
    return octets[: part.start] + octets[part.stop :]


@bounded(300)
@given(packets.mutated(st.just(answered(forge().usual()))))
def test_mutated_replies_are_judged_and_authentic_only_if_whole(packet: bytes) -> None:
    request = forge().usual()
    whole = answered(request)
    answer = classify(request, [packet])
    assert judge_ntp.expect_time(answer, cookies=1).text
    length = slice(86, 88)  # of the authenticator field: more of it would be Additional Padding
    assert answer.kind is not Kind.TIME or without(packet[: len(whole)], length) == without(whole, length)


@pytest.mark.parametrize("bit", range(0, 8 * 228, 37))
def test_a_flipped_bit_makes_a_reply_inauthentic(bit: int) -> None:
    request = forge().usual()
    assert kind_of(request, packets.flipped(answered(request), bit)) is not Kind.TIME


def test_findings_of_the_same_outcome_are_one() -> None:
    maker = forge()
    answers = [classify(maker.plain(f"r{i}"), []) for i in range(20)]
    (found,) = judge_ntp.findings(answers, judge_ntp.expect_no_time)
    assert found.text.startswith("r0, r1,")
    assert found.text.endswith("r11 and 8 more: no reply")
    (all_well,) = judge_ntp.sweep(answers, judge_ntp.expect_no_time, "requests")
    assert all_well.text == "20 requests: 20 x no reply"


def test_among_findings_of_the_worst_verdict_the_most_severe_decides() -> None:
    check = next(c for c in CHECKS if c.name == "ntp-modes-versions")
    result = conclude(check, [passed("a"), failed("b"), failed("c", Severity.CRIT), failed("d", Severity.INFO)])
    assert (result.grade, result.severity, result.evidence) == (Grade.FAIL, Severity.CRIT, "b; c; d")
