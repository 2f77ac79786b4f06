# SPDX-License-Identifier: MIT
"""The server checks 1 to 32: our own server and a sound one pass, a server with a fault fails the check that is for it,
and no server, however hostile, makes a check raise or hang."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nts.base.errors import ALPNError, ConnectError, ExitCode, KeResponseError, NTSError, ResolveError, TLSError
from nts.base.registry import ALPN, ErrorCode, RecordType
from nts.check import runner
from nts.check.context import Target
from nts.check.ke.answer import MAX_ANSWER
from nts.check.ke.forge import END, NTPV4, REQUEST, UNKNOWN_TYPE, protocols, record, request
from nts.check.model import Direction, Grade, Result, Severity
from nts.check.peer import Authority, KeBehaviour, KePeer, KeTalk, NtpBehaviour, NtpTalk, pair
from nts.check.peer.craft import random_cookies, response
from nts.check.peer.ke import TLS_1_2, Stopped, no_alpn
from nts.check.server import CHECKS
from nts.check.server.probe import ServerProbe
from nts.codec import cookies, records
from nts.codec.aead import Aead
from tests import chrony
from tests.support import Suite, free_port

KE_CHECKS = [c for c in CHECKS if int(c.id) <= 32]
NAMES = [c.name for c in KE_CHECKS]
FAIL, WARN, PASS, SKIP = Grade.FAIL, Grade.WARN, Grade.PASS, Grade.SKIP
QUICK = 1.0  # seconds that peers wait for a request
Change = Callable[[bytes], bytes]


def probe(port: int, ca: Path | None = None, *, host: str = "127.0.0.1", **more: float) -> ServerProbe:
    settings = {"timeout": 3.0, "silence": 2.0, "patience": 1.0, **more}
    return ServerProbe(Target(host, port, ca, **settings), pace=0, seed=1)  # type: ignore[arg-type]


def check(asker: ServerProbe, name: str) -> Result[ServerProbe]:
    (result,) = runner.run(runner.select(KE_CHECKS, [name], []), asker)
    return result


def test_the_checks_are_those_of_the_list() -> None:
    assert [int(c.id) for c in KE_CHECKS] == list(range(1, 33))
    assert len(set(NAMES)) == 32
    for c in KE_CHECKS:
        assert c.sends.endswith("."), c.name
        assert c.expects.endswith("."), c.name
        assert c.rule.endswith("."), c.name


# --- sound servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_our_own_server_passes(suite: Suite, name: str) -> None:
    result = check(probe(suite.ke_port, suite.ca, timeout=10, silence=20), name)
    assert result.grade is PASS, result.evidence
    assert result.exhibits


@pytest.fixture(scope="module")
def sound(authority: Authority) -> Iterator[ServerProbe]:
    with pair(KeBehaviour(timeout=4), authority=authority) as servers:
        yield probe(servers.ke.port, authority.ca, timeout=10, silence=20)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_peer_passes(sound: ServerProbe, name: str) -> None:
    result = check(sound, name)
    assert result.grade is PASS, result.evidence


# --- faults ----------------------------------------------------------------------------------------------------------


def responding(change: Change) -> KeBehaviour:
    """A server whose sound responses are changed."""
    return KeBehaviour(lambda talk: talk.send(change(talk.respond(talk.request()))), timeout=QUICK)


def reading(change: Change) -> KeBehaviour:
    """A server that misreads requests."""
    return KeBehaviour(lambda talk: talk.send(talk.respond(change(talk.request()))), timeout=QUICK)


def saying(octets: bytes) -> KeBehaviour:
    """A server that says this to all."""
    return responding(lambda _response: octets)


def without_types(octets: bytes, *types: int) -> bytes:
    return b"".join(raw for kind, raw in split(octets) if kind not in types)


def split(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Type, without the critical bit, and octets of each whole record."""
    while len(octets) >= 4:
        kind, size = struct.unpack(">HH", octets[:4])
        yield kind & 0x7FFF, octets[: 4 + size]
        octets = octets[4 + size :]


def with_more(octets: bytes, more: bytes) -> bytes:
    """A message with more records in front of its end."""
    return octets[: -len(END)] + more + END


def error(code: int) -> bytes:
    return record(RecordType.ERROR, records.encode_u16s(code)) + END


def just_close(talk: KeTalk) -> None:
    talk.request()


def hang(talk: KeTalk) -> None:
    talk.request()
    talk.wait(20)


