# SPDX-License-Identifier: MIT
"""The BPF program that picks the time server's packets out of what an interface receives.

It takes a frame when it is certainly a request that the kernel would deliver to the server: untagged Ethernet to this
interface; IPv4 without options and fragments, or IPv6 without extension headers; UDP to an address and port of the
server, from an address that can be a sender. It notes the time before the frame, and sends it to the AF_XDP socket of
its queue. Everything else passes: the kernel judges it, and its sockets serve it.

IP packets of more than 1280 octets pass too. Every path takes IPv6 packets up to that length (RFC 8200 section 5), and
no reply is longer than its request: so what leaves without the kernel's knowledge of paths arrives.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from nts.system import bpf
from nts.system.bpf import R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, Assembler

MAX_ADDRESSES = 16  # of each family; requests to further ones pass to the kernel
_MAX_REFUSED = 2 * MAX_ADDRESSES
_MAX_FRAME = 14 + 1280  # engine/frame.h
_STAMP = 8  # octets of time before a frame

# Where things are in a frame.
_TO, _FROM, _TYPE, _IP = 0, 6, 12, 14
_IPV4_LENGTH, _IPV4_FRAGMENT, _IPV4_PROTOCOL, _IPV4_FROM, _IPV4_TO = (_IP + i for i in (2, 6, 9, 12, 16))
_IPV6_LENGTH, _IPV6_PROTOCOL, _IPV6_FROM, _IPV6_TO = (_IP + i for i in (4, 6, 8, 24))
_UDP4, _UDP6 = _IP + 20, _IP + 40
_UDP_PORT, _UDP_LENGTH, _UDP_SIZE = 2, 4, 8

# Where things are in the table of addresses. Lists end with an address of zeros, or when they are full.
_TABLE = struct.Struct(f"6s2x{4 * MAX_ADDRESSES}s{4 * _MAX_REFUSED}s{16 * MAX_ADDRESSES}s")
_OWN4 = 8
_REFUSED4 = _OWN4 + 4 * MAX_ADDRESSES
_OWN6 = _REFUSED4 + 4 * _MAX_REFUSED
TABLE_SIZE = _TABLE.size


@dataclass(frozen=True)
class Table:
    """What the program compares a frame with, and what changes while it runs."""

    ethernet: bytes
    own4: tuple[bytes, ...]
    own6: tuple[bytes, ...]
    broadcast4: tuple[bytes, ...]
    """addresses of many machines, from which no request comes"""

    def pack(self) -> bytes:
        """As it stands in the map."""
        own4, own6 = self.own4[:MAX_ADDRESSES], self.own6[:MAX_ADDRESSES]
        refused4 = (own4 + self.broadcast4)[:_MAX_REFUSED]
        return _TABLE.pack(self.ethernet, b"".join(own4), b"".join(refused4), b"".join(own6))


@dataclass(frozen=True)
class Maps:
    """Descriptors of the maps that the program uses."""

    sockets: int
    """an XSKMAP: the AF_XDP socket of each queue"""
    table: int
    """an array with one `Table`"""
    sources4: int | None = None
    """an LPM_TRIE: whether requests from a prefix are taken; None: all are"""
    sources6: int | None = None


def program(port: int, maps: Maps) -> bytes:
    """The program for requests to this UDP port."""
    a = Assembler()
    a.move(R6, R1)
    a.value(R7, maps.table)
    _load_frame(a)
    _require_room(a, _UDP4 + _UDP_SIZE)
    a.move(R4, R2)
    a.add(R4, _MAX_FRAME)
    a.jump("pass", R4, "<", R3)
    _check_ethernet(a)
    a.load(2, R5, R2, _TYPE)
    a.jump("IPv6", R5, "==", socket.htons(0x86DD))
    a.jump("pass", R5, "!=", socket.htons(0x0800))
    _check_ipv4(a, port)
    _check_source(a, maps.sources4, _IPV4_FROM, 4)
    a.jump("take")
    a.label("IPv6")
    _check_ipv6(a, port)
    _check_source(a, maps.sources6, _IPV6_FROM, 16)
    a.label("take")
    _take(a, maps.sockets)
    a.label("pass")
    a.move(R0, bpf.PASS)
    a.exit()
    return a.code()


def _load_frame(a: Assembler) -> None:
    """R2, R3: start and end of the frame."""
    a.load(4, R2, R6, 0)
    a.load(4, R3, R6, 4)


def _require_room(a: Assembler, octets: int) -> None:
    a.move(R4, R2)
    a.add(R4, octets)
    a.jump("pass", R4, ">", R3)


def _check_ethernet(a: Assembler) -> None:
    """To this interface, and not from a group of stations."""
    for size, offset in ((4, 0), (2, 4)):
        a.load(size, R4, R2, _TO + offset)
        a.load(size, R5, R7, offset)
        a.jump("pass", R4, "!=", R5)
    a.load(1, R4, R2, _FROM)
    a.mask(R4, 1)
    a.jump("pass", R4, "!=", 0)


def _check_ipv4(a: Assembler, port: int) -> None:
    a.load(1, R4, R2, _IP)
    a.jump("pass", R4, "!=", 0x45)  # version, length of the header: without options
    a.load(2, R4, R2, _IPV4_FRAGMENT)
    a.mask(R4, socket.htons(0x3FFF))
    a.jump("pass", R4, "!=", 0)
    a.load(1, R4, R2, _IPV4_PROTOCOL)
    a.jump("pass", R4, "!=", socket.IPPROTO_UDP)
    _check_udp(a, _UDP4, port, _IPV4_LENGTH, 20)
    a.load(1, R4, R2, _IPV4_FROM)
    a.jump("pass", R4, "==", 0)  # RFC 6890: this network, loopback, multicast and reserved
    a.jump("pass", R4, "==", 127)
    a.jump("pass", R4, ">=", 224)
    a.load(4, R8, R2, _IPV4_FROM)
    _find4(a, _REFUSED4, _MAX_REFUSED, "pass", otherwise="source")
    a.label("source")
    a.load(4, R8, R2, _IPV4_TO)
    _find4(a, _OWN4, MAX_ADDRESSES, "own", otherwise="pass")
    a.label("own")


def _find4(a: Assembler, table: int, entries: int, found: str, *, otherwise: str) -> None:
    """Look for the address in R8."""
    for i in range(entries):
        a.load(4, R4, R7, table + 4 * i)
        a.jump(otherwise, R4, "==", 0)
        a.jump(found, R4, "==", R8)
    a.jump(otherwise)


def _check_ipv6(a: Assembler, port: int) -> None:
    _require_room(a, _UDP6 + _UDP_SIZE)
    a.load(1, R4, R2, _IP)
    a.mask(R4, 0xF0)
    a.jump("pass", R4, "!=", 0x60)
    a.load(1, R4, R2, _IPV6_PROTOCOL)
    a.jump("pass", R4, "!=", socket.IPPROTO_UDP)
    _check_udp(a, _UDP6, port, _IPV6_LENGTH, 0)
    a.load(2, R4, R2, _IPV6_FROM)
    a.to_big_endian(R4, 16)
    a.jump("pass", R4, ">=", 0xFE80)  # link-local, whose replies need the interface, and multicast
    _load6(a, _IPV6_FROM)
    a.jump("pass", R8, "==", 0)  # unspecified, loopback, and what stands for IPv4
    _find6(a, "pass", otherwise="source6")
    a.label("source6")
    _load6(a, _IPV6_TO)
    _find6(a, "own6", otherwise="pass")
    a.label("own6")


def _load6(a: Assembler, offset: int) -> None:
    a.load(8, R8, R2, offset)
    a.load(8, R9, R2, offset + 8)


def _find6(a: Assembler, found: str, *, otherwise: str) -> None:
    """Look for the address in R8 and R9 among our own."""
    for i in range(MAX_ADDRESSES):
        following = a.new_label()
        a.load(8, R4, R7, _OWN6 + 16 * i)
        a.jump(otherwise, R4, "==", 0)
        a.jump(following, R4, "!=", R8)
        a.load(8, R4, R7, _OWN6 + 16 * i + 8)
        a.jump(found, R4, "==", R9)
        a.label(following)
    a.jump(otherwise)


def _check_udp(a: Assembler, udp: int, port: int, ip_length: int, header: int) -> None:
    """To our port, and as long as the IP packet says, whose length includes a header of so many octets."""
    a.load(2, R4, R2, udp + _UDP_PORT)
    a.jump("pass", R4, "!=", socket.htons(port))
    a.load(2, R4, R2, ip_length)
    a.to_big_endian(R4, 16)
    a.load(2, R5, R2, udp + _UDP_LENGTH)
    a.to_big_endian(R5, 16)
    a.add(R5, header)
    a.jump("pass", R4, "!=", R5)


def _check_source(a: Assembler, sources: int | None, offset: int, length: int) -> None:
    """Whether this map lets us take what comes from an address of so many octets."""
    if sources is None:
        return
    a.move(R4, 8 * length)
    a.store(4, R10, -4 - length, R4)
    for i in range(0, length, 4):
        a.load(4, R4, R2, offset + i)
        a.store(4, R10, i - length, R4)
    a.map(R1, sources)
    a.move(R2, R10)
    a.add(R2, -4 - length)
    a.call(bpf.LOOKUP)
    a.jump("pass", R0, "==", 0)
    a.load(4, R4, R0, 0)
    a.jump("pass", R4, "==", 0)


def _take(a: Assembler, sockets: int) -> None:
    """Note the time before the frame, and redirect it. It passes where its queue has no socket."""
    a.move(R1, R6)
    a.move(R2, -_STAMP)
    a.call(bpf.ADJUST_META)
    a.jump("pass", R0, "!=", 0)
    a.call(bpf.TAI_TIME)
    _load_frame(a)
    a.load(4, R3, R6, 8)  # where the stamp starts; it must end where the frame starts
    a.move(R4, R3)
    a.add(R4, _STAMP)
    a.jump("pass", R4, ">", R2)
    a.store(8, R3, 0, R0)
    a.map(R1, sockets)
    a.load(4, R2, R6, 16)  # the queue
    a.move(R3, bpf.PASS)
    a.call(bpf.REDIRECT_MAP)
    a.exit()
