# SPDX-License-Identifier: MIT
"""The NTS-KE server: listening sockets and the event loop around `ke_connection`.

Each worker process serves many sessions at once and never waits for a single client. Time, memory and number of the
sessions are bounded (`limits`).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client.core import Metric

from nts.base.errors import NTSError
from nts.base.text import counted
from nts.codec import aead
from nts.protocol.ke_server import KeServer, Verdict
from nts.server import keystore, listen, trial_certificate
from nts.server.certificate import CertificateWatcher
from nts.server.config import KeysConfig, ServerConfig
from nts.server.counters import Counters
from nts.server.harness import Harness, WorkerContext
from nts.server.ke_connection import Session, Shared
from nts.server.ke_counters import LAYOUT, KeCounters
from nts.server.limits import Limits
from nts.server.metrics import gauge
from nts.system import certs, console, memory, privileges

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn
DRAIN_TIME = 2.0  # seconds for the sessions in hand when the server stops
_SWEEP = 0.25  # seconds between checks of the deadlines
_DAY = 86400.0  # seconds
_TRIM = 5.0  # seconds between returns of memory that a burst of sessions has left
_DEFER = 1  # seconds: the kernel holds back a connection on which nothing arrives so long
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Worker:
    """The event loop of one process."""

    def __init__(self, listeners: list[socket.socket], shared: Shared, limits: Limits[Session]) -> None:
        self._shared, self._limits = shared, limits
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._accepting = False
        self._stop = shared.worker.stop.descriptors()
        self._sessions: dict[int, Session] = {}  # by descriptor
        self._next_sweep = self._next_trim = 0.0
        self._reloads = shared.worker.board.reloads
        self._epoll = select.epoll()
        for descriptor in self._stop:
            self._epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Serve until a descriptor of the stop signal is readable, and then finish the sessions in hand."""
        self._accept_more(True)
        while self._turn():
            pass
        self._drain(time.monotonic() + DRAIN_TIME)

    def _drain(self, end: float) -> None:
        """Take who waits already, listen no more, and serve until all are done or time is up."""
        for descriptor in self._stop:
            self._epoll.unregister(descriptor)
        self._accept_more(False)
        for listener in self._listeners.values():
            while time.monotonic() < end and self._accept(listener):
                pass
            listener.close()
        self._listeners.clear()
        while self._sessions and time.monotonic() < end:
            self._turn()
        for session in list(self._sessions.values()):
            self._step(session, Session.expire)

    def _turn(self) -> bool:
        """Serve who is ready, and look after the deadlines. Returns whether to go on."""
        for descriptor, _ in self._epoll.poll(_SWEEP):
            if descriptor in self._sessions:
                self._step(self._sessions[descriptor], Session.proceed)
            elif descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor in self._stop:  # else it has just been evicted
                return False
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            self._accept_more(False)  # and yes again: the kernel may have woken a worker that hangs
            self._accept_more(True)
            self._follow()
            if now >= self._next_trim:
                self._next_trim = now + _TRIM
                memory.give_back()
            for session in [s for s in self._sessions.values() if now >= s.deadline]:
                self._step(session, Session.expire)
        return True

    def _follow(self) -> None:
        """Give a sign of life, and follow the files of master keys and certificate, also while no client comes."""
        worker = self._shared.worker
        worker.beat()
        worker.watcher.ring()
        self._shared.counters.connections(len(self._sessions))
        asked, self._reloads = worker.board.reloads != self._reloads, worker.board.reloads
        self._shared.certificate.follow(worker.say, worker.warn, at_once=asked)

    def _accept_more(self, wanted: bool) -> None:
        """Wait for new connections or not. Of several workers that wait, the kernel wakes one."""
        if wanted != self._accepting:
            self._accepting = wanted
            for descriptor in self._listeners:
                if wanted:
                    self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
                else:
                    self._epoll.unregister(descriptor)

    def _accept(self, listener: socket.socket) -> bool:
        """Accept a connection. Returns whether there was one, wanted or not."""
        try:
            sock, peer = listener.accept()
        except OSError as e:
            if e.errno in _NO_ROOM:
                self._make_room()
            return False  # otherwise another worker was faster, or the client is gone
        prefix = self._limits.prefix(peer[0])
        if not self._limits.admits(prefix, time.monotonic()):
            self._shared.count(Verdict.REFUSED, peer)
            sock.close()
            return True
        sock.setblocking(False)
        session = Session(sock, peer, prefix, self._shared)
        self._sessions[session.descriptor] = session
        self._epoll.register(session.descriptor, select.EPOLLIN)
        surplus = self._limits.add(prefix, session)
        if surplus is not None:
            self._step(surplus, Session.evict)
        self._step(session, Session.proceed)
        return True

    def _make_room(self) -> None:
        """There are no descriptors left: free one, or wait until somebody else has."""
        first = self._limits.first_to_go()
        if first is None:
            self._accept_more(False)  # until the next sweep
        else:
            self._step(first, Session.evict)

    def _step(self, session: Session, action: Callable[[Session], None]) -> None:
        waited_for_write = session.wants_write
        action(session)
        if session.closed:  # and so gone from the epoll set
            del self._sessions[session.descriptor]
            self._limits.remove(session.prefix, session)
        elif session.wants_write != waited_for_write:
            events = select.EPOLLOUT if session.wants_write else select.EPOLLIN
            self._epoll.modify(session.descriptor, events)


