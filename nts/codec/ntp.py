# SPDX-License-Identifier: MIT
"""The NTP packet header and its number formats (RFC 5905 sections 6 and 7.3).

A timestamp is an int of 64 bits: seconds since 1900 modulo 2**32, then a 32-bit fraction. `unix_ns` picks the era, so
nothing breaks when one ends (2036). Short values (root delay and dispersion) are ints in units of 2**-16 s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nts.base.errors import FormatError
from nts.base.text import counted

HEADER_LENGTH = 48
VERSION = 4
NS = 1_000_000_000
_UNIX_EPOCH = 2_208_988_800  # 1970-01-01 in seconds since 1900 (RFC 5905 section 6)
_ERA_NS = 2**32 * NS
_LAYOUT = struct.Struct(">BBbbII4sQQQQ")


@dataclass(frozen=True)
class Header:
    """The 48 octets that every NTP packet starts with."""

    leap: int = 0
    version: int = VERSION
    mode: int = 0
    stratum: int = 0
    poll: int = 0
    """log2 seconds"""
    precision: int = 0
    """log2 seconds"""
    root_delay: int = 0
    """2**-16 s"""
    root_dispersion: int = 0
    """2**-16 s"""
    reference_id: bytes = bytes(4)
    reference_time: int = 0
    """NTP timestamp, like the next three"""
    origin: int = 0
    receive: int = 0
    transmit: int = 0

    def encode(self) -> bytes:
        """The 48 octets on the wire."""
        return _LAYOUT.pack(
            self.leap << 6 | self.version << 3 | self.mode,
            self.stratum,
            self.poll,
            self.precision,
            self.root_delay,
            self.root_dispersion,
            self.reference_id,
            self.reference_time,
            self.origin,
            self.receive,
            self.transmit,
        )

    @classmethod
    def decode(cls, packet: bytes) -> Header:
        """The header at the start of `packet`. FormatError when the packet is shorter than a header."""
        if len(packet) < HEADER_LENGTH:
            raise FormatError(f"an NTP packet of {counted(len(packet), 'octet')}")
        first, *rest = _LAYOUT.unpack_from(packet)
        return cls(first >> 6, first >> 3 & 7, first & 7, *rest)


def timestamp(unix_ns: int) -> int:
    """The NTP timestamp of a time in nanoseconds since 1970, rounded down."""
    seconds, nanoseconds = divmod(unix_ns, NS)
    return ((seconds + _UNIX_EPOCH) % 2**32 << 32) + (nanoseconds << 32) // NS


def unix_ns(stamp: int, near_ns: int) -> int:
    """The time of `stamp` in nanoseconds since 1970, in the era that puts it nearest to `near_ns`.

    Rounded up, so that `unix_ns(timestamp(t), t) == t`.
    """
    ns = (stamp >> 32) * NS - _UNIX_EPOCH * NS + -(-(stamp % 2**32) * NS >> 32)
    return ns + (near_ns - ns + _ERA_NS // 2) // _ERA_NS * _ERA_NS


def short_from_ns(ns: int) -> int:
    """A non-negative duration as an NTP short value, rounded up, at most 18 hours (2**32 - 1 units)."""
    return min(-(-(ns << 16) // NS), 2**32 - 1)


def short_to_ns(short: int) -> int:
    """An NTP short value in nanoseconds."""
    return short * NS >> 16
