# SPDX-License-Identifier: MIT
"""A folder of master keys: files made by hand, and what is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nts.server import keystore

HEX = "0f" * 32
NOBODY = 65534


def put(folder: Path, name: str, content: str = HEX, age: float = 0) -> Path:
    """Write a file that was last changed `age` seconds ago."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(content)
    os.utime(path, ns=(0, time.time_ns() - int(age * 1e9)))
    return path


def key_names(folder: Path) -> set[str]:
    return {n for n in os.listdir(folder) if n.endswith(".key")}  # noqa: PTH208 - names only


def ids(folder: Path) -> list[int]:
    """Of the keys that count, oldest first."""
    return [f.key.id for f in keystore.load(folder).files]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything, if we are root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)
