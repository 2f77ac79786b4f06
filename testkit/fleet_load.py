# SPDX-License-Identifier: MIT
"""A client of a fleet under load: it brings all its cookies, young and old, to every server, and notes refusals."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from nts import api
from nts.base.errors import NTSError
from nts.codec.aead import SessionKeys
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind

_STOCK = 4000  # cookies; the oldest go first, but for a sample
_EXCHANGE_EVERY = 100  # queries
_PAUSE = 0.001  # seconds between two: servers and agents share the processors


class Cookie(NamedTuple):
    """A cookie, its keys, and a moment at which it cannot have been there yet."""

    born: float
    octets: bytes
    keys: SessionKeys
    sealed_by: str

    @property
    def key(self) -> str:
        """The identifier of its master key: two octets of our own format, four of chrony's, which begin with zeros."""
        return (self.octets[2:4] if self.octets.startswith(b"\0\0") else self.octets[:2]).hex()


class Load:
    """A thread that asks all the time. `servers` and `exchanges` may change while it runs."""

    def __init__(self, place: Callable[[], AbstractContextManager[None]], ca: Path, life: float) -> None:
        """`place`: where the thread runs. `life`: the cookies' promised life in seconds."""
        self.servers: list[tuple[str, int]] = []
        self.exchanges: list[tuple[str, int]] = []
        self.refused: list[str] = []
        self.unanswered = 0
        self.answered = 0
        self.oldest = 0.0
        """age of the oldest cookie that was used"""
        self.sealers: dict[str, set[str]] = {}
        """identifiers of the keys with which each server sealed"""
        self.opened: dict[str, set[str]] = {}
        """whose cookies each server opened"""
        self._place, self._ca, self._life = place, ca, life
        self._stock: list[Cookie] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def check(self) -> None:
        """The promise: nothing was refused. And the load was one."""
        assert self._thread.is_alive(), "the load has ended"
        assert not self.refused, self.refused[:5]
        assert self.answered > 100, self.answered

    def _run(self) -> None:
        with self._place(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            count = 0
            while not self._stop.is_set():
                if not self._stock or count % _EXCHANGE_EVERY == 0:
                    self._exchange()
                count += 1
                if self._stock and self.servers:
                    self._ask(sock, *self._choice(count))
                time.sleep(_PAUSE)

    def _exchange(self) -> None:
        host, port = random.choice(self.exchanges)
        born = time.monotonic()
        try:
            got = api.key_exchange(host, port, ca=self._ca, verify_name="localhost")._store.load()
        except NTSError:
            time.sleep(0.1)
            return
        self._stock += [Cookie(born, octets, got.keys, host) for octets in got.cookies]

    def _choice(self, count: int) -> tuple[Cookie, tuple[str, int]]:
        """In turn: the newest cookie to another server than its own, the oldest that is promised to work, and any."""
        now = time.monotonic()
        usable = [c for c in self._stock if now - c.born < self._life - 0.05]
        self._stock = usable if len(usable) <= _STOCK else usable[: _STOCK // 2] + usable[-_STOCK // 2 :]
        if not usable:
            self._exchange()
            return self._choice(count) if not self._stop.is_set() and self._stock else (usable[0], self.servers[0])
        cookie = (usable[-1], usable[0], random.choice(usable))[count % 3]
        others = [s for s in self.servers if s[0] != cookie.sealed_by] or self.servers
        return cookie, random.choice(others)

    def _ask(self, sock: socket.socket, cookie: Cookie, server: tuple[str, int]) -> None:
        query = ts_client.build_query(cookie.keys, cookie.octets, 1, os.urandom)
        sent = time.monotonic()
        if sent - cookie.born >= self._life:
            return
        sock.sendto(query.packet, server)
        while True:
            try:
                datagram, source = sock.recvfrom(2048)
            except TimeoutError:
                self.unanswered += 1
                return
            judged = ts_client.judge(datagram, query)
            if source != server or judged.kind is AnswerKind.MISMATCH:
                continue
            if judged.kind is not AnswerKind.TIME:
                self.refused.append(
                    f"{server[0]} said {judged.kind.name} to a cookie of key {cookie.key}, which "
                    f"{cookie.sealed_by} sealed {sent - cookie.born:.2f} s ago"
                )
                return
            self.answered += 1
            self.oldest = max(self.oldest, sent - cookie.born)
            fresh = [Cookie(sent, octets, cookie.keys, server[0]) for octets in judged.cookies]
            self._stock += fresh
            self.sealers.setdefault(server[0], set()).update(c.key for c in fresh)
            self.opened.setdefault(server[0], set()).add(cookie.sealed_by)
            return
