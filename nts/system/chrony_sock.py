# SPDX-License-Identifier: MIT
"""Samples for a running chronyd, through the Unix socket of its reference clock SOCK. It decides what to do with them.

The layout is that of `struct sock_sample` in chrony's refclock_sock.c.
"""

from __future__ import annotations

import socket
import stat
import struct
from pathlib import Path

from nts.base.errors import ConfigError

_SAMPLE = struct.Struct("@lldiiii")  # struct timeval, offset, pulse, leap, padding, magic
_MAGIC = 0x534F434B
_HINT = "chronyd makes it: is `refclock SOCK PATH` in its configuration, and may you write there?"


def encode(at_ns: int, offset: float, leap: int) -> bytes:
    """A sample: our clock's reading in nanoseconds since 1970, and the seconds by which true time is ahead of it."""
    seconds, ns = divmod(at_ns, 1_000_000_000)
    return _SAMPLE.pack(seconds, ns // 1000, offset, 0, leap, 0, _MAGIC)


class ChronySock:
    """The socket, found anew for each sample: chronyd may be restarted."""

    def __init__(self, path: Path) -> None:
        """ConfigError when there is no such socket."""
        self._path = path
        try:
            is_socket = stat.S_ISSOCK(path.stat().st_mode)
        except OSError as e:
            raise ConfigError(f"cannot use {path}: {e.strerror}", hint=_HINT) from None
        if not is_socket:
            raise ConfigError(f"{path} is not a socket", hint=_HINT)

    def feed(self, at_ns: int, offset: float, leap: int) -> str:
        """Send a sample. Returns why that failed; empty: it did not."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(encode(at_ns, offset, leap), str(self._path))
        except OSError as e:
            return f"cannot feed chronyd through {self._path}: {e.strerror or e}"
        return ""
