# SPDX-License-Identifier: MIT
"""NTS-KE records (RFC 8915 section 4): the codec, and a reader that needs no particular segmentation.

A record is: critical bit and 15-bit type (16 bits), body length (16 bits, body only), body. A message is the
records up to and including the first End of Message record. This module knows framing and each body's syntax;
which records a request or a response may hold is `ke_server`'s and `ke_client`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nts.base.errors import FormatError
from nts.base.registry import RECORD_NAMES, RecordType
from nts.base.text import is_server_name
from nts.base.wire import Reader, u16

HEADER_LENGTH = 4
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
"""in any message (sections 4.1.2, 4.1.5, 4.1.7)"""


@dataclass(frozen=True)
class Record:
    """One record. The body may be a cookie, so it is not part of repr()."""

    type: int
    critical: bool
    body: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The record's octets on the wire."""
        return u16(self.type | (_CRITICAL if self.critical else 0)) + u16(len(self.body)) + self.body

    @property
    def name(self) -> str:
        """Its registered name, for people."""
        return RECORD_NAMES.get(self.type, "unknown")


@dataclass(frozen=True)
class Message:
    """A whole message: records up to the End of Message record, and the octets that wrongly follow it."""

    records: tuple[Record, ...]
    trailing: int = 0


class MessageReader:
    """Collects the octets of one message, in pieces of any size.

    `feed` returns None while more is needed. It raises FormatError once more than `limit` octets have come without
    an End of Message record, so that a peer cannot make it hold more than that and what one `feed` brings.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._parsed = 0
        self._records: list[Record] = []
        self._complete = False

    @property
    def octets(self) -> int:
        """How many octets have been fed in."""
        return len(self._buffer)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that are complete so far."""
        return tuple(self._records)

    def feed(self, data: bytes) -> Message | None:
        """Take some more octets; return the message once its End of Message record is complete.

        What is fed in after that only adds to `trailing`.
        """
        self._buffer += data
        while not self._complete and len(self._buffer) - self._parsed >= HEADER_LENGTH:
            head = int.from_bytes(self._buffer[self._parsed : self._parsed + 2], "big")
            start = self._parsed + HEADER_LENGTH
            end = start + int.from_bytes(self._buffer[self._parsed + 2 : start], "big")
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
    """The records and the End of Message record that ends every message (section 4.1.1)."""
    return b"".join(r.encode() for r in records) + Record(RecordType.END_OF_MESSAGE, True, b"").encode()


def check_end_of_message(message: Message) -> None:
    """Section 4.1.1: critical, empty, and nothing after it."""
    end = message.records[-1]
    if not end.critical:
        raise FormatError("the End of Message record is not critical")
    if end.body:
        raise FormatError("the End of Message record has a body")
    if message.trailing:
        raise FormatError(f"{message.trailing} octets after the End of Message record")


def u16_list(record: Record) -> list[int]:
    """The body of a Next Protocol or AEAD Algorithm Negotiation record (sections 4.1.2, 4.1.5)."""
    return Reader(record.body).u16_list()


def single_u16(record: Record) -> int:
    """The body of an Error, Warning or Port Negotiation record (sections 4.1.3, 4.1.4, 4.1.8)."""
    if len(record.body) != 2:
        raise FormatError(f"a {record.name} record with a body of {len(record.body)} octets")
    return int.from_bytes(record.body, "big")


def is_flagged(record: Record | None) -> bool:
    """Whether the peer has sent a record that says all by being there. FormatError when it has a body."""
    if record and record.body:
        raise FormatError(f"a {record.name} record with a body")
    return record is not None


def encode_u16s(*values: int) -> bytes:
    """The body of a record that holds 16-bit integers."""
    return b"".join(map(u16, values))


def server_name(record: Record) -> str:
    """The body of a Server Negotiation record (section 4.1.7).

    An IPv4 address in dotted decimal, an IPv6 address without a zone identifier, or a fully qualified domain name
    in ASCII. Anything else raises FormatError: the name goes into a look-up and onto a terminal.
    """
    name = record.body.decode("ascii", errors="replace")
    if not is_server_name(name):
        raise FormatError("the server name is neither an IP address nor a domain name in ASCII")
    return name
