# SPDX-License-Identifier: MIT
"""NTS-KE messages and NTP packets as lines of text and as dictionaries for JSON.

Keys and cookies are shown only if `secrets` is true. Otherwise their length takes their place.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from nts.base.errors import FormatError
from nts.base.registry import AEAD_NAMES, ERROR_NAMES, FIELD_NAMES, FieldType, Protocol, RecordType, Stratum
from nts.base.text import counted
from nts.codec import extensions, ntp, records
from nts.codec.ntp import Header
from nts.codec.records import Message, Record

_MAX_NUMBERS = 100  # of a record
_COOKIE_FIELDS = (FieldType.COOKIE, FieldType.COOKIE_PLACEHOLDER)


def secret(data: bytes, show: bool) -> str:
    """Octets in hex if they may be shown, else only their number."""
    return data.hex() if show else f"<{counted(len(data), 'octet')}>"


def record_lines(message: Message, *, secrets: bool, limit: int | None = None) -> list[str]:
    """A line for each record of an NTS-KE message: offset, critical bit, type, meaning. At most `limit` records."""
    lines = []
    for r in record_dicts(message, secrets=secrets, limit=limit):
        mark = "critical" if r["critical"] else ""
        lines.append(f"{r['offset']:5}  {mark:8}  {r['type']:5} {r['name']:<29} {r['value']}".rstrip())
    if len(lines) < len(message.records):
        lines.append(f"  ... {counted(len(message.records) - len(lines), 'more record')}")
    if message.trailing:
        end = sum(records.HEADER_LENGTH + len(r.body) for r in message.records)
        lines.append(f"{end:5}            {counted(message.trailing, 'octet')} after the end")
    return lines


def record_dicts(message: Message, *, secrets: bool, limit: int | None = None) -> list[dict[str, Any]]:
    """The same for JSON."""
    rows, offset = [], 0
    for r in message.records[:limit]:
        rows.append(
            {
                "offset": offset,
                "type": r.type,
                "name": r.name,
                "critical": r.critical,
                "length": len(r.body),
                "value": _record_value(r, secrets),
            }
        )
        offset += records.HEADER_LENGTH + len(r.body)
    return rows


def _record_value(record: Record, secrets: bool) -> str:
    try:
        match record.type:
            case RecordType.NEXT_PROTOCOL:
                return _with_names(records.u16_list(record), _protocol)
            case RecordType.AEAD_ALGORITHM:
                return _with_names(records.u16_list(record), aead_name)
            case RecordType.ERROR:
                code = records.single_u16(record)
                return f"{code} {ERROR_NAMES.get(code, 'unknown')}"
            case RecordType.WARNING | RecordType.PORT:
                return str(records.single_u16(record))
            case RecordType.SERVER:
                return records.server_name(record)
            case RecordType.NEW_COOKIE:
                return secret(record.body, secrets)
            case RecordType.END_OF_MESSAGE if not record.body:
                return ""
    except FormatError as e:
        return f"malformed: {e}"
    return secret(record.body, False)


def _with_names(numbers: list[int], name: Callable[[int], str]) -> str:
    """Numbers with their names. A run of the same number is shown once, with its length."""
    runs = [(number, len(list(run))) for number, run in itertools.groupby(numbers)]
    texts = [f"{n} {name(n)}{f' ({count} times)' if count > 1 else ''}" for n, count in runs[:_MAX_NUMBERS]]
    more = [f"and {len(runs) - _MAX_NUMBERS} more"] if len(runs) > _MAX_NUMBERS else []
    return ", ".join(texts + more) or "none"


def aead_name(number: int) -> str:
    """The registered name of an AEAD algorithm."""
    return AEAD_NAMES.get(number, "unknown")


def _protocol(number: int) -> str:
    return "NTPv4" if number == Protocol.NTPV4 else "unknown"


def reference_id(header: Header) -> str:
    """The reference identifier: characters for stratum 0 and 1, else an address or a hash (RFC 5905 section 7.3)."""
    text = header.reference_id.rstrip(b"\0")
    if header.stratum in (Stratum.KISS, 1, Stratum.UNSYNCHRONISED) and all(32 < octet < 127 for octet in text):
        return text.decode()
    return ".".join(map(str, header.reference_id))


def packet_lines(packet: bytes, *, secrets: bool, plaintext: bytes | None = None) -> list[str]:
    """A line or more for each field of an NTP packet, with its offset. The last line says what is malformed.

    `plaintext` holds the decrypted contents of the first authenticator, if the caller has them.
    """
    try:
        lines = _header_lines(Header.decode(packet))
    except FormatError as e:
        return [f"       malformed: {e}"]
    fields, rest, problem = extensions.scan(packet)
    for f in fields:
        lines += _field_lines(f, secrets)
        if f.type == FieldType.AUTHENTICATOR and plaintext is not None:
            lines += [f"       {line}" for line in _encrypted_lines(plaintext, secrets)]
            plaintext = None
    if problem:
        lines.append(f"       malformed: {problem}")
    elif rest:
        lines.append(f"{len(packet) - rest:5}  {counted(rest, 'octet')} of MAC or remains")
    return lines


def _encrypted_lines(plaintext: bytes, secrets: bool) -> list[str]:
    fields, _rest, problem = extensions.scan(plaintext, encrypted=True)
    lines = [line for f in fields for line in _field_lines(f, secrets)]
    lines += [f"       malformed: {problem}"] if problem else []
    return ["decrypted:", *lines] if lines else ["decrypted: nothing"]


def _field_lines(f: extensions.Field, secrets: bool) -> list[str]:
    head = f"{f.offset:5}  {f.type:#06x} {FIELD_NAMES.get(f.type, 'unknown')}, length {f.end - f.offset}"
    return [head, *(f"       {line}" for line in _field_value(f, secrets))]


def packet_dict(packet: bytes, *, secrets: bool, plaintext: bytes | None = None) -> dict[str, Any]:
    """The same for JSON."""
    fields, rest, problem = extensions.scan(packet)
    result: dict[str, Any] = {"length": len(packet)}
    try:
        result["header"] = _header_dict(Header.decode(packet))
    except FormatError as e:
        return {**result, "malformed": str(e)}
    result["fields"] = [_field_dict(f, secrets) for f in fields]
    if plaintext is not None:
        inside, _, trouble = extensions.scan(plaintext, encrypted=True)
        result["decrypted"] = [_field_dict(f, secrets) for f in inside]
        problem = problem or trouble
    if rest:
        result["rest"] = rest
    return {**result, "malformed": problem} if problem else result


def _field_dict(f: extensions.Field, secrets: bool) -> dict[str, Any]:
    names = {"offset": f.offset, "type": f.type, "name": FIELD_NAMES.get(f.type, "unknown"), "length": f.end - f.offset}
    return {**names, "value": _field_value(f, secrets)}


def _header_dict(h: Header) -> dict[str, Any]:
    stamps = {n: _stamp(getattr(h, n)) for n in ("reference_time", "origin", "receive", "transmit")}
    return {**dataclasses.asdict(h), "reference_id": reference_id(h), **stamps}


def _header_lines(h: Header) -> list[str]:
    return [
        f"    0  leap {h.leap}, version {h.version}, mode {h.mode}, stratum {h.stratum}, poll {h.poll}, "
        f"precision {h.precision}",
        f"    4  root delay {ntp.short_to_ns(h.root_delay) / ntp.NS:.6f} s, "
        f"root dispersion {ntp.short_to_ns(h.root_dispersion) / ntp.NS:.6f} s, "
        f"reference id {reference_id(h) or 'none'}",
        f"   16  reference {_stamp(h.reference_time)}",
        f"   24  origin    {_stamp(h.origin)}",
        f"   32  receive   {_stamp(h.receive)}",
        f"   40  transmit  {_stamp(h.transmit)}",
    ]


def _stamp(stamp: int) -> str:
    return f"{stamp >> 32:08x}.{stamp % 2**32:08x}"


def _field_value(f: extensions.Field, secrets: bool) -> list[str]:
    if f.type in _COOKIE_FIELDS:
        return [secret(f.body, secrets)]
    if f.type == FieldType.AUTHENTICATOR:
        try:
            parts = extensions.decode_authenticator(f.body)
        except FormatError as e:
            return [f"malformed: {e}"]
        return [
            f"nonce of {counted(len(parts.nonce), 'octet')}: {parts.nonce.hex()}",
            f"ciphertext of {counted(len(parts.ciphertext), 'octet')}, with the tag",
            *([f"Additional Padding of {counted(parts.padding, 'octet')}"] if parts.padding else []),
        ]
    return [f.body.hex()]
