# SPDX-License-Identifier: MIT
"""Turns the frames of a capture into UDP datagrams and TCP segments, with dpkt.

dpkt's parsers are not made for hostile input. So this module catches whatever they raise.
"""

from __future__ import annotations

import gzip
import ipaddress
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

import dpkt

from nts.base.errors import FormatError
from nts.base.text import counted
from nts.check.decode import files
from nts.check.decode.files import MAX_BLOCK, Frame

MAGIC_LENGTH = 4
_GZIP = b"\x1f\x8b"


class Endpoint(NamedTuple):
    """An address and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram."""

    frame: int
    """its number in the capture, from 1"""
    time_ns: int | None
    """since 1970"""
    source: Endpoint
    target: Endpoint
    payload: bytes = field(repr=False)
    missing: int = 0
    """octets at its end that are not in the capture"""


@dataclass(frozen=True)
class Segment:
    """A TCP segment."""

    frame: int
    time_ns: int | None
    source: Endpoint
    target: Endpoint
    sequence: int
    """of the first octet of its payload, or of SYN"""
    payload: bytes = field(repr=False)
    missing: int = 0
    syn: bool = False
    ack: bool = False
    fin: bool = False
    reset: bool = False


@dataclass
class Tally:
    """What was read, and what was left out."""

    frames: int = 0
    fragments: int = 0
    odd: int = 0
    """frames that are not IP, or are malformed"""
    headless: int = 0
    """frames cut off within the headers of IP, UDP or TCP"""
    links: Counter[int] = field(default_factory=Counter)
    """frames of each link type that is unknown here"""
    damage: str = ""
    """why reading stopped before the end of the file"""

    def notes(self) -> list[str]:
        """The same in words."""
        notes = [self.damage] if self.damage else []
        if self.fragments:
            notes.append(f"{counted(self.fragments, 'IP fragment')} left out: they are not reassembled")
        if self.headless:
            notes.append(f"{counted(self.headless, 'frame')} left out: cut off within the headers; capture with -s 0")
        for link, count in sorted(self.links.items()):
            notes.append(f"{counted(count, 'frame')} left out: link type {link} is unknown here")
        if self.odd and self.odd == self.frames:
            notes.append(f"none of the {self.frames} frames is an IP packet")
        return notes


def is_capture(magic: bytes) -> bool:
    """Whether a file that begins with these octets is a capture."""
    return files.is_capture(magic[:MAGIC_LENGTH])


class _Source:
    """A file whose first octets have been read already, with a limit on each read."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head, self._file = head, file

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MAX_BLOCK:
            raise ValueError("a block of an impossible length")
        first, self._head = self._head[:count], self._head[count:]
        return first + self._file.read(count - len(first))


def unpacked(file: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first octets of a file and the rest of it, decompressed if gzip made it. FormatError."""
    head = file.read(MAGIC_LENGTH)
    if not head.startswith(_GZIP):
        return head, file
    inside = cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, _Source(head, file)), mode="rb"))
    try:
        return inside.read(MAGIC_LENGTH), inside
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise FormatError("it begins like the output of gzip, and is not") from None


def read(head: bytes, file: BinaryIO, tally: Tally) -> Iterator[Datagram | Segment]:
    """The UDP datagrams and TCP segments of a capture. `head` is what has been read of `file` already.

    FormatError when it is not a capture or has only unknown link types. A damaged one is read as far as possible.
    """
    links = set()
    source = _Source(head, file)
    for frame in _frames(files.frames(source.read(MAGIC_LENGTH), source.read), tally):
        links.add(frame.link)
        if frame.time_ns is None and not frame.octets:  # where the file declares the link type
            continue
        tally.frames += 1
        unwrap = _LINKS.get(frame.link)
        if unwrap is None:
            tally.links[frame.link] += 1
        else:
            yield from _unwrapped(unwrap, frame, tally)
    if not links:
        raise FormatError("the capture's header is damaged")
    if not links & set(_LINKS):
        known = ", ".join(map(str, _LINKS))
        raise FormatError(f"the capture has link type {min(links)}, which is not among {known}")


