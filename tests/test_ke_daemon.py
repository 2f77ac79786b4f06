# SPDX-License-Identifier: MIT
"""The real NTS-KE server process against a peer that sends it everything: checks 1 to 32 of conformance.md, E.1.

What a request means is tested with the pure functions; here it is octets on the wire, time, numbers and processes.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from OpenSSL import SSL

from nts import aead, ke_daemon, keystore, ts_client
from nts.registry import AeadId
from tests import support
from tests.support import (
    AEAD_15,
    END,
    GOOD_REQUEST,
    NEXT_PROTOCOL_NTPV4,
    ROOT,
    Process,
    RawKe,
    Suite,
    children,
    eventually,
    is_running,
    kill_orphans,
    record,
    running,
    workers_of,
)

ALERT_NO_APPLICATION_PROTOCOL = "no application protocol"
NEXT_PROTOCOL, ERROR, WARNING, AEAD, COOKIE, SERVER, PORT = 1, 2, 3, 4, 5, 6, 7
NPN_EMPTY, AEAD_EMPTY = record(NEXT_PROTOCOL), record(AEAD)


def error(code: int) -> bytes:
    """An error response, octet by octet: Error record, critical, with its code; End of Message."""
    return bytes([0x80, 2, 0, 2, 0, code, 0x80, 0, 0, 0])


UNKNOWN_CRITICAL, BAD_REQUEST, INTERNAL_ERROR = error(0), error(1), error(2)


def padded_request(octets: int) -> bytes:
    """A good request of exactly that length, with an unknown record that is not critical in it."""
    body = bytes(octets - len(GOOD_REQUEST) - 4)
    return NEXT_PROTOCOL_NTPV4 + record(0x3FFF, body, critical=False) + AEAD_15 + END


def ask(port: int, *chunks: bytes, host: str = "127.0.0.1", ca: Path | None = None, timeout: float = 20) -> bytes:
    """The whole response to a request; the server must end with close_notify (A07, E.1 10)."""
    with RawKe(port, ca, host=host, timeout=timeout) as peer:
        peer.handshake().send(*chunks)
        response = peer.receive()
        assert peer.close_notify, f"closed without close_notify after {response[:32]!r}"
        return response


def check_agreement(response: bytes, ntp_port: int, *, aead_id: int = 15, server: bytes | None = None) -> list[bytes]:
    """That a response grants NTPv4 with this algorithm in the legal form (E.1 6, 8, 9, 31); its cookies."""
    records = support.split_records(response)
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
def silent_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """That many TCP connections on which nothing is sent."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(count)]


def reset(sock: socket.socket) -> None:
    """Close a TCP connection with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- TLS (A01, A03, A06) ---------------------------------------------------------------------------------------------


def test_tls_1_2_is_refused(suite: Suite) -> None:
    """A01, E.1 1: a ClientHello of at most TLS 1.2 gets alert 70, protocol_version."""
    context = support.client_context(suite.ca)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with RawKe(suite.ke_port, context=context) as peer, pytest.raises(SSL.Error, match="protocol version"):
        peer.handshake()
    assert works(suite)


def test_tls_1_3_and_a_valid_chain_for_the_name_and_the_addresses(suite: Suite) -> None:
    """A01, E.1 1 and 5."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        assert peer.handshake().tls.get_protocol_version_name() == "TLSv1.3"
    context = ssl.create_default_context(cafile=suite.ca)
    context.set_alpn_protocols(["ntske/1"])
    for name in ("localhost", "127.0.0.1"):
        with (
            socket.create_connection(("127.0.0.1", suite.ke_port), 20) as sock,
            context.wrap_socket(sock, server_hostname=name) as tls,
        ):
            assert tls.selected_alpn_protocol() == "ntske/1"


def test_alpn_is_selected_among_several(suite: Suite) -> None:
    """A03, E.1 2: `h2, ntske/1` -> `ntske/1`."""
    with RawKe(suite.ke_port, suite.ca, alpn=[b"h2", b"ntske/1"]) as peer:
        peer.handshake().send(GOOD_REQUEST)
        assert peer.tls.get_alpn_proto_negotiated() == b"ntske/1"
        check_agreement(peer.receive(), suite.ntp_port)


