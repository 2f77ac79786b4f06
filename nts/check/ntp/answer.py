# SPDX-License-Identifier: MIT
"""What came back for an NTP request, taken apart and named. Pure, and total: any octets get a name.

An `NtpAnswer` states facts. Whether they are right or wrong is up to the check that sent the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from nts.base.errors import AuthError, FormatError
from nts.base.registry import KISS_NTSN, NTS_FIELDS, FieldType, Mode, Stratum
from nts.check.findings import counted
from nts.check.model import Span
from nts.check.ntp.forge import Request
from nts.codec import extensions
from nts.codec.extensions import Field
from nts.codec.ntp import HEADER_LENGTH, Header
from nts.protocol import ts_client

CRYPTO_NAK_LENGTH = HEADER_LENGTH + 4  # RFC 5905 section 9.2: a header and a key identifier of zero


class Kind(Enum):
    """What an answer is. The value says so in words."""

    SILENCE = "no reply"
    TIME = "an authentic reply"
    """sealed with the S2C key"""
    NAK = "NTSN"
    """an NTS NAK: the server could not use the cookie or the authenticator (section 7.4)"""
    KISS = "another kiss-o'-death"
    """unprotected"""
    CRYPTO_NAK = "a crypto-NAK"
    """of NTP's symmetric keys; it gives no time"""
    PLAIN = "time without protection"
    UNPROVEN = "a reply whose authenticator does not fit the S2C key"
    MALFORMED = "a malformed packet"
    OTHER = "a packet that is not a server's reply"


_MODE, _STRATUM, _REFERENCE, _ORIGIN = (0, 1), (1, 2), (12, 16), (24, 32)  # RFC 5905 section 7.3
_RANK = {Kind.TIME: 0, Kind.PLAIN: 1, Kind.UNPROVEN: 1}  # all others rank equally; among equals the first counts
REFUSALS = (Kind.SILENCE, Kind.NAK, Kind.KISS, Kind.CRYPTO_NAK)


@dataclass(frozen=True)
class NtpAnswer:
    """The reply to a request, or its absence."""

    request: Request
    kind: Kind
    octets: bytes = field(default=b"", repr=False)
    header: Header | None = None
    fields: tuple[Field, ...] = ()
    """fields in clear"""
    inner: tuple[Field, ...] = ()
    """encrypted fields, if the answer is authentic"""
    reason: str = ""
    """why it is no better than that"""

    def count(self, kind: FieldType) -> int:
        """How many fields of this type are in clear."""
        return sum(f.type == kind for f in self.fields)

    @property
    def cookies(self) -> tuple[bytes, ...]:
        """The cookies inside the ciphertext."""
        return tuple(f.body for f in self.inner if f.type == FieldType.COOKIE)

    @property
    def nonce(self) -> bytes:
        """The nonce of an authentic reply."""
        seal = next(f for f in self.fields if f.type == FieldType.AUTHENTICATOR)
        return extensions.decode_authenticator(seal.body).nonce

    @property
    def echoes(self) -> bool:
        """Whether its only Unique Identifier is the request's, and lies before any authenticator."""
        found = [f for f in self.fields if f.type == FieldType.UNIQUE_IDENTIFIER]
        seals = [f.offset for f in self.fields if f.type == FieldType.AUTHENTICATOR]
        return [f.body for f in found] == [self.request.unique_id] and found[0].offset < min(seals, default=1 << 16)

    @property
    def origin_is_right(self) -> bool:
        """Whether it returns the request's transmit timestamp (RFC 5905 section 8)."""
        return self.header is not None and self.header.origin == self.request.transmit

    @property
    def belongs(self) -> bool:
        """Whether it is clearly meant for this request."""
        return self.origin_is_right or (self.request.unique_id is not None and self.echoes)

    @property
    def oddities(self) -> list[Span]:
        """Where it differs from the reply that a usual request should get."""
        header, first = self.header, next((f for f in self.fields if f.type == FieldType.AUTHENTICATOR), None)
        if header is None:
            return []
        found = [
            _MODE if (header.mode, header.version) != (Mode.SERVER, self.request.version) else None,
            _STRATUM if header.stratum == Stratum.KISS else None,
            _REFERENCE if header.stratum == Stratum.KISS else None,
            None if self.origin_is_right else _ORIGIN,
        ]
        for f in self.fields:
            returned = f.type == FieldType.UNIQUE_IDENTIFIER and f.body == self.request.unique_id
            sealed = f is first and self.kind is Kind.TIME
            found.append(None if returned or sealed else (f.offset, f.end))
        return [span for span in found if span]

    @property
    def has_nts(self) -> bool:
        """Whether it has any NTS field."""
        return any(f.type in NTS_FIELDS for f in self.fields)

    @property
    def is_rate_kiss(self) -> bool:
        """Whether it asks for fewer requests (RFC 5905 section 7.4), protected or not."""
        header = self.header
        return header is not None and header.stratum == Stratum.KISS and header.reference_id == b"RATE"

    @property
    def excess(self) -> int:
        """How many octets longer than the request it is."""
        return len(self.octets) - len(self.request.packet)

    def __str__(self) -> str:
        text = self.kind.value
        if self.octets:
            text += f", {len(self.octets)} octets"
        if self.kind is Kind.TIME:
            text += f", {counted(len(self.cookies), 'cookie')}"
        elif self.kind is Kind.KISS and self.header is not None:
            text += f" ({ts_client.kiss_code(self.header)})"
        return text + (f" ({self.reason})" if self.reason else "")


