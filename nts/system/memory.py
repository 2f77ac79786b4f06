# SPDX-License-Identifier: MIT
"""The memory of this process."""

from __future__ import annotations

import contextlib
from typing import Any

from cffi import FFI

_ffi = FFI()
_ffi.cdef("int malloc_trim(size_t pad);")


def give_back() -> None:
    """Return freed memory to the system. glibc keeps it otherwise; other C libraries have no such call."""
    library: Any = _ffi.dlopen(None)
    with contextlib.suppress(AttributeError):
        library.malloc_trim(0)
