# SPDX-License-Identifier: MIT
"""Builds nts/_engine*.so: the packet engine with a cffi binding in API mode, which the compiler checks.

    python -m nts._engine_build [MODULE [LIBRARY]]

Needs a C compiler, the headers of Python and OpenSSL, and libaes_siv/libaes_siv.a, beside which its build left the
options that harden the result. This fits only the Python that runs this. MODULE overrides the file to write, LIBRARY
the libaes_siv to link.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from cffi import FFI

from nts import ROOT

SOURCES = ("packet.c", "random.c", "limit.c", "foreign.c", "respond.c", "loop.c", "testing.c")
HEADERS = ("nts_engine.h", "testing.h")


def declarations() -> str:
    """The parts of the engine's headers that cffi parses."""
    text = "".join((ROOT / "engine" / header).read_text() for header in HEADERS)
    return "".join(re.findall(r"/\* cffi:begin \*/(.*?)/\* cffi:end \*/", text, re.DOTALL))


@cache
def fingerprint() -> int | None:
    """31 bits that change with the declarations, so that a module built from older ones is detected.

    Cached, because the module too stays as it was loaded. None when the sources are missing.
    """
    try:
        digest = hashlib.sha256(declarations().encode()).digest()
    except FileNotFoundError:
        return None
    return int.from_bytes(digest[:4], "big") >> 1


def main(target: str = "", library: str = "") -> int:
    """Write the binding's C, and compile it with the engine and libaes_siv into one extension module."""
    (ROOT / "build").mkdir(exist_ok=True)
    ffi = FFI()
    own = f"enum {{ NTS_FINGERPRINT = {fingerprint()} }};"
    ffi.cdef(declarations() + own)
    ffi.set_source("nts._engine", f'#include "testing.h"\n{own}')
    binding = ROOT / "build" / "_engine_binding.c"
    ffi.emit_c_code(str(binding))
    archive = Path(library) if library else ROOT / "libaes_siv" / "libaes_siv.a"
    command: list[str | Path] = [
        *shlex.split(os.environ.get("CC", "cc")),
        *shlex.split(os.environ.get("CFLAGS", "-O2")),
        *archive.with_name("hardening.flags").read_text().split(),
        *("-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden"),
        *(f"-I{folder}" for folder in (ROOT / "engine", ROOT / "libaes_siv", sysconfig.get_path("include"))),
        *("-o", target or ROOT / "nts" / f"_engine{sysconfig.get_config_var('EXT_SUFFIX')}", binding),
        *(ROOT / "engine" / source for source in SOURCES),
        *(archive, "-lcrypto"),
    ]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
