# SPDX-License-Identifier: MIT
"""The real clients against servers that misbehave: C01 to C24 of conformance.md, E.2.

Each case runs one client process against a fake server of its own; all cases of a table run in a pool from the first
test on, so that their waits do not add up. Asserted are the exit code (design.md, section 6), the one `error:` line
and the one `hint:`, what client.ini holds afterwards, and what the fake server saw.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

import pytest
from OpenSSL import SSL

from nts import ke_session, tls, ts_client, ts_session
from nts.aead import SessionKeys
from nts.check.peer import Authority, KeBehaviour, KePeer, KeTalk, NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.craft import field as ef
from nts.check.peer.craft import random_cookies, response
from nts.check.peer.ke import no_alpn, strict_alpn
from nts.errors import KeResponseError, Mismatch
from nts.records import encode_u16s as u16
from nts.registry import AeadId, FieldType
from nts.state import ClientState
from nts.tls import AlpnRefused
from tests import support
from tests.support import END, record

KE, TS = "ntske_client.py", "ntsts_client.py"
UID, COOKIE, PLACEHOLDER, AUTH = FieldType
MAX_PACKET = 1232  # octets of UDP payload: 1280 with IPv6 and UDP headers
SLACK = 8.0  # seconds for starting a process on a busy machine
PARALLEL = 4

Completed = subprocess.CompletedProcess[str]


def check_failure(completed: Completed, code: int, words: str) -> None:
    """The exit code, one error line that says what was seen and at which stage, one hint, and nothing untidy."""
    script = Path(completed.args[1]).name
    lines = completed.stderr.splitlines()
    assert completed.returncode == code, completed.stderr
    (error,) = [line for line in lines if line.startswith(f"{script}: error: ")]
    (hint,) = [line for line in lines if line.startswith("hint: ")]
    assert words in error
    assert len(hint) > len("hint: ")
    assert all(line in (error, hint) or line.startswith(f"{script}: warning: ") for line in lines)
    assert "Traceback" not in completed.stdout + completed.stderr


def check_success(completed: Completed) -> None:
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""


def read_ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text())
    return parser


def stored_cookies(path: Path) -> list[bytes]:
    parser = read_ini(path)
    return [bytes.fromhex(v) for _, v in sorted(parser.items("cookies"))] if parser.has_section("cookies") else []


def write_association(
    path: Path, keys: SessionKeys, port: int, cookies: list[bytes], server: str = "127.0.0.1"
) -> None:
    """A client.ini as the ancestor writes it."""
    support.write_ini(
        path,
        ntpv4={"server": server, "port": port},
        keys={"c2s": keys.c2s.hex(), "s2c": keys.s2c.hex()},
        cookies={str(i): c.hex() for i, c in enumerate(cookies)},
    )


def some_keys() -> SessionKeys:
    return SessionKeys(AeadId.AES_SIV_CMAC_256, os.urandom(32), os.urandom(32))


# === the key exchange client =========================================================================================


@dataclass(frozen=True)
class KeCase:
    """A fake server, and how the client is called."""

    answer: Callable[[KeTalk], None] = field(default_factory=lambda: say(response()))
    arguments: tuple[str, ...] = ()
    """{ca} stands for the CA's file"""
    host: str = "localhost"
    certificate: Callable[[Authority], tuple[Path, Path]] = Authority.issue
    alpn: Callable[[list[bytes]], bytes | None] = strict_alpn
    newest: int = SSL.TLS1_3_VERSION
    raw: Callable[[socket.socket], None] | None = None
    verify: bool = True


def ke_server(case: KeCase, authority: Authority) -> KePeer:
    oldest, certificate = min(case.newest, SSL.TLS1_3_VERSION), case.certificate(authority)
    return KePeer(KeBehaviour(case.answer, certificate, case.alpn, oldest=oldest, newest=case.newest, raw=case.raw))


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
        completed = support.run(KE, *arguments, "-o", ini, case.host, server.port)
        return KeOutcome(completed, server, ini, before, time.monotonic() - started)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class KePool:
    """Runs every case once, several at a time."""

    def __init__(self, pool: ThreadPoolExecutor, authority: Authority, folder: Path) -> None:
        cases = {**GRANTED, **{n: c for n, (_, _, c) in {**REFUSED, **UNACCEPTABLE}.items()}}
        self._futures = {
            name: pool.submit(run_ke, case, authority, folder / str(i)) for i, (name, case) in enumerate(cases.items())
        }

    def __getitem__(self, name: str) -> KeOutcome:
        return self._futures[name].result(120)


