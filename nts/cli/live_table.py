# SPDX-License-Identifier: MIT
"""A table of the servers that follows a series of queries on a terminal. rich draws it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from nts.cli.output import Output
from nts.cli.results import seconds
from nts.client.sources import Comparison, Report, Source


class LiveTable(Output):
    """A row for each server, with what its last eight samples amount to, and a bar for the queries to be made."""

    def __init__(self, sources: Sequence[Source], count: int) -> None:
        """`count`: queries of each server."""
        self._sources, self._total = sources, count * len(sources)
        self._comparison: Comparison | None = None
        screen = Console(markup=False, emoji=False, highlight=False)  # names may hold brackets
        self._live = Live(console=screen, auto_refresh=False)
        self._live.start()
        self._draw()

    def add(self, _report: Report) -> None:
        self._draw()

    def end_round(self, comparison: Comparison | None) -> None:
        self._comparison = comparison
        self._draw()

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # fits on 80 columns
        table.add_column("server", overflow="fold", min_width=8)
        for heading in ("answers", "offset", "+/-", "delay", "jitter"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", overflow="fold")
        for source in self._sources:
            table.add_row(source.name, *self._cells(source), style="red" if self._is_false(source) else "")
        return Group(table, ProgressBar(self._total, sum(s.queries for s in self._sources), width=40))

    def _cells(self, source: Source) -> list[str]:
        figures = [""] * 4
        if found := source.filtered:
            spans = map(seconds, (found.error, found.delay, found.jitter))
            figures = [seconds(found.offset, sign=True), *spans]
        return [f"{source.answers}/{source.queries}", *figures, self._problem(source)]

    def _problem(self, source: Source) -> str:
        """What is wrong with it, in a word."""
        if self._is_false(source):
            return "falseticker"
        failure = source.last and source.last.failure
        return type(failure).__name__ if failure else ""

    def _is_false(self, source: Source) -> bool:
        return self._comparison is not None and source in self._comparison.falsetickers
