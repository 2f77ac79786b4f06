# SPDX-License-Identifier: MIT
"""A raw NTS-KE client, which can misbehave and shares nothing with nts.system.tls, and NTS-KE records by the octet."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from OpenSSL import SSL

from nts.codec.aead import Aead, SessionKeys


def client_context(ca: Path | None, alpn: Iterable[bytes] = (b"ntske/1",)) -> SSL.Context:
    """A TLS client context; `ca` None does not verify."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if list(alpn):
        context.set_alpn_protos(list(alpn))
    if ca is not None:
        context.load_verify_locations(str(ca))
        context.set_verify(SSL.VERIFY_PEER, lambda *a: bool(a[-1]))
    return context


class RawKe:
    """A TLS connection to an NTS-KE server, to send whatever one likes on it."""

    def __init__(
        self, port: int, ca: Path | None = None, *, alpn: Iterable[bytes] = (b"ntske/1",), host: str = "127.0.0.1",
        context: SSL.Context | None = None, timeout: float = 20,
    ) -> None:  # fmt: skip
        self.sock = socket.create_connection((host, port), timeout)
        # Blocking calls with a receive time-out in the kernel: pyOpenSSL then reports it instead of WantRead loops.
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(timeout), 0))
        self.tls = SSL.Connection(context or client_context(ca, alpn), self.sock)
        self.tls.set_tlsext_host_name(b"localhost")
        self.tls.set_connect_state()
        self.close_notify = False

    def __enter__(self) -> RawKe:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def handshake(self) -> RawKe:
        self.tls.do_handshake()
        return self

    def send(self, *chunks: bytes) -> None:
        """Each chunk in a TLS record of its own."""
        for chunk in chunks:
            self.tls.sendall(chunk)

    def receive(self) -> bytes:
        """All that the server sends until it closes; `close_notify` says whether it closed properly."""
        data = b""
        try:
            while True:
                data += self.tls.recv(65536)
        except SSL.ZeroReturnError:
            self.close_notify = True
        except SSL.SysCallError:
            pass  # a bare end of file, or a reset
        return data

    def export(self, aead: Aead, context: int | None = None) -> SessionKeys:
        """The session keys, on demand with another number in the exporter's context (RFC 8915 section 5.1)."""
        number = aead if context is None else context

        def key(direction: int) -> bytes:
            label = b"EXPORTER-network-time-security"
            return self.tls.export_keying_material(label, aead.key_length, struct.pack(">HHB", 0, number, direction))

        return SessionKeys(aead, key(0), key(1))


def split_records(data: bytes) -> list[tuple[int, bool, bytes]]:
    """(type, critical, body) of each whole NTS-KE record in `data`."""
    records = []
    while len(data) >= 4:
        kind, size = struct.unpack(">HH", data[:4])
        records.append((kind & 0x7FFF, bool(kind & 0x8000), data[4 : 4 + size]))
        data = data[4 + size :]
    return records


def record(kind: int, body: bytes = b"", *, critical: bool = True) -> bytes:
    """One NTS-KE record."""
    return struct.pack(">HH", kind | (0x8000 if critical else 0), len(body)) + body


NEXT_PROTOCOL_NTPV4 = record(1, b"\0\0")
AEAD_15 = record(4, b"\0\x0f")
END = record(0)
GOOD_REQUEST = NEXT_PROTOCOL_NTPV4 + AEAD_15 + END
