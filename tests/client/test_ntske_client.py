# SPDX-License-Identifier: MIT
"""The real key exchange client against servers that misbehave: C13 to C21 of nts_check's cases, among others.

Each case runs one client process against a fake server of its own; all cases run in a pool from the first test on, so
that their waits do not add up. Asserted are the exit code, the one `error:` line and the one `hint:`, what client.ini
holds afterwards, and what the fake server saw.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from OpenSSL import SSL

from nts.base.errors import KeResponseError
from nts.check.peer import Authority, KePeer, KeTalk
from nts.check.peer.craft import random_cookies, response
from nts.check.peer.ke import no_alpn
from nts.client import ke_session
from nts.codec.aead import Aead
from nts.codec.records import encode_u16s as u16
from nts.system import tls
from nts.system.tls import AlpnRefused
from testkit import processes
from testkit.client_runs import (
    KE,
    PARALLEL,
    SLACK,
    Completed,
    KeCase,
    check_failure,
    check_success,
    ke_server,
    read_ini,
    say,
    some_keys,
    stored_cookies,
    write_association,
)
from testkit.outcomes import Outcomes
from testkit.raw_ke import END, record


@dataclass(frozen=True)
class KeOutcome:
    completed: Completed
    server: KePeer
    ini: Path
    before: str
    """what client.ini held before"""
    seconds: float


def run_ke(case: KeCase, authority: Authority, folder: Path) -> KeOutcome:
    folder.mkdir()
    ini = folder / "client.ini"
    write_association(ini, some_keys(), 4123, random_cookies(2))
    before = ini.read_text()
    server = ke_server(case, authority)
    arguments = [a.format(ca=authority.ca) for a in case.arguments]
    if case.verify:
        arguments += ["-c", str(authority.ca)]
    with server:
        started = time.monotonic()
        completed = processes.run(KE, *arguments, "-o", ini, case.host, server.port)
        return KeOutcome(completed, server, ini, before, time.monotonic() - started)


@pytest.fixture(scope="module")
def ke(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes[str, KeOutcome]]:
    cases = {**GRANTED, **{n: c for n, (_, _, c) in {**REFUSED, **UNACCEPTABLE}.items()}}
    folder = tmp_path_factory.mktemp("ke")
    jobs = {n: partial(run_ke, c, authority, folder / str(i)) for i, (n, c) in enumerate(cases.items())}
    with Outcomes(jobs, parallel=PARALLEL, timeout=120) as outcomes:
        yield outcomes


def says(*parts: bytes, end: bytes = END, **changes: bytes | list[bytes] | None) -> KeCase:
    """A server whose response has these records between AEAD and cookies, or is otherwise as told."""
    return KeCase(say(response(more=b"".join(parts), end=end, **changes)))  # type: ignore[arg-type]


def plain_record(kind: int, body: bytes = b"") -> bytes:
    return record(kind, body, critical=False)


def response_of(octets: int) -> bytes:
    """A good response of exactly that length."""
    cookies = random_cookies()
    filler = octets - len(response(cookies=cookies)) - 4
    return response(cookies=cookies, more=plain_record(0x3FFF, bytes(filler)))


def endless(start: bytes, block: bytes) -> KeCase:
    def answer(talk: KeTalk) -> None:
        talk.request()
        if start:
            talk.send(start)
        talk.send_for_ever(block)

    return KeCase(answer)


def later(first: bytes, then: bytes) -> KeCase:
    """Two parts of a response, a moment apart."""

    def answer(talk: KeTalk) -> None:
        talk.request()
        talk.send(first)
        time.sleep(0.1)
        talk.send(then)

    return KeCase(answer)


def hang_up(talk: KeTalk) -> None:
    """Half a response, then a reset."""
    talk.request()
    talk.send(response()[:200])
    talk.reset()


def bare_end(talk: KeTalk) -> None:
    """A whole response, then FIN without close_notify."""
    talk.request()
    talk.send(response())
    talk.cut()


def refuse(_offered: list[bytes]) -> bytes | None:
    raise AlpnRefused


def wait_in_handshake(sock: socket.socket) -> None:
    """Take the ClientHello and say nothing, for longer than the client's --timeout."""
    sock.settimeout(3)
    with contextlib.suppress(OSError):
        while sock.recv(4096):
            pass


