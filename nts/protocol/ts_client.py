# SPDX-License-Identifier: MIT
"""The time client as pure functions: build an NTS request, judge the datagrams that come back, compute the offset.

See RFC 8915 section 5.7 and RFC 5905 section 8. The caller ignores what cannot be trusted and goes on waiting: nothing
that an attacker on the path sends may end a query early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from nts.base.errors import AuthError, FormatError
from nts.base.registry import (
    COOKIES_WANTED,
    KISS_NTSN,
    MAX_COOKIE,
    MAX_PLACEHOLDERS,
    MIN_UNIQUE_ID,
    FieldType,
    Leap,
    Mode,
    Stratum,
)
from nts.codec import extensions, ntp
from nts.codec.aead import SessionKeys
from nts.codec.ntp import Header

_MAX_DISTANCE_NS = 16 * ntp.NS  # RFC 5905 appendix A: MAXDIST of a valid packet
_PRECISION_NS = 1000  # generous for reading our own clock


class AnswerKind(Enum):
    """What a received datagram means for an outstanding query."""

    TIME = auto()
    """an authentic answer with usable time"""
    UNUSABLE = auto()
    """an authentic answer without usable time"""
    NAK = auto()
    """an NTS NAK, which cannot be authentic; a genuine answer may still come (section 5.7)"""
    KISS = auto()
    """another unprotected kiss-o'-death with our Unique Identifier"""
    NOT_AUTHENTIC = auto()
    """ignored: unprotected, malformed or not sealed with the S2C key"""
    MISMATCH = auto()
    """ignored: not an answer to this query"""


@dataclass(frozen=True)
class Query:
    """An outstanding request."""

    packet: bytes = field(repr=False)
    unique_id: bytes
    transmit: int
    """the random transmit timestamp, which the answer must return as its origin timestamp"""
    keys: SessionKeys


@dataclass(frozen=True)
class Judgement:
    """What kind of answer a datagram is, the reason, and the contents of an authentic one."""

    kind: AnswerKind
    reason: str = ""
    header: Header | None = None
    cookies: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Measurement:
    """One sample (RFC 5905 section 8), in nanoseconds."""

    offset: int
    """how far the server's clock is ahead of ours"""
    delay: int
    """round trip less the server's own time"""
    error: int
    """upper bound of the offset's error: the root distance"""


