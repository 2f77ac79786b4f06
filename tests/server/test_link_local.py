# SPDX-License-Identifier: MIT
"""Servers that listen on a link-local address, which has a meaning only together with its interface."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.system import addresses
from testkit.namespaces import own_network
from testkit.processes import HAS_ENGINE, NO_ENGINE, Suite, needs_v6, one_error, run

SIOCSIFADDR, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x8914, 1  # netdevice(7)
NATIVE = pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE))


@pytest.fixture
def link() -> Iterator[None]:
    """A network with fe80::1%lo alone."""
    with own_network():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("@16sh22x", b"lo", IFF_UP))
            address = socket.inet_pton(socket.AF_INET6, "fe80::1")
            fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("@16sIi", address, 64, socket.if_nametoindex("lo")))
        yield


def made(tmp_path: Path, listen: str) -> Suite:
    return Suite(tmp_path, options={"ntske": {"listen": listen}, "ntpv4": {"listen": listen}})


@needs_v6
@pytest.mark.usefixtures("link")
@pytest.mark.parametrize("engine", [NATIVE, "python"])
def test_both_servers_serve_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(Suite, "engine", engine)
    suite = made(tmp_path, "fe80::1%lo")
    checked = run("server_helper.py", suite.ini, "check").stdout
    assert f"ok:      TCP port {suite.ke_port} of fe80::1%lo is free\n" in checked
    assert f"ok:      UDP port {suite.ntp_port} of fe80::1%lo is free\n" in checked
    try:
        assert f"NTS-KE on TCP [fe80::1%lo]:{suite.ke_port}; " in suite.start_ke().output()
        assert f"NTP on UDP [fe80::1%lo]:{suite.ntp_port}; " in suite.start_ts().output()
        target = ("fe80::1%lo", suite.ke_port, "-n", "localhost", "-c", suite.ca, "-o", suite.client_ini)
        done = run("ntske_client.py", *target)
        assert done.returncode == 0, done.stderr
        done = suite.ask("-n", 2, "-i", 0.01)
        assert done.returncode == 0, done.stderr
    finally:
        suite.stop()


@needs_v6
def test_an_interface_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    suite = made(tmp_path, "fe80::1%nowhere0")
    for script in ("ntske_server.py", "ntsts_server.py"):
        one_error(
            run(script, suite.ini), 2, "cannot listen on .*fe80::1%nowhere0.*: this machine has no interface nowhere0"
        )
    checked = run("server_helper.py", suite.ini, "check")
    assert checked.stdout.count("this machine has no interface nowhere0") == 2
    assert checked.returncode == 1


def test_a_zone_is_shown() -> None:
    assert addresses.format_address(("fe80::1", 4460, 0, socket.if_nametoindex("lo"))) == "[fe80::1%lo]:4460"
    assert addresses.format_address(("::1", 4460, 0, 0)) == "[::1]:4460"
