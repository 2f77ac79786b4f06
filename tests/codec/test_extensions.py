# SPDX-License-Identifier: MIT
"""NTP extension fields and the authenticator field: framing, minimums, padding (RFC 7822, RFC 8915 section 5.6)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.codec import extensions
from nts.codec.extensions import Authenticator, Field
from testkit.packets import REQUEST, bounded, raw_field

HEADER = bytes(48)
LAST = raw_field(0xF123, bytes(24))  # a field that may stand last: 28 octets
PACKET = REQUEST.with_placeholders(1).encode()
FIELD_ENDS = {48, 84, 188, 292, 332}


def test_a_field_on_the_wire_is_type_length_and_body() -> None:
    assert extensions.encode(0x0104, bytes(range(16))) == bytes.fromhex("0104 0014") + bytes(range(16))


@given(st.integers(0, 0xFFFF), st.binary(max_size=80))
@bounded(100)
def test_encoded_fields_are_padded_to_words_and_to_sixteen_octets(kind: int, body: bytes) -> None:
    """B01, B02."""
    octets = extensions.encode(kind, body)
    assert len(octets) == max(16, 4 + len(body) + -len(body) % 4)
    (field,) = extensions.walk_encrypted(octets)
    assert (field.type, field.offset) == (kind, 0)
    assert field.body == body + bytes(len(field.body) - len(body))


@given(
    st.lists(st.builds(lambda k, n: (k, bytes([n]) * 4 * n), st.integers(0, 0xFFFF), st.integers(6, 20)), max_size=6)
)
@bounded(100)
def test_walk_finds_all_fields_where_they_lie(fields: list[tuple[int, bytes]]) -> None:
    packet, expected = HEADER, []
    for kind, body in fields:
        expected.append(Field(kind, body, len(packet)))
        packet += raw_field(kind, body)
    assert extensions.walk(packet) == (expected, 0)


@pytest.mark.parametrize("length", [0, 2, 3, 4, 12, 35, 37, 40, 0xFFFC, 0xFFFF])
def test_a_length_that_is_short_odd_or_too_long_is_refused(length: int) -> None:
    """B01, B02: the field has 36 octets, whatever it says."""
    with pytest.raises(FormatError):
        extensions.walk(HEADER + raw_field(0x0104, bytes(32), length))


@pytest.mark.parametrize("size", range(0, 28, 4))
def test_a_tail_of_up_to_24_octets_is_a_mac(size: int) -> None:
    """B04, B06: even one that looks like a field."""
    tail = raw_field(0x0104, bytes(size))[:size] if size else b""
    fields, mac = extensions.walk(HEADER + LAST + tail)
    assert ([f.type for f in fields], mac) == ([0xF123], size)


def test_a_tail_of_28_octets_is_a_field() -> None:
    """B02: the shortest that may stand last."""
    fields, mac = extensions.walk(HEADER + LAST)
    assert ([len(f.body) for f in fields], mac) == ([24], 0)


def test_sixteen_octets_are_enough_for_a_field_that_is_not_last() -> None:
    fields, mac = extensions.walk(HEADER + raw_field(1, bytes(12)) + LAST)
    assert ([len(f.body) for f in fields], mac) == ([12, 24], 0)


@pytest.mark.parametrize("size", range(len(PACKET)))
def test_every_truncation_gives_whole_fields_and_a_short_tail_or_format_error(size: int) -> None:
    """B01, check 51."""
    try:
        fields, mac = extensions.walk(PACKET[:size])
    except FormatError:
        assert size < 48 or size not in FIELD_ENDS
        return
    end = 48 + sum(4 + len(f.body) for f in fields)
    assert end in FIELD_ENDS
    assert mac == size - end <= extensions.MAX_MAC
    assert all(PACKET[f.offset + 4 : f.offset + 4 + len(f.body)] == f.body for f in fields)


@given(st.binary(max_size=200))
@bounded(200)
def test_walks_of_arbitrary_octets_raise_only_format_error(data: bytes) -> None:
    for walk in (extensions.walk_encrypted, lambda d: extensions.walk(HEADER + d)[0]):
        try:
            fields = walk(data)
        except FormatError:
            continue
        assert all(a.offset + 4 + len(a.body) == b.offset for a, b in pairwise(fields))


@pytest.mark.parametrize("body", [b"", bytes(4), bytes(12)])
def test_encrypted_fields_have_no_minimum_but_their_header(body: bytes) -> None:
    """B03, A59."""
    assert extensions.walk_encrypted(raw_field(7, body) * 2) == [Field(7, body, 0), Field(7, body, 4 + len(body))]


def test_an_empty_plaintext_holds_no_field() -> None:
    """A59: the usual request."""
    assert extensions.walk_encrypted(b"") == []


@pytest.mark.parametrize(
    "plaintext",
    [b"\0", bytes(3), raw_field(7) + b"\0\0\0\0", raw_field(7, bytes(4), 3), raw_field(7, b"", 8), raw_field(7, b"x")],
)
def test_malformed_encrypted_fields_are_refused(plaintext: bytes) -> None:
    with pytest.raises(FormatError):
        extensions.walk_encrypted(plaintext)


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=60), st.integers(0, 40))
@bounded(150)
def test_authenticators_round_trip_with_nonces_and_ciphertexts_of_any_length(
    nonce: bytes, ciphertext: bytes, spare: int
) -> None:
    """A56: both lengths without padding, both parts zero-padded to four octets, then Additional Padding."""
    body = extensions.encode_authenticator(nonce, ciphertext)
    assert len(body) % 4 == 0
    assert extensions.decode_authenticator(body + bytes(spare)) == Authenticator(nonce, ciphertext, spare)


def test_an_authenticator_on_the_wire() -> None:
    """A56."""
    body = extensions.encode_authenticator(b"nonce", b"ciphertext")
    assert body == b"\0\x05\0\x0a" + b"nonce\0\0\0" + b"ciphertext\0\0"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0\x10\0", b"\0\x10\0\x10" + bytes(31), b"\0\x24\0\x10" + bytes(32), b"\0\x10\0\x14" + bytes(32),
        b"\xff\xff\xff\xff" + bytes(32), b"\0\x0f\0\x11" + bytes(33),
    ],
)  # fmt: skip
def test_authenticator_lengths_that_overrun_the_field_are_refused(body: bytes) -> None:
    """A56, check 51."""
    with pytest.raises(FormatError):
        extensions.decode_authenticator(body)


def test_an_empty_nonce_is_refused() -> None:
    """RFC 5297 section 6: N_MIN is 1."""
    with pytest.raises(FormatError, match="empty nonce"):
        extensions.decode_authenticator(extensions.encode_authenticator(b"", bytes(16)) + bytes(16))


@pytest.mark.parametrize(
    ("nonce", "padding", "room"),
    [
        (16, 0, 16), (13, 0, 16), (32, 0, 32), (12, 0, 12), (12, 3, 15), (12, 4, 16), (8, 0, 8), (8, 7, 15), (8, 8, 16),
        (8, 64, 72), (1, 11, 15), (1, 12, 16),
    ],
)  # fmt: skip
def test_the_padded_nonce_and_additional_padding_are_room_for_the_nonce_of_the_response(
    nonce: int, padding: int, room: int
) -> None:
    """A60, A61."""
    assert Authenticator(bytes(nonce), bytes(16), padding).nonce_room == room


def test_repr_of_a_field_shows_no_body() -> None:
    assert "secret" not in repr(Field(0x0204, b"secret", 48))
