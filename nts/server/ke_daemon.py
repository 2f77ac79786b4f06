# SPDX-License-Identifier: MIT
"""The NTS-KE server: sockets, TLS and deadlines around `ke_server`.

The event loop of each worker process serves many sessions at once and never waits for a single client. Time, memory and
number of the sessions are bounded. A session passes through these states:

    HANDSHAKE  until TLS and ALPN are settled            deadline: close
    REQUEST    until the End of Message record           deadline: send Error 1
    CLOSING    until response and close_notify are sent  deadline: close
    LINGERING  until the client closes too               deadline: close

LINGERING discards what the client still sends. Closing a socket with unread octets would reset the connection, and the
response could be lost.
"""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from prometheus_client.core import Metric

from nts.base.errors import FormatError, NTSError
from nts.codec import aead
from nts.codec.records import MessageReader
from nts.protocol import ke_server
from nts.protocol.ke_server import KeServer, Outcome, Verdict
from nts.server import keystore, listen, trial_certificate
from nts.server.certificate import CertificateWatcher
from nts.server.config import KeysConfig, ServerConfig
from nts.server.counters import Family
from nts.server.harness import Harness, WorkerContext, format_worker_count
from nts.server.metrics import gauge
from nts.system import addresses, certs, console, privileges, tls

SESSION_TIMEOUT = 5.0  # seconds from accept to the end of the request
LINGER_TIMEOUT = 1.0  # seconds from the response to the close
MAX_SESSIONS = 400  # in one worker; file descriptors are limited to 1024 on many systems
BACKLOG = 512
_SWEEP = 0.25  # seconds between checks of the deadlines
_DAY = 86400.0  # seconds
_DISCARDS = 16  # reads in one turn, so that a fast sender does not hold up the others


FAMILIES = (Family.of("nts_ke_sessions", "Key exchange sessions, by what became of them.", "result", Verdict),)


class State(Enum):
    HANDSHAKE = auto()
    REQUEST = auto()
    CLOSING = auto()
    LINGERING = auto()


@dataclass(frozen=True)
class Shared:
    """What the sessions of a worker share."""

    policy: KeServer
    certificate: CertificateWatcher
    label: str
    worker: WorkerContext


