# SPDX-License-Identifier: MIT
"""The time server as one pure function, `respond`: a datagram in, a verdict and perhaps a reply out.

This function defines what the time server does with a packet. The daemon only moves datagrams, and the native engine
must agree with it. The order saves work and keeps the transmit timestamp accurate: cheap checks first, then open the
cookie, verify the authenticator, mint cookies and draw the nonce, read the clock, seal (RFC 8915 section 5.7).

Where RFC 8915 leaves a choice, the rules are:

- No reply is longer than its request.
- A request with any NTS field must be a complete NTS request. Otherwise it is dropped.
- A request with a Unique Identifier of under 32 octets, or with two of them, is dropped.
- A NAK echoes a Unique Identifier, so there is none for a request without one.
- A reply has at most eight cookies.
- A packet with a MAC is dropped, since there are no symmetric keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum, auto

from nts.base.errors import AuthError, FormatError, LibraryError
from nts.base.registry import KISS_NTSN, KISS_RATE, MAX_PLACEHOLDERS, MIN_UNIQUE_ID, FieldType, Leap, Mode, Stratum
from nts.codec import cookies, extensions
from nts.codec.aead import SessionKeys
from nts.codec.cookies import Contents
from nts.codec.extensions import Authenticator, Field
from nts.codec.keyring import ForeignKey, KeyRing, MasterKey
from nts.codec.ntp import HEADER_LENGTH, Header

VERSIONS = (3, 4)
KISS_POLL = 6  # log2 of 64 s: the shortest interval that RFC 5905 section 7.3 suggests
MAX_REQUEST = 2048  # octets of UDP payload; a request with a 1000-octet identifier and 8 of everything is shorter
NTS_FIELDS = (FieldType.COOKIE, FieldType.COOKIE_PLACEHOLDER, FieldType.AUTHENTICATOR)


class Verdict(IntEnum):
    """The outcome of one datagram. Each has a counter."""

    ANSWERED_PLAIN = 0
    ANSWERED_NTS = auto()
    NAK_COOKIE = auto()
    """NTS NAK: none of our master keys opens the cookie"""
    NAK_AUTH = auto()
    """NTS NAK: the cookie is good, the authenticator is not"""
    KISS_RATE = auto()
    """above the limit of requests (`rate_limit`), so the reply is a kiss-o'-death"""
    DROP_DESTINATION = auto()
    """only in the daemon: sent to a broadcast or multicast address, which many hosts would answer"""
    DROP_LENGTH = auto()
    """shorter than a header, longer than MAX_REQUEST, or not a multiple of four octets"""
    DROP_VERSION = auto()
    DROP_MODE = auto()
    DROP_MAC = auto()
    """a tail that is, or may be, a message authentication code"""
    DROP_FIELDS = auto()
    """malformed extension fields"""
    DROP_UNIQUE_ID = auto()
    """an NTS request without a Unique Identifier, or any request with a short one or several"""
    DROP_INCOMPLETE = auto()
    """an NTS request without exactly one cookie, followed by exactly one authenticator"""
    DROP_PADDING = auto()
    """a nonce and Additional Padding that are too short together (section 5.6)"""
    DROP_ENCRYPTED = auto()
    """authentic, but with malformed or forbidden encrypted fields"""
    DROP_RATE = auto()
    """above the limit of requests"""
    DROP_BUSY = auto()
    """only in the native engine: its queue of packets for the reference was full"""


Limiter = Callable[[Verdict], Verdict]


def unlimited(verdict: Verdict) -> Verdict:
    """Do not limit requests."""
    return verdict


@dataclass(frozen=True)
class Outcome:
    """What has become of a datagram."""

    verdict: Verdict
    reply: bytes | None = None
    """octets, if there is one"""
    key_age: int | None = None
    """of an authenticated request: how many master keys are newer than the one that sealed its cookie"""


@dataclass(frozen=True)
class SystemVariables:
    """What every reply says about the server's clock (RFC 5905 section 7.3)."""

    leap: int = Leap.NONE
    stratum: int = 1
    precision: int = -20
    """log2 seconds"""
    root_delay: int = 0
    """2**-16 s"""
    root_dispersion: int = 0
    """2**-16 s"""
    reference_id: bytes = b"LOCL"
    reference_time: int = 0
    """NTP timestamp"""


@dataclass(frozen=True)
class _NtsRequest:
    """An NTS request with valid cleartext fields."""

    unique_id: Field
    cookie: Field
    placeholders: int
    authenticator: Authenticator
    associated: bytes


