# SPDX-License-Identifier: MIT
"""The time server's way past the kernel's network stack: an AF_XDP socket for each receive queue of an interface.

`start` wants privileges, so it runs before they are given up; nothing later does. Whatever is missing is a reason for
the sockets, which are open in any case, to serve alone. The BPF program is attached by a link without a name: it leaves
with the last process of the server, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import mmap
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nts.base.errors import NTSError
from nts.server import xdp_filter
from nts.server.config import NtpConfig, Prefix
from nts.server.engine import Xsk
from nts.server.xdp_filter import Maps, Table
from nts.system import addresses, bpf, interfaces, privileges

PRIVILEGES = (privileges.CAP_NET_ADMIN, privileges.CAP_NET_RAW, privileges.CAP_IPC_LOCK, privileges.CAP_BPF)
"""what `start` takes, and nobody needs afterwards"""
MAX_QUEUES = 64
_PATIENCE = 2.0  # seconds, for what a predecessor leaves behind
_PAUSE = 0.02
_REASONS = {
    errno.EPERM: "it needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF",
    errno.EINVAL: "this kernel refuses it; it needs Linux 6.1",
    errno.EAFNOSUPPORT: "this kernel has no AF_XDP, or the service manager forbids it",
    errno.ENOBUFS: "the limit of locked memory is too low: 4 MiB for each queue (LimitMEMLOCK= in systemd)",
    errno.EBUSY: "another program uses XDP there",
}

T = TypeVar("T")


class NoXdp(NTSError):
    """AF_XDP cannot be used, and why."""


@dataclass
class Xdp:
    """The sockets of an interface, and the table of addresses that their BPF program uses."""

    interface: str
    index: int
    queues: list[Xsk]
    mode: str
    """for a person"""
    listening: tuple[bytes, ...]
    """the addresses to which the UDP sockets are bound"""
    table: mmap.mmap
    link: int
    """its descriptor, which keeps the program attached"""
    seen: bytes = b""

    def of_worker(self, worker: int, workers: int) -> list[Xsk]:
        """The sockets that this one of so many workers serves."""
        return self.queues[worker::workers]

    def lost(self) -> int:
        """How many frames the kernel had no room for."""
        return sum(x.lost() for x in self.queues)

    def look(self) -> bool:
        """Follow the machine's addresses. Returns whether the interface is still there."""
        with contextlib.suppress(OSError):  # no descriptors left: the addresses stay as they are
            self.follow()
        try:
            return socket.if_nametoindex(self.interface) == self.index
        except OSError:
            return False

    def follow(self) -> None:
        """Let the BPF program know the addresses as they are now. OSError."""
        table = table_of(self.interface, self.listening).pack()
        if table != self.seen:
            self.table[: len(table)] = self.seen = table


def table_of(interface: str, listening: Iterable[bytes]) -> Table:
    """The addresses at which the server is asked through this interface: its own, and those of lo that lead outside.

    `listening` are the addresses to which its sockets are bound. OSError.
    """
    bound = set(listening)
    found = [a for a in interfaces.addresses() if a.interface in (interface, "lo")]
    own: dict[int, list[bytes]] = {4: [], 16: []}
    for _, address, _ in found:
        length = len(address)
        if length in own and _leads_outside(address) and (bytes(length) in bound or address in bound):
            own[length].append(address)
    ethernet = [a.address for a in found if len(a.address) == 6 and a.interface == interface]
    broadcast = tuple(a.broadcast for a in found if a.broadcast)
    return Table(ethernet[0] if ethernet else bytes(6), tuple(own[4]), tuple(own[16]), broadcast)


def _leads_outside(address: bytes) -> bool:
    ip = ipaddress.ip_address(address)
    return not (ip.is_loopback or (ip.version == 6 and ip.is_link_local) or address[:8] == bytes(8))


