# SPDX-License-Identifier: MIT
"""A worker of the NTS-KE server: the event loop around `ke_connection`, all in Python.

It serves many sessions at once and never waits for a single client. Time, memory and number of the sessions are bounded
(`limits`).
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable

from nts.protocol.ke_server import Verdict
from nts.server.ke_connection import Session, Shared
from nts.server.limits import Limits
from nts.system import memory

DRAIN_TIME = 2.0  # seconds for the sessions in hand when the server stops
_SWEEP = 0.25  # seconds between checks of the deadlines
_TRIM = 5.0  # seconds between returns of memory that a burst of sessions has left
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
        self._listen_no_more(end)
        while self._count() and time.monotonic() < end:
            self._turn()
        self._expire_all()

    def _listen_no_more(self, end: float) -> None:
        self._accept_more(False)
        for listener in self._listeners.values():
            while time.monotonic() < end and self._accept(listener):
                pass
            listener.close()
        self._listeners.clear()

    def _expire_all(self) -> None:
        for session in list(self._sessions.values()):
            self._step(session, Session.expire)

    def _count(self) -> int:
        """How many connections there are."""
        return len(self._sessions)

    def _wait(self) -> list[tuple[int, int]]:
        """The descriptors that are ready, after at most the time between two sweeps."""
        return self._epoll.poll(_SWEEP)

    def _turn(self) -> bool:
        """Serve who is ready, and look after the deadlines. Returns whether to go on."""
        for descriptor, _ in self._wait():
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
        self._shared.counters.connections(self._count())
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
        session = Session(sock, peer, prefix, self._shared, time.monotonic())
        self._begin(session)
        surplus = self._limits.add(prefix, session)
        if surplus is not None:
            self._step(surplus, Session.evict)
        self._step(session, Session.proceed)
        return True

    def _begin(self, session: Session) -> None:
        self._sessions[session.descriptor] = session
        self._epoll.register(session.descriptor, select.EPOLLIN)

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
            self._forget(session)
        elif session.wants_write != waited_for_write:
            events = select.EPOLLOUT if session.wants_write else select.EPOLLIN
            self._epoll.modify(session.descriptor, events)

    def _forget(self, session: Session) -> None:
        """A session has ended."""
        self._limits.remove(session.prefix, session)
