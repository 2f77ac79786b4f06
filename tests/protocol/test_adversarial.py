# SPDX-License-Identifier: MIT
"""Attacks on client and server, one per test and named for the attack. The attacker sees and sends any packet.

What it must never get: false time believed, a foreign cookie stored, a reply longer than the request that caused it,
a query or a server ended early, or two requests of a client linked.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from nts.base.errors import FormatError, KeResponseError
from nts.codec import extensions
from nts.codec.aead import Aead
from nts.codec.keyring import KeyRing, MasterKey
from nts.codec.ntp import Header
from nts.codec.records import MessageReader
from nts.protocol.ke_client import build_request, judge_response
from nts.protocol.ke_server import MAX_REQUEST, KeServer
from nts.protocol.ke_server import Verdict as KeVerdict
from nts.protocol.ts_client import AnswerKind, Query, build_query, judge
from nts.protocol.ts_server import Verdict
from testkit.packets import (
    AUTHENTICATOR,
    COOKIE,
    CURRENT_KEY,
    OLD_KEY,
    PLACEHOLDER,
    REQUEST,
    RING,
    UNIQUE_IDENTIFIER,
    Counter,
    answer,
    authenticator,
    cookie_of,
    exporter,
    fields_of,
    message_of,
    open_reply,
    raw_field,
    respond,
    session_keys,
)
from testkit.raw_ke import END, GOOD_REQUEST, record, split_records

ALICE, BOB = session_keys(seed="alice"), session_keys(seed="bob")
OFFERED = (Aead.AES_SIV_CMAC_256,)
UID_END = 48 + 36  # where the identifier field of our own packets ends


def ask(seed: object = "query", placeholders: int = 0) -> Query:
    return build_query(ALICE, cookie_of(ALICE), placeholders, Counter(seed))


QUERY = ask()
GENUINE = answer(QUERY.packet)


def believed(datagram: bytes, query: Query = QUERY) -> bool:
    """Whether the client takes anything from a datagram: time, refusal or cookies."""
    judgement = judge(datagram, query)
    return judgement.kind in (AnswerKind.TIME, AnswerKind.UNUSABLE) or bool(judgement.cookies)


def test_the_genuine_answer_is_believed() -> None:
    """The control for all that follows."""
    assert judge(GENUINE, QUERY).kind == AnswerKind.TIME


# --- on the way to the client ----------------------------------------------------------------------------------------


def test_stripping_the_authenticator_gains_nothing() -> None:
    """A72."""
    assert judge(GENUINE[:UID_END], QUERY).kind == AnswerKind.NOT_AUTHENTIC


def test_stripping_identifier_and_authenticator_gains_nothing() -> None:
    """A72, A80: a plain NTP answer."""
    assert judge(GENUINE[:48], QUERY).kind == AnswerKind.NOT_AUTHENTIC


def test_stripping_the_identifier_gains_nothing() -> None:
    """A72."""
    assert not believed(GENUINE[:48] + GENUINE[UID_END:])


def test_shifting_the_time_breaks_the_seal() -> None:
    """A57: one second added to the transmit timestamp."""
    shifted = replace(Header.decode(GENUINE), transmit=Header.decode(GENUINE).transmit + (1 << 32))
    assert judge(shifted.encode() + GENUINE[48:], QUERY).kind == AnswerKind.NOT_AUTHENTIC


def test_an_old_answer_replayed_to_a_new_query_is_a_mismatch() -> None:
    """A72, B11."""
    assert judge(GENUINE, ask("next")).kind == AnswerKind.MISMATCH


def test_an_old_answer_with_the_new_origin_is_a_mismatch() -> None:
    """A72: the identifier is another one."""
    query = ask("next")
    patched = replace(Header.decode(GENUINE), origin=query.transmit).encode() + GENUINE[48:]
    assert judge(patched, query).kind == AnswerKind.MISMATCH


def test_an_old_answer_with_the_new_origin_and_identifier_is_not_authentic() -> None:
    """A57, A72."""
    query = ask("next")
    patched = replace(Header.decode(GENUINE), origin=query.transmit).encode()
    patched += raw_field(UNIQUE_IDENTIFIER, query.unique_id) + GENUINE[UID_END:]
    assert judge(patched, query).kind == AnswerKind.NOT_AUTHENTIC


def test_the_seal_of_one_answer_does_not_fit_another() -> None:
    """A57: two genuine answers to the same query, spliced."""
    later = respond(QUERY.packet, now=lambda: Header.decode(GENUINE).transmit + 1).reply or b""
    assert believed(later)
    assert not believed(later[:UID_END] + GENUINE[UID_END:])


def test_our_own_request_reflected_as_an_answer_is_not_authentic() -> None:
    """A58: that is what the keys have directions for."""
    header = replace(Header.decode(QUERY.packet), mode=4, stratum=1, origin=QUERY.transmit)
    assert judge(header.encode() + QUERY.packet[48:], QUERY).kind == AnswerKind.NOT_AUTHENTIC


def test_an_answer_sealed_with_the_request_key_is_not_authentic() -> None:
    """A58: the key swap."""
    head = GENUINE[:UID_END]
    assert judge(head + authenticator(ALICE.c2s, bytes(16), b"", head), QUERY).kind == AnswerKind.NOT_AUTHENTIC


def test_an_answer_for_another_client_is_not_authentic() -> None:
    """A58: Bob may ask with Alice's identifier and timestamp, but cannot seal for her."""
    request = replace(REQUEST, keys=BOB, unique_ids=(QUERY.unique_id,)).encode()
    request = replace(Header.decode(request), transmit=QUERY.transmit).encode() + request[48:]
    bobs = request[:-40] + authenticator(BOB.c2s, bytes(16), b"", request[:-40])
    assert respond(bobs).verdict == Verdict.ANSWERED_NTS
    assert judge(answer(bobs), QUERY).kind == AnswerKind.NOT_AUTHENTIC