def from_ip(packets: Iterable[bytes], tally: Tally) -> Iterator[Datagram | Segment]:
    """The same of IP packets, without a file around them."""
    for octets in packets:
        tally.frames += 1
        yield from _unwrapped(_raw, Frame(0, None, octets, cut=False), tally)


def _unwrapped(unwrap: Callable[[bytes], Any], frame: Frame, tally: Tally) -> Iterator[Datagram | Segment]:
    try:
        packet = unwrap(frame.octets)
        if packet is None:
            tally.odd += 1
        elif _is_fragment(packet):
            tally.fragments += 1
        elif frame.cut and isinstance(packet.data, bytes) and packet.p in _TRANSPORTS:
            tally.headless += 1
        else:
            yield from _transport(packet, tally.frames, frame.time_ns)
    except Exception:  # dpkt raises all kinds: it parses more than we ask for
        if frame.cut:
            tally.headless += 1
        else:
            tally.odd += 1


def _frames(found: Iterator[Frame], tally: Tally) -> Iterator[Frame]:
    try:
        yield from found
    except GeneratorExit:
        raise
    except Exception:  # struct.error, ValueError, IndexError, what gzip raises ...
        tally.damage = f"the capture is damaged or cut off after frame {tally.frames}: the rest was not read"


def _raw(packet: bytes) -> Any:
    """An IP packet without a link layer."""
    match packet[0] >> 4 if packet else 0:
        case 4:
            return dpkt.ip.IP(packet)
        case 6:
            return dpkt.ip6.IP6(packet)
    return None


def _within(kind: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A function that finds the IP packet in a frame of this kind; None if there is none."""

    def unwrap(frame: bytes) -> Any:
        packet = kind(frame)
        while isinstance(packet, dpkt.Packet) and not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
            packet = packet.data
        return packet if isinstance(packet, dpkt.Packet) else None

    return unwrap


_TRANSPORTS = (dpkt.ip.IP_PROTO_TCP, dpkt.ip.IP_PROTO_UDP)
_LINKS: dict[int, Callable[[bytes], Any]] = {
    0: lambda frame: _raw(frame[4:]),  # loopback of the BSDs
    1: _within(dpkt.ethernet.Ethernet),
    12: _raw,
    14: _raw,
    101: _raw,
    108: lambda frame: _raw(frame[4:]),
    113: _within(dpkt.sll.SLL),
    228: _raw,
    229: _raw,
    276: _within(dpkt.sll2.SLL2),
}


def _is_fragment(packet: Any) -> bool:
    if isinstance(packet, dpkt.ip.IP):
        return bool(packet.mf or packet.offset)
    pieces = [h for h in packet.all_extension_headers if isinstance(h, dpkt.ip6.IP6FragmentHeader)]
    return any(h.frag_off or h.m_flag for h in pieces)


def _transport(packet: Any, number: int, time: int | None) -> Iterator[Datagram | Segment]:
    inner = packet.data
    if not isinstance(inner, dpkt.udp.UDP | dpkt.tcp.TCP):
        return
    source, target = (
        Endpoint(str(ipaddress.ip_address(address)), port)
        for address, port in ((packet.src, inner.sport), (packet.dst, inner.dport))
    )
    data = bytes(inner.data)
    if isinstance(inner, dpkt.udp.UDP):
        length = max(inner.ulen - 8, 0) if inner.ulen else len(data)
        yield Datagram(number, time, source, target, data[:length], max(length - len(data), 0))
        return
    length = _ip_payload(packet) - inner.off * 4
    flags = inner.flags
    yield Segment(
        number, time, source, target, inner.seq, data, max(length - len(data), 0), bool(flags & dpkt.tcp.TH_SYN),
        bool(flags & dpkt.tcp.TH_ACK), bool(flags & dpkt.tcp.TH_FIN), bool(flags & dpkt.tcp.TH_RST),
    )  # fmt: skip


def _ip_payload(packet: Any) -> int:
    """How many octets the packet claims to carry; 0 if it does not say, like on its way into a network card."""
    if isinstance(packet, dpkt.ip.IP):
        return packet.len - packet.hl * 4 if packet.len else 0
    return packet.plen - sum(h.length for h in packet.all_extension_headers) if packet.plen else 0
