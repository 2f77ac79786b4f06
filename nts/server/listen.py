# SPDX-License-Identifier: MIT
"""Listening sockets."""

from __future__ import annotations

import contextlib
import errno
import socket

from nts.base.errors import ConfigError

ANY = ("0.0.0.0", "::")  # a server listens everywhere unless told otherwise
TARGETS = ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1")  # this machine, and addresses for documentation elsewhere


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


def close_all(sockets: list[socket.socket]) -> None:
    """Close them all."""
    for sock in sockets:
        sock.close()
