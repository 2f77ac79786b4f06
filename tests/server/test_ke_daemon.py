# SPDX-License-Identifier: MIT
"""The real NTS-KE server process against a peer that sends it everything: what checks 1 to 32 of nts_check send.

What a request means is tested with the pure functions; here it is octets on the wire.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from nts.codec.aead import Aead
from nts.protocol import ts_client
from testkit import processes, raw_ke
from testkit.ke_sessions import (
    AEAD,
    AEAD_EMPTY,
    BAD_REQUEST,
    COOKIE,
    ERROR,
    NEXT_PROTOCOL,
    NPN_EMPTY,
    PORT,
    SERVER,
    UNKNOWN_CRITICAL,
    WARNING,
    ask,
    check_agreement,
    padded_request,
    works,
)
from testkit.processes import Suite, running_suite
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, RawKe, record


@pytest.fixture(scope="module")
def suite(ke_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Both servers, with each loop of the key exchange in turn."""
    with running_suite(tmp_path_factory.mktemp("suite")) as running:
        yield running


ALERT_NO_APPLICATION_PROTOCOL = "no application protocol"

# --- TLS (A01, A03, A06) ---------------------------------------------------------------------------------------------


def test_tls_1_2_is_refused(suite: Suite) -> None:
    """A01, check 1: a ClientHello of at most TLS 1.2 gets alert 70, protocol_version."""
    context = raw_ke.client_context(suite.ca)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with RawKe(suite.ke_port, context=context) as peer, pytest.raises(SSL.Error, match="protocol version"):
        peer.handshake()
    assert works(suite)


def test_tls_1_3_and_a_valid_chain_for_the_name_and_the_addresses(suite: Suite) -> None:
    """A01, checks 1 and 5."""
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
    """A03, check 2: `h2, ntske/1` -> `ntske/1`."""
    with RawKe(suite.ke_port, suite.ca, alpn=[b"h2", b"ntske/1"]) as peer:
        peer.handshake().send(GOOD_REQUEST)
        assert peer.tls.get_alpn_proto_negotiated() == b"ntske/1"
        check_agreement(peer.receive(), suite.ntp_port)


def test_without_alpn_nothing_is_delivered(suite: Suite) -> None:
    """A03, check 3: no octet of application data, and the connection is closed."""
    with RawKe(suite.ke_port, suite.ca, alpn=[]) as peer:
        started = time.monotonic()
        with contextlib.suppress(SSL.Error):  # the server may have closed before the request is out
            peer.handshake().send(GOOD_REQUEST)
        assert peer.receive() == b""
        assert time.monotonic() - started < 2
    assert works(suite)