class Session:
    """The connection of one client."""

    def __init__(self, sock: socket.socket, peer: str, shared: Shared) -> None:
        self._sock, self._peer, self._shared = sock, peer, shared
        self._tls = tls.Connection(shared.certificate.context, sock)
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
        """Go on until the socket would block."""
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
        """Act on the passing of the deadline."""
        if self.state is State.REQUEST:
            self._answer(self._shared.policy.fail(Verdict.TIMED_OUT))  # section 4.1.3
            self.proceed()
        elif self.state is State.HANDSHAKE:
            self._end(Verdict.TLS_TIMED_OUT)
        else:
            self.close()

    def evict(self) -> None:
        """Close at once to make room for another client."""
        self._end(Verdict.EVICTED)

    def close(self) -> None:
        self.closed = True
        self._sock.close()

    def _read_request(self) -> None:
        message = None
        try:
            while self._reader.octets <= ke_server.MAX_REQUEST:
                # Read all that has arrived: octets after the End of Message record make the request malformed.
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
        assert message is not None  # each exit of the loop without one has returned or raised
        shared = self._shared
        self._answer(
            shared.policy.answer(
                message,
                local_address=self._local_address(),
                ring=shared.worker.watcher.ring(),
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
        """Record the verdict and start closing."""
        self._record(verdict, detail)
        self.state = State.CLOSING
        self.deadline = time.monotonic() + LINGER_TIMEOUT

    def _end(self, verdict: Verdict, detail: str = "") -> None:
        """Record the verdict and close at once."""
        self._record(verdict, detail)
        self.close()

    def _record(self, verdict: Verdict, detail: str) -> None:
        """Count and log the verdict, unless the session has one already."""
        if self._verdict is None:
            self._verdict = verdict
            worker = self._shared.worker
            worker.counters[verdict] += 1
            worker.log(f"{self._peer}: {verdict.name.lower().replace('_', ' ')}{detail and f' ({detail})'}")

    def _write_response(self) -> None:
        if self._response:  # in one write, hence one TLS record: some clients read only one
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
        for descriptor in shared.worker.stop.descriptors():
            self._selector.register(descriptor, selectors.EVENT_READ, None)
        for listener in listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)
        self._sessions: dict[int, Session] = {}  # by number, oldest first
        self._numbers = itertools.count()
        self._reloads = shared.worker.board.reloads

    def run(self) -> None:
        """Serve until a descriptor of the stop signal is readable."""
        next_sweep = 0.0
        while True:
            for key, _ in self._selector.select(_SWEEP):
                if key.data is None:
                    return
                if isinstance(key.data, socket.socket):
                    self._accept(key.data)
                elif key.data in self._sessions:  # unless just evicted
                    self._step(key.data, Session.proceed)
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + _SWEEP
                self._follow()
                for number in [n for n, s in self._sessions.items() if now >= s.deadline]:
                    self._step(number, Session.expire)

    def _follow(self) -> None:
        """Give a sign of life, and follow the files of master keys and certificate, also while no client comes."""
        worker = self._shared.worker
        worker.beat()
        worker.watcher.ring()
        asked, self._reloads = worker.board.reloads != self._reloads, worker.board.reloads
        self._shared.certificate.follow(worker.say, worker.warn, at_once=asked)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE) and self._sessions:  # no descriptors left: free one
                self._step(next(iter(self._sessions)), Session.evict)
            return  # otherwise another worker was faster, or the client is gone
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._sessions) >= MAX_SESSIONS:
            self._step(next(iter(self._sessions)), Session.evict)
        number = next(self._numbers)
        session = Session(sock, addresses.format_address(address), self._shared)
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
    trial_certificate.make_if_missing(ke, config.server.user)
    if keys.label_problem:
        console.warn(keys.label_problem)
    certificate = CertificateWatcher(ke)
    problem = certificate.problem()
    if problem:
        console.warn(f"{ke.server_cert} {problem}: clients will refuse it")
        if ke.auto_cert:
            console.warn("move the certificate and its key away, and the next start makes a new throwaway one")
    listeners = listen.for_key_exchange(ke.listen, ke.port)
    for listener in listeners:
        listener.listen(BACKLOG)
    first = keystore.ensure_key(keys.master_keys_dir, keys.max_keys, os.urandom)
    if first:
        privileges.give(config.server.user, keys.master_keys_dir, *keys.master_keys_dir.iterdir())
        console.say(f"made the first master key, {first.key.id:04x}, in {keys.master_keys_dir}")
    policy = KeServer(ke.aeads, ntp.server, ntp.port)

    def set_up(worker: WorkerContext) -> Callable[[], None]:
        return Worker(listeners, Shared(policy, certificate, keys.key_label, worker)).run

    harness = Harness(
        config,
        ke.workers,
        FAMILIES,
        verbose=verbose,
        files=(ke.server_cert, ke.server_key),
        writable=[keys.master_keys_dir] if keys.rotate_every else [],
        metrics_at=ke.metrics,
        sources=[lambda: _metrics(certificate)],
    )
    harness.run(
        set_up,
        lambda: _announce(config, certificate.description, listeners),
        "sessions",
        reload="reads its certificate again",
        look=lambda: _look(certificate, keys),
        stopping=lambda: listen.close_all(listeners),
    )


def _look(certificate: CertificateWatcher, keys: KeysConfig) -> None:
    """Rotate the master key when its time has come, and warn of a certificate that is about to expire."""
    if keys.rotate_every is not None:
        try:
            made = keystore.rotate_if_due(keys.master_keys_dir, keys.max_keys, keys.rotate_every, os.urandom)
        except NTSError as e:
            console.warn_now_and_then("rotation", f"the master key is due for rotation, but {e}")
        else:
            if made:
                console.say(f"new master key {made.key.id:04x}: the last one was {keys.rotate_every} seconds old")
    certificate.follow(console.ignore, console.ignore)  # the workers' first has said it
    if certificate.days_left() < certs.SOON_DAYS:
        when = f"{certificate.description.not_after:%Y-%m-%d %H:%M} UTC"
        console.warn_now_and_then("certificate", f"the certificate in use expires on {when}", _DAY)


def _metrics(certificate: CertificateWatcher) -> Iterator[Metric]:
    certificate.follow(console.ignore, console.ignore)
    expiry = certificate.description.not_after.timestamp()
    yield gauge(
        "nts_ke_certificate_expiry_timestamp_seconds", "When the certificate in use expires, in Unix time.", expiry
    )


def _announce(config: ServerConfig, certificate: certs.Description, listeners: list[socket.socket]) -> None:
    ke, ntp = config.ntske, config.ntpv4
    console.say(f"NTS-KE on TCP {listen.describe(listeners)}; {format_worker_count(ke.workers)}")
    console.say(f"certificate for {', '.join(certificate.names)}, valid until {certificate.not_after:%Y-%m-%d}")
    console.say(f"sends clients to {ntp.server or 'the address they used'}, UDP port {ntp.port}")
