# SPDX-License-Identifier: MIT
"""Members of a fleet whose plan lies in a folder: configuration files, and fleet_helper.py run with them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testkit.key_files import ids
from testkit.processes import ROOT, Process, eventually, run, write_ini


@dataclass
class FolderMember:
    """One member with a folder of its own. All that have one parent share its wrapping key."""

    folder: Path
    shared: Path
    """where it sees the plan"""
    lead: str = "yes"
    metrics: str = ""
    fleet: Mapping[str, object] = field(default_factory=dict)
    """more options of [fleet]"""
    cookie_format: str = "own"

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.name, self.ini, self.keys = self.folder.name, self.folder / "fleet.ini", self.folder / "master_keys"
        write_ini(self.folder / "server.ini", keys=self._keys, ntske={"aeads": "15"})
        write_ini(
            self.ini,
            fleet={
                "name": self.name, "backend": "folder", "wrapping_key": "../fleet.key", "lead": self.lead,
                "lease": "2s", "poll": "2s", "metrics": self.metrics, **self.fleet,
            },
            folder={"path": self.shared},
        )  # fmt: skip

    @property
    def _keys(self) -> dict[str, object]:
        return {"master_keys_dir": "master_keys", "cookie_format": self.cookie_format}

    def line(self, *arguments: str) -> list[str]:
        """The command line of `run`."""
        return [sys.executable, str(ROOT / "fleet_helper.py"), "-c", str(self.ini), *arguments]

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run("fleet_helper.py", *arguments, "-c", self.ini)

    def must(self, *arguments: object) -> str:
        """It succeeds. Its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.must("status", "--json"))
        return found

    def ids(self) -> list[str]:
        """The keys of this host, oldest first."""
        return [f"{i:04x}" for i in ids(self.keys)]

    @contextlib.contextmanager
    def agent(self, *arguments: str) -> Iterator[Process]:
        """Runs meanwhile."""
        process = Process(self.line("agent", *arguments), self.folder / "agent.log")
        try:
            process.wait_for("agent of")
            yield process
        finally:
            process.stop()


def members(folder: Path, *names: str) -> list[FolderMember]:
    """Members that share one folder, not joined yet."""
    (folder / "shared").mkdir()
    return [FolderMember(folder / name, folder / "shared") for name in names]


@contextlib.contextmanager
def leading(folder: Path, *, spread: int, life: int) -> Iterator[FolderMember]:
    """A fleet by time, with one member, which leads; `spread` and `life` of cookies in seconds."""
    (folder / "original").mkdir()
    member = FolderMember(folder / "a", folder / "original")
    member.must("init", "--spread", f"{spread}s", "--cookie-life", f"{life}s")
    with member.agent():
        assert eventually(lambda: (member.shared / "clock").exists())
        yield member
