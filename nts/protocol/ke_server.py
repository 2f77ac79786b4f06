# SPDX-License-Identifier: MIT
"""The server's side of NTS-KE as pure functions: a request in, the response's octets and a verdict out.

`KeServer` holds the policy of one server. `answer` responds to a complete message, `fail` to one that never became
complete. `plan` is the part of an answer that depends on the request alone, which the native loop asks for once.
`ke_connection` does TLS, sockets and time-outs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto

from nts.base.errors import FormatError
from nts.base.registry import COOKIES_WANTED, NTP_PORT, ErrorCode, Protocol, RecordType
from nts.base.text import same_address
from nts.codec import cookies, records
from nts.codec.aead import Aead, Exporter, export_keys, possible_contexts
from nts.codec.keyring import CookieFormat, KeyRing
from nts.codec.records import Message, Record

MAX_REQUEST = 16384  # octets; RFC 8915 section 4 asks for at least 1024


class Verdict(IntEnum):
    """The outcome of one NTS-KE session. Each has a counter."""

    AGREED = 0
    NO_PROTOCOL = auto()
    """answered: no next protocol in common"""
    NO_AEAD = auto()
    """answered: no AEAD algorithm in common"""
    UNKNOWN_CRITICAL = auto()
    """answered with Error 0"""
    BAD_REQUEST = auto()
    """answered with Error 1"""
    TRUNCATED = auto()
    """answered with Error 1: the client closed before the End of Message record"""
    TIMED_OUT = auto()
    """answered with Error 1: the request was not complete in time"""
    NO_MASTER_KEY = auto()
    """answered with Error 2"""
    NO_ALPN = auto()
    """closed: the client did not offer ntske/1"""
    TLS_FAILED = auto()
    """closed: the TLS handshake failed, or the connection broke"""
    TLS_TIMED_OUT = auto()
    """closed: the handshake was not complete in time"""
    CLOSED_EARLY = auto()
    """the client closed before the handshake was complete"""
    EVICTED = auto()
    """closed: to make room for a new one"""
    REFUSED = auto()
    """closed at once: too many connections a second from the client's prefix"""


@dataclass(frozen=True)
class Outcome:
    """The verdict, the octets of the response, and the algorithm agreed on, if any."""

    verdict: Verdict
    response: bytes
    aead: Aead | None = None
    contexts: tuple[int, ...] = ()
    """of a plan: the AEAD numbers in the exporter's contexts of the keys for the cookies, which the response lacks,
    with End of Message; empty: it is complete"""


@dataclass(frozen=True)
class Request:
    """A well-formed request: the client's offers, in its order of preference."""

    protocols: tuple[int, ...]
    aeads: tuple[int, ...]
    server: str | None = None
    """the time server that the client asks for"""
    compliant_context: bool = False
    """whether the client asks for the registered exporter context of AEAD 30 (record 1024)"""


class _Refused(Exception):
    def __init__(self, code: ErrorCode) -> None:
        self.code = code


@dataclass(frozen=True)
class KeServer:
    """The policy of one NTS-KE server."""

    aeads: tuple[Aead, ...]
    """what the server supports, in its own order of preference"""
    ntp_server: str = ""
    """the time server to send clients to; empty: the address they used for NTS-KE (section 4.1.7)"""
    ntp_port: int = NTP_PORT

    def answer(
        self,
        message: Message,
        *,
        local_address: str,
        ring: KeyRing,
        export: Exporter,
        random: Callable[[int], bytes],
    ) -> Outcome:
        """Respond to a complete message.

        `local_address` is the address the client connected to, `export` the exporter of the TLS connection.
        `random(n)` returns n octets for the cookies' nonces.
        """
        plan = self.plan(message, local_address=local_address, ring=ring)
        if plan.aead is None:
            return plan
        contents = tuple(export_keys(export, plan.aead, c) for c in plan.contexts)
        master = cookies.sealer(ring, contents)
        assert master is not None
        sealed = cookies.seal_many(master, contents, random(COOKIES_WANTED * cookies.NONCE_LENGTH))
        new = [Record(RecordType.NEW_COOKIE, False, cookie) for cookie in sealed]  # 4.1.6: not critical
        return Outcome(plan.verdict, plan.response + records.encode_message(new), plan.aead)

    def plan(self, message: Message, *, local_address: str, ring: KeyRing) -> Outcome:
        """How to answer a complete message, whoever sends it: all but the cookies. The ring needs a key for them."""
        try:
            request = parse_request(message)
        except _Refused as e:
            unknown = e.code == ErrorCode.UNRECOGNIZED_CRITICAL_RECORD
            return self.fail(Verdict.UNKNOWN_CRITICAL if unknown else Verdict.BAD_REQUEST)
        if Protocol.NTPV4 not in request.protocols:
            # Section 4.1.2: the response is a subset of the request, and may be empty.
            return Outcome(Verdict.NO_PROTOCOL, records.encode_message([_next_protocol()]))
        aead = self.choose_aead(_unambiguous(request, ring.format))
        if aead is None:
            # Section 4.1.5: empty if the server supports none of the algorithms offered.
            return Outcome(Verdict.NO_AEAD, records.encode_message([_next_protocol(Protocol.NTPV4), _aead()]))
        if ring.current is None:
            return self.fail(Verdict.NO_MASTER_KEY)
        confirmed = request.compliant_context and aead is Aead.AES_128_GCM_SIV
        head = [_next_protocol(Protocol.NTPV4), _aead(aead), *self._where(request, local_address)]
        if confirmed:
            head.append(Record(RecordType.COMPLIANT_CONTEXT, False, b""))
        octets = b"".join(record.encode() for record in head)
        return Outcome(Verdict.AGREED, octets, aead, possible_contexts(aead, confirmed=confirmed))

    def fail(self, verdict: Verdict) -> Outcome:
        """The error response for a verdict (section 4.1.3): only an Error record, without Next Protocol."""
        code = {
            Verdict.UNKNOWN_CRITICAL: ErrorCode.UNRECOGNIZED_CRITICAL_RECORD,
            Verdict.NO_MASTER_KEY: ErrorCode.INTERNAL_SERVER_ERROR,
        }.get(verdict, ErrorCode.BAD_REQUEST)
        error = Record(RecordType.ERROR, True, records.encode_u16s(code))
        return Outcome(verdict, records.encode_message([error]))

    def choose_aead(self, offered: tuple[int, ...]) -> Aead | None:
        """The server's favourite among the algorithms offered (section 4.1.5: the server may choose)."""
        return next((a for a in self.aeads if a in offered), None)

    def _where(self, request: Request, local_address: str) -> list[Record]:
        """Server and Port Negotiation (sections 4.1.7, 4.1.8). Critical, since the cookies work only there."""
        location, server = [], self.ntp_server
        if not server and request.server and same_address(request.server, local_address):
            server = local_address  # 4.1.7: a request that can be met SHOULD be confirmed
        if server:
            location.append(Record(RecordType.SERVER, True, server.encode("ascii")))
        if self.ntp_port != NTP_PORT:
            location.append(Record(RecordType.PORT, True, records.encode_u16s(self.ntp_port)))
        return location


