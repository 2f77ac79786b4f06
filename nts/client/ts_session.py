# SPDX-License-Identifier: MIT
"""One time query over the network: send requests, wait for the answer, and explain why there is none.

A server's name may have several addresses, and the server may use one of two key pairs (`aead.possible_contexts`).
`ask` tries them in turn until one gives the time. Each attempt spends a cookie. Forged, replayed and
unprotected datagrams are recorded and ignored (RFC 8915 section 5.7). An NTS NAK, an unprotected kiss-o'-death or an
ICMP error only shortens the wait, since a genuine answer would already be on its way.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field, replace

from nts.base.errors import (
    ConfigError,
    Mismatch,
    NoAnswer,
    NoCookies,
    NotAuthentic,
    NTSError,
    NtsNak,
    ResolveError,
    UnusableServer,
)
from nts.client.state import Association, ClientState
from nts.codec import aead
from nts.codec.aead import Aead
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind, Judgement, Measurement, Query
from nts.system import addresses, udp, waiting
from nts.system.addresses import Endpoint

NAK_GRACE = 1.0  # seconds to wait for a genuine answer after one that may be forged
REFUSAL_GRACE = 0.25  # seconds, likewise after an ICMP error where there is more to try
_MAX_RECORDED = 16  # datagrams of an attempt
_ROOM = 65535
_ANCILLARY_ROOM = 64


@dataclass(frozen=True)
class Answer:
    """An authentic answer with usable time."""

    judgement: Judgement
    measurement: Measurement
    endpoint: Endpoint
    received_ns: int
    """arrival by our clock, in nanoseconds since 1970"""


@dataclass
class Attempt:
    """One request to one address, and what came back."""

    endpoint: Endpoint
    request: Query
    datagrams: list[tuple[bytes, Judgement]] = field(default_factory=list, repr=False)
    """each datagram that came back, with its judgement; in a flood, only the first ones"""
    answer: Answer | None = None
    refused: str = ""
    """the network's error, if there was one"""

    def record(self, datagram: bytes, judgement: Judgement) -> None:
        """Keep a datagram, unless there are many already and one with the same kind among them."""
        if len(self.datagrams) < _MAX_RECORDED or not self.has(judgement.kind):
            self.datagrams.append((datagram, judgement))

    def has(self, kind: AnswerKind) -> bool:
        """Whether a datagram with this kind has arrived."""
        return any(j.kind is kind for _, j in self.datagrams)

    @property
    def is_authentic(self) -> bool:
        """Whether an authentic answer has arrived, with usable time or without."""
        return self.has(AnswerKind.TIME) or self.has(AnswerKind.UNUSABLE)


@dataclass
class Exchange:
    """One query: its attempts, and its answer or failure."""

    association: Association
    """the one whose cookies were spent"""
    attempts: list[Attempt] = field(default_factory=list)
    stock: int = 0
    """cookies in client.ini afterwards"""
    failure: NTSError | None = None
    unstored: str = ""
    """why the fresh cookies could not be stored; empty: they were"""
    context: int | None = None
    """the AEAD number in the server's exporter context, if this query found it out"""
    renewed: bool = False
    """whether a new key exchange came before it"""

    @property
    def answer(self) -> Answer | None:
        """The answer, which only the last attempt can have."""
        return self.attempts[-1].answer


