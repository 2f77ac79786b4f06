# SPDX-License-Identifier: MIT
"""The connection of one client of the NTS-KE server. It passes through these states:

    HANDSHAKE  until TLS and ALPN are settled            deadline: close
    REQUEST    until the End of Message record           deadline: send Error 1
    CLOSING    until response and close_notify are sent  deadline: close
    LINGERING  until the client closes too               deadline: close

LINGERING discards what the client still sends. Closing a socket with unread octets would reset the connection, and the
response could be lost.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from nts.base.errors import FormatError
from nts.codec.records import MessageReader
from nts.protocol import ke_server
from nts.protocol.ke_server import KeServer, Outcome, Verdict
from nts.server.certificate import CertificateWatcher
from nts.server.harness import WorkerContext
from nts.server.ke_counters import KeCounters
from nts.server.limits import Prefix
from nts.system import addresses, console, tls

SESSION_TIMEOUT = 5.0  # seconds from accept to the end of the request
LINGER_TIMEOUT = 1.0  # seconds from the response to the close
_DISCARDS = 16  # reads in one turn, so that a fast sender does not hold up the others


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
    counters: KeCounters
    log_addresses: bool

    def count(self, verdict: Verdict, peer: tuple[Any, ...], detail: str = "") -> None:
        """Count and log what became of a connection."""
        self.counters.session(verdict)
        self.log(verdict, peer, detail)

    def log(self, verdict: Verdict, peer: tuple[Any, ...], detail: str) -> None:
        """Print a line for a connection, if anybody wants it."""
        if not self.worker.verbose:
            return
        name = verdict.name.lower()
        who = addresses.format_address(peer) if self.log_addresses else "session"
        line = f"{who}: {name.replace('_', ' ')}{detail and f' ({detail})'}"
        console.say(line, verdict=name, detail=detail)


class Session:
    """A connection that has been accepted. Every one gets a verdict in the end, and only one."""

    def __init__(
        self, sock: socket.socket, peer: tuple[Any, ...], prefix: Prefix, shared: Shared, accepted: float
    ) -> None:
        """`accepted` is a time of the monotonic clock."""
        sock.setblocking(False)
        self._sock, self._peer, self._shared = sock, peer, shared
        self.descriptor, self.prefix = sock.fileno(), prefix
        self._tls = tls.Connection(shared.certificate.context, sock)
        self._tls.set_accept_state()
        self._reader = MessageReader(ke_server.MAX_REQUEST)
        self._response = b""
        self._group = ""
        self._verdict: Verdict | None = None
        self._accepted = accepted
        self.state = State.HANDSHAKE
        self.deadline = self._accepted + SESSION_TIMEOUT
        self.wants_write = False
        self.closed = False

    def proceed(self) -> None:
        """Go on until the socket would block."""
        self.wants_write = False
        try:
            if self.state is State.LINGERING:
                self._discard()
            if self.state is State.HANDSHAKE:
                self._handshake()
            if self.state is State.REQUEST:
                self._read_request()
            if self.state is State.CLOSING:
                self._write_response()
        except (tls.WantRead, BlockingIOError):
            if self.state is State.REQUEST:
                # Acknowledge now: until then, a client without TCP_NODELAY does not send its request.
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except tls.WantWrite:
            self.wants_write = True
        except tls.AlpnRefused:
            self._end(Verdict.NO_ALPN)
        except (tls.Error, OSError) as e:
            self._fail(e)

    def expire(self) -> None:
        """Act on the passing of the deadline."""
        if self.state is State.REQUEST:
            self._answer(self._shared.policy.fail(Verdict.TIMED_OUT))  # section 4.1.3
            self.proceed()
        else:
            self._end(Verdict.TLS_TIMED_OUT)  # unless there is a verdict already

    def evict(self) -> None:
        """Close at once to make room for another client."""
        self._end(Verdict.EVICTED)

    def _handshake(self) -> None:
        self._tls.do_handshake()
        self._group = self._tls.get_group_name() or ""
        self._shared.counters.handshake(time.monotonic() - self._accepted, self._group)
        if tls.speaks_ntske(self._tls):
            self.state = State.REQUEST
        else:
            self._conclude(Verdict.NO_ALPN)

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
        if outcome.aead is None:
            self._conclude(outcome.verdict)
        else:
            self._shared.counters.agreement(outcome.aead)
            self._conclude(outcome.verdict, f"AEAD {int(outcome.aead)}, {self._group}")

    def _conclude(self, verdict: Verdict, detail: str = "") -> None:
        """Record the verdict and start closing."""
        self._record(verdict, detail)
        self.state = State.CLOSING
        self.deadline = time.monotonic() + LINGER_TIMEOUT

    def _end(self, verdict: Verdict, detail: str = "") -> None:
        """Record the verdict and close at once."""
        self._record(verdict, detail)
        self._close()

    def _fail(self, error: Exception) -> None:
        """Close because of an error that the client or the network has caused."""
        if self.state is State.HANDSHAKE and tls.is_lost(error):
            self._end(Verdict.CLOSED_EARLY)
            return
        if self._verdict is None:
            self._shared.counters.tls_failure(lost=tls.is_lost(error), reason=tls.reason(error))
        self._end(Verdict.TLS_FAILED, tls.reason(error))

    def _record(self, verdict: Verdict, detail: str) -> None:
        """Count and log the verdict, unless the session has one already."""
        if self._verdict is None:
            self._verdict = verdict
            self._shared.count(verdict, self._peer, detail)

    def _write_response(self) -> None:
        if self._response:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # until SHUT_WR: all in one segment
            self._tls.send(self._response)  # in one write, hence one TLS record: some clients read only one
            self._response = b""
        self._tls.shutdown()  # close_notify (section 4)
        self._sock.shutdown(socket.SHUT_WR)
        self.state = State.LINGERING

    def _discard(self) -> None:
        for _ in range(_DISCARDS):
            if not self._sock.recv(tls.READ_SIZE):
                self._close()
                return

    def _close(self) -> None:
        self.closed = True
        self._sock.close()
