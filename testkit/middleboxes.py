# SPDX-License-Identifier: MIT
"""Devices between a client and a server that do more than forward. Each has a thread, and ends with its `with` block.

`testkit.namespaces.nft` leads connections to them, from which theirs are told by a mark.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from pathlib import Path

from OpenSSL import SSL

from nts.check.peer.authority import Authority
from nts.codec.ntp import HEADER_LENGTH
from testkit.relay import Relay

MARK = 7  # of the packets of these devices
_SO_MARK = 36  # <asm-generic/socket.h>
_TICK, _PATIENCE = 0.05, 10.0  # seconds


class Middlebox:
    """Forwards TCP connections, one at a time, to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.connections = 0
        self._target, self._stopping = target, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Middlebox:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(_PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive(), "the middlebox does not stop"

    def _work(self) -> None:
        while not self._stopping.is_set():
            if select.select([self._listener], [], [], _TICK)[0]:
                client, _ = self._listener.accept()
                self.connections += 1
                with client, socket.socket() as server:
                    client.settimeout(_PATIENCE)
                    server.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
                    server.settimeout(_PATIENCE)
                    server.connect(("127.0.0.1", self._target))
                    with contextlib.suppress(SSL.Error, OSError):
                        self.serve(client, server)

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Handle a connection: forward what comes, as it is."""
        ends = {client: server, server: client}
        while not self._stopping.is_set():
            for ready in select.select(list(ends), [], [], _TICK)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                ends[ready].sendall(data)


class HelloLimit(Middlebox):
    """Resets connections whose first message is longer than a segment, as it would have to put that together."""

    limit = 1400  # octets

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        first = client.recv(65536)
        if len(first) > self.limit:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            return
        server.sendall(first)
        super().serve(client, server)


class Interceptor(Middlebox):
    """Ends TLS with a certificate of its own CA for whatever name is asked for, and begins it anew."""

    def __init__(self, target: int, folder: Path, *, alpn: bool = True) -> None:
        """`alpn`: let the client choose a protocol, as a good interceptor does."""
        super().__init__(target)
        self.authority, self._alpn = Authority(folder), alpn
        self.plaintext = b""
        """what it has read of clients"""

    def __enter__(self) -> Interceptor:
        super().__enter__()
        return self

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        chain, key = self.authority.issue(names=("localhost",))
        context.use_certificate_chain_file(str(chain))
        context.use_privatekey_file(str(key))
        if self._alpn:
            context.set_alpn_select_callback(lambda _connection, offered: offered[0])
        inner = SSL.Connection(context, client)
        inner.set_accept_state()
        client.settimeout(None)
        inner.do_handshake()
        outer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), server)
        outer.set_connect_state()
        server.settimeout(None)
        outer.do_handshake()
        self.plaintext += inner.recv(65536)  # until the client, which trusts nobody here, closes


class Stripper(Relay):
    """A relay that lets no extension field of an answer through."""

    def _forward(self, request: bytes) -> bytes | None:
        reply = super()._forward(request)
        return reply and reply[:HEADER_LENGTH]
