# SPDX-License-Identifier: MIT
"""The layer rule of nts/__init__.py, held by walking every import; and the size budget of a module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

LAYERS = (
    ("errors", "registry", "wire"),
    ("records", "extensions", "ntp", "aead", "keyring", "cookies"),
    ("ke_server", "ke_client", "ts_server", "ts_client"),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
SHELL = len(LAYERS)
IMPURE = {"socket", "ssl", "time", "os", "select", "selectors", "threading", "logging", "configparser", "OpenSSL",
          "random", "secrets", "signal", "subprocess", "asyncio"}  # fmt: skip
# Foundations that a layer may share with its neighbours: bytes first, then what is made of them.
SIDEWAYS = {
    ("registry", "errors"), ("wire", "errors"), ("extensions", "ntp"), ("keyring", "aead"), ("cookies", "aead"),
    ("cookies", "keyring"),
}  # fmt: skip
MODULES = sorted((ROOT / "nts").glob("[!_]*.py"))  # not _engine_build.py, a program
CHECK = ROOT / "nts/check"
CHECK_LAYERS = (
    ("model",),
    ("runner", "forge", "ke_forge", "gcm_siv", "ke_answer", "judge_ke", "judge_ntp", "decode"),
    ("probe", "ke_probe", "ntp_probe", "peer"),
    ("server", "client"),
    ("output",),
    ("commands",),
)
CHECK_LAYER_OF = {name: number for number, names in enumerate(CHECK_LAYERS) for name in names}
CHECK_SIDEWAYS = {
    ("judge_ke", "ke_answer"), ("judge_ke", "gcm_siv"), ("judge_ntp", "forge"), ("decode", "gcm_siv"),
    ("probe", "ke_probe"), ("probe", "ntp_probe"), ("ke_probe", "probe"), ("ntp_probe", "probe"),  # one thing in parts
}  # fmt: skip
CHECK_PURE = {*CHECK_LAYERS[0], *CHECK_LAYERS[1]} - {"runner"}
CHECK_MODULES = sorted(p for p in CHECK.rglob("*.py") if p != CHECK / "__init__.py")
MAX_LINES = 400


def imports(path: Path) -> set[str]:
    """All modules a file imports, wherever in it: `nts.x` as it is, others by their first part."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "nts":
            names |= {f"nts.{a.name}" for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {n if n.startswith("nts.") else n.split(".")[0] for n in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_module_imports_only_from_lower_layers(path: Path) -> None:
    own = LAYER_OF.get(path.stem, SHELL)
    for name in imports(path):
        if name.startswith("nts."):
            other = name.removeprefix("nts.")
            allowed = LAYER_OF.get(other, SHELL) < own or own == SHELL or (path.stem, other) in SIDEWAYS
            assert allowed, f"{path.stem} imports {other}"
        else:
            assert own == SHELL or name not in IMPURE, f"{path.stem} imports {name}, but owns no I/O"


def test_the_shell_has_no_import_cycle() -> None:
    graph = {p.stem: {n.removeprefix("nts.") for n in imports(p) if n.startswith("nts.")} for p in MODULES}
    graph |= {"_engine": set(), "_engine_build": set()}  # compiled, and what compiles it
    done: set[str] = set()
    while ready := {m for m, needs in graph.items() if m not in done and needs <= done}:
        done |= ready
    assert done == set(graph), f"in a cycle: {sorted(set(graph) - done)}"


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("nts*_*.py")), ROOT / "server_helper.py"], ids=lambda p: p.stem)
def test_scripts_are_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 90
    shell = {"nts." + p.stem for p in MODULES} | ({"nts.check"} if path.stem == "nts_check" else set())
    assert imports(path) <= shell | {"argparse", "json", "os", "pathlib", "time", "__future__"}


def part(path: Path) -> str:
    """The part of nts/check that a module belongs to."""
    return path.relative_to(CHECK).with_suffix("").parts[0]


def of_check(path: Path) -> set[str]:
    """The parts of nts/check that a module imports."""
    names = {n for n in imports(path) if n.startswith("nts.check.")}
    return {n.split(".")[2] for n in names} | imported_from(path, "nts.check")


def imported_from(path: Path, package: str) -> set[str]:
    """What a module imports by `from package import ...`."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {a.name for n in nodes if isinstance(n, ast.ImportFrom) and n.module == package for a in n.names}


@pytest.mark.parametrize("path", CHECK_MODULES, ids=lambda p: str(p.relative_to(CHECK)))
def test_a_part_of_nts_check_imports_only_from_lower_ones(path: Path) -> None:
    own = part(path)
    assert own in CHECK_LAYER_OF, f"{own} is in no layer"
    for other in of_check(path) - {own}:
        allowed = CHECK_LAYER_OF[other] < CHECK_LAYER_OF[own] or (own, other) in CHECK_SIDEWAYS
        assert allowed, f"{own} imports {other}"
    if own in CHECK_PURE:
        assert not imports(path) & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_nothing_else_knows_of_nts_check(path: Path) -> None:
    assert not {n for n in imports(path) if n == "nts.check" or n.startswith("nts.check.")}


@pytest.mark.parametrize("path", [*MODULES, *CHECK_MODULES], ids=lambda p: str(p.relative_to(ROOT / "nts")))
def test_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text))


def test_every_layer_module_exists() -> None:
    assert {p.stem for p in MODULES} >= set(LAYER_OF)
    assert {part(p) for p in CHECK_MODULES} == set(CHECK_LAYER_OF)
