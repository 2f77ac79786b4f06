# SPDX-License-Identifier: MIT
"""Socket addresses: name look-up and formatting."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

from nts.base.errors import ResolveError
from nts.base.text import is_ip_address, place_hint

Address = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True)
class Endpoint:
    """A resolved address."""

    family: socket.AddressFamily
    address: Address

    @property
    def host(self) -> str:
        return self.address[0]


def family_of(address: str) -> socket.AddressFamily:
    """The family of a numeric address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def packed(address: str) -> bytes:
    """The 4 or 16 octets of a numeric address, which may have a zone."""
    return socket.inet_pton(family_of(address), address.partition("%")[0])


def resolve(host: str, port: int, kind: socket.SocketKind, family: socket.AddressFamily) -> list[Endpoint]:
    """The addresses of a host in the order to try them. AF_UNSPEC: of both families.

    ResolveError if there is none, or it is a link-local address without a zone, which is nowhere.
    """
    if is_ip_address(host) and ":" in host and ipaddress.ip_address(host).is_link_local:
        hint = f"write the interface after it, such as {host}%eth0"
        raise ResolveError(f"{host} is a link-local address without a zone", hint=hint)
    try:
        found = socket.getaddrinfo(host, port, family, kind)
    except (socket.gaierror, UnicodeError) as e:
        why = e.strerror if isinstance(e, socket.gaierror) else "not a valid name"
        raise ResolveError(f"cannot resolve {host}: {why}", hint=place_hint(host)) from None
    return [Endpoint(socket.AddressFamily(f), a) for f, _, _, _, a in found]  # type: ignore[arg-type]


def to_bind(address: str, port: int, kind: socket.SocketKind) -> Address:
    """What to bind a socket to for an IP address, maybe with a zone (fe80::1%eth0). gaierror: there is no such zone."""
    found = socket.getaddrinfo(address, port, family_of(address), kind, 0, socket.AI_NUMERICHOST)
    return found[0][4]  # type: ignore[return-value]


def absolute(name: str) -> str:
    """Make a name from a Server Negotiation record fully qualified for look-up (RFC 8915 section 4.1.7)."""
    is_name = any(c.isalpha() for c in name) and ":" not in name
    local = name.rstrip(".").lower().split(".")[-1] == "localhost"  # RFC 6761: never looked up in the DNS
    return name + "." if is_name and not local and not name.endswith(".") else name


def numeric_host(address: tuple[Any, ...]) -> str:
    """The address of a peer as text, with the zone of a link-local one."""
    return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]


def format_address(address: tuple[Any, ...]) -> str:
    """A socket address as HOST:PORT or [HOST]:PORT, with the zone of a link-local one."""
    host, port = numeric_host(address) if address[3:] > (0,) else address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