def test_without_alpn_nothing_is_delivered(suite: Suite) -> None:
    """A03, E.1 3: no octet of application data, and the connection is closed."""
    with RawKe(suite.ke_port, suite.ca, alpn=[]) as peer:
        started = time.monotonic()
        with contextlib.suppress(SSL.Error):  # the server may have closed before the request is out
            peer.handshake().send(GOOD_REQUEST)
        assert peer.receive() == b""
        assert time.monotonic() - started < 2
    assert works(suite)


def test_foreign_alpn_ends_the_handshake_with_alert_120(suite: Suite) -> None:
    """A03, E.1 4, RFC 7301 section 3.2."""
    for alpn in ([b"h2"], [b"ntske/2"], [b"ntske/1x", b"http/1.1"]):
        with (
            RawKe(suite.ke_port, suite.ca, alpn=alpn) as peer,
            pytest.raises(SSL.Error, match=ALERT_NO_APPLICATION_PROTOCOL),
        ):
            peer.handshake()
    assert works(suite)


def test_no_session_can_be_resumed(suite: Suite) -> None:
    """A06: a client that offers the session it has had gets a full handshake, so 0-RTT is out of the question too."""
    context = ssl.create_default_context(cafile=suite.ca)
    context.set_alpn_protocols(["ntske/1"])
    session = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", suite.ke_port), 20) as sock,
            context.wrap_socket(sock, server_hostname="localhost", session=session) as tls,
        ):
            tls.sendall(GOOD_REQUEST)
            assert tls.recv(65536)
            assert tls.session_reused is False
            session = tls.session
            assert session is not None


# --- requests and responses (A07 to A29) -----------------------------------------------------------------------------