def test_cookies_planted_after_the_authenticator_are_not_stored() -> None:
    """A66: they would make the client traceable, or run it dry."""
    assert judge(GENUINE + raw_field(COOKIE, bytes(100)), QUERY).cookies == judge(GENUINE, QUERY).cookies


def test_cookies_planted_before_the_authenticator_break_the_seal() -> None:
    """A57, A68."""
    assert not believed(GENUINE[:UID_END] + raw_field(COOKIE, bytes(100)) + GENUINE[UID_END:])


def test_a_second_authenticator_cannot_replace_the_first() -> None:
    """A68: whichever of the two were looked at, the attacker could choose the other."""
    forged = GENUINE[:UID_END] + authenticator(bytes(32), bytes(16), b"", GENUINE[:UID_END])
    assert not believed(forged + GENUINE[UID_END:])
    assert not believed(GENUINE + forged[UID_END:])


def test_removing_cookies_from_the_ciphertext_breaks_the_seal() -> None:
    """A57: to starve the client of cookies."""
    query = ask(placeholders=3)
    genuine = answer(query.packet)
    kind, body = fields_of(genuine)[-1]
    ciphertext = body[20:-104]
    shorter = body[:2] + len(ciphertext).to_bytes(2, "big") + body[4:20] + ciphertext
    assert not believed(genuine[:UID_END] + raw_field(kind, shorter), query)


def test_a_flood_of_forged_naks_does_not_displace_the_genuine_answer() -> None:
    """A76: each is noticed, none is final, and the answer still counts."""
    nak = answer(build_query(ALICE, bytes(100), 0, Counter("query")).packet)
    assert nak[:UID_END][48:] == GENUINE[48:UID_END]
    judgements = [judge(d, QUERY) for d in [nak] * 100 + [GENUINE]]
    assert {j.kind for j in judgements[:-1]} == {AnswerKind.NAK}
    assert {j.cookies for j in judgements[:-1]} == {()}
    assert judgements[-1].kind == AnswerKind.TIME


