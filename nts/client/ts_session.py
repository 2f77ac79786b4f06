# SPDX-License-Identifier: MIT
"""One time query over the network: send a request, wait for its answer, and say why when there is none.

Nothing that arrives ends the wait but an authentic answer: what is forged, replayed or unprotected is noted and
ignored (RFC 8915 section 5.7). An NTS NAK, an unprotected kiss-o'-death or the network's word that nobody is there
shortens the wait, since the genuine answer, if there is one, is on its way already.
"""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass, field

from nts.base.errors import ConfigError, Mismatch, NoAnswer, NotAuthentic, NTSError, NtsNak, UnusableServer
from nts.client.state import Association, ClientState
from nts.protocol import ts_client
from nts.protocol.ts_client import Judgement, Measurement, Query, Verdict
from nts.system import addresses, udp
from nts.system.addresses import Endpoint

NAK_GRACE = 1.0  # seconds
_MAX_NOTED = 16
_ROOM = 65535
_ANCILLARY_ROOM = 64


@dataclass(frozen=True)
class Answer:
    """An authentic answer with usable time."""

    judgement: Judgement
    measurement: Measurement
    address: str
    received_ns: int
    """when it arrived, by our clock, in nanoseconds since 1970"""


@dataclass
class Exchange:
    """One query, and what came of it: an answer or a failure."""

    request: Query
    stock: int = 0
    """cookies in client.ini afterwards"""
    datagrams: list[tuple[bytes, Judgement]] = field(default_factory=list, repr=False)
    """what came back, with the judgement on each; of a flood, the first ones"""
    answer: Answer | None = None
    failure: NTSError | None = None
    refused: str = ""
    """what the network said, if it said that the server cannot be reached"""
    unstored: str = ""
    """why the fresh cookies could not be stored, if they could not"""

    def note(self, datagram: bytes, judgement: Judgement) -> None:
        """Keep what came back, but for more of the same than a person would read."""
        seen = {j.verdict for _, j in self.datagrams}
        if len(self.datagrams) < _MAX_NOTED or judgement.verdict not in seen:
            self.datagrams.append((datagram, judgement))


def locate(association: Association, host: str | None, port: int | None, family: socket.AddressFamily) -> Endpoint:
    """The time server's address: the association's, unless another is given."""
    name = host or addresses.absolute(association.server)
    return addresses.resolve(name, port or association.port, socket.SOCK_DGRAM, family)[0]


def ask(store: ClientState, endpoint: Endpoint, timeout: float) -> Exchange:
    """Spend a cookie of client.ini on one query, and store the fresh ones that an authentic answer brings.

    Raises ConfigError or NoCookies when there is nothing to ask with; what happens later is in the result.
    """
    association, cookie = store.take_cookie()
    placeholders = ts_client.count_placeholders(len(association.cookies), len(cookie))
    request = ts_client.build_query(association.keys, cookie, placeholders, os.urandom)
    exchange = Exchange(request, len(association.cookies))
    query(endpoint, exchange, timeout)
    fresh = tuple(c for _, judgement in exchange.datagrams for c in judgement.cookies)
    if fresh:
        try:
            exchange.stock = store.add_cookies(association.keys, fresh)
        except ConfigError as e:  # the time is good all the same
            exchange.unstored = str(e)
    return exchange


def query(endpoint: Endpoint, exchange: Exchange, timeout: float) -> None:
    """Send the request and wait up to `timeout` seconds for its answer.

    Sets `exchange.answer`, or `exchange.failure` to NoAnswer, NtsNak, NotAuthentic, Mismatch or UnusableServer.
    """
    where = addresses.shown(endpoint.address)
    try:
        with socket.socket(endpoint.family, socket.SOCK_DGRAM) as sock:
            udp.enable_timestamps(sock)
            sock.setblocking(False)
            sock.connect(endpoint.address)
            sent_ns = time.time_ns()
            sock.send(exchange.request.packet)
            _await_answer(sock, endpoint, exchange, sent_ns, timeout)
    except OSError as e:
        exchange.refused = e.strerror or str(e)
    if exchange.answer is None:
        exchange.failure = _explain(exchange, where, timeout)


def _await_answer(sock: socket.socket, endpoint: Endpoint, exchange: Exchange, sent_ns: int, timeout: float) -> None:
    """Judge what arrives until there is an authentic answer or the time is up."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
        try:
            datagram, ancillary, _, _ = sock.recvmsg(_ROOM, _ANCILLARY_ROOM)
        except OSError as e:  # an ICMP error, which anybody could have sent
            exchange.refused = e.strerror or str(e)
            deadline = min(deadline, time.monotonic() + NAK_GRACE)
            continue
        received_ns = udp.arrival_ns(ancillary)
        judgement = ts_client.judge(datagram, exchange.request)
        exchange.note(datagram, judgement)
        if judgement.verdict is Verdict.TIME and judgement.header:
            measurement = ts_client.measure(judgement.header, sent_ns, received_ns)
            exchange.answer = Answer(judgement, measurement, endpoint.host, received_ns)
            return
        if judgement.verdict is Verdict.UNUSABLE:
            return
        if judgement.verdict in (Verdict.NAK, Verdict.KISS):
            deadline = min(deadline, time.monotonic() + NAK_GRACE)


# What to report when several things happened, the most telling first.
_EXPLANATIONS: tuple[tuple[Verdict, type[NTSError], str], ...] = (
    (Verdict.UNUSABLE, UnusableServer, "{where} answered, but {reason}"),
    (
        Verdict.NAK,
        NtsNak,
        "{where} answered with an NTS NAK: our cookie or our request is not good there",
    ),
    (Verdict.KISS, UnusableServer, "{where} answered with an {reason}"),
    (Verdict.NOT_AUTHENTIC, NotAuthentic, "no authentic answer from {where}; ignored: {reason}"),
    (Verdict.MISMATCH, Mismatch, "no answer to our request from {where}; ignored: {reason}"),
)


def _explain(exchange: Exchange, where: str, timeout: float) -> NTSError:
    reasons = {judgement.verdict: judgement.reason for _, judgement in reversed(exchange.datagrams)}
    for verdict, error, text in _EXPLANATIONS:
        if verdict in reasons:
            return error(text.format(where=where, reason=reasons[verdict]))
    return NoAnswer(
        f"no NTP answer from {where}: {exchange.refused}"
        if exchange.refused
        else f"no NTP answer from {where} within {timeout:g} s"
    )
