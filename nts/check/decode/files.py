# SPDX-License-Identifier: MIT
"""Reads the frames out of capture files: pcap, and pcapng with any number of interfaces and sections."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_BLOCK = 1 << 24  # octets of one packet with everything that a file says about it
PCAPNG = bytes.fromhex("0a0d0d0a")
_NANO, _MODIFIED = 0xA1B23C4D, 0xA1B2CD34  # pcap with nanoseconds; with 8 more octets about each frame
_PCAP = (0xA1B2C3D4, _NANO, _MODIFIED)
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6  # types of pcapng blocks
_RESOLUTION, _OFFSET = 9, 14  # options of an interface
_LATEST = 2**33 * 10**9  # ns since 1970; a later time is nonsense

Read = Callable[[int], bytes]
"""returns this many octets, fewer at the end of the file; ValueError when the number is impossible"""


class Frame(NamedTuple):
    """A frame as it is in the file."""

    link: int
    time_ns: int | None
    octets: bytes
    cut: bool
    """whether it was longer on the wire"""


class Damaged(ValueError):
    """The file ends too early, or what it says about its own form cannot be."""


def is_capture(magic: bytes) -> bool:
    """Whether a file that begins with these four octets is a capture."""
    return magic == PCAPNG or _order(magic, *_PCAP) is not None


def frames(magic: bytes, read: Read) -> Iterator[Frame]:
    """The frames of the file after its first four octets, its magic. Damaged where reading cannot go on."""
    return _pcapng(read) if magic == PCAPNG else _pcap(magic, read)


def _order(magic: bytes, *expected: int) -> str | None:
    """The byte order in which these octets are one of the expected numbers."""
    return next((o for o in "<>" if len(magic) == 4 and struct.unpack(o + "I", magic)[0] in expected), None)


def _exactly(read: Read, count: int) -> bytes:
    octets = read(count)
    if len(octets) < count:
        raise Damaged("the file ends too early")
    return octets


def _time(ns: int) -> int | None:
    return ns if 0 <= ns < _LATEST else None


def _pcap(magic: bytes, read: Read) -> Iterator[Frame]:
    order = _order(magic, *_PCAP) or "<"
    (number,) = struct.unpack(order + "I", magic)
    unit, more = 1 if number == _NANO else 1000, 8 if number == _MODIFIED else 0
    link = struct.unpack(order + "16xI", _exactly(read, 20))[0] & 0xFFFF  # above: the length of a check sequence
    yield Frame(link, None, b"", cut=False)  # so that its link type is known even if it holds none
    while head := read(16 + more):
        if len(head) < 16 + more:
            raise Damaged("the file ends too early")
        seconds, fraction, kept, length = struct.unpack(order + "IIII", head[:16])
        octets = _exactly(read, kept)
        yield Frame(link, _time(seconds * 10**9 + fraction * unit), octets, kept < length)


class _Interface(NamedTuple):
    """What a section says about one of its interfaces."""

    link: int
    units: int = 10**6
    """of time, in a second"""
    offset: int = 0
    """seconds to add"""

    def time(self, high: int, low: int) -> int | None:
        """A timestamp in ns since 1970."""
        return _time(self.offset * 10**9 + ((high << 32 | low) * 10**9) // self.units)


def _pcapng(read: Read) -> Iterator[Frame]:
    order, interfaces = _section(read, _exactly(read, 4)), list[_Interface]()
    while kind_octets := read(4):
        if kind_octets == PCAPNG:
            order, interfaces = _section(read, _exactly(read, 4)), []
            continue
        kind, size = struct.unpack(order + "II", kind_octets + _exactly(read, 4))
        if size < 12:
            raise Damaged("a block that is too short")
        body = _exactly(read, size - 8)[:-4]
        if kind == _INTERFACE:
            interfaces.append(_interface(order, body))
            yield Frame(interfaces[-1].link, None, b"", cut=False)
        elif kind == _SIMPLE_PACKET:
            (length,) = struct.unpack_from(order + "I", body)
            yield Frame(interfaces[0].link, None, body[4 : 4 + length], len(body) - 4 < length)
        elif kind in (_PACKET, _OLD_PACKET):
            number, high, low, kept, length = struct.unpack_from(order + "IIIII", body)
            number = number if kind == _PACKET else struct.unpack_from(order + "H", body)[0]
            at = interfaces[number]
            yield Frame(at.link, at.time(high, low), body[20 : 20 + kept], kept < length)


def _section(read: Read, size: bytes) -> str:
    """Skip the rest of a section's header; its byte order."""
    magic = _exactly(read, 4)
    order = _order(magic, 0x1A2B3C4D)
    if order is None:
        raise Damaged("a section without a byte order")
    length = struct.unpack(order + "I", size)[0]
    if length < 28:
        raise Damaged("a section's header that is too short")
    _exactly(read, length - 12)
    return order


def _interface(order: str, body: bytes) -> _Interface:
    made, at = _Interface(struct.unpack_from(order + "H", body)[0]), 8
    while at + 4 <= len(body):
        kind, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if kind == _RESOLUTION and len(value) == 1:
            made = made._replace(units=(2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F))
        elif kind == _OFFSET and len(value) == 8:
            made = made._replace(offset=struct.unpack(order + "q", value)[0])
        at += 4 + length + -length % 4
    return made
