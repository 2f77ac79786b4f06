# SPDX-License-Identifier: MIT
"""The server's clock: its time, and the system variables that describe it (RFC 5905 section 7.3).

Mode `auto` serves what the kernel knows: whether the clock is synchronised, and its maximum error as the root
dispersion. The kernel does not know the stratum, so the configured one is served. In mode `local` the clock is a local
reference.
"""

from __future__ import annotations

import math
import struct
import time
from itertools import pairwise
from typing import Any

from cffi import FFI

from nts.base.registry import Leap, Stratum
from nts.codec import ntp
from nts.protocol.ts_server import SystemVariables

_LOCAL_ID = bytes([127, 127, 1, 1])  # the customary pseudo-address of a local reference
_KERNEL_ID = bytes([127, 0, 0, 1])  # a daemon on this machine steers the clock
_PRIMARY_ID = b"LOCL"  # RFC 5905 figure 12: an uncalibrated local clock at stratum 1
_INIT_ID = b"INIT"
_UNKNOWN_DISPERSION = 2**32 - 1

# The head of struct timex in <sys/timex.h>: modes, offset, freq, maxerror (us), esterror (us), status.
_TIMEX = struct.Struct("@Illlli")
_TIMEX_ROOM = 512  # octets; larger than the structure on any platform
_STA_INS, _STA_DEL, _STA_UNSYNC = 0x0010, 0x0020, 0x0040
_TIME_ERROR = 5

_ffi = FFI()
_ffi.cdef("int adjtimex(void *buf);")


def now() -> int:
    """The clock as an NTP timestamp."""
    return ntp.timestamp(time.time_ns())


def kernel_status() -> tuple[int, int]:
    """The kernel's leap indicator, and its maximum error in microseconds. Sets nothing."""
    libc: Any = _ffi.dlopen(None)
    buffer = _ffi.new("char[]", _TIMEX_ROOM)  # modes = 0: read only
    state = libc.adjtimex(buffer)
    _, _, _, max_error, _, status = _TIMEX.unpack_from(_ffi.buffer(buffer))
    if state < 0 or state == _TIME_ERROR or status & _STA_UNSYNC:
        return Leap.UNSYNCHRONISED, 0
    return (Leap.INSERT if status & _STA_INS else Leap.DELETE if status & _STA_DEL else Leap.NONE), max_error


def measure_precision() -> int:
    """log2 of the clock's precision in seconds: the shortest step between two readings (RFC 5905 section 7.3)."""
    readings = [time.time_ns() for _ in range(100)]
    steps = [b - a for a, b in pairwise(readings) if b > a]
    return max(-30, min(-1, math.ceil(math.log2(min(steps, default=1000) / ntp.NS))))


class Clock:
    """The system variables to serve.

    `system` recomputes them once a second. The native engine's worker calls it twice a second, so what it serves is up
    to 1.5 seconds old.
    """

    def __init__(self, mode: str, stratum: int) -> None:
        self.mode, self._stratum = mode, stratum
        self._precision = measure_precision()
        self._valid_until = 0
        self._variables = SystemVariables()

    def system(self) -> SystemVariables:
        """The current system variables."""
        now_ns = time.time_ns()
        if not self._valid_until - ntp.NS <= now_ns < self._valid_until:
            second = now_ns // ntp.NS
            self._valid_until = (second + 1) * ntp.NS
            self._variables = self._compute(ntp.timestamp(second * ntp.NS))
        return self._variables

    def _compute(self, second: int) -> SystemVariables:
        # The clock is its own reference, so the reference time is the last whole second.
        if self.mode == "local":
            leap, error = int(Leap.NONE), 0
        else:
            leap, error = kernel_status()
        if leap == Leap.UNSYNCHRONISED:
            return SystemVariables(
                leap=leap,
                stratum=Stratum.UNSYNCHRONISED,
                precision=self._precision,
                root_dispersion=_UNKNOWN_DISPERSION,
                reference_id=_INIT_ID,
            )
        own_id = _LOCAL_ID if self.mode == "local" else _KERNEL_ID
        return SystemVariables(
            leap=leap,
            stratum=self._stratum,
            precision=self._precision,
            root_dispersion=ntp.short_from_ns(error * 1000),
            reference_id=_PRIMARY_ID if self._stratum == 1 else own_id,
            reference_time=second,
        )
