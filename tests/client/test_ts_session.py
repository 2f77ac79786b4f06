# SPDX-License-Identifier: MIT
"""One query: what the network says of a server does not outweigh the server's own answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from nts.base.errors import NoAnswer
from nts.base.registry import AeadId
from nts.client import ts_session
from nts.client.ts_session import Exchange
from nts.codec import cookies
from nts.codec.aead import SessionKeys
from nts.codec.keyring import KeyRing
from nts.protocol import ts_client, ts_server
from nts.protocol.ts_server import SystemVariables
from nts.system import addresses, clock
from nts.system.addresses import Endpoint

KEYS = SessionKeys(AeadId.AES_SIV_CMAC_256, bytes(32), bytes(range(32)))


class Refusing(socket.socket):
    """A socket whose first reading gives an ICMP error."""

    refused = False

    def recvmsg(self, *arguments: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        if not self.refused:
            self.refused = True
            raise ConnectionRefusedError(111, "Connection refused")
        return super().recvmsg(*arguments)


@pytest.fixture
def exchange(ring: KeyRing) -> Exchange:
    assert ring.current is not None
    cookie = cookies.seal(ring.current, KEYS, bytes(16))
    return Exchange(ts_client.build_query(KEYS, cookie, 0, os.urandom))


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def answer(server: socket.socket, ring: KeyRing, client: tuple[str, int], request: bytes) -> None:
    system = SystemVariables()
    now = clock.now()
    outcome = ts_server.respond(request, keys=ring, system=system, received=now, now=clock.now, random=os.urandom)
    assert outcome.reply is not None
    server.sendto(outcome.reply, client)


def test_a_genuine_answer_counts_though_an_icmp_error_came_first(
    exchange: Exchange, server: socket.socket, ring: KeyRing
) -> None:
    """An ICMP error is unprotected: anybody can send one (A72)."""
    with Refusing(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(server.getsockname())
        answer(server, ring, client.getsockname(), exchange.request.packet)
        endpoint = Endpoint(socket.AF_INET, server.getsockname())
        ts_session._await_answer(client, endpoint, exchange, time.time_ns(), 5)
    assert client.refused
    assert exchange.answer is not None


def test_without_an_answer_the_icmp_error_is_what_is_reported(exchange: Exchange) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()
    started = time.monotonic()
    ts_session.query(Endpoint(socket.AF_INET, closed), exchange, 20)
    assert isinstance(exchange.failure, NoAnswer)
    assert "Connection refused" in str(exchange.failure)
    assert ts_session.NAK_GRACE <= time.monotonic() - started < 10


def test_a_family_that_the_kernel_lacks_is_a_missing_answer(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*_arguments: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", no_socket)
    ts_session.query(Endpoint(socket.AF_INET6, ("::1", 123, 0, 0)), exchange, 1)
    assert isinstance(exchange.failure, NoAnswer)
    assert "Address family not supported" in str(exchange.failure)


def test_a_link_local_peer_keeps_its_zone() -> None:
    """The time server is at the same address, which is nowhere without the zone."""
    index = socket.if_nametoindex("lo")
    assert addresses.numeric_host(("fe80::1", 4460, 0, index)) == "fe80::1%lo"
    assert addresses.numeric_host(("::1", 4460, 0, 0)) == "::1"
    assert addresses.numeric_host(("127.0.0.1", 4460)) == "127.0.0.1"
