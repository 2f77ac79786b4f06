# SPDX-License-Identifier: MIT
"""A cursor over received octets, with the bounds checks of all parsers.

Every read returns exactly what was asked for, or raises FormatError.
"""

from __future__ import annotations

from nts.base.errors import FormatError
from nts.base.text import counted


class Reader:
    """Reads network-order integers and octet strings from `data`, front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = len(data)
        self.position = 0

    @property
    def remaining(self) -> int:
        """Octets not read yet."""
        return self._end - self.position

    def take(self, count: int) -> bytes:
        """The next `count` octets."""
        if count > self.remaining:
            raise FormatError(f"{counted(count, 'octet')} expected at offset {self.position}, {self.remaining} left")
        self.position += count
        return self._data[self.position - count : self.position]

    def rest(self) -> bytes:
        """All octets not read yet."""
        return self.take(self.remaining)

    def u16(self) -> int:
        """The next two octets as an integer."""
        return int.from_bytes(self.take(2), "big")

    def u16_list(self) -> list[int]:
        """All octets not read yet, as 16-bit integers."""
        if self.remaining % 2:
            raise FormatError(f"a list of 16-bit integers of odd length {self.remaining}")
        return [self.u16() for _ in range(self.remaining // 2)]


def u16(value: int) -> bytes:
    """An integer as two octets."""
    return value.to_bytes(2, "big")


def pad4(data: bytes) -> bytes:
    """`data`, zero-padded to a multiple of four octets (RFC 7822 section 7.5)."""
    return data + bytes(-len(data) % 4)