class _Drop(Exception):
    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def respond(
    datagram: bytes,
    *,
    keys: KeyRing,
    system: SystemVariables,
    received: int,
    now: Callable[[], int],
    random: Callable[[int], bytes],
    limit: Limiter = unlimited,
) -> Outcome:
    """Process a datagram. Never raises.

    `received` is the NTP timestamp of its arrival. `now()` reads the clock as an NTP timestamp, once for each reply.
    `random(n)` returns n octets fit for nonces. `limit(verdict)` is called once for each datagram that is to get a
    reply, and returns the verdict, KISS_RATE or DROP_RATE.
    """
    try:
        header, fields = _parse(datagram)
        unique_id = _unique_id(fields)
        reply = _reply_header(header, system, received)
        if any(f.type in NTS_FIELDS for f in fields):
            return _respond_nts(_nts_request(datagram, unique_id, fields), keys, reply, now, random, limit)
        verdict, reply = _limited(Verdict.ANSWERED_PLAIN, reply, limit)
    except _Drop as e:
        return Outcome(e.verdict)
    # Section 5.3: echo the identifier without NTS too. Other fields are unknown and are ignored.
    echo = _echo(unique_id) if unique_id else b""
    return Outcome(verdict, replace(reply, transmit=now()).encode() + echo)


def _parse(datagram: bytes) -> tuple[Header, list[Field]]:
    """Header and extension fields of a client request (RFC 5905 section 7.3, RFC 7822)."""
    if not HEADER_LENGTH <= len(datagram) <= MAX_REQUEST or len(datagram) % 4:
        raise _Drop(Verdict.DROP_LENGTH)
    header = Header.decode(datagram)
    if header.version not in VERSIONS:
        raise _Drop(Verdict.DROP_VERSION)
    if header.mode != Mode.CLIENT:  # answering another mode could start a loop between servers
        raise _Drop(Verdict.DROP_MODE)
    if header.version == 3:  # no extension fields before NTPv4: any tail is a MAC
        if len(datagram) > HEADER_LENGTH:
            raise _Drop(Verdict.DROP_MAC)
        return header, []
    try:
        fields, mac = extensions.walk(datagram)
    except FormatError:
        raise _Drop(Verdict.DROP_FIELDS) from None
    if mac:
        raise _Drop(Verdict.DROP_MAC)
    return header, fields


def _unique_id(fields: list[Field]) -> Field | None:
    """The Unique Identifier of a request (section 5.3); None when there is none."""
    found = [f for f in fields if f.type == FieldType.UNIQUE_IDENTIFIER]
    if len(found) > 1 or any(len(f.body) < MIN_UNIQUE_ID for f in found):
        raise _Drop(Verdict.DROP_UNIQUE_ID)
    return found[0] if found else None


def _nts_request(datagram: bytes, unique_id: Field | None, fields: list[Field]) -> _NtsRequest:
    """The NTS fields of a request, checked for the number and order that section 5.7 requires."""
    authenticators = [f for f in fields if f.type == FieldType.AUTHENTICATOR]
    cookie_fields = [f for f in fields if f.type == FieldType.COOKIE]
    if len(authenticators) != 1 or len(cookie_fields) != 1:
        raise _Drop(Verdict.DROP_INCOMPLETE)
    end = authenticators[0].offset  # later fields are not authenticated
    cookie = cookie_fields[0]
    if unique_id is None or unique_id.offset > end:
        raise _Drop(Verdict.DROP_UNIQUE_ID)
    if cookie.offset > end:
        raise _Drop(Verdict.DROP_INCOMPLETE)
    try:
        authenticator = extensions.decode_authenticator(authenticators[0].body)
    except FormatError:
        raise _Drop(Verdict.DROP_FIELDS) from None
    placeholders = _count_placeholders([f for f in fields if f.offset < end], cookie)
    return _NtsRequest(unique_id, cookie, placeholders, authenticator, datagram[:end])


def _count_placeholders(fields: list[Field], cookie: Field) -> int:
    """Section 5.5: only placeholders of the cookie's length count. Their contents do not matter."""
    return sum(f.type == FieldType.COOKIE_PLACEHOLDER and len(f.body) == len(cookie.body) for f in fields)


