# SPDX-License-Identifier: MIT
"""The folder of master keys: reading, watching and rotating it.

The format is the ancestor's: the file `%04x.key` is named after the key identifier and holds 64 hexadecimal digits and
a newline. The newest file by modification time, then by name, is the current key. Files have mode 0600, the folder has
0700. `rotate` never leaves more than `max_keys` files, not even for an instant, and never removes the current key.
Stray and damaged files are reported and left alone.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nts.base.errors import ConfigError
from nts.codec.keyring import MASTER_KEY_LENGTH, KeyRing, MasterKey
from nts.system import files

_NAME = re.compile(r"[0-9a-f]{4}\.key")
_CONTENT = re.compile(rf"[0-9a-f]{{{2 * MASTER_KEY_LENGTH}}}\n?", re.IGNORECASE)
_RESCAN = 1.0  # seconds
_TICK_NS = 20_000_000  # longer than the granularity of file times on any kernel


@dataclass(frozen=True)
class KeyFile:
    """A valid key file."""

    path: Path
    mtime_ns: int
    key: MasterKey


@dataclass(frozen=True)
class Snapshot:
    """The contents of the folder."""

    files: tuple[KeyFile, ...]
    """oldest first"""
    problems: tuple[str, ...]
    """a line for each invalid key file"""

    @property
    def ring(self) -> KeyRing:
        return KeyRing(tuple(f.key for f in self.files))


def load(folder: Path) -> Snapshot:
    """Read the folder; a missing one counts as empty. ConfigError when it cannot be read."""
    return _load(folder) or Snapshot((), ())


def _load(folder: Path) -> Snapshot | None:
    """Read the folder; None when it is missing. If it is replaced meanwhile, all files are still of the same one."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _load_files(folder, opened)
        finally:
            os.close(opened)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigError(f"cannot read the master keys in {folder}: {e.strerror}") from None


def _load_files(folder: Path, opened: int) -> Snapshot:
    """Read the folder that is open as descriptor `opened`. OSError when it cannot be listed."""
    found, problems = [], []
    for name in sorted(os.listdir(opened)):
        if name.startswith(".") or not name.endswith(".key"):
            continue  # our lock and temporary file, the ancestor's `.key+`, the operator's notes
        try:
            found.append(_load_file(folder / name, opened))
        except FileNotFoundError:
            continue  # removed since the folder was listed
        except OSError as e:
            problems.append(f"{folder / name}: {e.strerror}")
        except ValueError as e:
            problems.append(f"{folder / name}: {e}")
    return Snapshot(tuple(sorted(found, key=lambda f: (f.mtime_ns, f.path.name))), tuple(problems))


def _load_file(path: Path, folder: int) -> KeyFile:
    if not _NAME.fullmatch(path.name):
        raise ValueError("not named with 4 lower-case hexadecimal digits and .key")
    # O_NONBLOCK: do not wait for the other end of a pipe.
    descriptor = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        content = os.read(descriptor, 2 * MASTER_KEY_LENGTH + 2).decode("ascii", errors="replace")
    finally:
        os.close(descriptor)
    if not _CONTENT.fullmatch(content):
        raise ValueError(f"does not hold {2 * MASTER_KEY_LENGTH} hexadecimal digits")
    return KeyFile(path, status.st_mtime_ns, MasterKey(int(path.stem, 16), bytes.fromhex(content)))


def rotate(folder: Path, max_keys: int, random: Callable[[int], bytes]) -> tuple[KeyFile, tuple[int, ...]]:
    """Add a master key and make it the current one. Returns it and the identifiers of the keys removed."""
    with _locked(folder):
        return _add(folder, load(folder), max_keys, random)


def ensure_key(folder: Path, max_keys: int, random: Callable[[int], bytes]) -> KeyFile | None:
    """Make the first master key if there is none. Returns None when there is one already."""
    if load(folder).files:
        return None
    with _locked(folder):
        snapshot = load(folder)
        return None if snapshot.files else _add(folder, snapshot, max_keys, random)[0]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder if necessary, and hold its lock. Turns OSError into ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.locked(folder / ".lock"):
            yield
    except OSError as e:
        raise ConfigError(f"cannot write master keys in {folder}: {e.strerror}") from None


def _add(
    folder: Path, snapshot: Snapshot, max_keys: int, random: Callable[[int], bytes]
) -> tuple[KeyFile, tuple[int, ...]]:
    taken = set(os.listdir(folder))  # noqa: PTH208 - including damaged files, which are not overwritten
    while True:
        key = MasterKey(int.from_bytes(random(2), "big"), random(MASTER_KEY_LENGTH))
        path = folder / f"{key.id:04x}.key"
        if path.name not in taken:
            break
    newest = snapshot.files[-1].mtime_ns if snapshot.files else 0
    mtime_ns = max(time.time_ns(), newest + 1)  # the newest even if the clock went back
    # Write the key before removing any: a full disk must not cost a key. Make room before putting it into place: the
    # folder must never hold more than max_keys. Since max_keys >= 2, the current key stays.
    fresh = folder / ".new"
    files.write_private(fresh, key.key.hex() + "\n", mtime_ns=mtime_ns)
    surplus = snapshot.files[: max(0, len(snapshot.files) - (max_keys - 1))]
    for file in surplus:
        file.path.unlink()
    files.rename(fresh, path)
    return KeyFile(path, mtime_ns, key), tuple(f.key.id for f in surplus)


class KeyWatcher:
    """A key ring that follows the folder. Each call of `ring` costs a stat(); files are read only after a change.

    A rename changes the folder's times, so the next call sees a rotation. Files edited in place are seen within a
    second. While the folder is missing or unreadable, the last good ring stays in use (to revoke a key, delete its
    file). `report` gets a line for each new problem.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        self.folder, self._report = folder, report
        self._seen: tuple[int, int] | None = None
        self._next_scan = 0.0
        self._reported: set[str] = set()
        self._snapshot = Snapshot((), ())
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
            found = _load(self.folder)
            if found is None and self._snapshot.files:
                raise ConfigError(f"{self.folder} is missing: its last keys stay in use")
            snapshot = found or Snapshot((), ())
            problems = list(snapshot.problems)
        except ConfigError as e:
            snapshot, problems = self._snapshot, [str(e)]
        if not snapshot.files:
            problems.append(f"no master key in {self.folder}: cookies cannot be made or opened")
        if snapshot.files != self._snapshot.files:
            self._snapshot, self._ring = snapshot, snapshot.ring
        unreported, self._reported = set(problems) - self._reported, set(problems)
        for problem in sorted(unreported):
            self._report(problem)
