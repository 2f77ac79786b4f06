# SPDX-License-Identifier: MIT
"""Builds NTP requests, valid ones and ones broken in every way that a check needs. Pure: keys and random octets are
arguments.

A request is a header followed by parts. Octets go out as they are; a `Seal` becomes an authenticator over everything
before it. So the parts say what comes where, how often, and under which key:

    forge.request("an unknown field after", forge.uid(), forge.cookie(), forge.seal(), forge.unknown())

The suite's own client code cannot build a broken request, on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from nts.base.errors import FormatError
from nts.base.registry import MIN_UNIQUE_ID, FieldType, Mode
from nts.base.wire import pad4, u16
from nts.check.model import Span
from nts.codec import extensions
from nts.codec.aead import Cipher, SessionKeys
from nts.codec.extensions import FIELD_HEADER, Field
from nts.codec.ntp import HEADER_LENGTH, VERSION, Header

UNKNOWN_FIELD = 0xF5C5  # from the range for experiments (RFC 9748): no server can know it
TAG = 16  # octets, of all algorithms
UNKNOWN_LENGTH = 28  # octets: long enough for the last field of a packet (RFC 7822 section 7.5.1.4)


@dataclass(frozen=True)
class Ticket:
    """What a key exchange leaves us with. Servers keep no state, so it is enough for any number of requests."""

    keys: SessionKeys
    cookie: bytes = field(repr=False)


@dataclass(frozen=True)
class Seal:
    """An authenticator field still to be made, over all octets before it (RFC 8915 section 5.6)."""

    cipher: Cipher = field(repr=False)
    nonce: bytes
    inside: bytes = b""
    """fields to encrypt"""
    padding: int = 0
    """octets of Additional Padding"""
    nonce_length: int | None = None
    """the length it claims; None: the true one. The same goes for the next two."""
    ciphertext_length: int | None = None
    length: int | None = None
    """of the whole field"""

    def over(self, associated: bytes) -> bytes:
        """Make the field, given all octets before it."""
        ciphertext = self.cipher.seal(self.nonce, self.inside, associated)
        lengths = _claimed(self.nonce_length, self.nonce) + _claimed(self.ciphertext_length, ciphertext)
        body = lengths + pad4(self.nonce) + pad4(ciphertext) + bytes(self.padding)
        return raw_field(FieldType.AUTHENTICATOR, body, self.length)


Part = bytes | Seal


def _claimed(length: int | None, octets: bytes) -> bytes:
    return u16(len(octets) if length is None else length)


def raw_field(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    """One extension field exactly as told: no padding, and any length claimed."""
    return u16(kind) + u16(FIELD_HEADER + len(body) if length is None else length) + body


@dataclass(frozen=True)
class Request:
    """A packet to send, and what is needed to judge the reply."""

    label: str
    """what is special about it, in words"""
    packet: bytes = field(repr=False)
    keys: SessionKeys | None = None
    """the keys in its cookie; None: not an NTS request"""
    changed: Span | None = None
    """what was changed after it was sealed"""

    @property
    def transmit(self) -> int:
        """The transmit timestamp, which a reply returns as its origin; 0 when there is none."""
        return int.from_bytes(self.packet[HEADER_LENGTH - 8 : HEADER_LENGTH], "big")

    @property
    def version(self) -> int:
        return self.packet[0] >> 3 & 7 if self.packet else 0

    @cached_property
    def _walked(self) -> tuple[Field, ...] | None:
        try:
            return None if len(self.packet) % 4 else tuple(extensions.walk(self.packet)[0])
        except FormatError:
            return None

    @property
    def is_well_formed(self) -> bool:
        """Whether it is a header and extension fields, and perhaps a MAC (RFC 5905 section 7.3, RFC 7822)."""
        return self._walked is not None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The extension fields; none when they are malformed."""
        return self._walked or ()

    def bodies(self, kind: FieldType) -> tuple[bytes, ...]:
        """The bodies of the fields of this type in clear."""
        return tuple(f.body for f in self.fields if f.type == kind)

    @property
    def unique_id(self) -> bytes | None:
        """The Unique Identifier that the reply must echo; None unless there is exactly one."""
        found = self.bodies(FieldType.UNIQUE_IDENTIFIER)
        return found[0] if len(found) == 1 else None

    @cached_property
    def oddities(self) -> list[Span]:
        """Where it differs from a usual request: fields that are more, other or longer, and changed octets."""
        seal = 4 + len(pad4(bytes(self.keys.aead.nonce_length))) + TAG if self.keys else None
        usual: dict[int, int | None] = {
            FieldType.UNIQUE_IDENTIFIER: MIN_UNIQUE_ID, FieldType.COOKIE: None, FieldType.AUTHENTICATOR: seal,
        }  # fmt: skip
        found, seen = [self.changed] if self.changed else [], set[int]()
        if self.packet and (self.packet[0] & 7, self.version) != (Mode.CLIENT, VERSION):
            found.append((0, 1))
        fields, rest, _problem = extensions.scan(self.packet)
        for f in fields:
            ended = FieldType.AUTHENTICATOR in seen
            if f.type not in usual or f.type in seen or ended or usual[f.type] not in (None, len(f.body)):
                found.append((f.offset, f.end))
            seen.add(f.type)
        return [*found, (len(self.packet) - rest, len(self.packet))] if rest else found

    def offset(self, kind: FieldType) -> int:
        """Where the first field of this type begins. There must be one."""
        return next(f.offset for f in self.fields if f.type == kind)

    def flipped(self, octet: int, bit: int, where: str = "") -> Request:
        """This request with one bit inverted after sealing. A negative octet counts from the end."""
        octet %= len(self.packet)
        changed = bytes([self.packet[octet] ^ 1 << bit])
        label = f"bit {bit} of octet {octet} flipped{where and f' ({where})'}"
        packet = self.packet[:octet] + changed + self.packet[octet + 1 :]
        return replace(self, label=label, packet=packet, changed=(octet, octet + 1))

    def cut(self, length: int) -> Request:
        """The first octets of this request."""
        return replace(self, label=f"cut to {length} octets", packet=self.packet[:length])