def classify(request: Request, datagrams: Sequence[bytes]) -> NtpAnswer:
    """Pick the answer among what came back: the first datagram meant for this request, else the first of all.

    A datagram that could pass for time goes before one that could not: a refusal does not undo it.
    """
    answers = [_classified(request, d) for d in datagrams]
    best = [a for a in answers if a.belongs] or answers[:1]
    return min(best, key=lambda a: _RANK.get(a.kind, len(_RANK)), default=NtpAnswer(request, Kind.SILENCE))


def _classified(request: Request, octets: bytes) -> NtpAnswer:
    try:
        header = Header.decode(octets)
    except FormatError as e:
        return NtpAnswer(request, Kind.OTHER, octets, reason=str(e))
    try:
        fields, _mac = extensions.walk(octets)
    except FormatError as e:
        return NtpAnswer(request, Kind.MALFORMED, octets, header, reason=str(e))
    kind, inner, reason = _kind(request, header, octets, fields)
    return NtpAnswer(request, kind, octets, header, tuple(fields), inner, reason)


def _kind(
    request: Request, header: Header, octets: bytes, fields: list[Field]
) -> tuple[Kind, tuple[Field, ...], str]:  # fmt: skip
    if (header.mode, header.stratum, header.reference_id) == (Mode.SERVER, Stratum.KISS, KISS_NTSN):
        return Kind.NAK, (), ""
    seals = [f for f in fields if f.type == FieldType.AUTHENTICATOR]
    if seals:
        try:
            return Kind.TIME, _open(request, octets, seals[0]), ""
        except (AuthError, FormatError) as e:
            return Kind.UNPROVEN, (), str(e)
    if header.mode != Mode.SERVER:
        return Kind.OTHER, (), f"mode {header.mode}"
    if len(octets) == CRYPTO_NAK_LENGTH and not any(octets[HEADER_LENGTH:]):
        return Kind.CRYPTO_NAK, (), ""
    return Kind.KISS if header.stratum == Stratum.KISS else Kind.PLAIN, (), ""


def _open(request: Request, octets: bytes, seal: Field) -> tuple[Field, ...]:
    """The encrypted fields of an authentic reply. AuthError, FormatError."""
    if request.keys is None:
        raise AuthError("an authenticator, although the request has no NTS")
    parts = extensions.decode_authenticator(seal.body)
    plaintext = request.keys.s2c_cipher.open(parts.nonce, parts.ciphertext, octets[: seal.offset])
    return tuple(extensions.walk_encrypted(plaintext))
