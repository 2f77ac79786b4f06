# SPDX-License-Identifier: MIT
"""Network namespaces of a test's own, in which it may set up interfaces as it needs them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from cffi import FFI

CLONE_NEWNET = 0x40000000  # unshare(2)

_ffi = FFI()
_ffi.cdef("int unshare(int flags); int setns(int fd, int type);")


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace with nothing but a loopback interface that is down."""
    libc: Any = _ffi.dlopen(None)
    with open("/proc/thread-self/ns/net", "rb") as home:  # noqa: PTH123 - a descriptor is all that is wanted
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace of one's own: {os.strerror(_ffi.errno)} (needs root)")
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0
