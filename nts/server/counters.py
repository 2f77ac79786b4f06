# SPDX-License-Identifier: MIT
"""Memory that all processes of a server share: what its workers count, laid out by families, and a board for notes.

Each worker has a block of cells that only it writes. A `Layout` says what the cells of a block are, so that whoever
shows them can go through them without knowing any: name, help, label, and the value of the label for each cell.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True)
class Family:
    """Counters that differ in the value of one label."""

    name: str
    """of the metric, without `_total`"""
    help: str
    label: str = ""
    """empty: there is only one cell"""
    values: tuple[str, ...] = ("",)
    """the label of each cell, in their order"""

    def __len__(self) -> int:
        return len(self.values)


def by_verdict(name: str, help: str, verdicts: type[IntEnum]) -> Family:
    """A family with a cell for each verdict, which is its index."""
    return Family(name, help, "verdict", tuple(v.name.lower() for v in verdicts))


class Histogram(Family):
    """Durations. Cells: how many were at most so long, but longer than the value before; the last one is their sum.

    The values are upper bounds in seconds, then "+Inf", then "sum", which is in microseconds.
    """

    def __init__(self, name: str, help: str, bounds: tuple[float, ...]) -> None:
        super().__init__(name, help, "le", (*(f"{b:g}" for b in bounds), "+Inf", "sum"))


class Gauge(Family):
    """Numbers that also become smaller."""


def shared_cells(count: int) -> memoryview:
    """Numbers of 64 bits that this process shares with those forked from it. All are 0."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("Q")


class Layout:
    """Families one after the other. The first one's cells count the verdicts."""

    def __init__(self, *families: Family) -> None:
        self.families = families
        self.offsets: dict[str, int] = {}
        """of each family's first cell, by name"""
        self.size = 0
        for family in families:
            self.offsets[family.name] = self.size
            self.size += len(family)


class Counters:
    """The cells of all workers. They can be read at any time."""

    def __init__(self, layout: Layout, worker_count: int) -> None:
        self.layout, self._worker_count = layout, worker_count
        self._cells = shared_cells(layout.size * worker_count)

    def of(self, worker: int) -> memoryview:
        """The cells of one worker. Only that worker writes them."""
        size = self.layout.size
        return self._cells[worker * size : (worker + 1) * size]

    def sums(self) -> Iterator[tuple[Family, list[int]]]:
        """Each family with its cells, summed over all workers."""
        blocks = [self.of(w) for w in range(self._worker_count)]
        for family in self.layout.families:
            start = self.layout.offsets[family.name]
            yield family, [sum(block[i] for block in blocks) for i in range(start, start + len(family))]

    def totals(self) -> dict[str, int]:
        """The sums of the first family, by the value of its label, zeros left out."""
        family, cells = next(self.sums())
        return {name: count for name, count in zip(family.values, cells, strict=True) if count}


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
