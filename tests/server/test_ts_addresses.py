# SPDX-License-Identifier: MIT
"""Requests to broadcast and multicast addresses get no answer, from either engine, and are counted.

In a network namespace of the test's own, with an interface that can broadcast. That needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.codec.ntp import Header
from nts.server import keystore
from nts.system.addresses import family_of
from testkit.namespaces import own_network
from testkit.processes import HAS_ENGINE, HAS_V6, NO_ENGINE, Suite

NATIVE = pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)
INTERFACE = "v0"
SET_UP = """
link set lo up
link add v0 type veth peer name v1
address add 192.0.2.1/24 broadcast 192.0.2.255 dev v0
address add 192.0.2.2/24 dev v0
link set v1 up
link set v0 up
route add default dev v0
"""
SET_UP_V6 = "address add 2001:db8::1/64 dev v0 nodad\naddress add 2001:db8::2/64 dev v0 nodad\n"
NTP_GROUP = "224.0.1.1"
GROUPS = ["192.0.2.255", "255.255.255.255", "127.255.255.255", "224.0.0.1", NTP_GROUP] + ["ff02::1"] * HAS_V6
HOSTS = ["127.0.0.1", "127.0.0.2", "192.0.2.1", "192.0.2.2"] + ["::1", "2001:db8::1", "2001:db8::2"] * HAS_V6


@pytest.fixture
def broadcast_network() -> Iterator[None]:
    """A network namespace with an interface that can broadcast, and a member of a multicast group."""
    ip = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if ip is None:
        pytest.skip("needs ip (apt install iproute2)")
    with own_network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        subprocess.run([ip, "-batch", "-"], input=SET_UP + SET_UP_V6 * HAS_V6, text=True, check=True, timeout=30)
        group = struct.pack("=4s4s", socket.inet_aton(NTP_GROUP), socket.inet_aton("192.0.2.1"))
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        yield


def asker(host: str) -> socket.socket:
    """A socket that can send to any host or group."""
    sock = socket.socket(family_of(host), socket.SOCK_DGRAM)
    index = socket.if_nametoindex(INTERFACE)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
    sock.settimeout(10)
    return sock


@pytest.mark.usefixtures("broadcast_network")
@pytest.mark.parametrize("engine", [pytest.param("native", marks=NATIVE), "python"])
def test_a_request_to_a_group_gets_nothing_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Each address of the host is asked after the groups, so each socket has dealt with those when it answers."""
    monkeypatch.setattr(Suite, "engine", engine)
    suite = Suite(tmp_path)
    keystore.ensure_key(suite.keys, 3, os.urandom)
    server = suite.start_ts()
    try:
        with contextlib.ExitStack() as stack:
            askers = {host: stack.enter_context(asker(host)) for host in (*GROUPS, *HOSTS)}
            for host, sock in askers.items():
                sock.sendto(Header(mode=3, transmit=1).encode(), (host, suite.ntp_port))
            for host in HOSTS:
                _, peer = askers[host].recvfrom(100)
                assert peer[:2] == (host, suite.ntp_port)
            for group in GROUPS:
                askers[group].setblocking(False)
                with pytest.raises(BlockingIOError):
                    askers[group].recv(100)
    finally:
        suite.stop()
    dropped = len(GROUPS) + HAS_V6  # ff02::1 comes in at the other end of v0 too
    assert f"datagrams: answered plain {len(HOSTS)}, drop destination {dropped}\n" in server.output()