def without_close_notify(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.sock.shutdown(socket.SHUT_WR)
    raise Stopped


def leaving_it_open(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.wait(20)


def closing_second(talk: KeTalk) -> None:
    """Closes once the client has."""
    talk.send(talk.respond(talk.request()))
    talk.receive(time.monotonic() + 20)


def idle_without_ntske(talk: KeTalk) -> None:
    """Serves over ntske/1, and forgets all other connections."""
    if talk.connection.get_alpn_proto_negotiated():
        talk.send(talk.respond(talk.request()))
    else:
        talk.wait(20)


def reset_after_response(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.wait(0.1)  # RST overtakes what has not been read
    talk.reset()
    raise Stopped


def one_read(talk: KeTalk) -> None:
    """Takes what is in the first TLS record for the request."""
    talk.send(talk.respond(talk.receive(time.monotonic() + 5)))


def answering_twice(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.send(talk.respond(talk.request()))


def at_most(limit: int) -> Change:
    return lambda octets: octets if len(octets) <= limit else b""


def needing_npn_first(octets: bytes) -> bytes:
    return octets if octets.startswith(NTPV4[:2]) else b""


def aliasing(octets: bytes) -> bytes:
    """Looks at the last 11 bits of a type."""
    return b"".join(raw[:1] + raw[1:] if kind < 0x800 else bytes([raw[0] & 0x87]) + raw[1:]
                    for kind, raw in split(octets))  # fmt: skip


def first_128_aeads(octets: bytes) -> bytes:
    cut = record(RecordType.AEAD_ALGORITHM, dict(split(octets))[RecordType.AEAD_ALGORITHM][4:260])
    return b"".join(cut if kind == RecordType.AEAD_ALGORITHM else raw for kind, raw in split(octets))


def refusing_unknown(octets: bytes) -> bytes:
    """Takes any unknown record for a critical one."""
    return b"".join(bytes([raw[0] | 0x80]) + raw[1:] for _, raw in split(octets))


def only_ntpv4(octets: bytes) -> bytes:
    """Error 1 unless NTPv4 is the one protocol."""
    return octets if octets.startswith(NTPV4) else b""


def own_address(octets: bytes) -> bytes:
    return without_types(octets, RecordType.SERVER, RecordType.PORT)


def located(more: bytes) -> KeBehaviour:
    return responding(lambda octets: with_more(own_address(octets), more))


ACCEPTS_ALL = reading(lambda _request: REQUEST)
CLOSES = KeBehaviour(just_close, timeout=QUICK)
HANGS = KeBehaviour(hang, timeout=QUICK)
ERROR_2 = saying(error(ErrorCode.INTERNAL_SERVER_ERROR))
NO_EOM = responding(lambda octets: octets[: -len(END)])
MISSING = responding(lambda octets: without_types(octets, RecordType.NEXT_PROTOCOL))
EAGER = KeBehaviour(alpn=no_alpn, needs_alpn=False, timeout=QUICK)
IDLE = KeBehaviour(idle_without_ntske, alpn=lambda offered: ALPN if ALPN in offered else None, needs_alpn=False)
ERROR_CHECKS = [
    "ke-crit-unknown", "ke-no-npn", "ke-no-aead", "ke-dup-npn", "ke-dup-aead", "ke-npn-malformed",
    "ke-aead-malformed", "ke-client-forbidden",
]  # fmt: skip
LENIENT_CHECKS = ["ke-eom-malformed", "ke-truncated", "ke-silence"]
AGREEING_CHECKS = [
    "ke-basic", "ke-order", "ke-segmented", "ke-1024", "ke-noncrit-unknown", "ke-proto-mixed", "ke-aead-15-last",
]  # fmt: skip

Fault = tuple[str, str, KeBehaviour, Grade, Severity, str]
MUST, SHOULD, CRIT, INFO = Severity.MUST, Severity.SHOULD, Severity.CRIT, Severity.INFO

FAULTS: list[Fault] = [
    ("tls13-only", "TLS 1.2", KeBehaviour(oldest=TLS_1_2), FAIL, CRIT, "agreed to TLSv1.2"),
    ("alpn-select", "none", EAGER, FAIL, MUST, "no protocol"),
    ("alpn-select", "the first", KeBehaviour(alpn=lambda offered: offered[0]), FAIL, MUST, "selected h2"),
    ("alpn-absent", "served", replace(EAGER, alpn=lambda offered: ALPN), FAIL, MUST, "served anyway"),
    ("alpn-absent", "open", IDLE, WARN, MUST, "left the connection open after 2.0 s"),
    ("alpn-wrong", "open", IDLE, WARN, MUST, "left the connection open after 2.0 s"),
    ("alpn-wrong", "served", EAGER, FAIL, MUST, "served anyway"),
    ("alpn-wrong", "as h2", KeBehaviour(alpn=lambda offered: offered[0]), FAIL, MUST, "served anyway"),
    *((name, "no NPN", MISSING, FAIL, MUST, "no Next Protocol") for name in AGREEING_CHECKS),
    *((name, "no end", NO_EOM, FAIL, MUST, "without an End of Message") for name in AGREEING_CHECKS),
    *((name, "Error 2", ERROR_2, FAIL, MUST, "Error 2") for name in AGREEING_CHECKS),
    ("ke-basic", "un-offered AEAD", responding(lambda _: response(aeads=b"\0\x11")), FAIL, MUST, "not offered"),
    ("ke-basic", "no cookies", responding(lambda _: response(cookies=[])), FAIL, MUST, "no cookies"),
    ("ke-basic", "hangs", HANGS, FAIL, MUST, "left the connection open"),
    ("ke-order", "NPN first", reading(needing_npn_first), FAIL, MUST, "Error 1"),
    ("ke-cookie-count", "seven", saying(response(cookies=random_cookies(7))), WARN, SHOULD, "7 distinct"),
    ("ke-cookie-count", "equal", saying(response(cookies=[bytes(100)] * 8)), FAIL, SHOULD, "only 1 of them"),
    ("ke-cookie-count", "none", saying(response(cookies=[])), FAIL, MUST, "no cookies"),
    ("ke-cookie-shape", "odd", saying(response(cookies=random_cookies(8, 101))), WARN, INFO, "multiple of 4"),
    ("ke-cookie-shape", "none", saying(response(cookies=[])), FAIL, MUST, "no cookies"),
    ("ke-close-notify", "FIN", KeBehaviour(without_close_notify), FAIL, MUST, "without close_notify"),
    ("ke-close-notify", "open", KeBehaviour(leaving_it_open), FAIL, MUST, "left the connection open"),
    ("ke-close-notify", "second", KeBehaviour(closing_second), WARN, MUST, "once we had, and not on its own"),
    ("ke-silence", "second", KeBehaviour(closing_second, timeout=QUICK), FAIL, MUST, "close_notify, once we had"),
    ("ke-close-notify", "RST", KeBehaviour(reset_after_response), FAIL, MUST, "reset"),
    ("ke-segmented", "one read", KeBehaviour(one_read), FAIL, MUST, "in single octets: "),
    ("ke-1024", "1023 octets", reading(at_most(1023)), FAIL, MUST, "Error 1"),
    ("ke-noncrit-unknown", "refused", reading(refusing_unknown), FAIL, MUST, "type 0x3fff: "),
    ("ke-noncrit-unknown", "aliased", reading(aliasing), FAIL, MUST, "type 0x0801: "),
    *((name, "accepted", ACCEPTS_ALL, FAIL, MUST, "accepted") for name in ERROR_CHECKS + LENIENT_CHECKS),
    *((name, "closed", CLOSES, FAIL, MUST, "no answer") for name in ERROR_CHECKS),
    *((name, "closed", CLOSES, WARN, MUST, "no answer") for name in LENIENT_CHECKS),
    *((name, "Error 2", ERROR_2, FAIL, MUST, "where Error") for name in ERROR_CHECKS + LENIENT_CHECKS),
    *((name, "open", HANGS, FAIL, MUST, "left the connection open") for name in LENIENT_CHECKS),
    ("ke-crit-unknown", "Error 1", saying(error(1)), FAIL, MUST, "where Error 0 is due"),
    ("ke-no-npn", "Error 0", saying(error(0)), FAIL, MUST, "where Error 1 is due"),
    ("ke-proto-unknown", "served", ACCEPTS_ALL, FAIL, MUST, "cookies anyway"),
    ("ke-proto-unknown", "Error 1", reading(only_ntpv4), FAIL, MUST, "Error 1"),
    ("ke-proto-unknown", "claimed", saying(protocols(0x7777) + END), FAIL, MUST, "[30583]"),
    ("ke-proto-mixed", "Error 1", reading(only_ntpv4), FAIL, MUST, "Error 1"),
    ("ke-proto-mixed", "both", saying(response(protocols=b"\x77\x77\0\0")), FAIL, MUST, "30583, 0"),
    ("ke-aead-unknown", "served", ACCEPTS_ALL, FAIL, MUST, "cookies anyway"),
    ("ke-aead-unknown", "Error 1", saying(error(1)), FAIL, MUST, "Error 1"),
    ("ke-aead-15-last", "128 read", reading(first_128_aeads), FAIL, MUST, "none of the AEAD algorithms"),
    ("ke-aead-menu", "always 15", ACCEPTS_ALL, FAIL, MUST, "although only 16"),
    ("ke-aead-menu", "no 15", KeBehaviour(aeads=(Aead.AES_SIV_CMAC_512,)), FAIL, MUST, "every server must speak"),
    ("ke-server-port", "zone", located(record(6, b"fe80::1%eth0")), FAIL, MUST, "neither an IP address"),
    ("ke-server-port", "two", located(record(6, b"127.0.0.1") * 2), FAIL, MUST, "2 Server"),
    ("ke-server-port", "port 0", located(record(7, b"\0\0")), FAIL, MUST, "UDP port 0"),
    ("ke-server-port", "port of three octets", located(record(7, bytes(3))), FAIL, MUST, "3 octets"),
    ("ke-server-port", "family", KeBehaviour(ntp_server="::1"), FAIL, SHOULD, "server ::1"),
    ("ke-server-port", "no address", KeBehaviour(ntp_server="nowhere.invalid"), FAIL, SHOULD, "cannot resolve"),
    ("ke-second-request", "two responses", KeBehaviour(answering_twice), FAIL, MUST, "more octets"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "behaviour", "verdict", "severity", "text"),
    [(name, *rest) for name, _, *rest in FAULTS],
    ids=[f"{name}-{label}" for name, label, *_ in FAULTS],
)
def test_a_fault_is_found(
    authority: Authority, name: str, behaviour: KeBehaviour, verdict: Grade, severity: Severity, text: str
) -> None:
    with pair(behaviour, authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), name)
    assert (result.grade, result.severity) == (verdict, severity), result.evidence
    assert text in result.evidence
    assert result.exhibits


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({"days": (-3.0, -1.0)}, "it has expired"),
        ({"days": (1.0, 3.0)}, "it is not valid yet"),
        ({"names": ("elsewhere.example",)}, "not for 127.0.0.1"),
        ({"names": (), "common_name": "127.0.0.1"}, "not for 127.0.0.1"),
        ({"names": ("127.0.0.1",), "self_signed": True}, "self-signed"),
        ({"names": ("127.0.0.1",), "for_servers": False}, "not for servers"),
    ],
    ids=["expired", "future", "another name", "common name", "self-signed", "client's"],
)
def test_a_bad_certificate_is_found(authority: Authority, what: dict[str, object], text: str) -> None:
    certificate = authority.issue(**what)  # type: ignore[arg-type]
    with pair(KeBehaviour(certificate=certificate), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), "cert-chain")
        others = check(probe(servers.ke.port, authority.ca), "ke-basic")
    assert (result.grade, result.severity) == (FAIL, CRIT)
    assert text in result.evidence
    assert others.grade is PASS  # no other check minds the certificate