@pytest.fixture(scope="module")
def ke(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KePool]:
    pool = ThreadPoolExecutor(PARALLEL)
    yield KePool(pool, authority, tmp_path_factory.mktemp("ke"))
    pool.shutdown(cancel_futures=True)


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


def say(data: bytes, *, each: int = 16384, pause: float = 0.0) -> Callable[[KeTalk], None]:
    """A server that takes the request, sends this, and closes."""

    def answer(talk: KeTalk) -> None:
        talk.request()
        talk.send(data, each=each, pause=pause)

    return answer


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
    "C17 offered and another protocol": says(protocols=b"\0\0\x80\1"),
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
    "C20 port of one octet": (15, "body of 1 octets", says(record(7, b"\x7b"))),
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
def test_key_exchange_succeeds(ke: KePool, name: str) -> None:
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
def test_key_exchange_ends_with_an_error(ke: KePool, name: str) -> None:
    """A19, A23, A24, A28: no second attempt, and the association that client.ini held is untouched."""
    code, words, _ = REFUSED[name]
    outcome = ke[name]
    check_failure(outcome.completed, code, words)
    assert [bool(s.received) for s in outcome.server.sessions] == [True]
    assert outcome.ini.read_text() == outcome.before
    assert outcome.seconds < 5 + SLACK  # the default --timeout


@pytest.mark.parametrize("name", UNACCEPTABLE)
def test_nothing_is_sent_to_an_unacceptable_server(ke: KePool, name: str) -> None:
    """A01, A03, A04, C21: no octet of application data before TLS 1.3, ALPN and certificate are as they must be."""
    code, words, _ = UNACCEPTABLE[name]
    outcome = ke[name]
    check_failure(outcome.completed, code, words)
    assert [s.received for s in outcome.server.sessions] == [b""]
    assert outcome.ini.read_text() == outcome.before


def test_time_out_is_kept(ke: KePool) -> None:
    """C18: --timeout bounds the whole exchange, at every stage, whatever drips in."""
    for name, limit in (("C18 never answers", 1), ("C18 an octet each 0.1 s", 1.5), ("never answers the handshake", 1)):
        assert limit < ke[name].seconds < limit + SLACK


def test_endless_response_is_not_read_to_its_end(ke: KePool) -> None:
    """C18: the client holds 131072 octets at most; what the server could send is that and the sockets' buffers."""
    for name in ("C18 endless records", "C18 endless empty records"):
        assert 131072 < ke[name].server.sessions[0].sent < 1 << 25


def test_server_name_is_indicated_unless_it_is_an_address(ke: KePool) -> None:
    """RFC 6066 section 3."""
    assert [s.server_name for s in ke["basic"].server.sessions] == [b"localhost"]
    assert [s.server_name for s in ke["IP address as host"].server.sessions] == [None]
    assert [s.server_name for s in ke["-n another name"].server.sessions] == [b"time.example"]


def test_cookies_are_opaque_and_stored_as_they_came(ke: KePool) -> None:
    """A30: of 1 to 1000 octets."""
    lengths = [len(c) for c in stored_cookies(ke["C13 cookies of many lengths"].ini)]
    assert lengths == [1, 15, 16, 100, 101, 256, 512, 1000]


def test_no_secret_is_shown(ke: KePool) -> None:
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
    """Design 2; client.ini remembers that nothing was verified."""
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
    ini, port = tmp_path / "client.ini", support.free_port()
    env = {"RES_OPTIONS": "timeout:1 attempts:1"}
    check_failure(support.run(KE, "-v", "--timeout", 2, "-o", ini, host, port, env=env), code, words)
    assert not ini.exists()


# === the time client =================================================================================================

Reply = Callable[[NtpTalk], bytes]
Answer = Callable[[NtpTalk], Iterable[bytes | float]]


def genuine(talk: NtpTalk) -> bytes:
    return talk.time()


def flip(packet: bytes, index: int) -> bytes:
    return packet[:index] + bytes([packet[index] ^ 1]) + packet[index + 1 :]


def lying_authenticator(request: NtpTalk) -> bytes:
    """Its nonce is longer than the field."""
    return request.header() + request.uid() + ef(AUTH, u16(400, 16) + bytes(32))


