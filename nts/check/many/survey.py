# SPDX-License-Identifier: MIT
"""A run over many servers from end to end: goes on where another stopped, tells how it goes, and sums up."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nts.base.errors import ConfigError, ExitCode
from nts.check.findings import counted
from nts.check.many import run, table, targets
from nts.check.many.examine import Plan, examine
from nts.check.many.results import Results, opened
from nts.check.many.targets import Place
from nts.check.output.summary import CANNOT_SAY, INTERRUPTED
from nts.check.saved import reading
from nts.check.saved.expected import Expected
from nts.check.saved.reading import Report


@dataclass(frozen=True)
class Survey:
    """What is asked for."""

    servers: Path
    """the list of them"""
    results: Path
    plan: Plan
    parallel: int
    """servers at the same time"""
    expected: Expected
    strict: bool
    json: bool
    """whether the summary is a JSON object"""

    def make(self) -> int:
        """Check the servers that the results lack; the exit code."""
        if self.servers.resolve() == self.results.resolve():
            raise ConfigError(f"{self.results} is the list of servers", hint="--results names the file to write")
        wanted = targets.read(self.servers)
        with opened(self.results) as results:
            interrupted = self._fill(results, wanted)
            found = [results.reports[name] for name in wanted if name in results.reports]
        code = INTERRUPTED if interrupted else self._code(found)
        self._sum_up(wanted, found, code)
        return code

    def _fill(self, results: Results, wanted: dict[str, Place]) -> bool:
        """Ask and write; whether that was interrupted."""
        left = {name: place for name, place in wanted.items() if name not in results.reports}
        screen = Console(stderr=True, markup=False, highlight=False, emoji=False)
        done = len(wanted) - len(left)
        before = f", {done} of them done before" if done else ""
        screen.print(f"{counted(len(wanted), 'server')}{before}; results in {self.results}", soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        bar = Progress(*columns, TimeElapsedColumn(), console=screen, transient=True, disable=not screen.is_terminal)
        total = len(left) * max(1, len(self.plan.checks))
        task = bar.add_task("checks", total=total)

        def work(item: tuple[str, Place]) -> Report:
            name, (host, port) = item
            return examine(self.plan, name, host, port, lambda _check: bar.advance(task))

        made = run.each(left.items(), work, self.plan.turns, run.bearable(self.parallel))
        try:
            with bar, contextlib.closing(made):
                for report in made:
                    results.add(report)
                    done += 1
                    line = table.progress(done, len(wanted), report, self.expected.judge(report))
                    screen.print(line, soft_wrap=True)
        except KeyboardInterrupt:
            return True
        return False

    def _code(self, reports: Iterable[Report]) -> int:
        """The worst of all: 1 before 3 before 0."""
        codes = [self.expected.judge(r).exit_code(self._own_code(r), strict=self.strict) for r in reports]
        return next((code for code in (int(ExitCode.FAILURE), CANNOT_SAY) if code in codes), int(ExitCode.OK))

    def _own_code(self, report: Report) -> int:
        conforms = reading.conforms(report)
        if not self.plan.checks and "failure" not in report:
            return int(ExitCode.OK)
        if conforms is None and not self.strict:
            return CANNOT_SAY
        return int(ExitCode.OK if conforms else ExitCode.FAILURE)

    def _sum_up(self, wanted: Iterable[str], found: list[Report], code: int) -> None:
        judged = [(report, self.expected.judge(report)) for report in found]
        missing = [name for name in wanted if name not in {r["target"] for r in found}]
        new, gone = self._compared(wanted)
        if self.json:
            servers = [
                {
                    "target": r["target"],
                    "grade": reading.letter(r),
                    "conforms": reading.conforms(r),
                    "failure": r.get("failure"),
                    **judgement.json,
                }
                for r, judgement in judged
            ]
            summary = {"servers": servers, "missing": missing, "new": new, "gone": gone, "exit_code": code}
            print(json.dumps(summary, indent=2))
            return
        lines = table.lines([table.row(*pair) for pair in judged])
        for report, judgement in judged:
            if len(judgement.lines) > 1:  # or the table says it all
                lines += ["", f"{report['target']}", *(f"  {line}" for line in judgement.lines)]
        lines += [f"Not in the baseline: {', '.join(new)}"] if new else []
        lines += [f"Only in the baseline: {', '.join(gone)}"] if gone else []
        lines += [f"Interrupted; the same command goes on with {counted(len(missing), 'server')}."] if missing else []
        print("\n".join([*lines, f"Exit code {code}."]))
        sys.stdout.flush()

    def _compared(self, wanted: Iterable[str]) -> tuple[list[str], list[str]]:
        """Servers that the baseline lacks, and those that only the baseline has."""
        old = self.expected.baseline
        names = list(wanted)
        return ([], []) if old is None else ([n for n in names if n not in old], [n for n in old if n not in names])
