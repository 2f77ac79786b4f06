# SPDX-License-Identifier: MIT
"""The folder of master keys: reading and rotating it.

The format is the ancestor's: the file `%04x.key` is named after the key identifier and holds 64 hexadecimal digits and
a newline. The newest file by modification time, then by name, is the current key. Files have mode 0600, the folder has
0700; in a folder that its group may read and nobody else, files have 0640. What root makes belongs to the owner of the
folder. No rotation ever leaves more than `max_keys` of these files, not even for an instant, or removes the current
key. Stray and damaged files are reported and left alone.

A staged key, `%04x.staged`, opens cookies but seals none: there is time to bring it to other machines before the first
cookie is sealed with it. The ancestor does not read it, and `max_keys` does not count it.
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
from nts.codec import foreign_keys, ntp
from nts.codec.keyring import MASTER_KEY_LENGTH, CookieFormat, ForeignKey, KeyRing, MasterKey
from nts.system import files

_KEY, _STAGED = ".key", ".staged"
LOCK = ".lock"
_NAME = re.compile(r"[0-9a-f]{4}\.(key|staged)")
_CONTENT = re.compile(rf"[0-9a-f]{{{2 * MASTER_KEY_LENGTH}}}\n?", re.IGNORECASE)
_PLACE = foreign_keys.PLACES - 1


@dataclass(frozen=True)
class KeyFile:
    """A valid key file."""

    path: Path
    mtime_ns: int
    key: MasterKey


@dataclass(frozen=True)
class Snapshot:
    """The contents of the folder."""

    files: tuple[KeyFile, ...] = ()
    """oldest first"""
    problems: tuple[str, ...] = ()
    """a line for each invalid key file"""
    staged: tuple[KeyFile, ...] = ()
    """oldest first; `stage` makes only one"""

    @property
    def ring(self) -> KeyRing:
        return self.ring_with((), CookieFormat.OWN)

    def ring_with(self, imported: tuple[ForeignKey, ...], cookie_format: CookieFormat) -> KeyRing:
        return KeyRing(tuple(f.key for f in self.files), tuple(f.key for f in self.staged), imported, cookie_format)

    def surplus(self, max_keys: int) -> tuple[KeyFile, ...]:
        """The files that have to go before another key becomes current. Since max_keys >= 2, the current one stays."""
        return self.files[: max(0, len(self.files) - (max_keys - 1))]

    def may_stage(self) -> None:
        """ConfigError when a key is staged."""
        if self.staged:
            raise ConfigError(
                f"{self.staged[0].path} is staged already",
                hint="activate that key, or delete the file if no server uses it",
            )

    def to_activate(self) -> KeyFile:
        """The staged key. ConfigError when there is none or more than one."""
        if not self.staged:
            raise ConfigError("no key is staged", hint="server_helper.py rotate --stage makes one")
        if len(self.staged) > 1:
            names = ", ".join(f.path.name for f in self.staged)
            raise ConfigError(
                f"more than one key is staged: {names}", hint="delete all but the one that every server has"
            )
        return self.staged[0]


def load(folder: Path) -> Snapshot:
    """Read the folder; a missing one counts as empty. ConfigError when it cannot be read."""
    return reload(folder, Snapshot()) or Snapshot()


def reload(folder: Path, last: Snapshot) -> Snapshot | None:
    """Read the folder; None when it is missing. If it is replaced meanwhile, all files are still of the same one.

    A key of the `last` reading whose file is there and cannot be read is still taken: only deleting a file revokes it.
    """
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _load_files(folder, opened, {f.path.name: f for f in (*last.files, *last.staged)})
        finally:
            os.close(opened)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigError(f"cannot read the master keys in {folder}: {e.strerror}") from None


def key_paths(folder: Path) -> list[Path]:
    """Whatever is named like a key file, by name. OSError when the folder cannot be listed."""
    return sorted(folder / name for name in _key_names(folder))


def _key_names(folder: Path | int) -> Iterator[str]:
    """Leaves out our lock and temporary file, the ancestor's `.key+`, and the operator's notes."""
    names = os.listdir(folder)  # noqa: PTH208 - or of a descriptor
    return (n for n in names if n.endswith((_KEY, _STAGED)) and not n.startswith("."))


def _load_files(folder: Path, opened: int, last: dict[str, KeyFile]) -> Snapshot:
    """Read the folder that is open as descriptor `opened`. OSError when it cannot be listed."""
    found, problems = [], []
    for name in sorted(_key_names(opened)):
        try:
            found.append(_load_file(folder / name, opened))
        except FileNotFoundError:
            if _is_link(name, opened):  # otherwise removed since the folder was listed
                problems.append(f"{folder / name}: a symbolic link to a file that does not exist")
        except OSError as e:
            kept = f"{e.strerror}; the key read earlier stays in use" if name in last else e.strerror
            problems.append(f"{folder / name}: {kept}")
            found += [last[name]] if name in last else []
        except ValueError as e:
            problems.append(f"{folder / name}: {e}")
    found.sort(key=lambda f: (f.mtime_ns, f.path.name))
    staged = tuple(f for f in found if f.path.suffix == _STAGED)
    return Snapshot(tuple(f for f in found if f.path.suffix == _KEY), tuple(problems), staged)


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:
        return False


def _load_file(path: Path, folder: int) -> KeyFile:
    if not _NAME.fullmatch(path.name):
        raise ValueError(f"not named with 4 lower-case hexadecimal digits and {path.suffix}")
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


# --- changing --------------------------------------------------------------------------------------------------------

Random = Callable[[int], bytes]
Announce = Callable[[tuple[KeyFile, ...]], None]
"""Gets the files that are about to be removed, while the folder is locked."""


def rotate(
    folder: Path, max_keys: int, random: Random, announce: Announce = lambda _: None
) -> tuple[KeyFile, tuple[int, ...]]:
    """Add a master key and make it the current one. Returns it and the identifiers of the keys removed."""
    with _locked(folder):
        return _add(folder, load(folder), max_keys, random, announce)


def ensure_key(folder: Path, max_keys: int, random: Random) -> KeyFile | None:
    """Make the first master key if there is none. Returns None when there is one already."""
    if load(folder).files:
        return None
    with _locked(folder):
        snapshot = load(folder)
        return None if snapshot.files else _add(folder, snapshot, max_keys, random)[0]


def rotate_if_due(folder: Path, max_keys: int, every: int, random: Random) -> KeyFile | None:
    """Rotate if the current key is `every` seconds old, or there is none. Returns the new key; None: it was not due.

    A time in the future dates from before the clock was set back, and says nothing of the age. Such keys count as made
    now, and their files get this time, in the same order: so the next rotation comes after `every` seconds, as usual.
    A missing folder is no reason to rotate: it may be a mount that comes back.
    """
    if not folder.is_dir() or not _is_due(load(folder), every):
        return None
    with _locked(folder):
        snapshot, now = load(folder), time.time_ns()
        future = [f for f in snapshot.files if f.mtime_ns > now]
        for place, file in enumerate(future, start=1 - len(future)):
            os.utime(file.path, ns=(now + place, now + place))
        if future or not _is_due(snapshot, every):  # not any more: another process was faster
            return None
        return _add(folder, snapshot, max_keys, random)[0]


def _is_due(snapshot: Snapshot, every: int) -> bool:
    """Whether `rotate_if_due` has something to do, which may be to mend times."""
    return not snapshot.files or not 0 <= time.time_ns() - snapshot.files[-1].mtime_ns < every * ntp.NS


def stage(folder: Path, random: Random, place: int | None = None) -> KeyFile:
    """Make a staged key. ConfigError when there is one already. `place`: the two lowest bits of its identifier."""
    with _locked(folder):
        snapshot = load(folder)
        snapshot.may_stage()
        key, mtime_ns = _draw(folder, snapshot, random, place), time.time_ns()
        path = folder / f"{key.id:04x}{_STAGED}"
        files.rename(_write(folder, key, mtime_ns), path)
        return KeyFile(path, mtime_ns, key)


def activate(folder: Path, max_keys: int, announce: Announce = lambda _: None) -> tuple[KeyFile, tuple[int, ...]]:
    """Make the staged key the current one. Returns it and the identifiers of the keys removed, as `rotate` does.

    ConfigError when not exactly one key is staged.
    """
    with _locked(folder):
        snapshot = load(folder)
        staged = snapshot.to_activate()
        if os.path.lexists(staged.path.with_suffix(_KEY)):
            raise ConfigError(f"{staged.path.with_suffix(_KEY)} exists already", hint=f"delete {staged.path}")
        result = _put(folder, snapshot, staged.key, max_keys, announce)
        staged.path.unlink()
        files.sync_folder(folder)
        return result


def install(folder: Path, ring: KeyRing) -> list[str]:
    """Make the folder hold exactly these keys, for a fleet whose plan they are. Returns what was done, in words.

    In an order in which no server ever seals with a key that is neither the current one before nor the one after: the
    current key is written first and made the newest file, and what has to go goes last.
    """
    with _locked(folder):
        snapshot, done = load(folder), list[str]()
        there = {f.path.name: f for f in (*snapshot.files, *snapshot.staged)}
        *old, current = ((f"{k.id:04x}{_KEY}", k) for k in ring.keys)
        staged = [(f"{k.id:04x}{_STAGED}", k) for k in ring.openers[: -len(ring.keys)]]
        newest = max(time.time_ns(), *(f.mtime_ns + 1 for f in snapshot.files), 0)
        if snapshot.files and (snapshot.files[-1].path.name, snapshot.files[-1].key) == current:
            newest = snapshot.files[-1].mtime_ns
        elif current[0] in there and there[current[0]].key == current[1]:
            os.utime(there[current[0]].path, ns=(newest, newest))
            done.append(f"made {current[0]} current")
        for name, key in (current, *old, *staged):
            if name not in there or there[name].key != key:
                files.rename(_write(folder, key, newest - ntp.NS * (name in dict(old))), folder / name)
                done.append(f"wrote {name}")
        for path in key_paths(folder):
            if path.name not in dict((current, *old, *staged)):
                path.unlink()
                done.append(f"removed {path.name}")
        if done:
            files.sync_folder(folder)
        return done


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder if necessary, and hold its lock. Turns OSError into ConfigError."""
    try:
        files.make_folder(folder, 0o700)
        with files.locked(folder / LOCK):
            yield
    except OSError as e:
        raise ConfigError(f"cannot write master keys in {folder}: {e.strerror}") from None