# What is not a genuine answer, the exit code when nothing better comes, and words of the explanation.
FORGED: dict[str, tuple[int, str, Reply]] = {
    "C01 plain": (22, "without NTS", lambda r: r.header()),
    "C01 crypto-NAK": (22, "without NTS", lambda r: r.header() + bytes(4)),
    "C01 unknown field": (22, "without NTS", lambda r: r.header() + ef(0xF000, bytes(24))),
    "C02 no authenticator": (22, "without NTS protection", lambda r: r.header() + r.uid()),
    "C03 no identifier": (23, "Unique Identifier", lambda r: r.time(uid=b"")),
    "C04 wrong identifier": (
        23, "Unique Identifier", lambda r: r.time(uid=ef(UID, os.urandom(32))),
    ),
    "C04 prefix of the identifier": (
        23, "Unique Identifier", lambda r: r.time(uid=ef(UID, r.body(UID)[:28])),
    ),
    "C04 identifier and more": (
        23, "Unique Identifier", lambda r: r.time(uid=ef(UID, r.body(UID) + bytes(4))),
    ),
    "C04 identifier twice": (23, "Unique Identifier", lambda r: r.time(uid=r.uid() + r.uid())),
    "C04 identifier after the authenticator": (
        22, "does not cover", lambda r: r.time(uid=b"", after=r.uid()),
    ),
    "C05 random key": (22, "tag", lambda r: r.time(os.urandom(32))),
    "C05 C2S key": (22, "tag", lambda r: r.time(r.session_keys().c2s)),
    "C05 stratum flipped": (22, "tag", lambda r: flip(genuine(r), 1)),
    "C05 receive timestamp flipped": (22, "tag", lambda r: flip(genuine(r), 39)),
    "C05 ciphertext flipped": (22, "tag", lambda r: flip(genuine(r), 150)),
    "C05 nonce flipped": (22, "tag", lambda r: flip(genuine(r), 48 + 36 + 8)),
    "two authenticators": (
        22, "more than one authenticator", lambda r: r.time(after=genuine(r)[84:]),
    ),
    "nonce overruns": (22, "ignored", lambda r: lying_authenticator(r)),
    "C08 NTSN without identifier": (22, "without NTS", lambda r: r.kiss(b"NTSN", uid=b"")),
    "C08 NTSN with a wrong identifier": (
        23, "Unique Identifier", lambda r: r.kiss(b"NTSN", uid=ef(UID, os.urandom(32))),
    ),
    "C11 RATE without identifier": (22, "without NTS", lambda r: r.kiss(b"RATE", uid=b"")),
    "C11 DENY with a wrong identifier": (
        23, "Unique Identifier", lambda r: r.kiss(b"DENY", uid=ef(UID, os.urandom(32))),
    ),
    "B11 wrong origin": (23, "origin", lambda r: r.time(header=r.header(origin=r.transmit ^ 1))),
    "B11 origin zero": (23, "origin", lambda r: r.time(header=r.header(origin=0))),
    "A52 mode 3": (23, "mode 3", lambda r: r.time(header=r.header(mode=3))),
    "A52 mode 5": (23, "mode 5", lambda r: r.time(header=r.header(mode=5))),
    "B07 version 3": (23, "version 3", lambda r: r.time(header=r.header(version=3))),
    "request reflected": (23, "mode 3", lambda r: r.datagram),
    "no octets": (22, "malformed", lambda r: b""),
    "47 octets": (22, "malformed", lambda r: genuine(r)[:47]),
    "cut off": (22, "malformed", lambda r: genuine(r)[:-4]),
    "B01 field of length 0": (22, "malformed", lambda r: r.header() + bytes(32)),
    "random": (22, "", lambda r: b"\x24" + r.datagram[1:24] + r.datagram[40:48] + b"\xff" * 200),
}  # fmt: skip

# Authentic, but no time for us: the client stops waiting.
UNUSABLE: dict[str, tuple[str, Callable[[NtpTalk], bytes]]] = {
    "B12 leap 3": ("not synchronised", lambda r: r.header(leap=3)),
    "B12 stratum 16": ("not synchronised", lambda r: r.header(stratum=16)),
    "B12 stratum 255": ("not synchronised", lambda r: r.header(stratum=255)),
    "B12 leap 3, stratum 0, INIT": ("INIT", lambda r: r.header(leap=3, stratum=0, reference=b"INIT")),
    "B12 receive timestamp zero": ("zero", lambda r: r.header(receive=0)),
    "B12 transmit timestamp zero": ("zero", lambda r: r.header(transmit=0)),
    "B12 root distance 16 s": ("root distance", lambda r: r.header(delay=16 << 16, dispersion=8 << 16)),
    "C11 RATE": ("RATE", lambda r: r.header(stratum=0, reference=b"RATE")),
    "C11 DENY": ("DENY", lambda r: r.header(stratum=0, reference=b"DENY")),
    "C11 RSTR": ("RSTR", lambda r: r.header(stratum=0, reference=b"RSTR")),
    "C11 not printable": ("????", lambda r: r.header(stratum=0, reference=b"\x1b\0\xff\n")),
}


