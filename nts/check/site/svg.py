# SPDX-License-Identifier: MIT
"""Pictures as SVG: a badge, and plots of a history. Pure: numbers in, markup out.

A badge is a file of its own, so it has its colours in it. A plot is part of a page, whose style gives it its colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape

LETTER_COLOURS = {
    "A+": "#14703a", "A": "#1a7f37", "B": "#4a7a12", "C": "#8a6100", "D": "#b04a00", "F": "#c21d2c",
}  # fmt: skip
"""each with a contrast of 4.5 or more to white"""
NO_COLOUR = "#5a626c"

_LABEL = "NTS"
_ADVANCE = 7  # of a character of 11 pixels
WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 22
_TICKS = 4
_STEPS = (1, 2, 5, 10)
_UNITS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (math.inf, 1.0, "s"))


def badge(text: str, colour: str) -> str:
    """A badge that says this of a server, as a file."""
    left, right = _ADVANCE * len(_LABEL) + 14, _ADVANCE * len(text) + 14
    middle = left + right / 2
    said = escape(f"{_LABEL}: {text}")
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{said}">
<title>{said}</title>
<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>
<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3c4249"/>\
<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">
<text x="{left / 2:g}" y="14">{_LABEL}</text><text x="{middle:g}" y="14" font-weight="bold">{escape(text)}</text></g>
</svg>
"""


@dataclass(frozen=True)
class Point:
    """A value at a time."""

    at: float
    """Unix time"""
    value: float
    said: str
    """what it is, for a person"""
    error: float = 0.0
    mark: str = "dot"
    """the class of the mark; a bar has that of what it counts"""


class Frame:
    """Where times and values lie in a plot."""

    def __init__(self, points: Sequence[Point], ticks: Sequence[tuple[float, str]]) -> None:
        self.begin, self.end = min(p.at for p in points), max(p.at for p in points)
        self.ticks = ticks
        self.low, self.high = ticks[0][0], ticks[-1][0]

    def x(self, at: float) -> float:
        span = self.end - self.begin
        share = (at - self.begin) / span if span else 0.5
        return round(_LEFT + 8 + share * (WIDTH - _LEFT - _RIGHT - 16), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def axes(self) -> str:
        """Grid lines with their values, and the dates below."""
        parts = []
        for value, text in self.ticks:
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>')
            parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:g}" text-anchor="end">{escape(text)}</text>')
        first, last = _dates(self.begin, self.end)
        bottom = HEIGHT - 5
        parts.append(f'<text x="{_LEFT}" y="{bottom}">{first}</text>')
        parts.append(f'<text x="{WIDTH - _RIGHT}" y="{bottom}" text-anchor="end">{last}</text>')
        return "".join(parts)

    def picture(self, title: str, inside: str) -> str:
        return (
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
            f"{self.axes()}{inside}</svg>"
        )


def _dates(begin: float, end: float) -> tuple[str, str]:
    """The labels of the two ends: days, or times if it is the same day."""
    first, last = (datetime.fromtimestamp(at, timezone.utc) for at in (begin, end))
    form = "%H:%M" if first.date() == last.date() else "%Y-%m-%d"
    return first.strftime(form), last.strftime(form)


def nice(low: float, high: float) -> list[float]:
    """Round values from below `low` to above `high`, a few."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(s * power for s in _STEPS if span / (s * power) <= _TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _marked(frame: Frame, point: Point) -> str:
    x, y = frame.x(point.at), frame.y(point.value)
    bar = ""
    if point.error:
        ends = (frame.y(point.value + sign * point.error) for sign in (-1, 1))
        bar = '<path class="error" d="M{} {}V{}"/>'.format(x, *ends)
    return f'<g><title>{escape(point.said)}</title>{bar}<circle class="{point.mark}" cx="{x}" cy="{y}" r="3"/></g>'


def line(title: str, points: Sequence[Point], ticks: Sequence[tuple[float, str]] | None = None) -> str:
    """Points in time, joined by a line, with error bars if they have errors. At least one point."""
    if ticks is None:
        values = nice(min(p.value - p.error for p in points), max(p.value + p.error for p in points))
        ticks = [(value, f"{value:.6g}") for value in values]
    frame = Frame(points, ticks)
    path = "L".join(f"{frame.x(p.at)} {frame.y(p.value)}" for p in points)
    return frame.picture(title, f'<path class="line" d="M{path}"/>' + "".join(_marked(frame, p) for p in points))


def bars(title: str, stacks: Sequence[Sequence[Point]]) -> str:
    """Bars in time, each a stack of counts from the bottom up. At least one stack."""
    most = max(sum(p.value for p in stack) for stack in stacks)
    frame = Frame([p for stack in stacks for p in stack], [(v, f"{v:g}") for v in nice(0, max(4, most))])
    width = max(1.5, min(10.0, 0.6 * (WIDTH - _LEFT - _RIGHT) / len(stacks)))
    parts = []
    for stack in stacks:
        bottom = 0.0
        for point in stack:
            top = frame.y(bottom + point.value)
            x, height = frame.x(point.at) - width / 2, frame.y(bottom) - top
            bottom += point.value
            if point.value:
                parts.append(
                    f'<rect class="{point.mark}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height:.1f}">'
                    f"<title>{escape(point.said)}</title></rect>"
                )
    return frame.picture(title, "".join(parts))


def short(seconds: float) -> str:
    """A time in the unit that suits it: +12 µs."""
    scale, unit = unit_of(abs(seconds))
    return f"{seconds * scale:+.3g} {unit}"


def unit_of(largest: float) -> tuple[float, str]:
    """What to multiply seconds with, and the unit that this gives, for values up to this."""
    return next((scale, unit) for limit, scale, unit in _UNITS if largest < limit)