def silent(talk: KeTalk) -> None:
    talk.request()
    talk.wait(20)


GRANTED: dict[str, KeCase] = {
    "basic": KeCase(),
    "A25 AEAD record not critical": KeCase(
        say(record(1, b"\0\0") + plain_record(4, b"\0\x0f") + plain_record(5, bytes(100)) + END)
    ),
    "A09 records in another order": KeCase(
        say(plain_record(5, bytes(100)) + record(4, b"\0\x0f") + record(1, b"\0\0") + END)
    ),
    "C15 unknown record, not critical": says(plain_record(0x3FFF, b"x")),
    "A12 type 0x0801 is not 1": says(plain_record(0x0801, b"\0\1")),
    "A94 record 1024 unasked": says(plain_record(1024)),
    "C13 one cookie": says(cookies=random_cookies(1)),
    "C13 20 cookies": says(cookies=random_cookies(20)),
    "C13 cookies of many lengths": says(cookies=[os.urandom(n) for n in (1, 15, 16, 100, 101, 256, 512, 1000)]),
    "C13 cookies too long besides good ones": says(cookies=[os.urandom(3000), *random_cookies(3), os.urandom(65535)]),
    "C18 65536 octets": KeCase(say(response_of(65536))),
    "C18 TLS records of one octet": KeCase(say(response(), each=1)),
    "C18 slow, but in time": KeCase(say(response(), each=100, pause=0.05), ("--timeout", "20")),
    "C19 IPv4 address": says(record(6, b"192.0.2.7")),
    "C19 IPv6 address": says(record(6, b"2001:db8::7")),
    "C19 name": says(record(6, b"time.example.com")),
    "C19 name with a dot at its end": says(record(6, b"time.example.com.")),
    "C19 A-label": says(record(6, b"xn--bcher-kva.example")),
    "A36 not critical": says(plain_record(6, b"time.example.com"), plain_record(7, b"\x10\x1b")),
    "C20 port 4123": says(record(7, u16(4123))),
    "C20 port 65535 and server": says(record(7, u16(65535)), record(6, b"192.0.2.7")),
    "A10 bare end instead of close_notify": KeCase(bare_end),
    "IP address as host": KeCase(host="127.0.0.1", certificate=lambda a: a.issue(names=("127.0.0.1",))),
    "-n for an address": KeCase(host="127.0.0.1", arguments=("-n", "localhost")),
    "-n another name": KeCase(
        arguments=("-n", "time.example"), certificate=lambda a: a.issue(names=("x.example", "time.example"))
    ),
    "-n with a wildcard": KeCase(
        arguments=("-n", "a.example.org"), certificate=lambda a: a.issue(names=("*.example.org",))
    ),
    "--aead 17,15": KeCase(say(response(aeads=u16(17))), ("--aead", "17,15")),
}
WHERE = {  # server and port in client.ini, where they are not the defaults
    "C19 IPv4 address": ("192.0.2.7", "123"),
    "C19 IPv6 address": ("2001:db8::7", "123"),
    "C19 name": ("time.example.com", "123"),
    "C19 name with a dot at its end": ("time.example.com.", "123"),
    "C19 A-label": ("xn--bcher-kva.example", "123"),
    "A36 not critical": ("time.example.com", "4123"),
    "C20 port 4123": ("127.0.0.1", "4123"),
    "C20 port 65535 and server": ("192.0.2.7", "65535"),
}
COOKIES_KEPT = {"A25 AEAD record not critical": 1, "A09 records in another order": 1, "C13 one cookie": 1,
                "C13 cookies too long besides good ones": 3}  # fmt: skip