@dataclass(frozen=True)
class NtpCase:
    answer: Answer
    arguments: tuple[object, ...] = ()
    cookies: int | list[bytes] = 8
    host: str = "127.0.0.1"
    server: str | None = None
    """the time server's name in client.ini, if it is not its address"""


@dataclass(frozen=True)
class NtpOutcome:
    completed: Completed
    server: NtpPeer
    ini: Path
    before: list[bytes]
    """the cookies in client.ini before"""
    seconds: float

    @property
    def after(self) -> list[bytes]:
        return stored_cookies(self.ini)

    @property
    def placeholders(self) -> list[int]:
        return [len(r.placeholders) for r in self.server.requests]


def run_ntp(case: NtpCase, folder: Path) -> NtpOutcome:
    """One run of the time client; what holds in each of them is asserted here."""
    folder.mkdir()
    ini = folder / "client.ini"
    before = random_cookies(case.cookies) if isinstance(case.cookies, int) else case.cookies
    keys = some_keys()
    with NtpPeer(NtpBehaviour(case.answer, case.host, keys=keys)) as server:
        write_association(ini, keys, server.port, before, case.server or case.host)
        started = time.monotonic()
        completed = support.run(TS, "-f", ini, *case.arguments)
        seconds = time.monotonic() - started
    outcome = NtpOutcome(completed, server, ini, before, seconds)
    check_requests(outcome)
    return outcome


def check_requests(outcome: NtpOutcome) -> None:
    """Every request is NTS-protected (A80), spends a cookie of its own (A63), and leaks nothing (C23)."""
    spent = outcome.server.spent()
    assert len(set(spent)) == len(spent)
    assert not set(spent) & set(outcome.after)
    assert len(outcome.after) <= 8
    for request in outcome.server.requests:
        assert request.is_authentic
        assert len(request.datagram) <= MAX_PACKET
        assert request.datagram[:40] == b"\x23" + bytes(39)  # A81
        kinds = [f.type for f in request.fields]
        assert kinds == [UID, COOKIE, *[PLACEHOLDER] * len(request.placeholders), AUTH]  # A62
        assert len(request.body(UID)) == 32  # A50
        assert set(request.placeholders) <= {bytes(len(request.body(COOKIE)))}  # A53
        assert len(request.placeholders) <= 7  # A64
        nonce_length, tag_length = int.from_bytes(request.body(AUTH)[:2], "big"), request.body(AUTH)[2:4]
        assert (nonce_length, tag_length) == (16, u16(16))  # A60: no Additional Padding is due
        assert len(request.body(AUTH)) == 36  # B02: the last field is longer than 28 octets
        assert request.port != 123  # B14


def only(reply: Reply) -> Answer:
    return lambda r: [reply(r)]


def before_genuine(reply: Reply) -> Answer:
    return lambda r: [reply(r), genuine(r)]


def kiss(code: bytes) -> Reply:
    return lambda r: r.kiss(code)


def unusable(header: Callable[[NtpTalk], bytes]) -> Reply:
    return lambda r: r.time(header=header(r))


def with_cookies(*lengths: int) -> Answer:
    return lambda r: [r.time(cookies=[os.urandom(n) for n in lengths])]


def nothing(talk: NtpTalk) -> list[bytes | float]:
    return []


def replaying(talk: NtpTalk) -> list[bytes | float]:
    """All old replies again before the genuine one, which comes twice."""
    reply = genuine(talk)
    return [*talk.peer.sent, reply, reply]


def answering_each(n: int) -> Answer:
    """Only each n-th request."""
    return lambda r: [] if len(r.requests) % n else [genuine(r)]


def clear_cookies(talk: NtpTalk) -> list[bytes | float]:
    """C07: cookies where none must be taken from, and one where it must."""
    clear = b"".join(ef(COOKIE, c) for c in CLEAR)
    return [talk.time(cookies=[HIDDEN], clear=clear, after=clear)]


