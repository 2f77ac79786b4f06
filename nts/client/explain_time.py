# SPDX-License-Identifier: MIT
"""The last part of an explanation: NTP requests with the cookies of a key exchange, one of each size that matters.

One request of the usual size goes to every address; after silence another one, since packets get lost, and then one
without NTS, to tell a filter from a dead path. A server that answers gets longer ones, as a client sends that has lost
cookies, to find the largest that passes.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import replace
from typing import NoReturn

from nts.base.errors import FormatError, ResolveError
from nts.base.registry import FieldType, Mode
from nts.base.text import is_ip_address
from nts.client import findings, ts_session
from nts.client.findings import Asked, Got, Reach
from nts.client.ke_session import Options, Result
from nts.client.state import Association
from nts.client.steps import End, Log, Mark
from nts.codec import extensions, ntp
from nts.codec.aead import SessionKeys
from nts.codec.ntp import Header
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind
from nts.system import addresses
from nts.system.addresses import Endpoint

_RUNG = 2.0  # seconds at most to wait for the answer to any request but an address's first
_ROOM = 65535


class TimeWay:
    """The way of NTP, after a key exchange."""

    def __init__(self, log: Log, options: Options, agreed: Result, unreached: list[str]) -> None:
        """`unreached`: addresses that have not worked so far; those of the time server are added."""
        self._log, self._options, self._agreed, self._unreached = log, options, agreed, unreached
        self._association = agreed.association(options)
        self.cookies = self._association.cookies
        """those that are left"""

    def association(self) -> Association:
        """What client.ini may hold."""
        return replace(self._association, cookies=self.cookies)

    def go(self, certificate: findings.Certificate | None) -> NoReturn:
        """Ask every address, and the first that answers for longer answers too. `End`.

        `certificate` is the server's if it was not valid by our clock.
        """
        association, port = self._association, self._association.port
        working: tuple[Endpoint, SessionKeys, float, list[Asked]] | None = None
        try:
            endpoints = ts_session.Route(family=self._options.family).endpoints(association)
        except ResolveError as e:
            self._log.fail("ntp name", str(e), findings.from_error("ntp-name", e))
        if not is_ip_address(association.server):
            self._log.ok("ntp name", f"{association.server}: {', '.join(e.host for e in endpoints)}")
        asked: list[Asked] = []
        for endpoint in endpoints:
            tries: list[Asked] = []
            for keys in self._agreed.keys:
                offset = self._ask_twice(endpoint, keys, 0, self._options.timeout, tries)
                if offset is not None:
                    working = working or (endpoint, keys, offset, tries)
                elif tries and tries[-1].got is Got.NAK:
                    continue  # it may use the other pair
                break
            if tries and tries[-1].got is not Got.TIME:
                self._unreached.append(f"UDP {addresses.format_address(endpoint.address)}")
            asked += tries
        if working is None:
            silent = all(a.got is Got.SILENCE for a in asked)
            raise End(findings.no_time(port, asked, self._ask_without_nts(endpoints[0]) if silent else None))
        endpoint, keys, offset, tries = working
        if certificate:
            raise End(findings.clock_verdict(certificate, offset))
        self._climb(endpoint, keys, tries)
        raise End(findings.some_time(tries, self._unreached))

    def _climb(self, endpoint: Endpoint, keys: SessionKeys, asked: list[Asked]) -> None:
        """Find the longest NTS request that passes, from the longest down that a client may send."""
        if not self.cookies:
            return
        low, high = 0, ts_client.count_placeholders(0, len(self.cookies[0]))
        trial = high
        while low < high and asked[-1].got in (Got.TIME, Got.SILENCE):
            if self._ask_twice(endpoint, keys, trial, min(self._options.timeout, _RUNG), asked) is not None:
                low = trial
            else:
                high = trial - 1
            trial = (low + high + 1) // 2

    def _ask_twice(
        self, endpoint: Endpoint, keys: SessionKeys, placeholders: int, timeout: float, asked: list[Asked]
    ) -> float | None:  # fmt: skip
        """Send an NTS request, and after silence another one. The offset in seconds; None: no time."""
        for patience in (timeout, min(timeout, _RUNG)):
            if not self.cookies:
                break
            answer = self._ask(endpoint, keys, placeholders, patience, asked)
            if answer:
                return answer.measurement.offset / ntp.NS
            if asked[-1].got is not Got.SILENCE:
                break
        return None

    def _ask(
        self, endpoint: Endpoint, keys: SessionKeys, placeholders: int, timeout: float, asked: list[Asked]
    ) -> ts_session.Answer | None:  # fmt: skip
        self._log.start()
        cookie, *rest = self.cookies
        self.cookies = tuple(rest)
        attempt = ts_session.Attempt(endpoint, ts_client.build_query(keys, cookie, placeholders, os.urandom))
        ts_session.query(attempt, timeout)
        fresh = tuple(c for _, judgement in attempt.datagrams for c in judgement.cookies)
        self.cookies = ts_client.restock(self.cookies, fresh)
        got, reason = _outcome(attempt)
        asked.append(Asked(len(attempt.request.packet), got, reason))
        where, seen = addresses.format_address(endpoint.address), f"{got.value}{reason and f' ({reason})'}"
        if attempt.answer:
            m = attempt.answer.measurement
            seen = f"offset {m.offset / ntp.NS:+.6f} s, delay {m.delay / ntp.NS:.6f} s"
        mark = Mark.OK if got is Got.TIME else Mark.FAIL
        self._log.step("ntp", mark, f"{where}, NTS request of {asked[-1].octets} octets: {seen}")
        return attempt.answer

    def _ask_without_nts(self, endpoint: Endpoint) -> Got:
        """After silence: does the same server answer a plain request?"""
        self._log.start()
        got = _plain(endpoint, min(self._options.timeout, _RUNG))
        where = addresses.format_address(endpoint.address)
        mark = Mark.OK if got is Got.TIME else Mark.FAIL
        self._log.step("ntp", mark, f"{where}, request of {ntp.HEADER_LENGTH} octets without NTS: {got.value}")
        return got


def _outcome(attempt: ts_session.Attempt) -> tuple[Got, str]:
    """What came back for an NTS request, the most telling first, and more about it."""
    kinds = {
        AnswerKind.TIME: Got.TIME, AnswerKind.UNUSABLE: Got.UNUSABLE, AnswerKind.NAK: Got.NAK,
        AnswerKind.KISS: Got.KISS, AnswerKind.NOT_AUTHENTIC: Got.ALTERED, AnswerKind.MISMATCH: Got.MISMATCH,
    }  # fmt: skip
    for kind, got in kinds.items():
        for datagram, judgement in attempt.datagrams:
            if judgement.kind is kind:
                bare = got is Got.ALTERED and _is_bare(datagram, attempt.request.transmit)
                return (Got.STRIPPED if bare else got), judgement.reason
    if not attempt.refused:
        return Got.SILENCE, ""
    refused = attempt.refused == os.strerror(errno.ECONNREFUSED)
    return (Got.REFUSED, "") if refused else (Got.UNREACHABLE, attempt.refused)


def _is_bare(datagram: bytes, transmit: int) -> bool:
    """Whether a datagram answers the request and has no authenticator."""
    try:
        fields, _mac = extensions.walk(datagram)
        return Header.decode(datagram).origin == transmit and all(f.type != FieldType.AUTHENTICATOR for f in fields)
    except FormatError:
        return False


def _plain(endpoint: Endpoint, timeout: float) -> Got:
    """What a request without NTS gets."""
    transmit = int.from_bytes(os.urandom(8), "big")
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(endpoint.family, socket.SOCK_DGRAM) as sock:
            sock.connect(endpoint.address)
            sock.send(Header(mode=Mode.CLIENT, transmit=transmit).encode())
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    header = Header.decode(sock.recv(_ROOM))
                except FormatError:
                    continue
                if (header.mode, header.origin) == (Mode.SERVER, transmit):
                    return Got.TIME
    except TimeoutError:
        return Got.SILENCE
    except OSError as e:
        return Got.REFUSED if findings.reach(e) is Reach.REFUSED else Got.UNREACHABLE
    return Got.SILENCE
