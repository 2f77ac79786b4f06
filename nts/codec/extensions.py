# SPDX-License-Identifier: MIT
"""NTP extension fields (RFC 7822) and the NTS Authenticator field (RFC 8915 section 5.6).

A field is: type (16 bits), length of the whole field with header and padding (16 bits), body. `walk` returns the
fields with their offsets, since the associated data of an authenticator is the part of the packet before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nts.base.errors import FormatError
from nts.base.wire import Reader, pad4, u16
from nts.codec.ntp import HEADER_LENGTH

FIELD_HEADER = 4
MIN_FIELD = 16  # RFC 7822 section 7.5; encrypted fields may be shorter
MAX_MAC = 24  # RFC 7822 section 7.5.1.4: a tail of up to this length is a MAC, not a field


@dataclass(frozen=True)
class Field:
    """One extension field of a received packet. The body may be a cookie, so repr() omits it."""

    type: int
    body: bytes = field(repr=False)
    """with its padding: the wire format does not separate the two"""
    offset: int
    """octets from the start of the packet or plaintext to the field's header"""

    @property
    def end(self) -> int:
        """The offset of the octet after the field."""
        return self.offset + FIELD_HEADER + len(self.body)


@dataclass(frozen=True)
class Authenticator:
    """The body of an NTS Authenticator and Encrypted Extension Fields field (RFC 8915 section 5.6)."""

    nonce: bytes
    ciphertext: bytes
    """encrypted fields and tag"""
    padding: int
    """octets of Additional Padding"""

    @property
    def nonce_room(self) -> int:
        """Octets that the response can use for its nonce: at least N_REQ in a valid request."""
        return len(pad4(self.nonce)) + self.padding


def encode(kind: int, body: bytes) -> bytes:
    """One field. The body is zero-padded to a multiple of four octets and to the minimum length."""
    body = pad4(body).ljust(MIN_FIELD - FIELD_HEADER, b"\0")
    return u16(kind) + u16(FIELD_HEADER + len(body)) + body


def walk(packet: bytes) -> tuple[list[Field], int]:
    """The extension fields of an NTPv4 packet, and the length of the MAC at its end (0: none).

    FormatError when RFC 7822 section 7.5 forbids a field. By that section, a tail of up to 24 octets is a MAC: the
    last field of a packet without a MAC has at least 28 octets.
    """
    reader = Reader(packet)
    reader.take(HEADER_LENGTH)
    fields = list(_fields(reader, MIN_FIELD, MAX_MAC))
    return fields, reader.remaining


def walk_encrypted(plaintext: bytes) -> list[Field]:
    """The decrypted fields, which may be as short as their header (RFC 8915 section 5.6)."""
    return list(_fields(Reader(plaintext), FIELD_HEADER, 0))


def scan(octets: bytes, *, encrypted: bool = False) -> tuple[list[Field], int, str]:
    """The fields before the first malformed one, the number of octets left, and the problem ("": none).

    `walk`, or `walk_encrypted`, for dumps of malformed packets.
    """
    start, minimum, tail = (0, FIELD_HEADER, 0) if encrypted else (HEADER_LENGTH, MIN_FIELD, MAX_MAC)
    reader, fields, problem = Reader(octets), [], ""
    try:
        reader.take(start)
        for f in _fields(reader, minimum, tail):
            fields.append(f)
    except FormatError as e:
        problem = str(e)
    end = fields[-1].end if fields else start
    return fields, max(len(octets) - end, 0), problem


def _fields(reader: Reader, minimum: int, tail: int) -> Iterator[Field]:
    while reader.remaining > tail:
        yield _read_field(reader, minimum)


def _read_field(reader: Reader, minimum: int) -> Field:
    offset, kind, length = reader.position, reader.u16(), reader.u16()
    if length % 4 or length < minimum:
        raise FormatError(f"an extension field of length {length} at offset {offset}")
    return Field(kind, reader.take(length - FIELD_HEADER), offset)


def encode_authenticator(nonce: bytes, ciphertext: bytes) -> bytes:
    """The body of an authenticator field. Our nonces are long enough to need no Additional Padding."""
    return u16(len(nonce)) + u16(len(ciphertext)) + pad4(nonce) + pad4(ciphertext)


def decode_authenticator(body: bytes) -> Authenticator:
    """Parse the body of an authenticator field. FormatError when its lengths exceed the body."""
    reader = Reader(body)
    nonce_length, ciphertext_length = reader.u16(), reader.u16()
    nonce = reader.take(nonce_length)
    reader.take(-nonce_length % 4)
    ciphertext = reader.take(ciphertext_length)
    reader.take(-ciphertext_length % 4)
    if not nonce:
        raise FormatError("an authenticator with an empty nonce")  # no algorithm here has an N_MIN of 0
    return Authenticator(nonce, ciphertext, reader.remaining)