def start(config: NtpConfig, sockets: Iterable[socket.socket]) -> Xdp:
    """Take the requests to these UDP sockets that come through an interface. NoXdp when that cannot be."""
    names = [s.getsockname()[:2] for s in sockets]
    bound, port = tuple({addresses.packed(host) for host, _ in names}), names[0][1]
    _allow_locked_memory()
    with contextlib.ExitStack() as undo:
        try:
            index = socket.if_nametoindex(config.xdp)
            queues = [_open_queue(index, q, undo) for q in range(queues_of(config.xdp))]
            program, maps = _load(config, port, undo)
            table = undo.enter_context(contextlib.closing(mmap.mmap(maps.table, xdp_filter.TABLE_SIZE)))
            for q, xsk in enumerate(queues):
                bpf.update_map(maps.sockets, _u32(q), _u32(xsk.descriptor))
            link, native = _attach(program, index)
            undo.callback(os.close, link)
            mode = f"{'native' if native else 'generic'}, {'zero-copy' if queues[0].zero_copy else 'copy'}"
            xdp = Xdp(config.xdp, index, queues, mode, bound, table, link)
            xdp.follow()
        except OSError as e:
            raise _no_xdp(e) from None
        undo.pop_all()
    return xdp


def try_out(config: NtpConfig) -> None:
    """All of `start` that does not touch the interface. NoXdp, LibraryError."""
    _allow_locked_memory()
    with contextlib.ExitStack() as undo:
        try:
            socket.if_nametoindex(config.xdp)
            undo.callback(Xsk().close)
            _load(config, config.port, undo)
        except OSError as e:
            raise _no_xdp(e) from None


def queues_of(interface: str) -> int:
    """How many queues of an interface are served."""
    return min(interfaces.queues(interface), MAX_QUEUES)


def _no_xdp(e: OSError) -> NoXdp:
    return NoXdp(_REASONS.get(e.errno or 0, e.strerror or str(e)))


def _load(config: NtpConfig, port: int, undo: contextlib.ExitStack) -> tuple[int, Maps]:
    """The program for requests to this port, and its maps. OSError."""
    table = _descriptor(bpf.create_map(bpf.ARRAY, 4, xdp_filter.TABLE_SIZE, 1, bpf.MAPPABLE), undo)
    xskmap = _descriptor(bpf.create_map(bpf.XSKMAP, 4, 4, MAX_QUEUES), undo)
    sources = (sources_map(config.xdp_allow, config.xdp_deny, version, undo) for version in (4, 6))
    maps = Maps(xskmap, table, *sources)
    return _descriptor(bpf.load(xdp_filter.program(port, maps)), undo), maps


def _u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def _allow_locked_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))


def _descriptor(descriptor: int, undo: contextlib.ExitStack) -> int:
    undo.callback(os.close, descriptor)
    return descriptor


def _patiently(attempt: Callable[[], T]) -> T:
    """Try again while a predecessor still goes. OSError."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return attempt()
        except OSError as e:
            if e.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(_PAUSE)


def _open_queue(interface: int, queue: int, undo: contextlib.ExitStack) -> Xsk:
    xsk = Xsk()
    undo.callback(xsk.close)
    _patiently(lambda: xsk.bind(interface, queue))
    return xsk


def _attach(program: int, interface: int) -> tuple[int, bool]:
    """The link, and whether the driver runs the program itself."""
    try:
        return _patiently(lambda: bpf.attach(program, interface, bpf.NATIVE)), True
    except OSError as e:
        if e.errno in (errno.EBUSY, errno.EPERM):
            raise
    return _patiently(lambda: bpf.attach(program, interface, bpf.GENERIC)), False


def sources_map(
    allow: Sequence[Prefix], deny: Sequence[Prefix], version: int, undo: contextlib.ExitStack
) -> int | None:
    """A map that tells which sources of this IP version to serve; None where that is all. OSError."""
    rules = [(prefix, allowed) for prefixes, allowed in ((allow, 1), (deny, 0)) for prefix in prefixes]
    if not rules:
        return None
    length = 4 if version == 4 else 16
    trie = _descriptor(bpf.create_map(bpf.LPM_TRIE, 4 + length, 4, len(rules) + 1, bpf.NO_PREALLOCATION), undo)
    bpf.update_map(trie, _u32(0) + bytes(length), _u32(not allow))
    for prefix, allowed in rules:
        if prefix.version == version:
            bpf.update_map(trie, _u32(prefix.prefixlen) + prefix.network_address.packed, _u32(allowed))
    return trie
