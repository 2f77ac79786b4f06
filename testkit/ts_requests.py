# SPDX-License-Identifier: MIT
"""Requests to our time server, what must come back, and a time server that runs alone."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from nts.base.registry import NTS_FIELDS, Mode
from nts.codec import cookies, extensions
from nts.codec.aead import Aead, SessionKeys
from nts.codec.aes_siv import AesSiv
from nts.codec.keyring import KeyRing
from nts.codec.ntp import Header
from nts.protocol import ts_client
from nts.protocol.ts_client import Query
from nts.server import keystore
from nts.system.addresses import family_of
from testkit.processes import ROOT, V6_PARAM, Process, Suite

UID, COOKIE, PLACEHOLDER, AUTH = NTS_FIELDS
UID_FIELD = extensions.encode(UID, bytes(range(32)))
KEYS = SessionKeys(Aead.AES_SIV_CMAC_256, os.urandom(32), os.urandom(32))
HOSTS = ("127.0.0.1", V6_PARAM)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Request:
    """An NTS request in parts, each of which a test can spoil. Its defaults make a good one."""

    cookie: bytes
    unique_id: bytes = field(default_factory=lambda: os.urandom(32))
    transmit: int = field(default_factory=lambda: int.from_bytes(os.urandom(8), "big"))
    header: Header = field(default_factory=lambda: Header(mode=Mode.CLIENT))
    head: bytes | None = None
    """all fields before the authenticator, instead of identifier, cookie and `more`"""
    more: bytes = b""
    """fields between the cookie and the authenticator"""
    inside: bytes = b""
    nonce: bytes = bytes(range(16))
    padding: int = 0
    key: bytes = KEYS.c2s
    after: bytes = b""

    def fields(self) -> bytes:
        head = extensions.encode(UID, self.unique_id) + extensions.encode(COOKIE, self.cookie)
        return (head if self.head is None else self.head) + self.more

    def encode(self) -> bytes:
        packet = replace(self.header, transmit=self.transmit).encode() + self.fields()
        body = extensions.encode_authenticator(self.nonce, AesSiv(self.key).seal(self.nonce, self.inside, packet))
        return packet + extensions.encode(AUTH, body + bytes(self.padding)) + self.after

    def judge(self, reply: bytes) -> ts_client.Judgement:
        return ts_client.judge(reply, Query(b"", self.unique_id, self.transmit, KEYS))


def plain(version: int = 4, mode: int = Mode.CLIENT, more: bytes = b"", transmit: int | None = None) -> bytes:
    return Header(version=version, mode=mode, transmit=transmit or next(_numbers)).encode() + more


class Asker:
    """A UDP socket of one's own, connected to a server.

    It never waits for a silence: each packet is followed by a control request, which a single worker answers later than
    anything it has to say of the packet.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", source: str | None = None) -> None:
        self.sock = socket.socket(family_of(host), socket.SOCK_DGRAM)
        self.sock.settimeout(10)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((host, port))

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def replies(self, *packets: bytes) -> list[bytes]:
        """All that the server says to these datagrams, and that it is alive thereafter; never more than it got.

        Two control requests follow, since the native engine answers the packets of a batch before it hands others over.
        """
        common, other = (int.from_bytes(os.urandom(8), "big") for _ in range(2))
        for packet in packets:
            self.sock.send(packet)
        self.sock.send(plain(transmit=common))
        self.sock.send(plain(transmit=other, more=UID_FIELD))
        found, waiting = [], {common, other}
        while waiting:
            reply = self.sock.recv(65535)
            origin = Header.decode(reply).origin
            if origin in waiting:
                waiting.remove(origin)
            else:
                found.append(reply)
        assert sum(map(len, found)) <= sum(map(len, packets))  # A71, check 34
        return found

    def reply(self, packet: bytes) -> bytes:
        """The one reply to a packet."""
        (reply,) = self.replies(packet)
        return reply

    def time(self, request: Request) -> tuple[bytes, ...]:
        """Send a request that must be answered with authentic time; the fresh cookies."""
        judgement = request.judge(self.reply(request.encode()))
        assert judgement.kind is ts_client.AnswerKind.TIME, judgement.reason
        return judgement.cookies

    def nak(self, request: Request) -> None:
        """Send a request that must be answered with an NTS NAK (A73, A74)."""
        check_nak(request, self.reply(request.encode()))


def check_nak(request: Request, reply: bytes) -> None:
    header = Header.decode(reply)
    assert (header.mode, header.stratum, header.reference_id) == (Mode.SERVER, 0, b"NTSN")
    assert header.origin == request.transmit
    assert reply[48:] == extensions.encode(UID, request.unique_id)


def ring_of(suite: Suite) -> KeyRing:
    return keystore.load(suite.keys).ring


def mint(suite: Suite, keys: SessionKeys = KEYS) -> bytes:
    """A cookie as the key exchange would make it."""
    master = ring_of(suite).current
    assert master is not None
    return cookies.seal(master, (keys,), os.urandom(16))


@contextlib.contextmanager
def own_server(folder: Path, *arguments: str, **options: dict[str, object]) -> Iterator[Suite]:
    """The time server alone, with a configuration and a master key of its own."""
    suite = Suite(folder, options=options)
    keystore.ensure_key(suite.keys, 3, os.urandom)
    command = [sys.executable, str(ROOT / "ntsts_server.py"), str(suite.ini), *arguments]
    suite.ts = Process(command, folder / "ts.log")
    try:
        suite.ts.wait_for("clock")  # of an unsynchronised clock it says something else than of a good one
        yield suite
    finally:
        suite.stop()


def process_of(suite: Suite) -> Process:
    assert suite.ts is not None
    return suite.ts


def last_line(process: Process) -> str:
    return process.output().splitlines()[-1].removeprefix("ntsts_server.py: ")
