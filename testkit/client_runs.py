# SPDX-License-Identifier: MIT
"""What the tests of the real clients share: running them against a misbehaving server, and what they must then say."""

from __future__ import annotations

import configparser
import os
import socket
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from OpenSSL import SSL

from nts.base.registry import AeadId, FieldType
from nts.check.peer import Authority, KeBehaviour, KePeer, KeTalk, NtpTalk
from nts.check.peer.craft import response
from nts.check.peer.ke import strict_alpn
from nts.codec.aead import SessionKeys
from testkit import processes

KE, TS = "ntske_client.py", "ntsts_client.py"
UID, COOKIE, PLACEHOLDER, AUTH = FieldType
SLACK = 8.0  # seconds for starting a process on a busy machine
PARALLEL = 4

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
    return SessionKeys(AeadId.AES_SIV_CMAC_256, os.urandom(32), os.urandom(32))


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
