# SPDX-License-Identifier: MIT
"""What came of one connection to an NTS-KE server. Pure: the probe fills it in, judgements read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from nts.base.errors import FormatError
from nts.base.registry import ALPN, NTP_PORT, RecordType
from nts.codec import records
from nts.codec.aead import Aead, Exporter, SessionKeys, export_keys
from nts.codec.records import Message, MessageReader, Record

MAX_ANSWER = 131072  # octets; a server that sends more is cut off


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


@dataclass(frozen=True)
class KeAnswer:
    """How a server took what was sent to it in one connection."""

    octets: bytes = field(default=b"", repr=False)
    """all application data that came"""
    end: End = End.OPEN
    detail: str = ""
    """of the end: the alert's name, or OpenSSL's words"""
    alert: int | None = None
    """the number of the alert that ended it, if not close_notify"""
    handshake: bool = True
    """whether TLS was set up; if not, the rest says why not"""
    alpn: bytes = ALPN
    """the protocol the server selected; empty: none"""
    tls_version: str = "TLSv1.3"
    address: str = ""
    """the server's IP address"""
    seconds: float = 0.0
    """from the handshake to the complete answer, to the end where there is none, or to when we gave up"""
    prompted: bool = False
    """whether it ended only after we had sent close_notify"""
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
        """Why octets that came are no message."""
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
        """Its name or address, this server's if it names none, and the UDP port (sections 4.1.7, 4.1.8).

        FormatError when they are malformed.
        """
        servers, ports = self.of(RecordType.SERVER), self.of(RecordType.PORT)
        server = records.server_name(servers[0]) if servers else self.address
        return server, records.single_u16(ports[0]) if ports else NTP_PORT

    @property
    def closed(self) -> bool:
        """Whether the server ended the connection, in one way or another, before we had."""
        return self.end in CLOSED and not self.prompted

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        late = ", once we had" if self.prompted and self.end in CLOSED else ""
        return f"{self.end.value}{f' ({self.detail})' if self.detail else ''}{late}"

    def keys(self, aead: Aead, context: int | None = None) -> SessionKeys:
        """Both keys of the session (RFC 8915 section 5.1), on demand for another number in the exporter's context.

        Only after a handshake.
        """
        assert self.exporter is not None
        return export_keys(self.exporter, aead, context)