GRANTED = {
    "E.1 6 basic": [GOOD_REQUEST],
    "E.1 7 AEAD before Next Protocol": [AEAD_15 + NEXT_PROTOCOL_NTPV4 + END],
    "A25 AEAD record not critical": [NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x0f", critical=False) + END],
    "E.1 11 TLS records of one octet": [bytes([o]) for o in GOOD_REQUEST],
    "E.1 12 1024 octets": [padded_request(1024)],
    "A10 16384 octets, the most": [padded_request(16384)],
    "E.1 13 unknown record 0x3fff, not critical": [record(0x3FFF, b"x", critical=False) + GOOD_REQUEST],
    "E.1 13 type 0x0801 is not 1": [record(0x0801, b"\0\0", critical=False) + GOOD_REQUEST],
    "E.1 13 type 0x4001 is not 1": [record(0x4001, b"abc", critical=False) + GOOD_REQUEST],
    "A12 type 0x7fff": [record(0x7FFF, b"", critical=False) + GOOD_REQUEST],
    "E.1 26 unknown protocol and NTPv4": [record(NEXT_PROTOCOL, b"\x77\x77\0\0") + AEAD_15 + END],
    "E.1 28 15 after 399 unknown": [NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\xff\xf0" * 399 + b"\0\x0f") + END],
    "E.1 31 wishes for a foreign server": [
        NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(SERVER, b"192.0.2.1") + record(PORT, b"\0\x7b") + END
    ],
    "A31 a wish that is not a name": [NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(SERVER, b"\xff \0") + END],
}


@pytest.mark.parametrize("chunks", GRANTED.values(), ids=GRANTED.keys())
def test_request_is_granted(suite: Suite, chunks: list[bytes]) -> None:
    """A08, A10."""
    check_agreement(ask(suite.ke_port, *chunks, ca=suite.ca), suite.ntp_port)


EXACT = {
    "E.1 14 unknown critical record": (record(0x3FFF) + GOOD_REQUEST, UNKNOWN_CRITICAL),
    "E.1 14 type 0x4001, critical": (NEXT_PROTOCOL_NTPV4 + record(0x4001, b"\0\0") + AEAD_15 + END, UNKNOWN_CRITICAL),
    "E.1 15 no Next Protocol": (AEAD_15 + END, BAD_REQUEST),
    "E.1 16 no AEAD": (NEXT_PROTOCOL_NTPV4 + END, BAD_REQUEST),
    "E.1 15 End of Message alone": (END, BAD_REQUEST),
    "E.1 17 two Next Protocols": (NEXT_PROTOCOL_NTPV4 + GOOD_REQUEST, BAD_REQUEST),
    "E.1 18 two AEADs": (AEAD_15 + GOOD_REQUEST, BAD_REQUEST),
    "E.1 19 odd Next Protocol": (record(NEXT_PROTOCOL, b"\0\0\0") + AEAD_15 + END, BAD_REQUEST),
    "E.1 19 empty Next Protocol": (NPN_EMPTY + AEAD_15 + END, BAD_REQUEST),
    "E.1 19 Next Protocol not critical": (record(1, b"\0\0", critical=False) + AEAD_15 + END, BAD_REQUEST),
    "E.1 20 odd AEAD": (NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\x0f") + END, BAD_REQUEST),
    "E.1 20 empty AEAD": (NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END, BAD_REQUEST),
    "E.1 21 End of Message not critical": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, critical=False), BAD_REQUEST),
    "E.1 21 End of Message with a body": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, b"x"), BAD_REQUEST),
    "E.1 21 record after the end": (GOOD_REQUEST + record(0x3FFF, critical=False), BAD_REQUEST),
    "E.1 21 two ends": (GOOD_REQUEST + END, BAD_REQUEST),
    "E.1 21 one octet after the end": (GOOD_REQUEST + b"\0", BAD_REQUEST),
    "E.1 32 two requests at once": (GOOD_REQUEST + GOOD_REQUEST, BAD_REQUEST),
    "E.1 24 Error record": (record(ERROR, b"\0\1") + GOOD_REQUEST, BAD_REQUEST),
    "E.1 24 Warning record": (record(WARNING, b"\0\0", critical=False) + GOOD_REQUEST, BAD_REQUEST),
    "E.1 24 Cookie record": (record(COOKIE, bytes(100), critical=False) + GOOD_REQUEST, BAD_REQUEST),
    "E.1 25 unknown protocol": (record(NEXT_PROTOCOL, b"\x77\x77") + AEAD_15 + END, NPN_EMPTY + END),
    "E.1 25 unknown protocol, no AEAD": (record(NEXT_PROTOCOL, b"\x77\x77") + END, NPN_EMPTY + END),
    "E.1 27 unknown AEAD": (
        NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\xff\xf0") + END, NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END,
    ),
    "E.1 29 AEAD 30 and 31": (
        NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x1e\0\x1f") + END, NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END,
    ),
    "A10 more than 16384 octets": (padded_request(16385), BAD_REQUEST),
    "A10 records without end": (record(0x3FFF, bytes(1000), critical=False) * 20, BAD_REQUEST),
}  # fmt: skip


@pytest.mark.parametrize(("request_octets", "response"), EXACT.values(), ids=EXACT.keys())
def test_response_is_exactly(suite: Suite, request_octets: bytes, response: bytes) -> None:
    """A07, A13, A14, A16, A18, A20, A21, A25, A26; close_notify follows (`ask`)."""
    assert ask(suite.ke_port, request_octets, ca=suite.ca) == response


@pytest.mark.parametrize("number", [15, 16, 17])
def test_each_aead_can_be_had_alone(suite: Suite, number: int) -> None:
    """A96: E.1 29."""
    request = NEXT_PROTOCOL_NTPV4 + record(AEAD, number.to_bytes(2, "big")) + END
    cookies = check_agreement(ask(suite.ke_port, request, ca=suite.ca), suite.ntp_port, aead_id=number)
    assert len(cookies[0]) == {15: 100, 16: 132, 17: 164}[number]


