# SPDX-License-Identifier: MIT
"""The NTS-KE server: sockets, TLS and time around `ke_server`.

One event loop in each worker process serves many sessions at once; nothing in it ever waits for one client. A
session goes through the states below, in this order, and is bounded in time, memory and number:

    HANDSHAKE  until TLS and ALPN are settled            deadline: closed
    REQUEST    until the End of Message record           deadline: Error 1
    CLOSING    response and close_notify written         deadline: closed
    LINGERING  until the client closes too               deadline: closed

The last one discards what the client still sends: closing a socket with unread octets resets the connection, and
the response could be lost on its way.
"""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from nts.base.errors import FormatError
from nts.codec import aead
from nts.codec.records import MessageReader
from nts.protocol import ke_server
from nts.protocol.ke_server import KeServer, Outcome, Verdict
from nts.server import keystore, listen, trial_certificate
from nts.server.config import ServerConfig
from nts.server.harness import Harness, Seat, plural
from nts.system import addresses, certs, console, tls

SESSION_TIMEOUT = 5.0  # seconds from accept to the end of the request
LINGER_TIMEOUT = 1.0  # seconds from the response to the end
MAX_SESSIONS = 400  # in one worker; file descriptors are limited to 1024 on many systems
BACKLOG = 512
_SWEEP = 0.25  # seconds between looks at the deadlines
_DISCARDS = 16  # reads in one turn, so that nobody holds up the others by sending fast


class State(Enum):
    HANDSHAKE = auto()
    REQUEST = auto()
    CLOSING = auto()
    LINGERING = auto()


@dataclass(frozen=True)
class Shared:
    """What the sessions of a worker have in common."""

    policy: KeServer
    context: tls.Context
    label: str
    seat: Seat


class Session:
    """One client."""

    def __init__(self, sock: socket.socket, peer: str, shared: Shared) -> None:
        self._sock, self._peer, self._shared = sock, peer, shared
        self._tls = tls.Connection(shared.context, sock)
        self._tls.set_accept_state()
        self._reader = MessageReader(ke_server.MAX_REQUEST)
        self._response = b""
        self._verdict: Verdict | None = None
        self.state = State.HANDSHAKE
        self.deadline = time.monotonic() + SESSION_TIMEOUT
        self.wants_write = False
        self.closed = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def proceed(self) -> None:
        """Go as far as the socket allows."""
        self.wants_write = False
        try:
            if self.state is State.HANDSHAKE:
                self._tls.do_handshake()
                if not tls.speaks_ntske(self._tls):
                    self._conclude(Verdict.NO_ALPN)
                else:
                    self.state = State.REQUEST
            if self.state is State.REQUEST:
                self._read_request()
            if self.state is State.CLOSING:
                self._write_response()
            if self.state is State.LINGERING:
                self._discard()
        except (tls.WantRead, BlockingIOError):
            pass
        except tls.WantWrite:
            self.wants_write = True
        except tls.Closed:
            self.close()
        except tls.AlpnRefused:
            self._end(Verdict.NO_ALPN)
        except (tls.Error, OSError) as e:
            self._end(Verdict.TLS_FAILED, tls.reason(e))

    def expire(self) -> None:
        """The deadline has passed."""
        if self.state is State.REQUEST:
            self._answer(self._shared.policy.fail(Verdict.TIMED_OUT))  # section 4.1.3: Error 1 on a timeout
            self.proceed()
        elif self.state is State.HANDSHAKE:
            self._end(Verdict.TLS_TIMED_OUT)
        else:
            self.close()

    def evict(self) -> None:
        """Make room for another client."""
        self._end(Verdict.EVICTED)

    def close(self) -> None:
        self.closed = True
        self._sock.close()

    def _read_request(self) -> None:
        message = None
        try:
            while self._reader.octets <= ke_server.MAX_REQUEST:
                # All that has come: octets after the End of Message record belong to the judgement.
                message = self._reader.feed(self._tls.recv(tls.READ_SIZE))
        except tls.WantRead:
            if message is None:
                raise
        except tls.Closed:
            if message is None:
                self._answer(self._shared.policy.fail(Verdict.TRUNCATED))
                return
        except FormatError:
            self._answer(self._shared.policy.fail(Verdict.BAD_REQUEST))
            return
        assert message is not None  # all ways out of the loop without one have left
        shared = self._shared
        self._answer(
            shared.policy.answer(
                message,
                local_address=self._local_address(),
                ring=shared.seat.watcher.ring(),
                export=tls.exporter(self._tls, shared.label),
                random=os.urandom,
            )
        )

    def _local_address(self) -> str:
        return str(self._sock.getsockname()[0]).split("%")[0]

    def _answer(self, outcome: Outcome) -> None:
        self._response = outcome.response
        self._conclude(outcome.verdict, f"AEAD {int(outcome.aead)}" if outcome.aead else "")

    def _conclude(self, verdict: Verdict, detail: str = "") -> None:
        """Settle the verdict and start closing."""
        self._settle(verdict, detail)
        self.state = State.CLOSING
        self.deadline = time.monotonic() + LINGER_TIMEOUT

    def _end(self, verdict: Verdict, detail: str = "") -> None:
        """Settle the verdict, unless there is one, and close at once."""
        self._settle(verdict, detail)
        self.close()

    def _settle(self, verdict: Verdict, detail: str) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self._shared.seat.counters[verdict] += 1
            self._shared.seat.log(f"{self._peer}: {verdict.name.lower().replace('_', ' ')}{detail and f' ({detail})'}")

    def _write_response(self) -> None:
        if self._response:  # one write, hence one TLS record: some clients read no further
            self._tls.send(self._response)
            self._response = b""
        self._tls.shutdown()  # close_notify (section 4)
        self._sock.shutdown(socket.SHUT_WR)
        self.state = State.LINGERING

    def _discard(self) -> None:
        for _ in range(_DISCARDS):
            if not self._sock.recv(tls.READ_SIZE):
                self.close()
                return