CLEAR, HIDDEN = random_cookies(2), os.urandom(100)
SHORT, QUICK = ("--timeout", 0.5), ("-i", 0.001)
NTP: dict[str, NtpCase] = {
    **{f"{name}, alone": NtpCase(only(reply), SHORT) for name, (_, _, reply) in FORGED.items()},
    "all forged, then genuine": NtpCase(lambda r: [*(reply(r) for _, _, reply in FORGED.values()), genuine(r)]),
    **{name: NtpCase(only(unusable(header)), ("--timeout", 30)) for name, (_, header) in UNUSABLE.items()},
    "basic": NtpCase(only(genuine)),
    "IPv6": NtpCase(only(genuine), host="::1"),
    "C19 localhost": NtpCase(only(genuine), server="localhost"),
    "C09 NAK, then genuine": NtpCase(before_genuine(kiss(b"NTSN"))),
    "C09 NAK, then genuine within the grace": NtpCase(lambda r: [r.kiss(b"NTSN"), 0.5, genuine(r)]),
    "C10 NAK": NtpCase(only(kiss(b"NTSN")), ("--timeout", 30)),
    "C10 NAK, three queries": NtpCase(only(kiss(b"NTSN")), ("--timeout", 30, "-n", 3, *QUICK)),
    "C11 RATE without authenticator": NtpCase(only(kiss(b"RATE")), ("--timeout", 30)),
    "C11 RATE without authenticator, then genuine": NtpCase(before_genuine(kiss(b"RATE"))),
    "C11 DENY without authenticator, then genuine": NtpCase(before_genuine(kiss(b"DENY"))),
    "C06 replays": NtpCase(replaying, ("-n", 3, *QUICK)),
    "C07 cookies in clear": NtpCase(clear_cookies),
    "C12 never answers": NtpCase(nothing, ("--timeout", 1)),
    "C12 never answers nine queries": NtpCase(nothing, ("-n", 9, "--timeout", 0.2, *QUICK)),
    "C12 answers each fourth": NtpCase(answering_each(4), ("-n", 9, "--timeout", 0.3, *QUICK)),
    "C13 no cookies": NtpCase(with_cookies(), ("-n", 3, *QUICK)),
    "C13 20 cookies": NtpCase(with_cookies(*[100] * 20), cookies=4),
    "C13 cookies of 1000 octets": NtpCase(with_cookies(1000), ("-n", 9, *QUICK)),
    "C13 cookies of 2000 octets": NtpCase(with_cookies(2000, 100, 1108), cookies=2),
    "C13 mixed lengths": NtpCase(with_cookies(15, 1, 104, 100), ("-n", 4, *QUICK), cookies=1),
    "C13 few of 1000 octets in stock": NtpCase(only(genuine), cookies=random_cookies(2, 1000)),
    "C13 few of 500 octets in stock": NtpCase(only(genuine), cookies=random_cookies(2, 500)),
    "C13 few of 164 octets in stock": NtpCase(only(genuine), cookies=random_cookies(1, 164)),
    "A30 odd lengths": NtpCase(nothing, ("-n", 4, "--timeout", 0.2, *QUICK), [b"c" * n for n in (1, 15, 101, 1103)]),
    "C23 many queries": NtpCase(only(genuine), ("-n", 100, *QUICK)),
    "two queries": NtpCase(only(genuine), ("-n", 2, *QUICK)),
    "flood": NtpCase(lambda r: repeat(bytes(48)), ("--timeout", 1)),
    "flood, then none": NtpCase(lambda r: chain([genuine(r)], repeat(bytes(48))), ("--timeout", 1)),
    "no cookies left": NtpCase(only(genuine), cookies=0),
    "authenticated field before, kept": NtpCase(
        lambda r: [r.time(clear=ef(0xF000, bytes(24)), after=ef(0xF001, bytes(24)))]
    ),
}


class NtpPool:
    """Runs every case once, several at a time."""

    def __init__(self, pool: ThreadPoolExecutor, folder: Path) -> None:
        self._futures: dict[str, Future[NtpOutcome]] = {
            name: pool.submit(run_ntp, case, folder / str(i)) for i, (name, case) in enumerate(NTP.items())
        }

    def __getitem__(self, name: str) -> NtpOutcome:
        return self._futures[name].result(120)


@pytest.fixture(scope="module")
def ntp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NtpPool]:
    pool = ThreadPoolExecutor(PARALLEL)
    yield NtpPool(pool, tmp_path_factory.mktemp("ntp"))
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", FORGED)
def test_forged_answer_alone_is_explained(ntp: NtpPool, name: str) -> None:
    """C01 to C08, A72, A75: no time; one cookie spent, none won; it was waited to the end for a genuine answer."""
    code, words, _ = FORGED[name]
    outcome = ntp[f"{name}, alone"]
    check_failure(outcome.completed, code, words)
    assert outcome.completed.stdout == ""
    assert outcome.seconds > 0.5
    assert outcome.server.spent() == outcome.before[:1]
    assert outcome.after == outcome.before[1:]


