# SPDX-License-Identifier: MIT
"""The real NTS-KE server process against clients that take their time or do harm: they get their turn and no more."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
from OpenSSL import SSL

from nts.server import config, ke_connection
from testkit.ke_sessions import BAD_REQUEST, garbage, padded_request, reset, server_of, silent_connections, works
from testkit.outcomes import Outcomes
from testkit.processes import Suite, children, running, running_suite
from testkit.raw_ke import AEAD_15, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, RawKe


@pytest.fixture(scope="module")
def suite(ke_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Both servers, with each loop of the key exchange in turn."""
    with running_suite(tmp_path_factory.mktemp("suite")) as running:
        yield running


# --- clients that take their time ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlowOutcome:
    response: bytes
    close_notify: bool
    seconds: float


def slow_session(port: int, start: bytes, drip: bytes) -> SlowOutcome:
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


def no_handshake(port: int, send: bytes) -> SlowOutcome:
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
def slow(suite: Suite) -> Iterator[Outcomes[str, SlowOutcome]]:
    """All slow clients at the same time."""
    port = suite.ke_port
    jobs = {name: partial(slow_session, port, *how) for name, how in SLOW.items()}
    jobs["no handshake"] = partial(no_handshake, port, b"")
    # The head of a TLS record of 256 octets, which never follows.
    jobs["half a handshake"] = partial(no_handshake, port, b"\x16\x03\x01\x01\x00\x01")
    with Outcomes(jobs, parallel=len(jobs), timeout=30) as outcomes:
        yield outcomes


@pytest.mark.parametrize("name", SLOW)
def test_slow_request_gets_error_1_within_the_session_time_out(slow: Outcomes[str, SlowOutcome], name: str) -> None:
    """A08, A21, check 23: Error 1 and close_notify when the time-out passes, however the client spreads its octets."""
    outcome = slow[name]
    assert outcome.response == BAD_REQUEST
    assert outcome.close_notify
    assert ke_connection.SESSION_TIMEOUT - 0.5 < outcome.seconds < ke_connection.SESSION_TIMEOUT + 2


@pytest.mark.parametrize("name", ["no handshake", "half a handshake"])
def test_connection_without_a_handshake_is_closed(slow: Outcomes[str, SlowOutcome], name: str) -> None:
    outcome = slow[name]
    assert outcome.response == b""
    assert outcome.seconds < ke_connection.SESSION_TIMEOUT + 2


# --- clients that do harm --------------------------------------------------------------------------------------------


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
    "octets that are not TLS": lambda port: garbage(port, os.urandom(20000)),
    "HTTP": lambda port: garbage(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "NTS-KE without TLS": lambda port: garbage(port, GOOD_REQUEST),
    "a TLS alert": lambda port: garbage(port, b"\x15\x03\x03\x00\x02\x02\x28"),
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
        with pytest.raises(BlockingIOError):  # still open: it was not thrown out for the other
            silent[0].recv(1)


def test_more_silent_connections_than_sessions_do_not_lock_others_out(suite: Suite) -> None:
    """Beyond max_per_prefix the oldest of the prefix has to go, and that is a silent one."""
    limit = config.load(suite.ini).ntske.max_per_prefix
    with silent_connections(suite.ke_port, limit + 50, sends=b"\x16") as silent:
        assert works(suite, within=3)
        time.sleep(0.5)
        ended = [sock for sock in silent if select.select([sock], [], [], 0)[0]]
        assert ended == silent[: len(ended)]
        assert 50 <= len(ended) <= 55


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
            assert flooding.result(ke_connection.SESSION_TIMEOUT + ke_connection.LINGER_TIMEOUT + 2)
        finally:
            stop.set()
