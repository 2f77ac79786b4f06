# SPDX-License-Identifier: MIT
"""Builds nts/_engine*.so, the packet engine, and nts/_engine_ke*.so, the loop of the key exchange server, with cffi
bindings in API mode, which the compiler checks.

    python -m nts._engine_build NAME [MODULE [LIBRARY]]

NAME is _engine or _engine_ke. Needs a C compiler, the headers of Python and OpenSSL, and libaes_siv/libaes_siv.a,
beside which its build left the options that harden the result. This fits only the Python that runs this. MODULE
overrides the file to write, LIBRARY the libaes_siv to link. NTS_KE_TLS in the environment is a folder (include/, lib/)
with another TLS library of OpenSSL's API for _engine_ke, as the option of engine/CMakeLists.txt is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cffi import FFI

from nts import ROOT

SOURCES = (
    "packet.c", "random.c", "limit.c", "foreign.c", "respond.c", "frame.c", "xsk.c", "loop.c", "xdp.c", "testing.c",
)  # fmt: skip
HEADERS = ("nts_engine.h", "testing.h")
KE_SOURCES = (
    "ke.c", "ke_news.c", "ke_session.c", "ke_answer.c", "ke_hello.c", "ke_limits.c", "ke_tls.c", "ke_testing.c",
    "random.c",
)  # fmt: skip
KE_HEADERS = ("nts_ke.h", "ke_testing.h")


@dataclass(frozen=True)
class Module:
    """What an extension module is made of. The last header includes the others."""

    sources: tuple[str, ...]
    headers: tuple[str, ...]
    tls: bool = False
    """whether it needs the TLS library"""


MODULES = {"_engine": Module(SOURCES, HEADERS), "_engine_ke": Module(KE_SOURCES, KE_HEADERS, tls=True)}


def declarations(name: str = "_engine") -> str:
    """The parts of the headers that cffi parses."""
    text = "".join((ROOT / "engine" / header).read_text() for header in MODULES[name].headers)
    return "".join(re.findall(r"/\* cffi:begin \*/(.*?)/\* cffi:end \*/", text, re.DOTALL))


@cache
def fingerprint(name: str = "_engine") -> int | None:
    """31 bits that change with the declarations, so that a module built from older ones is detected.

    Cached, because the module too stays as it was loaded. None when the sources are missing.
    """
    try:
        digest = hashlib.sha256(declarations(name).encode()).digest()
    except FileNotFoundError:
        return None
    return int.from_bytes(digest[:4], "big") >> 1


def _libraries(module: Module, archive: Path) -> tuple[list[str | Path], list[str | Path]]:
    """Options for the compiler and for the linker."""
    other = os.environ.get("NTS_KE_TLS", "")
    if not module.tls or not other:
        return [], [archive, *(["-lssl"] if module.tls else []), "-lcrypto"]
    # libaes_siv keeps OpenSSL's libcrypto to itself, so it is the shared one, and no name of the other library is shown
    # to it or to Python. AWS-LC is in part C++.
    return [f"-I{other}/include"], [
        *(archive.with_suffix(".so"), "-Wl,-rpath,$ORIGIN/../libaes_siv"),
        *(f"{other}/lib/libssl.a", f"{other}/lib/libcrypto.a", "-Wl,--exclude-libs,ALL", "-lstdc++"),
    ]


def main(name: str, target: str = "", library: str = "") -> int:
    """Write the binding's C, and compile it with the engine and libaes_siv into one extension module."""
    (ROOT / "build").mkdir(exist_ok=True)
    module = MODULES[name]
    ffi = FFI()
    own = f"enum {{ NTS_FINGERPRINT = {fingerprint(name)} }};"
    ffi.cdef(declarations(name) + own)
    ffi.set_source(f"nts.{name}", f'#include "{module.headers[-1]}"\n{own}')
    binding = ROOT / "build" / f"{name}_binding.c"
    ffi.emit_c_code(str(binding))
    archive = Path(library) if library else ROOT / "libaes_siv" / "libaes_siv.a"
    include, link = _libraries(module, archive)
    command: list[str | Path] = [
        *shlex.split(os.environ.get("CC", "cc")),
        *shlex.split(os.environ.get("CFLAGS", "-O2")),
        *archive.with_name("hardening.flags").read_text().split(),
        *("-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden"),
        *include,
        *(f"-I{folder}" for folder in (ROOT / "engine", ROOT / "libaes_siv", sysconfig.get_path("include"))),
        *("-o", target or ROOT / "nts" / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}", binding),
        *(ROOT / "engine" / source for source in module.sources),
        *link,
    ]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
