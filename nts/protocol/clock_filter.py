# SPDX-License-Identifier: MIT
"""NTP's clock filter (RFC 5905 section 10): the best of the last eight samples of a server.

The sample with the least delay has waited least in queues, so its offset is the best one. Samples age: our clock may
have drifted by 15 ppm since. The filter holds as long as nobody steps our clock; then `clear` it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from nts.codec.ntp import NS

STAGES = 8
_MAX_DISPERSION = 16 * NS  # of an empty stage: MAXDISP
_PHI = 15  # parts per million, or nanoseconds in a millisecond: the most that a clock is taken to drift


@dataclass(frozen=True)
class Sample:
    """One measurement, in nanoseconds."""

    offset: int
    delay: int
    error: int
    """upper bound of the offset's error"""
    at: int
    """when it was made, by a clock that nobody sets"""

    def error_at(self, now: int) -> int:
        """Upper bound of the offset's error by now."""
        return self.error + (now - self.at) * _PHI // 1_000_000


@dataclass(frozen=True)
class Filtered:
    """What the samples amount to, in nanoseconds. Offset, delay and error are those of the best sample."""

    offset: int
    delay: int
    error: int
    """upper bound of the offset's error by now"""
    jitter: int
    """root mean square of how far the other offsets are from the best one"""
    dispersion: int
    """the samples' errors, each counting half as much as the one before it; an empty stage has 16 s"""
    samples: int
    """how many there are, eight at most"""


class ClockFilter:
    """The last eight samples of one server."""

    def __init__(self) -> None:
        self._stages: deque[Sample] = deque(maxlen=STAGES)

    def add(self, sample: Sample) -> None:
        """Take a sample, which pushes out the oldest of eight."""
        self._stages.append(sample)

    def clear(self) -> None:
        """Forget all samples: our clock has been stepped."""
        self._stages.clear()

    def result(self, now: int) -> Filtered | None:
        """The result by the same clock as the samples' `at`. None without any sample."""
        ranked = sorted(self._stages, key=lambda s: (s.delay, -s.at))  # of equals, the newest
        if not ranked:
            return None
        best, *others = ranked
        errors = [s.error_at(now) for s in ranked] + [_MAX_DISPERSION] * (STAGES - len(ranked))
        squares = sum((s.offset - best.offset) ** 2 for s in others)
        return Filtered(
            offset=best.offset,
            delay=best.delay,
            error=errors[0],
            jitter=math.isqrt(squares // max(len(others), 1)),
            dispersion=sum(error >> rank for rank, error in enumerate(errors, 1)),
            samples=len(ranked),
        )
