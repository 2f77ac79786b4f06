# SPDX-License-Identifier: MIT
"""Network namespaces of a test's own, in which it may set up interfaces as it needs them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cffi import FFI

CLONE_NEWNET = 0x40000000  # unshare(2)
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # netdevice(7)

_ffi = FFI()
_ffi.cdef("int unshare(int flags); int setns(int fd, int type);")


def libc() -> Any:
    """The C library's unshare() and setns()."""
    return _ffi.dlopen(None)


def nft(rules: str) -> None:
    """Load a script of nftables in this thread's network. Skips where there is no nft, or it is not allowed."""
    program = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("no nft: install nftables")
    done = subprocess.run([program, "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nft: {done.stderr.strip()}")


@contextlib.contextmanager
def own_loopback() -> Iterator[None]:
    """`own_network`, with its loopback interface up."""
    with own_network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("@16s24s", b"lo", struct.pack("@h", IFF_UP)))
        yield


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace with nothing but a loopback interface that is down."""
    with open("/proc/thread-self/ns/net", "rb") as home:  # noqa: PTH123 - a descriptor is all that is wanted
        if libc().unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace of one's own: {os.strerror(_ffi.errno)} (needs root)")
        try:
            yield
        finally:
            assert libc().setns(home.fileno(), CLONE_NEWNET) == 0