@pytest.mark.parametrize(
    ("host", "wish", "server"),
    [
        ("127.0.0.1", None, None), ("127.0.0.1", b"127.0.0.1", b"127.0.0.1"), ("127.0.0.1", b"::1", None),
        pytest.param("::1", None, None, marks=support.needs_v6),
        pytest.param("::1", b"::1", b"::1", marks=support.needs_v6),
        pytest.param("::1", b"127.0.0.1", None, marks=support.needs_v6),
    ],
)  # fmt: skip
def test_server_wish_is_met_when_it_is_the_address_in_use(
    suite: Suite, host: str, wish: bytes | None, server: bytes | None
) -> None:
    """A35, E.1 31, over IPv4 and IPv6: an address of the session's family, or none at all."""
    wished = record(SERVER, wish, critical=False) if wish else b""
    response = ask(suite.ke_port, NEXT_PROTOCOL_NTPV4 + AEAD_15 + wished + END, host=host)
    check_agreement(response, suite.ntp_port, server=server)


def test_response_is_one_tls_record(suite: Suite) -> None:
    """Design 5: strict clients read once. SSL_read returns at most one record, whatever room it gets."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x11") + END)  # the longest cookies
        first = peer.tls.recv(65536)
        assert peer.receive() == b""
        check_agreement(first, suite.ntp_port, aead_id=17)


@pytest.mark.parametrize("more", [GOOD_REQUEST, END, b"x"], ids=["a request", "an end", "an octet"])
def test_what_comes_along_behind_the_end_is_error_1(suite: Suite, more: bytes) -> None:
    """A06, A14, E.1 21: in TLS records of their own, but in the same TCP segment as the request."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake()
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.send(GOOD_REQUEST, more)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        assert peer.receive() == record(2, b"\0\1") + END
        assert peer.close_notify


def test_second_request_is_not_answered(suite: Suite) -> None:
    """A06, E.1 32: one response, then close_notify, though the client goes on."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(GOOD_REQUEST)
        first = peer.tls.recv(65536)
        with contextlib.suppress(SSL.Error):
            peer.send(GOOD_REQUEST)
        check_agreement(first, suite.ntp_port)
        assert peer.receive() == b""
        assert peer.close_notify


@pytest.mark.parametrize("how", ["close_notify", "FIN"])
@pytest.mark.parametrize(
    "sent",
    [b"", GOOD_REQUEST[:1], GOOD_REQUEST[:8], NEXT_PROTOCOL_NTPV4 + AEAD_15, GOOD_REQUEST[:-1]],
    ids=["nothing", "one octet", "half a record", "no end", "all but one octet"],
)
def test_truncated_request_gets_error_1_at_once(suite: Suite, sent: bytes, how: str) -> None:
    """A21, E.1 22: whether the client ends with close_notify or with a bare TCP FIN."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake()
        if sent:
            peer.send(sent)
        started = time.monotonic()
        if how == "close_notify":
            peer.tls.shutdown()
        else:
            peer.sock.shutdown(socket.SHUT_WR)
        assert peer.receive() == BAD_REQUEST
        assert peer.close_notify
        assert time.monotonic() - started < 2


def test_truncated_with_both_close_notify_and_fin(suite: Suite) -> None:
    """E.1 22, as most libraries do it."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(GOOD_REQUEST[:7])
        peer.tls.shutdown()
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.receive() == BAD_REQUEST


# --- clients that take their time ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlowOutcome:
    response: bytes
    close_notify: bool
    seconds: float


def _slow_session(port: int, start: bytes, drip: bytes) -> SlowOutcome:
    """A session that sends `start`, then an octet of `drip` per second, and waits for what comes."""
    with RawKe(port) as peer:
        started = time.monotonic()
        peer.handshake()
        if start:
            peer.send(start)
        if not drip:
            response = peer.receive()
            return SlowOutcome(response, peer.close_notify, time.monotonic() - started)
        peer.sock.setblocking(False)
        response, next_drip, left = b"", time.monotonic() + 1, list(drip)
        while time.monotonic() < started + 15:
            try:
                response += peer.tls.recv(65536)
            except SSL.WantReadError:
                if time.monotonic() >= next_drip and left:
                    next_drip += 1
                    peer.send(bytes([left.pop(0)]))
                time.sleep(0.02)
            except SSL.ZeroReturnError:
                return SlowOutcome(response, True, time.monotonic() - started)
            except SSL.Error:
                break
        return SlowOutcome(response, False, time.monotonic() - started)


def _no_handshake(port: int, send: bytes) -> SlowOutcome:
    """A TCP connection that never gets through the TLS handshake."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        started = time.monotonic()
        sock.sendall(send)
        data = b""
        with contextlib.suppress(OSError):
            while chunk := sock.recv(4096):
                data += chunk
        return SlowOutcome(data, False, time.monotonic() - started)


