# SPDX-License-Identifier: MIT
"""An NTS-KE server and an NTP server that do whatever a script tells them, to see how the clients take it.

They share nothing with the suite's servers: octets are put together here, AES-SIV is that of `cryptography`. Each
runs in a thread, sees to one client at a time, remembers what came, and ends with its `with` block. No wait of
theirs is longer than PATIENCE.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from nts import certs
from tests.support import record, split_records

PATIENCE = 20.0  # seconds

# --- certificates ----------------------------------------------------------------------------------------------------


class Authority:
    """A throwaway CA that signs anything."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.pem"
        self.first = folder / "first.pem", folder / "first.key"
        """a certificate for localhost as server_helper.py makes it"""
        certs.make(("localhost",), cert=self.first[0], key=self.first[1], ca=self.ca)
        self._certificate = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def issue(
        self, *, names: tuple[str, ...] = ("localhost",), common_name: str = "nobody",
        days: tuple[float, float] = (-1, 1), self_signed: bool = False, for_servers: bool = True,
    ) -> tuple[Path, Path]:  # fmt: skip
        """A certificate for DNS names and addresses, valid from and until so many days from now, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        today = datetime.datetime.now(datetime.timezone.utc)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if for_servers else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today + datetime.timedelta(days=days[0]))
            .not_valid_after(today + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        stem = self.folder / os.urandom(8).hex()
        chain, private = stem.with_suffix(".pem"), stem.with_suffix(".key")
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return chain, private


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# --- NTS-KE ----------------------------------------------------------------------------------------------------------

END = record(0)


def u16(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def random_cookies(count: int = 8, length: int = 100) -> list[bytes]:
    return [os.urandom(length) for _ in range(count)]


def ke_records(
    *, protocols: bytes | None = b"\0\0", aeads: bytes | None = b"\0\x0f", cookies: list[bytes] | None = None,
    more: bytes = b"", end: bytes = END,
) -> bytes:  # fmt: skip
    """A response, a good one unless told otherwise; None leaves a record out."""
    parts = [
        b"" if protocols is None else record(1, protocols),
        b"" if aeads is None else record(4, aeads),
        more,
        *(record(5, c, critical=False) for c in (random_cookies() if cookies is None else cookies)),
        end,
    ]
    return b"".join(parts)


class Stopped(Exception):
    """The `with` block has ended while a script still ran."""


class AlpnRefused(Exception):
    """Raised in the call-back, so that pyOpenSSL ends the handshake with alert 120."""


@dataclass
class KeSession:
    """What a script has to do with: a finished TLS handshake with a client, and its request."""

    tls: SSL.Connection
    sock: socket.socket
    request: bytes
    stopping: threading.Event
    sent: int = 0
    """octets that the client's side has taken"""

    def send(self, data: bytes, *, each: int = 16384, pause: float = 0.0) -> None:
        """Send in TLS records of so many octets, with a pause after each."""
        for i in range(0, len(data), each):
            if self.stopping.wait(pause) if pause else self.stopping.is_set():
                raise Stopped
            self.tls.sendall(data[i : i + each])
            self.sent += len(data[i : i + each])

    def send_for_ever(self, data: bytes) -> None:
        """Until the client closes or the test is over."""
        while True:
            self.send(data)


KeScript = Callable[[KeSession], None]


def say(response: bytes, *, each: int = 16384, pause: float = 0.0) -> KeScript:
    """A script that sends this response and closes."""
    return lambda session: session.send(response, each=each, pause=pause)


