# SPDX-License-Identifier: MIT
"""One TLS 1.3 connection from the octets of both ends, decrypted as far as a key log allows."""

from __future__ import annotations

from dataclasses import dataclass, field

from nts.base.errors import AuthError, FormatError
from nts.base.registry import ALERT_CLOSE_NOTIFY, ALERT_NAMES, ALPN
from nts.check.decode import tls_messages
from nts.check.decode.problems import Problem, crit, info, must
from nts.check.decode.streams import Stream
from nts.check.decode.tls_keys import (
    CLIENT_HANDSHAKE,
    CLIENT_TRAFFIC,
    EXPORTER_SECRET,
    SERVER_HANDSHAKE,
    SERVER_TRAFFIC,
    SUITES,
    KeyLog,
    Suite,
    TrafficKey,
)
from nts.check.decode.tls_messages import TLS13, Content, Handshake, Hello, TlsRecord

_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", TLS13: "TLS 1.3"}
MAX_HANDSHAKE = 1 << 17  # octets of one side's incomplete handshake messages


@dataclass
class Side:
    """What one end sent."""

    data: bytes = field(default=b"", repr=False)
    """application data: NTS-KE"""
    hello: Hello | None = None
    alpn: tuple[bytes, ...] | None = None
    """from EncryptedExtensions; None: not seen"""
    alerts: list[int] = field(default_factory=list)
    key_updates: int = 0
    records: int = 0
    """how many TLS records it sent"""
    ended: bool = False
    """whether the TCP stream was seen completely, with its end"""
    closed: bool = False
    """whether close_notify was seen"""
    missing: list[str] = field(default_factory=list)
    """what could not be read, and why"""


@dataclass
class TlsSession:
    """A connection."""

    client: Side
    server: Side
    suite: Suite | None = None
    exporter_secret: bytes | None = field(default=None, repr=False)
    problems: list[Problem] = field(default_factory=list)

    @property
    def version(self) -> str:
        """The TLS version in words."""
        hello = self.server.hello
        return "unknown" if hello is None else _VERSIONS.get(hello.versions[0], f"version {hello.versions[0]:#06x}")


def decrypt(client: Stream, server: Stream, log: KeyLog) -> TlsSession:
    """Decrypt a connection. The result says what is missing or wrong. Never raises."""
    hello, answer = _hello(client, Handshake.CLIENT_HELLO), _hello(server, Handshake.SERVER_HELLO)
    secrets = log.get(hello.random, {}) if hello else {}
    suite = SUITES.get(answer.suites[0]) if answer else None
    session = TlsSession(
        _open_side(client, suite, secrets.get(CLIENT_HANDSHAKE), secrets.get(CLIENT_TRAFFIC)),
        _open_side(server, suite, secrets.get(SERVER_HANDSHAKE), secrets.get(SERVER_TRAFFIC)),
        suite,
        secrets.get(EXPORTER_SECRET),
    )
    session.client.hello, session.server.hello = hello, answer
    session.problems += _problems_of(session, bool(log), bool(secrets))
    return session


def _hello(stream: Stream, kind: Handshake) -> Hello | None:
    """The hello that counts: the client's first one, whose random is in the key log; the server's last one."""
    buffer, found = bytearray(), None
    for record in tls_messages.records(stream.data)[0]:
        if record.type not in (Content.HANDSHAKE, Content.CHANGE_CIPHER_SPEC):
            break
        buffer += record.body if record.type == Content.HANDSHAKE else b""
        for number, body in tls_messages.messages(buffer):
            if number != kind:
                return found
            try:
                found = tls_messages.parse_hello(number, body)
            except FormatError:
                return found
            if kind == Handshake.CLIENT_HELLO or not found.is_retry:
                return found
    return found