def count_placeholders(cookies_left: int, cookie_length: int) -> int:
    """How many cookie placeholders to send, so that the answer refills the stock to eight (section 5.7).

    `cookies_left` does not count the cookie of this request. There are fewer placeholders when the packet, or an answer
    of its length, would exceed 1280 octets.
    """
    wanted = min(COOKIES_WANTED - 1 - cookies_left, MAX_PLACEHOLDERS)
    placeholder = len(extensions.encode(FieldType.COOKIE_PLACEHOLDER, bytes(cookie_length)))
    room = MAX_COOKIE + extensions.FIELD_HEADER - placeholder  # without the cookie field, which is as long
    return max(0, min(wanted, room // placeholder))


def build_query(keys: SessionKeys, cookie: bytes, placeholders: int, random: Callable[[int], bytes]) -> Query:
    """An NTS-protected request. `random(n)` returns n cryptographically random octets.

    In the header, all but version, mode and a random transmit timestamp is zero (section 9.1). FormatError when the
    cookie does not fit in a packet.
    """
    if len(cookie) > MAX_COOKIE:
        raise FormatError(f"a cookie of {len(cookie)} octets does not fit in an NTP packet")
    transmit, unique_id = int.from_bytes(random(8), "big"), random(MIN_UNIQUE_ID)
    packet = Header(mode=Mode.CLIENT, transmit=transmit).encode()
    packet += extensions.encode(FieldType.UNIQUE_IDENTIFIER, unique_id)
    packet += extensions.encode(FieldType.COOKIE, cookie)
    packet += placeholders * extensions.encode(FieldType.COOKIE_PLACEHOLDER, bytes(len(cookie)))
    nonce = random(keys.aead.nonce_length)
    tag = keys.c2s_cipher.seal(nonce, b"", packet)
    packet += extensions.encode(FieldType.AUTHENTICATOR, extensions.encode_authenticator(nonce, tag))
    return Query(packet, unique_id, transmit, keys)


def judge(datagram: bytes, query: Query) -> Judgement:
    """Judge a received datagram. Never raises."""
    try:
        header = Header.decode(datagram)
        fields, _mac = extensions.walk(datagram)  # there is no key to verify a MAC with: ignored
    except FormatError as e:
        return Judgement(AnswerKind.NOT_AUTHENTIC, f"malformed: {e}")
    if (header.mode, header.version) != (Mode.SERVER, ntp.VERSION):
        return Judgement(AnswerKind.MISMATCH, f"version {header.version}, mode {header.mode}")
    if header.origin != query.transmit:
        return Judgement(AnswerKind.MISMATCH, "its origin timestamp is not the one we sent")
    unique_ids = [f for f in fields if f.type == FieldType.UNIQUE_IDENTIFIER]
    authenticators = [f for f in fields if f.type == FieldType.AUTHENTICATOR]
    if not unique_ids and not authenticators:
        return Judgement(AnswerKind.NOT_AUTHENTIC, "an answer without NTS")
    if [f.body for f in unique_ids] != [query.unique_id]:
        return Judgement(AnswerKind.MISMATCH, "its Unique Identifier is not the one we sent")
    if not authenticators:
        return _judge_unprotected(header)
    if len(authenticators) > 1 or unique_ids[0].offset > authenticators[0].offset:
        return Judgement(AnswerKind.NOT_AUTHENTIC, "several authenticators, or one that does not cover the identifier")
    return _judge_protected(datagram, header, authenticators[0], query.keys)


def _judge_unprotected(header: Header) -> Judgement:
    """Section 5.7: drop unprotected answers, except a kiss-o'-death with our Unique Identifier."""
    if header.stratum != Stratum.KISS:
        return Judgement(AnswerKind.NOT_AUTHENTIC, "an answer without NTS protection")
    if header.reference_id == KISS_NTSN:
        return Judgement(AnswerKind.NAK, "NTS NAK", header)
    return Judgement(AnswerKind.KISS, f"unprotected kiss-o'-death {kiss_code(header)}", header)


def _judge_protected(datagram: bytes, header: Header, authenticator: extensions.Field, keys: SessionKeys) -> Judgement:
    """Authenticate with the S2C key before using anything in the packet (section 5.7)."""
    try:
        parts = extensions.decode_authenticator(authenticator.body)
        plaintext = keys.s2c_cipher.open(parts.nonce, parts.ciphertext, datagram[: authenticator.offset])
        inner = extensions.walk_encrypted(plaintext)
    except (AuthError, FormatError) as e:
        return Judgement(AnswerKind.NOT_AUTHENTIC, str(e))
    # Only encrypted cookies are stored, and only those that fit into a request.
    cookies = tuple(f.body for f in inner if f.type == FieldType.COOKIE and 0 < len(f.body) <= MAX_COOKIE)
    problem = _problem(header)
    return Judgement(AnswerKind.UNUSABLE if problem else AnswerKind.TIME, problem, header, cookies)


def _problem(header: Header) -> str:
    """Why an authentic answer has no usable time (RFC 5905 sections 7.4 and 9.2); empty when it has."""
    if header.stratum == Stratum.KISS:
        return f"kiss-o'-death {kiss_code(header)}"
    if header.leap == Leap.UNSYNCHRONISED or header.stratum > Stratum.MAX_SYNCHRONISED:
        return "the server's clock is not synchronised"
    if not header.receive or not header.transmit:
        return "the server's timestamps are zero"
    if ntp.short_to_ns(header.root_delay) // 2 + ntp.short_to_ns(header.root_dispersion) >= _MAX_DISTANCE_NS:
        return "the server's root distance is 16 seconds or more"
    return ""


def kiss_code(header: Header) -> str:
    """The kiss code as text that is safe on a terminal (RFC 5905 section 7.4)."""
    return "".join(chr(o) if 32 < o < 127 else "?" for o in header.reference_id)


def measure(header: Header, sent: int, received: int) -> Measurement | None:
    """Offset, delay and error bound of an answer (RFC 5905 section 8).

    `sent` and `received` are readings of our clock in nanoseconds since 1970. None when the delay is less than what the
    precisions of both clocks can explain: then a timestamp is wrong, and the error would be no bound.
    """
    arrived = ntp.unix_ns(header.receive, received)
    left = ntp.unix_ns(header.transmit, received)
    offset = ((arrived - sent) + (left - received)) // 2
    delay = (received - sent) - (left - arrived)
    root = ntp.short_to_ns(header.root_delay) // 2 + ntp.short_to_ns(header.root_dispersion)
    precision = int(2.0 ** min(header.precision, 6) * ntp.NS) + _PRECISION_NS
    if delay < -precision:
        return None
    return Measurement(offset, delay, root + max(delay, 0) // 2 + precision)


def restock(stock: tuple[bytes, ...], fresh: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Add fresh cookies to the stock, oldest first, and keep the newest eight."""
    return (stock + fresh)[-COOKIES_WANTED:]