REFUSED: dict[str, tuple[int, str, KeCase]] = {
    **{f"C14 Error {n}": (16, f"Error {n}", KeCase(say(record(2, u16(n)) + END))) for n in (0, 1, 2, 0x9999)},
    "C14 Error besides a good response": (16, "Error 2", says(record(2, u16(2)))),
    "C14 Error, not critical": (16, "Error 1", says(plain_record(2, u16(1)))),
    "C14 Error with Next Protocol": (16, "Error 1", KeCase(say(record(1, b"\0\0") + record(2, u16(1)) + END))),
    "C14 Error of one octet": (15, "illegal", KeCase(say(record(2, b"\1") + END))),
    "C14 Warning 0": (16, "Warning 0", says(record(3, u16(0)))),
    "C14 Warning 0x8000": (16, "Warning 32768", says(record(3, u16(0x8000)))),
    "C15 unknown critical record": (15, "unknown critical record of type 16383", says(record(0x3FFF, b"x"))),
    "C16 no end": (15, "closed the connection in the middle", says(end=b"")),
    "C16 nothing": (15, "closed the connection without a response", KeCase(lambda talk: None)),
    "C16 half a record": (15, "closed the connection in the middle", KeCase(say(response()[:300]))),
    "C16 reset half-way": (15, "closed the connection", KeCase(hang_up)),
    "C16 end not critical": (15, "End of Message record is not critical", says(end=plain_record(0))),
    "C16 end with a body": (15, "End of Message record has a body", says(end=record(0, b"x"))),
    "C16 record after the end": (15, "after the End of Message", says(end=END + plain_record(0x3FFF))),
    "C16 record after the end, later": (15, "after the End of Message", later(response(), plain_record(0x3FFF))),
    "C16 two ends": (15, "after the End of Message", says(end=END + END)),
    "C16 two Next Protocols": (15, "two NTS Next Protocol Negotiation records", says(record(1, b"\0\0"))),
    "C16 no Next Protocol": (15, "no Next Protocol", says(protocols=None)),
    "C16 Next Protocol not critical": (
        15, "not critical", KeCase(say(plain_record(1, b"\0\0") + record(4, b"\0\x0f") + plain_record(5, b"x") + END)),
    ),
    "C17 AEAD none": (15, "none of the AEAD algorithms", says(aeads=b"", cookies=[])),
    "C17 AEAD none, with cookies": (15, "none of the AEAD algorithms", says(aeads=b"")),
    "C17 AEAD 30, not offered": (15, "AEAD algorithm 30, which was not offered", says(aeads=u16(30))),
    "C17 AEAD 17 to an offer of 15": (
        15, "AEAD algorithm 17, which was not offered", KeCase(say(response(aeads=u16(17))), ("--aead", "15")),
    ),
    "C17 two AEADs in a record": (15, "more than one AEAD", says(aeads=u16(15, 17))),
    "C17 two AEAD records": (15, "two AEAD Algorithm Negotiation records", says(record(4, u16(15)))),
    "C17 no AEAD record": (15, "no AEAD Algorithm", says(aeads=None)),
    "C17 odd AEAD record": (15, "odd length", says(aeads=b"\0\x0f\0")),
    "C17 Next Protocol none": (15, "does not offer NTPv4", says(protocols=b"", aeads=None, cookies=[])),
    "C17 Next Protocol 0x8001, not offered": (15, "which were not offered", says(protocols=u16(0x8001))),
    "C17 offered and another protocol": (15, "32769, which were not offered", says(protocols=b"\0\0\x80\1")),
    "C17 odd Next Protocol": (15, "odd length", says(protocols=b"\0")),
    "C13 no cookies": (15, "no cookies", says(cookies=[])),
    "C13 an empty cookie": (15, "empty cookie", says(cookies=[b"", *random_cookies(7)])),
    "C13 only cookies too long": (15, "cookies too long", says(cookies=[os.urandom(1500)] * 8)),
    "C18 never answers": (15, "in time", KeCase(silent, ("--timeout", "1"))),
    "C18 an octet each 0.1 s": (15, "in time", KeCase(say(response(), each=1, pause=0.1), ("--timeout", "1.5"))),
    "C18 endless records": (15, "more than 131072 octets", endless(b"", plain_record(0x3FFF, bytes(16380)))),
    "C18 endless empty records": (15, "more than 131072 octets", endless(b"", plain_record(0x3FFF) * 4096)),
    "C18 endless after the end": (15, "after the End of Message", endless(response(), bytes(1 << 20))),
    **{
        f"C19 {name}": (15, "neither an IP address nor a domain name", says(record(6, server)))
        for name, server in {
            "zone identifier": b"fe80::1%eth0", "brackets": b"[::1]", "NUL": b"localhost\0", "empty": b"",
            "300 characters": b".".join([b"a" * 59] * 5), "UTF-8": "zeit.b\u00fccher.example".encode(),
            "space": b"a b.example", "newline": b"a.example\n", "escape": b"\x1b[2Ja.example", "port": b"127.0.0.1:123",
            "empty label": b"a..example", "not quite IPv4": b"127.0.0.256",
        }.items()
    },
    "C19 two records": (15, "two NTPv4 Server", says(record(6, b"127.0.0.1"), record(6, b"127.0.0.1"))),
    "C20 port 0": (15, "port 0", says(record(7, u16(0)))),
    "C20 port of one octet": (15, "body of 1 octet", says(record(7, b"\x7b"))),
    "C20 port of three octets": (15, "body of 3 octets", says(record(7, b"\0\x10\x1b"))),
    "C20 two records": (15, "two NTPv4 Port", says(record(7, u16(123)), record(7, u16(123)))),
}  # fmt: skip

