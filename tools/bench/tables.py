# SPDX-License-Identifier: MIT
"""How figures are shown: a title, a table, and below it whether the goals are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from statistics import median

Figures = Mapping[str, Sequence[float]]
"""for each server, or whatever is compared, what it came to in each round"""


def ratio(figures: Figures, one: str, other: str) -> float:
    """The one by the other: the median over the rounds."""
    return median(a / b for a, b in zip(figures[one], figures[other], strict=True))


def hundredths(found: float, *, up: bool = False) -> Decimal:
    """A ratio as it is shown: rounded down, or up where less is better, so that a miss never looks like a hit."""
    return Decimal(str(found)).quantize(Decimal("0.01"), ROUND_CEILING if up else ROUND_FLOOR)


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """A table whose first column is text and whose others are numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for name, *numbers in (head, *rows):
        aligned = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        print("  " + "  ".join([name.ljust(widths[0]), *aligned]).rstrip())
    for note in notes:
        print(f"  {note}")
    print(end="", flush=True)


def compare(title: str, figures: Figures, rivals: Sequence[str], notes: Sequence[str] = ()) -> None:
    """A table of medians over the rounds, their range, and how many times those of the rivals they are."""
    rivals = [r for r in rivals if r in figures]
    rows = [
        [name, *(f"{x:,.0f}" for x in (median(values), min(values), max(values)))]
        + [f"{hundredths(ratio(figures, name, r))}" for r in rivals]
        for name, values in figures.items()
    ]
    show(title, ["", "median", "lowest", "highest", *(f"x {r}" for r in rivals)], rows, notes)


def goal(what: str, limit: float, found: float, *, most: bool = False) -> str:
    """A line that says whether a goal is met: at least `limit`, or at most. What is shown is what is judged."""
    shown, bound = hundredths(found, up=most), hundredths(limit)
    met = shown <= bound if most else shown >= bound
    return f"goal: {what} at {'most' if most else 'least'} {bound}: {shown}, {'met' if met else 'NOT met'}"
