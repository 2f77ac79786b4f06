# SPDX-License-Identifier: MIT
"""Which of several servers have the wrong time: NTP's intersection algorithm (RFC 5905 section 11.2.1).

Each server says that the true offset lies in an interval. If a majority of these have points in common, the servers
whose intervals lie outside are falsetickers. Two servers that contradict each other are no majority.

As in ntpd, midpoints do not count: a server far away has a wide interval, and its midpoint may be off without a lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Where a server says that the true offset is, both ends included."""

    offset: int
    error: int
    """upper bound of the offset's error"""

    @property
    def low(self) -> int:
        return self.offset - self.error

    @property
    def high(self) -> int:
        return self.offset + self.error


@dataclass(frozen=True)
class Majority:
    """What a majority agrees upon: from the first point that their intervals have in common to the last one."""

    low: int
    high: int

    def contradicts(self, interval: Interval) -> bool:
        """Whether a server with this interval is a falseticker."""
        return interval.high < self.low or interval.low > self.high


def majority(intervals: Sequence[Interval]) -> Majority | None:
    """What the majority agrees upon; None when there is no majority.

    It takes the fewest `wrong` servers, less than half, such that all but so many intervals have points in common.
    """
    ends = sorted(end for i in intervals for end in ((i.low, False), (i.high, True)))
    for wrong in range((len(intervals) + 1) // 2):
        wanted = len(intervals) - wrong
        low = _first_inside(ends, False, wanted)
        high = _first_inside(ends[::-1], True, wanted)
        if low is not None and high is not None:
            return Majority(low, high)
    return None


def _first_inside(ends: list[tuple[int, bool]], entry: bool, wanted: int) -> int | None:
    """The first point on the way along `ends` that so many intervals hold; None when there is none.

    On the way up, intervals begin at their low ends (`entry` False); on the way down, at their high ones.
    """
    inside = 0
    for point, is_high in ends:
        inside += 1 if is_high is entry else -1
        if inside >= wanted:
            return point
    return None
