# SPDX-License-Identifier: MIT
"""What takes the time client's samples besides lines and JSON: the base of all of them."""

from __future__ import annotations

from nts.client.sources import Comparison, Report


class Output:
    """Takes what comes of each query."""

    def add(self, report: Report) -> None:
        """After each query."""

    def end_round(self, comparison: Comparison | None) -> None:
        """When each server has been asked once more."""

    def close(self) -> None:
        """At the end, Ctrl-C included."""