def test_forged_answers_do_not_keep_the_genuine_one_out(ntp: NtpPool) -> None:
    """A72: whatever an attacker sends is dropped, and the query goes on. All of the above to one request."""
    outcome = ntp["all forged, then genuine"]
    check_success(outcome.completed)
    assert "offset" in outcome.completed.stdout
    assert len(outcome.server.requests) == 1
    assert len(outcome.server.sent) == len(FORGED) + 1
    assert len(outcome.after) == 8


@pytest.mark.parametrize("name", UNUSABLE)
def test_authentic_answer_without_time_ends_the_query(ntp: NtpPool, name: str) -> None:
    """C11, B12, B13: 25 at once; its cookie is as good as any."""
    words, _ = UNUSABLE[name]
    outcome = ntp[name]
    check_failure(outcome.completed, 25, words)
    assert outcome.completed.stdout == ""
    assert outcome.seconds < SLACK
    assert len(outcome.after) == 8


@pytest.mark.parametrize(
    "name",
    [
        "basic", "IPv6", "C19 localhost", "C09 NAK, then genuine", "C09 NAK, then genuine within the grace",
        "C11 RATE without authenticator, then genuine", "C11 DENY without authenticator, then genuine",
        "authenticated field before, kept",
    ],
)  # fmt: skip
def test_genuine_answer_gives_time_and_a_fresh_cookie(ntp: NtpPool, name: str) -> None:
    outcome = ntp[name]
    check_success(outcome.completed)
    (line,) = outcome.completed.stdout.splitlines()
    assert "offset" in line
    assert outcome.server.spent() == outcome.before[:1]
    assert outcome.after[:7] == outcome.before[1:]
    assert len(outcome.after) == 8
    assert outcome.placeholders == [0]


def test_nak_is_waited_on_a_while_and_no_more(ntp: NtpPool) -> None:
    """C10, A76: a NAK could be forged, so the genuine answer gets a second; then 21. Old cookies are kept."""
    outcome = ntp["C10 NAK"]
    check_failure(outcome.completed, 21, "NTS NAK")
    assert 1 < outcome.seconds < 1 + SLACK
    assert outcome.after == outcome.before[1:]


def test_nak_ends_a_series(ntp: NtpPool) -> None:
    """C10, A78, A80: no hammering, no key exchange, no plain NTP (`check_requests`)."""
    outcome = ntp["C10 NAK, three queries"]
    check_failure(outcome.completed, 21, "NTS NAK")
    assert len(outcome.server.requests) == 1


def test_unprotected_kiss_is_obeyed_only_for_lack_of_better(ntp: NtpPool) -> None:
    """C11, A75: with our Unique Identifier, and nothing else came."""
    outcome = ntp["C11 RATE without authenticator"]
    check_failure(outcome.completed, 25, "RATE")
    assert outcome.seconds < 1 + SLACK


def test_replayed_answers_are_used_once(ntp: NtpPool) -> None:
    """C06."""
    outcome = ntp["C06 replays"]
    check_success(outcome.completed)
    assert len(outcome.server.requests) == 3
    assert len(outcome.after) == len(set(outcome.after)) == 8
    assert outcome.after[:5] == outcome.before[3:]


def test_cookies_in_clear_are_not_stored(ntp: NtpPool) -> None:
    """C07, A66: neither before nor after the authenticator."""
    outcome = ntp["C07 cookies in clear"]
    check_success(outcome.completed)
    assert outcome.after == [*outcome.before[1:], HIDDEN]


def test_silence_is_reported_within_the_time_out(ntp: NtpPool) -> None:
    """C12."""
    outcome = ntp["C12 never answers"]
    check_failure(outcome.completed, 20, "no NTP answer from 127.0.0.1")
    assert 1 < outcome.seconds < 1 + SLACK


def test_placeholders_grow_with_each_lost_answer(ntp: NtpPool) -> None:
    """C12, A63, A64: eight cookies, none twice, 0 to 7 placeholders; then 24, and nothing is sent."""
    outcome = ntp["C12 never answers nine queries"]
    check_failure(outcome.completed, 24, "no cookies left")
    assert outcome.placeholders == list(range(8))
    assert outcome.server.spent() == outcome.before
    assert outcome.after == []


def test_stock_is_refilled_by_the_first_answer(ntp: NtpPool) -> None:
    """C12, A64: three answers lost, the fourth brings four cookies; and again."""
    outcome = ntp["C12 answers each fourth"]
    assert outcome.placeholders == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert outcome.completed.returncode == 0
    assert "9 queries, 2 answers" in outcome.completed.stdout
    assert len(outcome.after) == 7


def test_answers_without_cookies_are_time_all_the_same(ntp: NtpPool) -> None:
    """C13."""
    outcome = ntp["C13 no cookies"]
    check_success(outcome.completed)
    assert outcome.placeholders == [0, 1, 2]
    assert outcome.after == outcome.before[3:]