def _respond_nts(
    request: _NtsRequest,
    ring: KeyRing,
    reply: Header,
    now: Callable[[], int],
    random: Callable[[int], bytes],
    limit: Limiter,
) -> Outcome:
    """Open the cookie, authenticate, and answer with time or with a NAK (section 5.7)."""
    try:
        contents, _, key_age = cookies.opened(ring, request.cookie.body)
    except AuthError:
        return _nak(Verdict.NAK_COOKIE, request, reply, now, limit)
    aead = contents[0].aead
    if request.authenticator.nonce_room < aead.nonce_length:  # section 5.6: room for the response's nonce
        raise _Drop(Verdict.DROP_PADDING)
    try:
        keys, plaintext = _authenticate(request, contents)
    except AuthError:
        return _nak(Verdict.NAK_AUTH, request, reply, now, limit)
    placeholders = request.placeholders + _encrypted_placeholders(plaintext, request.cookie)
    verdict, reply = _limited(Verdict.ANSWERED_NTS, reply, limit)
    master, nonce_length = cookies.renewal(ring, request.cookie.body, contents)
    minted = _mint(master, contents, 1 + min(placeholders, MAX_PLACEHOLDERS), lambda: random(nonce_length))
    nonce = random(aead.nonce_length)
    head = replace(reply, transmit=now()).encode() + _echo(request.unique_id)
    body = extensions.encode_authenticator(nonce, keys.s2c_cipher.seal(nonce, minted, head))
    return Outcome(verdict, head + extensions.encode(FieldType.AUTHENTICATOR, body), key_age)


def _authenticate(request: _NtsRequest, contents: Contents) -> tuple[SessionKeys, bytes]:
    """Find the key pair that the client used. Returns it and the plaintext. AuthError when none fits."""
    nonce, ciphertext = request.authenticator.nonce, request.authenticator.ciphertext
    for keys in contents:
        try:
            return keys, keys.c2s_cipher.open(nonce, ciphertext, request.associated)
        except (AuthError, LibraryError):  # LibraryError: this OpenSSL lacks the algorithm
            continue
    raise AuthError("none of the keys in the cookie fits")


def _encrypted_placeholders(plaintext: bytes, cookie: Field) -> int:
    """Count the valid placeholders among the encrypted fields. Other NTS fields are forbidden there (section 5.7)."""
    try:
        fields = extensions.walk_encrypted(plaintext)
    except FormatError:
        raise _Drop(Verdict.DROP_ENCRYPTED) from None
    forbidden = (FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE, FieldType.AUTHENTICATOR)
    if any(f.type in forbidden for f in fields):
        raise _Drop(Verdict.DROP_ENCRYPTED)
    return _count_placeholders(fields, cookie)


def _mint(master: MasterKey | ForeignKey, contents: Contents, count: int, nonce: Callable[[], bytes]) -> bytes:
    """`count` fresh cookies as extension fields."""
    return b"".join(extensions.encode(FieldType.COOKIE, cookies.seal(master, contents, nonce())) for _ in range(count))


def _nak(verdict: Verdict, request: _NtsRequest, reply: Header, now: Callable[[], int], limit: Limiter) -> Outcome:
    """An NTS NAK: a kiss-o'-death with the Unique Identifier and no other field (section 5.7)."""
    verdict, reply = _limited(verdict, reply, limit)
    header = replace(_kiss(reply, KISS_NTSN), transmit=now())
    return Outcome(verdict, header.encode() + _echo(request.unique_id))


def _limited(verdict: Verdict, reply: Header, limit: Limiter) -> tuple[Verdict, Header]:
    """Verdict and reply under the limit of requests. A kiss says that one request in 64 s is a good pace."""
    verdict = limit(verdict)
    if verdict is Verdict.DROP_RATE:
        raise _Drop(verdict)
    if verdict is Verdict.KISS_RATE:
        reply = replace(_kiss(reply, KISS_RATE), poll=max(reply.poll, KISS_POLL))
    return verdict, reply


def _kiss(reply: Header, code: bytes) -> Header:
    """A reply's header as that of a kiss-o'-death (RFC 5905 section 7.4)."""
    return replace(reply, leap=Leap.UNSYNCHRONISED, stratum=Stratum.KISS, reference_id=code)


def _reply_header(request: Header, system: SystemVariables, received: int) -> Header:
    """The header of every reply, except for the transmit timestamp (RFC 5905 section 9.2)."""
    return Header(
        leap=system.leap,
        version=request.version,
        mode=Mode.SERVER,
        stratum=system.stratum,
        poll=request.poll,
        precision=system.precision,
        root_delay=system.root_delay,
        root_dispersion=system.root_dispersion,
        reference_id=system.reference_id,
        reference_time=system.reference_time,
        origin=request.transmit,
        receive=received,
    )


def _echo(unique_id: Field) -> bytes:
    """The client's Unique Identifier, unchanged (section 5.3)."""
    return extensions.encode(FieldType.UNIQUE_IDENTIFIER, unique_id.body)
