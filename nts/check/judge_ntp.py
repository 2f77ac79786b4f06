# SPDX-License-Identifier: MIT
"""What came back for an NTP request, taken apart and named. Pure, and total: any octets get a name.

An `Answer` states facts; whether they are right or wrong is for the check that sent the request. The findings that
several checks share are at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from nts.base.errors import AuthError, FormatError
from nts.base.registry import KISS_NTSN, FieldType, Mode, Stratum
from nts.check.forge import Request
from nts.check.model import Finding, Severity, Verdict, counted, failed, passed, warned
from nts.codec import extensions
from nts.codec.extensions import Field
from nts.codec.ntp import HEADER_LENGTH, Header
from nts.protocol import ts_client

MAX_LISTED = 12  # requests that one finding names
CRYPTO_NAK_LENGTH = HEADER_LENGTH + 4  # RFC 5905 section 9.2: a header and a key identifier of zero


class Kind(Enum):
    """What an answer is. The value says it to a person."""

    SILENCE = "nothing"
    TIME = "an authentic reply"
    """sealed with the S2C key"""
    NAK = "NTSN"
    """a kiss-o'-death with the kiss code for "your cookie or authenticator is no good" (section 7.4)"""
    KISS = "another kiss-o'-death"
    """unprotected"""
    CRYPTO_NAK = "a crypto-NAK"
    """of NTP's symmetric keys: it gives no time"""
    PLAIN = "time without protection"
    UNPROVEN = "a reply whose authenticator is not good under the S2C key"
    MALFORMED = "a malformed packet"
    OTHER = "a packet that is no reply of a server"


_RANK = {Kind.TIME: 0, Kind.PLAIN: 1, Kind.UNPROVEN: 1}  # all others are alike, and the first of equals counts
REFUSALS = (Kind.SILENCE, Kind.NAK, Kind.KISS, Kind.CRYPTO_NAK)


@dataclass(frozen=True)
class Answer:
    """The reply to a request, or that there was none."""

    request: Request
    kind: Kind
    octets: bytes = field(default=b"", repr=False)
    header: Header | None = None
    fields: tuple[Field, ...] = ()
    """outside of the ciphertext"""
    inner: tuple[Field, ...] = ()
    """inside of it, when it is authentic"""
    reason: str = ""
    """why it is not better"""

    def count(self, kind: FieldType) -> int:
        """How many fields of a type stand in clear."""
        return sum(f.type == kind for f in self.fields)

    @property
    def cookies(self) -> tuple[bytes, ...]:
        """The cookies inside the ciphertext."""
        return tuple(f.body for f in self.inner if f.type == FieldType.COOKIE)

    @property
    def echoes(self) -> bool:
        """Whether the request's Unique Identifier is in it, as the only one and in front of any authenticator."""
        found = [f for f in self.fields if f.type == FieldType.UNIQUE_IDENTIFIER]
        seals = [f.offset for f in self.fields if f.type == FieldType.AUTHENTICATOR]
        return [f.body for f in found] == [self.request.unique_id] and found[0].offset < min(seals, default=1 << 16)

    @property
    def origin_is_right(self) -> bool:
        """Whether it returns the request's transmit timestamp (RFC 5905 section 8)."""
        return self.header is not None and self.header.origin == self.request.transmit

    @property
    def belongs(self) -> bool:
        """Whether it is plainly for this request."""
        return self.origin_is_right or (self.request.unique_id is not None and self.echoes)

    @property
    def has_nts(self) -> bool:
        """Whether any field of NTS is in it."""
        return any(f.type in set(FieldType) for f in self.fields)

    @property
    def is_rate_kiss(self) -> bool:
        """Whether it asks for fewer requests, protected or not (RFC 5905 section 7.4)."""
        header = self.header
        return header is not None and header.stratum == Stratum.KISS and header.reference_id == b"RATE"

    @property
    def excess(self) -> int:
        """How many octets it has more than the request."""
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


def judge(request: Request, datagrams: Sequence[bytes]) -> Answer:
    """The answer among what came back: the first datagram that is for this request, else the first of all.

    What could pass for time goes before what could not: a refusal does not undo it.
    """
    answers = [_classify(request, d) for d in datagrams]
    best = [a for a in answers if a.belongs] or answers[:1]
    return min(best, key=lambda a: _RANK.get(a.kind, len(_RANK)), default=Answer(request, Kind.SILENCE))


def _classify(request: Request, octets: bytes) -> Answer:
    try:
        header = Header.decode(octets)
    except FormatError as e:
        return Answer(request, Kind.OTHER, octets, reason=str(e))
    try:
        fields, _mac = extensions.walk(octets)
    except FormatError as e:
        return Answer(request, Kind.MALFORMED, octets, header, reason=str(e))
    kind, inner, reason = _kind(request, header, octets, fields)
    return Answer(request, kind, octets, header, tuple(fields), inner, reason)


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
    """The fields in an authentic reply's ciphertext. AuthError, FormatError."""
    if request.keys is None:
        raise AuthError("an authenticator in reply to a request without NTS")
    parts = extensions.decode_authenticator(seal.body)
    plaintext = request.keys.s2c_cipher.open(parts.nonce, parts.ciphertext, octets[: seal.offset])
    return tuple(extensions.walk_encrypted(plaintext))