def serve(config: ServerConfig, *, verbose: bool, log_addresses: bool) -> None:
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
    listen.raise_descriptor_limit()
    listeners = listen.for_key_exchange(ke.listen, ke.port)
    for listener in listeners:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER)
        listener.listen(BACKLOG)
    first = keystore.ensure_key(keys.master_keys_dir, keys.max_keys, os.urandom)
    if first:
        privileges.give(config.server.user, keys.master_keys_dir, *keys.master_keys_dir.iterdir())
        console.say(f"made the first master key, {first.key.id:04x}, in {keys.master_keys_dir}")
    policy = KeServer(ke.aeads, ntp.server, ntp.port)

    def set_up(worker: WorkerContext) -> Callable[[], None]:
        counters = KeCounters(worker.counters)
        shared = Shared(policy, certificate, keys.key_label, worker, counters, log_addresses=log_addresses)
        return Worker(listeners, shared, Limits(ke)).run

    harness = Harness(
        config,
        ke.workers,
        LAYOUT,
        verbose=verbose,
        files=(ke.server_cert, ke.server_key),
        writable=[keys.master_keys_dir] if keys.rotate_every else [],
        metrics_at=ke.metrics,
        sources=[partial(_metrics, certificate)],
    )
    harness.run(
        set_up,
        lambda: _announce(config, certificate.description, listeners),
        "sessions",
        reload="reads its certificate again",
        look=lambda: _look(certificate, keys, harness.counters),
        stopping=lambda: listen.close_all(listeners),  # another instance may listen while the workers drain
    )


def _look(certificate: CertificateWatcher, keys: KeysConfig, counters: Counters) -> None:
    """Rotate the master key when its time has come, and print a line for whatever else calls for action."""
    if keys.rotate_every is not None:
        try:
            made = keystore.rotate_if_due(keys.master_keys_dir, keys.max_keys, keys.rotate_every, os.urandom)
        except NTSError as e:
            console.warn_now_and_then("rotation", f"the master key is due for rotation, but {e}")
        else:
            if made:
                console.say(f"new master key {made.key.id:04x}: the last one was {keys.rotate_every} seconds old")
    certificate.follow(console.ignore, console.ignore)  # the first worker says it
    if certificate.days_left() < certs.SOON_DAYS:
        when = f"{certificate.description.not_after:%Y-%m-%d %H:%M} UTC"
        console.warn_now_and_then("certificate", f"the certificate in use expires on {when}", _DAY)
    turned_away = {name: n for name, n in counters.totals().items() if name in ("evicted", "refused")}
    console.warn_of_more("limits", f"clients are turned away: {console.counts(turned_away)}", sum(turned_away.values()))


def _metrics(certificate: CertificateWatcher) -> Iterator[Metric]:
    certificate.follow(console.ignore, console.ignore)
    expiry = certificate.description.not_after.timestamp()
    yield gauge(
        "nts_ke_certificate_expiry_timestamp_seconds", "When the certificate in use expires, in Unix time.", expiry
    )


def _announce(config: ServerConfig, certificate: certs.Description, listeners: list[socket.socket]) -> None:
    ke, ntp = config.ntske, config.ntpv4
    console.say(f"NTS-KE on TCP {listen.describe(listeners)}; {counted(ke.workers, 'worker')}")
    console.say(f"certificate for {', '.join(certificate.names)}, valid until {certificate.not_after:%Y-%m-%d}")
    console.say(f"sends clients to {ntp.server or 'the address they used'}, UDP port {ntp.port}")
