# SPDX-License-Identifier: MIT
"""The key files of other servers whose cookies we open (`[keys] import`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nts.base.errors import FormatError
from nts.codec import foreign_keys
from nts.codec.keyring import ForeignKey
from nts.server.config import ForeignFile

_MAX_SIZE = 1 << 16  # octets


class ImportedKeys:
    """What is in these files. A file that cannot be read or understood costs none of the keys read earlier.

    Only a file that is gone takes its keys with it: the other server replaces its file by renaming, but whoever copies
    one to this machine may be halfway.
    """

    def __init__(self, files: Sequence[ForeignFile] = ()) -> None:
        self.files = tuple(files)
        self._keys: dict[Path, tuple[ForeignKey, ...]] = {}

    def read(self) -> tuple[tuple[ForeignKey, ...], list[str]]:
        """The keys, and a line for each file that is not as it should be."""
        problems = []
        for file in self.files:
            try:
                self._keys[file.path] = self._parse(file)
            except FileNotFoundError:
                self._keys[file.path] = ()
                problems.append(f"{file.path} does not exist: cookies of {file.format.value}'s are refused")
            except OSError as e:
                problems.append(f"cannot read {file.path}: {e.strerror}{self._kept(file)}")
            except FormatError as e:
                problems.append(f"{file.path}: {e}{self._kept(file)}")
        return tuple(k for file in self.files for k in self._keys.get(file.path, ())), problems

    def _parse(self, file: ForeignFile) -> tuple[ForeignKey, ...]:
        with file.path.open("rb") as f:
            return foreign_keys.READERS[file.format](f.read(_MAX_SIZE).decode("ascii", errors="replace"))

    def _kept(self, file: ForeignFile) -> str:
        return "; the keys read earlier stay in use" if self._keys.get(file.path) else ""
