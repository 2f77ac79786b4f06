# SPDX-License-Identifier: MIT
"""UDP socket options that Python does not name, and the kernel's timestamps."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time

from nts.codec.ntp import NS

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; also the type of the control message
SO_TIMESTAMPING = 37  # likewise
_STAMP_SENT, _STAMP_SOFTWARE, _STAMP_ALONE = 1 << 1, 1 << 4, 1 << 11  # <linux/net_tstamp.h>: SOF_TIMESTAMPING_...
_MSG_ERRQUEUE = getattr(socket, "MSG_ERRQUEUE", 0)
_STAMP_ROOM = 256  # octets of control messages
SO_RCVBUFFORCE = 33
IP_MTU_DISCOVER, IP_PMTUDISC_OMIT = 10, 5  # <linux/in.h>
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_SO_MEMINFO, _MEMINFO_DROPS = 55, 8  # <asm-generic/socket.h>, <linux/sock_diag.h>: an array of 32-bit numbers

Ancillary = list[tuple[int, int, bytes]]
_TIMESPEC = struct.Struct("@ll")


def enlarge_buffer(sock: socket.socket, octets: int) -> None:
    """Set the size of the receive buffer, beyond the system's limit if we are privileged."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)


def drops(sock: socket.socket) -> int:
    """How many datagrams the kernel has dropped because the receive queue was full."""
    info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
    return int.from_bytes(info[4 * _MEMINFO_DROPS :], sys.byteorder)


def allow_fragmentation(sock: socket.socket) -> None:
    """Let routers fragment replies over IPv4, and ignore what ICMP says about a path's MTU.

    By default the kernel sets "don't fragment", and a reply too long for the path (a tunnel, PPPoE) is lost. ICMP
    reports that too late or never. If forged, it could make the server fragment every reply.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)


def enable_timestamps(sock: socket.socket) -> None:
    """Make the kernel timestamp each datagram on arrival."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def arrival_ns(ancillary: Ancillary) -> int:
    """When a datagram arrived, in nanoseconds since 1970, by the kernel's timestamp among the control messages.

    The first datagrams after `enable_timestamps` may lack one. Then it is the time of this call.
    """
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * NS + nanoseconds)
    return time.time_ns()


def stamp_both_ways(sock: socket.socket) -> None:
    """Make the kernel timestamp what is received and what is sent, where it can. Elsewhere, nothing happens."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        enable_timestamps(sock)
        flags = _STAMP_SENT | _STAMP_SOFTWARE | _STAMP_ALONE  # ALONE: without a copy of the datagram
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)


def departure_ns(sock: socket.socket) -> int | None:
    """When the kernel handed a datagram to the network, in nanoseconds since 1970, by the socket's error queue.

    None when the queue is empty: the timestamp is not there yet, this kernel or driver makes none, or it was read
    already. Before the timestamp is read, select() reports the socket as readable.
    """
    if not _MSG_ERRQUEUE:
        return None
    try:
        _, ancillary, _, _ = sock.recvmsg(1, _STAMP_ROOM, _MSG_ERRQUEUE)
    except OSError:
        return None
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPING):
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * NS + nanoseconds)
    return None
