# SPDX-License-Identifier: MIT
"""The plots of a server's history: grade, verdicts, offset, certificate. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nts.check.output.grade import LETTERS
from nts.check.site import svg
from nts.check.site.history import Run
from nts.check.site.svg import Point

MOST = 400  # runs in a plot; more would not be told apart
_STACK = {"FAIL": "failed", "WARN": "warned", "open": "open"}


def plots(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """A caption and a picture each, for what the runs tell."""
    shown = runs[-MOST:]
    for caption, picture in (_grades(shown), _verdicts(shown), _offsets(shown), _certificate(shown)):
        if picture:
            yield caption, picture


def _grades(runs: Sequence[Run]) -> tuple[str, str]:
    caption = "Grade; hollow: not reached, or not graded"
    points = [
        Point(r.seconds, -r.rank, f"{r.when}: {r.letter or ('unreachable' if r.failure else 'no grade')}",
              mark="dot" if r.letter else "none")
        for r in runs
    ]  # fmt: skip
    ticks = [(-float(i), letter) for i, letter in enumerate((*LETTERS, "none"))][::-1]
    return caption, svg.line(caption, points, ticks) if any(r.letter for r in runs) else ""


def _verdicts(runs: Sequence[Run]) -> tuple[str, str]:
    caption = "Checks that failed (red), warned (yellow) or could not be judged (grey)"
    stacks = [
        [Point(r.seconds, r.counts[v], f"{r.when}: {r.counts[v]} {said}", mark=v) for v, said in _STACK.items()]
        for r in runs
        if r.results
    ]
    return caption, svg.bars(caption, stacks) if stacks else ""


def _offsets(runs: Sequence[Run]) -> tuple[str, str]:
    found = [
        (r, offset, bound)
        for r in runs
        if (offset := r.number("ntp.offset_s")) is not None and (bound := r.number("ntp.offset_bound_s")) is not None
    ]
    if not found:
        return "", ""
    scale, unit = svg.unit_of(max(abs(offset) + abs(bound) for _, offset, bound in found))
    points = [
        Point(r.seconds, offset * scale, f"{r.when}: {offset * scale:.4g} {unit}, +/- {bound * scale:.4g}",
              error=bound * scale)
        for r, offset, bound in found
    ]  # fmt: skip
    caption = f"Offset from the clock of whoever asked, with its bound, in {unit}"
    return caption, svg.line(caption, points)


def _certificate(runs: Sequence[Run]) -> tuple[str, str]:
    caption = "Days until the certificate expires"
    found = [(r, days) for r in runs if (days := r.number("certificate.days_left")) is not None]
    points = [Point(r.seconds, days, f"{r.when}: {days:g} days") for r, days in found]
    return caption, svg.line(caption, points, _from_zero(points)) if points else ""


def _from_zero(points: Sequence[Point]) -> list[tuple[float, str]]:
    values = [p.value for p in points]
    return [(v, f"{v:g}") for v in svg.nice(min(0.0, *values), max(1.0, *values))]
