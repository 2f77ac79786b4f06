# SPDX-License-Identifier: MIT
"""What one connection to an NTS-KE server brought. Pure: the probe fills it in, judgements read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from cryptography import x509

from nts.base.errors import FormatError
from nts.base.registry import ALPN, ERROR_NAMES, NTP_PORT, RecordType
from nts.check.findings import counted, listed
from nts.codec import records
from nts.codec.aead import Exporter
from nts.codec.records import Message, MessageReader, Record

MAX_ANSWER = 131072  # octets; the probe hangs up on a server that sends more


class End(Enum):
    """How a connection ended. The value completes "the server ..."."""

    CLOSE_NOTIFY = "closed with close_notify"
    EOF = "closed without close_notify"
    RESET = "reset the connection"
    ALERT = "sent a TLS alert"
    BROKEN = "broke TLS"
    FLOOD = f"sent more than {MAX_ANSWER} octets"
    OPEN = "left the connection open"


CLOSED = frozenset({End.CLOSE_NOTIFY, End.EOF, End.RESET, End.ALERT})
_SHORT = {RecordType.NEXT_PROTOCOL: "protocols", RecordType.AEAD_ALGORITHM: "AEAD"}


@dataclass(frozen=True)
class KeAnswer:
    """How a server reacted in one connection. `str` describes it in one line, without cookies."""

    octets: bytes = field(default=b"", repr=False)
    """all application data received"""
    end: End = End.OPEN
    detail: str = ""
    """about the end: the alert's name, or OpenSSL's words"""
    alert: int | None = None
    """the alert that ended the connection, unless it was close_notify"""
    handshake: bool = True
    """whether the TLS handshake succeeded; if not, `end` says what happened instead"""
    alpn: bytes = ALPN
    """the protocol that the server selected; empty: none"""
    tls_version: str = "TLSv1.3"
    group: str = ""
    """of the TLS key exchange, by OpenSSL's name"""
    cipher: str = ""
    certificate: x509.Certificate | None = field(default=None, repr=False)
    """the server's, whether it is acceptable or not; None if it is malformed"""
    address: str = ""
    """the server's IP address"""
    seconds: float = 0.0
    """from the handshake to the complete answer; without one, to the end or to when we gave up"""
    prompted: bool = False
    """whether the connection ended only after our close_notify"""
    sent: bytes = field(default=b"", repr=False)
    """all application data that we sent"""
    exporter: Exporter | None = field(default=None, repr=False, compare=False)
    """of the TLS connection; None without a handshake"""

    @cached_property
    def _parsed(self) -> tuple[Message | None, str]:
        try:
            message = MessageReader(MAX_ANSWER).feed(self.octets)
        except FormatError as e:
            return None, str(e)
        return message, "" if message or not self.octets else f"{len(self.octets)} octets without an End of Message"

    @property
    def message(self) -> Message | None:
        """The first message in the octets, if it is complete."""
        return self._parsed[0]

    @property
    def problem(self) -> str:
        """Why the octets are not a message; empty if they are, or if none came."""
        return self._parsed[1]

    def of(self, kind: RecordType) -> list[Record]:
        """The message's records of one type."""
        return [r for r in self.message.records if r.type == kind] if self.message else []

    @property
    def cookies(self) -> list[bytes]:
        """The bodies of the New Cookie records."""
        return [r.body for r in self.of(RecordType.NEW_COOKIE)]

    @property
    def time_server(self) -> tuple[str, int]:
        """Name or address of the time server, by default this server's, and its UDP port (sections 4.1.7, 4.1.8).

        FormatError when a record is malformed.
        """
        servers, ports = self.of(RecordType.SERVER), self.of(RecordType.PORT)
        server = records.server_name(servers[0]) if servers else self.address
        return server, records.single_u16(ports[0]) if ports else NTP_PORT

    @property
    def closed(self) -> bool:
        """Whether the server ended the connection, in whatever way, before we did."""
        return self.end in CLOSED and not self.prompted

    @property
    def ending(self) -> str:
        """How the connection ended, to complete "the server ..."."""
        late = ", once we had" if self.prompted and self.end in CLOSED else ""
        return f"{self.end.value}{f' ({self.detail})' if self.detail else ''}{late}"

    def __str__(self) -> str:
        if not self.handshake:
            return f"no TLS: the server {self.ending}"
        if self.message is None:
            return f"{self.problem or 'no answer'}: the server {self.ending} after {self.seconds:.1f} s"
        parts = [_shown(r) for r in self.message.records[:-1] if r.type != RecordType.NEW_COOKIE]
        if self.cookies:
            parts.append(counted(len(self.cookies), "cookie"))
        if self.message.trailing:
            parts.append(f"{self.message.trailing} octets after the end")
        return listed(parts) if parts else "an End of Message record and nothing else"


def _shown(record: Record) -> str:
    try:
        match record.type:
            case RecordType.NEXT_PROTOCOL | RecordType.AEAD_ALGORITHM:
                numbers = records.u16_list(record)
                return f"{_SHORT[RecordType(record.type)]} [{listed(numbers) if numbers else ''}]"
            case RecordType.ERROR:
                code = records.single_u16(record)
                return f"Error {code} ({ERROR_NAMES.get(code, 'unknown')})"
            case RecordType.WARNING:
                return f"Warning {records.single_u16(record)}"
            case RecordType.SERVER:
                return f"server {records.server_name(record)}"
            case RecordType.PORT:
                return f"port {records.single_u16(record)}"
    except FormatError as e:
        return f"a malformed {record.name} record ({e})"
    return f"a record of type {record.type}"