def _unambiguous(request: Request, cookie_format: CookieFormat) -> tuple[int, ...]:
    """The algorithms offered for which a cookie of this format has room: others' cookies hold one pair of keys.

    A client of AEAD 30 has two that it may use, unless it says which.
    """
    doubtful = cookie_format is not CookieFormat.OWN and not request.compliant_context
    return tuple(a for a in request.aeads if not (doubtful and a == Aead.AES_128_GCM_SIV))


def parse_request(message: Message) -> Request:
    """Check a request against section 4. Raises _Refused with the error code for the response."""
    try:
        records.check_end_of_message(message)
        found: dict[int, Record] = {}
        for record in message.records[:-1]:
            _check_record(record, found)
        return _check_lists(found)
    except FormatError:
        raise _Refused(ErrorCode.BAD_REQUEST) from None


def _check_record(record: Record, found: dict[int, Record]) -> None:
    """Check one record of a request, and put it into `found` if the server uses it."""
    match record.type:
        case RecordType.ERROR | RecordType.WARNING | RecordType.NEW_COOKIE:
            raise FormatError("a record that clients must not send")  # 4.1.3, 4.1.4, 4.1.6
        case kind if kind in records.AT_MOST_ONCE:
            if record.type in found:
                raise FormatError("two records of a type that may occur once")
            found[record.type] = record
        case _ if record.critical:
            raise _Refused(ErrorCode.UNRECOGNIZED_CRITICAL_RECORD)  # 4.1.3


def _check_lists(found: dict[int, Record]) -> Request:
    """Check that the required records are there, and parse all bodies."""
    if RecordType.NEXT_PROTOCOL not in found:
        raise FormatError("no Next Protocol Negotiation record")  # section 4
    if not found[RecordType.NEXT_PROTOCOL].critical:
        raise FormatError("a Next Protocol Negotiation record that is not critical")  # 4.1.2
    protocols = records.u16_list(found[RecordType.NEXT_PROTOCOL])
    aeads = records.u16_list(found[RecordType.AEAD_ALGORITHM]) if RecordType.AEAD_ALGORITHM in found else None
    if not protocols or aeads == []:
        raise FormatError("an empty list of protocols or algorithms")  # 4.1.2, 4.1.5
    if Protocol.NTPV4 in protocols and aeads is None:
        raise FormatError("no AEAD Algorithm Negotiation record")  # 4.1.5
    if RecordType.PORT in found:
        records.single_u16(found[RecordType.PORT])  # 4.1.8: must be well-formed, but there is only one port
    server = _requested_server(found.get(RecordType.SERVER))
    compliant_context = records.is_set(found.get(RecordType.COMPLIANT_CONTEXT))
    return Request(tuple(protocols), tuple(aeads or ()), server, compliant_context)


def _requested_server(record: Record | None) -> str | None:
    """The time server that the client asks for. A name that breaks 4.1.7 is ignored: it is only a request."""
    try:
        return records.server_name(record) if record else None
    except FormatError:
        return None


def _next_protocol(*protocols: int) -> Record:
    return Record(RecordType.NEXT_PROTOCOL, True, records.encode_u16s(*protocols))


def _aead(*aeads: int) -> Record:
    return Record(RecordType.AEAD_ALGORITHM, True, records.encode_u16s(*aeads))
