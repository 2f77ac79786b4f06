# SPDX-License-Identifier: MIT
"""What several servers amount to, as lines of text and for JSON: who agrees, and who has the wrong time."""

from __future__ import annotations

from typing import Any

from nts.cli.results import seconds
from nts.client.sources import Comparison
from nts.codec.ntp import NS


def as_dict(comparison: Comparison | None) -> dict[str, Any] | None:
    """A comparison for JSON, durations in seconds. None when less than two servers could be compared."""
    if comparison is None:
        return None
    agreed = comparison.majority
    return {
        "majority": {"low": agreed.low / NS, "high": agreed.high / NS} if agreed else None,
        "truechimers": [s.name for s in comparison.truechimers],
        "falsetickers": [s.name for s in comparison.falsetickers],
    }


def lines(comparison: Comparison | None) -> list[str]:
    """A comparison for a person."""
    if comparison is None:
        return ["cannot tell who is right: less than two servers to compare"]
    agreed = comparison.majority
    if agreed is None:
        return ["cannot tell who is right: no majority of the servers agrees"]
    right, wrong = len(comparison.truechimers), comparison.falsetickers
    span = f"the true offset is between {seconds(agreed.low, sign=True)} and {seconds(agreed.high, sign=True)}"
    told = [f"{right} of {right + len(wrong)} servers agree: {span}"]
    for source in wrong:
        if found := source.filtered:
            offset = f"offset {seconds(found.offset, sign=True)} +/- {seconds(found.error)}"
            told.append(f"falseticker: {source.name}, {offset}")
    return told


def verdict(comparison: Comparison | None) -> tuple[object, ...]:
    """What a monitor reports when it changes."""
    return (comparison.majority is None, *comparison.falsetickers) if comparison else ()
