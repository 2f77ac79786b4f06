# SPDX-License-Identifier: MIT
"""This machine's network interfaces: their addresses, by getifaddrs(3), and their queues, by ioctl(2)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

_SIOCETHTOOL, _GET_CHANNELS = 0x8946, 0x3C  # <linux/sockios.h>, <linux/ethtool.h>
_CHANNELS = struct.Struct("=9I")  # struct ethtool_channels
_HAS_BROADCAST = 0x2  # IFF_BROADCAST
_PACKET = 17  # AF_PACKET
_PLACES = {int(socket.AF_INET): (4, 4), int(socket.AF_INET6): (8, 16), _PACKET: (12, 6)}  # in a sockaddr: where, length


class _Entry(ctypes.Structure):
    """struct ifaddrs"""


_Entry._fields_ = (
    ("next", ctypes.POINTER(_Entry)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("broadcast", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
)


class InterfaceAddress(NamedTuple):
    """An address of an interface: 4 octets of IPv4, 16 of IPv6, or 6 of Ethernet."""

    interface: str
    address: bytes
    broadcast: bytes
    """of an IPv4 subnet; else empty"""


def addresses() -> list[InterfaceAddress]:
    """The addresses of all interfaces. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Entry)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        return list(_entries(first))
    finally:
        libc.freeifaddrs(first)


def _entries(entry: Any) -> Iterator[InterfaceAddress]:
    while entry:
        found = entry.contents
        address = _octets(found.address)
        if address:
            has_broadcast = len(address) == 4 and found.flags & _HAS_BROADCAST
            broadcast = _octets(found.broadcast) if has_broadcast else b""
            yield InterfaceAddress(os.fsdecode(found.name), address, broadcast)
        entry = found.next


def _octets(pointer: int | None) -> bytes:
    """The address in a sockaddr; empty when there is none, or of another family."""
    if not pointer:
        return b""
    where, length = _PLACES.get(ctypes.c_uint16.from_address(pointer).value, (0, 0))
    return ctypes.string_at(pointer + where, length)


def queues(interface: str) -> int:
    """How many queues both receive and send. One when the driver does not tell."""
    channels = ctypes.create_string_buffer(_CHANNELS.pack(_GET_CHANNELS, *[0] * 8))
    request = struct.pack("@16sP16x", interface.encode(), ctypes.addressof(channels))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return 1
    *_, receiving, sending, _, both = _CHANNELS.unpack_from(channels)
    return max(1, int(min(receiving, sending) + both))
