# SPDX-License-Identifier: MIT
"""The key ring of a running server, which follows the folder of master keys and the imported files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nts.base.errors import ConfigError
from nts.codec.keyring import CookieFormat, ForeignKey, KeyRing
from nts.server import keystore
from nts.server.imported_keys import ImportedKeys
from nts.server.keystore import Snapshot

_RESCAN = 1.0  # seconds
_TICK_NS = 20_000_000  # longer than the granularity of file times on any kernel


class KeyWatcher:
    """A key ring that follows the folder. Each call of `ring` costs a stat(); files are read only after a change.

    Imported files are looked at once a second: another server makes a key long before it uses it, or uses it itself.

    A rename changes the folder's times, so the next call sees a rotation. Files edited in place are seen within a
    second. While the folder is missing or unreadable, the last good ring stays in use, and while a file is unreadable,
    so does its key (to revoke a key, delete its file). `report` gets a line for each new problem.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None],
        imported: ImportedKeys | None = None,
        cookie_format: CookieFormat = CookieFormat.OWN,
    ) -> None:
        self.folder, self._report = folder, report
        self._imports, self._format = imported or ImportedKeys(), cookie_format
        self.imported: tuple[ForeignKey, ...] = ()
        self._seen: tuple[int, int] | None = None
        self._next_scan = 0.0
        self._reported: set[str] = set()
        self._snapshot = Snapshot()
        self._ring = KeyRing()

    def ring(self) -> KeyRing:
        """The current ring."""
        now = time.monotonic()
        signature = self._signature()
        if signature != self._seen or now >= self._next_scan:
            # A folder's times move in steps, which hide a second change within the same step. A change time in the
            # future dates from before the clock was set back, and hides no later change.
            settled = abs(time.time_ns() - signature[0]) > _TICK_NS
            self._seen, self._next_scan = signature if settled else None, now + _RESCAN
            self._reload()
        return self._ring

    @property
    def snapshot(self) -> Snapshot:
        """What the last call of `ring` found, or the last good one."""
        return self._snapshot

    @property
    def seen(self) -> tuple[int, int]:
        """Change time (ns) and inode of the folder at the last look. While they do not change, `ring` is up to date.

        (0, 0), which matches no folder, if it is missing or changed so recently that another change could be hidden.
        """
        return self._seen or (0, 0)

    def _signature(self) -> tuple[int, int]:
        try:
            status = self.folder.stat()
        except OSError:
            return (0, 0)
        return (status.st_ctime_ns, status.st_ino)

    def _reload(self) -> None:
        try:
            found = keystore.reload(self.folder, self._snapshot)
            if found is None and self._snapshot.files:
                raise ConfigError(f"{self.folder} is missing: its last keys stay in use")
            snapshot = found or Snapshot()
            problems = list(snapshot.problems)
        except ConfigError as e:
            snapshot, problems = self._snapshot, [str(e)]
        if not snapshot.files:
            problems.append(f"no master key in {self.folder}: cookies cannot be made or opened")
        imported, more = self._imports.read()
        keys = (snapshot.files, snapshot.staged, imported)
        if keys != (self._snapshot.files, self._snapshot.staged, self.imported) or self._ring.format != self._format:
            self._snapshot, self.imported = snapshot, imported
            self._ring = snapshot.ring_with(imported, self._format)
        problems += more
        unreported, self._reported = set(problems) - self._reported, set(problems)
        for problem in sorted(unreported):
            self._report(problem)