class Worker:
    """The event loop of one process."""

    def __init__(self, listeners: list[socket.socket], shared: Shared) -> None:
        self._shared = shared
        self._selector = selectors.DefaultSelector()
        for descriptor in shared.seat.stop.descriptors():
            self._selector.register(descriptor, selectors.EVENT_READ, None)
        for listener in listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)
        self._sessions: dict[int, Session] = {}  # by number, oldest first
        self._numbers = itertools.count()

    def run(self) -> None:
        """Serve until told to stop."""
        next_sweep = 0.0
        while True:
            for key, _ in self._selector.select(_SWEEP):
                if key.data is None:
                    return
                if isinstance(key.data, socket.socket):
                    self._accept(key.data)
                elif key.data in self._sessions:  # not evicted a moment ago
                    self._step(key.data, Session.proceed)
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + _SWEEP
                for number in [n for n, s in self._sessions.items() if now >= s.deadline]:
                    self._step(number, Session.expire)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE) and self._sessions:  # no descriptors left: make one free
                self._step(next(iter(self._sessions)), Session.evict)
            return  # else another worker was faster, or the client has gone
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._sessions) >= MAX_SESSIONS:
            self._step(next(iter(self._sessions)), Session.evict)
        number = next(self._numbers)
        session = Session(sock, addresses.shown(address), self._shared)
        self._sessions[number] = session
        self._selector.register(session, selectors.EVENT_READ, number)
        self._step(number, Session.proceed)

    def _step(self, number: int, action: Callable[[Session], None]) -> None:
        session = self._sessions[number]
        key = self._selector.get_key(session)
        action(session)
        if session.closed:
            self._selector.unregister(key.fileobj)
            del self._sessions[number]
            return
        events = selectors.EVENT_WRITE if session.wants_write else selectors.EVENT_READ
        if events != key.events:
            self._selector.modify(session, events, number)


def serve(config: ServerConfig, *, verbose: bool) -> None:
    """Run the NTS-KE server until SIGINT or SIGTERM. ConfigError when it cannot start."""
    ke, ntp, keys = config.ntske, config.ntpv4, config.keys
    aead.check(ke.aeads)
    trial_certificate.make_if_missing(ke)
    context = tls.server_context(ke.server_cert, ke.server_key)
    certificate = certs.describe(ke.server_cert)
    problem = certificate.problem(certs.now())
    if problem:
        console.warn(f"{ke.server_cert} {problem}: clients will refuse it")
        if ke.auto_cert:
            console.warn("move certificate and key away, and a new throwaway one is made at the next start")
    listeners = listen.listening(socket.SOCK_STREAM, ke.listen, ke.port)
    for listener in listeners:
        listener.listen(BACKLOG)
    first = keystore.ensure_key(keys.master_keys_dir, keys.max_keys, os.urandom)
    if first:
        console.say(f"made the first master key, {first.key.id:04x}, in {keys.master_keys_dir}")
    policy = KeServer(ke.aeads, ntp.server, ntp.port)

    def set_up(seat: Seat) -> Callable[[], None]:
        return Worker(listeners, Shared(policy, context, keys.key_label, seat)).run

    harness = Harness(keys, ke.workers, Verdict, verbose=verbose)
    harness.run(set_up, lambda: _announce(config, certificate, listeners), "sessions")
    listen.close_all(listeners)


def _announce(config: ServerConfig, certificate: certs.Description, listeners: list[socket.socket]) -> None:
    ke, ntp = config.ntske, config.ntpv4
    where = ", ".join(addresses.shown(s.getsockname()) for s in listeners)
    console.say(f"NTS-KE on TCP {where}; {plural(ke.workers)}")
    console.say(f"certificate for {', '.join(certificate.names)}, until {certificate.not_after:%Y-%m-%d}")
    console.say(f"sends clients to {ntp.server or 'the address they used'}, UDP port {ntp.port}")
