# SPDX-License-Identifier: MIT
"""Network namespaces of a test's own, in which it may set up interfaces as it needs them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cffi import FFI

from testkit.processes import HAS_V6

CLONE_NEWNET = 0x40000000  # unshare(2)
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # netdevice(7)
SIOCETHTOOL = 0x8946
CHECKSUMS, SEGMENTATION, GRO = 0x17, 0x1F, 0x2C  # <linux/ethtool.h>: ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGRO

_ffi = FFI()
_ffi.cdef("int unshare(int flags); int setns(int fd, int type);")


def libc() -> Any:
    """The C library's unshare() and setns()."""
    return _ffi.dlopen(None)


def nft(rules: str) -> None:
    """Load a script of nftables in this thread's network. Skips where there is no nft, or it is not allowed."""
    program = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("no nft: install nftables")
    done = subprocess.run([program, "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nft: {done.stderr.strip()}")


@contextlib.contextmanager
def own_loopback() -> Iterator[None]:
    """`own_network`, with its loopback interface up."""
    with own_network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("@16s24s", b"lo", struct.pack("@h", IFF_UP)))
        yield


class OtherNetwork:
    """A network beside this thread's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def path(self) -> str:
        """For `ip`, which takes it where it takes the name of a namespace."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts, are there for the length of the block."""
        libc: Any = _ffi.dlopen(None)
        with open("/proc/thread-self/ns/net", "rb") as home:  # noqa: PTH123
            assert libc.setns(self._descriptor, CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0


def ip(command: str) -> None:
    """Run `ip` in this thread's network. Skips where there is none."""
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("no ip: install iproute2")
    done = subprocess.run([program, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {command}: {done.stderr}"


def ethtool(interface: str, setting: int, value: int) -> None:
    """Set an ETHTOOL_S... of <linux/ethtool.h> for an interface in this thread's network."""
    wanted = _ffi.new("unsigned int[2]", [setting, value])
    request = struct.pack("@16sP16x", interface.encode(), int(_ffi.cast("uintptr_t", wanted)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)


@contextlib.contextmanager
def other_network() -> Iterator[OtherNetwork]:
    """This thread in a network of its own, and another one beside it. Both have only a loopback interface."""
    with own_loopback(), open("/proc/thread-self/ns/net", "rb") as other, own_loopback():  # noqa: PTH123
        yield OtherNetwork(other.fileno())


def join(other: OtherNetwork, near: str, far: str, net: int, queues: int = 1) -> None:
    """Join the two networks: 10.NET.0.1 and fd00:NET::1 here, .2 and ::2 there."""
    count = f"numrxqueues {queues} numtxqueues {queues}"
    ip(f"link add {near} {count} type veth peer name {far} {count} netns {other.path}")
    for name, host in ((near, 1), (far, 2)):
        with other.inside() if name == far else contextlib.nullcontext():
            ip(f"addr add 10.{net}.0.{host}/24 broadcast + dev {name}")
            if HAS_V6:
                ip(f"addr add fd00:{net}::{host}/64 dev {name} nodad")
            ip(f"link set {name} up")


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace with nothing but a loopback interface that is down."""
    with open("/proc/thread-self/ns/net", "rb") as home:  # noqa: PTH123 - a descriptor is all that is wanted
        if libc().unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace of one's own: {os.strerror(_ffi.errno)} (needs root)")
        try:
            yield
        finally:
            assert libc().setns(home.fileno(), CLONE_NEWNET) == 0
