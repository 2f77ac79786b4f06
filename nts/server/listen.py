# SPDX-License-Identifier: MIT
"""Listening sockets."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

from nts.base.errors import ConfigError

ANY = ("0.0.0.0", "::")  # a server listens everywhere unless told otherwise
MAX_LOCAL = 16  # addresses that get a socket of their own

SIOCGIFCONF = 0x8912  # netdevice(7)
_IFCONF = struct.Struct("@iP")
# struct ifreq with an IPv4 address: name, sockaddr_in, and the rest of a union.
_IFREQ = struct.Struct("@16s4x4s16x" if struct.calcsize("P") == 8 else "@16s4x4s8x")
IF_INET6 = Path("/proc/net/if_inet6")
SCOPE_LINK = 0x20


def listening(
    kind: socket.SocketKind, addresses: tuple[str, ...], port: int, *, share: bool = False
) -> list[socket.socket]:
    """Bound sockets, one for each address (none: all IPv4 and all IPv6). With `share`, others may bind them too.

    ConfigError when an address is not this machine's or the port is in use. Without IPv6 in the kernel, "all" is
    IPv4 alone.
    """
    sockets = []
    for address in addresses or ANY:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, kind)
            sockets.append(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((address, port))
            sock.setblocking(False)
        except OSError as e:
            if not addresses and family == socket.AF_INET6 and e.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                sockets.pop().close() if e.errno == errno.EADDRNOTAVAIL else None
                continue
            close_all(sockets)
            raise _bind_error(address, port, kind, e) from None
    return sockets


def listening_everywhere(port: int) -> list[socket.socket]:
    """UDP sockets for all addresses, to share, and one more for each address that this machine has by now.

    What comes to such an address comes to its own socket, whose replies leave from there without being told: that is
    cheaper than IP_PKTINFO, with which the sockets for all addresses do the same for whatever address comes later.
    """
    found = listening(socket.SOCK_DGRAM, (), port, share=True)
    for address in local_addresses():
        with contextlib.suppress(ConfigError):  # gone again, or not usable yet
            found += listening(socket.SOCK_DGRAM, (address,), port, share=True)
    return found


def local_addresses() -> list[str]:
    """The addresses of this machine, but for link-local ones; none if there are very many."""
    found = [*_local_ipv4(), *_local_ipv6()]
    return found if len(found) <= MAX_LOCAL else []


def _local_ipv4() -> list[str]:
    room = array.array("B", bytes(2 * MAX_LOCAL * _IFREQ.size))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, SIOCGIFCONF, _IFCONF.pack(len(room), room.buffer_info()[0]))
    except OSError:  # a sandbox, perhaps: the sockets for all addresses do as well
        return []
    (size, _) = _IFCONF.unpack(answer)
    return [socket.inet_ntoa(a) for _, a in _IFREQ.iter_unpack(room.tobytes()[:size])]


def _local_ipv6() -> list[str]:
    try:
        lines = IF_INET6.read_text().splitlines()
    except OSError:  # no IPv6 in the kernel
        return []
    fields = [line.split() for line in lines]
    return [str(ipaddress.IPv6Address(int(f[0], 16))) for f in fields if int(f[3], 16) != SCOPE_LINK]


def _bind_error(address: str, port: int, kind: socket.SocketKind, e: OSError) -> ConfigError:
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    shown = f"[{address}]" if ":" in address else address
    hint = {
        errno.EADDRINUSE: "another server runs there (or this one, already); stop it or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine does not have that address; choose another one to listen on",
    }.get(e.errno or 0)
    return ConfigError(f"cannot listen on {protocol} {shown}:{port}: {e.strerror}", hint=hint)


def close_all(sockets: list[socket.socket]) -> None:
    """Close them all."""
    for sock in sockets:
        sock.close()
