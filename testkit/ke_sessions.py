# SPDX-License-Identifier: MIT
"""Sessions with the suite's real NTS-KE server: requests, responses octet by octet, connections that do harm."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from testkit.processes import Process, Suite
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, RawKe, record, split_records

NEXT_PROTOCOL, ERROR, WARNING, AEAD, COOKIE, SERVER, PORT = 1, 2, 3, 4, 5, 6, 7
NPN_EMPTY, AEAD_EMPTY = record(NEXT_PROTOCOL), record(AEAD)


def error(code: int) -> bytes:
    """An error response, octet by octet: Error record, critical, with its code; End of Message."""
    return bytes([0x80, 2, 0, 2, 0, code, 0x80, 0, 0, 0])


UNKNOWN_CRITICAL, BAD_REQUEST, INTERNAL_ERROR = error(0), error(1), error(2)


def padded_request(octets: int) -> bytes:
    """A good request of exactly that length, filled up by an unknown record that is not critical."""
    body = bytes(octets - len(GOOD_REQUEST) - 4)
    return NEXT_PROTOCOL_NTPV4 + record(0x3FFF, body, critical=False) + AEAD_15 + END


def ask(port: int, *chunks: bytes, host: str = "127.0.0.1", ca: Path | None = None, timeout: float = 20) -> bytes:
    """The whole response to a request, after which the server must close with close_notify (A07, check 10)."""
    with RawKe(port, ca, host=host, timeout=timeout) as peer:
        peer.handshake().send(*chunks)
        response = peer.receive()
        assert peer.close_notify, f"closed without close_notify after {response[:32]!r}"
        return response


def check_agreement(response: bytes, ntp_port: int, *, aead_id: int = 15, server: bytes | None = None) -> list[bytes]:
    """Check that a response grants NTPv4 with this algorithm in legal form (checks 6, 8, 9, 31); return its cookies."""
    records = split_records(response)
    assert records[:2] == [(NEXT_PROTOCOL, True, b"\0\0"), (AEAD, True, aead_id.to_bytes(2, "big"))]
    assert records[-1] == (0, True, b"")
    where = [(SERVER, True, server)] if server else []
    assert [r for r in records[2:-1] if r[0] != COOKIE] == [*where, (PORT, True, ntp_port.to_bytes(2, "big"))]
    cookies = [body for kind, _, body in records if kind == COOKIE]
    assert not any(critical for kind, critical, _ in records if kind == COOKIE)  # 4.1.6: SHOULD NOT be
    assert len(cookies) == len(set(cookies)) == 8
    assert len({len(c) for c in cookies}) == 1
    assert len(cookies[0]) % 4 == 0
    assert 12 <= len(cookies[0]) <= 256
    assert len(response) <= 2048
    return cookies


def works(suite: Suite, within: float = 10) -> bool:
    """Whether a normal client gets its cookies within that many seconds."""
    started = time.monotonic()
    check_agreement(ask(suite.ke_port, GOOD_REQUEST, timeout=within), suite.ntp_port)
    return time.monotonic() - started < within


def server_of(suite: Suite) -> Process:
    assert suite.ke is not None
    return suite.ke


@contextlib.contextmanager
def own_server(folder: Path, *arguments: str, **options: dict[str, object]) -> Iterator[Suite]:
    """The NTS-KE server alone, with a configuration of its own."""
    suite = Suite(folder, options=options)
    try:
        suite.start_ke(*arguments)
        yield suite
    finally:
        suite.stop()


@contextlib.contextmanager
def silent_connections(port: int, count: int, sends: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many TCP connections on which no more is sent. Without any octet the kernel holds them back for a while."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(count)]
        for sock in made:
            sock.sendall(sends)
        yield made


def reset(sock: socket.socket) -> None:
    """Close a TCP connection with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def garbage(port: int, data: bytes, *, host: str = "127.0.0.1") -> None:
    """Send something other than TLS, and read until the server closes."""
    with socket.create_connection((host, port), 20) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass
