# SPDX-License-Identifier: MIT
"""An NTS-KE server that is sound by default, and remembers what each client did.

A fault is a small function, `KeBehaviour.answer`. It changes the request, the sound response, or how that is sent:

    def without_end(talk: KeTalk) -> None:
        talk.send(talk.respond(talk.request())[:-4])

Each connection has a thread in which every wait is bounded. `KePeer` ends with its `with` block.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from OpenSSL import SSL

from nts.base.errors import FormatError
from nts.base.registry import ALPN, EXPORTER_LABEL, NTP_PORT
from nts.check.peer.authority import Certificate
from nts.codec.aead import Aead, Exporter, SessionKeys, export_keys
from nts.codec.keyring import KeyRing, MasterKey
from nts.codec.records import MessageReader
from nts.protocol import ke_server
from nts.protocol.ke_server import KeServer, Verdict
from nts.server import listen
from nts.system import addresses, tls

PATIENCE = 20.0  # seconds to wait for a client, except for its request
LINGER = 1.0  # seconds for the client to close after us
TLS_1_2, TLS_1_3 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION
_TICK = 0.05  # seconds between two looks at whether to stop
_KEPT = 4096  # octets of a response that are remembered
_RECORD = 16384  # octets of plaintext in the largest TLS record

T = TypeVar("T")


class Stopped(Exception):
    """The `with` block has ended while the server was still busy with a client."""


def strict_alpn(offered: list[bytes]) -> bytes | None:
    """Select ntske/1, or end the handshake with alert 120 (RFC 7301)."""
    if ALPN in offered:
        return ALPN
    raise tls.AlpnRefused("the client does not offer ntske/1")


def no_alpn(_offered: list[bytes]) -> bytes | None:
    """Ignore ALPN."""
    return None


def sound(talk: KeTalk) -> None:
    """Send the correct answer to whatever comes, in one piece."""
    talk.send(talk.respond(talk.request()))


def fresh_ring() -> KeyRing:
    """A key ring with one random master key."""
    return KeyRing((MasterKey(int.from_bytes(os.urandom(2), "big"), os.urandom(32)),))


def copied(ring: KeyRing) -> KeyRing:
    """The same keys for another thread: a cipher object serves only one."""
    return KeyRing(tuple(MasterKey(k.id, k.key) for k in ring.keys))


@dataclass(frozen=True)
class KeBehaviour:
    """What a server does. The default keeps to RFC 8915."""

    answer: Callable[[KeTalk], None] = sound
    certificate: Certificate | None = None
    """chain and key; None: the good one of the pair's authority"""
    alpn: Callable[[list[bytes]], bytes | None] = strict_alpn
    """selects from what the client offers; None: select nothing and go on"""
    needs_alpn: bool = True
    """close without an answer if nothing was selected (section 4)"""
    oldest: int = TLS_1_3
    newest: int = TLS_1_3
    """TLS versions"""
    timeout: float = 5.0
    """seconds for the handshake and the request; then Error 1"""
    aeads: tuple[Aead, ...] = tuple(Aead)
    ntp_server: str = ""
    """where to send clients; empty: to the address they used"""
    ntp_port: int = 0
    """0: the port of the pair's time server, or 123 without one"""
    host: str = "127.0.0.1"
    """to listen on"""
    port: int = 0
    """to listen on; 0: any that is free"""
    raw: Callable[[socket.socket], None] | None = None
    """do this with the accepted TCP connection instead of TLS"""


SOUND_KE = KeBehaviour()


@dataclass
class KeSession:
    """What one client did."""

    address: str
    started: float = field(default_factory=time.monotonic)
    """on the monotonic clock, like `finished`"""
    server_name: bytes | None = None
    """the name it asked for (SNI)"""
    alpn: tuple[bytes, ...] = ()
    """the protocols it offered"""
    tls_version: str | None = None
    """None: the handshake did not succeed"""
    received: bytes = field(default=b"", repr=False)
    """all application data it sent: its request, and anything it should not have sent"""
    response: bytes = field(default=b"", repr=False)
    """the first octets of what we sent to it"""
    sent: int = 0
    """octets of application data that it took, or that wait in the sockets"""
    close_notify: bool = False
    """whether it closed its side properly"""
    problem: str = ""
    """why the connection ended early"""
    finished: float | None = None


class KeTalk:
    """What an answer works with: a connection whose TLS handshake is done."""

    def __init__(
        self, connection: SSL.Connection, sock: socket.socket, session: KeSession, behaviour: KeBehaviour,
        ring: KeyRing, stopping: threading.Event,
    ) -> None:  # fmt: skip
        self.connection, self.sock, self.session = connection, sock, session
        self.behaviour, self.ring, self._stopping = behaviour, ring, stopping
        self.policy = KeServer(behaviour.aeads, behaviour.ntp_server, behaviour.ntp_port or NTP_PORT)

    def request(self) -> bytes:
        """Receive up to End of Message and what came with it; less if the client closes or time is up.

        A second call waits for another message.
        """
        reader, octets = MessageReader(ke_server.MAX_REQUEST), b""
        deadline = time.monotonic() + self.behaviour.timeout
        with contextlib.suppress(TimeoutError, FormatError):
            while data := self.receive(deadline):
                octets += data
                if reader.feed(data) is not None:
                    deadline = 0.0  # take only what has arrived
        return octets

    def respond(self, octets: bytes, *, export: Exporter | None = None, ring: KeyRing | None = None) -> bytes:
        """The sound response to these octets, complete or not.

        `export` puts other keys into the cookies, `ring` seals them with another master key.
        """
        try:
            message = MessageReader(ke_server.MAX_REQUEST).feed(octets)
        except FormatError:
            return self.policy.fail(Verdict.BAD_REQUEST).response
        if message is None:
            return self.policy.fail(Verdict.TRUNCATED).response
        return self.policy.answer(
            message,
            local_address=str(self.sock.getsockname()[0]),
            ring=self.ring if ring is None else ring,
            export=export or tls.exporter(self.connection),
            random=os.urandom,
        ).response

    def export(self, aead: Aead, context: int | None = None, label: str = EXPORTER_LABEL) -> SessionKeys:
        """The session keys (section 5.1). `context` puts another number into the exporter context."""
        return export_keys(tls.exporter(self.connection, label), aead, context)

    def send(self, data: bytes, *, each: int = _RECORD, pause: float = 0.0) -> None:
        """Send in TLS records of `each` octets, with a pause in seconds before each."""
        for i in range(0, len(data), each):
            self.wait(pause)
            chunk = data[i : i + each]
            while chunk:
                taken = self.run(partial(self.connection.send, chunk), time.monotonic() + PATIENCE)
                self.session.response += chunk[: min(taken, _KEPT - len(self.session.response))]
                chunk, self.session.sent = chunk[taken:], self.session.sent + taken

    def send_for_ever(self, data: bytes) -> None:
        """Send until the client closes, takes no more, or the `with` block ends."""
        while True:
            self.send(data)

    def receive(self, deadline: float) -> bytes:
        """Some application data; none if the client has closed. TimeoutError."""
        try:
            data = self.run(lambda: self.connection.recv(tls.READ_SIZE), deadline)
        except tls.Closed:
            self.session.close_notify = True
            return b""
        except tls.Error:  # end of file without close_notify, or a reset
            return b""
        self.session.received += data
        return data

    def wait(self, seconds: float) -> None:
        """Do nothing for a while. Stopped when the `with` block ends."""
        if self._stopping.wait(seconds) if seconds else self._stopping.is_set():
            raise Stopped

    def reset(self) -> None:
        """End the TCP connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        self.sock.close()

    def cut(self) -> None:
        """Close our side of the TCP connection without close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Send close_notify, and wait a moment for the client's (section 4)."""
        self.connection.shutdown()
        deadline = time.monotonic() + LINGER
        with contextlib.suppress(TimeoutError):
            while self.receive(deadline):
                pass

    def run(self, step: Callable[[], T], deadline: float) -> T:
        """Finish a TLS operation. TimeoutError at the deadline, Stopped when the `with` block ends."""
        while True:
            with contextlib.suppress(TimeoutError):  # one try before we look: what has arrived must be seen
                return tls.run_to_completion(self.sock, min(deadline, time.monotonic() + _TICK), step)
            if time.monotonic() >= deadline:
                raise TimeoutError("the client took too long")
            self.wait(0)


class KePeer:
    """The server. `port` is where it listens; `sessions` holds the clients in the order they came."""

    def __init__(self, behaviour: KeBehaviour, ring: KeyRing | None = None) -> None:
        assert behaviour.certificate is not None
        self.behaviour, self.ring = behaviour, ring or fresh_ring()
        self.sessions: list[KeSession] = []
        self._certificate = behaviour.certificate
        self._failures: list[Exception] = []
        self._stopping = threading.Event()
        (self._listener,) = listen.listening(socket.SOCK_STREAM, (behaviour.host,), behaviour.port)
        self._listener.listen()
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> KePeer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._failures:
            raise self._failures[0]

    def close(self) -> None:
        """Stop. Connections are refused from now on."""
        self._stopping.set()
        for thread in self._threads:  # the first one adds the others, and is joined first
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the NTS-KE peer does not stop"
        self._listener.close()

    @property
    def is_idle(self) -> bool:
        """Whether every client that connected has gone."""
        waiting = not self._stopping.is_set() and select.select([self._listener], [], [], 0)[0]
        return not waiting and all(s.finished is not None for s in self.sessions)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            if not select.select([self._listener], [], [], _TICK)[0]:
                continue
            try:
                sock, address = self._listener.accept()
            except OSError:
                continue  # the client has gone
            session = KeSession(addresses.format_address(address))
            self.sessions.append(session)
            thread = threading.Thread(target=self._serve, args=(sock, session), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, session: KeSession) -> None:
        with sock:
            try:
                self._talk(sock, session)
            except (Stopped, TimeoutError, tls.AlpnRefused, FormatError) as e:  # or the answer does not fit the request
                session.problem = str(e) or type(e).__name__
            except (tls.Error, OSError) as e:
                session.problem = tls.reason(e)
            except Exception as e:  # a bug in an answer: raised at the end of the `with` block
                self._failures.append(e)
        session.finished = time.monotonic()

    def _talk(self, sock: socket.socket, session: KeSession) -> None:
        behaviour = self.behaviour
        if behaviour.raw is not None:
            sock.settimeout(PATIENCE)
            behaviour.raw(sock)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pyOpenSSL hands on what a callback raises through its context: a shared one would give it to another thread.
        connection = SSL.Connection(_context(behaviour, self._certificate), sock)
        connection.set_app_data(session)
        connection.set_accept_state()
        talk = KeTalk(connection, sock, session, behaviour, copied(self.ring), self._stopping)
        talk.run(connection.do_handshake, time.monotonic() + behaviour.timeout)
        session.server_name, session.tls_version = connection.get_servername(), connection.get_protocol_version_name()
        if connection.get_alpn_proto_negotiated() or not behaviour.needs_alpn:
            behaviour.answer(talk)
        talk.close()


def _context(behaviour: KeBehaviour, certificate: Certificate) -> SSL.Context:
    """Like the context in `tls`, but a behaviour may change it, and it notices a missing close_notify."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_min_proto_version(behaviour.oldest)
    context.set_max_proto_version(behaviour.newest)
    context.use_certificate_chain_file(str(certificate[0]))
    context.use_privatekey_file(str(certificate[1]))

    def select_alpn(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
        connection.get_app_data().alpn = tuple(offered)
        selected = behaviour.alpn(offered)
        return SSL.NO_OVERLAPPING_PROTOCOLS if selected is None else selected

    context.set_alpn_select_callback(select_alpn)
    return context
