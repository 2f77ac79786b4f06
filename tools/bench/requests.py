# SPDX-License-Identifier: MIT
"""What the servers are asked: requests under the keys of many clients, made before anything is measured.

Keys and cookies come from real key exchanges. A cookie is used again and again, which a client must never do (RFC
8915 section 5.7), but a server keeps no state and so cannot tell.
"""

from __future__ import annotations

import os
import socket
from enum import Enum, auto
from pathlib import Path

from nts.base.registry import MAX_PLACEHOLDERS, FieldType, Mode
from nts.client import ke_session
from nts.codec import extensions
from nts.codec.aead import Aead, SessionKeys
from nts.codec.ntp import Header
from nts.protocol import ts_client
from tools.bench.servers import BenchError, Exchange, Server

CLIENTS = 64  # as many different keys; each client has eight cookies
_KEY_ID = 4  # octets at the start of a cookie that name its key: two are this suite's, chrony has four
_UNKNOWN_FIELD = 0x4001
_TAG_ONLY = len(extensions.encode(FieldType.AUTHENTICATOR, extensions.encode_authenticator(bytes(16), bytes(16))))


class Kind(Enum):
    """The requests of a case."""

    NTS = auto()
    REFILL = auto()
    """with seven placeholders, so eight cookies come back"""
    AEAD_30 = auto()
    """NTS under AES-128-GCM-SIV; all others are under AEAD 15"""
    PLAIN = auto()
    BAD = auto()
    """with a random cookie under a known key identifier, so an NTS NAK comes back"""
    ODD = auto()
    """with an unknown extension field, so that the native engine leaves it to the Python reference"""

    @property
    def answer(self) -> str:
        """How load.c counts the answers."""
        return {Kind.PLAIN: "plain", Kind.BAD: "nak"}.get(self, "nts")

    @property
    def aead(self) -> Aead:
        """The algorithm of the keys."""
        return Aead.AES_128_GCM_SIV if self is Kind.AEAD_30 else Aead.AES_SIV_CMAC_256


class Client:
    """The keys and cookies of one client."""

    def __init__(self, exchange: Exchange, aead: Aead) -> None:
        """By a key exchange for this algorithm. NTSError when it fails."""
        options = ke_session.Options("localhost", exchange.port, (aead,), ca=exchange.ca)
        result = ke_session.exchange(options)
        self._keys, self.cookies = result.keys[0], result.agreement.cookies

    def request(self, kind: Kind, cookie: bytes) -> bytes:
        """A request of this kind."""
        if kind is Kind.PLAIN:
            return Header(mode=Mode.CLIENT, transmit=int.from_bytes(os.urandom(8), "big")).encode()
        if kind is Kind.BAD:
            cookie = cookie[:_KEY_ID] + os.urandom(len(cookie) - _KEY_ID)
        packet = self._query(kind, cookie).packet
        return _with_unknown_field(packet, self._keys) if kind is Kind.ODD else packet

    def _query(self, kind: Kind, cookie: bytes) -> ts_client.Query:
        placeholders = MAX_PLACEHOLDERS if kind is Kind.REFILL else 0
        return ts_client.build_query(self._keys, cookie, placeholders, os.urandom)

    def check(self, server: Server, kind: Kind) -> None:
        """Ask once for real. BenchError unless an authentic answer comes with as many cookies as are due."""
        query = self._query(kind, self.cookies[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            try:
                sock.connect((server.host, server.port))
                sock.send(query.packet)
                judgement = ts_client.judge(sock.recv(65535), query)
            except OSError as e:
                raise BenchError(f"{server.name} does not answer: {e}") from None
        due = 1 + (MAX_PLACEHOLDERS if kind is Kind.REFILL else 0)
        if judgement.kind is not ts_client.AnswerKind.TIME or len(judgement.cookies) != due:
            raise BenchError(
                f"{server.name} answers with {len(judgement.cookies)} cookies: {judgement.reason or 'time'}"
            )


def _with_unknown_field(packet: bytes, keys: SessionKeys) -> bytes:
    """The request with a field that nobody knows, and so with another authenticator."""
    head = packet[:-_TAG_ONLY] + extensions.encode(_UNKNOWN_FIELD, bytes(16))
    nonce = os.urandom(keys.aead.nonce_length)
    body = extensions.encode_authenticator(nonce, keys.c2s_cipher.seal(nonce, b"", head))
    return head + extensions.encode(FieldType.AUTHENTICATOR, body)


def write(path: Path, kind: Kind, clients: list[Client]) -> int:
    """A file of requests as load.c reads it, one for each cookie. How long the longest is, in octets."""
    packets = [client.request(kind, cookie) for client in clients for cookie in client.cookies]
    path.write_bytes(b"".join(len(p).to_bytes(2, "big") + p for p in packets))
    return max(map(len, packets))
