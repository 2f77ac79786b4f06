# SPDX-License-Identifier: MIT
"""What the fleet changes on this host: the servers' keys, and the file in which the agent remembers the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from nts.base.errors import ConfigError
from nts.codec.keyring import CookieFormat, KeyRing
from nts.server import keystore
from nts.system import files, privileges


class Target(Protocol):
    """Where servers find their keys."""

    def apply(self, ring: KeyRing) -> list[str]:
        """Let servers use these keys and no others, from their next request on. Returns what had to be changed.

        At no instant does a key seal that is not the last one of the ring, or of the ring before. ConfigError when it
        cannot be done; then everything is as before, or some keys are there that are not needed.
        """

    def keys(self) -> KeyRing:
        """What servers use now."""


class MasterKeys:
    """The folder of our own servers."""

    def __init__(self, folder: Path, user: str, cookie_format: CookieFormat) -> None:
        self._folder, self._user, self._format = folder, user, cookie_format

    def apply(self, ring: KeyRing) -> list[str]:
        demand_format(ring, self._format)
        is_new = not self._folder.exists()
        done = keystore.install(self._folder, ring)
        if is_new:
            privileges.give(self._user, self._folder, *self._folder.iterdir())
        return done

    def keys(self) -> KeyRing:
        return keystore.load(self._folder).ring


def demand_format(ring: KeyRing, ours: CookieFormat) -> None:
    """ConfigError when servers here make other cookies than those of the fleet, which members may not open."""
    if ring.format is not ours:
        raise ConfigError(
            f"the fleet's cookies have the format {ring.format.value}, those of this host {ours.value}: its keys stay "
            "as they are",
            hint="server.ini: [keys] cookie_format",
        )


class Memory:
    """The last plan that was carried out, as it lay in the store: sealed."""

    def __init__(self, path: Path, user: str = "") -> None:
        """`user`: whose the file is, if root makes it."""
        self._path, self._user = path, user

    def load(self) -> bytes | None:
        """None when there is none. ConfigError when it cannot be read."""
        return files.read(self._path) if self._path.exists() else None

    def save(self, value: bytes) -> None:
        """ConfigError when it cannot be written."""
        try:
            is_new = not self._path.parent.exists()
            files.make_folder(self._path.parent, 0o755)
            fresh = self._path.with_name(f".{self._path.name}.new")
            files.write_private(fresh, value.decode())
            privileges.give(self._user, fresh, *([self._path.parent] if is_new else []))
            files.rename(fresh, self._path)
        except OSError as e:
            raise ConfigError(f"cannot write {self._path}: {e.strerror}") from None

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
