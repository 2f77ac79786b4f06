# SPDX-License-Identifier: MIT
"""The plan in a folder that hosts share, or that something copies to them: a file for each name, and a lock.

Where hosts have copies of the folder, one of them changes the plan, and the fleet's `spread` says how long copies take.
A link on the way to a file is followed, so the folder may be a volume that is replaced by renaming a link.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from nts.base.errors import ConfigError
from nts.fleet.store import Item, Refused, Unreachable
from nts.system import files

_LOCK = ".lock"
_NEW = ".new"
_LOOK = 1.0  # seconds


class Folder:
    """`store.Store` in a folder."""

    def __init__(self, folder: Path, lease_seconds: int) -> None:
        self._folder, self._lease_seconds = folder, lease_seconds
        self._mortal: dict[str, bytes] = {}
        self._last: dict[str, Item] = {}

    def read(self, prefix: str, since: int = 0) -> dict[str, Item]:  # noqa: ARG002 - a file has no order
        parent, _, start = prefix.rpartition("/")
        try:
            listed = (path.name for path in (self._folder / parent).iterdir())
            names = sorted(n for n in listed if n.startswith(start) and n[0] != ".")
        except FileNotFoundError:
            if not self._folder.is_dir():
                raise Unreachable(f"{self._folder} is missing") from None
            return {}
        except OSError as e:
            raise Unreachable(f"cannot read {self._folder}: {e.strerror}") from None
        found = {f"{parent}/{n}" if parent else n: self._item(self._folder / parent / n) for n in names}
        return {name: item for name, item in found.items() if item is not None and not self._has_died(name)}

    def _item(self, path: Path) -> Item | None:
        try:
            value = path.read_bytes() if path.is_file() else None
        except FileNotFoundError:
            return None
        except OSError as e:
            raise Unreachable(f"cannot read {path}: {e.strerror}") from None
        return None if value is None else Item(value, int.from_bytes(hashlib.sha256(value).digest()[:7], "big") + 1)

    def _has_died(self, name: str) -> bool:
        """Whether whoever wrote this has ended. By file times and this host's clock: it only decides who is alarmed at
        what, and who may count the seconds."""
        if not name.startswith("alive/") and name != "shared/leader":
            return False
        try:
            return abs(time.time() - (self._folder / name).stat().st_mtime) > self._lease_seconds
        except OSError:
            return True

    def write(self, changes: Mapping[str, bytes | None], expected: Mapping[str, int], *, mortal: bool = False) -> bool:
        try:
            with files.locked(self._folder / _LOCK):
                for name, revision in expected.items():
                    item = self.read(name).get(name)
                    if (item.revision if item else 0) != revision:
                        return False
                for name, value in changes.items():
                    self._put(self._folder / name, value)
        except ConfigError as e:
            raise Unreachable(str(e)) from None
        except FileNotFoundError:
            raise Unreachable(f"{self._folder} is missing") from None
        except OSError as e:
            raise Refused(f"cannot write in {self._folder}: {e.strerror}", hint="who owns it?") from None
        if mortal:
            self._mortal |= {name: value for name, value in changes.items() if value is not None}
        return True

    def _put(self, path: Path, value: bytes | None) -> None:
        if value is None:
            path.unlink(missing_ok=True)
            return
        files.make_folder(path.parent, 0o755)
        files.write_private(path.parent / _NEW, value.decode(), for_group=True)
        files.rename(path.parent / _NEW, path)

    def beat(self) -> bool:
        try:
            for name, value in self._mortal.items():
                if self._has_died(name) or (self._folder / name).read_bytes() != value:
                    self._mortal = {}
                    return False
                os.utime(self._folder / name)
        except OSError as e:
            raise Unreachable(f"cannot write in {self._folder}: {e.strerror}") from None
        return bool(self._mortal)

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + max(seconds, 0.01)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK, left))
            try:
                last, self._last = self._last, self.read("shared/")
            except Unreachable:
                return False
            if last != self._last:
                return True
        return False

    def close(self) -> None:
        for name, value in self._mortal.items():
            if name == "shared/leader" and self.read(name).get(name, Item(b"", 0)).value == value:
                self.write({name: None}, {})
