# SPDX-License-Identifier: MIT
"""nts_check decode: what it calls wrong with NTP packets and NTS-KE messages."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from nts.base.registry import KISS_NTSN, FieldType
from nts.check.decode import decoder, rules_ke
from nts.check.decode.associations import Associations
from nts.check.decode.capture import Datagram, Endpoint
from nts.check.decode.cookie_keys import Opened, Opener, OurOpener
from nts.check.decode.decoder import Decoder, KeItem, NtpItem, Settings
from nts.check.decode.ntp_packet import Packet
from nts.codec.aead import Aead, SessionKeys
from nts.codec.ntp import Header
from testkit.packets import (
    COOKIE,
    PLACEHOLDER,
    REQUEST,
    RING,
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
    mutated,
    raw_field,
    requests,
    seal_reply,
    session_keys,
)
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

OURS = (OurOpener(RING),)
KEYS = REQUEST.keys
PACKET = REQUEST.encode()
REPLY = Header(mode=4, stratum=1, origin=TRANSMIT, receive=1, transmit=2)
FRESH = cookie_of(KEYS, nonce=bytes(range(30, 46)))


def decode(*packets: bytes, openers: tuple[Opener, ...] = OURS) -> list[NtpItem]:
    """NTP packets, one after the other."""
    made = Decoder(Settings(openers=openers))
    for packet in packets:
        made.message(packet, ntp=True)
    return [item for item in made.finish().items if isinstance(item, NtpItem)]


def wrong(item: NtpItem | KeItem) -> list[str]:
    return [str(p) for p in item.problems if p.wrong]


# --- NTP -------------------------------------------------------------------------------------------------------------


@bounded(200)
@given(requests())
def test_nothing_is_wrong_with_a_good_request_and_our_servers_answer(request: Request) -> None:
    packet = replace(request, after=b"").encode()
    asked, replied = decode(packet, answer(packet))
    cookie = request.cookies[0] if request.cookies else b""
    for item in (asked, replied):
        assert item.packet.plaintext is not None
        assert item.association is not None
        assert (item.association.keys.c2s, item.association.keys.s2c) == (request.keys.c2s, request.keys.s2c)
    assert asked.packet.plaintext == request.inside
    assert (
        [o.keys for o in replied.inside] == [asked.association.keys] * len(replied.inside) if asked.association else 0
    )
    assert wrong(replied) == []
    odd = {len(b) for b in [*request.placeholders, *(b for k, b in fields_of(request.inside, 0) if k == PLACEHOLDER)]}
    short = len(request.unique_ids[0]) < 32
    assert bool(wrong(asked)) == bool(odd - {len(cookie)} or short)


REQUESTS: dict[str, tuple[Request | bytes, str]] = {
    "no identifier": (replace(REQUEST, unique_ids=()), "no Unique Identifier (RFC 8915 5.7)"),
    "short identifier": (replace(REQUEST, unique_ids=(bytes(28),)), "a Unique Identifier of 28 octets"),
    "two identifiers": (replace(REQUEST, unique_ids=(UID, UID)), "2 fields Unique Identifier"),
    "no cookie": (replace(REQUEST, cookies=()), "no cookies, where a request has one"),
    "two cookies": (replace(REQUEST, cookies=(cookie_of(KEYS),) * 2), "2 cookies, where a request has one"),
    "two authenticators": (replace(REQUEST, authenticators=2), "2 fields NTS Authenticator"),
    "no authenticator": (replace(REQUEST, authenticators=0), "no authenticator"),
    "encrypted cookie": (replace(REQUEST, inside=raw_field(COOKIE, bytes(100))), "a cookie is encrypted"),
    "encrypted identifier": (replace(REQUEST, inside=raw_field(UNIQUE_IDENTIFIER, UID)), "Identifier is encrypted"),
    "malformed inside": (replace(REQUEST, inside=raw_field(7, b"", 8)), "its encrypted fields: "),
    "cookie behind": (replace(REQUEST, after=raw_field(COOKIE, bytes(100))), "Cookie after the authenticator"),
    "placeholder length": (REQUEST.with_placeholders(1, bytes(96)), "a placeholder of 96 octets, but the cookie"),
    "encrypted placeholder": (replace(REQUEST, inside=raw_field(PLACEHOLDER, bytes(8))), "a placeholder of 8 octets"),
    "placeholder contents": (REQUEST.with_placeholders(1, b"\1" * 100), "SHOULD: a placeholder that is not zero"),
    "placeholder count": (REQUEST.with_placeholders(8), "SHOULD: 8 placeholders"),
    "short nonce": (replace(REQUEST, nonce=bytes(8)), "a nonce of 8 octets with 0 of Additional Padding"),
    "wrong key": (replace(REQUEST, key=KEYS.s2c), "not authentic"),
    "flipped": (flipped(PACKET, 8 * 60), "not authentic"),
    "mode": (replace(REQUEST, mode=1), "NTS fields in a packet of mode 1"),
    "version 3": (replace(REQUEST, version=3), "extension fields in NTP version 3"),
    "odd": (PACKET + b"\0", "which is not a multiple of four"),
    "short": (PACKET[:47], "47 octets, although a header has 48"),
    "field length": (PACKET[:48] + raw_field(UNIQUE_IDENTIFIER, UID, 35) + bytes(28), "field of length 35 at"),
    "overrun": (PACKET[:-8], "octets expected at offset"),
    "short last field": (PACKET[:48] + raw_field(UNIQUE_IDENTIFIER, bytes(16)), "receivers take it for a MAC"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_wrong_with_a_request_is_said(name: str) -> None:
    request, text = REQUESTS[name]
    (item,) = decode(request if isinstance(request, bytes) else request.encode())
    assert text in "\n".join(wrong(item)), item.problems


def test_padding_that_is_not_of_zeros_is_wrong() -> None:
    good = replace(REQUEST, nonce=bytes(13)).encode()
    at = good.index(bytes(16), 188) + 15
    assert wrong(decode(good)[0]) == []
    bad = good[:at] + b"\1" + good[at + 1 :]
    assert "the padding in its authenticator" in "\n".join(wrong(decode(bad)[0]))


@pytest.mark.parametrize("nonce", [bytes(15), bytes(24), bytes(40)], ids=len)
def test_long_nonces_and_unknown_fields_anywhere_are_not_wrong(nonce: bytes) -> None:
    unknown = raw_field(UNKNOWN_FIELD, bytes(24))
    request = replace(REQUEST, nonce=nonce, before=unknown, inside=unknown, after=unknown, spare=8)
    (item,) = decode(request.encode())
    assert wrong(item) == []
    assert any("after the authenticator" in p.text for p in item.problems)


def reply(
    header: Header = REPLY, uid: bytes | None = UID, key: bytes = KEYS.s2c, cookies: Sequence[bytes] = (FRESH,),
    clear: bytes = b"", inside: bytes = b"",
) -> bytes:  # fmt: skip
    return seal_reply(header, uid, key, b"".join(raw_field(COOKIE, c) for c in cookies) + inside, clear=clear)


def nak(extra: bytes = b"", uid: bytes | None = UID) -> bytes:
    header = replace(REPLY, stratum=0, reference_id=KISS_NTSN)
    return header.encode() + (raw_field(UNIQUE_IDENTIFIER, uid) if uid else b"") + extra


REPLIES: dict[str, tuple[bytes, str]] = {
    "origin": (reply(replace(REPLY, origin=5)), "its origin timestamp is not"),
    "identifier": (reply(uid=bytes(32)), "a Unique Identifier that is not the request's"),
    "no identifier": (reply(uid=None), "no Unique Identifier"),
    "version": (reply(replace(REPLY, version=3)), "version 3 in reply to 4"),
    "longer": (reply(inside=raw_field(UNKNOWN_FIELD, bytes(60))), "CRIT: 292 octets in reply to 228"),
    "clear cookie": (reply(clear=raw_field(COOKIE, bytes(100))), "CRIT: a cookie in clear"),
    "placeholder": (reply(clear=raw_field(PLACEHOLDER, bytes(100))), "a placeholder in a reply"),
    "C2S key": (reply(key=KEYS.c2s), "not authentic"),
    "no cookie": (reply(cookies=()), "no fresh cookie"),
    "same twice": (reply(cookies=(FRESH, FRESH)), "the same cookie more than once"),
    "too many": (reply(cookies=(FRESH, cookie_of(KEYS, nonce=bytes(16)))), "2 cookies for a request that asks for 1"),
    "not fresh": (reply(cookies=(REQUEST.cookie,)), "the reply returns the request's cookie"),
    "other keys": (reply(cookies=(cookie_of(session_keys(seed="other")),)), "holds other keys than"),
    "plain": (REPLY.encode(), "CRIT: time without an authenticator"),
    "stripped": (REPLY.encode() + raw_field(UNIQUE_IDENTIFIER, UID), "CRIT: time without an authenticator"),
    "needless NAK": (nak(), "SHOULD: an NTS NAK, although the request is authentic"),
    "NAK with a cookie": (nak(raw_field(COOKIE, bytes(100))), "CRIT: a cookie in clear"),
    "NAK with an authenticator": (
        seal_reply(replace(REPLY, stratum=0, reference_id=KISS_NTSN), UID, KEYS.s2c), "an NTS NAK with an authenticator"
    ),
    "NAK without identifier": (nak(raw_field(UNKNOWN_FIELD, bytes(24)) * 2, None), "no Unique Identifier"),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLIES)
def test_what_is_wrong_with_a_reply_is_said(name: str) -> None:
    packet, text = REPLIES[name]
    asked, replied = decode(PACKET, packet)
    assert wrong(asked) == []
    assert replied.request is asked
    assert text in "\n".join(wrong(replied)), replied.problems


def test_fewer_cookies_than_asked_for_are_told() -> None:
    replied = decode(REQUEST.with_placeholders(2).encode(), reply())[1]
    assert wrong(replied) == ["SHOULD: 1 cookies for a request that asks for 3 (RFC 8915 5.7)"]


def test_a_nak_to_a_bad_request_is_right() -> None:
    bad = replace(REQUEST, key=KEYS.s2c).encode()
    replied = decode(bad, answer(bad))[1]
    assert wrong(replied) == []
    assert replied.packet.is_nak


def test_what_is_encrypted_is_scanned_once_and_anew_when_it_is_unlocked() -> None:
    request = replace(REQUEST, inside=raw_field(PLACEHOLDER, bytes(100))).encode()
    packet = Packet(request)
    assert packet.inner_of(FieldType.COOKIE_PLACEHOLDER) == []
    assert packet.unlock(KEYS)
    assert len(packet.inner_of(FieldType.COOKIE_PLACEHOLDER)) == 1
    assert packet.inner is packet.inner


def test_a_cookie_or_an_identifier_used_twice_is_told_and_a_copy_of_a_packet_is_not() -> None:
    again = replace(REQUEST, nonce=bytes(range(1, 17)))
    first, copy, other = decode(PACKET, PACKET, again.encode())
    assert wrong(first) == wrong(copy) == []
    assert wrong(other) == [
        "SHOULD: a cookie that was used before (RFC 8915 5.7)",
        "MUST: a Unique Identifier that was used before (RFC 8915 5.3)",
    ]


def test_a_cookie_given_twice_is_told() -> None:
    other = replace(REQUEST, unique_ids=(bytes(range(32)),), cookies=(cookie_of(KEYS, nonce=bytes(range(5, 21))),))
    replied = decode(PACKET, reply(), other.encode(), reply(uid=bytes(range(32))))[-1]
    assert wrong(replied) == ["MUST: a cookie that was given before: it is not fresh (RFC 8915 5.7)"]


def test_several_associations_are_kept_apart() -> None:
    made = [Request(keys=session_keys(a, seed=a), unique_ids=(Counter(a)(32),)) for a in Aead]
    packets = [p.encode() for p in made]
    items = decode(*packets, *(answer(p) for p in packets))
    assert [i.association.number for i in items if i.association] == [1, 2, 3, 4, 1, 2, 3, 4]
    assert all(i.packet.plaintext is not None and not wrong(i) for i in items)


def test_without_keys_the_structure_is_judged() -> None:
    asked, replied = decode(PACKET, reply(replace(REPLY, origin=5)), openers=())
    assert asked.association is replied.association is None
    assert wrong(asked) == []
    assert wrong(replied) == ["MUST: its origin timestamp is not the request's transmit timestamp (RFC 5905 8)"]


def test_aes_gcm_siv_is_decrypted_under_its_own_nonce_rule() -> None:
    c2s, s2c, nonce = bytes(range(16)), bytes(range(16, 32)), bytes(range(12))
    head = Header(mode=3, transmit=TRANSMIT).encode() + raw_field(UNIQUE_IDENTIFIER, UID) + raw_field(COOKIE, bytes(96))
    sealed = AESGCMSIV(c2s).encrypt(nonce, b"", head)
    packet = head + raw_field(0x0404, struct.pack(">HH", 12, 16) + nonce + sealed)

    class Known:
        def open(self, _cookie: bytes) -> Opened:
            return Opened("a test", "1", (SessionKeys(Aead(30), c2s, s2c),))

    (item,) = decode(packet, openers=(Known(),))
    assert item.packet.plaintext == b""
    assert wrong(item) == []


def test_a_reply_on_a_port_unknown_before_is_found_by_its_request_or_by_the_key_exchange() -> None:
    client, server = Endpoint("192.0.2.1", 5), Endpoint("192.0.2.2", 4123)
    made = Decoder(Settings(openers=OURS))
    made.add(Datagram(1, None, client, server, PACKET))
    made.add(Datagram(2, None, server, client, REPLY.encode()))
    made.add(Datagram(3, None, Endpoint("192.0.2.3", 53), client, REPLY.encode()))
    items = list(made.finish().items)
    assert [i.frame for i in items] == [1, 2]
    assert "time without an authenticator" in "\n".join(wrong(items[1]))


def told(item: NtpItem) -> list[str]:
    """What is said about a packet, except that its poll field reveals something."""
    return [p.text for p in item.problems if "reveals" not in p.text]


def packets_between(*payloads: bytes, missing: int = 0, openers: tuple[Opener, ...] = OURS) -> list[NtpItem]:
    """Requests and replies of one client, as frames of a capture."""
    client, server = Endpoint("192.0.2.1", 5), Endpoint("192.0.2.2", 123)
    made = Decoder(Settings(openers=openers))
    for i, octets in enumerate(payloads):
        ends = (client, server) if octets[0] & 7 == 3 else (server, client)
        made.add(Datagram(i + 1, None, *ends, octets[: len(octets) - missing], missing))
    return [item for item in made.finish().items if isinstance(item, NtpItem)]


def test_what_is_held_of_packets_is_bounded_and_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "HELD", 3)
    monkeypatch.setattr(decoder, "_IN_MEMORY", 1000)
    silent = [replace(REQUEST, unique_ids=(Counter(seed)(32),), cookies=(cookie_of(KEYS, nonce=bytes([seed] * 16)),))
              for seed in range(9)]  # fmt: skip
    sent = [r.encode() for r in silent]
    made = Decoder(Settings(openers=OURS))
    client, server = Endpoint("192.0.2.1", 5), Endpoint("192.0.2.2", 123)
    for i, octets in enumerate(sent):
        made.add(Datagram(i + 1, None, client, server, octets))
    made.add(Datagram(10, None, server, client, answer(sent[8])))
    items = [i for i in made.finish().items if isinstance(i, NtpItem)]
    assert [i.frame for i in items] == list(range(1, 11))
    assert items[9].request is items[8]
    assert told(items[0]) == ["no reply among the next 3 NTP packets"]
    assert told(items[7]) == ["no reply in the capture"]
    assert told(items[8]) == []
    assert (len(made._asked), [len(r) for r in made._recent.values()]) == (3, [3])


def test_what_is_captured_twice_is_a_copy_and_not_wrong() -> None:
    asked = PACKET
    replied = answer(asked)
    items = packets_between(asked, asked, replied, replied)
    assert [told(i) for i in items] == [[], ["a copy of frame 1"], [], ["a copy of frame 3"]]
    assert all(i.packet.plaintext is not None for i in items)
    association = items[0].association
    assert association is not None
    assert (association.requests, association.replies, association.cookies) == (1, 1, 1)


def test_what_was_answered_with_a_cookie_given_before_is_wrong_in_another_packet() -> None:
    first, second = replace(REQUEST, unique_ids=(bytes(32),)).encode(), replace(REQUEST, nonce=bytes(16)).encode()
    given = reply(cookies=(FRESH,), uid=bytes(32))
    again = reply(cookies=(FRESH,))
    items = packets_between(first, given, second, again)
    assert "a cookie that was given before" in "\n".join(wrong(items[3]))


@pytest.mark.parametrize("missing", [1, 4, 30, 60, 150])
def test_what_the_snap_length_cut_off_is_not_wrong(missing: int) -> None:
    items = packets_between(PACKET, answer(PACKET), missing=missing)
    assert [wrong(i) for i in items] == [[], []]
    assert all(f"{missing} octets of it are not in the capture" in [p.text for p in i.problems] for i in items)


def test_trials_are_bounded() -> None:
    associations = Associations({}, (), _trials=3)
    for seed in range(5):
        keys = session_keys(seed=seed)
        associations.make("a test", [keys])
    (item,) = decode(PACKET, openers=())
    assert associations.by_trial(item.packet) is None
    assert list(associations.notes())


@bounded(300)
@given(mutated(requests().map(Request.encode)), mutated(requests().map(lambda r: answer(r.encode()))))
def test_no_packet_raises_and_all_that_is_said_is_printable(request: bytes, replied: bytes) -> None:
    for item in decode(request, replied, request):
        assert all(str(p).isprintable() for p in item.problems)


# --- NTS-KE -----------------------------------------------------------------------------------------------------------

COOKIES = b"".join(record(5, bytes([i]) * 100, critical=False) for i in range(8))
GOOD_RESPONSE = NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES + END

KE_REQUESTS = {
    "no protocol": (AEAD_15 + END, "no NTS Next Protocol"),
    "no algorithm": (NEXT_PROTOCOL_NTPV4 + END, "no AEAD Algorithm"),
    "two protocols": (NEXT_PROTOCOL_NTPV4 * 2 + AEAD_15 + END, "2 NTS Next Protocol Negotiation records"),
    "two algorithms": (NEXT_PROTOCOL_NTPV4 + AEAD_15 * 2 + END, "2 AEAD Algorithm Negotiation records"),
    "empty protocol": (record(1) + AEAD_15 + END, "an empty NTS Next Protocol"),
    "empty algorithm": (NEXT_PROTOCOL_NTPV4 + record(4) + END, "an empty AEAD Algorithm"),
    "odd": (record(1, b"\0\0\0") + AEAD_15 + END, "of odd length 3"),
    "not critical": (record(1, b"\0\0", critical=False) + AEAD_15 + END, "record is not critical"),
    "EOM not critical": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, critical=False), "End of Message record is not"),
    "EOM body": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, b"x"), "End of Message record has a body"),
    "trailing": (GOOD_REQUEST + b"xyz", "3 octets after the End of Message"),
    "no EOM": (NEXT_PROTOCOL_NTPV4 + AEAD_15, "no End of Message record"),
    "cut off": (NEXT_PROTOCOL_NTPV4 + AEAD_15[:3], "its last record ends after 3 octets"),
    "critical port": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(7, b"\0\x7b") + END, "SHOULD: the NTPv4 Port"),
    "server name": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(6, b"a b") + END, "neither an IP address"),
}  # fmt: skip

KE_RESPONSES = {
    "not offered": (NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x11") + COOKIES + END, "AEAD algorithm 17, which the request"),
    "protocol not offered": (record(1, b"\0\0\0\1") + AEAD_15 + COOKIES + END, "next protocol 1, which the request"),
    "two chosen": (NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x0f\0\x0f") + COOKIES + END, "2 AEAD algorithms"),
    "no algorithm": (NEXT_PROTOCOL_NTPV4 + COOKIES + END, "no AEAD Algorithm"),
    "no protocol": (AEAD_15 + COOKIES + END, "no NTS Next Protocol"),
    "no cookies": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + END, "no cookies"),
    "seven": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES[104:] + END, "SHOULD: 7 cookies instead of 8"),
    "same cookies": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES[:104] * 8 + END, "the same cookie more than once"),
    "no agreement": (record(1) + COOKIES + END, "8 cookies without an agreement"),
    "critical cookie": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES[104:] + record(5, b"x") + END, "that is critical"),
    "empty cookie": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES[104:] + record(5) + END, "an empty cookie"),
    "port 0": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(7, b"\0\0") + COOKIES + END, "UDP port 0"),
    "error form": (record(2, b"\0") + END, "with a body of 1 octet"),
    "soft error": (record(2, b"\0\1", critical=False) + END, "the Error record is not critical"),
    "no EOM": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES, "no End of Message"),
}  # fmt: skip


def ke(*messages: bytes) -> list[KeItem]:
    made = Decoder(Settings())
    for octets in messages:
        made.message(octets, ntp=False)
    return [item for item in made.finish().items if isinstance(item, KeItem)]


@pytest.mark.parametrize("name", KE_REQUESTS)
def test_what_is_wrong_with_a_ke_request_is_said(name: str) -> None:
    octets, text = KE_REQUESTS[name]
    assert text in "\n".join(wrong(ke(octets)[0]))


@pytest.mark.parametrize("name", KE_RESPONSES)
def test_what_is_wrong_with_a_ke_response_is_said(name: str) -> None:
    octets, text = KE_RESPONSES[name]
    asked, replied = ke(GOOD_REQUEST, octets)
    assert (asked.problems, replied.request) == ([], None)
    assert text in "\n".join(wrong(replied))


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (GOOD_RESPONSE, ""),
        (record(2, b"\0\1") + END, "the server refuses: Error 1 (Bad Request)"),
        (record(3, b"\0\1") + END, "the server refuses: Warning 1"),
        (record(1) + END, "speaks none of the offered protocols"),
        (NEXT_PROTOCOL_NTPV4 + record(4) + END, "speaks none of the offered AEAD"),
        (
            record(0x3FFF, b"x", critical=False) + GOOD_RESPONSE,
            "an unknown record of type 16383, which a receiver ignores",
        ),
        (record(0x3FFF, b"x") + GOOD_RESPONSE, "an unknown record of type 16383, critical"),
    ],
    ids=["good", "error", "warning", "no protocol", "no algorithm", "unknown", "unknown critical"],
)
def test_what_is_not_wrong_with_a_ke_response_is_said_as_such(octets: bytes, text: str) -> None:
    replied = ke(GOOD_REQUEST, octets)[1]
    assert wrong(replied) == []
    assert text in "\n".join(map(str, replied.problems))


@pytest.mark.parametrize("kind", [2, 3, 5])
def test_records_that_clients_must_not_send_are_wrong(kind: int) -> None:
    parsed = rules_ke.parse(NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(kind, b"\0\0") + END)
    assert any("which clients must not send" in p.text for p in rules_ke.message_problems(parsed, response=False))


@bounded(300)
@given(st.binary(max_size=200) | mutated(st.sampled_from([GOOD_REQUEST, GOOD_RESPONSE])))
def test_no_message_raises_and_all_that_is_said_is_printable(octets: bytes) -> None:
    for item in ke(octets, octets):
        assert all(str(p).isprintable() for p in item.problems)
