# SPDX-License-Identifier: MIT
"""The client's side of NTS-KE as pure functions: build a request, judge a response (RFC 8915 section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from nts.base.errors import FormatError, KeErrorRecord, KeResponseError
from nts.base.registry import ERROR_NAMES, MAX_COOKIE, NTP_PORT, ErrorCode, Protocol, RecordType
from nts.codec import records
from nts.codec.aead import Aead
from nts.codec.records import Message, Record

MAX_RESPONSE = 131072  # octets; section 4 asks for at least 65536
_MAX_SHOWN = 8  # numbers of a list in an error

LONGEST_RETRY = 432000  # seconds: five days
_FIRST_RETRY, _RETRY_GROWTH = 10.0, 1.5
_MOST_GROWTHS = 30  # more than it takes to the longest


@dataclass(frozen=True)
class Agreement:
    """What a response grants."""

    aead: Aead
    server: str | None
    """the time server's address or fully qualified name; None: the address used for NTS-KE (section 4.1.7)"""
    port: int
    """the time server's UDP port"""
    cookies: tuple[bytes, ...] = field(repr=False)
    compliant_context: bool = False
    """whether the server confirmed the registered exporter context of AEAD 30 (record 1024)"""


def retry_interval(attempts: int) -> float:
    """Seconds to wait before another key exchange with a server, after so many in a row (section 4.2)."""
    return float(min(_FIRST_RETRY * _RETRY_GROWTH ** min(attempts - 1, _MOST_GROWTHS), LONGEST_RETRY))


def build_request(aeads: tuple[Aead, ...]) -> bytes:
    """A request for NTPv4 with these algorithms, in order of preference."""
    request = [
        Record(RecordType.NEXT_PROTOCOL, True, records.encode_u16s(Protocol.NTPV4)),
        Record(RecordType.AEAD_ALGORITHM, True, records.encode_u16s(*aeads)),
    ]
    if Aead.AES_128_GCM_SIV in aeads:
        request.append(Record(RecordType.COMPLIANT_CONTEXT, False, b""))
    return records.encode_message(request)


def judge_response(message: Message, offered: tuple[Aead, ...]) -> Agreement:
    """Return what a complete response to `build_request(offered)` grants.

    KeErrorRecord when the response holds an Error or a Warning record, KeResponseError when it breaks a rule or grants
    nothing. Records may come in any order.
    """
    try:
        records.check_end_of_message(message)
        _check_errors(message)
        found, cookies = _sort(message)
        return _judge(found, cookies, offered)
    except FormatError as e:
        raise KeResponseError(f"illegal NTS-KE response: {e}") from None


def _check_errors(message: Message) -> None:
    """Sections 4.1.3 and 4.1.4: any Error or Warning record ends the exchange, whatever its code and critical bit."""
    for record in message.records:
        if record.type == RecordType.ERROR:
            code = records.single_u16(record)
            raise KeErrorRecord(
                f"the server answered with Error {code} ({ERROR_NAMES.get(code, 'unknown')})",
                hint=_ERROR_HINTS.get(code),
            )
        if record.type == RecordType.WARNING:
            code = records.single_u16(record)
            raise KeErrorRecord(f"the server answered with Warning {code}, which no specification defines")


_ERROR_HINTS: dict[int, str] = {
    ErrorCode.UNRECOGNIZED_CRITICAL_RECORD: "the server did not understand our request; do not repeat it",
    ErrorCode.BAD_REQUEST: "the server found our request malformed, or it arrived too slowly; do not repeat it at once",
    ErrorCode.INTERNAL_SERVER_ERROR: "the server has an internal problem (no cookie key?); try later",
}


def _sort(message: Message) -> tuple[dict[int, Record], list[bytes]]:
    """Sort the records into those that occur once, by type, and the cookies. Other records are ignored."""
    found: dict[int, Record] = {}
    cookies = []
    for record in message.records[:-1]:
        match record.type:
            case RecordType.NEW_COOKIE:
                if not record.body:
                    raise FormatError("an empty cookie")
                cookies.append(record.body)
            case kind if kind in records.AT_MOST_ONCE:
                if record.type in found:
                    raise FormatError(f"two {record.name} records")
                found[record.type] = record
            case _ if record.critical:
                raise FormatError(f"an unknown critical record of type {record.type}")  # section 4
    return found, cookies


def _judge(found: dict[int, Record], cookies: list[bytes], offered: tuple[Aead, ...]) -> Agreement:
    if RecordType.NEXT_PROTOCOL not in found:
        raise FormatError("no Next Protocol Negotiation record")
    if not found[RecordType.NEXT_PROTOCOL].critical:
        raise FormatError("a Next Protocol Negotiation record that is not critical")  # 4.1.2
    protocols = records.u16_list(found[RecordType.NEXT_PROTOCOL])
    if not protocols:
        raise KeResponseError("the server does not offer NTPv4")
    others = [p for p in protocols if p != Protocol.NTPV4]
    if others:  # 4.1.2: must be a subset
        shown = ", ".join(map(str, others[:_MAX_SHOWN])) + (", and more" if len(others) > _MAX_SHOWN else "")
        raise FormatError(f"the next protocols {shown}, which were not offered")
    aead = _judge_aead(found.get(RecordType.AEAD_ALGORITHM), offered)
    if not cookies:
        raise FormatError("no cookies")  # 4.1.6
    cookies = [c for c in cookies if len(c) <= MAX_COOKIE]
    if not cookies:
        raise FormatError("cookies too long for an NTP packet")
    server = records.server_name(found[RecordType.SERVER]) if RecordType.SERVER in found else None
    port = records.single_u16(found[RecordType.PORT]) if RecordType.PORT in found else NTP_PORT
    if not port:
        raise FormatError("UDP port 0")
    compliant_context = records.is_set(found.get(RecordType.COMPLIANT_CONTEXT))
    return Agreement(aead, server, port, tuple(cookies), compliant_context)


def _judge_aead(record: Record | None, offered: tuple[Aead, ...]) -> Aead:
    """Section 4.1.5: exactly one record, with at most one algorithm, which must have been offered."""
    if record is None:
        raise FormatError("no AEAD Algorithm Negotiation record")
    aeads = records.u16_list(record)
    if not aeads:
        numbers = ", ".join(map(str, offered))
        raise KeResponseError(f"the server supports none of the AEAD algorithms that this client accepts ({numbers})")
    if len(aeads) > 1:
        raise FormatError("more than one AEAD algorithm")
    if aeads[0] not in offered:
        raise FormatError(f"AEAD algorithm {aeads[0]}, which was not offered")
    return Aead(aeads[0])
