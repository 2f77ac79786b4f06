# SPDX-License-Identifier: MIT
"""The native loop of the key exchange server (`engine/ke.c`), bound in cffi's API mode by `_engine_build.py`.

It accepts connections and serves the usual ones, and has a question, a connection or a report for the caller now and
then. Its calls run without the GIL.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from nts._engine_build import fingerprint
from nts.base.errors import ConfigError, LibraryError
from nts.codec.keyring import KeyRing
from nts.protocol.ke_server import Outcome, Verdict
from nts.server import ke_counters
from nts.server.config import KeConfig
from nts.server.ke_counters import AEAD_CELL, BOUNDS, GROUPS, HANDSHAKES
from nts.server.ke_groups import NUMBERS
from nts.system.addresses import Address

_ANSWER_ROOM = 16384  # octets
_CLOSED = "the connection was closed"


class Ask(IntEnum):
    """What a question is about, in the order of enum nts_ke_question_kind."""

    REQUEST = 0
    """a request that is complete, or too long"""
    TRUNCATED = 1
    """the client closed before the end of its request"""
    TIMED_OUT = 2


@dataclass(frozen=True)
class Question:
    """What the loop does not know: how to answer this request to this address of ours."""

    about: Ask
    request: bytes
    local_address: str


@dataclass(frozen=True)
class Handover:
    """A connection that the loop leaves to the Python reference. `release` it when it is closed."""

    session: Any
    sock: socket.socket
    peer: Address
    accepted: float
    """seconds of the monotonic clock"""


@dataclass(frozen=True)
class Report:
    """What became of a connection."""

    verdict: Verdict
    aead: int
    """agreed on; 0: none"""
    group: str
    """of the handshake, if it was complete"""
    lost: bool
    """the peer is gone, rather than at odds with the protocol"""
    reason: str
    """why TLS failed"""
    peer: Address


def _module() -> Any:
    """The binding, which must have been built for the running Python. LibraryError when it cannot be used."""
    try:
        from nts import _engine_ke
    except ImportError as e:
        raise LibraryError(f"the native loop has not been built for this Python ({e})") from None
    fits = fingerprint("_engine_ke") in (None, getattr(_engine_ke.lib, "NTS_FINGERPRINT", 0))
    if not fits or len(Verdict) != _engine_ke.lib.NTS_KE_VERDICTS:
        raise LibraryError("the native loop was built for another version of this package")
    return _engine_ke


def library() -> str:
    """The TLS library of the native loop, as "OpenSSL 3.5.1". LibraryError when there is no loop."""
    module = _module()
    words = module.ffi.string(module.lib.nts_ke_library()).decode().split()
    return " ".join(words[:2])


class NativeTls:
    """TLS settings with a certificate, for any number of loops. ConfigError when the files cannot be used."""

    def __init__(self, chain: Path, key: Path) -> None:
        module = _module()
        self._ffi, self._lib = module.ffi, module.lib
        problem = self._ffi.new("char[]", self._lib.NTS_KE_TEXT)
        handle = self._lib.nts_ke_tls_new(os.fsencode(chain), os.fsencode(key), problem, len(problem))
        if handle == self._ffi.NULL:
            raise ConfigError(f"{library()} cannot use {chain} and {key}: {self._ffi.string(problem).decode()}")
        self.handle = self._ffi.gc(handle, self._lib.nts_ke_tls_free)

    def answer(self, hello: bytes) -> bytes:
        """The server's first octets to the client that sends these."""
        out = self._ffi.new("uint8_t[]", _ANSWER_ROOM)
        return bytes(self._ffi.buffer(out)[: self._lib.nts_ke_tls_try(self.handle, hello, len(hello), out, len(out))])


