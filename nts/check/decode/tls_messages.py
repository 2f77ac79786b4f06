# SPDX-License-Identifier: MIT
"""TLS 1.3 on the wire (RFC 8446): records, and what we need of handshake messages. No cryptography."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from nts.base.errors import FormatError
from nts.base.registry import ALPN
from nts.base.wire import Reader

RECORD_HEADER = 5
MAX_RECORD = (1 << 14) + 256  # RFC 8446 section 5.2, octets
MAX_HELLO = 1 << 15  # octets; nobody sends a longer ClientHello
TLS13 = 0x0304
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # section 4.1.3


class Content(IntEnum):
    """Record types (section 5.1)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


class Handshake(IntEnum):
    """Handshake message types (section 4)."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    ENCRYPTED_EXTENSIONS = 8
    FINISHED = 20
    KEY_UPDATE = 24


class _Extension(IntEnum):
    SERVER_NAME = 0
    ALPN = 16
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43


@dataclass(frozen=True)
class TlsRecord:
    """A record as on the wire."""

    offset: int
    type: int
    body: bytes = field(repr=False)
    header: bytes = b""


@dataclass(frozen=True)
class Hello:
    """A ClientHello or a ServerHello."""

    random: bytes
    suites: tuple[int, ...]
    """offered, or the chosen one"""
    versions: tuple[int, ...]
    alpn: tuple[bytes, ...]
    server_name: str
    early_data: bool = False

    @property
    def is_retry(self) -> bool:
        """Whether it is a HelloRetryRequest (section 4.1.3)."""
        return self.random == _RETRY


def records(data: bytes) -> tuple[list[TlsRecord], int, str]:
    """The complete records in `data`, the number of octets left, and what is wrong with those, if anything."""
    found: list[TlsRecord] = []
    reader = Reader(data)
    while reader.remaining >= RECORD_HEADER:
        offset, header = reader.position, reader.take(RECORD_HEADER)
        length = int.from_bytes(header[3:], "big")
        if header[0] not in set(Content) or header[1] != 3 or length > MAX_RECORD:
            return found, len(data) - offset, f"no TLS record at offset {offset}"
        if reader.remaining < length:
            return found, len(data) - offset, ""
        found.append(TlsRecord(offset, header[0], reader.take(length), header))
    return found, reader.remaining, ""


def messages(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take the complete handshake messages (section 4) off the front of `buffer`: type and body."""
    found = []
    while len(buffer) >= 4:
        end = 4 + int.from_bytes(buffer[1:4], "big")
        if len(buffer) < end:
            break
        found.append((buffer[0], bytes(buffer[4:end])))
        del buffer[:end]
    return found


def parse_hello(kind: int, body: bytes) -> Hello:
    """A ClientHello or ServerHello (sections 4.1.2, 4.1.3). FormatError when it is malformed."""
    reader = Reader(body)
    legacy_version, random = reader.u16(), reader.take(32)
    _vector(reader, 1)  # the session identifier
    if kind == Handshake.CLIENT_HELLO:
        suites = tuple(Reader(_vector(reader, 2)).u16_list())
        _vector(reader, 1)  # compression
    else:
        suites = (reader.u16(),)
        reader.take(1)
    extensions = _extensions(reader) if reader.remaining else {}
    versions = extensions.get(_Extension.SUPPORTED_VERSIONS)
    return Hello(
        random,
        suites,
        _versions(kind, versions) if versions is not None else (legacy_version,),
        parse_alpn(extensions.get(_Extension.ALPN)),
        _server_name(extensions.get(_Extension.SERVER_NAME, b"")) if kind == Handshake.CLIENT_HELLO else "",
        _Extension.EARLY_DATA in extensions,
    )


def parse_encrypted_extensions(body: bytes) -> tuple[bytes, ...]:
    """The application protocol that a server selected (section 4.3.1): one or none."""
    return parse_alpn(_extensions(Reader(body)).get(_Extension.ALPN))


def _extensions(reader: Reader) -> dict[int, bytes]:
    """Extension bodies by type (section 4.2)."""
    inner, found = Reader(_vector(reader, 2)), {}
    while inner.remaining:
        kind = inner.u16()
        found[kind] = _vector(inner, 2)
    return found


def _vector(reader: Reader, size: int) -> bytes:
    """A vector after its length in `size` octets (section 3.4)."""
    return reader.take(int.from_bytes(reader.take(size), "big"))


def _versions(kind: int, body: bytes) -> tuple[int, ...]:
    reader = Reader(body)
    return tuple((Reader(_vector(reader, 1)) if kind == Handshake.CLIENT_HELLO else reader).u16_list())


def parse_alpn(body: bytes | None) -> tuple[bytes, ...]:
    """The protocol names of an ALPN extension (RFC 7301 section 3.1)."""
    if body is None:
        return ()
    reader, found = Reader(_vector(Reader(body), 2)), []
    while reader.remaining:
        found.append(_vector(reader, 1))
    return tuple(found)


def _server_name(body: bytes) -> str:
    """The host name that a client asks for (RFC 6066 section 3), safe for a terminal."""
    if not body:
        return ""
    reader = Reader(_vector(Reader(body), 2))
    kind, name = reader.take(1), _vector(reader, 2)
    return printable(name) if kind == b"\0" else ""


def printable(octets: bytes) -> str:
    """Text from the wire, safe for a terminal."""
    return "".join(chr(o) if 32 < o < 127 else "?" for o in octets[:255])


def offers_ntske(data: bytes) -> bool | None:
    """Whether a stream begins with a ClientHello that offers ntske/1; None if it takes more octets to tell."""
    buffer = bytearray()
    if data and data[0] != Content.HANDSHAKE:
        return False
    found, _rest, problem = records(data[:MAX_HELLO])
    for record in found:
        if record.type != Content.HANDSHAKE:
            return False
        buffer += record.body
        if buffer and buffer[0] != Handshake.CLIENT_HELLO:
            return False
        for kind, body in messages(buffer):
            try:
                return ALPN in parse_hello(kind, body).alpn
            except FormatError:
                return False
    return False if problem or len(data) > MAX_HELLO else None
