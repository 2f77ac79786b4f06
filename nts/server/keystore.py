# SPDX-License-Identifier: MIT
"""The folder of master keys: read, watched for changes, and rotated.

Its format is shared with the ancestor's servers: `%04x.key`, named for the key identifier, holds 64 hexadecimal
digits and a newline; the newest by modification time, then by name, is the current one. Files are of mode 0600 and
the folder of 0700. At no instant does it hold more than `max_keys` of them, the current key is never removed, and a
stray or damaged file is reported and left alone.
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
_TICK_NS = 20_000_000  # longer than a step of any kernel's file times


@dataclass(frozen=True)
class KeyFile:
    """One good key file."""

    path: Path
    mtime_ns: int
    key: MasterKey


@dataclass(frozen=True)
class Snapshot:
    """What the folder held at one instant."""

    files: tuple[KeyFile, ...]
    """oldest first"""
    problems: tuple[str, ...]
    """a line for each file that is not a good key file"""

    @property
    def ring(self) -> KeyRing:
        return KeyRing(tuple(f.key for f in self.files))


def load(folder: Path) -> Snapshot:
    """Read the folder. A folder that does not exist is an empty one; ConfigError when it cannot be read."""
    return _load(folder) or Snapshot((), ())


def _load(folder: Path) -> Snapshot | None:
    """The folder's contents, all of one and the same folder even if another takes its place; None: there is none."""
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
    """Of the folder that is open as `opened`. OSError when it cannot be listed."""
    found, problems = [], []
    for name in sorted(os.listdir(opened)):
        if name.startswith(".") or not name.endswith(".key"):
            continue  # our lock and temporary file, the ancestor's `.key+`, notes of the operator's
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
    # Without waiting for a pipe's other end.
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
    """Add a new master key, which is current from now on; it and the identifiers of the keys that were removed."""
    with _exclusive(folder):
        return _add(folder, load(folder), max_keys, random)


def ensure_key(folder: Path, max_keys: int, random: Callable[[int], bytes]) -> KeyFile | None:
    """Make the first master key if there is none. Returns it, or None when there was one."""
    if load(folder).files:
        return None
    with _exclusive(folder):
        snapshot = load(folder)
        return None if snapshot.files else _add(folder, snapshot, max_keys, random)[0]


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """The folder, made if need be, under its lock; whatever the disk refuses becomes one line."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.locked(folder / ".lock"):
            yield
    except OSError as e:
        raise ConfigError(f"cannot write master keys in {folder}: {e.strerror}") from None


def _add(
    folder: Path, snapshot: Snapshot, max_keys: int, random: Callable[[int], bytes]
) -> tuple[KeyFile, tuple[int, ...]]:
    taken = set(os.listdir(folder))  # noqa: PTH208 - damaged files too: never overwritten
    while True:
        key = MasterKey(int.from_bytes(random(2), "big"), random(MASTER_KEY_LENGTH))
        path = folder / f"{key.id:04x}.key"
        if path.name not in taken:
            break
    newest = snapshot.files[-1].mtime_ns if snapshot.files else 0
    mtime_ns = max(time.time_ns(), newest + 1)  # the current one even if the clock went back
    # On disk before anything is removed: a full disk must not cost a key. Then make room, since the folder must never
    # hold more than max_keys; with max_keys >= 2 the current key stays.
    fresh = folder / ".new"
    files.write_private(fresh, key.key.hex() + "\n", mtime_ns=mtime_ns)
    surplus = snapshot.files[: max(0, len(snapshot.files) - (max_keys - 1))]
    for file in surplus:
        file.path.unlink()
    files.rename(fresh, path)
    return KeyFile(path, mtime_ns, key), tuple(f.key.id for f in surplus)


class KeyWatcher:
    """A key ring that follows the folder: one stat() per look, and the files are read only after a change.

    A rename changes the folder's times, so a rotation is seen at the next look. Files that are edited in place are
    seen within a second. While the folder has gone or cannot be read the last good ring stays in use (to revoke a key,
    delete its file); `report` gets a line for each new problem.
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
            # On many kernels the times of a folder move in steps, and a second change within a step does not show. A
            # change time in the future is from before the clock was set back, and hides no later change.
            settled = abs(time.time_ns() - signature[0]) > _TICK_NS
            self._seen, self._next_scan = signature if settled else None, now + _RESCAN
            self._reload()
        return self._ring

    @property
    def seen(self) -> tuple[int, int]:
        """Change time (ns) and inode of the folder at the last look. While these are the same, `ring` is up to date.

        (0, 0), which no folder has, when it was gone, or had changed so recently that another change would not show.
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
                raise ConfigError(f"{self.folder} has gone: the keys that were in it stay in use")
            snapshot = found or Snapshot((), ())
            problems = list(snapshot.problems)
        except ConfigError as e:
            snapshot, problems = self._snapshot, [str(e)]
        if not snapshot.files:
            problems.append(f"no master key in {self.folder}: no cookie can be made or opened")
        if snapshot.files != self._snapshot.files:
            self._snapshot, self._ring = snapshot, snapshot.ring
        unsaid, self._reported = set(problems) - self._reported, set(problems)
        for problem in sorted(unsaid):
            self._report(problem)
