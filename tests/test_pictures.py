# SPDX-License-Identifier: MIT
"""README's pictures: drawn as a terminal shows it, free of anything from this machine, and up to date."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.text import Text

from nts.check.server import CHECKS
from testkit.command_lines import parser_of
from testkit.processes import ROOT
from tools import pictures

PICTURES = {"demo": pictures.DEMO, "check": pictures.CHECK}
STALE = "run python -m tools.pictures"
SVG = "{http://www.w3.org/2000/svg}"


def shown(picture: str) -> list[str]:
    """The lines of text in a picture, two spaces between its pieces."""
    lines: dict[str, list[str]] = {}
    for piece in ET.fromstring(picture).iter(f"{SVG}text"):
        lines.setdefault(piece.attrib["y"], []).append(piece.text or "")
    return ["  ".join(pieces) for pieces in lines.values()]


def kept(name: str) -> str:
    return (pictures.DOCS / f"{name}.svg").read_text(encoding="utf-8")


def words(name: str) -> str:
    """All that a picture says, wherever its lines end."""
    return " ".join(" ".join(shown(kept(name))).split())


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_stands_alone_and_names_no_path_of_the_machine(name: str) -> None:
    assert re.findall(r"\w+://[^\"' ]+", kept(name)) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\(|@import|<script|<image|href", kept(name))
    paths = re.findall(r"(?<![\w.])/\w[\w./-]*", words(name))
    assert all(path.startswith(pictures.HOME) for path in paths), paths


@pytest.mark.parametrize("name", PICTURES)
def test_the_command_is_one_that_works(name: str) -> None:
    assert words(name).startswith("$ " + " ".join(PICTURES[name].split())), STALE
    program, *rest = pictures.arguments(PICTURES[name])
    if program.endswith(".py"):
        parser_of(ROOT / program).parse_args(rest)
    else:
        assert (ROOT / program).is_file()


def titles(program: Path) -> Iterator[str]:
    """The fixed words of what a program prints as titles."""
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("title", "ask"):
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value.strip(" )")


def test_the_demo_still_does_what_its_picture_shows() -> None:
    expected = [text for text in titles(ROOT / "tools/demo.py") if text]
    assert len(expected) > 5
    assert [text for text in expected if text not in words("demo")] == [], STALE


def test_the_check_still_says_what_its_picture_shows() -> None:
    failed = set(re.findall(r"FAIL  ([a-z0-9-]+)", "\n".join(shown(kept("check")))))
    assert failed
    for check in (c for c in CHECKS if c.name in failed):
        for text in (check.sends, check.expects, check.rule):
            assert text in words("check"), STALE


def test_drawing() -> None:
    output = Text.from_ansi("\x1b[1;31mFAIL\x1b[0m  a  <b> & c\n\n" + "x" * (pictures.COLUMNS + 1))
    picture = pictures.svg("a title", "command", output)
    assert picture == pictures.svg("a title", "command", output)
    assert shown(picture) == ["$  command", "FAIL  a  <b> & c", "x" * pictures.COLUMNS, "x"]
    fail, a, rest = (p for p in ET.fromstring(picture).iter(f"{SVG}text") if p.text in ("FAIL", "a", "<b> & c"))
    assert fail.attrib["font-weight"] == "bold"
    assert fail.attrib["fill"] != a.attrib.get("fill")
    columns = [(float(p.attrib["x"]) - pictures.MARGIN) / pictures.ADVANCE for p in (fail, a, rest)]
    assert columns == pytest.approx([0, 6, 9])
    assert len({p.attrib["y"] for p in (fail, a, rest)}) == 1
