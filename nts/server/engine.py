# SPDX-License-Identifier: MIT
"""The native packet engine (`engine/`), bound in cffi's API mode by `_engine_build.py`.

It does the common part of `ts_server.respond` and hands other packets over. Its calls run without the GIL.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nts._engine_build import fingerprint
from nts.base.errors import LibraryError
from nts.codec.keyring import COOKIE_AEAD, MASTER_KEY_LENGTH, CookieFormat, ForeignKey, KeyRing
from nts.protocol.rate_limit import Limit
from nts.protocol.ts_server import SystemVariables, Verdict


@dataclass(frozen=True)
class Handover:
    """A datagram that the engine leaves to the Python reference."""

    datagram: bytes
    received: int
    """NTP timestamp"""


def _module() -> Any:
    """The binding, which must have been built for the running Python. LibraryError when it has not."""
    try:
        from nts import _engine
    except ImportError as e:
        raise LibraryError(f"the native engine has not been built for this Python ({e})") from None
    return _engine


def _imported(key: ForeignKey) -> dict[str, Any]:
    """`nts_imported`."""
    usable = key.aead is COOKIE_AEAD
    return {
        "id": key.id, "format": tuple(CookieFormat).index(key.format), "usable": usable,
        "key": key.key if usable else bytes(MASTER_KEY_LENGTH),
    }  # fmt: skip


class Xsk:
    """An AF_XDP socket with memory for its frames, for all processes forked from this one. LibraryError, OSError."""

    def __init__(self) -> None:
        module = _module()
        self._ffi, self._lib = module.ffi, module.lib
        self._handle = self._lib.nts_xsk_open()
        self._check(self._handle != self._ffi.NULL)

    def _check(self, success: bool) -> None:
        if not success:
            raise OSError(self._ffi.errno, os.strerror(self._ffi.errno))

    def bind(self, interface: int, queue: int) -> None:
        """Take the frames that a BPF program redirects from this queue of an interface."""
        self._check(bool(self._lib.nts_xsk_bind(self._handle, interface, queue)))

    @property
    def descriptor(self) -> int:
        """For a BPF map of sockets."""
        return int(self._lib.nts_xsk_descriptor(self._handle))

    @property
    def zero_copy(self) -> bool:
        """Whether frames are where the driver puts them."""
        return bool(self._lib.nts_xsk_is_zero_copy(self._handle))

    def lost(self) -> int:
        """How many frames the kernel has dropped because all were in use."""
        return int(self._lib.nts_xsk_lost(self._handle))

    def close(self) -> None:
        """Free it. It must not be used any more."""
        self._lib.nts_xsk_close(self._handle)


class Engine:
    """An engine, for one thread. LibraryError when it is missing, of another version, or cannot start."""

    def __init__(self) -> None:
        module = _module()
        self._ffi, self._lib = module.ffi, module.lib
        fits = fingerprint() in (None, getattr(self._lib, "NTS_FINGERPRINT", 0))
        if not fits or len(Verdict) != self._lib.NTS_VERDICTS:
            raise LibraryError("the native engine was built for another version of this package")
        handle = self._lib.nts_engine_new()
        if handle == self._ffi.NULL:
            raise LibraryError("the native engine cannot start", hint="unset AES_SIV_BACKEND if it is set")
        self._engine = self._ffi.gc(handle, self._lib.nts_engine_free)
        self._kept_alive: list[Any] = []  # the engine has pointers into these

    @property
    def backend(self) -> str:
        """The AES implementation in use."""
        return str(self._ffi.string(self._lib.nts_engine_backend()).decode())

    def set_keys(self, ring: KeyRing) -> None:
        """Use these master keys from now on, or the newest of them if there are too many."""
        keys = ring.openers[-self._lib.NTS_MAX_KEYS :]
        ids = self._ffi.new("uint16_t[]", [k.id for k in keys])
        octets = b"".join(k.key for k in keys)
        assert len(octets) == len(keys) * MASTER_KEY_LENGTH
        if not self._lib.nts_engine_set_keys(self._engine, ids, octets, len(keys)):
            raise LibraryError("the native engine cannot allocate the master keys", hint="keep fewer of them")
        imported = self._ffi.new("nts_imported[]", [_imported(k) for k in ring.imported])
        if not self._lib.nts_engine_set_imported(self._engine, imported, len(imported)):
            raise LibraryError("the native engine cannot allocate the imported keys", hint="import fewer of them")
        self._lib.nts_engine_set_format(self._engine, tuple(CookieFormat).index(ring.format))

    def set_system(self, system: SystemVariables) -> None:
        """Serve these system variables from now on."""
        values = self._ffi.new("nts_system *")
        values.leap, values.stratum, values.precision = system.leap, system.stratum, system.precision
        values.root_delay, values.root_dispersion = system.root_delay, system.root_dispersion
        values.reference_id = list(system.reference_id)
        values.reference_time = system.reference_time
        self._lib.nts_engine_set_system(self._engine, values)

    def set_limit(self, limit: Limit) -> None:
        """Limit from now on how many requests a prefix may send."""
        wanted = self._ffi.new("nts_limit *", (limit.rate, limit.burst, limit.prefix4, limit.prefix6, limit.nts))
        if not self._lib.nts_engine_set_limit(self._engine, wanted):
            raise LibraryError("the native engine cannot allocate the table of its limit", hint="set rate_limit = 0")

    def count_into(self, cells: memoryview) -> None:
        """Count in these cells of 64 bits, one for each `Verdict` and then for each `ts_daemon.Cell`."""
        assert len(cells) == self._lib.NTS_CELLS
        pointer = self._ffi.from_buffer("uint64_t[]", cells, require_writable=True)
        self._kept_alive.append(pointer)
        self._lib.nts_engine_count_into(self._engine, pointer)

    def attach(self, sockets: Sequence[socket.socket], wake: Sequence[int]) -> None:
        """Serve these sockets. `run` returns when one of the descriptors `wake` is readable."""
        files = [s.fileno() for s in sockets]
        if not self._lib.nts_engine_attach(self._engine, files, len(files), list(wake), len(wake)):
            raise LibraryError("the native engine cannot serve these sockets", hint="set engine = python in server.ini")

    def attach_xsks(self, xsks: Sequence[Xsk]) -> None:
        """Serve these too, after `attach`."""
        if not self._lib.nts_engine_attach_xsks(self._engine, [x._handle for x in xsks], len(xsks)):
            raise LibraryError("the native engine cannot serve AF_XDP", hint="leave xdp empty in server.ini")

    def run(self, folder: bytes, seen: tuple[int, int], timeout_ms: int) -> int:
        """Wait for datagrams and answer them, until the caller has something to do.

        Returns 1 when a handover is due: nothing else waits, or the last one was long enough ago. Returns 0 when keys
        and system variables are due: after the timeout, or when datagrams wait and `folder` is not as `seen`
        (`KeyWatcher.seen`). The next call answers those datagrams. Returns -1 when a descriptor of `wake` is readable.
        """
        return int(self._lib.nts_engine_run(self._engine, folder, *seen, timeout_ms))

    def handover(self) -> Handover | None:
        """The oldest handover; None when there is none."""
        found = self._lib.nts_engine_handover(self._engine)
        if found == self._ffi.NULL:
            return None
        return Handover(bytes(self._ffi.buffer(found.packet, found.length)), found.received)

    def limit_handover(self, verdict: Verdict) -> Verdict:
        """What becomes of the oldest handover, on which the reference has this verdict, under the limit."""
        return Verdict(self._lib.nts_engine_limit_handover(self._engine, verdict))

    def handover_done(self, reply: bytes | None) -> None:
        """Remove the oldest handover from the queue, and send the reference's reply to it if there is one."""
        reply = reply or b""
        self._lib.nts_engine_handover_done(self._engine, reply, len(reply))
