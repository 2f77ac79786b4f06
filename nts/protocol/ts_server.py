# SPDX-License-Identifier: MIT
"""The time server as one pure function, `respond`: a datagram in, a verdict and perhaps a reply out.

This is the whole truth of what the suite's time server does with a packet; the daemon only carries datagrams.
The order serves accuracy and economy: cheap checks first, then the cookie, then the authenticator, then everything
random is drawn and cookies are minted, then the clock is read, then the reply is sealed (RFC 8915 section 5.7).

Rules decided here, where RFC 8915 leaves a choice: nothing is ever sent that is longer than its request; a request
with any NTS field must be a complete NTS request or gets nothing; a Unique Identifier of under 32 octets, or two of
them, gets nothing; no NAK without a Unique Identifier to echo; at most eight cookies; a packet with a MAC gets
nothing, since no symmetric keys exist here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum, auto

from nts.base.errors import AuthError, FormatError, LibraryError
from nts.base.registry import (
    KISS_NTSN,
    MAX_PLACEHOLDERS,
    MIN_UNIQUE_ID,
    FieldType,
    Leap,
    Mode,
    Stratum,
)
from nts.codec import cookies, extensions
from nts.codec.aead import SessionKeys
from nts.codec.cookies import Contents
from nts.codec.extensions import Authenticator, Field
from nts.codec.keyring import KeyRing, MasterKey
from nts.codec.ntp import HEADER_LENGTH, Header

VERSIONS = (3, 4)
MAX_REQUEST = 2048  # octets of UDP payload; a request with a 1000-octet identifier and 8 of everything is shorter
NTS_FIELDS = (FieldType.COOKIE, FieldType.COOKIE_PLACEHOLDER, FieldType.AUTHENTICATOR)


class Verdict(IntEnum):
    """What became of one datagram; each has a counter."""

    ANSWERED_PLAIN = 0
    ANSWERED_NTS = auto()
    NAK_COOKIE = auto()
    """NTS NAK: the cookie was not made with any of our keys"""
    NAK_AUTH = auto()
    """NTS NAK: the cookie is good, the authenticator is not"""
    DROP_LENGTH = auto()
    """shorter than a header, longer than MAX_REQUEST, or not a multiple of four octets"""
    DROP_VERSION = auto()
    DROP_MODE = auto()
    DROP_MAC = auto()
    """a message authentication code, or something of its length, at the end"""
    DROP_FIELDS = auto()
    """malformed extension fields"""
    DROP_UNIQUE_ID = auto()
    """an NTS request without a Unique Identifier, or any request with a short one or with two"""
    DROP_INCOMPLETE = auto()
    """not exactly one cookie and one authenticator after it"""
    DROP_PADDING = auto()
    """a nonce shorter than required without Additional Padding (section 5.6)"""
    DROP_ENCRYPTED = auto()
    """authentic, but malformed or forbidden fields inside the ciphertext"""
    DROP_BUSY = auto()
    """only from the native engine: the queue of packets for this reference was full"""


@dataclass(frozen=True)
class Outcome:
    """A verdict, and the octets to send back (None: nothing)."""

    verdict: Verdict
    reply: bytes | None = None


@dataclass(frozen=True)
class SystemVariables:
    """What the server says of its own clock in every reply (RFC 5905 section 7.3)."""

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
    """An NTS request whose outer form is in order."""

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
) -> Outcome:
    """What the server does with a datagram.

    `received` is the NTP timestamp of its arrival, `now()` reads the clock as an NTP timestamp and is called once
    for each reply, `random(n)` returns n octets fit for nonces. Never raises, whatever the datagram is.
    """
    try:
        header, fields = _parse(datagram)
        unique_id = _unique_id(fields)
        reply = _reply_header(header, system, received)
        if any(f.type in NTS_FIELDS for f in fields):
            return _respond_nts(_nts_request(datagram, unique_id, fields), keys, reply, now, random)
    except _Drop as e:
        return Outcome(e.verdict)
    # Section 5.3: the identifier is echoed without NTS too. Other fields are unknown and go unanswered.
    echo = _echo(unique_id) if unique_id else b""
    return Outcome(Verdict.ANSWERED_PLAIN, replace(reply, transmit=now()).encode() + echo)


def _parse(datagram: bytes) -> tuple[Header, list[Field]]:
    """Header and extension fields of a client request (RFC 5905 section 7.3, RFC 7822)."""
    if not HEADER_LENGTH <= len(datagram) <= MAX_REQUEST or len(datagram) % 4:
        raise _Drop(Verdict.DROP_LENGTH)
    header = Header.decode(datagram)
    if header.version not in VERSIONS:
        raise _Drop(Verdict.DROP_VERSION)
    if header.mode != Mode.CLIENT:  # answering any other mode could start a loop between servers
        raise _Drop(Verdict.DROP_MODE)
    if header.version == 3:  # no extension fields before NTPv4: all that follows is a MAC
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
    """The Unique Identifier of a request (section 5.3), which may have none."""
    found = [f for f in fields if f.type == FieldType.UNIQUE_IDENTIFIER]
    if len(found) > 1 or any(len(f.body) < MIN_UNIQUE_ID for f in found):
        raise _Drop(Verdict.DROP_UNIQUE_ID)
    return found[0] if found else None


def _nts_request(datagram: bytes, unique_id: Field | None, fields: list[Field]) -> _NtsRequest:
    """The NTS fields of a request, in the number and places that section 5.7 demands."""
    authenticators = [f for f in fields if f.type == FieldType.AUTHENTICATOR]
    cookie_fields = [f for f in fields if f.type == FieldType.COOKIE]
    if len(authenticators) != 1 or len(cookie_fields) != 1:
        raise _Drop(Verdict.DROP_INCOMPLETE)
    end = authenticators[0].offset  # what comes later is not authenticated
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
    """Section 5.5: only those as long as the cookie count; their contents do not matter."""
    return sum(f.type == FieldType.COOKIE_PLACEHOLDER and len(f.body) == len(cookie.body) for f in fields)


def _respond_nts(
    request: _NtsRequest, ring: KeyRing, reply: Header, now: Callable[[], int], random: Callable[[int], bytes]
) -> Outcome:
    """Open the cookie, authenticate, and answer with time or with a NAK (section 5.7)."""
    try:
        contents = cookies.open_cookie(ring, request.cookie.body)
    except AuthError:
        return _nak(Verdict.NAK_COOKIE, request, reply, now)
    aead = contents[0].aead
    if request.authenticator.nonce_room < aead.nonce_length:  # section 5.6: the response's nonce must have room
        raise _Drop(Verdict.DROP_PADDING)
    try:
        keys, plaintext = _authenticate(request, contents)
    except AuthError:
        return _nak(Verdict.NAK_AUTH, request, reply, now)
    placeholders = request.placeholders + _encrypted_placeholders(plaintext, request.cookie)
    master = ring.current
    assert master is not None  # a key of this ring has just opened the cookie
    minted = _mint(master, contents, 1 + min(placeholders, MAX_PLACEHOLDERS), random)
    nonce = random(aead.nonce_length)
    head = replace(reply, transmit=now()).encode() + _echo(request.unique_id)
    body = extensions.encode_authenticator(nonce, keys.s2c_cipher.seal(nonce, minted, head))
    return Outcome(Verdict.ANSWERED_NTS, head + extensions.encode(FieldType.AUTHENTICATOR, body))


def _authenticate(request: _NtsRequest, contents: Contents) -> tuple[SessionKeys, bytes]:
    """The keys that the client uses, of those that its cookie holds, and what it has encrypted. AuthError if none."""
    nonce, ciphertext = request.authenticator.nonce, request.authenticator.ciphertext
    for keys in contents:
        try:
            return keys, keys.c2s_cipher.open(nonce, ciphertext, request.associated)
        except (AuthError, LibraryError):  # LibraryError: an algorithm that this machine's OpenSSL does not have
            continue
    raise AuthError("no key of the cookie fits")


def _encrypted_placeholders(plaintext: bytes, cookie: Field) -> int:
    """Valid placeholders among the encrypted fields, where the other NTS fields must not be (section 5.7)."""
    try:
        fields = extensions.walk_encrypted(plaintext)
    except FormatError:
        raise _Drop(Verdict.DROP_ENCRYPTED) from None
    forbidden = (FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE, FieldType.AUTHENTICATOR)
    if any(f.type in forbidden for f in fields):
        raise _Drop(Verdict.DROP_ENCRYPTED)
    return _count_placeholders(fields, cookie)


def _mint(master: MasterKey, contents: Contents, count: int, random: Callable[[int], bytes]) -> bytes:
    """`count` fresh cookies as extension fields, to be encrypted."""
    return b"".join(
        extensions.encode(FieldType.COOKIE, cookies.seal(master, contents, random(cookies.NONCE_LENGTH)))
        for _ in range(count)
    )


def _nak(verdict: Verdict, request: _NtsRequest, reply: Header, now: Callable[[], int]) -> Outcome:
    """An NTS NAK: a kiss-o'-death with the identifier and nothing else (section 5.7)."""
    header = replace(reply, leap=Leap.UNSYNCHRONISED, stratum=Stratum.KISS, reference_id=KISS_NTSN, transmit=now())
    return Outcome(verdict, header.encode() + _echo(request.unique_id))


def _reply_header(request: Header, system: SystemVariables, received: int) -> Header:
    """The header of every reply, but for its transmit timestamp (RFC 5905 section 9.2)."""
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
