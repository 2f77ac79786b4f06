# SPDX-License-Identifier: MIT
"""nts.check.peer: sound by default, faulty on demand, and a witness of what clients do."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from nts.base.errors import ALPNError, CertificateError, FormatError, KeErrorRecord, NtsNak, TLSError
from nts.check.peer import KeBehaviour, NtpBehaviour, NtpTalk, Pair, pair
from nts.check.peer import ke as ke_peer
from nts.check.peer.authority import Authority
from nts.check.peer.faults import exchange, find
from nts.check.peer.faults import time as faults_time
from nts.check.peer.ke import KePeer, KeTalk
from nts.client import ke_session, ts_session
from nts.client.state import ClientState
from nts.codec import cookies
from nts.codec.aead import Aead
from nts.codec.records import encode_u16s
from nts.system import tls
from testkit import processes
from testkit.raw_ke import END, GOOD_REQUEST, RawKe, record, split_records


@pytest.fixture
def sound(authority: Authority) -> Iterator[Pair]:
    with pair(authority=authority) as servers:
        yield servers


def fetch(servers: Pair, host: str = "localhost") -> ke_session.Result:
    options = ke_session.Options(host, servers.ke.port, tuple(Aead), ca=servers.authority.ca, family=socket.AF_UNSPEC)
    return ke_session.exchange(options)


def ask(servers: Pair, folder: Path, timeout: float = 5) -> ts_session.Exchange:
    """A key exchange, and one query."""
    options = ke_session.Options("localhost", servers.ke.port, tuple(Aead), ca=servers.authority.ca)
    store = ClientState(folder / "client.ini")
    store.save(ke_session.exchange(options).association(options))
    return ts_session.ask(store, ts_session.Route(), timeout)


def test_our_clients_get_the_time_from_a_sound_pair(sound: Pair, tmp_path: Path) -> None:
    result = ask(sound, tmp_path)
    assert result.answer is not None
    assert abs(result.answer.measurement.offset) < 1e9
    assert result.stock == 8
    (session,) = sound.ke.sessions
    assert (session.server_name, session.alpn, session.tls_version) == (b"localhost", (b"ntske/1",), "TLSv1.3")
    assert processes.eventually(lambda: session.finished is not None)
    assert session.close_notify
    assert session.problem == ""
    assert [kind for kind, _, _ in split_records(session.received)] == [1, 4, 1024, 0]
    (request,) = sound.ntp.requests
    assert request.is_nts
    assert request.is_authentic
    assert sound.ntp.sent == [d for d, _ in result.attempts[-1].datagrams]


def test_a_sound_server_refuses_as_it_must(sound: Pair) -> None:
    cases = {
        GOOD_REQUEST.replace(END, record(0x3FFF) + END): 0,
        GOOD_REQUEST + END: 1,
        GOOD_REQUEST[:-1]: 1,
    }
    for request, code in cases.items():
        with RawKe(sound.ke.port, sound.authority.ca).handshake() as client:
            client.send(request)
            client.tls.shutdown()
            response = client.receive()
            assert split_records(response) == [(2, True, bytes([0, code])), (0, True, b"")]
            assert client.close_notify


def test_silence_gets_error_1_after_the_time_out(authority: Authority) -> None:
    with (
        pair(KeBehaviour(timeout=0.2), authority=authority) as servers,
        RawKe(servers.ke.port, authority.ca).handshake() as client,
    ):
        assert client.receive() == record(2, b"\0\1") + END


def test_without_alpn_nothing_is_served(sound: Pair) -> None:
    with RawKe(sound.ke.port, alpn=()).handshake() as client:
        client.send(GOOD_REQUEST)
        assert client.receive() == b""
    with RawKe(sound.ke.port, alpn=[b"h2"]) as client, pytest.raises(SSL.Error, match="no application protocol"):
        client.handshake()


def test_cookies_of_the_one_open_at_the_other(sound: Pair) -> None:
    result = fetch(sound)
    assert cookies.open_cookie(sound.ntp.ring, result.agreement.cookies[0]) == result.keys
    assert result.agreement.port == sound.ntp.port


def test_slow_client_does_not_delay_another(sound: Pair) -> None:
    with RawKe(sound.ke.port, alpn=[b"ntske/1"]):
        started = time.monotonic()
        fetch(sound)
        assert time.monotonic() - started < 4  # the default timeout is 5


def test_stops_at_once_whatever_goes_on(authority: Authority) -> None:
    def endless(talk: KeTalk) -> None:
        talk.send_for_ever(bytes(1000))

    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(pair(KeBehaviour(answer=endless), authority=authority))
        client = RawKe(servers.ke.port).handshake()
        assert client.tls.recv(10)
        started = time.monotonic()
        stack.close()
        assert time.monotonic() - started < 2
        client.sock.close()
    assert servers.ke.sessions[0].sent


def test_a_mistake_in_an_answer_is_not_hidden(authority: Authority) -> None:
    def wrong(talk: KeTalk) -> None:
        raise ZeroDivisionError

    behaviour = KeBehaviour(answer=wrong, certificate=authority.certificate)
    with pytest.raises(ZeroDivisionError), KePeer(behaviour) as server, RawKe(server.port).handshake() as client:
        client.receive()


@pytest.mark.parametrize(
    ("ke", "error"),
    [
        (lambda a: KeBehaviour(oldest=ke_peer.TLS_1_2, newest=ke_peer.TLS_1_2), TLSError),
        (lambda a: KeBehaviour(alpn=ke_peer.no_alpn), ALPNError),
        (lambda a: KeBehaviour(certificate=a.issue(days=(-2, -1))), CertificateError),
        (lambda a: KeBehaviour(certificate=a.issue(names=("other.example",))), CertificateError),
        (lambda a: KeBehaviour(certificate=a.issue(self_signed=True)), CertificateError),
        (lambda a: KeBehaviour(answer=lambda t: t.send(record(2, b"\0\2") + END)), KeErrorRecord),
    ],
    ids=["TLS 1.2", "no ALPN", "expired", "other name", "self-signed", "Error 2"],
)
def test_faulty_key_exchange(authority: Authority, ke: object, error: type[Exception]) -> None:
    assert callable(ke)
    with pair(ke(authority), authority=authority) as servers, pytest.raises(error):
        fetch(servers)


@pytest.mark.parametrize(
    ("name", "kind", "chosen"), [("unoffered-protocol", 1, 0x8002), ("unoffered-aead", 4, Aead.AES_SIV_CMAC_384)]
)
def test_what_is_called_unoffered_was_not_offered(authority: Authority, name: str, kind: int, chosen: int) -> None:
    """ntpd-rs, for one, offers protocol 0x8001."""
    request = record(1, encode_u16s(0x8001, 0)) + record(4, encode_u16s(15), critical=False) + END
    behaviour = find(name).ke(authority, KeBehaviour())
    with pair(behaviour, authority=authority) as servers, RawKe(servers.ke.port).handshake() as client:
        client.send(request)
        records = split_records(client.receive())
    assert [body for number, _, body in records if number == kind] == [encode_u16s(chosen)]


def test_wrong_exporter_context_makes_naks(authority: Authority, tmp_path: Path) -> None:
    def answer(talk: KeTalk) -> None:
        export = tls.exporter(talk.connection, "EXPORTER-something-else")
        talk.send(talk.respond(talk.request(), export=export))

    with pair(KeBehaviour(answer=answer), authority=authority) as servers:
        assert isinstance(ask(servers, tmp_path).failure, NtsNak)


def test_faulty_time_server(authority: Authority, tmp_path: Path) -> None:
    behaviour = NtpBehaviour(answer=lambda talk: [talk.kiss(), 0.1, talk.time()])
    with pair(ntp=behaviour, authority=authority) as servers:
        result = ask(servers, tmp_path)
        assert result.answer is not None
        assert len(servers.ntp.sent) == 2
        (request,) = servers.ntp.requests
        assert cookies.open_cookie(servers.ntp.ring, result.answer.judgement.cookies[0]) == request.contents


GARBAGE = (b"", b"\x80", GOOD_REQUEST[:7], record(0x3FFF) + END, END, bytes(60000))


@pytest.mark.parametrize("name", [f.name for f in exchange.FAULTS])
def test_no_request_upsets_a_faulty_key_exchange(authority: Authority, name: str) -> None:
    """`pair` raises what an answer did not expect."""
    with pair(find(name).ke(authority, KeBehaviour(timeout=0.05)), authority=authority) as servers:
        for octets in GARBAGE:
            with contextlib.suppress(SSL.Error), RawKe(servers.ke.port).handshake() as client:
                client.send(octets) if octets else None
                client.tls.shutdown()
                client.tls.recv(1) if name not in ("ke-silence", "slow-drip") else None
        assert len(servers.ke.sessions) == len(GARBAGE)


@pytest.mark.parametrize("name", [f.name for f in faults_time.FAULTS])
def test_no_datagram_upsets_a_faulty_time_server(sound: Pair, name: str) -> None:
    """Without a request to answer there is FormatError, or the fault does not need one."""
    answer = find(name).answer
    assert answer is not None
    uid, cookie = bytes([1, 4, 0, 36]) + bytes(32), bytes([2, 4, 0, 104]) + bytes(100)
    header = bytes([0x23]) + bytes(47)
    for packet in (
        b"",
        bytes(47),
        header,
        header + bytes(28),
        header + uid,
        header + uid + cookie,
        header + 2 * cookie,
    ):
        talk = NtpTalk(packet, ("127.0.0.1", 4000), sound.ntp)
        with contextlib.suppress(FormatError):
            assert all(isinstance(reply, (bytes, float)) for reply in answer(talk))
        assert not talk.is_authentic


def test_time_server_that_is_asked_for_more_than_it_can_say_is_silent(sound: Pair) -> None:
    sound.ntp.behave(answer=find("nak").answer)
    assert processes.ask_udp(sound.ntp.port, bytes([0x23]) + bytes(47), timeout=0.2) is None
    assert processes.eventually(lambda: sound.ntp.is_idle)
    assert [r.is_nts for r in sound.ntp.requests] == [False]
