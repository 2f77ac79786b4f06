# SPDX-License-Identifier: MIT
"""What the documents name exists, every requirement is there, and no reference in the tree leads out of it."""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.processes import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/rfc8915.md").read_text().splitlines()
    if re.match(r"\| [AB]\d\d ", line)
]
NUMBERS = {row[0] for row in ROWS} | set(re.findall(r"<a id=.*?\*\*(\w+) ", (ROOT / "docs/checks.md").read_text()))
FOLDERS = ("docs", "engine", "fuzz", "nts", "testkit", "tests", "tools")
KINDS = ("md", "py", "c", "h", "sh")
TEXTS = {*ROOT.glob("*.md"), *(p for f in FOLDERS for kind in KINDS for p in (ROOT / f).rglob(f"*.{kind}"))}
EXPECTED = [f"A{n:02}" for n in (*range(1, 42), *range(50, 84), *range(90, 97))] + [f"B{n:02}" for n in range(1, 18)]


def test_every_requirement_has_one_row() -> None:
    assert [row[0] for row in ROWS] == EXPECTED


def resolve(name: str) -> None:
    """Find `room.module.function` or `room.module.Class.method` of the package, or a name in a script."""
    prefix = "" if (ROOT / f"{name.partition('.')[0]}.py").exists() else "nts."
    pkgutil.resolve_name(prefix + name)


def decorated_source(module: str, function: str) -> str:
    """A test function with its decorators and docstring; `module` is the name of one file, in whatever folder."""
    (path,) = (ROOT / "tests").rglob(f"{module}.py")
    source = path.read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            return "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    raise AssertionError(f"no {module}::{function}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_requirement_is_met_where_the_table_says_and_held_by_that_test(row: list[str]) -> None:
    number, _, _, _, _, code, tests, remark = row
    code_names, test_names = re.findall(r"`([\w.]+)`", code), re.findall(r"`(\w+)::(\w+)`", tests)
    for name in code_names:
        resolve(name)
    for module, function in test_names:
        assert number in decorated_source(f"test_{module}", function), f"{module}::{function} does not name {number}"
    assert test_names or remark.startswith("not "), f"{number} has neither a test nor a word on why"
    assert code_names or remark.startswith("not done")


def test_the_tables_of_the_architecture_name_what_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| (`nts/[^|]+) \| ([^|]+) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for files, functions in rows:
        modules = [m.replace("/", ".") for m in re.findall(r"`nts/([\w/]+)\.py`", files)]
        for name in re.findall(r"`([\w.]+)`", functions):
            found = []
            for module in modules:
                try:
                    pkgutil.resolve_name(f"nts.{module}:{name}")
                except AttributeError:
                    continue
                found.append(module)
            assert found, f"{name} is in none of {modules}"


def dead_references(text: str, folder: Path) -> Iterator[str]:
    """Numbers of requirements and checks, sections of no RFC, documents and files that are not in the tree."""
    numbers = re.findall(r"\b[ABC]\d\d\b", text)
    for listed in re.findall(r"\b[Cc]hecks? (\d+(?:(?:, | and | to )\d+)*)", text):
        numbers += re.findall(r"\d+", listed)
    yield from set(numbers) - NUMBERS
    yield from re.findall(r"^(?!.*(?:RFC|appendix|X\.509)).*\b([A-Z]\.\d+)", text, re.MULTILINE)
    for document in re.findall(r"[\w./-]+\.md\b", text):
        if not any((place / document).exists() for place in (folder, ROOT, ROOT / "docs")):
            yield document
    for path in re.findall(rf"(?<![\w/.])(?:{'|'.join(FOLDERS)})/[\w/]+\.(?:py|sh|c|h|json)\b", text):
        if not any((place / path).exists() for place in (folder, ROOT)):
            yield path


def test_every_reference_leads_somewhere_in_the_tree() -> None:
    dead = {p.name: list(dead_references(p.read_text(), p.parent)) for p in TEXTS - {Path(__file__)}}
    assert {name: found for name, found in dead.items() if found} == {}


@pytest.mark.parametrize(
    "dead", ["A42", "B18", "C27", "checks 1, 2 and 999", "E.1-22", "x.md", "nts/none.py", "check 0"]
)
def test_a_reference_that_leads_nowhere_is_found(dead: str) -> None:
    assert len(list(dead_references(f"A41, C24, check 52, RFC 5297 A.1\n{dead}.", ROOT))) == 1
