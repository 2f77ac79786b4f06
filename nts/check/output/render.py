# SPDX-License-Identifier: MIT
"""Shows a run to its user: `Reporter` takes results one by one and gives them to every requested output."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nts.base.errors import ConfigError
from nts.check.facts import Facts
from nts.check.model import Check, Result
from nts.check.output import as_html, as_json, as_junit
from nts.check.output.grade import grade
from nts.check.output.summary import Report
from nts.check.output.terminal import Screen
from nts.check.output.text import clean, clean_facts, printable
from nts.check.saved.expected import Expected
from nts.system import console, files


@dataclass(frozen=True)
class Options:
    """Which outputs to make."""

    json: bool = False
    """one JSON object on stdout, instead of lines for a person"""
    junit: Path | None = None
    html: Path | None = None
    verbose: bool = False
    strict: bool = False
    """what could not be judged at MUST or CRIT counts as broken"""

    def check(self) -> None:
        """Check early that the files can be written, since a run takes minutes. ConfigError if not."""
        paths = [p for p in (self.junit, self.html) if p is not None]
        if len({p.resolve() for p in paths}) < len(paths):
            raise ConfigError(f"{paths[0]}: two reports cannot be one file", hint="give each its own name")
        for path in paths:
            _check_writable(path)


class Reporter:
    """Reports one run. Use it as a context manager, so that it leaves the terminal in order whatever happens.

        with Reporter("server", "time.example.net:4460", checks, options, intro="...") as reporter:
            for result in runner.run(reporter.checks, probe, reporter.start):
                reporter.add(result)
        return reporter.finish()

    An interrupt (Ctrl-C) inside the block ends the block; then `finish` says so and returns 130.
    """

    def __init__(
        self, command: str, target: str, checks: Sequence[Check[Any]], options: Options, *, intro: str,
        seed: int | None = None, pace: float | None = None, ke_pace: float | None = None,
        expected: Expected | None = None,
    ) -> None:  # fmt: skip
        options.check()
        self.checks = list(checks)
        self._options, self._intro, self._expected = options, printable(intro), expected or Expected()
        self._report = Report(
            command, printable(target), time.time_ns(), seed, pace, planned=len(self.checks), ke_pace=ke_pace,
            final_pace=pace, final_ke_pace=ke_pace, strict=options.strict,
        )  # fmt: skip
        self._started = time.monotonic()
        self._results: list[Result[Any]] = []
        self._interrupted = False
        output = sys.stderr if options.json else sys.stdout
        self._screen = Screen(output, self.checks, rows=not options.json, verbose=options.verbose)

    def __enter__(self) -> Reporter:
        self._screen.open(self._intro)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._screen.close()
        self._interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        return self._interrupted

    def tell(self, facts: Facts) -> None:
        """The fact sheet, before the first check."""
        facts = clean_facts(facts)
        self._report = replace(self._report, facts=facts)
        self._screen.tell(facts)

    def start(self, check: Check[Any]) -> None:
        """A check begins."""
        self._screen.start(check)

    def add(self, result: Result[Any]) -> None:
        """A check is over."""
        result = clean(result)
        self._results.append(result)
        self._screen.add(result)

    def slowed(self, pace: float, ke_pace: float) -> None:
        """Tell the pace at the end, if it may not be that of the beginning."""
        self._report = replace(self._report, final_pace=pace, final_ke_pace=ke_pace)

    def finish(self) -> int:
        """Show the summary and write the files; the exit code."""
        report = replace(
            self._report, seconds=time.monotonic() - self._started, results=tuple(self._results),
            interrupted=self._interrupted,
        )  # fmt: skip
        report = replace(report, grade=grade(as_json.dictionary(report, verbose=False)))
        values = as_json.dictionary(report, verbose=self._options.verbose)
        judgement = self._expected.judge(values)
        code = judgement.exit_code(report.exit_code, strict=report.strict)
        code = report.exit_code if report.interrupted else code
        self._screen.finish(report, map(printable, judgement.lines), code)
        if self._options.json:
            print(json.dumps({**values, **judgement.json}, indent=2), flush=True)
        if self._options.junit is not None:
            write(self._options.junit, as_junit.text(report))
        if self._options.html is not None:
            write(self._options.html, as_html.page(report))
        if report.is_void:
            console.warn("nothing was judged: every check ended in SKIP or PATH?")
        return code


def _check_writable(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {folder}", hint="make the folder first")
    if path.exists() and not path.is_file():
        raise ConfigError(f"cannot write {path}: it exists and is not a file", hint="give another name")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write {path}: permission denied", hint="choose a folder where you may write")


def write(path: Path, text: str) -> None:
    """Write a report completely or not at all, for others to read. ConfigError when it fails."""
    place = path.resolve()
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        files.write_new((temporary, text.encode(), 0o644))
        files.rename(temporary, place)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {e.strerror}", hint="give another name or folder") from None
