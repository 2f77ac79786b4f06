# SPDX-License-Identifier: MIT
"""Runs the time server's BPF program on single frames, in the kernel but without an interface (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from nts.server import xdp, xdp_filter
from nts.server.config import Prefix
from nts.server.engine import Xsk
from nts.server.xdp_filter import Maps, Table
from nts.system import bpf

_TEST_RUN = 10
_ROOM = 4096
_ATTRIBUTES = struct.Struct("=4I2Q4I2Q")  # to `ctx_out` in union bpf_attr


class Judged(NamedTuple):
    """What became of a frame."""

    action: int
    stamp: int | None
    """nanoseconds by CLOCK_TAI, if one was put before it"""


class Filter:
    """The program, with its maps and a socket for queue 0."""

    def __init__(self, program: int) -> None:
        self._program = program

    def judge(self, frame: bytes) -> Judged:
        """Run it."""
        data, out = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(_ROOM)
        context = ctypes.create_string_buffer(struct.pack("=6I", 0, len(frame), 0, 0, 0, 0), 24)  # struct xdp_md
        pointers = map(ctypes.addressof, (data, out, context, context))
        wanted = self._program, 0, len(frame), _ROOM, next(pointers), next(pointers), 1, 0, 24, 24, *pointers
        attributes = ctypes.create_string_buffer(_ATTRIBUTES.pack(*wanted), _ATTRIBUTES.size)
        libc = ctypes.CDLL(None, use_errno=True)
        number = bpf.SYSTEM_CALL[os.uname().machine]
        if libc.syscall(ctypes.c_long(number), _TEST_RUN, attributes, _ATTRIBUTES.size) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _, action, _, size, *_ = _ATTRIBUTES.unpack(attributes)
        found = out.raw[:size]
        if size == len(frame):
            assert found == frame
            return Judged(action, None)
        assert found[8:] == frame
        return Judged(action, *struct.unpack_from("=Q", found))

    def takes(self, frame: bytes) -> bool:
        """Whether the AF_XDP socket gets it; else it passes."""
        judged = self.judge(frame)
        assert judged.action in (bpf.REDIRECT, bpf.PASS)
        assert (judged.action == bpf.REDIRECT) == (judged.stamp is not None)
        return judged.action == bpf.REDIRECT


@contextlib.contextmanager
def loaded(
    table: Table, port: int, allow: tuple[Prefix, ...] = (), deny: tuple[Prefix, ...] = (), *, served: bool = True
) -> Iterator[Filter]:
    """The program for this table, until the end of the block. Skips where it cannot be loaded."""
    with contextlib.ExitStack() as stack:
        try:
            array = bpf.create_map(bpf.ARRAY, 4, xdp_filter.TABLE_SIZE, 1, bpf.MAPPABLE)
        except OSError as e:
            pytest.skip(f"no BPF: {e.strerror} (needs root)")
        stack.callback(os.close, array)
        sockets = bpf.create_map(bpf.XSKMAP, 4, 4, 1)
        stack.callback(os.close, sockets)
        if served:
            xsk = Xsk()
            stack.callback(xsk.close)
            bpf.update_map(sockets, bytes(4), struct.pack("=I", xsk.descriptor))
        with mmap.mmap(array, xdp_filter.TABLE_SIZE) as memory:
            memory[:] = table.pack()
        tries = (xdp.sources_map(allow, deny, version, stack) for version in (4, 6))
        program = bpf.load(xdp_filter.program(port, Maps(sockets, array, *tries)))
        stack.callback(os.close, program)
        yield Filter(program)
