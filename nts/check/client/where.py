# SPDX-License-Identifier: MIT
"""C19 and C20: where a key exchange sends its clients (RFC 8915 sections 4.1.7 and 4.1.8)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

from nts.base.errors import ConfigError
from nts.base.registry import NTP_PORT
from nts.base.text import is_ip_address
from nts.check.client import judge
from nts.check.client.probe import ClientProbe, until_accepted
from nts.check.model import Finding, Group, Severity, Skipped, skipped
from nts.check.peer import SOUND_KE, SOUND_NTP
from nts.check.peer.faults import Side
from nts.check.peer.faults.exchange import BAD_PORTS, BAD_SERVERS

GROUP: Group[ClientProbe] = Group("Server and port")


@GROUP.check(
    "C19", "where-server", section="4.1.7", severity=Severity.MUST, ref="A31 A32 A33 A34",
    sends="Server Negotiation records with an IPv4 address, an IPv6 address, a name; with a zone, brackets, NUL, a"
    " space, nothing, 300 characters; two of them.",
    expects="The client uses the first three; the others end the key exchange.",
    rule="The record holds an IP address without a zone, or a fully qualified name in ASCII. There is at most one.",
)  # fmt: skip
def where_server(probe: ClientProbe) -> Iterator[Finding]:
    probe.require_working()
    for what, server, address in (
        ("IPv4 address", "127.0.0.2", "127.0.0.2"),
        ("IPv6 address", "::1", "::1"),
        ("name", "localhost", "127.0.0.1"),
    ):
        yield from _sent_to(probe, f"{what} {server}", server, address)
    yield skipped("a name without dots: we cannot see what the client asks the DNS", Severity.INFO)
    yield from judge.meet(probe, *(f"server-{name}" for name in BAD_SERVERS), "duplicate-server")


def _sent_to(probe: ClientProbe, what: str, server: str, address: str, port: int = 0) -> Iterator[Finding]:
    """The time server has another address than the NTS-KE server, so only the record leads to it."""
    try:
        with probe.scene(
            what=what,
            ke=replace(SOUND_KE, ntp_server=server, ntp_port=port),
            ntp=replace(SOUND_NTP, host=address, port=port),
        ) as scene:
            seen = scene.meet(until=until_accepted)
    except (ConfigError, Skipped) as e:  # the port may be taken by the client, too
        yield skipped(f"{what}: {e}", None if port else Severity.INFO)  # other addresses judge the same rule
        return
    yield from judge.careful(seen)
    if not seen.requests and server and not _resolves(server):
        # The addresses judge the same rule.
        yield skipped(f"{what}: this machine does not find it as a fully qualified name", Severity.INFO)
        return
    yield judge.used(seen, Side.KE)


def _resolves(server: str) -> bool:
    """Whether this machine resolves an address, or a name taken as fully qualified."""
    try:
        return bool(socket.getaddrinfo(server if is_ip_address(server) else server + ".", NTP_PORT))
    except OSError:
        return False


@GROUP.check(
    "C20", "where-port", section="4.1.8", severity=Severity.MUST, ref="A37",
    sends="Port Negotiation records with a port, with 0, with one octet and with three; none at all.",
    expects="The client uses the port, and 123 without a record. 0, one octet and three octets end the key exchange.",
    rule="The record holds one 16-bit port. Without it the port is 123.",
)  # fmt: skip
def where_port(probe: ClientProbe) -> Iterator[Finding]:
    probe.require_working()
    if probe.ports[1] == NTP_PORT:
        yield skipped(f"a port: our time server has port {NTP_PORT}, which no record names")
    else:
        yield from _sent_to(probe, "a port", "", "127.0.0.1")
    yield from _sent_to(probe, "no record", "", "127.0.0.1", NTP_PORT)
    yield from judge.meet(probe, *BAD_PORTS)
