# SPDX-License-Identifier: MIT
"""The key file of a server of another kind that shares our master keys (`[keys] export`).

It is replaced by renaming, and keeps its owner and mode: chronyd and NTPsec's ntpd read theirs as users of their own.
"""

from __future__ import annotations

import stat

from nts.base.errors import ConfigError, FormatError
from nts.codec import foreign_keys
from nts.codec.keyring import CookieFormat, ForeignKey, KeyRing
from nts.server.config import ForeignFile
from nts.server.keystore import Random
from nts.system import files


def write(file: ForeignFile, ring: KeyRing, random: Random) -> None:
    """Write the keys of the ring, which must have one. ConfigError when that is not possible.

    The other server's own keys stay, as far as there is room: so it goes on to open its cookies.
    """
    kept = foreign_keys.to_keep(read(file))
    try:
        files.replace(file.path, foreign_keys.WRITERS[file.format](ring, kept, random))
    except FormatError as e:
        raise ConfigError(f"{file.path}: {e}") from None
    except OSError as e:
        raise ConfigError(f"cannot write {file.path}: {e.strerror}") from None


def read(file: ForeignFile) -> tuple[ForeignKey, ...]:
    """What is in the file; nothing when it is missing. ConfigError when it is no such file."""
    try:
        if not stat.S_ISREG(file.path.lstat().st_mode):
            raise ConfigError(f"{file.path} is not a regular file", hint="name the file itself, not a link to it")
        return foreign_keys.READERS[file.format](file.path.read_text("ascii", errors="replace"))
    except FileNotFoundError:
        return ()
    except OSError as e:
        raise ConfigError(f"cannot read {file.path}: {e.strerror}") from None
    except FormatError as e:
        raise ConfigError(f"{file.path}: {e}", hint="delete it if it is to be made anew") from None


def next_place(file: ForeignFile) -> int | None:
    """Which place the first key of ours must have in a file of chronyd's own keys: that of its next one.

    So chronyd loses only a key that it has never used. None when it need not be that one.
    """
    keys = read(file)
    theirs = file.format is CookieFormat.CHRONY and foreign_keys.to_keep(keys[-2:-1])
    return keys[-1].id if theirs else None


def holds(file: ForeignFile, ring: KeyRing) -> bool:
    """Whether the other server, once it has read the file, seals with our current key and opens what we may seal."""
    keys, current = read(file), ring.current
    if current is None:
        return False
    sealing = keys[-2:-1] if file.format is CookieFormat.CHRONY else keys[:1]
    return sealing == (current.foreign(file.format),) and {k.foreign(file.format) for k in ring.staged} <= set(keys)
