# SPDX-License-Identifier: MIT
"""Which implementations are here, and how to run one: tools/interop/__init__.py has the contract of their programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testkit.processes import ROOT, unmeasured

_PROGRAMS = Path(__file__).with_name("peers")
_PATIENCE = 30.0  # seconds for a program that is called and ends
NOT_SUPPORTED = 127
KE_PORT = 4460


@dataclass(frozen=True)
class Peer:
    """An implementation in one version."""

    program: Path
    version: str
    """as it says it: its name and a number"""
    path: str
    """where its programs are found, first"""

    @property
    def name(self) -> str:
        """A short name, good for files and options."""
        return re.sub(r"[^\w.-]", "-", self.version)

    def command(self, role: str) -> list[str]:
        """What plays a role of the contract."""
        return [str(self.program), role]

    def environment(self, **values: object) -> dict[str, str]:
        """What it needs to know."""
        return _environment(self.path, values)


def _environment(path: str, values: dict[str, object]) -> dict[str, str]:
    names = ("CASE", "NAME", "CERT", "KEY", "CA", "NTP_PORT", "TIME_HOST", "AEAD")
    search = os.pathsep.join(filter(None, (path, os.environ["PATH"], "/usr/sbin", "/sbin")))
    own = {n: v for n, v in unmeasured().items() if n not in ("SSLKEYLOGFILE", "LD_PRELOAD")}
    return {
        **own,
        "PATH": search,
        "PYTHON": sys.executable,
        **dict.fromkeys(names, ""),
        **{n: str(v) for n, v in values.items()},
    }


def here() -> list[Peer]:
    """All that are here: of this machine, and of what tools/peers.sh has unpacked. Each version once, by name."""
    found: dict[str, Peer] = {}
    for folder in ("", *(str(p) for p in sorted((ROOT / ".tools/peers").glob("*/bin")))):
        for program in sorted(_PROGRAMS.iterdir()):
            if os.access(program, os.X_OK):
                done = subprocess.run(
                    [str(program), "version"], env=_environment(folder, {}), capture_output=True, text=True,
                    timeout=_PATIENCE, check=False,
                )  # fmt: skip
                if done.returncode == 0:
                    peer = Peer(program, done.stdout.strip(), folder)
                    found.setdefault(peer.name, peer)
                elif done.returncode != NOT_SUPPORTED:
                    raise OSError(f"{program} version: exit code {done.returncode}: {done.stderr.strip()}")
    return sorted(found.values(), key=lambda p: (p.program.name != "ours", p.name.lower()))


def chosen(peers: list[Peer], names: list[str]) -> Iterator[Peer]:
    """Those whose name starts so; all without names. ValueError when a name fits none."""
    for name in names:
        if not any(p.name.lower().startswith(name.lower()) for p in peers):
            raise ValueError(f"no peer {name!r}; here are {', '.join(p.name for p in peers)}")
    for peer in peers:
        if not names or any(peer.name.lower().startswith(n.lower()) for n in names):
            yield peer
