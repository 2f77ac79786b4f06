# SPDX-License-Identifier: MIT
"""BPF by its system call (bpf(2)): maps, programs assembled from single instructions, links to interfaces.

No compiler, libbpf or libxdp. Everything that is made here is a file descriptor, and gone with the last process that
has it open.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterator

SYSTEM_CALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}  # __NR_bpf
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _LINK_CREATE = 0, 2, 5, 28
ARRAY, LPM_TRIE, XSKMAP = 2, 11, 17  # types of maps
NO_PREALLOCATION, MAPPABLE = 1 << 0, 1 << 10
_XDP_PROGRAM, _XDP_ATTACHMENT = 6, 37
GENERIC, NATIVE = 1 << 1, 1 << 2  # XDP_FLAGS_...
LOOKUP, REDIRECT_MAP, ADJUST_META, TAI_TIME = 1, 51, 54, 208  # helpers of the kernel
DROP, PASS, REDIRECT = 1, 2, 4  # what becomes of a frame


def _call(command: int, attributes: bytes) -> int:
    """OSError; ENOSYS on a machine whose number of the system call is not known here."""
    number = SYSTEM_CALL.get(platform.machine(), -1)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(libc.syscall(ctypes.c_long(number), command, buffer, len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def create_map(kind: int, key_size: int, value_size: int, entries: int, flags: int = 0) -> int:
    """The descriptor of a new map."""
    return _call(_MAP_CREATE, struct.pack("=5I", kind, key_size, value_size, entries, flags))


def update_map(descriptor: int, key: bytes, value: bytes) -> None:
    """Set an entry."""
    held = [ctypes.create_string_buffer(octets, len(octets)) for octets in (key, value)]
    _call(_MAP_UPDATE, struct.pack("=IxxxxQQQ", descriptor, *map(ctypes.addressof, held), 0))


def load(code: bytes) -> int:
    """The descriptor of an XDP program. OSError when the kernel refuses it."""
    held, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"MIT")
    pointers = ctypes.addressof(held), ctypes.addressof(licence)
    attributes = struct.pack("=IIQQ", _XDP_PROGRAM, len(code) // 8, *pointers)
    # No log, kernel version, flags, name, or interface.
    return _call(_PROG_LOAD, attributes + bytes(44) + struct.pack("=I", _XDP_ATTACHMENT))


def attach(program: int, interface: int, mode: int) -> int:
    """The descriptor of the link that makes the interface with this index run the program, until it is closed."""
    return _call(_LINK_CREATE, struct.pack("=4I", program, interface, _XDP_ATTACHMENT, mode))


class Register(int):
    """One of R0 to R10."""


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = map(Register, range(11))
"""R0: result of a helper; R1 to R5: its arguments, lost when it is called; R6 to R9: kept; R10: end of the stack."""

_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # BPF_B, BPF_H, BPF_W, BPF_DW
_CONDITIONS = {"==": 0x10, ">": 0x20, ">=": 0x30, "!=": 0x50, "<": 0xA0, "<=": 0xB0}  # unsigned


class Assembler:
    """Collects instructions; jumps lead to labels, which come later. Numbers are as this machine loads them."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}
        self._unique = 0

    def _emit(self, operation: int, target: int = 0, source: int = 0, offset: int | str = 0, value: int = 0) -> None:
        self._code.append((operation, target, source, offset, value))

    def load(self, size: int, target: Register, base: Register, offset: int) -> None:
        """target = `size` octets at base + offset"""
        self._emit(0x61 | _SIZES[size], target, base, offset)

    def store(self, size: int, base: Register, offset: int, source: Register) -> None:
        """`size` octets at base + offset = source"""
        self._emit(0x63 | _SIZES[size], base, source, offset)

    def move(self, target: Register, value: Register | int) -> None:
        """target = value"""
        self._arithmetic(0xB7, target, value)

    def add(self, target: Register, value: Register | int) -> None:
        """target += value"""
        self._arithmetic(0x07, target, value)

    def mask(self, target: Register, value: Register | int) -> None:
        """target &= value"""
        self._arithmetic(0x57, target, value)

    def _arithmetic(self, operation: int, target: Register, value: Register | int) -> None:
        if isinstance(value, Register):
            self._emit(operation | 0x08, target, value)
        else:
            self._emit(operation, target, value=value)

    def to_big_endian(self, target: Register, bits: int) -> None:
        """Turn what was loaded from the network into a number that can be compared for size."""
        self._emit(0xDC, target, value=bits)

    def map(self, target: Register, descriptor: int) -> None:
        """target = the map, for a helper"""
        self._wide(target, 1, descriptor)

    def value(self, target: Register, descriptor: int) -> None:
        """target = the address of the only value of an array"""
        self._wide(target, 2, descriptor)

    def _wide(self, target: Register, kind: int, descriptor: int) -> None:
        self._emit(0x18, target, kind, value=descriptor)
        self._emit(0)

    def jump(self, label: str, left: Register | None = None, condition: str = "", right: Register | int = 0) -> None:
        """Go to the label, if left and right are so."""
        if left is None:
            self._emit(0x05, offset=label)
        elif isinstance(right, Register):
            self._emit(0x0D | _CONDITIONS[condition], left, right, label)
        else:
            self._emit(0x05 | _CONDITIONS[condition], left, 0, label, right)

    def call(self, helper: int) -> None:
        """R0 = helper(R1, R2, ...)"""
        self._emit(0x85, value=helper)

    def exit(self) -> None:
        """Return R0."""
        self._emit(0x95)

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._code)

    def new_label(self) -> str:
        """A name that has not been used."""
        self._unique += 1
        return str(self._unique)

    def code(self) -> bytes:
        """The program."""
        return b"".join(self._encoded())

    def _encoded(self) -> Iterator[bytes]:
        for at, (operation, target, source, offset, value) in enumerate(self._code):
            distance = self._labels[offset] - at - 1 if isinstance(offset, str) else offset
            registers = target | source << 4 if sys.byteorder == "little" else target << 4 | source
            yield struct.pack("=BBhi", operation, registers, distance, value)