def test_never_more_than_eight_cookies_are_kept(ntp: NtpPool) -> None:
    """C13, A64."""
    outcome = ntp["C13 20 cookies"]
    check_success(outcome.completed)
    assert len(outcome.after) == 8
    assert not set(outcome.before) & set(outcome.after)  # the newest


def test_long_cookies_are_used(ntp: NtpPool) -> None:
    """C13, A30: packets stay within 1280 octets (`check_requests`)."""
    outcome = ntp["C13 cookies of 1000 octets"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.server.spent()] == [100] * 8 + [1000]
    assert [len(c) for c in outcome.after] == [1000] * 8


def test_cookies_that_fit_no_packet_are_not_kept(ntp: NtpPool) -> None:
    """C13."""
    outcome = ntp["C13 cookies of 2000 octets"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.after] == [100, 100]


def test_cookies_of_mixed_lengths_are_kept(ntp: NtpPool) -> None:
    """C13, A53: each request's placeholders have its own cookie's length (`check_requests`)."""
    outcome = ntp["C13 mixed lengths"]
    check_success(outcome.completed)
    assert [len(c) for c in outcome.server.spent()] == [100, 16, 12, 16]
    assert outcome.placeholders == [7, 4, 1, 0]


@pytest.mark.parametrize(("length", "count"), [(1000, 0), (500, 1), (164, 5)])
def test_placeholders_are_fewer_where_packets_would_be_too_long(ntp: NtpPool, length: int, count: int) -> None:
    """A64: 1280 octets is what any path carries."""
    outcome = ntp[f"C13 few of {length} octets in stock"]
    check_success(outcome.completed)
    assert outcome.placeholders == [count]


def test_cookies_of_any_length_are_sent_back_exactly(ntp: NtpPool) -> None:
    """A30: with zero octets added where extension fields need them."""
    outcome = ntp["A30 odd lengths"]
    padded = [c.ljust(max(12, len(c) + -len(c) % 4), b"\0") for c in outcome.before]
    assert outcome.server.spent() == padded
    check_failure(outcome.completed, 20, "no NTP answer")


def test_hundred_requests_have_nothing_in_common(ntp: NtpPool) -> None:
    """C23, A50, A81, B14: identifiers, transmit timestamps, nonces and cookies are fresh, ports random."""
    outcome = ntp["C23 many queries"]
    requests = outcome.server.requests
    assert outcome.completed.returncode == 0
    assert len(requests) == 100
    assert len({r.body(UID) for r in requests}) == 100
    assert len({r.body(AUTH)[4:20] for r in requests}) == 100
    assert len({r.transmit for r in requests}) == 100
    assert len({r.port for r in requests}) > 50
    ones = sum(octet.bit_count() for r in requests for octet in r.body(UID) + r.datagram[40:48])
    assert abs(ones - 16000) < 6 * 89.5  # monobit test: 32000 random bits, six standard deviations
    assert "100 queries, 100 answers" in outcome.completed.stdout


def test_two_queries_print_two_samples(ntp: NtpPool) -> None:
    outcome = ntp["two queries"]
    check_success(outcome.completed)
    *samples, summary = outcome.completed.stdout.splitlines()
    assert len(samples) == len(outcome.server.requests) == 2
    assert all("offset" in line for line in samples)
    assert summary.startswith("2 queries, 2 answers; best offset")


def test_flood_of_junk_does_not_prolong_the_wait(ntp: NtpPool) -> None:
    """C18 for UDP: --timeout holds though there is always another datagram to read."""
    outcome = ntp["flood"]
    check_failure(outcome.completed, 23, "no answer to our request")
    assert 1 < outcome.seconds < 1 + 4
    check_success(ntp["flood, then none"].completed)