def test_foreign_alpn_ends_the_handshake_with_alert_120(suite: Suite) -> None:
    """A03, check 4, RFC 7301 section 3.2."""
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
    "check 6: basic": [GOOD_REQUEST],
    "check 7: AEAD before Next Protocol": [AEAD_15 + NEXT_PROTOCOL_NTPV4 + END],
    "A25 AEAD record not critical": [NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x0f", critical=False) + END],
    "check 11: TLS records of one octet": [bytes([o]) for o in GOOD_REQUEST],
    "check 12: 1024 octets": [padded_request(1024)],
    "A10 16384 octets, the most": [padded_request(16384)],
    "check 13: unknown record 0x3fff, not critical": [record(0x3FFF, b"x", critical=False) + GOOD_REQUEST],
    "check 13: type 0x0801 is not 1": [record(0x0801, b"\0\0", critical=False) + GOOD_REQUEST],
    "check 13: type 0x4001 is not 1": [record(0x4001, b"abc", critical=False) + GOOD_REQUEST],
    "A12 type 0x7fff": [record(0x7FFF, b"", critical=False) + GOOD_REQUEST],
    "check 26: unknown protocol and NTPv4": [record(NEXT_PROTOCOL, b"\x77\x77\0\0") + AEAD_15 + END],
    "check 28: 15 after 399 unknown": [NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\xff\xf0" * 399 + b"\0\x0f") + END],
    "check 31: wishes for a foreign server": [
        NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(SERVER, b"192.0.2.1") + record(PORT, b"\0\x7b") + END
    ],
    "A31 a wish that is not a name": [NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(SERVER, b"\xff \0") + END],
}


@pytest.mark.parametrize("chunks", GRANTED.values(), ids=GRANTED.keys())
def test_request_is_granted(suite: Suite, chunks: list[bytes]) -> None:
    """A08, A10."""
    check_agreement(ask(suite.ke_port, *chunks, ca=suite.ca), suite.ntp_port)


EXACT = {
    "check 14: unknown critical record": (record(0x3FFF) + GOOD_REQUEST, UNKNOWN_CRITICAL),
    "check 14: type 0x4001, critical": (
        NEXT_PROTOCOL_NTPV4 + record(0x4001, b"\0\0") + AEAD_15 + END, UNKNOWN_CRITICAL,
    ),
    "check 15: no Next Protocol": (AEAD_15 + END, BAD_REQUEST),
    "check 16: no AEAD": (NEXT_PROTOCOL_NTPV4 + END, BAD_REQUEST),
    "check 15: End of Message alone": (END, BAD_REQUEST),
    "check 17: two Next Protocols": (NEXT_PROTOCOL_NTPV4 + GOOD_REQUEST, BAD_REQUEST),
    "check 18: two AEADs": (AEAD_15 + GOOD_REQUEST, BAD_REQUEST),
    "check 19: odd Next Protocol": (record(NEXT_PROTOCOL, b"\0\0\0") + AEAD_15 + END, BAD_REQUEST),
    "check 19: empty Next Protocol": (NPN_EMPTY + AEAD_15 + END, BAD_REQUEST),
    "check 19: Next Protocol not critical": (record(1, b"\0\0", critical=False) + AEAD_15 + END, BAD_REQUEST),
    "check 20: odd AEAD": (NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\x0f") + END, BAD_REQUEST),
    "check 20: empty AEAD": (NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END, BAD_REQUEST),
    "check 21: End of Message not critical": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, critical=False), BAD_REQUEST),
    "check 21: End of Message with a body": (NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, b"x"), BAD_REQUEST),
    "check 21: record after the end": (GOOD_REQUEST + record(0x3FFF, critical=False), BAD_REQUEST),
    "check 21: two ends": (GOOD_REQUEST + END, BAD_REQUEST),
    "check 21: one octet after the end": (GOOD_REQUEST + b"\0", BAD_REQUEST),
    "check 32: two requests at once": (GOOD_REQUEST + GOOD_REQUEST, BAD_REQUEST),
    "check 24: Error record": (record(ERROR, b"\0\1") + GOOD_REQUEST, BAD_REQUEST),
    "check 24: Warning record": (record(WARNING, b"\0\0", critical=False) + GOOD_REQUEST, BAD_REQUEST),
    "check 24: Cookie record": (record(COOKIE, bytes(100), critical=False) + GOOD_REQUEST, BAD_REQUEST),
    "check 25: unknown protocol": (record(NEXT_PROTOCOL, b"\x77\x77") + AEAD_15 + END, NPN_EMPTY + END),
    "check 25: unknown protocol, no AEAD": (record(NEXT_PROTOCOL, b"\x77\x77") + END, NPN_EMPTY + END),
    "check 27: unknown AEAD": (
        NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\xff\xf0") + END, NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END,
    ),
    "check 29: AEAD 31 and 32": (
        NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x1f\0\x20") + END, NEXT_PROTOCOL_NTPV4 + AEAD_EMPTY + END,
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
    """A96, check 29."""
    request = NEXT_PROTOCOL_NTPV4 + record(AEAD, number.to_bytes(2, "big")) + END
    cookies = check_agreement(ask(suite.ke_port, request, ca=suite.ca), suite.ntp_port, aead_id=number)
    assert len(cookies[0]) == {15: 100, 16: 132, 17: 164}[number]


@pytest.mark.parametrize(
    ("host", "wish", "server"),
    [
        ("127.0.0.1", None, None), ("127.0.0.1", b"127.0.0.1", b"127.0.0.1"), ("127.0.0.1", b"::1", None),
        pytest.param("::1", None, None, marks=processes.needs_v6),
        pytest.param("::1", b"::1", b"::1", marks=processes.needs_v6),
        pytest.param("::1", b"127.0.0.1", None, marks=processes.needs_v6),
    ],
)  # fmt: skip
def test_server_wish_is_met_when_it_is_the_address_in_use(
    suite: Suite, host: str, wish: bytes | None, server: bytes | None
) -> None:
    """A35, check 31, over IPv4 and IPv6: an address of the session's family, or none at all."""
    wished = record(SERVER, wish, critical=False) if wish else b""
    response = ask(suite.ke_port, NEXT_PROTOCOL_NTPV4 + AEAD_15 + wished + END, host=host)
    check_agreement(response, suite.ntp_port, server=server)


def test_response_is_one_tls_record(suite: Suite) -> None:
    """Strict clients read once. SSL_read returns at most one record, whatever room it gets."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(NEXT_PROTOCOL_NTPV4 + record(AEAD, b"\0\x11") + END)  # the longest cookies
        first = peer.tls.recv(65536)
        assert peer.receive() == b""
        check_agreement(first, suite.ntp_port, aead_id=17)


@pytest.mark.parametrize("more", [GOOD_REQUEST, END, b"x"], ids=["a request", "an end", "an octet"])
def test_what_comes_along_behind_the_end_is_error_1(suite: Suite, more: bytes) -> None:
    """A06, A14, check 21: in TLS records of their own, but in the same TCP segment as the request."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake()
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.send(GOOD_REQUEST, more)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        assert peer.receive() == record(2, b"\0\1") + END
        assert peer.close_notify


def test_second_request_is_not_answered(suite: Suite) -> None:
    """A06, check 32: one response, then close_notify, though the client goes on."""
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
    """A21, check 22: whether the client ends with close_notify or with a bare TCP FIN."""
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
    """Check 22, as most libraries do it."""
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(GOOD_REQUEST[:7])
        peer.tls.shutdown()
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.receive() == BAD_REQUEST


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "context"), [(15, 15), (16, 16), (17, 17), (30, 30), (30, 15)])
def test_exported_keys_and_cookies_work_with_the_time_server(suite: Suite, number: int, context: int) -> None:
    """A39, A40, A67: a whole NTS exchange, with keys from this client's own TLS exporter.

    AEAD 30 without record 1024: the server takes the keys of either context.
    """
    with RawKe(suite.ke_port, suite.ca) as peer:
        peer.handshake().send(NEXT_PROTOCOL_NTPV4 + record(AEAD, number.to_bytes(2, "big")) + END)
        cookies = check_agreement(peer.receive(), suite.ntp_port, aead_id=number)
        keys = peer.export(Aead(number), context)
    for cookie in cookies:
        query = ts_client.build_query(keys, cookie, 0, os.urandom)
        reply = processes.ask_udp(suite.ntp_port, query.packet)
        assert reply is not None
        judgement = ts_client.judge(reply, query)
        assert judgement.kind is ts_client.AnswerKind.TIME, judgement.reason
        assert len(judgement.cookies) == 1
