# SPDX-License-Identifier: MIT
"""Builds NTS-KE requests from octets, valid ones and ones that no client would send. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nts.base.errors import FormatError
from nts.base.registry import ALPN, Protocol, RecordType
from nts.base.wire import Reader
from nts.check.model import Span
from nts.codec import records
from nts.codec.aead import Aead
from nts.codec.records import Record

# Types that no registry assigns. A parser that drops bits of a type takes the last two for types it knows.
UNKNOWN_TYPE = 0x3FFF
UNKNOWN_TYPES = (UNKNOWN_TYPE, 0x0801, 0x4001)
UNKNOWN_PROTOCOL = 0x7777
UNKNOWN_AEAD = 0xFFF0
MIN_REQUEST = 1024  # octets that every server must accept (RFC 8915 section 4)
TLS_1_2 = 0x0303  # RFC 8446 section 4.2.1
H2 = b"h2"
_CRITICAL, _TYPE = 0x8000, 0x7FFF
_USUAL_BODIES = {
    _CRITICAL | RecordType.NEXT_PROTOCOL: 2, _CRITICAL | RecordType.AEAD_ALGORITHM: 2,
    _CRITICAL | RecordType.END_OF_MESSAGE: 0,
}  # fmt: skip
"""octets, by critical bit and type"""


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
    """A request for NTPv4 with these algorithms, then `parts`, then End of Message."""
    return b"".join((NTPV4, aeads(*offer), *parts, END))


def padded(length: int) -> bytes:
    """A valid request of exactly this length: an unknown record that is not critical fills it up."""
    filler = length - len(REQUEST) - records.HEADER_LENGTH
    return request(record(UNKNOWN_TYPE, bytes(filler), critical=False))


def oddities(octets: bytes) -> list[Span]:
    """Where a request differs from a usual one: records that are more, other, longer or of another criticality."""
    reader, found, seen = Reader(octets), list[Span](), set[int]()
    while reader.remaining:
        start, ended = reader.position, RecordType.END_OF_MESSAGE in seen
        try:
            kind = reader.u16()
            body = reader.take(reader.u16())
        except FormatError:  # it is cut short
            return [*found, (start, len(octets))]
        usual = kind in _USUAL_BODIES and len(body) == _USUAL_BODIES[kind]
        if not usual or kind & _TYPE in seen or ended:
            found.append((start, reader.position))
        seen.add(kind & _TYPE)
    return found


@dataclass(frozen=True)
class Stimulus:
    """What to do with one connection."""

    what: str = "a request"
    octets: bytes = REQUEST
    """application data to send"""
    record_size: int = 0
    """octets in a TLS record; 0: all in one"""
    halt: int = 0
    """pause after this many octets; 0: no pause"""
    close: bool = False
    """send close_notify after the octets"""
    again: bytes = b""
    """send this once the answer is complete"""
    wait: float | None = None
    """seconds to wait for the answer; None: the target's time-out"""
    patient: bool = False
    """wait for the server to close for all of `wait`; otherwise only for a moment"""
    alpn: tuple[bytes, ...] = (ALPN,)
    newest: int | None = None
    """offer this TLS version and older ones; None: TLS 1.3 alone"""

    @property
    def all_octets(self) -> bytes:
        """What goes out, `again` included."""
        return self.octets + self.again

    @property
    def usual(self) -> bool:
        """Whether every server must accept its TLS handshake."""
        return self.alpn == (ALPN,) and self.newest is None

    @property
    def offer(self) -> str:
        """What the TLS handshake offers, in words."""
        names = ", ".join(p.decode("ascii", "replace") for p in self.alpn) or "none"
        return f"TLS {'1.3' if self.newest is None else '1.2 and older'}, ALPN {names}"


USUAL = Stimulus()
