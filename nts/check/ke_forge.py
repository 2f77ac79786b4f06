# SPDX-License-Identifier: MIT
"""NTS-KE requests, good ones and such as no client would send, put together from octets. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nts.base.registry import Protocol, RecordType
from nts.codec import records
from nts.codec.aead import Aead
from nts.codec.records import Record

# Types that no registry assigns: plain ones, and such as look known to a parser that drops some of their bits.
UNKNOWN_TYPE = 0x3FFF
UNKNOWN_TYPES = (UNKNOWN_TYPE, 0x0801, 0x4001)
UNKNOWN_PROTOCOL = 0x7777
UNKNOWN_AEAD = 0xFFF0
MIN_REQUEST = 1024  # octets that every server takes (RFC 8915 section 4)


def record(kind: int, body: bytes = b"", *, critical: bool = True) -> bytes:
    """One record."""
    return Record(kind, critical, body).encode()


def protocols(*numbers: int, critical: bool = True) -> bytes:
    """An NTS Next Protocol Negotiation record."""
    return record(RecordType.NEXT_PROTOCOL, records.encode_u16s(*numbers), critical=critical)


def aeads(*numbers: int) -> bytes:
    """An AEAD Algorithm Negotiation record."""
    return record(RecordType.AEAD_ALGORITHM, records.encode_u16s(*numbers))


NTPV4 = protocols(Protocol.NTPV4)
AEAD_15 = aeads(Aead.AES_SIV_CMAC_256)
END = record(RecordType.END_OF_MESSAGE)
REQUEST = NTPV4 + AEAD_15 + END


def request(*parts: bytes, offer: Iterable[int] = (Aead.AES_SIV_CMAC_256,)) -> bytes:
    """A request for NTPv4 with these algorithms, and more records in front of its end."""
    return b"".join((NTPV4, aeads(*offer), *parts, END))


def padded(length: int) -> bytes:
    """A good request of exactly so many octets: an unknown record that is not critical fills it up."""
    filler = length - len(REQUEST) - records.HEADER_LENGTH
    return request(record(UNKNOWN_TYPE, bytes(filler), critical=False))
