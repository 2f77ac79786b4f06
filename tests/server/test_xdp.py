# SPDX-License-Identifier: MIT
"""The time server by AF_XDP over a veth pair: what is answered that way, and what through sockets."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nts.base.registry import MAX_PLACEHOLDERS
from nts.codec import extensions, ntp
from nts.codec.ntp import Header
from nts.system import interfaces
from testkit import namespaces, xdp
from testkit.frames import ARP, Frame
from testkit.namespaces import ip
from testkit.packets import UNKNOWN_FIELD
from testkit.processes import HAS_V6, Suite
from testkit.ts_requests import PLACEHOLDER, Asker, Request, mint, plain, process_of
from testkit.xdp import CLIENT4, FAR, HOSTS, NEAR, SERVER4, SERVER6, Network, by_xdp, frames, metric, needs_xdp, serving

pytestmark = needs_xdp


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with xdp.network() as found:
        yield found


@pytest.fixture(scope="module")
def suite(net: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with serving(tmp_path_factory.mktemp("xdp")) as found:
        yield found


def masked(reply: bytes) -> bytes:
    """A reply without what differs from one to the next: the times, and what is random or encrypted."""
    return reply[:16] + bytes(32) + reply[48:84] + bytes(len(reply) - 84 if len(reply) > 84 else 0)


@pytest.mark.parametrize("host", HOSTS)
def test_the_same_octets_as_by_socket(net: Network, suite: Suite, host: str) -> None:
    """For requests of all kinds; unusual ones, which the reference answers through a socket, too."""
    good = Request(mint(suite))
    unusual = replace(good, more=extensions.encode(UNKNOWN_FIELD, bytes(24)))
    refill = replace(good, more=extensions.encode(PLACEHOLDER, bytes(100)) * MAX_PLACEHOLDERS)
    bad = replace(good, cookie=good.cookie[:-1] + bytes([good.cookie[-1] ^ 1]))
    forged = replace(good, key=bytes(32))
    requests = [plain(transmit=7), plain(3, transmit=8), *(r.encode() for r in (good, unusual, refill, bad, forged))]
    no_answer = [plain(mode=4), plain(2), b"short", plain(more=bytes(20)), bytes(1000)]
    with net.asker(suite, host) as by_frame, Asker(suite.ntp_port, "::1" if ":" in host else "127.0.0.1") as by_socket:
        before = frames(suite)
        for packet in requests:
            one, other = by_frame.reply(packet), by_socket.reply(packet)
            assert len(one) == len(other)
            assert masked(one) == masked(other)
        assert not by_frame.replies(*no_answer)
        for request in (good, unusual):
            assert len(by_frame.time(request)) == 1
        assert len(by_frame.time(refill)) == MAX_PLACEHOLDERS + 1
        by_frame.nak(bad)
        sent = len(requests) + len(no_answer) + 4
    assert frames(suite) - before >= sent
    assert metric(suite, "nts_ntp_xdp_damaged") == 0


@pytest.mark.parametrize("host", HOSTS)
def test_times_are_the_kernels(net: Network, suite: Suite, host: str) -> None:
    """Both lie between the client's own, on the same clock."""
    with net.asker(suite, host) as asker:
        for _ in range(50):
            left = ntp.timestamp(time.time_ns())
            asker.sock.send(plain(transmit=left))
            header, back = Header.decode(asker.sock.recv(100)), ntp.timestamp(time.time_ns())
            assert left < header.receive < header.transmit < back


def test_what_the_reply_says_in_its_headers(net: Network, suite: Suite) -> None:
    """Back to the sender; whether routers may fragment it depends on its length, as with sockets."""
    own, station = interface_addresses(net)
    refill = Request(mint(suite), more=extensions.encode(PLACEHOLDER, bytes(100)) * MAX_PLACEHOLDERS).encode()
    with net.raw() as sock:
        for payload, fragments in ((plain(), 0x4000), (refill, 0)):
            sock.send(Frame(CLIENT4, SERVER4, suite.ntp_port, payload, own, station, 4567).encode())
            reply = reply_frame(sock, 4567)
            assert reply[:14] == station + own + b"\x08\x00"
            _, length, ident, flags, ttl = struct.unpack_from("!BxHHHB", reply, 14)
            assert (flags, ttl, length) == (fragments, 64, len(reply) - 14)
            assert (ident == 0) == bool(fragments)
            same = Frame(SERVER4, CLIENT4, 4567, reply[42:], station, own, suite.ntp_port).encode()
            assert reply[26:] == same[26:]  # addresses, UDP and its checksum


def interface_addresses(net: Network) -> tuple[bytes, bytes]:
    """The Ethernet addresses of NEAR and FAR."""

    def ethernet(name: str) -> bytes:
        return next(a.address for a in interfaces.addresses() if a.interface == name and len(a.address) == 6)

    with net.clients.inside():
        far = ethernet(FAR)
    return ethernet(NEAR), far


def reply_frame(sock: socket.socket, port: int) -> bytes:
    """The next frame with a UDP datagram to this port."""
    while True:
        frame = sock.recv(2000)
        if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == port.to_bytes(2, "big"):
            return frame


