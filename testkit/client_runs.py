# SPDX-License-Identifier: MIT
"""Our real clients run against a server that misbehaves: the cases, what came of them, and what each must show."""

from __future__ import annotations

import configparser
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from OpenSSL import SSL

from nts.base.registry import NTS_FIELDS
from nts.check.peer import Authority, KeBehaviour, KePeer, KeTalk, NtpBehaviour, NtpPeer, NtpTalk
from nts.check.peer.craft import random_cookies, response
from nts.check.peer.ke import strict_alpn
from nts.codec.aead import Aead, SessionKeys
from nts.codec.records import encode_u16s as u16
from testkit import processes
from testkit.outcomes import Outcomes

KE, TS = "ntske_client.py", "ntsts_client.py"
UID, COOKIE, PLACEHOLDER, AUTH = NTS_FIELDS
SLACK = 8.0  # seconds for starting a process on a busy machine
PARALLEL = 4
SHORT, QUICK = ("--timeout", 0.5), ("-i", 0.001)
MAX_PACKET = 1232  # octets of UDP payload: 1280 with IPv6 and UDP headers

Completed = subprocess.CompletedProcess[str]


def check_failure(completed: Completed, code: int, words: str) -> None:
    """The exit code, one error line with these words, and one hint."""
    error, _hint = processes.error_lines(completed, code)
    assert error.startswith(Path(completed.args[1]).name)
    assert words in error


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
    processes.write_ini(
        path,
        ntpv4={"server": server, "port": port},
        keys={"c2s": keys.c2s.hex(), "s2c": keys.s2c.hex()},
        cookies={str(i): c.hex() for i, c in enumerate(cookies)},
    )


def some_keys() -> SessionKeys:
    return SessionKeys(Aead.AES_SIV_CMAC_256, os.urandom(32), os.urandom(32))


@dataclass(frozen=True)
class KeCase:
    """A fake NTS-KE server, and how ntske_client.py is called."""

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


def say(data: bytes, *, each: int = 16384, pause: float = 0.0) -> Callable[[KeTalk], None]:
    """A server that takes the request, sends this, and closes."""

    def answer(talk: KeTalk) -> None:
        talk.request()
        talk.send(data, each=each, pause=pause)

    return answer


Reply = Callable[[NtpTalk], bytes]
Answer = Callable[[NtpTalk], Iterable[bytes | float]]


def genuine(talk: NtpTalk) -> bytes:
    return talk.time()


def only(reply: Reply) -> Answer:
    return lambda r: [reply(r)]


def nothing(talk: NtpTalk) -> list[bytes | float]:
    return []


@dataclass(frozen=True)
class NtpCase:
    """A fake time server, and how ntsts_client.py is called."""

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
        completed = processes.run(TS, "-f", ini, *case.arguments)
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


def ntp_outcomes(cases: Mapping[str, NtpCase], folder: Path) -> Outcomes[str, NtpOutcome]:
    """Run the time client once for each case."""
    jobs = {name: partial(run_ntp, case, folder / str(i)) for i, (name, case) in enumerate(cases.items())}
    return Outcomes(jobs, parallel=PARALLEL, timeout=120)