def test_flood_does_not_prolong_the_wait_on_a_slow_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C18 for UDP, where reading a datagram takes longer than sending the next one."""
    judge = ts_client.judge

    def judge_slowly(datagram: bytes, query: ts_client.Query) -> ts_client.Judgement:
        time.sleep(0.005)
        return judge(datagram, query)

    monkeypatch.setattr(ts_client, "judge", judge_slowly)
    ini = tmp_path / "client.ini"
    keys = some_keys()
    with NtpPeer(NtpBehaviour(lambda r: repeat(bytes(48)), keys=keys)) as server:
        write_association(ini, keys, server.port, random_cookies(8))
        started = time.monotonic()
        store = ClientState(ini)
        exchange = ts_session.ask(store, ts_session.locate(store.load(), None, None, socket.AF_INET), 0.5)
        assert time.monotonic() - started < 4
    assert isinstance(exchange.failure, Mismatch)


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
        options = ke_session.Options("localhost", server.port, (AeadId.AES_SIV_CMAC_256,), ca=authority.ca)
        exchange = pool.submit(ke_session.exchange, options)
        with pytest.raises(KeResponseError, match="after the End of Message"):
            exchange.result(5)


def test_without_cookies_nothing_is_sent(ntp: NtpPool) -> None:
    outcome = ntp["no cookies left"]
    check_failure(outcome.completed, 24, "no cookies left")
    assert outcome.server.requests == []


def test_closed_port_is_reported_at_once(tmp_path: Path) -> None:
    """The network's word for it ends the wait; it could be forged, so nothing else follows from it."""
    ini = tmp_path / "client.ini"
    with support.closed_udp_port() as port:
        write_association(ini, some_keys(), port, random_cookies(8))
        started = time.monotonic()
        check_failure(support.run(TS, "-f", ini, "--timeout", 30), 20, f"no NTP answer from 127.0.0.1:{port}")
    assert time.monotonic() - started < SLACK
    assert len(stored_cookies(ini)) == 7


def test_name_without_dots_is_looked_up_as_fully_qualified(tmp_path: Path) -> None:
    """C19, A32: `ntp1` means `ntp1.`, whatever the resolver's search list says."""
    ini = tmp_path / "client.ini"
    write_association(ini, some_keys(), 123, random_cookies(8), "ntp1")
    env = {"RES_OPTIONS": "timeout:1 attempts:1", "LOCALDOMAIN": "localhost"}
    check_failure(support.run(TS, "-f", ini, env=env), 10, "cannot resolve ntp1.:")
    assert len(stored_cookies(ini)) == 8  # none spent


def test_host_and_port_of_the_command_line_win(tmp_path: Path) -> None:
    """Same keys and cookies, another place."""
    ini = tmp_path / "client.ini"
    keys = some_keys()
    behaviour = NtpBehaviour(only(genuine), keys=keys)
    with NtpPeer(behaviour) as elsewhere, NtpPeer(behaviour) as server:
        write_association(ini, keys, elsewhere.port, random_cookies(8))
        check_success(support.run(TS, "-f", ini, "localhost", server.port))
    assert len(server.requests) == 1
    assert elsewhere.requests == []


# === both ============================================================================================================


def test_time_client_resumes_from_the_stored_cookies_when_the_key_exchange_is_gone(
    authority: Authority, tmp_path: Path
) -> None:
    """A37, A39, A40, A79, A80, C22: both sides export the same keys, record 7 alone means the KE server's address."""
    cookies, ini = random_cookies(), tmp_path / "client.ini"

    def grant(talk: KeTalk) -> None:
        def key(direction: int) -> bytes:
            context = bytes([0, 0, 0, 15, direction])
            return talk.connection.export_keying_material(b"EXPORTER-network-time-security", 32, context)

        server.behave(keys=SessionKeys(AeadId.AES_SIV_CMAC_256, key(0), key(1)))
        talk.request()
        talk.send(response(cookies=cookies, more=record(7, u16(server.port))))

    with NtpPeer(NtpBehaviour(only(genuine))) as server:
        with KePeer(KeBehaviour(grant, authority.issue())) as key_exchange:
            check_success(support.run(KE, "-c", authority.ca, "-o", ini, "localhost", key_exchange.port))
        for _ in range(2):
            check_success(support.run(TS, "-f", ini))
        assert len(key_exchange.sessions) == 1
        assert server.spent() == cookies[:2]
        assert all(r.is_authentic for r in server.requests)
    # The time server has gone too: an error, and no plain NTP instead. Then it is back.
    check_failure(support.run(TS, "-f", ini, "--timeout", 0.5), 20, "no NTP answer")
    assert stored_cookies(ini)[:5] == cookies[3:]


def test_failed_key_exchange_leaves_the_old_association_usable(authority: Authority, tmp_path: Path) -> None:
    """C10, A76: keep polling with old cookies until a key exchange succeeds."""
    ini = tmp_path / "client.ini"
    keys, error = some_keys(), KeCase(say(record(2, u16(2)) + END))
    with NtpPeer(NtpBehaviour(only(genuine), keys=keys)) as server, ke_server(error, authority) as key_exchange:
        write_association(ini, keys, server.port, random_cookies(8))
        check_failure(support.run(KE, "-c", authority.ca, "-o", ini, "localhost", key_exchange.port), 16, "Error 2")
        check_success(support.run(TS, "-f", ini))
    assert len(server.requests) == 1
