# SPDX-License-Identifier: MIT
"""Results of cells: kept as JSON, one file in each cell's folder, and shown in a terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.interop.cases import CASES
from tools.interop.run import Grade, Outcome

_FILE = "outcome.json"
_COLOURS = {Grade.OK: "32", Grade.FAILED: "31;1", Grade.UNSUPPORTED: "2"}


@dataclass(frozen=True)
class Record:
    """What came of a cell, as it is kept."""

    server: str
    client: str
    case: str
    grade: Grade
    why: str
    faults: tuple[tuple[str, str, str], ...]
    """who did not do what; the section and the sentence of RFC 8915 that ask for it, or nothing"""
    problems: tuple[tuple[str, str, str, str], ...]
    """rules that were broken in it: side, severity, what, section"""
    algorithms: tuple[int, ...]
    decoded: str
    """what could be decoded"""
    seconds: float

    @property
    def reason(self) -> str:
        """Why it did not succeed, in one line."""
        return self.why or "; ".join(text for text, _, _ in self.faults)

    @property
    def folder(self) -> str:
        """Where packets, keys and logs are."""
        return "/".join((name(self.server), name(self.client), self.case))


def name(version: str) -> str:
    """A peer's name in files and options."""
    return version.replace(" ", "-")


def record(outcome: Outcome) -> Record:
    """What to keep of an outcome."""
    cell = outcome.cell
    return Record(
        cell.server.version, cell.client.version, cell.case.name, outcome.grade, outcome.why,
        tuple((f.text, *f.rule) for f in outcome.faults),
        tuple((p.side, p.severity, p.text, p.section) for p in outcome.problems),
        tuple(sorted(outcome.evidence.algorithms)), outcome.evidence.summary, round(outcome.seconds, 1),
    )  # fmt: skip


def keep(kept: Record, folder: Path) -> None:
    """Write it into its cell's folder."""
    (folder / kept.folder / _FILE).write_text(json.dumps(_dictionary(kept), indent=2) + "\n")


def load(folder: Path) -> list[Record]:
    """All that are kept, ordered by server, client and case."""
    found = []
    for path in folder.glob(f"*/*/*/{_FILE}"):
        values = json.loads(path.read_text())
        values["grade"] = Grade(values["grade"])
        values["faults"] = tuple((f["text"], f["section"], f["rule"]) for f in values["faults"])
        values["problems"] = tuple((p["side"], p["severity"], p["text"], p["section"]) for p in values["problems"])
        found.append(Record(**{**values, "algorithms": tuple(values["algorithms"])}))
    order = list(CASES)
    return sorted(found, key=lambda r: (*map(_place, (r.server, r.client)), order.index(r.case)))


def _place(version: str) -> tuple[bool, str]:
    return not version.startswith("ours"), version.lower()


def peers(records: Iterable[Record]) -> tuple[list[str], list[str]]:
    """Servers and clients that occur, in the order of tables."""
    rows = list(records)
    return sorted({r.server for r in rows}, key=_place), sorted({r.client for r in rows}, key=_place)


def as_json(records: list[Record]) -> str:
    """All of it for machines."""
    cases = [{"name": c.name, "letter": c.letter, "what": c.what} for c in CASES.values()]
    return json.dumps({"cases": cases, "cells": [_dictionary(r) for r in records]}, indent=2) + "\n"


def _dictionary(kept: Record) -> dict[str, Any]:
    values = dataclasses.asdict(kept)
    values["grade"] = kept.grade.value
    values["faults"] = [dict(zip(("text", "section", "rule"), f, strict=True)) for f in kept.faults]
    values["problems"] = [dict(zip(("side", "severity", "text", "section"), p, strict=True)) for p in kept.problems]
    return values


def table(records: list[Record], *, colour: bool) -> Iterator[str]:
    """The matrix as lines: servers in rows, clients in columns, a letter for each case."""
    servers, clients = peers(records)
    found = {(r.server, r.client, r.case): r for r in records}
    cases = [c for c in CASES.values() if any(r.case == c.name for r in records)]
    corner = "server \\ client"
    left = max(map(len, (corner, *servers))) + 2
    width = max(len(cases), *map(len, clients)) + 2
    yield "".join([f"{corner:{left}}", *(f"{c:{width}}" for c in clients)]).rstrip()
    for server in servers:
        line = f"{server:{left}}"
        for client in clients:
            marks = [_mark(found.get((server, client, case.name)), case.letter, colour=colour) for case in cases]
            line += "".join(marks) + " " * (width - len(cases))
        yield line.rstrip()
    yield ""
    yield from (f"  {case.letter}  {case.name:14} {case.what}" for case in cases)
    yield "a letter: succeeded; ! failed; - one of them does not do this"


def _mark(kept: Record | None, letter: str, *, colour: bool) -> str:
    if kept is None:
        return " "
    mark = {Grade.OK: letter, Grade.FAILED: "!", Grade.UNSUPPORTED: "-"}[kept.grade]
    return f"\x1b[{_COLOURS[kept.grade]}m{mark}\x1b[0m" if colour else mark
