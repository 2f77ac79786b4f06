# SPDX-License-Identifier: MIT
"""One time query over the network: send requests, wait for the answer, and explain why there is none.

A server's name may have several addresses, and the server may use one of two key pairs (`aead.possible_contexts`).
`ask` tries them in turn until an authentic answer arrives. Each attempt spends a cookie. Forged, replayed and
unprotected datagrams are recorded and ignored (RFC 8915 section 5.7). An NTS NAK, an unprotected kiss-o'-death or an
ICMP error only shortens the wait, since a genuine answer would already be on its way.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nts.base.errors import ConfigError, Mismatch, NoAnswer, NoCookies, NotAuthentic, NTSError, NtsNak, UnusableServer
from nts.client.state import Association, ClientState
from nts.codec.aead import Aead
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind, Judgement, Measurement, Query
from nts.system import addresses, udp
from nts.system.addresses import Endpoint

NAK_GRACE = 1.0  # seconds
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

    attempts: list[Attempt] = field(default_factory=list)
    stock: int = 0
    """cookies in client.ini afterwards"""
    failure: NTSError | None = None
    unstored: str = ""
    """why the fresh cookies could not be stored; empty: they were"""
    context: int | None = None
    """the AEAD number in the server's exporter context, if this query found it out"""

    @property
    def answer(self) -> Answer | None:
        """The answer, which only the last attempt can have."""
        return self.attempts[-1].answer


def locate(
    association: Association, host: str | None, port: int | None, family: socket.AddressFamily
) -> list[Endpoint]:
    """The addresses of `host` and `port`, by default the association's. ResolveError if there is none."""
    name = host or addresses.absolute(association.server)
    return addresses.resolve(name, port or association.port, socket.SOCK_DGRAM, family)


def ask(store: ClientState, endpoints: Sequence[Endpoint], timeout: float) -> Exchange:
    """Query these addresses, one after the other, within `timeout` seconds in total.

    Each attempt spends a cookie of client.ini. The fresh cookies of an authentic answer are stored there. Raises
    ConfigError when client.ini is unusable, and NoCookies when it has none for the first attempt. Without an answer,
    the result's `failure` is a NoAnswer, NtsNak, NotAuthentic, Mismatch or UnusableServer.
    """
    exchange, end = Exchange(), time.monotonic() + timeout
    remaining, use_other_keys = deque(endpoints), False
    while remaining and (time.monotonic() < end or not exchange.attempts):
        try:
            association, cookie = store.take_cookie()
        except NoCookies:
            if exchange.attempts:
                break
            raise
        exchange.stock = len(association.cookies)
        keys = (association.other_keys if use_other_keys else None) or association.keys
        placeholders = ts_client.count_placeholders(exchange.stock, len(cookie))
        attempt = Attempt(remaining[0], ts_client.build_query(keys, cookie, placeholders, os.urandom))
        exchange.attempts.append(attempt)
        # A silent address must leave time for the others. After an ICMP error, wait only at the last address.
        share = (end - time.monotonic()) / len(remaining)
        query(attempt, share, refusal_grace=NAK_GRACE if len(remaining) == 1 else 0.0)
        if attempt.is_authentic:
            if association.other_keys:
                exchange.context = Aead.AES_SIV_CMAC_256 if use_other_keys else keys.aead
            _store(store, exchange, attempt)
            break
        use_other_keys = not use_other_keys and attempt.has(AnswerKind.NAK) and association.other_keys is not None
        if not use_other_keys:
            remaining.popleft()
    if exchange.answer is None:
        exchange.failure = _explain(exchange.attempts, timeout)
    return exchange


def _store(store: ClientState, exchange: Exchange, attempt: Attempt) -> None:
    fresh = tuple(c for _, judgement in attempt.datagrams for c in judgement.cookies)
    try:
        exchange.stock = store.add_cookies(attempt.request.keys, fresh)
    except ConfigError as e:  # the time is good anyway
        exchange.unstored = str(e)


def query(attempt: Attempt, timeout: float, *, refusal_grace: float = NAK_GRACE) -> None:
    """Send the request and wait up to `timeout` seconds for its answer, or `refusal_grace` after an ICMP error."""
    try:
        with socket.socket(attempt.endpoint.family, socket.SOCK_DGRAM) as sock:
            udp.enable_timestamps(sock)
            sock.setblocking(False)
            sock.connect(attempt.endpoint.address)
            sent_ns = time.time_ns()
            sock.send(attempt.request.packet)
            _await_answer(sock, attempt, sent_ns, timeout, refusal_grace)
    except OSError as e:
        attempt.refused = e.strerror or str(e)


def _await_answer(
    sock: socket.socket, attempt: Attempt, sent_ns: int, timeout: float, refusal_grace: float
) -> None:  # fmt: skip
    """Judge the datagrams that arrive, until one is authentic or the time is up."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
        try:
            datagram, ancillary, _, _ = sock.recvmsg(_ROOM, _ANCILLARY_ROOM)
        except BlockingIOError:  # the kernel dropped the datagram for its checksum
            continue
        except OSError as e:  # an ICMP error, which anybody could have sent
            attempt.refused = e.strerror or str(e)
            deadline = min(deadline, time.monotonic() + refusal_grace)
            continue
        received_ns = udp.arrival_ns(ancillary)
        judgement = ts_client.judge(datagram, attempt.request)
        attempt.record(datagram, judgement)
        if judgement.kind is AnswerKind.TIME and judgement.header:
            measurement = ts_client.measure(judgement.header, sent_ns, received_ns)
            attempt.answer = Answer(judgement, measurement, attempt.endpoint, received_ns)
            return
        if judgement.kind is AnswerKind.UNUSABLE:
            return
        if judgement.kind in (AnswerKind.NAK, AnswerKind.KISS):
            deadline = min(deadline, time.monotonic() + NAK_GRACE)


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
