# SPDX-License-Identifier: MIT
"""Ethernet frames with UDP datagrams, sound or with a fault, for tests of AF_XDP."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

IPV4, IPV6, ARP, VLAN = 0x0800, 0x86DD, 0x0806, 0x8100


def checksum(octets: bytes) -> int:
    """RFC 1071"""
    words = struct.unpack(f"!{(len(octets) + 1) // 2}H", octets + bytes(len(octets) % 2))
    total: int = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Frame:
    """A request. What a field says of lengths and the like is right unless it is given."""

    source: str
    destination: str
    port: int
    payload: bytes
    to: bytes = bytes.fromhex("020000000001")
    sender: bytes = bytes.fromhex("020000000002")
    source_port: int = 40000
    vlan: int | None = None
    ether_type: int | None = None
    options: bytes = b""
    """of IPv4"""
    fragment: int = 0
    """flags and offset"""
    protocol: int = socket.IPPROTO_UDP
    extension: bytes = b""
    """headers between IPv6 and UDP"""
    udp_length: int | None = None
    udp_checksum: int | None = None
    padding: bytes = b""

    def _udp(self, addresses: bytes) -> bytes:
        length = 8 + len(self.payload) if self.udp_length is None else self.udp_length
        head = struct.pack("!HHH", self.source_port, self.port, length)
        pseudo = addresses + struct.pack("!HH", socket.IPPROTO_UDP, length)
        found = checksum(pseudo + head + bytes(2) + self.payload) or 0xFFFF
        return head + struct.pack("!H", found if self.udp_checksum is None else self.udp_checksum) + self.payload

    def encode(self) -> bytes:
        """The octets."""
        family = socket.AF_INET6 if ":" in self.source else socket.AF_INET
        addresses = b"".join(socket.inet_pton(family, a) for a in (self.source, self.destination))
        udp = self._udp(addresses)
        if family == socket.AF_INET6:
            kind, rest = IPV6, self.extension + udp
            ip = struct.pack("!IHBB", 6 << 28, len(rest), self.protocol, 64) + addresses + rest
        else:
            kind = IPV4
            words = (20 + len(self.options)) // 4
            length = 4 * words + len(udp)
            head = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, 1, self.fragment, 64, self.protocol, 0)
            check = struct.pack("!H", checksum(head + addresses + self.options))
            ip = head[:10] + check + addresses + self.options + udp
        tag = b"" if self.vlan is None else struct.pack("!HH", VLAN, self.vlan)
        kind = kind if self.ether_type is None else self.ether_type
        return self.to + self.sender + tag + struct.pack("!H", kind) + ip + self.padding
