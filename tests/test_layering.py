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
    graph["_engine"] = set()  # compiled
    done: set[str] = set()
    while ready := {m for m, needs in graph.items() if m not in done and needs <= done}:
        done |= ready
    assert done == set(graph), f"in a cycle: {sorted(set(graph) - done)}"


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("nts*_*.py")), ROOT / "server_helper.py"], ids=lambda p: p.stem)
def test_scripts_are_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 90
    assert imports(path) <= {"nts." + p.stem for p in MODULES} | {"argparse", "json", "os", "pathlib", "time",
                                                                  "__future__"}  # fmt: skip


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text))


def test_every_layer_module_exists() -> None:
    assert {p.stem for p in MODULES} >= set(LAYER_OF)