SLOW = {
    "silence": (b"", b""),
    "half a record, then silence": (GOOD_REQUEST[:9], b""),
    "all but the end": (NEXT_PROTOCOL_NTPV4 + AEAD_15, b""),
    "an octet a second": (b"", GOOD_REQUEST),
    "a good start, then an octet a second": (GOOD_REQUEST[:4], padded_request(200)[4:]),
}


@pytest.fixture(scope="module")
def slow(suite: Suite) -> Iterator[dict[str, Future[SlowOutcome]]]:
    """All slow clients at the same time, so that their waits do not add up."""
    with ThreadPoolExecutor(len(SLOW) + 2) as pool:
        futures = {name: pool.submit(_slow_session, suite.ke_port, *how) for name, how in SLOW.items()}
        futures["no handshake"] = pool.submit(_no_handshake, suite.ke_port, b"")
        # The head of a TLS record of 256 octets, which never follows.
        futures["half a handshake"] = pool.submit(_no_handshake, suite.ke_port, b"\x16\x03\x01\x01\x00\x01")
        yield futures


@pytest.mark.parametrize("name", SLOW)
def test_slow_request_gets_error_1_within_the_session_time_out(slow: dict[str, Future[SlowOutcome]], name: str) -> None:
    """A08, A21, E.1 23: Error 1 and close_notify when the time-out passes, however the client spreads its octets."""
    outcome = slow[name].result(30)
    assert outcome.response == BAD_REQUEST
    assert outcome.close_notify
    assert ke_daemon.SESSION_TIMEOUT - 0.5 < outcome.seconds < ke_daemon.SESSION_TIMEOUT + 2


@pytest.mark.parametrize("name", ["no handshake", "half a handshake"])
def test_connection_without_a_handshake_is_closed(slow: dict[str, Future[SlowOutcome]], name: str) -> None:
    outcome = slow[name].result(30)
    assert outcome.response == b""
    assert outcome.seconds < ke_daemon.SESSION_TIMEOUT + 2


# --- clients that do harm --------------------------------------------------------------------------------------------