NOT_FOR = "certificate is not for"
# Before these are settled the client must not send a single octet.
UNACCEPTABLE: dict[str, tuple[int, str, KeCase]] = {
    "C21 TLS 1.2 only": (12, "TLS handshake failed", KeCase(newest=SSL.TLS1_2_VERSION)),
    "C21 no ALPN": (14, "did not select the protocol ntske/1", KeCase(alpn=no_alpn)),
    "C21 ALPN refused, alert 120": (14, "refused the protocol ntske/1", KeCase(alpn=refuse)),
    "C21 wrong name": (13, f"{NOT_FOR} localhost", KeCase(certificate=lambda a: a.issue(names=("localhost.example",)))),
    "C21 common name only": (
        13, f"{NOT_FOR} localhost", KeCase(certificate=lambda a: a.issue(names=(), common_name="localhost")),
    ),
    "C21 other names, right common name": (
        13, NOT_FOR, KeCase(certificate=lambda a: a.issue(names=("x.example",), common_name="localhost")),
    ),
    "C21 address only": (13, f"{NOT_FOR} localhost", KeCase(certificate=lambda a: a.issue(names=("127.0.0.1",)))),
    "C21 another address": (
        13, f"{NOT_FOR} 127.0.0.1", KeCase(host="127.0.0.1", certificate=lambda a: a.issue(names=("127.0.0.2",))),
    ),
    "C21 name for an address": (13, f"{NOT_FOR} 127.0.0.1", KeCase(host="127.0.0.1")),
    "C21 not the name of -n": (13, f"{NOT_FOR} time.example", KeCase(arguments=("-n", "time.example"))),
    "C21 wildcard over two labels": (
        13, NOT_FOR, KeCase(arguments=("-n", "a.b.example"), certificate=lambda a: a.issue(names=("*.example",))),
    ),
    "C21 expired": (13, "expired", KeCase(certificate=lambda a: a.issue(days=(-2, -1)))),
    "C21 not yet valid": (13, "not valid yet", KeCase(certificate=lambda a: a.issue(days=(1, 2)))),
    "C21 self-signed": (13, "self-signed", KeCase(certificate=lambda a: a.issue(self_signed=True))),
    "C21 unknown CA": (
        13, "no trusted CA", KeCase(certificate=lambda a: Authority(a.folder / "unknown").certificate),
    ),
    "C21 unknown CA of the same name": (
        13, "is not acceptable", KeCase(certificate=lambda a: Authority(a.folder / "same name").issue()),
    ),
    "C21 the system's CAs do not know it": (13, "no trusted CA", KeCase(verify=False)),
    "C21 for clients, not servers": (13, "not for servers", KeCase(certificate=lambda a: a.issue(for_servers=False))),
    "no TLS": (12, "TLS", KeCase(raw=lambda s: s.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n"))),
    "random octets": (12, "TLS", KeCase(raw=lambda s: s.sendall(os.urandom(1000)))),
    "closed at once": (12, "TLS", KeCase(raw=lambda s: None)),
    "never answers the handshake": (
        12, "TLS handshake timed out", KeCase(raw=wait_in_handshake, arguments=("--timeout", "1")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRANTED)
def test_key_exchange_succeeds(ke: Outcomes[str, KeOutcome], name: str) -> None:
    """One connection, one request, close_notify (A06, A07), in whatever pieces the response comes (A08).

    The result is in client.ini, the old one gone (A77).
    """
    outcome = ke[name]
    check_success(outcome.completed)
    (session,) = outcome.server.sessions
    offered = u16(17, 15) if name.startswith("--aead") else u16(15, 16, 17)
    assert (
        session.received == record(1, b"\0\0") + record(4, offered) + END
    )  # A15, A18, A25, A36, C24: that and nothing else
    assert session.close_notify or name.startswith("A10")
    ini = read_ini(outcome.ini)
    where = (ini["ntpv4"]["server"], ini["ntpv4"]["port"])
    assert where == WHERE.get(name, ("127.0.0.1", "123"))  # A33: the address of the TCP connection, not the name
    assert len(stored_cookies(outcome.ini)) == COOKIES_KEPT.get(name, 8)
    old = outcome.before.splitlines()
    assert not [line for line in old if len(line) > 64 and line in outcome.ini.read_text()]
    assert ini["keys"]["aead"] == ("17" if name.startswith("--aead") else "15")
    assert len(bytes.fromhex(ini["keys"]["c2s"])) == (64 if name.startswith("--aead") else 32)


@pytest.mark.parametrize("name", REFUSED)
def test_key_exchange_ends_with_an_error(ke: Outcomes[str, KeOutcome], name: str) -> None:
    """A19, A23, A24, A28: no second attempt, and the association that client.ini held is untouched."""
    code, words, _ = REFUSED[name]
    outcome = ke[name]
    check_failure(outcome.completed, code, words)
    assert [bool(s.received) for s in outcome.server.sessions] == [True]
    assert outcome.ini.read_text() == outcome.before
    assert outcome.seconds < 5 + SLACK  # the default --timeout


@pytest.mark.parametrize("name", UNACCEPTABLE)
def test_nothing_is_sent_to_an_unacceptable_server(ke: Outcomes[str, KeOutcome], name: str) -> None:
    """A01, A03, A04, C21: no octet of application data before TLS 1.3, ALPN and certificate are as they must be."""
    code, words, _ = UNACCEPTABLE[name]
    outcome = ke[name]
    check_failure(outcome.completed, code, words)
    assert [s.received for s in outcome.server.sessions] == [b""]
    assert outcome.ini.read_text() == outcome.before


def test_time_out_is_kept(ke: Outcomes[str, KeOutcome]) -> None:
    """C18: --timeout bounds the whole exchange, at every stage, whatever drips in."""
    for name, limit in (("C18 never answers", 1), ("C18 an octet each 0.1 s", 1.5), ("never answers the handshake", 1)):
        assert limit < ke[name].seconds < limit + SLACK


def test_endless_response_is_not_read_to_its_end(ke: Outcomes[str, KeOutcome]) -> None:
    """C18: the client holds 131072 octets at most; what the server could send is that and the sockets' buffers."""
    for name in ("C18 endless records", "C18 endless empty records"):
        assert 131072 < ke[name].server.sessions[0].sent < 1 << 25


def test_server_name_is_indicated_unless_it_is_an_address(ke: Outcomes[str, KeOutcome]) -> None:
    """RFC 6066 section 3."""
    assert [s.server_name for s in ke["basic"].server.sessions] == [b"localhost"]
    assert [s.server_name for s in ke["IP address as host"].server.sessions] == [None]
    assert [s.server_name for s in ke["-n another name"].server.sessions] == [b"time.example"]


def test_cookies_are_opaque_and_stored_as_they_came(ke: Outcomes[str, KeOutcome]) -> None:
    """A30: of 1 to 1000 octets."""
    lengths = [len(c) for c in stored_cookies(ke["C13 cookies of many lengths"].ini)]
    assert lengths == [1, 15, 16, 100, 101, 256, 512, 1000]


def test_no_secret_is_shown(ke: Outcomes[str, KeOutcome]) -> None:
    """Neither on success nor in an error."""
    for outcome in (ke["basic"], ke["C14 Error besides a good response"], ke["C16 two ends"]):
        shown = outcome.completed.stdout + outcome.completed.stderr
        parser = read_ini(outcome.ini)
        secrets = [v for s in ("keys", "cookies") for _, v in parser.items(s) if len(v) > 60]
        assert len(secrets) >= 4
        assert not [s for s in secrets if s[:16] in shown]


BAD_CERTIFICATES: dict[str, Callable[[Authority], tuple[Path, Path]]] = {
    "wrong name": lambda a: a.issue(names=("x.example",)),
    "expired": lambda a: a.issue(days=(-2, -1)),
    "self-signed": lambda a: a.issue(self_signed=True),
}


@pytest.mark.parametrize("name", BAD_CERTIFICATES)
def test_option_v_believes_anyone_and_warns(authority: Authority, tmp_path: Path, name: str) -> None:
    """client.ini remembers that nothing was verified."""
    case = KeCase(certificate=BAD_CERTIFICATES[name], arguments=("-v",), verify=False)
    outcome = run_ke(case, authority, tmp_path / "run")
    assert outcome.completed.returncode == 0
    (line,) = outcome.completed.stderr.splitlines()
    assert line.startswith(f"{KE}: warning: certificate verification is off")
    assert read_ini(outcome.ini)["ntske"]["verify"] == "no"


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        (KeCase(newest=SSL.TLS1_2_VERSION), 12, "TLS handshake failed"),
        (KeCase(alpn=no_alpn), 14, "did not select"),
        (KeCase(say(record(2, u16(0)) + END)), 16, "Error 0"),
    ],
    ids=["TLS 1.2", "no ALPN", "Error 0"],
)
def test_option_v_turns_off_nothing_but_the_certificate(
    authority: Authority, tmp_path: Path, case: KeCase, code: int, words: str
) -> None:
    verbatim = KeCase(case.answer, ("-v",), alpn=case.alpn, newest=case.newest, verify=False)
    check_failure(run_ke(verbatim, authority, tmp_path / "run").completed, code, words)


def test_server_that_selects_what_was_not_offered_gets_nothing(authority: Authority, tmp_path: Path) -> None:
    """A03: OpenSSL ends the handshake or our own check does; either way no record is sent."""
    outcome = run_ke(KeCase(alpn=lambda offered: b"h2"), authority, tmp_path / "run")
    assert outcome.completed.returncode in (12, 14)
    check_failure(outcome.completed, outcome.completed.returncode, "")
    assert [s.received for s in outcome.server.sessions] == [b""]


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [("localhost", 11, "cannot connect to localhost"), ("nowhere.invalid", 10, "cannot resolve nowhere.invalid")],
)
def test_no_server_there(tmp_path: Path, host: str, code: int, words: str) -> None:
    """No file is made either."""
    ini, port = tmp_path / "client.ini", processes.free_port()
    env = {"RES_OPTIONS": "timeout:1 attempts:1"}
    check_failure(processes.run(KE, "-v", "--timeout", 2, "-o", ini, host, port, env=env), code, words)
    assert not ini.exists()


def test_endless_octets_after_the_response_end_the_exchange_on_a_slow_machine(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C18, where reading takes longer than sending: the grace for close_notify is half a second, not for ever."""
    receive = tls.ClientChannel.receive

    def receive_slowly(channel: tls.ClientChannel) -> bytes:
        time.sleep(0.005)
        return receive(channel)

    monkeypatch.setattr(tls.ClientChannel, "receive", receive_slowly)
    with (
        ThreadPoolExecutor(1) as pool,
        ke_server(endless(response(), bytes(1 << 20)), authority) as server,
    ):
        options = ke_session.Options("localhost", server.port, (Aead.AES_SIV_CMAC_256,), ca=authority.ca)
        exchange = pool.submit(ke_session.exchange, options)
        with pytest.raises(KeResponseError, match="after the End of Message"):
            exchange.result(5)
