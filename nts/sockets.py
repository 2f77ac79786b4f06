# SPDX-License-Identifier: MIT
"""Listening sockets, name look-up, and the socket options that Python has no names for."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from nts.errors import ConfigError, ResolveError
from nts.ntp import NS

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; also the type of the control message
SO_RCVBUFFORCE = 33
IP_MTU_DISCOVER, IP_PMTUDISC_OMIT = 10, 5  # <linux/in.h>
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
ANY = ("0.0.0.0", "::")  # a server listens everywhere unless told otherwise
TARGETS = ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1")  # this machine, and addresses for documentation elsewhere

Ancillary = list[tuple[int, int, bytes]]
_TIMESPEC = struct.Struct("@ll")
Address = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True)
class Endpoint:
    """A resolved address."""

    family: socket.AddressFamily
    address: Address

    @property
    def host(self) -> str:
        return self.address[0]


def resolve(host: str, port: int, kind: socket.SocketKind, family: socket.AddressFamily) -> list[Endpoint]:
    """The addresses of a host in the order to try them, of one family or of both (AF_UNSPEC)."""
    try:
        found = socket.getaddrinfo(host, port, family, kind)
    except (socket.gaierror, UnicodeError) as e:
        why = e.strerror if isinstance(e, socket.gaierror) else "not a valid name"
        raise ResolveError(f"cannot resolve {host}: {why}") from None
    return [Endpoint(socket.AddressFamily(f), a) for f, _, _, _, a in found]  # type: ignore[arg-type]


def absolute(name: str) -> str:
    """A name from a Server Negotiation record for look-up: fully qualified (RFC 8915 section 4.1.7)."""
    is_name = any(c.isalpha() for c in name) and ":" not in name
    local = name.rstrip(".").lower().split(".")[-1] == "localhost"  # RFC 6761: never asked of the DNS
    return name + "." if is_name and not local and not name.endswith(".") else name


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
    """UDP sockets for all addresses, to share, and one more for each address to which most requests come.

    Replies from the latter need no IP_PKTINFO to leave from the address that was asked: that saves 4 % of CPU time.
    """
    found = listening(socket.SOCK_DGRAM, (), port, share=True)
    for address in usual_addresses():
        with contextlib.suppress(ConfigError):  # gone again
            found += listening(socket.SOCK_DGRAM, (address,), port, share=True)
    return found


def usual_addresses() -> list[str]:
    """The addresses from which this machine reaches itself and the rest of the world: at most two of each family."""
    found = []
    for target in TARGETS:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:  # no such family or route
            sock.connect((target, 123))  # sends nothing
            found.append(sock.getsockname()[0])
    return sorted(set(found))


def _bind_error(address: str, port: int, kind: socket.SocketKind, e: OSError) -> ConfigError:
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    shown = f"[{address}]" if ":" in address else address
    hint = {
        errno.EADDRINUSE: "another server runs there (or this one, already); stop it or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine does not have that address; choose another one to listen on",
    }.get(e.errno or 0)
    return ConfigError(f"cannot listen on {protocol} {shown}:{port}: {e.strerror}", hint=hint)


def numeric_host(address: tuple[Any, ...]) -> str:
    """The address of a peer as text, with its zone if it is a link-local one."""
    return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]


def shown(address: tuple[Any, ...]) -> str:
    """A socket address as people write it."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def close_all(sockets: list[socket.socket]) -> None:
    """Close them all."""
    for sock in sockets:
        sock.close()