class Route:
    """The way to the time server of an association: its addresses, and which of them answered last."""

    def __init__(
        self, host: str | None = None, port: int | None = None, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> None:
        """`host` and `port` override what the association says."""
        self._host, self._port, self._family = host, port, family
        self._place: tuple[str, int] | None = None
        self._endpoints: list[Endpoint] = []

    def endpoints(self, association: Association) -> list[Endpoint]:
        """The addresses to try, in this order. Looks the name up when it is not the last one. ResolveError."""
        place = self._host or association.server, self._port or association.port
        if place != self._place:
            name = self._host or addresses.absolute(association.server)
            try:
                found = addresses.resolve(name, place[1], socket.SOCK_DGRAM, self._family)
            except ResolveError as e:
                raise ResolveError(str(e), hint=_ABSOLUTE_HINT if name != place[0] else e.hint) from None
            self._place, self._endpoints = place, found
        return list(self._endpoints)

    def prefer(self, endpoint: Endpoint) -> None:
        """Try this address first from now on."""
        self._endpoints = sorted(self._endpoints, key=endpoint.__ne__)


_ABSOLUTE_HINT = (
    "the key exchange server named it, so it must be in the DNS as it is: hosts files and search lists do not count; "
    "give HOST to ask another name or an address"
)


def ask(store: ClientState, route: Route, timeout: float) -> Exchange:
    """Query the time server's addresses, one after the other, within `timeout` seconds in total.

    Each attempt spends a cookie of client.ini. The fresh cookies of an authentic answer are stored there. Before any is
    spent, raises ConfigError when client.ini is unusable, ResolveError, NoCookies, and LibraryError when the algorithm
    does not work on this machine. Without an answer, the result's `failure` is a NoAnswer, NtsNak, NotAuthentic,
    Mismatch or UnusableServer.
    """
    steps = plan(store, route, timeout)
    while True:
        try:
            attempt, share, grace = next(steps)
        except StopIteration as done:
            exchange: Exchange = done.value
            return exchange
        query(attempt, share, refusal_grace=grace)


def plan(store: ClientState, route: Route, timeout: float) -> Generator[tuple[Attempt, float, float], None, Exchange]:
    """What `ask` does, but for the network: yields each attempt, its time-out, and its grace after an ICMP error.

    The caller makes the attempt (`Reception`) and resumes.
    """
    association = store.load()
    aead.check_usable([association.keys.aead])
    tries = _tries(association, route)
    exchange, end = Exchange(association), time.monotonic() + timeout
    while tries and (time.monotonic() < end or not exchange.attempts):
        try:
            taken, cookie = store.take_cookie()
        except NoCookies:
            if exchange.attempts:
                break
            raise
        if not taken.is_like(association):  # another key exchange has replaced it meanwhile
            tries = _tries(taken, route)
        association = exchange.association = taken
        exchange.stock = len(association.cookies)
        endpoint, use_other_keys = tries.popleft()
        keys = (association.other_keys if use_other_keys else None) or association.keys
        placeholders = ts_client.count_placeholders(exchange.stock, len(cookie))
        attempt = Attempt(endpoint, ts_client.build_query(keys, cookie, placeholders, os.urandom))
        exchange.attempts.append(attempt)
        # Silence must leave time for the others.
        share = (end - time.monotonic()) / (len(tries) + 1)
        yield attempt, share, REFUSAL_GRACE if tries else NAK_GRACE
        if attempt.is_authentic:
            if association.other_keys:
                exchange.context = Aead.AES_SIV_CMAC_256 if use_other_keys else keys.aead
                tries = deque(t for t in tries if t[1] is use_other_keys)
            _store(store, exchange, attempt)
            if attempt.answer:
                route.prefer(endpoint)
                break
        elif attempt.has(AnswerKind.NAK) and (endpoint, True) in tries:  # it is there, but may use the other keys
            tries.remove((endpoint, True))
            tries.appendleft((endpoint, True))
    if exchange.answer is None:
        exchange.failure = _explain(exchange.attempts, timeout)
    return exchange


def _tries(association: Association, route: Route) -> deque[tuple[Endpoint, bool]]:
    """What to try: each address, and then, where the server may use another pair of keys, each address with that."""
    endpoints = route.endpoints(association)
    pairs = (False, True) if association.other_keys else (False,)
    return deque((endpoint, use_other_keys) for use_other_keys in pairs for endpoint in endpoints)


def _store(store: ClientState, exchange: Exchange, attempt: Attempt) -> None:
    fresh = tuple(c for _, judgement in attempt.datagrams for c in judgement.cookies)
    try:
        exchange.stock = store.add_cookies(attempt.request.keys, fresh)
    except ConfigError as e:  # the time is good anyway
        exchange.unstored = str(e)


def query(attempt: Attempt, timeout: float, *, refusal_grace: float = NAK_GRACE) -> None:
    """Send the request and wait up to `timeout` seconds for its answer, or `refusal_grace` after an ICMP error."""
    with Reception(attempt, timeout, refusal_grace) as reception:
        while (left := reception.left()) > 0 and waiting.readable(reception, left):
            reception.receive()


class Reception:
    """A request on its way, on a socket of its own: a context manager that sends it. Never blocks.

    Call `receive` when the socket is readable, until nothing is `left`. Network errors go into the attempt.
    """

    def __init__(self, attempt: Attempt, timeout: float, refusal_grace: float) -> None:
        """`timeout` in seconds from when the request is sent; `refusal_grace` after an ICMP error."""
        self._attempt, self._timeout, self._refusal_grace = attempt, timeout, refusal_grace
        self._deadline, self._sent_ns = 0.0, 0
        self._sock: socket.socket | None = None

    def __enter__(self) -> Reception:
        endpoint = self._attempt.endpoint
        try:
            self._sock = sock = socket.socket(endpoint.family, socket.SOCK_DGRAM)
            udp.stamp_both_ways(sock)
            sock.setblocking(False)
            sock.connect(endpoint.address)
            self._sent_ns = time.time_ns()  # counts unless the kernel knows better
            sock.send(self._attempt.request.packet)
            self._deadline = time.monotonic() + self._timeout
        except OSError as e:
            self._attempt.refused = e.strerror or str(e)
        return self

    def __exit__(self, *_: object) -> None:
        if self._sock is not None:
            self._sock.close()

    def fileno(self) -> int:
        """For select() and event loops, as long as anything is `left`."""
        assert self._sock is not None
        return self._sock.fileno()

    def left(self) -> float:
        """Seconds to wait; 0 or less when the attempt is over."""
        return self._deadline - time.monotonic()

    def receive(self) -> None:
        """Take a datagram, and judge it. The attempt is over when it is authentic."""
        assert self._sock is not None
        attempt = self._attempt
        self._sent_ns = udp.departure_ns(self._sock) or self._sent_ns
        try:
            datagram, ancillary, _, _ = self._sock.recvmsg(_ROOM, _ANCILLARY_ROOM)
        except BlockingIOError:  # there was only that timestamp, or a datagram that the kernel dropped for its checksum
            return
        except OSError as e:  # an ICMP error, which anybody could have sent
            attempt.refused = e.strerror or str(e)
            self._shorten(self._refusal_grace)
            return
        received_ns = udp.arrival_ns(ancillary)
        judgement = ts_client.judge(datagram, attempt.request)
        if judgement.kind is AnswerKind.TIME and judgement.header:
            measurement = ts_client.measure(judgement.header, self._sent_ns, received_ns)
            if measurement:
                attempt.answer = Answer(judgement, measurement, attempt.endpoint, received_ns)
            else:
                judgement = replace(judgement, kind=AnswerKind.UNUSABLE, reason="its timestamps contradict our clock's")
        attempt.record(datagram, judgement)
        if judgement.kind in (AnswerKind.TIME, AnswerKind.UNUSABLE):
            self._shorten(0)
        elif judgement.kind in (AnswerKind.NAK, AnswerKind.KISS):
            self._shorten(NAK_GRACE)

    def _shorten(self, grace: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + grace)


# What to report when several things happened, the most informative first.
_EXPLANATIONS: tuple[tuple[AnswerKind, type[NTSError], str], ...] = (
    (AnswerKind.UNUSABLE, UnusableServer, "{where} answered, but {reason}"),
    (AnswerKind.NAK, NtsNak, "{where} answered with an NTS NAK: it did not accept our cookie or our request"),
    (AnswerKind.KISS, UnusableServer, "{where} answered with an {reason}"),
    (AnswerKind.NOT_AUTHENTIC, NotAuthentic, "no authentic answer from {where}; ignored: {reason}"),
    (AnswerKind.MISMATCH, Mismatch, "no answer to our request from {where}; ignored: {reason}"),
)


def _explain(attempts: list[Attempt], timeout: float) -> NTSError:
    for kind, error, text in _EXPLANATIONS:
        for attempt in attempts:
            for _, judgement in attempt.datagrams:
                if judgement.kind is kind:
                    where = addresses.format_address(attempt.endpoint.address)
                    return error(text.format(where=where, reason=judgement.reason))
    outcomes = [f"{addresses.format_address(a.endpoint.address)}{a.refused and f': {a.refused}'}" for a in attempts]
    within = "" if attempts[-1].refused else f" within {timeout:g} s"
    return NoAnswer(f"no NTP answer from {'; '.join(outcomes)}{within}")