def _garbage(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass


def _disconnect(port: int) -> None:
    for _ in range(50):
        socket.create_connection(("127.0.0.1", port), 20).close()


def _resets(port: int) -> None:
    for _ in range(20):
        reset(socket.create_connection(("127.0.0.1", port), 20))


def _reset_in_handshake(port: int) -> None:
    for size in (1, 5, 100):
        sock = socket.create_connection(("127.0.0.1", port), 20)
        sock.sendall((b"\x16\x03\x01\x02\x00\x01" + bytes(200))[:size])
        reset(sock)


def _reset_in_request(port: int) -> None:
    for sent in (b"\x80", GOOD_REQUEST[:7], GOOD_REQUEST):
        peer = RawKe(port).handshake()
        peer.send(sent)
        reset(peer.sock)


HARM: dict[str, Callable[[int], None]] = {
    "octets that are not TLS": lambda port: _garbage(port, os.urandom(20000)),
    "HTTP": lambda port: _garbage(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "NTS-KE without TLS": lambda port: _garbage(port, GOOD_REQUEST),
    "a TLS alert": lambda port: _garbage(port, b"\x15\x03\x03\x00\x02\x02\x28"),
    "connections closed at once": _disconnect,
    "connections reset at once": _resets,
    "reset within the handshake": _reset_in_handshake,
    "reset within the request": _reset_in_request,
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_server_lives_on_after(suite: Suite, harm: Callable[[int], None]) -> None:
    """Same worker process, next client served, nothing logged."""
    process = server_of(suite)
    workers, log = children(running(process).pid), process.output()
    harm(suite.ke_port)
    assert works(suite)
    assert children(running(process).pid) == workers
    assert process.output() == log


def test_silent_connections_do_not_delay_others(suite: Suite) -> None:
    """200 of them at once: a normal client is done within 2 s while they are open."""
    with silent_connections(suite.ke_port, 200) as silent:
        assert works(suite, within=2)
        silent[0].setblocking(False)
        with pytest.raises(BlockingIOError):  # still open: it was not by throwing them out
            silent[0].recv(1)


def test_more_silent_connections_than_sessions_do_not_lock_others_out(suite: Suite) -> None:
    """Beyond MAX_SESSIONS the oldest has to go, and that is a silent one."""
    with silent_connections(suite.ke_port, ke_daemon.MAX_SESSIONS + 50) as silent:
        assert works(suite, within=3)
        silent[0].settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert silent[0].recv(1) == b""


@pytest.mark.parametrize("how", ["raw TCP after the response", "TLS records without end"])
def test_flood_from_one_client_does_not_hold_up_others(suite: Suite, how: str) -> None:
    """A single worker: a client that sends as fast as it can gets no more than its turn, and is thrown out in time."""
    stop, block = threading.Event(), bytes(1 << 20)

    def flood() -> bool:
        """Whether the server ended it."""
        with RawKe(suite.ke_port) as peer:
            peer.handshake()
            if how.startswith("raw"):
                peer.send(GOOD_REQUEST)
                peer.receive()
            try:
                while not stop.is_set():
                    (peer.sock.sendall if how.startswith("raw") else peer.tls.sendall)(block)
            except (SSL.Error, OSError):
                return True
            return False

    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood)
        try:
            time.sleep(0.2)
            assert works(suite, within=2)
            assert flooding.result(ke_daemon.SESSION_TIMEOUT + ke_daemon.LINGER_TIMEOUT + 2)
        finally:
            stop.set()


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", list(AeadId))
def test_exported_keys_and_cookies_work_with_the_time_server(suite: Suite, number: AeadId) -> None:
    """A39, A40, A67: this peer's TLS exporter and nothing else of nts.tls; a whole NTS exchange."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(NEXT_PROTOCOL_NTPV4 + record(AEAD, number.to_bytes(2, "big")) + END)
        cookies = check_agreement(peer.receive(), suite.ntp_port, aead_id=number)
        keys = peer.export(number)
    for cookie in cookies:
        query = ts_client.build_query(keys, cookie, 0, os.urandom)
        reply = support.ask_udp(suite.ntp_port, query.packet)
        assert reply is not None
        judgement = ts_client.judge(reply, query)
        assert judgement.verdict is ts_client.Verdict.TIME, judgement.reason
        assert len(judgement.cookies) == 1


def test_new_master_key_seals_the_cookies_of_the_next_session(tmp_path: Path) -> None:
    """A91: no restart, no pause; the cookie's first two octets are the key's identifier."""
    with own_server(tmp_path) as own:
        for _ in range(3):
            new, _removed = keystore.rotate(own.keys, 3, os.urandom)
            cookies = check_agreement(ask(own.ke_port, GOOD_REQUEST), own.ntp_port)
            assert {c[:2] for c in cookies} == {new.key.id.to_bytes(2, "big")}


def test_error_2_without_a_master_key_and_recovery(tmp_path: Path) -> None:
    """A22, A83: the folder is emptied while the server runs; requests that need no key are answered as ever."""
    with own_server(tmp_path) as own:
        for file in own.keys.glob("*.key"):
            file.unlink()
        assert ask(own.ke_port, GOOD_REQUEST) == INTERNAL_ERROR
        assert ask(own.ke_port, END) == BAD_REQUEST
        assert ask(own.ke_port, record(NEXT_PROTOCOL, b"\x77\x77") + END) == NPN_EMPTY + END
        server_of(own).wait_for("no master key")
        keystore.rotate(own.keys, 3, os.urandom)
        assert works(own)
        assert server_of(own).stop() == 0
        assert "no master key 1" in server_of(own).output().splitlines()[-1]


def test_unreadable_key_folder_keeps_the_last_keys(tmp_path: Path) -> None:
    """A file in the folder's place cannot be read as a folder, not even by root."""
    with own_server(tmp_path) as own:
        before = check_agreement(ask(own.ke_port, GOOD_REQUEST), own.ntp_port)
        own.keys.rename(tmp_path / "away")
        own.keys.write_text("not a folder")
        time.sleep(1.1)  # past the scan that finds it
        after = check_agreement(ask(own.ke_port, GOOD_REQUEST), own.ntp_port)
        assert {c[:2] for c in before} == {c[:2] for c in after}
        server_of(own).wait_for("cannot read the master keys")


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_stops_within_two_seconds_with_clients_connected(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, no worker left, and what became of the sessions in the last line."""
    with own_server(tmp_path, ntske={"workers": 2}) as own, silent_connections(own.ke_port, 20):
        process = server_of(own)
        workers = workers_of(process, 2)
        assert works(own)
        assert ask(own.ke_port, END) == BAD_REQUEST
        with RawKe(own.ke_port) as half_way:
            half_way.handshake().send(GOOD_REQUEST[:5])
            started = time.monotonic()
            assert process.stop(number) == 0
            assert time.monotonic() - started < 2
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        last = process.output().splitlines()[-1]
        assert last == "ntske_server.py: stopped; sessions: agreed 1, bad request 1"


def test_interrupt_from_the_terminal_reaches_all_processes_and_stops_cleanly(tmp_path: Path) -> None:
    """Ctrl-C goes to the whole process group at once: no traceback, exit code 0."""
    own = Suite(tmp_path, options={"ntske": {"workers": 2}})
    command = ["setsid", sys.executable, str(ROOT / "ntske_server.py"), str(own.ini)]
    own.ke = Process(command, tmp_path / "ke.log")
    try:
        own.ke.wait_for("sends clients to")
        assert len(workers_of(own.ke, 2)) == 2
        assert works(own)
        os.killpg(own.ke.popen.pid, signal.SIGINT)
        assert own.ke.popen.wait(5) == 0
        assert "Traceback" not in own.ke.output()
        assert "agreed 1" in own.ke.output()
    finally:
        own.stop()


def test_killed_worker_is_replaced_and_said_so(tmp_path: Path) -> None:
    """Clients notice at most a connection that breaks; counters of the killed worker are kept."""
    with own_server(tmp_path, ntske={"workers": 2}) as own:
        process = server_of(own)
        parent = running(process).pid
        assert works(own)
        first = workers_of(process, 2)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: len(children(parent)) == 2 and not set(first) & set(children(parent)))
        assert works(own)
        for pid in first:
            process.wait_for(f"warning: worker process {pid} ended with signal 9; starting another")
        assert process.stop() == 0
        assert process.output().splitlines()[-1] == "ntske_server.py: stopped; sessions: agreed 2"


def test_killed_parent_leaves_no_worker_and_the_port_free(tmp_path: Path) -> None:
    with own_server(tmp_path, ntske={"workers": 2}) as own:
        process = server_of(own)
        workers = workers_of(process, 2)
        with silent_connections(own.ke_port, 3):
            process.popen.kill()
            process.popen.wait()
            assert eventually(lambda: not any(map(is_running, workers)), 5) or not kill_orphans(workers)
        process.log.unlink()
        own.start_ke()  # binds the same port
        assert works(own)


def test_running_out_of_descriptors_evicts_the_oldest(tmp_path: Path) -> None:
    """With few descriptors and many silent clients, a good one is still served, and the worker does not spin."""
    with own_server(tmp_path, ntpv4={"server": "localhost"}) as own:
        (worker,) = workers_of(server_of(own), 1)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (40, 40))
        silent = [socket.create_connection(("127.0.0.1", own.ke_port)) for _ in range(60)]
        try:
            time.sleep(0.3)
            before = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
            time.sleep(0.5)
            after = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
            ticks = sum(int(after[i]) - int(before[i]) for i in (11, 12))
            assert ticks < 0.4 * os.sysconf("SC_CLK_TCK"), "busy though nothing happens"
            with RawKe(own.ke_port, own.ca, timeout=3) as peer:
                peer.handshake().send(GOOD_REQUEST)
                assert peer.receive().endswith(END)
        finally:
            for sock in silent:
                sock.close()


def test_each_of_two_workers_serves(tmp_path: Path) -> None:
    """With either one stopped dead, the other takes all clients."""
    with own_server(tmp_path, ntske={"workers": 2}, ntpv4={"server": "localhost"}) as own:
        process = server_of(own)
        workers = workers_of(process, 2)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
            try:
                for _ in range(3):
                    response = ask(own.ke_port, GOOD_REQUEST, timeout=5)
                    check_agreement(response, own.ntp_port, server=b"localhost")  # E.1 31: as configured
            finally:
                os.kill(pid, signal.SIGCONT)
        assert process.stop() == 0
        assert process.output().splitlines()[-1] == "ntske_server.py: stopped; sessions: agreed 6"


def test_two_servers_on_one_port_are_refused(tmp_path: Path) -> None:
    with own_server(tmp_path) as own:
        second = support.run("ntske_server.py", own.ini)
        assert second.returncode == 2
        assert "error: cannot listen on TCP" in second.stderr
        assert "hint: another server runs there" in second.stderr
        assert works(own)


def test_verbose_prints_a_line_for_each_session_and_no_secret(tmp_path: Path) -> None:
    with own_server(tmp_path, "--verbose") as own:
        process = server_of(own)
        before = len(process.output().splitlines())
        with RawKe(own.ke_port, own.ca) as peer:
            peer.handshake().send(GOOD_REQUEST)
            cookies = check_agreement(peer.receive(), own.ntp_port)
            keys = peer.export(AeadId.AES_SIV_CMAC_256)
        assert ask(own.ke_port, END) == BAD_REQUEST
        assert ask(own.ke_port, record(0x3FFF) + GOOD_REQUEST) == UNKNOWN_CRITICAL
        with RawKe(own.ke_port, alpn=[b"h2"]) as peer, pytest.raises(SSL.Error):
            peer.handshake()
        _garbage(own.ke_port, b"GET / HTTP/1.0\r\n\r\n")
        process.wait_for("tls failed")
        lines = process.output().splitlines()[before:]
        peer_name = r"ntske_server\.py: 127\.0\.0\.1:\d+: "
        expected = [r"agreed \(AEAD 15\)", "bad request", "unknown critical", "no alpn", r"tls failed \(.+\)"]
        assert len(lines) == len(expected), lines
        for line, pattern in zip(lines, expected, strict=True):
            assert re.fullmatch(peer_name + pattern, line)
        assert process.stop() == 0
        master = [f.read_text().strip() for f in own.keys.glob("*.key")]
        for secret in [*master, keys.c2s.hex(), keys.s2c.hex(), *(c.hex() for c in cookies)]:
            assert secret[:16] not in process.output().lower()


def test_aead_preference_is_the_servers(tmp_path: Path) -> None:
    """4.1.5: the server chooses, by the order in server.ini, whatever the client's order is."""
    with own_server(tmp_path, ntske={"aeads": "17, 15"}) as own:
        for offer, chosen in ((b"\0\x0f\0\x10\0\x11", 17), (b"\0\x10\0\x0f", 15)):
            response = ask(own.ke_port, NEXT_PROTOCOL_NTPV4 + record(AEAD, offer) + END)
            check_agreement(response, own.ntp_port, aead_id=chosen)
        refused = ask(own.ke_port, NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x10") + END)
        assert refused == NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END


def test_listens_only_where_told(tmp_path: Path) -> None:
    with own_server(tmp_path, ntske={"listen": "127.0.0.1"}) as own:
        assert works(own)
        for host in ("127.0.0.2", *support.V6_IF_ANY):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, own.ke_port), 5)


def test_the_shared_library_in_use_is_ours() -> None:
    """All cookies above went through it."""
    assert aead.LIBRARY == ROOT / "libaes_siv" / "libaes_siv.so"
    assert aead.backend()