class KeEngine:
    """A loop, for one thread. LibraryError when it is missing, of another version, or cannot start."""

    def __init__(
        self, ke: KeConfig, label: str, session_timeout: float, linger_timeout: float, *, verbose: bool
    ) -> None:
        """`verbose`: report every connection, not only those in which TLS failed."""
        module = _module()
        self._ffi, self._lib = module.ffi, module.lib
        wanted = self._ffi.new("nts_ke_settings *")
        wanted.max_sessions, wanted.max_per_prefix = ke.max_sessions, ke.max_per_prefix
        wanted.rate_per_prefix, wanted.prefix4, wanted.prefix6 = ke.rate_per_prefix, ke.prefix4, ke.prefix6
        wanted.session_ms, wanted.linger_ms = int(session_timeout * 1000), int(linger_timeout * 1000)
        wanted.verbose = verbose
        if len(label) >= len(wanted.label):
            raise LibraryError(f"the native loop takes key_label only up to {len(wanted.label) - 1} characters")
        wanted.label = label.encode()
        handle = self._lib.nts_ke_new(wanted)
        if handle == self._ffi.NULL:
            raise LibraryError("the native loop cannot start", hint="unset AES_SIV_BACKEND if it is set")
        self._ke = self._ffi.gc(handle, self._lib.nts_ke_free)

    def count_into(self, cells: memoryview) -> None:
        """Count in these cells, which `ke_counters.LAYOUT` describes."""
        counting = self._ffi.new("nts_ke_counting *")
        self._cells = counting.cells = self._ffi.from_buffer("uint64_t[]", cells, require_writable=True)
        counting.group, counting.group_count = ke_counters.LAYOUT.offsets[GROUPS.name], len(GROUPS)
        counting.handshake, counting.bound_count = ke_counters.LAYOUT.offsets[HANDSHAKES.name], len(BOUNDS)
        for i, group in enumerate(GROUPS.values):
            counting.groups[i] = group.encode()
        for i, bound in enumerate(BOUNDS):
            counting.bounds_us[i] = int(bound * 1e6)
        self._lib.nts_ke_count_into(self._ke, counting)

    def set_tls(self, tls: NativeTls) -> None:
        """New connections get this certificate."""
        self._lib.nts_ke_set_tls(self._ke, tls.handle)

    def set_key(self, ring: KeyRing) -> None:
        """New cookies are sealed with the current key of this ring."""
        master = ring.current
        number, key = (0, self._ffi.NULL) if master is None else (master.id, master.key)
        if not self._lib.nts_ke_set_key(self._ke, number, key):
            raise LibraryError("the native loop cannot allocate the master key")

    def set_groups(self, groups: Mapping[str, bool]) -> None:
        """The TLS groups of the reference, its favourite first, and whether the loop has them too."""
        names = [self._ffi.new("char[]", name.encode()) for name in groups]
        ids = [NUMBERS[name] for name in groups]
        self._lib.nts_ke_set_groups(self._ke, ids, names, list(groups.values()), len(ids))

    def attach(self, listeners: Iterable[socket.socket], also: int) -> None:
        """Serve these listeners. `run` returns when the descriptor `also` is readable."""
        files = [listener.fileno() for listener in listeners]
        if not self._lib.nts_ke_attach(self._ke, files, len(files), also):
            raise LibraryError("the native loop cannot serve these sockets", hint="set engine = python in server.ini")

    def run(self, folder: bytes, seen: tuple[int, int]) -> None:
        """Serve until the caller has something to do, at most for a quarter of a second.

        While the folder of the master keys is not as `seen` (`KeyWatcher.seen`), every request is a question.
        """
        self._lib.nts_ke_run(self._ke, folder, *seen)

    def drain(self, end: float) -> None:
        """Accept who waits already, until a time of the monotonic clock, and then listen no more."""
        self._lib.nts_ke_drain(self._ke, int(end * 1e9))

    def expire(self) -> None:
        """End all connections as if their time were up."""
        self._lib.nts_ke_expire(self._ke)

    @property
    def count(self) -> int:
        """How many connections there are, with those that were handed over."""
        return int(self._lib.nts_ke_count(self._ke))

    def question(self) -> Question | None:
        """The oldest question; None when there is none."""
        found = self._ffi.new("nts_ke_question *")
        if not self._lib.nts_ke_question_next(self._ke, found):
            return None
        request = bytes(self._ffi.buffer(found.request, found.length)) if found.length else b""
        return Question(Ask(found.kind), request, self._host(found.local))

    def answer(self, plan: Outcome) -> None:
        """Answer the oldest question by a plan of the reference, and remember the plan if it is about a request."""
        given = self._ffi.new("nts_ke_plan *")
        given.verdict, given.head_length = plan.verdict, len(plan.response)
        self._ffi.memmove(given.head, plan.response, len(plan.response))
        if plan.aead is not None:
            given.aead, given.aead_cell, given.key_length = plan.aead, AEAD_CELL[plan.aead], plan.aead.key_length
            given.contexts, given.context_count = plan.contexts, len(plan.contexts)
        self._lib.nts_ke_question_done(self._ke, given)

    def handovers(self) -> Iterator[Handover]:
        """The connections that are for the reference now."""
        found = self._ffi.new("nts_ke_handover *")
        while self._lib.nts_ke_handover_next(self._ke, found):
            sock = socket.socket(fileno=found.descriptor)
            yield Handover(found.session, sock, self._address(found.peer), found.accepted_ns / 1e9)

    def evicted(self) -> Iterator[Any]:
        """The sessions of the reference that must be closed to make room."""
        while (session := self._lib.nts_ke_evicted_next(self._ke)) != self._ffi.NULL:
            yield session

    def release(self, session: Any) -> None:
        """A connection that was handed over is closed."""
        self._lib.nts_ke_release(self._ke, session)

    def reports(self) -> Iterator[Report]:
        """Reports since the last call. Take all before the next call of anything else."""
        count = self._ffi.new("size_t *")
        found = self._lib.nts_ke_reports(self._ke, count)
        for i in range(count[0]):
            r = found[i]
            reason = (os.strerror(r.error) if r.error else _CLOSED) if r.lost else self._text(r.reason) or _CLOSED
            peer = self._address(r.peer)
            yield Report(Verdict(r.verdict), r.aead, self._text(r.group), bool(r.lost), reason, peer)

    def _text(self, characters: Any) -> str:
        return str(self._ffi.string(characters).decode())

    def _host(self, address: Any) -> str:
        octets = bytes(self._ffi.buffer(address.octets, address.length))
        return socket.inet_ntop(socket.AF_INET if len(octets) == 4 else socket.AF_INET6, octets)

    def _address(self, address: Any) -> Address:
        if address.length == 4:
            return self._host(address), int(address.port)
        return self._host(address), int(address.port), 0, int(address.scope)
