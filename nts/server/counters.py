# SPDX-License-Identifier: MIT
"""What the workers of a server count, and what they and their parent tell each other, in memory that they share.

Each worker has a cell of 64 bits for every counter, which only it writes. So counting needs no lock, and reading them
costs the workers nothing.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True)
class Family:
    """Counters of the same thing, one for each value of a label; the metric of a name with `_total`."""

    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)

    @classmethod
    def of(cls, name: str, help: str, label: str, members: type[IntEnum]) -> Family:
        """A counter for each member of an enumeration that starts with 0, in its order."""
        return cls(name, help, label, tuple(m.name.lower() for m in members))


def shared_cells(count: int) -> memoryview:
    """Numbers of 64 bits that this process shares with those forked from it. All are 0."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("Q")


class Counters:
    """The cells of all workers: those of each family, one family after the other."""

    def __init__(self, families: Sequence[Family], worker_count: int) -> None:
        self.families = families
        self._size = sum(len(f.values) for f in families)
        self._worker_count = worker_count
        self._cells = shared_cells(self._size * worker_count)

    def of(self, worker: int) -> memoryview:
        """The cells of one worker."""
        return self._cells[worker * self._size : (worker + 1) * self._size]

    def totals(self, family: Family) -> dict[str, int]:
        """The sum over all workers for each value of the label."""
        start = 0
        for other in self.families:
            if other is family:
                break
            start += len(other.values)
        cells = [self.of(worker)[start : start + len(family.values)] for worker in range(self._worker_count)]
        return {value: sum(c[i] for c in cells) for i, value in enumerate(family.values)}


class Board:
    """What parent and workers tell each other, in shared memory."""

    def __init__(self, worker_count: int) -> None:
        self._cells = shared_cells(2 + worker_count)

    @property
    def reloads(self) -> int:
        """How often the operator has asked to load files again."""
        return self._cells[0]

    @property
    def restarts(self) -> int:
        """How many workers have been replaced."""
        return self._cells[1]

    def reload(self) -> None:
        """Ask the workers to load their files again."""
        self._cells[0] += 1

    def replaced(self) -> None:
        """Count a worker that was replaced."""
        self._cells[1] += 1

    def beat(self, worker: int) -> None:
        """Give a sign of life from a worker."""
        self._cells[2 + worker] = int(time.monotonic())

    def silent_since(self, then: float) -> list[int]:
        """The workers that have given no sign of life since `then`."""
        return [index for index, beat in enumerate(self._cells[2:]) if 0 < beat < then]