def test_every_check_has_a_fault() -> None:
    assert {name for name, *_ in FAULTS} | {"cert-chain", "ke-1024-record"} == set(NAMES)


@pytest.mark.parametrize("name", ["alpn-absent", "alpn-wrong"])
def test_a_server_that_refuses_all_cannot_be_judged_by_its_refusals(authority: Authority, name: str) -> None:
    with pair(CLOSES, authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), name)
    assert result.grade is SKIP
    assert "a usual request gets no cookies either" in result.evidence


def test_closing_after_a_while_is_waited_for(authority: Authority) -> None:
    """A server is not rushed: it has as long for its close_notify as for its response."""

    def slow(talk: KeTalk) -> None:
        talk.send(talk.respond(talk.request()))
        talk.wait(1.3)  # longer than the grace that other checks have for it

    with pair(KeBehaviour(slow), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), "ke-close-notify")
    assert result.grade is PASS, result.evidence


def test_a_server_that_selects_what_was_not_offered_is_no_good_one(authority: Authority) -> None:
    with pair(replace(EAGER, alpn=lambda offered: ALPN), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), "alpn-wrong")
    assert (result.grade, "broke TLS" in result.evidence) == (WARN, True), result.evidence


# --- AEAD 30 ---------------------------------------------------------------------------------------------------------


