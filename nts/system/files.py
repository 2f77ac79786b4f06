# SPDX-License-Identifier: MIT
"""Files: read, written whole or not at all, private to their owner, guarded by a lock.

What root makes in a folder of another user is that user's: a server that runs as this user must be able to read it.
No file or folder is open to others because of a lax umask.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nts.base.errors import NO_HINT, ConfigError

LOCK_TIMEOUT = 10.0  # seconds; a lock is held only while a file is written


def read(path: Path, *, hint: str | None = None) -> bytes:
    """The octets of a file. ConfigError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", hint=hint) from None


def write_private(
    path: Path, text: str, *, mtime_ns: int | None = None, for_group: bool = False, like: os.stat_result | None = None
) -> None:
    """Write a file of mode 0600 and wait until it is on disk. Replaces a file of that name.

    `for_group`: the group of the folder may read the file too, if it is the file's group as well.
    `like`: it gets this owner and what this mode grants to owner and group.

    For temporary files that `rename` then puts into place. Callers hold a lock and always use the same name, so a
    crash leaves at most one behind.
    """
    path.unlink(missing_ok=True)
    descriptor = _create(path, os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        if for_group and os.fstat(descriptor).st_gid == path.parent.stat().st_gid:
            os.fchmod(descriptor, 0o640)
        if like is not None:
            os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, like.st_mode & 0o660)
        if mtime_ns is not None:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
        os.fsync(descriptor)


def rename(temporary: Path, path: Path) -> None:
    """Replace `path` atomically, so that the change survives a power failure."""
    temporary.replace(path)
    sync_folder(path.parent)


def replace(path: Path, text: str) -> None:
    """Replace a file of another program's, which keeps its owner and mode, except that nobody else may use it. OSError.

    A new one belongs to the owner of the folder, who alone may read it.
    """
    try:
        old = path.lstat()
    except FileNotFoundError:
        old = None
    temporary = path.with_name(f".{path.name}.new")
    try:
        write_private(temporary, text, like=old)
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_new(*new: tuple[Path, bytes, int]) -> None:
    """Write new files, each with its mode: all of them or none. FileExistsError when one exists, else OSError.

    The error names the file. Two callers must not write the same file at the same time.
    """
    temporary = {path: path.with_name(f".{path.name}.new") for path, _, _ in new}
    placed: list[Path] = []
    try:
        for path, data, mode in new:
            with _naming(path):
                temporary[path].unlink(missing_ok=True)
                descriptor = _create(temporary[path], os.O_WRONLY, mode)
                with os.fdopen(descriptor, "wb") as f:
                    f.write(data)
                    f.flush()
                    os.fsync(descriptor)
        for path, _, _ in new:
            with _naming(path):
                os.link(temporary[path], path)  # unlike a rename, overwrites nothing
                placed.append(path)
                sync_folder(path.parent)
    except OSError:
        for path in placed:
            path.unlink()
        raise
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An OSError from here is about this file: a full disk's names none."""
    try:
        yield
    except OSError as e:
        raise OSError(e.errno, e.strerror, str(path)) from None


def _create(path: Path, access: int, mode: int) -> int:
    """Create a file and open it. FileExistsError when there is anything of that name."""
    descriptor = os.open(path, access | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        file, folder = os.fstat(descriptor), path.parent.stat()
        if os.geteuid() == 0 and (file.st_uid, file.st_gid) != (folder.st_uid, folder.st_gid):
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    except OSError:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder with this mode if it is missing, and those above it for everyone to read."""
    if not folder.is_dir():
        make_folder(folder.parent, 0o755)
        folder.mkdir(mode, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until creations, renames and removals in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(lock: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold an exclusive lock on the file `lock`, which is created and never removed. A crash releases the lock.

    ConfigError when another process holds it for `timeout` seconds.
    """
    import fcntl  # here: who locks nothing, as the library does, also runs where there is none

    try:
        descriptor = _create(lock, os.O_RDWR, 0o600)
    except FileExistsError:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConfigError(f"{lock} is locked by another process", hint=NO_HINT) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