def _add(
    folder: Path, snapshot: Snapshot, max_keys: int, random: Random, announce: Announce = lambda _: None
) -> tuple[KeyFile, tuple[int, ...]]:
    return _put(folder, snapshot, _draw(folder, snapshot, random), max_keys, announce)


def _draw(folder: Path, snapshot: Snapshot, random: Random, place: int | None = None) -> MasterKey:
    """A random key. No file has its identifier yet, not even a damaged one.

    The two lowest bits of identifiers count up, as chronyd has it: its four keys have places by these bits.
    """
    if place is None and snapshot.files:
        place = snapshot.files[-1].key.id + 1
    taken = {name.partition(".")[0] for name in os.listdir(folder)}  # noqa: PTH208 - names only
    while True:
        number = int.from_bytes(random(2), "big")
        number = number if place is None else number & ~_PLACE | place & _PLACE
        key = MasterKey(number, random(MASTER_KEY_LENGTH))
        if f"{key.id:04x}" not in taken:
            return key


def _put(
    folder: Path, snapshot: Snapshot, key: MasterKey, max_keys: int, announce: Announce
) -> tuple[KeyFile, tuple[int, ...]]:
    """Make this key the current one."""
    path = folder / f"{key.id:04x}{_KEY}"
    newest = snapshot.files[-1].mtime_ns if snapshot.files else 0
    mtime_ns = max(time.time_ns(), newest + 1)  # the newest even if the clock went back
    # Write the key before removing any: a full disk must not cost a key. Make room before putting it into place: the
    # folder must never hold more than max_keys.
    fresh = _write(folder, key, mtime_ns)
    surplus = snapshot.surplus(max_keys)
    if surplus:
        announce(surplus)
    for file in surplus:
        file.path.unlink()
    files.rename(fresh, path)
    return KeyFile(path, mtime_ns, key), tuple(f.key.id for f in surplus)


def _write(folder: Path, key: MasterKey, mtime_ns: int) -> Path:
    """Write a key to the temporary file, and return its path."""
    fresh = folder / ".new"
    files.write_private(fresh, key.key.hex() + "\n", mtime_ns=mtime_ns, for_group=is_for_group(folder.stat().st_mode))
    return fresh


def is_for_group(mode: int) -> bool:
    """Whether a folder of this mode is for its group to read and for nobody else: somebody has meant it to be."""
    return mode & 0o057 == 0o050