class Forge:
    """Builds requests with a ticket. `draw(n)` returns n random octets, new ones for each request."""

    def __init__(self, ticket: Ticket, draw: Callable[[int], bytes]) -> None:
        self.ticket, self.draw = ticket, draw

    # --- whole requests ----------------------------------------------------------------------------------------------

    def request(self, label: str, *parts: Part, header: Header | None = None) -> Request:
        """A request with these parts, in this order."""
        packet = (header or self.header()).encode()
        for part in parts:
            packet += part.over(packet) if isinstance(part, Seal) else part
        return Request(label, packet, self.ticket.keys)

    def usual(
        self, label: str = "a usual request", *, header: Header | None = None, extra: Sequence[bytes] = (),
        seal: Seal | None = None,
    ) -> Request:  # fmt: skip
        """What every client sends: an identifier, a cookie, `extra`, an authenticator (`seal`, or a good one)."""
        return self.request(label, self.uid(), self.cookie(), *extra, seal or self.seal(), header=header)

    def with_placeholders(self, count: int) -> Request:
        """A usual request that asks for `count` more cookies (section 5.5)."""
        return self.usual(
            f"{count} placeholders" if count != 1 else "a placeholder", extra=[self.placeholder()] * count
        )

    def plain(self, label: str, *parts: bytes, version: int = VERSION) -> Request:
        """A request without NTS."""
        return replace(self.request(label, *parts, header=self.header(version=version)), keys=None)

    # --- their parts -------------------------------------------------------------------------------------------------

    def header(self, version: int = VERSION, mode: int = Mode.CLIENT) -> Header:
        """All zero except version, mode and a random transmit timestamp (section 9.1).

        Origin and receive timestamps of zero keep a server with interleaved mode (RFC 9769) in basic mode.
        """
        return Header(version=version, mode=mode, transmit=int.from_bytes(self.draw(8), "big") or 1)

    def uid(self, length: int = MIN_UNIQUE_ID) -> bytes:
        """A Unique Identifier field."""
        return raw_field(FieldType.UNIQUE_IDENTIFIER, self.draw(length))

    def cookie(self, body: bytes | None = None) -> bytes:
        """The ticket's cookie as a field, or `body` in its place."""
        return raw_field(FieldType.COOKIE, pad4(self.ticket.cookie if body is None else body))

    def random_cookie(self) -> bytes:
        """A cookie field with random octets, as long as the ticket's cookie."""
        return self.cookie(self.draw(len(self.ticket.cookie)))

    def placeholder(self, change: int = 0, fill: int = 0) -> bytes:
        """A cookie placeholder, `change` octets longer than the cookie, filled with one octet."""
        return raw_field(FieldType.COOKIE_PLACEHOLDER, bytes([fill]) * (len(pad4(self.ticket.cookie)) + change))

    def unknown(self) -> bytes:
        """A field of a type that no server knows."""
        return raw_field(UNKNOWN_FIELD, self.draw(UNKNOWN_LENGTH - FIELD_HEADER))

    def seal(self, inside: bytes = b"", *, nonce: int | None = None, padding: int = 0) -> Seal:
        """An authenticator under the C2S key with a nonce of `nonce` octets. `replace` its fields to break it."""
        keys = self.ticket.keys
        return Seal(keys.c2s_cipher, self.draw(keys.aead.nonce_length if nonce is None else nonce), inside, padding)
