# SPDX-License-Identifier: MIT
"""Listening sockets: those that the service manager passed, or else our own."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket

from nts.base.errors import ConfigError
from nts.system import console, service
from nts.system.addresses import family_of, format_address, to_bind

ANY = ("0.0.0.0", "::")
TARGETS = ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1")  # this machine, and addresses for documentation elsewhere


class AddressInUse(ConfigError):
    """Another process listens on this address and port."""

    hint = "another server (or this one already) is running there; stop it or choose another port"


def for_key_exchange(addresses: tuple[str, ...], port: int) -> list[socket.socket]:
    """TCP sockets for all workers of a key exchange server. Errors as of `listening`, or of a passed socket."""
    return _passed(socket.SOCK_STREAM) or listening(socket.SOCK_STREAM, addresses, port)


def for_time(addresses: tuple[str, ...], port: int, workers: int) -> tuple[str, list[list[socket.socket]]]:
    """Where a time server listens, for a person, and the UDP sockets of each worker: its own, or shared if passed.

    Errors as of `listening`, or of a passed socket.
    """
    if passed := _passed(socket.SOCK_DGRAM):
        return describe(passed), [passed] * workers
    # Shared sockets bind even if the port is in use: try without sharing first.
    trial = listening(socket.SOCK_DGRAM, addresses, port)
    where = describe(trial)
    close_all(trial)
    groups = []
    for _ in range(workers):
        if addresses:
            groups.append(listening(socket.SOCK_DGRAM, addresses, port, share=True))
        else:
            groups.append(listening_everywhere(port))
    return where, groups


def describe(sockets: list[socket.socket]) -> str:
    """The addresses and ports of these sockets, for a person."""
    return ", ".join(format_address(s.getsockname()) for s in sockets)


def _passed(kind: socket.SocketKind) -> list[socket.socket]:
    found = service.inherited_sockets(kind)
    if found:
        console.say("listens where the service manager does; listen and port in server.ini do not count")
    return found


def listening(
    kind: socket.SocketKind, addresses: tuple[str, ...], port: int, *, share: bool = False
) -> list[socket.socket]:
    """Bind a socket to each address (none given: all IPv4 and all IPv6). `share` allows several sockets for each.

    AddressInUse when the port is taken, ConfigError when the address is not this machine's or the port not allowed.
    Without IPv6 in the kernel, "all" means IPv4 only.
    """
    sockets = []
    for address in addresses or ANY:
        family = family_of(address)
        try:
            sock = socket.socket(family, kind)
            sockets.append(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(to_bind(address, port, kind))
            sock.setblocking(False)
        except OSError as e:
            if not addresses and family == socket.AF_INET6 and e.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                if e.errno == errno.EADDRNOTAVAIL:
                    sockets.pop().close()
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


def raise_descriptor_limit() -> None:
    """Raise this process's limit of descriptors as far as possible."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # the inherited limit is above what the kernel grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def usual_addresses() -> list[str]:
    """The addresses from which this machine reaches itself and the rest of the world: at most two of each family."""
    found = []
    for target in TARGETS:  # without such a family or route, there is none
        with contextlib.suppress(OSError), socket.socket(family_of(target), socket.SOCK_DGRAM) as sock:
            sock.connect((target, 123))  # sends nothing
            found.append(sock.getsockname()[0])
    return sorted(set(found))


def _bind_error(address: str, port: int, kind: socket.SocketKind, e: OSError) -> ConfigError:
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    message = f"cannot listen on {protocol} {format_address((address, port))}: {e.strerror}"
    if e.errno == errno.EADDRINUSE:
        return AddressInUse(message)
    if isinstance(e, socket.gaierror):
        message = f"cannot listen on {address}: this machine has no interface {address.partition('%')[2]}"
    hints = {
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EADDRNOTAVAIL: "this machine does not have that address; choose another one to listen on",
        errno.EAFNOSUPPORT: "this kernel does not support IPv6; choose an IPv4 address to listen on",
    }
    return ConfigError(message, hint=hints.get(e.errno or 0))


def close_all(sockets: list[socket.socket]) -> None:
    """Close these sockets."""
    for sock in sockets:
        sock.close()