def test_a_blind_nak_has_no_effect() -> None:
    """A75: an attacker who does not see the request does not know identifier and origin."""
    nak = Header(leap=3, mode=4, stratum=0, reference_id=b"NTSN")
    assert judge(nak.encode(), QUERY).kind == AnswerKind.MISMATCH
    assert judge(nak.encode() + raw_field(UNIQUE_IDENTIFIER, bytes(32)), QUERY).kind == AnswerKind.MISMATCH


def test_a_forged_deny_does_not_look_like_the_servers_word() -> None:
    """A75: with the identifier seen on the way; it is told apart from an authentic refusal."""
    deny = Header(leap=3, mode=4, stratum=0, reference_id=b"DENY", origin=QUERY.transmit).encode()
    judgement = judge(deny + raw_field(UNIQUE_IDENTIFIER, QUERY.unique_id), QUERY)
    assert judgement.kind == AnswerKind.KISS
    assert "unprotected" in judgement.reason


def test_a_kiss_code_cannot_write_to_the_terminal() -> None:
    deny = Header(leap=3, mode=4, stratum=0, reference_id=b"\x1b]0;", origin=QUERY.transmit).encode()
    assert judge(deny + raw_field(UNIQUE_IDENTIFIER, QUERY.unique_id), QUERY).reason.isprintable()


def test_a_crypto_nak_of_classic_ntp_is_ignored() -> None:
    """B06."""
    assert judge(GENUINE[:48] + bytes(4), QUERY).kind == AnswerKind.NOT_AUTHENTIC


# --- on the way to the server ----------------------------------------------------------------------------------------


def test_a_stolen_cookie_without_its_keys_gets_no_time() -> None:
    """A73: cookies travel in clear; Bob puts Alice's into his own request."""
    outcome = respond(replace(REQUEST, keys=BOB, cookies=(cookie_of(ALICE),)).encode())
    assert outcome.verdict == Verdict.NAK_AUTH


def test_swapping_the_cookies_of_two_clients_gets_no_time() -> None:
    """A57: each request stays sealed over the other cookie."""
    alices, bobs = (replace(REQUEST, keys=k).encode() for k in (ALICE, BOB))
    swapped = alices[:UID_END] + bobs[UID_END:-40] + alices[-40:]
    assert respond(alices).verdict == Verdict.ANSWERED_NTS
    assert respond(swapped).verdict == Verdict.NAK_AUTH


def test_another_cookie_of_the_same_client_does_not_fit_the_seal() -> None:
    """A57."""
    packet = QUERY.packet
    other = packet[:UID_END] + raw_field(COOKIE, cookie_of(ALICE, nonce=bytes(16))) + packet[-40:]
    assert respond(other).verdict == Verdict.NAK_AUTH


def test_a_cookie_relabelled_to_another_master_key_is_refused() -> None:
    """A90."""
    cookie = OLD_KEY.id.to_bytes(2, "big") + cookie_of(ALICE)[2:]
    assert respond(replace(REQUEST, keys=ALICE, cookies=(cookie,)).encode()).verdict == Verdict.NAK_COOKIE


def test_a_cookie_forged_with_a_guessed_master_key_is_refused() -> None:
    """A73: also with the identifier of a real key."""
    cookie = cookie_of(BOB, MasterKey(CURRENT_KEY.id, bytes(32)))
    assert respond(replace(REQUEST, keys=BOB, cookies=(cookie,)).encode()).verdict == Verdict.NAK_COOKIE


def test_a_cookie_of_a_retired_key_is_refused() -> None:
    """A83."""
    packet = replace(REQUEST, cookies=(cookie_of(REQUEST.keys, OLD_KEY),)).encode()
    assert respond(packet, ring=KeyRing((CURRENT_KEY,))).verdict == Verdict.NAK_COOKIE


def test_an_encrypted_cookie_cannot_stand_in_for_the_clear_one() -> None:
    """A62."""
    assert respond(replace(REQUEST, inside=raw_field(COOKIE, cookie_of(BOB))).encode()).reply is None


