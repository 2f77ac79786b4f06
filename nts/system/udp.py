# SPDX-License-Identifier: MIT
"""UDP socket options that Python has no names for, and the kernel's receive timestamps."""

from __future__ import annotations

import socket
import struct
import time

from nts.codec.ntp import NS

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; also the type of the control message
SO_RCVBUFFORCE = 33
IP_MTU_DISCOVER, IP_PMTUDISC_OMIT = 10, 5  # <linux/in.h>
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)

Ancillary = list[tuple[int, int, bytes]]
_TIMESPEC = struct.Struct("@ll")


def enlarge_buffer(sock: socket.socket, octets: int) -> None:
    """Ask for room for so many octets that wait to be received: beyond the system's limit where we may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)


def let_fragment(sock: socket.socket) -> None:
    """Have replies of any length arrive over IPv4: routers may fragment them, whatever ICMP says of a path's MTU.

    Without this the kernel sets "don't fragment", and a reply for a narrower path (a tunnel, PPPoE) is lost. ICMP says
    so too late or never; if forged, it could make the server fragment every reply.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)


def enable_timestamps(sock: socket.socket) -> None:
    """Have the kernel say when each datagram arrived."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def arrival_ns(ancillary: Ancillary) -> int:
    """When a datagram arrived, in nanoseconds since 1970: the kernel's timestamp among its control messages.

    The first datagrams after `enable_timestamps` may come without one; then it is the time of this call.
    """
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * NS + nanoseconds)
    return time.time_ns()
