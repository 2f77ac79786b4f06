# SPDX-License-Identifier: MIT
"""One NTP packet: its fields, and with the right keys, those in its authenticator."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from nts.base.errors import AuthError, FormatError
from nts.base.registry import KISS_NTSN, NTS_FIELDS, FieldType, Mode, Stratum
from nts.codec import extensions
from nts.codec.aead import SessionKeys
from nts.codec.extensions import Authenticator, Field
from nts.codec.ntp import HEADER_LENGTH, Header

_MAX_PACKET = 1 << 13  # octets; a longer one on an unknown port is not NTP


@dataclass
class Packet:
    """An NTP packet. Anything in it may be wrong."""

    octets: bytes = field(repr=False)
    plaintext: bytes | None = field(default=None, repr=False)
    """the plaintext of its authenticator, once `unlock` has succeeded"""
    fields: list[Field] = field(init=False, repr=False)
    """the fields in clear, up to the first malformed one"""
    rest: int = field(init=False)
    """how many octets follow the last field"""
    malformed: str = field(init=False)
    """what is wrong with the form of its fields; empty: nothing"""

    def __post_init__(self) -> None:
        self.fields, self.rest, self.malformed = extensions.scan(self.octets)

    @cached_property
    def header(self) -> Header | None:
        """Its header; None if the packet is too short."""
        try:
            return Header.decode(self.octets)
        except FormatError:
            return None

    def of(self, kind: FieldType) -> list[Field]:
        """The fields of this type in clear."""
        return [f for f in self.fields if f.type == kind]

    @property
    def has_nts(self) -> bool:
        """Whether it has any NTS field."""
        return any(f.type in NTS_FIELDS for f in self.fields)

    @property
    def is_request(self) -> bool:
        """Whether a client sent it."""
        return self.header is not None and self.header.mode == Mode.CLIENT

    @property
    def is_reply(self) -> bool:
        """Whether a server sent it."""
        return self.header is not None and self.header.mode == Mode.SERVER

    @property
    def is_nak(self) -> bool:
        """Whether it is an NTS NAK (RFC 8915 section 5.7)."""
        h = self.header
        return h is not None and self.is_reply and (h.stratum, h.reference_id) == (Stratum.KISS, KISS_NTSN)

    @cached_property
    def unique_id(self) -> bytes | None:
        """The body of its first Unique Identifier."""
        found = self.of(FieldType.UNIQUE_IDENTIFIER)
        return found[0].body if found else None

    @cached_property
    def cookie(self) -> bytes | None:
        """The body of its first cookie in clear."""
        found = self.of(FieldType.COOKIE)
        return found[0].body if found else None

    @cached_property
    def authenticator(self) -> tuple[Field, Authenticator | None, str] | None:
        """Its first authenticator, with its parts, or with what is wrong with it."""
        found = self.of(FieldType.AUTHENTICATOR)
        if not found:
            return None
        try:
            return found[0], extensions.decode_authenticator(found[0].body), ""
        except FormatError as e:
            return found[0], None, str(e)

    def unlock(self, keys: SessionKeys) -> bool:
        """Decrypt it with the key for its direction, C2S for requests and S2C for replies; whether it is authentic."""
        if self.authenticator is None or self.authenticator[1] is None:
            return False
        at, parts, _ = self.authenticator
        assert parts is not None
        cipher = keys.s2c_cipher if self.is_reply else keys.c2s_cipher
        try:
            plaintext = cipher.open(parts.nonce, parts.ciphertext, self.octets[: at.offset])
        except AuthError:
            return False
        self.plaintext = plaintext
        self.__dict__.pop("inner", None)  # computed without the plaintext
        return True

    @cached_property
    def inner(self) -> tuple[list[Field], str]:
        """The decrypted fields, and what is wrong with their form."""
        fields, _rest, problem = extensions.scan(self.plaintext or b"", encrypted=True)
        return fields, problem

    def inner_of(self, kind: FieldType) -> list[Field]:
        """The decrypted fields of this type."""
        return [f for f in self.inner[0] if f.type == kind]


def may_be_ntp(octets: bytes) -> bool:
    """Whether this datagram on an unknown port can be an NTP packet of a client or a server."""
    if not HEADER_LENGTH <= len(octets) <= _MAX_PACKET:
        return False
    return octets[0] >> 3 & 7 in (3, 4) and octets[0] & 7 in (Mode.CLIENT, Mode.SERVER)


def looks_like_nts(octets: bytes) -> bool:
    """Whether this datagram on any port can hardly be anything but NTP with NTS fields."""
    if not may_be_ntp(octets) or len(octets) % 4:
        return False
    first = int.from_bytes(octets[HEADER_LENGTH : HEADER_LENGTH + 2], "big")
    return first in NTS_FIELDS and bool(Packet(octets).fields)