def test_placeholders_added_on_the_way_break_the_seal() -> None:
    """A57, A69."""
    packet = QUERY.packet[:-40] + raw_field(PLACEHOLDER, bytes(100)) + QUERY.packet[-40:]
    assert respond(packet).verdict == Verdict.NAK_AUTH


def test_placeholders_behind_the_authenticator_do_not_amplify() -> None:
    """A66, A71."""
    packet = QUERY.packet + raw_field(PLACEHOLDER, bytes(100)) * 8
    assert len(open_reply(answer(packet), ALICE).cookies) == 1


def test_short_placeholders_do_not_amplify() -> None:
    """A55, A71: eight that are too short to pay for a cookie."""
    packet = replace(REQUEST, placeholders=(bytes(12),) * 8).encode()
    assert len(answer(packet)) <= len(packet)


def test_a_short_nonce_does_not_amplify() -> None:
    """A61, A71: a nonce shorter than ours, without the padding that pays for it."""
    assert respond(replace(REQUEST, nonce=b"n").encode()).reply is None


def test_a_spoofed_request_makes_no_long_nak() -> None:
    """A71, A74: the victim gets fewer octets than the attacker sends."""
    packet = replace(REQUEST, key=bytes(32)).encode()
    assert len(answer(packet)) < len(packet)


@pytest.mark.parametrize(
    "reply", [GENUINE, answer(QUERY.packet[:48]), answer(replace(REQUEST, key=bytes(32)).encode())]
)
def test_two_servers_cannot_be_made_to_answer_each_other(reply: bytes) -> None:
    """B09: no reply of ours gets a reply, whatever its kind."""
    assert respond(reply).verdict == Verdict.DROP_MODE


def test_a_request_relabelled_as_ntpv3_gets_nothing() -> None:
    """B07."""
    header = replace(Header.decode(QUERY.packet), version=3)
    assert respond(header.encode() + QUERY.packet[48:]).verdict == Verdict.DROP_MAC


def test_control_and_private_modes_are_silent() -> None:
    """B10: the packets of the monlist amplifications."""
    assert respond(bytes.fromhex("1700032a") + bytes(44)).reply is None
    assert respond(bytes.fromhex("16010000") + bytes(44)).reply is None


def test_a_request_of_many_tiny_fields_is_bounded_by_its_length() -> None:
    """No more fields than fit in 2048 octets, encrypted ones too; and no recursion into them."""
    request = replace(REQUEST, inside=raw_field(0xF123) * 455)
    assert respond(request.encode()).verdict == Verdict.ANSWERED_NTS
    assert respond(replace(request, inside=raw_field(0xF123) * 456).encode()).verdict == Verdict.DROP_LENGTH


def test_two_requests_of_one_client_cannot_be_linked_by_their_octets() -> None:
    """A50, A63, A70, A81: the next request shares no four octets with the last but for the constant parts."""
    (cookie,) = open_reply(GENUINE, ALICE).cookies
    following = build_query(ALICE, cookie, 0, Counter("next")).packet

    def quadruples(packet: bytes) -> set[bytes]:
        variable = [packet[40:48], *(body[2:] for kind, body in fields_of(packet) if kind == COOKIE)]
        variable += [body for kind, body in fields_of(packet) if kind == UNIQUE_IDENTIFIER]
        variable += [body[4:] for kind, body in fields_of(packet) if kind == AUTHENTICATOR]
        return {part[i : i + 4] for part in variable for i in range(len(part) - 3)}

    assert quadruples(QUERY.packet).isdisjoint(quadruples(following))
    assert quadruples(GENUINE).isdisjoint(quadruples(following) - quadruples(QUERY.packet))


# --- the key exchange ------------------------------------------------------------------------------------------------

SERVER = KeServer(OFFERED)


def exchange(seed: str, octets: bytes = GOOD_REQUEST) -> bytes:
    """What the server answers in a session whose TLS keys come from `seed`."""
    return SERVER.answer(
        message_of(octets),
        local_address="192.0.2.1",
        ring=RING,
        export=exporter(seed),
        random=Counter(seed),
    ).response


