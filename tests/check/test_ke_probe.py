# SPDX-License-Identifier: MIT
"""nts_check's key exchange probe: first contact, what it keeps, and that no server makes a check raise or hang."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

import pytest

from nts.base.errors import ALPNError, ConnectError, ExitCode, KeResponseError, NTSError, ResolveError, TLSError
from nts.base.registry import ALERT_NAMES
from nts.check import runner
from nts.check.ke.answer import MAX_ANSWER, End
from nts.check.ke.forge import NTPV4, UNKNOWN_TYPE, Stimulus, record, request
from nts.check.model import Direction
from nts.check.peer import Authority, KeBehaviour, KePeer, KeTalk, pair
from nts.check.peer.craft import response
from nts.check.peer.ke import TLS_1_2, Stopped, no_alpn
from testkit.ke_faults import CLOSES, EAGER, FAIL, KE_CHECKS, NAMES, PASS, SKIP, WARN, check, error, probe, saying
from testkit.processes import Suite, free_port, needs_v6

# --- hostile servers -------------------------------------------------------------------------------------------------


def garbage(sock: socket.socket) -> None:
    sock.sendall(os.urandom(4096))
    sock.recv(65536)


def reset(sock: socket.socket) -> None:
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))


def nothing(sock: socket.socket) -> None:
    with contextlib.suppress(TimeoutError):
        while sock.recv(65536):
            pass


@pytest.mark.parametrize("raw", [garbage, reset, nothing, lambda sock: None],
                         ids=["garbage", "reset", "nothing", "closes"])  # fmt: skip
def test_no_tls_at_all(authority: Authority, raw: Callable[[socket.socket], None]) -> None:
    with pair(KeBehaviour(raw=raw), authority=authority) as servers:
        asker = probe(servers.ke.port, authority.ca, timeout=0.05)
        with pytest.raises(TLSError) as caught:
            asker.ke.reach()
        assert caught.value.exit_code == ExitCode.TLS
        results = list(runner.run(KE_CHECKS, asker))
    assert [r.check.name for r in results] == NAMES
    alpn = ("alpn-select", "alpn-absent", "alpn-wrong")
    assert {r.grade for r in results if r.check.name not in alpn} == {SKIP}


def half_a_record(talk: KeTalk) -> None:
    talk.send(NTPV4[:5])
    talk.wait(20)


def endless(talk: KeTalk) -> None:
    talk.send_for_ever(record(UNKNOWN_TYPE, bytes(8000), critical=False))


def endless_after_the_end(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.send_for_ever(bytes(8000))


def drip(talk: KeTalk) -> None:
    talk.send(record(UNKNOWN_TYPE, bytes(2000)), each=1, pause=0.02)


def reset_at_once(talk: KeTalk) -> None:
    talk.reset()
    raise Stopped


def plain_text(talk: KeTalk) -> None:
    """Leaves TLS in the middle of the session."""
    talk.sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    talk.wait(20)


@pytest.mark.parametrize(
    "answer", [endless, endless_after_the_end, reset_at_once, plain_text], ids=lambda f: f.__name__
)
def test_hostile_servers_are_survived(authority: Authority, answer: Callable[[KeTalk], None]) -> None:
    with pair(KeBehaviour(answer), authority=authority) as servers:
        asker = probe(servers.ke.port, authority.ca)
        results = {r.check.name: r for r in runner.run(KE_CHECKS, asker)}
    assert list(results) == NAMES
    spared = {"tls13-only", "alpn-select", "alpn-absent", "alpn-wrong", "cert-chain"}
    spared |= {"ke-cookie-count", "ke-cookie-shape", "ke-1024-record", "ke-server-port"}  # a response came first
    for name in set(NAMES) - spared:
        assert results[name].grade in (FAIL, WARN), (name, results[name].evidence)
    assert all(len(e.octets) <= MAX_ANSWER + 16384 for r in results.values() for e in r.exhibits)


@pytest.mark.parametrize("name", ["ke-basic", "ke-segmented", "ke-truncated", "ke-silence", "ke-second-request"])
@pytest.mark.parametrize("answer", [half_a_record, drip], ids=lambda f: f.__name__)
def test_slow_servers_are_not_waited_for(authority: Authority, answer: Callable[[KeTalk], None], name: str) -> None:
    with pair(KeBehaviour(answer), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca, timeout=0.5, silence=0.5), name)
    assert result.grade is FAIL
    assert "without an End of Message: the server left the connection open" in result.evidence
    assert result.seconds < 10


@pytest.mark.parametrize(
    ("number", "text"),
    [(n, name) for n, name in ALERT_NAMES.items() if n] + [(199, "one that OpenSSL does not know")],
)
def test_the_alert_that_ends_a_handshake_is_named(authority: Authority, number: int, text: str) -> None:
    def alert(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"\x15\3\3\0\2\2" + bytes([number]))

    with pair(KeBehaviour(raw=alert), authority=authority) as servers:
        answer = probe(servers.ke.port).ke.ask(Stimulus(alpn=()))
    assert (answer.end, answer.detail) == (End.ALERT, text)
    assert answer.alert == (number if number in ALERT_NAMES else None)


# --- first contact, and what other checks need -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (KeBehaviour(oldest=TLS_1_2, newest=TLS_1_2), TLSError),
        (KeBehaviour(alpn=no_alpn), ALPNError),
        (EAGER, ALPNError),
        (KeBehaviour(alpn=lambda offered: b"h2"), NTSError),
    ],
    ids=["TLS 1.2 only", "no ALPN", "no ALPN, served", "another protocol"],
)
def test_first_contact_fails(authority: Authority, behaviour: KeBehaviour, error: type[NTSError]) -> None:
    with pair(behaviour, authority=authority) as servers, pytest.raises(error) as caught:
        probe(servers.ke.port).ke.reach()
    assert caught.value.exit_code in range(ExitCode.RESOLVE, ExitCode.ALPN + 1)


def test_first_contact_with_nobody() -> None:
    with pytest.raises(ConnectError):
        probe(free_port()).ke.reach()
    with pytest.raises(ResolveError):
        probe(4460, host="nowhere.invalid").ke.reach()


def test_a_server_that_goes_away_is_not_judged(authority: Authority) -> None:
    with pair(authority=authority) as servers:
        asker = probe(servers.ke.port, authority.ca)
        asker.ke.reach()
    assert check(asker, "ke-basic").grade is SKIP


def test_a_connection_that_breaks_before_tls_is_tried_again(authority: Authority) -> None:
    with KePeer(KeBehaviour(certificate=authority.certificate)) as server:
        calls: list[int] = []
        talk = server._talk

        def unreliable(sock: socket.socket, session: object) -> None:
            calls.append(1)
            if len(calls) > 1:
                talk(sock, session)  # type: ignore[arg-type]

        server._talk = unreliable  # type: ignore[method-assign]
        assert check(probe(server.port, authority.ca), "ke-basic").grade is PASS
    assert len(calls) == 2


def test_fetch(suite: Suite) -> None:
    fetched = probe(suite.ke_port).ke.fetch([16])
    assert (fetched.keys.aead, fetched.server, fetched.port) == (16, "127.0.0.1", suite.ntp_port)
    assert len(set(fetched.cookies)) == 8
    assert fetched.endpoint(socket.AF_UNSPEC).address == ("127.0.0.1", suite.ntp_port)
    assert fetched.keys.c2s.hex() not in repr(fetched)


def test_fetch_uses_the_server_named(authority: Authority) -> None:
    with pair(KeBehaviour(ntp_server="localhost"), authority=authority) as servers:
        fetched = probe(servers.ke.port).ke.fetch()
        assert (fetched.server, fetched.port) == ("localhost", servers.ntp.port)


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [(saying(error(1)), "no cookies"), (saying(response(aeads=b"\0\x1f")), "AEAD 31"), (CLOSES, "no cookies")],
)
def test_fetch_without_success(authority: Authority, behaviour: KeBehaviour, text: str) -> None:
    with pair(behaviour, authority=authority) as servers, pytest.raises(KeResponseError, match=text):
        probe(servers.ke.port).ke.fetch()


def test_what_went_over_the_wire_is_kept(authority: Authority) -> None:
    with pair(authority=authority) as servers:
        exhibits = check(probe(servers.ke.port, authority.ca), "ke-basic").exhibits
    sent, received = (next(e for e in exhibits if e.direction is d) for d in (Direction.SENT, Direction.RECEIVED))
    assert sent.octets == request()
    assert received.octets.startswith(NTPV4)
    assert "127.0.0.1" in repr(exhibits)


@needs_v6
def test_over_ipv6(suite: Suite) -> None:
    asker = probe(suite.ke_port, suite.ca, host="::1")
    for name in ("cert-chain", "ke-basic", "ke-server-port"):
        result = check(asker, name)
        assert result.grade is PASS, result.evidence
    assert asker.ke.fetch().endpoint(socket.AF_UNSPEC).address[0] == "::1"
