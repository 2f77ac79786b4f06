# SPDX-License-Identifier: MIT
"""Results on a terminal, as they come: rows in groups, above a line that shows the progress.

If stdout is not a terminal, the rows are plain lines, one for each check, without control codes. rich takes care of
colours and NO_COLOR. Nothing is ever parsed as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from nts.check.facts import Facts
from nts.check.model import Check, Grade, Result
from nts.check.output import sheet, summary
from nts.check.output.summary import Report
from nts.check.output.text import decoded, section
from nts.check.remedies import remedy, told

COLOURS = {
    Grade.PASS: "green",
    Grade.WARN: "yellow",
    Grade.FAIL: "bold red",
    Grade.PATH: "magenta",
    Grade.SKIP: "dim",
}
ROOMY = 100  # columns needed to show number, severity and section in their own columns
NARROW = 30  # columns that the evidence needs beside the name; otherwise it goes below
LABEL = 10  # columns for the label of a text
FACT = 16  # likewise, of a fact


def console(file: TextIO) -> Console:
    """A console that shows texts unchanged."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def labelled(screen: Console, label: str, text: str, width: int = LABEL) -> None:
    """Show a text with its label: wrapped beside the label on a terminal, otherwise on one line."""
    if not screen.is_terminal:
        screen.print(Text(f"  {label:{width - 2}}{text}"), soft_wrap=True)
        return
    grid = Table.grid(expand=True)
    grid.add_column(width=width)
    grid.add_column(ratio=1, overflow="fold")
    grid.add_row(Text(f"  {label}", "dim"), Text(text))
    screen.print(grid)


class Screen:
    """The rows and the progress of one run. Without `rows`, only the progress, and only on a terminal."""

    def __init__(self, file: TextIO, checks: list[Check[Any]], *, rows: bool, verbose: bool) -> None:
        self.console = console(file)
        self.rows, self.verbose = rows, verbose
        self._name_width = max((len(c.name) for c in checks), default=0)
        self._section_width = min(14, max((len(c.section) for c in checks), default=0))
        self._group = ""
        self._progress = self._progress_bar()
        self._task = self._progress.add_task("gathering facts", total=len(checks))

    def _progress_bar(self) -> Progress:
        return Progress(
            SpinnerColumn("line" if self.console.options.ascii_only else "dots"),
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(30 if self.console.width >= ROOMY else 14, complete_style="cyan", finished_style="cyan"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=self.console.file is sys.stderr or sys.stderr.isatty(),
            expand=True,
            disable=not self.console.is_terminal or self.console.is_dumb_terminal,
        )

    def open(self, intro: str) -> None:
        """Show what the run will do."""
        if self.rows:
            self._print(Text(intro))
        self._progress.start()

    def tell(self, facts: Facts) -> None:
        """Show the fact sheet."""
        if self.rows:
            self._print(Text(""))
            self._print(Text("Facts", "bold"))
            for label, text in sheet.lines(facts):
                labelled(self.console, label, text, FACT)

    def close(self) -> None:
        """Restore the terminal. May be called twice."""
        if not self._progress.disable:  # for rich before 15, which prints a line even then
            self._progress.stop()

    def start(self, check: Check[Any]) -> None:
        """A check begins."""
        self._progress.update(self._task, description=f"{check.name}: {check.sends}")

    def add(self, result: Result[Any]) -> None:
        """A check is over."""
        if self.rows:
            if result.check.group != self._group:
                self._group = result.check.group
                self._print(Text(""))
                self._print(Text(self._group, "bold"))
            self._print(self._row(result) if self.console.is_terminal else Text(self._line(result)))
        self._progress.advance(self._task)

    def _print(self, what: Text | Table) -> None:
        # In a file or a pipe, lines are not wrapped: grep needs whole ones.
        self.console.print(what, soft_wrap=not self.console.is_terminal)

    def _line(self, result: Result[Any]) -> str:
        check = result.check
        name = f"{check.name:{self._name_width}}"
        return f"{result.grade.value:5} {check.id:>3} {name}  {result.severity.value:6}  {result.evidence}"

    def _row(self, result: Result[Any]) -> Table:
        check, verdict = result.check, Text(result.grade.value, COLOURS[result.grade])
        name = Text(check.name, "" if result.grade in (Grade.PASS, Grade.SKIP) else "bold")
        evidence = Text(result.evidence, "" if result.grade is not Grade.SKIP else "dim")
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        if self.console.width < ROOMY:
            if result.grade in (Grade.FAIL, Grade.WARN):
                evidence = Text.assemble((f"{result.severity.value}: ", "bold"), evidence)
            narrow = self.console.width < 5 + self._name_width + NARROW
            grid.add_column(width=5)
            if not narrow:
                grid.add_column(width=self._name_width)
            grid.add_column(ratio=1, overflow="fold")
            for row in [(verdict, name), ("", evidence)] if narrow else [(verdict, name, evidence)]:
                grid.add_row(*row)
            return grid
        grid.add_column(width=5)
        grid.add_column(width=3, justify="right")
        grid.add_column(width=self._name_width)
        grid.add_column(width=6)
        grid.add_column(width=self._section_width, overflow="fold")
        grid.add_column(ratio=1, overflow="fold")
        number, severity, where = (Text(t, "dim") for t in (check.id, result.severity.value, check.section))
        grid.add_row(verdict, number, name, severity, where, evidence)
        return grid

    def finish(self, report: Report, expected: Iterable[str] = (), exit_code: int | None = None) -> None:
        """Show the findings to look at, the summary, and what else was expected; an exit code that depends on that."""
        self.close()
        if not self.rows:
            return
        worth = [r for r in report.results if r.grade in (Grade.FAIL, Grade.PATH, Grade.WARN) or self.verbose]
        for result in summary.by_gravity(worth):
            self._finding(result, report.software)
        self._print(Text(""))
        if report.planned:
            self._print(Text(summary.counts_line(report), "bold"))
        code = report.exit_code if exit_code is None else exit_code
        for line in expected:
            self._print(Text(line, "bold red" if line.startswith(("  regressed", "Policy: FAIL")) else ""))
        meaning = f"{summary.meaning(report)} Exit code {code}."
        self._print(Text(meaning, "bold red" if report.fatal else ""))
        if line := summary.grade_line(report):
            self._print(Text(line, "bold"))

    def _finding(self, result: Result[Any], software: str | None) -> None:
        check = result.check
        self._print(Text(""))
        verdict = (f"{result.grade.value:5} ", COLOURS[result.grade])
        about = (f"  {result.severity.value}, {section(check.section)}", "dim")
        self._print(Text.assemble(verdict, (check.name, "bold"), about))
        for label, text in {"seen": result.evidence, **check.texts}.items():
            labelled(self.console, label, text)
        for label, text in told(remedy(check.name, result.grade), software):
            labelled(self.console, label, text)
        if self.verbose:
            for exhibit in result.exhibits:
                labelled(self.console, exhibit.direction.value, exhibit.text)
                for line in decoded(exhibit):
                    labelled(self.console, "", line)
