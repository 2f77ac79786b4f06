# SPDX-License-Identifier: MIT
"""NTS-KE records (RFC 8915 section 4): the codec, and a reader that takes a message in pieces.

A record is: critical bit and 15-bit type (16 bits), body length (16 bits, body only), body. A message consists of
the records up to and including the first End of Message record. This module knows the framing and the syntax of each
body. `ke_server` and `ke_client` decide which records a request or a response may hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from nts.base.errors import FormatError
from nts.base.registry import RECORD_NAMES, RecordType
from nts.base.text import counted, is_server_name
from nts.base.wire import Reader, u16

_HEADER = Struct(">HH")  # critical bit and type, length of the body
HEADER_LENGTH = _HEADER.size
_CRITICAL = 0x8000
AT_MOST_ONCE = frozenset(
    {
        RecordType.NEXT_PROTOCOL,
        RecordType.AEAD_ALGORITHM,
        RecordType.SERVER,
        RecordType.PORT,
        RecordType.COMPLIANT_CONTEXT,
    }
)
"""record types that a message may hold once (sections 4.1.2, 4.1.5, 4.1.7, 4.1.8)"""


class Record(NamedTuple):
    """One record. The body may be a cookie, so repr() omits it."""

    type: int
    critical: bool
    body: bytes

    def __repr__(self) -> str:
        return f"Record(type={self.type}, critical={self.critical})"

    def encode(self) -> bytes:
        """The octets on the wire."""
        return _HEADER.pack(self.type | (_CRITICAL if self.critical else 0), len(self.body)) + self.body

    @property
    def name(self) -> str:
        """The registered name of its type."""
        return RECORD_NAMES.get(self.type, "unknown")


@dataclass(frozen=True)
class Message:
    """A complete message: the records up to End of Message, and the number of octets that wrongly follow."""

    records: tuple[Record, ...]
    trailing: int = 0


class MessageReader:
    """Collects the octets of one message, in pieces of any size.

    `feed` raises FormatError once it has more than `limit` octets without an End of Message record, so that a peer
    cannot make it buffer more than the limit plus one `feed`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._parsed = 0
        self._records: list[Record] = []
        self._complete = False

    @property
    def octets(self) -> int:
        """The number of octets fed in so far."""
        return len(self._buffer)

    @property
    def records(self) -> tuple[Record, ...]:
        """The complete records so far."""
        return tuple(self._records)

    def feed(self, data: bytes) -> Message | None:
        """Take more octets. Returns the message once its End of Message record is complete, else None.

        Octets fed in after that only add to `trailing`.
        """
        self._buffer += data
        while not self._complete and len(self._buffer) - self._parsed >= HEADER_LENGTH:
            head, length = _HEADER.unpack_from(self._buffer, self._parsed)
            start = self._parsed + HEADER_LENGTH
            end = start + length
            if end > self._limit:
                raise FormatError(f"a message of more than {self._limit} octets")
            if end > len(self._buffer):
                break
            record = Record(head & ~_CRITICAL, bool(head & _CRITICAL), bytes(self._buffer[start:end]))
            self._records.append(record)
            self._parsed = end
            if record.type == RecordType.END_OF_MESSAGE:
                self._complete = True
        if self._complete:
            return Message(tuple(self._records), trailing=len(self._buffer) - self._parsed)
        if len(self._buffer) > self._limit:
            raise FormatError(f"a message of more than {self._limit} octets")
        return None


def encode_message(records: Iterable[Record]) -> bytes:
    """The octets of a message: the records, then End of Message (section 4.1.1)."""
    return b"".join(r.encode() for r in records) + Record(RecordType.END_OF_MESSAGE, True, b"").encode()


def check_end_of_message(message: Message) -> None:
    """Section 4.1.1: End of Message is critical and empty, and nothing follows. FormatError otherwise."""
    end = message.records[-1]
    if not end.critical:
        raise FormatError("the End of Message record is not critical")
    if end.body:
        raise FormatError("the End of Message record has a body")
    if message.trailing:
        raise FormatError(f"{counted(message.trailing, 'octet')} after the End of Message record")


def u16_list(record: Record) -> list[int]:
    """The body of a Next Protocol or AEAD Algorithm Negotiation record (sections 4.1.2, 4.1.5)."""
    return Reader(record.body).u16_list()


def single_u16(record: Record) -> int:
    """The body of an Error, Warning or Port Negotiation record (sections 4.1.3, 4.1.4, 4.1.8)."""
    if len(record.body) != 2:
        raise FormatError(f"a {record.name} record with a body of {counted(len(record.body), 'octet')}")
    return int.from_bytes(record.body, "big")


def is_set(record: Record | None) -> bool:
    """Whether the peer sent this record, which must have no body. FormatError when it has one."""
    if record and record.body:
        raise FormatError(f"a {record.name} record with a body")
    return record is not None


def encode_u16s(*values: int) -> bytes:
    """The body of a record that holds 16-bit integers."""
    return b"".join(map(u16, values))


def server_name(record: Record) -> str:
    """The body of a Server Negotiation record (section 4.1.7).

    An IPv4 address in dotted decimal, an IPv6 address without a zone identifier, or a fully qualified domain name
    in ASCII. FormatError for anything else: the name is looked up and printed on terminals.
    """
    name = record.body.decode("ascii", errors="replace")
    if not is_server_name(name):
        raise FormatError("the server name is neither an IP address nor a domain name in ASCII")
    return name
