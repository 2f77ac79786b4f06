# SPDX-License-Identifier: MIT
"""Which frames the BPF program takes: run in the kernel on single frames. Only root can load it."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nts.server import xdp_filter
from nts.server.xdp_filter import Table
from nts.system import bpf
from testkit.bpf_run import Filter, loaded
from testkit.frames import ARP, IPV6, Frame
from testkit.xdp import needs_xdp

pytestmark = needs_xdp

PORT = 4123
PAYLOAD = bytes([0x23]) + bytes(47)
V4 = Frame("192.0.2.2", "192.0.2.1", PORT, PAYLOAD)
V6 = Frame("2001:db8::2", "2001:db8::1", PORT, PAYLOAD)


def octets(*addresses: str) -> tuple[bytes, ...]:
    return tuple(ipaddress.ip_address(a).packed for a in addresses)


TABLE = Table(
    V4.to,
    octets("198.51.100.1", "192.0.2.1"),
    octets("2001:db8:1::1", "2001:db8::1"),
    octets("192.0.2.255"),
)


@pytest.fixture(scope="module")
def taking() -> Iterator[Filter]:
    with loaded(TABLE, PORT) as found:
        yield found


def test_requests_are_taken_with_the_time_before_them(taking: Filter) -> None:
    for frame in (V4, V6, replace(V4, padding=bytes(10)), replace(V4, fragment=0x4000), replace(V4, udp_checksum=0)):
        before = time.clock_gettime_ns(time.CLOCK_TAI)
        judged = taking.judge(frame.encode())
        assert judged.action == bpf.REDIRECT
        assert judged.stamp is not None
        assert before <= judged.stamp <= time.clock_gettime_ns(time.CLOCK_TAI)


PASSES = {
    "another port": replace(V4, port=PORT + 1),
    "another port, IPv6": replace(V6, port=PORT + 1),
    "another address": replace(V4, destination="192.0.2.3"),
    "another address, IPv6": replace(V6, destination="2001:db8::3"),
    "the same end of an address": replace(V6, destination="2001:db8:2::1"),
    "broadcast address": replace(V4, destination="192.0.2.255"),
    "limited broadcast": replace(V4, destination="255.255.255.255"),
    "multicast": replace(V4, destination="224.0.1.1"),
    "multicast, IPv6": replace(V6, destination="ff02::101"),
    "no address": replace(V4, destination="0.0.0.0"),
    "no address, IPv6": replace(V6, destination="::"),
    "to another station": replace(V4, to=bytes.fromhex("020000000003")),
    "to all stations": replace(V4, to=bytes([255] * 6)),
    "from a group of stations": replace(V4, sender=bytes.fromhex("010000000002")),
    "VLAN": replace(V4, vlan=5),
    "ARP": replace(V4, ether_type=ARP),
    "IPv4 that says it is IPv6": replace(V4, ether_type=IPV6),
    "options": replace(V4, options=bytes([1, 1, 1, 0])),
    "first fragment": replace(V4, fragment=0x2000),
    "later fragment": replace(V4, fragment=0x0010),
    "TCP": replace(V4, protocol=socket.IPPROTO_TCP),
    "extension header": replace(V6, protocol=0, extension=bytes([17, 0, 1, 4, 0, 0, 0, 0])),
    "fragment, IPv6": replace(V6, protocol=44, extension=bytes([17, 0, 0, 1, 0, 0, 0, 1])),
    "a UDP length that differs": replace(V4, udp_length=8 + 47),
    "a UDP length that differs, IPv6": replace(V6, udp_length=8 + 49),
    "too long": replace(V4, payload=bytes(1280 - 28 + 1)),
    "too long, IPv6": replace(V6, payload=bytes(1280 - 48 + 1)),
    "from this network": replace(V4, source="0.0.0.0"),
    "from loopback": replace(V4, source="127.0.0.1"),
    "from multicast": replace(V4, source="224.0.0.1"),
    "from reserved": replace(V4, source="240.0.0.1"),
    "from limited broadcast": replace(V4, source="255.255.255.255"),
    "from the broadcast address": replace(V4, source="192.0.2.255"),
    "from the address asked": replace(V4, source="192.0.2.1"),
    "from another one of ours": replace(V4, source="198.51.100.1"),
    "from nowhere, IPv6": replace(V6, source="::"),
    "from loopback, IPv6": replace(V6, source="::1"),
    "from IPv4 in IPv6": replace(V6, source="::ffff:192.0.2.2"),
    "from link-local": replace(V6, source="fe80::2"),
    "from multicast, IPv6": replace(V6, source="ff02::1"),
    "from the address asked, IPv6": replace(V6, source="2001:db8::1"),
    "from another one of ours, IPv6": replace(V6, source="2001:db8:1::1"),
}


@pytest.mark.parametrize("frame", PASSES.values(), ids=PASSES)
def test_all_else_passes(taking: Filter, frame: Frame) -> None:
    assert not taking.takes(frame.encode())


@pytest.mark.parametrize("frame", [V4, V6])
def test_what_is_cut_short_passes(taking: Filter, frame: Frame) -> None:
    whole = frame.encode()
    head = len(whole) - len(PAYLOAD)
    for length in range(14, head):
        assert not taking.takes(whole[:length])
    assert taking.takes(whole[:head])  # for engine/frame.c to refuse


def test_the_longest_are_taken(taking: Filter) -> None:
    assert taking.takes(replace(V4, payload=bytes(1280 - 28)).encode())
    assert taking.takes(replace(V6, payload=bytes(1280 - 48)).encode())


def test_as_many_addresses_as_there_is_room_for() -> None:
    n = xdp_filter.MAX_ADDRESSES
    v4, v6 = ([f"{head}{i}" for i in range(1, n + 2)] for head in ("192.0.2.", "2001:db8::"))
    others = replace(V4, source="203.0.113.1"), replace(V6, source="2001:db8:5::1")
    with loaded(Table(V4.to, octets(*v4), octets(*v6), ()), PORT) as found:
        for frame, own in zip(others, (v4, v6), strict=True):
            assert all(found.takes(replace(frame, destination=a).encode()) for a in own[:n])
            assert not found.takes(replace(frame, destination=own[n]).encode())


def test_a_queue_without_a_socket_passes() -> None:
    with loaded(TABLE, PORT, served=False) as found:
        assert found.judge(V4.encode()).action == bpf.PASS


def prefixes(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


@pytest.mark.parametrize(
    ("allow", "deny", "takes"),
    [
        ((), ("192.0.2.0/24",), {"192.0.2.2": False, "192.0.3.2": True, "2001:db8::2": True}),
        (("192.0.2.0/24",), (), {"192.0.2.2": True, "192.0.3.2": False, "2001:db8::2": False}),
        (("192.0.2.2/32",), ("192.0.2.0/24",), {"192.0.2.2": True, "192.0.2.3": False, "10.0.0.1": False}),
        (("192.0.2.0/24", "2001:db8::/32"), ("2001:db8::/64",), {"2001:db8::2": False, "2001:db8:0:1::2": True}),
    ],
)
def test_lists_of_prefixes(allow: tuple[str, ...], deny: tuple[str, ...], takes: dict[str, bool]) -> None:
    with loaded(TABLE, PORT, prefixes(*allow), prefixes(*deny)) as found:
        for source, taken in takes.items():
            frame = replace(V6 if ":" in source else V4, source=source)
            assert found.takes(frame.encode()) == taken, source
