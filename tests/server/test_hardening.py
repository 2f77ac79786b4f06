# SPDX-License-Identifier: MIT
"""The C code as it was built: hardened, as libaes_siv/hardening.cmake says, where Python loads it from."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nts.codec import aes_siv
from nts.server import engine, ke_engine
from testkit.processes import HAS_ENGINE, NO_ENGINE

ENDBR64 = bytes.fromhex("f30f1efa")
ENGINES = ("engine", "engine_ke")
READELF = shutil.which("readelf")
MODULES = {
    "libaes_siv": lambda: Path(aes_siv.LIBRARY),
    "engine": lambda: Path(engine._module().__file__),
    "engine_ke": lambda: Path(ke_engine._module().__file__),
}

pytestmark = [
    pytest.mark.skipif(READELF is None, reason="needs readelf (apt install binutils)"),
    pytest.mark.parametrize(
        "name",
        ["libaes_siv", *(pytest.param(n, marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)) for n in ENGINES)],
    ),
]


def readelf(name: str, *options: str) -> str:
    assert READELF is not None
    command = [READELF, "--wide", *options, str(MODULES[name]())]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_addresses_are_resolved_at_once_and_then_read_only(name: str) -> None:
    assert re.search(r"^ +GNU_RELRO ", readelf(name, "--program-headers"), re.MULTILINE)
    assert re.search(r"\(FLAGS_1\).*\bNOW\b", readelf(name, "--dynamic"))


def test_no_memory_is_both_writable_and_executable(name: str) -> None:
    segments = re.findall(r"^ +(LOAD|GNU_STACK) .* ([R ][W ][E ]) ", readelf(name, "--program-headers"), re.MULTILINE)
    assert {kind for kind, _ in segments} == {"LOAD", "GNU_STACK"}
    assert not [flags for kind, flags in segments if "E" in flags and ("W" in flags or kind == "GNU_STACK")]


def test_stacks_and_buffers_are_guarded(name: str) -> None:
    symbols = readelf(name, "--dyn-syms")
    assert "__stack_chk_fail@" in symbols
    assert "__memcpy_chk@" in symbols


def test_functions_can_be_the_target_of_an_indirect_call_only_where_they_begin(name: str) -> None:
    """On x86-64, where CPUs can enforce that: what is exported begins with endbr64. (The linker sets the note that
    tells the system so only if the C library's start files have it too.)"""
    if platform.machine() != "x86_64":
        pytest.skip("only x86-64 has endbr64")
    octets = MODULES[name]().read_bytes()
    loads = re.findall(r"^ +LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) ", readelf(name, "--program-headers"), re.MULTILINE)
    offsets = [tuple(int(x, 16) for x in load) for load in loads]
    functions = re.findall(r": (\w+) +\d+ FUNC +GLOBAL +DEFAULT +\d+ ", readelf(name, "--dyn-syms"))
    assert functions
    for address in (int(x, 16) for x in functions):
        (at,) = [offset + address - start for offset, start, size in offsets if start <= address < start + size]
        assert octets[at : at + 4] == ENDBR64, hex(address)
