# SPDX-License-Identifier: MIT
"""What a run over many servers says of each: a line of progress, and a row of the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nts.check.findings import listed
from nts.check.output.text import printable
from nts.check.saved import reading
from nts.check.saved.expected import Judgement
from nts.check.saved.reading import Report

HEAD = ("server", "grade", "conforms", "pass", "warn", "fail", "open", "failed checks")
NUMBERS = range(3, 7)
_SAID = {True: "yes", False: "NO", None: "open"}


def failed(report: Report) -> str:
    """The names of the checks that failed, or why there are none."""
    if message := reading.text(report, "failure.message"):
        return printable(message)
    return listed(r["name"] for r in report["results"] if r["verdict"] == "FAIL").replace("none", "")


def row(report: Report, judgement: Judgement) -> list[str]:
    """Its row, with what was expected at the end."""
    reached = "failure" not in report
    counts = _counts(report) if reached else ("",) * len(NUMBERS)
    said = _SAID[reading.conforms(report)] if reached else "-"
    last = "; ".join(text for text in (failed(report), judgement.summary) if text)
    return [report["target"], reading.letter(report) or "-", said, *map(str, counts), last]


def _counts(report: Report) -> tuple[Any, ...]:
    verdicts = [r["verdict"] for r in report["results"]]
    return (*map(verdicts.count, ("PASS", "WARN", "FAIL")), sum(v in ("SKIP", "PATH?") for v in verdicts))


def progress(done: int, of: int, report: Report, judgement: Judgement) -> str:
    """A line for a server that is done."""
    cells = row(report, judgement)
    counts = ", ".join(f"{cells[i]} {HEAD[i]}" for i in NUMBERS if cells[i] not in ("", "0"))
    facts = [cells[1] if cells[1] != "-" else "", "" if cells[2] == "-" else f"conforms: {cells[2]}", counts, cells[-1]]
    return f"{done:{len(str(of))}}/{of} {cells[0]}: {'; '.join(fact for fact in facts if fact)}"


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """The table, its columns aligned."""
    table = [HEAD, *rows]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(HEAD))]
    return ["  ".join(_aligned(cells, widths)).rstrip() for cells in table]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [c.rjust(w) if i in NUMBERS else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