def test_damaged_frames_are_dropped_and_counted(net: Network, suite: Suite) -> None:
    own, station = interface_addresses(net)
    before = metric(suite, "nts_ntp_xdp_damaged")
    good = Frame(CLIENT4, SERVER4, suite.ntp_port, plain(), own, station, 4568)
    damaged = [replace(good, udp_checksum=0x1234), replace(good, udp_checksum=0x1235, payload=bytes(48))]
    encoded = good.encode()
    with net.raw() as sock:
        for octets in (*(d.encode() for d in damaged), encoded[:24] + b"\0\0" + encoded[26:], encoded[:60]):
            sock.send(octets)
        sock.send(encoded)
        reply_frame(sock, 4568)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            reply_frame(sock, 4568)
    assert metric(suite, "nts_ntp_xdp_damaged") - before == 4


def test_a_checksum_that_a_nic_was_to_finish_is_right(net: Network, suite: Suite) -> None:
    """So do senders on the same machine leave it, by default; and so without."""
    for offloaded in (1, 0):
        with net.clients.inside():
            namespaces.ethtool(FAR, namespaces.CHECKSUMS, offloaded)
        for host in HOSTS:
            with net.asker(suite, host) as asker:
                assert by_xdp(suite, asker)


# --- what passes to the kernel ---------------------------------------------------------------------------------------


def test_vlans_and_arp_are_not_taken(net: Network, suite: Suite) -> None:
    own, station = interface_addresses(net)
    good = Frame(CLIENT4, SERVER4, suite.ntp_port, plain(), own, station, 4569)
    before = frames(suite)
    with net.raw() as sock:
        for frame in (replace(good, vlan=5), replace(good, ether_type=ARP), good):
            sock.send(frame.encode())
        reply_frame(sock, 4569)
    assert frames(suite) == before + 1
    with net.clients.inside():
        ip(f"neigh flush dev {FAR}")
    with net.asker(suite) as asker:
        assert by_xdp(suite, asker)


def test_options_and_fragments_are_served_by_socket(net: Network, suite: Suite) -> None:
    with net.asker(suite) as asker:
        asker.sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 0]))
        assert not by_xdp(suite, asker)
    with net.clients.inside():
        ip(f"route add {SERVER4}/32 dev {FAR} mtu 576")
    with net.asker(suite) as asker:
        before = frames(suite)
        refill = Request(mint(suite), more=extensions.encode(PLACEHOLDER, bytes(100)) * MAX_PLACEHOLDERS)
        asker.sock.send(refill.encode())
        assert len(refill.judge(asker.sock.recv(2000)).cookies) == MAX_PLACEHOLDERS + 1
        assert frames(suite) == before
    with net.clients.inside():
        ip(f"route del {SERVER4}/32 dev {FAR}")


@pytest.mark.skipif(not HAS_V6, reason="this machine has no IPv6")
def test_extension_headers_and_link_local_are_served_by_socket(net: Network, suite: Suite) -> None:
    with net.asker(suite, SERVER6) as asker:
        asker.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes(8))
        assert not by_xdp(suite, asker)


def test_packets_longer_than_every_path_takes_are_served_by_socket(net: Network, suite: Suite) -> None:
    more = extensions.encode(PLACEHOLDER, bytes(100)) * 11
    long = Request(mint(suite), more=more)
    assert len(long.encode()) > 1280
    with net.asker(suite) as asker:
        before = frames(suite)
        asker.sock.send(long.encode())
        assert len(long.judge(asker.sock.recv(2000)).cookies) == MAX_PLACEHOLDERS + 1
        assert frames(suite) == before


def test_broadcast_gets_no_answer(net: Network, suite: Suite) -> None:
    with net.clients.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.settimeout(0.3)
        sock.sendto(plain(), ("10.77.0.255", suite.ntp_port))
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_a_limit_of_requests_holds(net: Network, tmp_path: Path) -> None:
    with xdp.network() as own, serving(tmp_path, rate_limit=1, rate_burst=3) as limited, own.asker(limited) as asker:
        asker.sock.settimeout(0.3)
        for _ in range(10):
            asker.sock.send(plain())
        kinds = [Header.decode(asker.sock.recv(100)).reference_id for _ in range(4)]
        assert kinds.count(b"RATE") == 1
        with pytest.raises(TimeoutError):
            asker.sock.recv(100)
        assert frames(limited) == 10


def test_lists_choose_who_is_served_this_way(net: Network, tmp_path: Path) -> None:
    with xdp.network() as own, serving(tmp_path, xdp_deny="10.77.0.128/25, fd00::/16") as server:
        with own.clients.inside():
            ip(f"addr add 10.77.0.200/24 dev {FAR}")
        for source, taken in ((CLIENT4, True), ("10.77.0.200", False)):
            with own.asker(server, SERVER4, source) as asker:
                assert by_xdp(server, asker) == taken


def test_the_start_says_how(suite: Suite) -> None:
    line = re.search(r"AF_XDP: .*", process_of(suite).output())
    assert line is not None
    assert line[0].startswith(f"AF_XDP: {NEAR}, 1 queue (native, copy); ")