class _Opener:
    """Decrypts the records of one side."""

    def __init__(self, suite: Suite | None, handshake: bytes | None, traffic: bytes | None) -> None:
        self.side, self._data, self._buffer = Side(), bytearray(), bytearray()
        self._key, self._later = self._make(suite, handshake), self._make(suite, traffic)
        self._in_handshake = True

    def _make(self, suite: Suite | None, secret: bytes | None) -> TrafficKey | None:
        try:
            return TrafficKey(suite, secret) if suite and secret else None
        except AuthError as e:
            self.side.missing.append(str(e))
            return None

    def take(self, record: TlsRecord) -> bool:
        """Read a record; False if reading cannot go on."""
        if record.type == Content.CHANGE_CIPHER_SPEC:
            return True
        kind, body = record.type, record.body
        if kind == Content.APPLICATION_DATA:
            if self._key is None and self._later is None:
                return True  # without keys, only the structure
            try:
                kind, body = self._open(record)
            except AuthError as e:
                self.side.missing.append(f"from the record at offset {record.offset} on: {e}")
                return False
        return self._sort(kind, body)

    def _open(self, record: TlsRecord) -> tuple[int, bytes]:
        if self._key is not None:
            try:
                return self._key.open(record.header, record.body)
            except AuthError:
                if not self._in_handshake or self._later is None:
                    raise
        # The log may lack the handshake secrets and have those for what follows.
        assert self._later is not None
        try:
            opened = self._later.open(record.header, record.body)
        except AuthError:
            if self._key is not None:
                raise
            return Content.CHANGE_CIPHER_SPEC, b""  # still the handshake: skip it
        self._key, self._in_handshake = self._later, False
        return opened

    def _sort(self, kind: int, body: bytes) -> bool:
        match kind:
            case Content.APPLICATION_DATA:
                self._data += body
            case Content.ALERT if len(body) == 2:
                self.side.alerts.append(body[1])
            case Content.HANDSHAKE:
                self._buffer += body
                if len(self._buffer) > MAX_HANDSHAKE:
                    self.side.missing.append("a handshake message is too long")
                    return False
                return all(self._message(*message) for message in tls_messages.messages(self._buffer))
        return True

    def _message(self, kind: int, body: bytes) -> bool:
        match kind:
            case Handshake.ENCRYPTED_EXTENSIONS:
                try:
                    self.side.alpn = tls_messages.parse_encrypted_extensions(body)
                except FormatError as e:
                    self.side.missing.append(f"its EncryptedExtensions: {e}")
            case Handshake.FINISHED:
                self._key, self._in_handshake = self._later, False
                if self._key is None:
                    self.side.missing.append("the key log has no secret for what follows the handshake")
                    return False
            case Handshake.KEY_UPDATE if self._key is not None and not self._in_handshake:
                self._key = self._key.updated()
                self.side.key_updates += 1
        return True

    def finish(self) -> Side:
        self.side.data = bytes(self._data)
        return self.side


def _open_side(stream: Stream, suite: Suite | None, handshake: bytes | None, traffic: bytes | None) -> Side:
    opener = _Opener(suite, handshake, traffic)
    found, rest, problem = tls_messages.records(stream.data)
    for record in found:
        if not opener.take(record):
            break
    side = opener.finish()
    side.records = len(found)
    if stream.missing:
        side.missing.append(f"not in the capture: {stream.missing} of the TCP stream")
    elif problem:
        side.missing.append(problem)
    elif rest:
        side.missing.append(f"the end of a TLS record, of which only {rest} octets are there")
    side.ended = stream.ended and not side.missing
    side.closed = ALERT_CLOSE_NOTIFY in side.alerts
    return side


def _problems_of(session: TlsSession, any_log: bool, known: bool) -> list[Problem]:
    found: list[Problem] = []
    hello, answer = session.client.hello, session.server.hello
    if hello is None:
        found.append(info("no ClientHello: the beginning of the connection is not in the capture, or it is not TLS"))
    else:
        if TLS13 not in hello.versions:
            found.append(crit("the client does not offer TLS 1.3", "3"))
        if ALPN not in hello.alpn:
            found.append(must("the client does not offer the application protocol ntske/1", "4"))
        if hello.early_data:
            found.append(must("the client sends early data", "4"))
    if answer is not None and answer.versions[:1] != (TLS13,):
        found.append(crit(f"the server speaks {session.version}, although only TLS 1.3 is allowed", "3"))
    if session.server.alpn is not None and session.server.alpn != (ALPN,):
        found.append(must("the server does not select the application protocol ntske/1", "4"))
    found += _missing_secrets(session, any_log, known)
    for name, side in (("client", session.client), ("server", session.server)):
        found += [info(f"the {name}: {what}") for what in side.missing]
        others = [a for a in side.alerts if a != ALERT_CLOSE_NOTIFY]
        found += [info(f"the {name} sent alert {a}, {ALERT_NAMES.get(a, 'unknown')}") for a in others]
    return found


def _missing_secrets(session: TlsSession, any_log: bool, known: bool) -> list[Problem]:
    answer = session.server.hello
    if answer is not None and session.suite is None and answer.versions[:1] == (TLS13,):
        return [info(f"cipher suite {answer.suites[0]:#06x} is unknown here: nothing can be decrypted")]
    if not known and session.client.hello is not None:
        why = "the key log does not have it" if any_log else "that takes a key log"
        return [info(f"this connection cannot be decrypted: {why}")]
    if known and session.exporter_secret is None:
        return [info("the key log has no EXPORTER_SECRET for this connection, so C2S and S2C cannot be derived")]
    return []
