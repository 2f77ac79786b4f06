# SPDX-License-Identifier: MIT
"""What `import nts` offers to programs, blocking. `nts.aio` has the same for asyncio; docs/library.md is the guide.

Everything here is in memory: no file is read but that of the CA certificates, and none is written.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from nts.base.errors import NoCookies, NTSError, NtsNak
from nts.base.registry import KE_PORT
from nts.client import state, ts_session
from nts.client.memory import MemoryState
from nts.client.rekey import Refusals
from nts.client.ts_session import Exchange, Route
from nts.codec.aead import Aead
from nts.protocol import ke_client

AEADS = tuple(map(int, state.DEFAULT_AEADS))
TIMEOUT = 5.0  # seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

FilePath = str | os.PathLike[str]


@dataclass(frozen=True)
class Answer:
    """The time from a server, authentic: there is none that is not."""

    offset: float
    """seconds by which the server's clock is ahead of ours"""
    delay: float
    """seconds of the round trip, without the time that the server took"""
    error: float
    """seconds by which `offset` can be wrong at most, if the server's clock is as good as the server says"""
    time: datetime
    """when the answer arrived, by the server's clock; in UTC"""
    stratum: int
    """1 to 15: how far the server is from a reference clock"""
    leap: int
    """0, or 1 if the last minute of the month has 61 seconds, 2 if it has 59"""
    address: str
    """of the server that answered"""
    port: int


class Association:
    """The result of a key exchange: keys, and a stock of cookies, of which each query spends one and brings another.

    Threads may share it; their queries take turns. Nothing secret is in its repr().
    """

    def __init__(self, content: state.Association) -> None:
        """Made by `key_exchange`, not by programs."""
        self._store, self._route, self._turn = MemoryState(content), Route(), threading.Lock()

    @property
    def server(self) -> str:
        """The name or address of the time server."""
        return self._store.load().server

    @property
    def port(self) -> int:
        """Its UDP port."""
        return self._store.load().port

    @property
    def aead(self) -> int:
        """The number of the AEAD algorithm."""
        return int(self._store.load().keys.aead)

    @property
    def cookies(self) -> int:
        """How many are left. A query without any raises NoCookies."""
        return len(self._store.load().cookies)

    def __repr__(self) -> str:
        return f"<Association {self.server} port {self.port}, AEAD {self.aead}, cookies left: {self.cookies}>"


def key_exchange(
    host: str,
    port: int = KE_PORT,
    *,
    ca: FilePath | None = None,
    verify_name: str | None = None,
    aeads: Sequence[int] = AEADS,
    timeout: float = TIMEOUT,
) -> Association:
    """Fetch keys and cookies from an NTS-KE server, whose certificate is always verified.

    `ca`: file of CA certificates to trust, in PEM; None: the system's. `verify_name`: the name that the certificate
    must be for; None: `host`. `aeads`: algorithms to offer, the preferred one first. `timeout`: seconds for everything
    after the name look-up. Raises ValueError for an unknown algorithm, and the exception of the stage that failed:
    LibraryError, ConfigError, ResolveError, ConnectError, TLSError, CertificateError, ALPNError, KeResponseError or
    KeErrorRecord.
    """
    from nts.client import ke_session  # here: it loads the TLS library

    if not aeads:
        raise ValueError("no AEAD algorithm to offer")
    options = ke_session.Options(
        host, port, tuple(map(Aead, aeads)), ca=Path(ca).resolve() if ca is not None else None,
        verify_name=verify_name, timeout=timeout,
    )  # fmt: skip
    return Association(ke_session.exchange(options).association(options))


def query(association: Association, *, timeout: float = TIMEOUT) -> Answer:
    """Ask the time, for `timeout` seconds in total. Each address of the server that is tried costs a cookie.

    Raises ResolveError, NoCookies or LibraryError; or, without an answer, NoAnswer, NtsNak, NotAuthentic, Mismatch or
    UnusableServer.
    """
    with association._turn:
        return answer_of(ts_session.ask(association._store, association._route, timeout))


