# SPDX-License-Identifier: MIT
"""The layer rule of nts/__init__.py and of the folders around it, held by walking every import; module sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from testkit.processes import ROOT

PACKAGE = ROOT / "nts"
LAYERS = ("base", "codec", "protocol", "system", "server client", "api fleet", "aio cli", "check")
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms.split()}
PURE_ROOMS = ("base", "codec", "protocol")
IMPURE = {"socket", "ssl", "time", "os", "select", "selectors", "threading", "logging", "configparser", "OpenSSL",
          "random", "secrets", "signal", "subprocess", "asyncio"}  # fmt: skip
CHECK_LAYERS = (
    "model",
    "findings facts remedies context runner decode",
    "saved",
    "ke",
    "ntp",
    "peer lifetime",
    "server client",
    "output",
    "many site",
    "commands",
)
CHECK_LEVEL = {part: level for level, parts in enumerate(CHECK_LAYERS) for part in parts.split()}
CHECK_PURE = "nts.check.model nts.check.findings nts.check.facts nts.check.remedies nts.check.decode"
FLEET_PURE = ("nts.fleet.plan", "nts.fleet.steps", "nts.fleet.envelope")
TWINS = ("forge", "answer", "judge", "probe")
DECODE_LAYERS = (
    "files",
    "problems capture hexinput cookie_keys tls_messages tls_keys ntp_packet",
    "streams associations rules_ke rules_ntp",
    "tls_session",
    "decoder",
    "show",
)
DECODE_LEVEL = {name: level for level, names in enumerate(DECODE_LAYERS) for name in names.split()}
FOLDERS = {  # what each may import besides other packages; no test imports another
    "nts": {"nts"},
    "examples": {"nts"},
    "testkit": {"nts", "testkit"},
    "fuzz": {"nts", "testkit", "fuzz"},
    "tools": {"nts", "testkit", "fuzz", "tools"},
    "tests": {"nts", "testkit", "fuzz", "tools"},
}
MAX_LINES = 400


def name_of(path: Path) -> str:
    """The dotted name of a module of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(p): p for p in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """All modules a file imports, wherever in it: those of the package whole, others by their first part."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {full if (full := f"{module}.{a.name}") in MODULES else module for a in node.names}
    return {n if n.startswith("nts") else n.partition(".")[0] for n in found}


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def room(name: str) -> str:
    """The folder of nts/ that a module lies in; empty for nts itself and its build step."""
    own = name.split(".")[1:2]
    return own[0] if own and own[0] in LEVEL else ""


def part(name: str) -> str:
    """The part of nts/check that a module belongs to; empty for nts.check itself."""
    return [*name.split("."), "", ""][2]


def find_cycle(graph: dict[str, set[str]]) -> set[str]:
    """The nodes that lie on a cycle or lead to one."""
    done: set[str] = set()
    while ready := {m for m, needs in graph.items() if m not in done and needs & set(graph) <= done}:
        done |= ready
    return set(graph) - done


def of_room(names: Iterable[str], wanted: str) -> set[str]:
    return {n for n in names if room(n) == wanted}


@pytest.mark.parametrize("name", [n for n in MODULES if room(n)])
def test_module_imports_only_from_its_own_layer_and_lower_ones(name: str) -> None:
    for other in IMPORTS[name]:
        if room(other):
            lower = LEVEL[room(other)] < LEVEL[room(name)]
            assert lower or room(other) == room(name), f"{name} imports {other}"
        assert room(name) not in PURE_ROOMS or other not in IMPURE, f"{name} imports {other}, but owns no I/O"


@pytest.mark.parametrize("wanted", [r for r in LEVEL if r != "check"])
def test_a_room_has_no_import_cycle(wanted: str) -> None:
    assert not find_cycle({n: IMPORTS[n] for n in of_room(MODULES, wanted)})


@pytest.mark.parametrize("name", FLEET_PURE)
def test_what_the_model_checker_runs_owns_no_io(name: str) -> None:
    inside = {n for n in IMPORTS[name] if n.startswith("nts.fleet.")}
    assert inside <= set(FLEET_PURE)
    assert not IMPORTS[name] & IMPURE
    assert {room(n) for n in IMPORTS[name]} - {""} <= {*PURE_ROOMS, "fleet"}


def is_pure(name: str) -> bool:
    """Whether a module of nts/check may own no I/O: all of the twins but their probes, among others."""
    twin = part(name) in ("ke", "ntp") and not name.endswith(".probe")
    return twin or any(f"{name}.".startswith(f"{pure}.") for pure in CHECK_PURE.split())


@pytest.mark.parametrize("name", sorted(of_room(MODULES, "check")))
def test_a_part_of_nts_check_imports_only_from_lower_ones(name: str) -> None:
    own = part(name)
    for other in {part(n) for n in of_room(IMPORTS[name], "check")} - {own, ""}:
        assert CHECK_LEVEL[other] < CHECK_LEVEL[own], f"{own} imports {other}"
    assert not is_pure(name) or not IMPORTS[name] & IMPURE


@pytest.mark.parametrize("wanted", CHECK_LEVEL)
def test_a_part_of_nts_check_has_no_import_cycle(wanted: str) -> None:
    inside = {n: IMPORTS[n] for n in of_room(MODULES, "check") if part(n) == wanted}
    assert not find_cycle(inside)


@pytest.mark.parametrize("wanted", ["ke", "ntp"])
def test_twins_have_the_same_modules_in_the_same_order(wanted: str) -> None:
    room_of = f"nts.check.{wanted}"
    assert {n for n in MODULES if n.startswith(f"{room_of}.")} == {f"{room_of}.{twin}" for twin in TWINS}
    for level, twin in enumerate(TWINS):
        assert not IMPORTS[f"{room_of}.{twin}"] & {f"{room_of}.{other}" for other in TWINS[level + 1 :]}
    assert f"{room_of}.judge" not in IMPORTS[f"{room_of}.probe"]


@pytest.mark.parametrize("name", DECODE_LEVEL)
def test_a_module_of_decode_imports_only_from_lower_ones(name: str) -> None:
    prefix = "nts.check.decode."
    for other in {n.removeprefix(prefix) for n in IMPORTS[prefix + name] if n.startswith(prefix)}:
        assert DECODE_LEVEL[other] < DECODE_LEVEL[name], f"{name} imports {other}"
    assert {n.removeprefix(prefix) for n in MODULES if n.startswith(prefix)} == set(DECODE_LEVEL)


@pytest.mark.parametrize(
    "name", [n for n in MODULES if n.startswith("nts.check.server.") and n != "nts.check.server.probe"]
)
def test_a_server_check_opens_no_socket(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not attributes & {"socket", "create_connection", "connect", "sendto", "send", "recv"}
    assert "OpenSSL" not in IMPORTS[name]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_from_those_below_it_and_none_imports_tests(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert {n.partition(".")[0] for n in imports(path)} & set(FOLDERS) <= FOLDERS[folder], path


def test_testkit_lists_its_modules() -> None:
    listed = re.findall(r"^    (\w+) ", (ROOT / "testkit/__init__.py").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(p.stem for p in (ROOT / "testkit").glob("[a-z]*.py"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda p: p.stem)
def test_scripts_are_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 90
    others = {n for n in imports(path) if not n.startswith("nts.")}
    assert others <= {"nts", "argparse", "json", "os", "pathlib", "signal", "time", "__future__"}


@pytest.mark.parametrize("name", MODULES)
def test_module_is_short_and_says_what_it_is(name: str) -> None:
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text))


def test_every_folder_has_its_layer() -> None:
    assert {room(n) for n in MODULES} - {""} == set(LEVEL)
    assert {part(n) for n in of_room(MODULES, "check")} - {""} == set(CHECK_LEVEL)
