# SPDX-License-Identifier: MIT
"""The JSON Lines that a run over many servers makes: a report a line, appended when a server is done.

A run that goes on from where another was stopped asks only the servers that have no line. What a crash left of the
last line is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from nts.base.errors import NO_HINT, ConfigError
from nts.check.saved import reading
from nts.check.saved.reading import Report

_BEGIN = '{"tool": "nts_check"'


class Results:
    """The file, open and locked, and the reports in it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self.reports = {report["target"]: report for report in self._read()}

    def _read(self) -> list[Report]:
        with self._path.open("rb") as f:
            octets = f.read()
        whole, newline, rest = octets.rpartition(b"\n")
        begin, begun = _BEGIN.encode(), rest[: len(_BEGIN)]
        if begun != begin[: len(begun)]:
            raise ConfigError(f"{self._path} exists and holds something else", hint="--results names the file to write")
        reports = reading.read(self._path, whole.decode(errors="replace")) if whole.strip() else []
        os.ftruncate(self._descriptor, len(whole) + len(newline))
        return reports

    def add(self, report: Report) -> None:
        """Write a report, so that it survives a crash. ConfigError when the disk refuses."""
        text = json.dumps(report)
        line = text.encode() + b"\n"
        assert line.startswith(_BEGIN.encode())  # or half of it would not be known again
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as e:
            raise ConfigError(f"cannot write {self._path}: {e.strerror}", hint=NO_HINT) from None
        self.reports[report["target"]] = json.loads(text)  # as it is when read again


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Results]:
    """Open the file, make it if need be, and keep other runs out. ConfigError when that fails."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise ConfigError(f"cannot write {path}: {e.strerror}", hint="--results names another file") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Results(path, descriptor)
    except BlockingIOError:
        raise ConfigError(f"another run is writing {path}", hint="--results names another file") from None
    finally:
        os.close(descriptor)