def answer_of(exchange: Exchange) -> Answer:
    """The answer of a query, or its failure, raised."""
    found = exchange.answer
    if exchange.failure is not None:
        raise exchange.failure
    assert found is not None
    assert found.judgement.header is not None
    header, measured, endpoint = found.judgement.header, found.measurement, found.endpoint
    return Answer(
        offset=measured.offset / 1e9,
        delay=measured.delay / 1e9,
        error=measured.error / 1e9,
        time=_EPOCH + timedelta(microseconds=(found.received_ns + measured.offset) // 1000),
        stratum=header.stratum,
        leap=header.leap,
        address=endpoint.host,
        port=endpoint.address[1],
    )


@dataclass(eq=False)
class Renewal:
    """What the blocking and the asyncio Client share: whom they ask, and when they may repeat the key exchange.

    Takes the arguments of `key_exchange`; `timeout` also holds for each query. Nothing goes over the network yet.
    """

    host: str
    port: int = KE_PORT
    _: KW_ONLY
    ca: FilePath | None = None
    verify_name: str | None = None
    aeads: Sequence[int] = AEADS
    timeout: float = TIMEOUT
    association: Association | None = field(default=None, init=False)
    """the present one; None before the first query"""
    _vain: int = field(default=0, init=False, repr=False)
    """key exchanges in a row that led to no answer"""
    _due: float = field(default=0.0, init=False, repr=False)
    """when another may begin, by the monotonic clock"""
    _failure: NTSError | None = field(default=None, init=False, repr=False)
    _refusals: Refusals = field(default_factory=Refusals, init=False, repr=False)

    def _usable(self) -> Association | None:
        """The association, if a query can be made with it."""
        return self.association if self.association is not None and self.association.cookies else None

    def _begin(self, cause: NTSError) -> None:
        """Before a key exchange: raises why the last one failed, or else `cause`, if it is too early for another."""
        now = time.monotonic()
        if now < self._due:
            failure = self._failure or cause
            raise type(failure)(str(failure), hint=failure.hint)
        self._vain += 1
        self._due = now + ke_client.retry_interval(self._vain)

    def _answered(self) -> None:
        self._vain, self._due = 0, 0.0
        self._refusals.note(None)

    def _refused(self, failure: NtsNak) -> None:
        """Raises the failure, unless a key exchange is due."""
        if not self._refusals.note(failure):
            raise failure

    def _renew(self) -> Association:
        """Replace the association, if the key exchange succeeds."""
        try:
            self.association = key_exchange(
                self.host, self.port,
                ca=self.ca, verify_name=self.verify_name, aeads=self.aeads, timeout=self.timeout,
            )  # fmt: skip
        except NTSError as e:
            self._failure = e
            raise
        self._failure = None
        return self.association


@dataclass(eq=False)
class Client(Renewal):
    """A time client for programs that keep running. Makes a key exchange when it needs one, always verified alike.

    It needs one at first, when the cookies run out, and when the server refuses them in two queries without an answer
    in between: the first NTS NAK is raised, for it may be forged (RFC 8915 section 5.7). If no answer comes of a key
    exchange, the next one is made 10 seconds later at the earliest, then 15, up to five days (section 4.2). Until then,
    a query that needs it raises the failure again. Threads may share a client; their queries take turns.
    """

    _turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def query(self) -> Answer:
        """Ask the time. Raises what `key_exchange` and the function `query` raise."""
        with self._turn:
            try:
                answer = query(self._usable() or self._renewed(NoCookies(EMPTY)), timeout=self.timeout)
            except NtsNak as e:
                self._refused(e)
                answer = query(self._renewed(e), timeout=self.timeout)
            self._answered()
            return answer

    def _renewed(self, cause: NTSError) -> Association:
        self._begin(cause)
        return self._renew()


EMPTY = "no cookies left, and it is too early for another key exchange"