class GcmServer:
    """A pair of servers that speaks AEAD 30, with the exporter contexts and the echo it is told to use."""

    def __init__(self, context: Callable[[bool], int], *, echo: bool = True, deaf: bool = False) -> None:
        self._context, self._echo, self._deaf = context, echo, deaf
        self.ke, self.ntp = KeBehaviour(self._agree), NtpBehaviour(self._time)

    def _agree(self, talk: KeTalk) -> None:
        asked = RecordType.COMPLIANT_CONTEXT in dict(split(talk.request()))
        keys, master = talk.export(Aead.AES_128_GCM_SIV, self._context(asked)), talk.ring.current
        assert master is not None
        made = [cookies.seal(master, (keys,), os.urandom(16)) for _ in range(8)]
        more = record(RecordType.PORT, records.encode_u16s(talk.behaviour.ntp_port))
        if asked and self._echo:
            more += record(RecordType.COMPLIANT_CONTEXT, critical=False)
        talk.send(response(aeads=records.encode_u16s(Aead.AES_128_GCM_SIV), cookies=made, more=more))

    def _time(self, talk: NtpTalk) -> Iterable[bytes | float]:
        reply = talk.sound()
        return [] if self._deaf or reply is None else [reply]


@pytest.mark.parametrize(
    ("server", "verdict", "text"),
    [
        (GcmServer(lambda asked: 30), PASS, "with record 1024: context 30 (and record 1024 in the response)"),
        (GcmServer(lambda asked: 30, echo=False), PASS, "with record 1024: context 30"),
        (GcmServer(lambda asked: 30 if asked else 15), WARN, "without record 1024: context 15"),
        (GcmServer(lambda asked: 15, echo=False), WARN, "with record 1024: context 15"),
        (GcmServer(lambda asked: 15), FAIL, "with record 1024: context 15"),
        (GcmServer(lambda asked: 17), FAIL, "neither"),
        (GcmServer(lambda asked: 30, deaf=True), Grade.PATH, "no reply"),
    ],
    ids=["right", "right, silent about it", "chrony 4.6", "chrony 4.4", "liar", "neither", "no reply"],
)
def test_the_exporter_context_of_aead_30(authority: Authority, server: GcmServer, verdict: Grade, text: str) -> None:
    with pair(server.ke, server.ntp, authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca, patience=0.2), "ke-1024-record")
    assert result.grade is verdict, result.evidence
    assert text in result.evidence


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
    [(saying(error(1)), "no cookies"), (saying(response(aeads=b"\0\x1e")), "AEAD 30"), (CLOSES, "no cookies")],
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


