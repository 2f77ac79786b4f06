# SPDX-License-Identifier: MIT
"""A worker of the key exchange server around the native loop: answers its questions, counts what it reports, and serves
in Python the connections that it hands over.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from nts.base.errors import ConfigError, FormatError, LibraryError
from nts.codec.keyring import CookieFormat, KeyRing
from nts.codec.records import MessageReader
from nts.protocol import ke_server
from nts.protocol.ke_server import Outcome, Verdict
from nts.server import ke_engine, ke_groups
from nts.server.certificate import CertificateWatcher
from nts.server.config import KeConfig
from nts.server.ke_connection import LINGER_TIMEOUT, SESSION_TIMEOUT, Session, Shared
from nts.server.ke_engine import Ask, KeEngine, NativeTls, Question, Report
from nts.server.ke_worker import Worker
from nts.server.limits import Limits
from nts.system import tls

Groups = dict[str, bool]
"""the TLS groups of the reference by OpenSSL's name, its favourite first, and whether the native loop has them too"""


class NativeWorker(Worker):
    """The event loop of one process. The base class serves what the native loop hands over."""

    def __init__(self, listeners: list[socket.socket], shared: Shared, ke: KeConfig, groups: Groups) -> None:
        super().__init__([], shared, Limits(ke))  # the native loop has listeners and limits
        self._native_listeners = listeners
        self._handed_over: dict[Session, Any] = {}  # and what the native loop calls them
        self._by_handle: dict[Any, Session] = {}
        self._ring: KeyRing | None = None
        self._tls: NativeTls | None = None
        self._folder = os.fsencode(shared.worker.watcher.folder)
        self._engine = KeEngine(ke, shared.label, SESSION_TIMEOUT, LINGER_TIMEOUT, verbose=shared.worker.verbose)
        self._engine.count_into(shared.worker.counters)
        self._engine.set_groups(groups)
        self._refresh()
        self._engine.attach(listeners, self._epoll.fileno())

    def _wait(self) -> list[tuple[int, int]]:
        self._engine.run(self._folder, self._shared.worker.watcher.seen)
        self._settle()
        return self._epoll.poll(0)

    def _settle(self) -> None:
        """Do all that the native loop leaves to us."""
        for handover in self._engine.handovers():
            self._shared.counters.handover()
            session = Session(handover.sock, handover.peer, 0, self._shared, handover.accepted)
            self._handed_over[session], self._by_handle[handover.session] = handover.session, session
            self._begin(session)
            self._step(session, Session.proceed)
        while (question := self._engine.question()) is not None:
            self._engine.answer(self._plan(question))
        for handle in self._engine.evicted():
            self._step(self._by_handle[handle], Session.evict)
        for report in self._engine.reports():
            self._tell(report)

    def _plan(self, question: Question) -> Outcome:
        policy = self._shared.policy
        if question.about is Ask.TRUNCATED:
            return policy.fail(Verdict.TRUNCATED)
        if question.about is Ask.TIMED_OUT:
            return policy.fail(Verdict.TIMED_OUT)
        try:
            message = MessageReader(ke_server.MAX_REQUEST).feed(question.request)
        except FormatError:
            return policy.fail(Verdict.BAD_REQUEST)
        assert message is not None  # the native loop asks when the request is complete, or too long
        ring = self._refresh()
        return policy.plan(message, local_address=question.local_address, ring=ring)

    def _refresh(self) -> KeyRing:
        """Give the native loop the master key and the certificate, if they have changed."""
        ring, certificate = self._shared.worker.watcher.ring(), self._shared.certificate.native
        if ring is not self._ring:
            self._engine.set_key(ring)
            self._ring = ring
        if certificate is not self._tls:
            assert certificate is not None
            self._engine.set_tls(certificate)
            self._tls = certificate
        return ring

    def _follow(self) -> None:
        super()._follow()
        self._refresh()

    def _tell(self, report: Report) -> None:
        """Count why TLS failed, and log what became of a connection, as `Session` does."""
        detail = f"AEAD {report.aead}, {report.group}" if report.aead else ""
        if report.verdict is Verdict.TLS_FAILED:
            self._shared.counters.tls_failure(lost=report.lost, reason=report.reason)
            detail = report.reason
        self._shared.log(report.verdict, report.peer, detail)

    # --- what the native loop does in place of the base class ---------------------------------------------------------

    def _count(self) -> int:
        return self._engine.count

    def _listen_no_more(self, end: float) -> None:
        self._engine.drain(end)
        for listener in self._native_listeners:
            listener.close()
        self._settle()

    def _expire_all(self) -> None:
        super()._expire_all()
        self._engine.expire()
        self._settle()

    def _forget(self, session: Session) -> None:
        handle = self._handed_over.pop(session)
        del self._by_handle[handle]
        self._engine.release(handle)


# --- which loop serves -----------------------------------------------------------------------------------------------


def choose(
    wanted: str, certificate: CertificateWatcher, cookie_format: CookieFormat = CookieFormat.OWN
) -> tuple[Groups | None, str]:
    """The groups of the native loop if it is to serve, and the line that says what serves.

    The native loop makes cookies of our own format only. It leaves clients to the reference that offer a TLS group
    which it lacks and the reference has, so every client gets the group that the reference would take. `certificate`
    follows its files for the native loop too from then on. LibraryError or ConfigError when the loop is required but
    unusable.
    """
    if wanted == "python":
        return None, "engine: python (as configured)"
    try:
        if cookie_format is not CookieFormat.OWN:
            raise LibraryError(
                f"the native loop makes no cookies for {cookie_format.value}", hint="engine = python makes them"
            )
        name = ke_engine.library()
        native = NativeTls(*certificate.files)
        groups = _compare(native, certificate)
        if not any(groups.values()):
            raise LibraryError(
                f"the system's {name} has none of the TLS groups {', '.join(groups)}",
                hint="see Groups in the file that OPENSSL_CONF names",
            )
    except (LibraryError, ConfigError) as e:
        if wanted == "native":
            raise
        return None, f"engine: python ({e}; {e.hint})"
    certificate.use_native(NativeTls)
    lacks = ", ".join(name for name, ours in groups.items() if not ours)
    rest = f"; clients that offer {lacks} are served in Python" if lacks else ""
    return groups, f"engine: native ({name}{rest})"


def _compare(native: NativeTls, certificate: CertificateWatcher) -> Groups:
    ours = ke_groups.offered(native.answer)
    theirs = ke_groups.offered(lambda hello: tls.first_answer(certificate.context, hello))
    return {name: name in ours for name in theirs}