# --- findings that checks share --------------------------------------------------------------------------------------


def true_of(statements: dict[str, bool]) -> list[str]:
    """Those that are so."""
    return [text for text, is_so in statements.items() if is_so]


def flaws_of_time(answer: Answer) -> list[str]:
    """What is wrong with the form of an authentic reply (section 5.7, RFC 5905 section 8); empty when nothing is."""
    header = answer.header
    assert header is not None
    seals, clear = answer.count(FieldType.AUTHENTICATOR), answer.count(FieldType.COOKIE)
    inside = sum(f.type in (FieldType.UNIQUE_IDENTIFIER, FieldType.AUTHENTICATOR) for f in answer.inner)
    return true_of({
        "the Unique Identifier does not come back, once and unchanged": not answer.echoes,
        "the origin timestamp is not the one sent": not answer.origin_is_right,
        f"mode {header.mode} instead of {Mode.SERVER}": header.mode != Mode.SERVER,
        f"version {header.version} instead of {answer.request.version}": header.version != answer.request.version,
        f"{seals} authenticators instead of one": seals != 1,
        f"{counted(clear, 'cookie')} outside of the ciphertext": clear > 0,
        "a cookie placeholder in a reply": answer.count(FieldType.COOKIE_PLACEHOLDER) > 0,
        "an identifier or an authenticator inside the ciphertext": inside > 0,
    })  # fmt: skip


def expect_time(answer: Answer, cookies: int | None = None) -> Finding:
    """PASS for an authentic reply in proper form, with so many cookies if that is said."""
    if answer.kind is not Kind.TIME:
        return failed(f"{answer} instead of time")
    flaws = flaws_of_time(answer)
    if flaws:
        return failed(", ".join(flaws))
    found = len(answer.cookies)
    if cookies is None or found == cookies:
        return passed(str(answer))
    text = f"{counted(found, 'cookie')} instead of {cookies}"
    # Section 5.7: no more than were asked for, and that is a MUST; as many, and that is a SHOULD.
    return failed(text, Severity.MUST) if found > cookies or not found else warned(text)


def expect_no_time(answer: Answer) -> Finding:
    """PASS for silence and for refusals."""
    return passed(str(answer)) if answer.kind in REFUSALS else failed(str(answer))


def expect_no_authentic_time(answer: Answer) -> Finding:
    """The same, but WARN for time without protection, which no client takes."""
    if answer.kind is Kind.TIME:
        return failed(str(answer))
    return passed(str(answer)) if answer.kind in REFUSALS else warned(str(answer))


def expect_nak(answer: Answer) -> Finding:
    """PASS for an NTS NAK as it should be (sections 5.7 and 7.4), WARN for silence, FAIL for any time."""
    if answer.kind is Kind.SILENCE:
        return warned("silence, where a client would learn from NTSN that it needs new cookies")
    if answer.kind in (Kind.TIME, Kind.PLAIN, Kind.UNPROVEN):
        return failed(str(answer), Severity.CRIT)
    if answer.kind is not Kind.NAK:
        return warned(f"{answer} instead of NTSN")
    header = answer.header
    assert header is not None
    wrong = true_of({
        "its Unique Identifier is not the one sent": not answer.echoes,
        "its origin timestamp is not the one sent": not answer.origin_is_right,
        "it holds a cookie": answer.count(FieldType.COOKIE) > 0,
        "it holds an authenticator": answer.count(FieldType.AUTHENTICATOR) > 0,
        f"it is {answer.excess} octets longer than the request": answer.excess > 0,
        f"it is of version {header.version}": header.version != answer.request.version,
    })  # fmt: skip
    return failed(f"NTSN, but {', '.join(wrong)}", Severity.MUST) if wrong else passed(str(answer))


def findings(answers: Iterable[Answer], judged: Callable[[Answer], Finding]) -> list[Finding]:
    """A finding for each answer, named after its request; those that say the same are one."""
    labels: dict[Finding, list[str]] = {}
    for answer in answers:
        labels.setdefault(judged(answer), []).append(answer.request.label)
    return [replace(finding, text=f"{listed(names)}: {finding.text}") for finding, names in labels.items()]


def sweep(answers: Sequence[Answer], judged: Callable[[Answer], Finding], what: str) -> list[Finding]:
    """The findings of a sweep: all that are not PASS, or else one for all of them together."""
    notable = [f for f in findings(answers, judged) if f.verdict is not Verdict.PASS]
    kinds = Counter(a.kind.value for a in answers).most_common()
    tally = ", ".join(f"{number} x {kind}" for kind, number in kinds)
    return notable or [passed(f"{len(answers)} {what}: {tally}")]


def listed(names: Sequence[str]) -> str:
    """Names of requests, the first few of many."""
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