def test_over_ipv6(suite: Suite) -> None:
    if not chrony.loopback_works("::1"):
        pytest.skip("no IPv6 loopback here")
    asker = probe(suite.ke_port, suite.ca, host="::1")
    for name in ("cert-chain", "ke-basic", "ke-server-port"):
        result = check(asker, name)
        assert result.grade is PASS, result.evidence
    assert asker.ke.fetch().endpoint(socket.AF_UNSPEC).address[0] == "::1"


# --- chronyd ---------------------------------------------------------------------------------------------------------

# What Debian's chronyd, 4.3 and 4.6.1, does otherwise than the RFC has it; all else passes.
CHRONYD: dict[str, tuple[Grade, str]] = {
    "ke-eom-malformed": (WARN, "closes without an Error record"),
    "ke-truncated": (WARN, "closes without an Error record"),
    "ke-silence": (WARN, "closes after 2 s without an Error record"),
    "ke-aead-15-last": (FAIL, "reads no more than 128 algorithms"),
}
CHRONYD_WITH_GCM_SIV = CHRONYD | {
    "ke-1024-record": (WARN, "has 15 in the context for AEAD 30, as its first clients did, unless asked not to"),
}


@pytest.fixture(scope="module")
def chronyd(authority: Authority) -> Iterator[ServerProbe]:
    chrony.require()
    with chrony.short_folder() as folder:
        port, (cert, key) = free_port(), authority.certificate
        lines = ["local stratum 1", "allow", f"port {free_port(socket.SOCK_DGRAM)}", f"ntsport {port}",
                 f"ntsservercert {cert}", f"ntsserverkey {key}"]  # fmt: skip
        with chrony.running(folder, lines):
            yield probe(port, authority.ca, timeout=10, silence=20)


@pytest.mark.interop
@pytest.mark.parametrize("name", NAMES)
def test_chronyd(chronyd: ServerProbe, name: str) -> None:
    verdict, _why = (CHRONYD_WITH_GCM_SIV if chrony.has_gcm_siv() else CHRONYD).get(name, (PASS, ""))
    result = check(chronyd, name)
    assert result.grade is verdict, result.evidence
