# SPDX-License-Identifier: MIT
"""Files: read, written whole or not at all, private to their owner, guarded by a lock."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nts.base.errors import ConfigError

LOCK_TIMEOUT = 10.0  # seconds; a lock is held only while a file is written


def read(path: Path, *, hint: str | None = None) -> bytes:
    """The octets of a file. ConfigError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", hint=hint) from None


def write_private(path: Path, text: str, *, mtime_ns: int | None = None) -> None:
    """Write a file of mode 0600 and wait until it is on disk. Replaces a file of that name.

    For temporary files that `rename` then puts into place. Callers hold a lock and always use the same name, so a
    crash leaves at most one behind.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        if mtime_ns is not None:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
        os.fsync(descriptor)


def rename(temporary: Path, path: Path) -> None:
    """Replace `path` atomically, so that the change survives a power failure."""
    temporary.replace(path)
    sync_folder(path.parent)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a new file. FileExistsError when it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until creations, renames and removals in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `lock`, which is created and never removed. A crash releases the lock."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConfigError(f"{lock} is locked by another process") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