@dataclass
class FakeKe:
    """An NTS-KE server on 127.0.0.1."""

    certificate: tuple[Path, Path]
    script: KeScript = field(default_factory=lambda: say(ke_records()))
    alpn: bytes | None = b"ntske/1"
    """what it selects if offered; None: it does not know of ALPN"""
    alpn_strict: bool = True
    """refuse the handshake with alert 120 when the client does not offer it"""
    newest: int | None = None
    """the newest TLS version it speaks"""
    raw: Callable[[socket.socket], None] | None = None
    """instead of TLS: do this with the accepted TCP connection"""

    def __post_init__(self) -> None:
        self.connections = 0
        self.received: list[bytes] = []
        """application data of each connection: requests, and whatever should not have come"""
        self.names: list[bytes | None] = []
        """the server name that each client indicated"""
        self.close_notify: list[bool] = []
        """whether the client ended each finished session with close_notify"""
        self.sent = 0
        """octets of application data that went to the last client"""
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeKe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive(), "the fake NTS-KE server does not stop"

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = self._listener.accept()
                with sock:
                    self.connections += 1
                    self._session(sock)

    def _session(self, sock: socket.socket) -> None:
        if self.raw is not None:
            with contextlib.suppress(OSError):
                self.raw(sock)
            return
        # Blocking, with a time-out in the kernel that pyOpenSSL does not see as WantRead.
        sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", 5, 0))
        tls = SSL.Connection(self._context(), sock)
        tls.set_accept_state()
        index = len(self.received)
        self.received.append(b"")
        self.close_notify.append(False)
        with contextlib.suppress(SSL.Error, OSError, Stopped, AlpnRefused):
            tls.do_handshake()
            self.names.append(tls.get_servername())
            self._read_request(tls, index)
            if self.received[index].endswith(END):
                session = KeSession(tls, sock, self.received[index], self._stopping)
                try:
                    self.script(session)
                finally:
                    self.sent = session.sent
                tls.shutdown()
            with contextlib.suppress(SSL.ZeroReturnError):
                while data := tls.recv(65536):
                    self.received[index] += data
            self.close_notify[index] = bool(tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN)

    def _read_request(self, tls: SSL.Connection, index: int) -> None:
        while not self.received[index].endswith(END):
            try:
                self.received[index] += tls.recv(65536)
            except SSL.ZeroReturnError:
                return

    def _context(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        if self.newest is not None:
            context.set_max_proto_version(self.newest)
        context.use_certificate_chain_file(str(self.certificate[0]))
        context.use_privatekey_file(str(self.certificate[1]))
        if self.alpn is not None:
            context.set_alpn_select_callback(self._select_alpn)
        return context

    def _select_alpn(self, _connection: SSL.Connection, offered: list[bytes]) -> bytes:
        assert self.alpn is not None
        if self.alpn in offered or not self.alpn_strict:
            return self.alpn
        raise AlpnRefused

    @property
    def request_records(self) -> list[tuple[int, bool, bytes]]:
        """The records of the only request."""
        (request,) = self.received
        return split_records(request)


# --- NTP -------------------------------------------------------------------------------------------------------------

UID, COOKIE, PLACEHOLDER, AUTH = 0x0104, 0x0204, 0x0304, 0x0404
_HEADER = struct.Struct(">BBbbII4sQQQQ")
_EPOCH = 2_208_988_800


def ef(kind: int, body: bytes) -> bytes:
    """An extension field."""
    body += bytes(-len(body) % 4)
    return u16(kind, 4 + len(body)) + body


def fields_of(packet: bytes) -> list[tuple[int, bytes]]:
    """Type and body of the extension fields of a packet that is known to be well-formed."""
    fields, rest = [], packet[48:]
    while rest:
        kind, length = struct.unpack(">HH", rest[:4])
        assert 4 <= length <= len(rest)
        fields.append((kind, rest[4:length]))
        rest = rest[length:]
    return fields


def ntp_now() -> int:
    return (time.time_ns() << 32) // 1_000_000_000 + (_EPOCH << 32)


@dataclass(frozen=True)
class Keys:
    """The keys of an association with AEAD 15."""

    c2s: bytes = field(default_factory=lambda: os.urandom(32))
    s2c: bytes = field(default_factory=lambda: os.urandom(32))


@dataclass(frozen=True)
class NtpRequest:
    """A datagram that a client sent, which must be a well-formed packet."""

    packet: bytes
    port: int
    """the client's"""
    received: int = field(default_factory=ntp_now)

    def body(self, kind: int) -> bytes:
        """The body of the one field of this type."""
        (found,) = [body for k, body in fields_of(self.packet) if k == kind]
        return found

    @property
    def transmit(self) -> int:
        return int.from_bytes(self.packet[40:48], "big")

    @property
    def placeholders(self) -> list[bytes]:
        return [body for kind, body in fields_of(self.packet) if kind == PLACEHOLDER]

    def is_authentic(self, keys: Keys) -> bool:
        """Whether the authenticator is the last field and good under the C2S key."""
        offset = 48 + sum(4 + len(body) for _, body in fields_of(self.packet)[:-1])
        body = self.body(AUTH)
        nonce_length, length = struct.unpack(">HH", body[:4])
        nonce, sealed = body[4 : 4 + nonce_length], body[4 + nonce_length :][:length]
        try:
            return not AESSIV(keys.c2s).decrypt(sealed, [self.packet[:offset], nonce])
        except InvalidTag:
            return False

    def header(
        self, *, leap: int = 0, version: int = 4, mode: int = 4, stratum: int = 2, delay: int = 0, dispersion: int = 0,
        reference: bytes = b"\x7f\x7f\x01\x01", origin: int | None = None, receive: int | None = None,
        transmit: int | None = None,
    ) -> bytes:  # fmt: skip
        """The header of a genuine reply, but for what a test wants otherwise."""
        now = ntp_now()
        return _HEADER.pack(
            leap << 6 | version << 3 | mode, stratum, 0, -20, delay, dispersion, reference, now,
            self.transmit if origin is None else origin,
            self.received if receive is None else receive,
            now if transmit is None else transmit,
        )  # fmt: skip

    def uid(self) -> bytes:
        return ef(UID, self.body(UID))

    def kiss(self, code: bytes, *, uid: bytes | None = None) -> bytes:
        """An unprotected kiss-o'-death."""
        return self.header(leap=3, stratum=0, reference=code) + (self.uid() if uid is None else uid)

    def time(
        self, key: bytes, *, cookies: list[bytes] | None = None, uid: bytes | None = None, header: bytes | None = None,
        clear: bytes = b"", after: bytes = b"",
    ) -> bytes:  # fmt: skip
        """A genuine reply under the S2C key, but for what a test wants otherwise."""
        if cookies is None:  # as many as were asked for, of the length that was spent
            cookies = random_cookies(1 + len(self.placeholders), len(self.body(COOKIE)))
        head = (self.header() if header is None else header) + (self.uid() if uid is None else uid) + clear
        nonce = os.urandom(16)
        inside = b"".join(ef(COOKIE, c) for c in cookies)
        sealed = AESSIV(key).encrypt(inside, [head, nonce])
        return head + ef(AUTH, u16(16, len(sealed)) + nonce + sealed + bytes(-len(sealed) % 4)) + after


NtpScript = Callable[[NtpRequest, "FakeNtp"], Sequence[bytes | float]]
"""What to send back for a request, with pauses in seconds; what came before it is in `FakeNtp.requests`."""


@dataclass
class FakeNtp:
    """An NTP server on a loopback address, for an association with these keys."""

    script: NtpScript
    host: str = "127.0.0.1"
    flood: bytes = b""
    """from the first request on, send this to the client without a pause"""

    def __post_init__(self) -> None:
        self.keys = Keys()
        self.requests: list[NtpRequest] = []
        """all that came"""
        self.sent: list[bytes] = []
        self._stopping = threading.Event()
        self._sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((self.host, 0))
        self._sock.setblocking(False)
        self.port = int(self._sock.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeNtp:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._sock.close()
        assert not self._thread.is_alive(), "the fake NTP server does not stop"

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if not select.select([self._sock], [], [], 0.05)[0]:
                continue
            try:
                packet, peer = self._sock.recvfrom(65535)
            except OSError:
                continue  # the network reports that a client has gone
            request = NtpRequest(packet, peer[1])
            self.requests.append(request)
            for reply in self.script(request, self):
                if isinstance(reply, (int, float)):
                    self._stopping.wait(reply)
                    continue
                self.sent.append(reply)
                self._sock.sendto(reply, peer)
            end = time.monotonic() + PATIENCE / 2
            while self.flood and not self._stopping.is_set() and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    for _ in range(1000):
                        self._sock.sendto(self.flood, peer)

    def spent(self) -> list[bytes]:
        """The cookies that came, in their order."""
        return [r.body(COOKIE) for r in self.requests]


@contextlib.contextmanager
def closed_udp_port() -> Iterator[int]:
    """A port on 127.0.0.1 on which nobody listens, kept so by a socket that is connected elsewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
        sock.connect(("127.0.0.1", 9))  # takes datagrams from there alone
        yield port