def test_a_key_exchange_response_replayed_into_another_session_is_useless() -> None:
    """A39: its cookies carry the keys of the session that they were made for."""
    cookies = judge_response(message_of(exchange("alice")), OFFERED).cookies
    alices = build_query(session_keys(seed="alice"), cookies[0], 0, Counter())
    bobs = build_query(session_keys(seed="bob"), cookies[0], 0, Counter())
    assert judge(answer(alices.packet), alices).kind == AnswerKind.TIME
    assert respond(bobs.packet).verdict == Verdict.NAK_AUTH


def test_a_key_exchange_request_reflected_to_the_client_is_refused() -> None:
    """A29: it looks like an agreement without cookies."""
    with pytest.raises(KeResponseError, match="no cookies"):
        judge_response(message_of(build_request(OFFERED)), OFFERED)


def test_a_key_exchange_response_sent_to_a_server_is_refused() -> None:
    """A18."""
    message = message_of(exchange("alice"))
    outcome = SERVER.answer(message, local_address="192.0.2.1", ring=RING, export=exporter(), random=Counter())
    assert outcome.verdict == KeVerdict.BAD_REQUEST


def test_an_algorithm_that_was_not_offered_is_not_forced_upon_the_client() -> None:
    """A28: neither a weaker nor a stronger one."""
    response = exchange("alice").replace(record(4, b"\0\x0f"), record(4, b"\0\x11"))
    with pytest.raises(KeResponseError, match="not offered"):
        judge_response(message_of(response), OFFERED)


def test_a_cookie_for_one_algorithm_cannot_be_used_with_another() -> None:
    """A67: the algorithm is inside the cookie, not in the request."""
    keys = session_keys(Aead.AES_SIV_CMAC_512)
    packet = replace(REQUEST, keys=keys, cookies=(cookie_of(ALICE),)).encode()
    assert respond(packet).verdict == Verdict.NAK_AUTH


def test_a_smuggled_second_request_is_refused() -> None:
    """A06, A14."""
    assert split_records(exchange("alice", GOOD_REQUEST + GOOD_REQUEST)) == [(2, True, b"\0\1"), (0, True, b"")]


def test_an_endless_response_is_cut_off() -> None:
    """C18: bounded memory."""
    reader = MessageReader(1 << 17)
    with pytest.raises(FormatError, match="more than 131072"):  # noqa: PT012
        for _ in range(1000):
            reader.feed(record(5, bytes(1000), critical=False))
    assert reader.octets <= (1 << 17) + 1004


def test_another_protocol_on_the_port_is_refused_without_waiting_for_more() -> None:
    """A21: a web browser's request, read as a record, claims 21536 octets."""
    with pytest.raises(FormatError):
        MessageReader(MAX_REQUEST).feed(b"GET / HTTP/1.1\r\nHost: nts.example\r\n\r\n")


def test_a_server_name_cannot_write_to_the_terminal_or_change_the_look_up() -> None:
    """A31."""
    for name in (b"\x1b[2Jntp.example", b"ntp.example\nport = 1", b"ntp.example\0.evil.example", b"ntp.example/../x"):
        with pytest.raises(KeResponseError, match="neither an IP address nor a domain name") as caught:
            judge_response(message_of(exchange("alice")[:-4] + record(6, name) + END), OFFERED)
        assert str(caught.value).isprintable()


def test_a_huge_cookie_cannot_make_packets_that_are_fragmented() -> None:
    """A30, A64."""
    huge = record(5, bytes(60000), critical=False)
    agreement = judge_response(message_of(huge + exchange("alice")), OFFERED)
    assert {len(c) for c in agreement.cookies} == {100}
    reply_cookies = judge(sealed_cookies(bytes(5000), bytes(100)), QUERY).cookies
    assert [len(c) for c in reply_cookies] == [100]


def sealed_cookies(*cookies: bytes) -> bytes:
    """An authentic answer to QUERY with these cookies."""
    inside = b"".join(extensions.encode(COOKIE, c) for c in cookies)
    return GENUINE[:UID_END] + authenticator(ALICE.s2c, bytes(16), inside, GENUINE[:UID_END])
