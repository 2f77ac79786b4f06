# SPDX-License-Identifier: MIT
"""Hosts of a test's own: network namespaces with an address each, on one bridge. Needs root and iproute2."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from testkit.namespaces import CLONE_NEWNET, libc

IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Hosts:
    """Made one by one; `network` ends them all."""

    def __init__(self) -> None:
        self._prefix, self._names, self._lock = f"nts{os.getpid()}", list[str](), threading.Lock()

    def add(self, name: str) -> str:
        """A host of this name; its address."""
        space = self.space(name)
        with self._lock:
            address = f"10.77.0.{len(self._names)}"
            self._ip("netns", "add", space)
            self._names.append(name)
        self._ip("-n", space, "link", "set", "lo", "up")
        if name != "hub":
            self._ip(
                "link",
                "add",
                "eth0",
                "netns",
                space,
                "type",
                "veth",
                "peer",
                "name",
                f"x{name}",
                "netns",
                self.space("hub"),
            )
            self._ip("-n", self.space("hub"), "link", "set", "dev", f"x{name}", "master", "bridge", "up")
            self._ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            self._ip("-n", space, "link", "set", "eth0", "up")
        return address

    def space(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def command(self, name: str, command: Sequence[object]) -> list[str]:
        """The command, on this host."""
        assert IP is not None
        return [IP, "netns", "exec", self.space(name), *map(str, command)]

    def cut(self, name: str, addresses: Sequence[str], *, whole: bool = True) -> None:
        """Let nothing pass between a host and these addresses, or (`whole` is False) let it pass again."""
        for address in addresses:
            self._ip("-n", self.space(name), "route", "add" if whole else "del", "blackhole", f"{address}/32")

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[None]:
        """This thread, on that host."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.space(name)}", os.O_RDONLY)
        try:
            assert libc().setns(there, CLONE_NEWNET) == 0
            yield
        finally:
            assert libc().setns(home, CLONE_NEWNET) == 0
            os.close(home)
            os.close(there)

    def remove(self) -> None:
        for name in self._names:
            self._ip("netns", "del", self.space(name))

    def _ip(self, *words: str) -> None:
        assert IP is not None
        subprocess.run([IP, *words], check=True, capture_output=True, timeout=10)


@contextlib.contextmanager
def network() -> Iterator[Hosts]:
    """A bridge, for hosts to be added. Skips where that is not allowed."""
    if IP is None or os.geteuid() != 0 or not Path("/run").is_dir():
        pytest.skip("no network namespaces: this needs root and `ip` (Debian: iproute2)")
    hosts = Hosts()
    for left in Path("/run/netns").glob("nts*-*"):  # by a test that was killed
        pid = left.name.partition("-")[0].removeprefix("nts")
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            hosts._ip("netns", "del", left.name)
    try:
        try:
            hosts.add("hub")
            hosts._ip("-n", hosts.space("hub"), "link", "add", "bridge", "type", "bridge")
            hosts._ip("-n", hosts.space("hub"), "link", "set", "bridge", "up")
        except subprocess.CalledProcessError as e:
            pytest.skip(f"no network namespaces: {e.stderr.decode().strip()}")
        yield hosts
    finally:
        hosts.remove()
