# SPDX-License-Identifier: MIT
"""The key file of a server of another kind that shares our master keys (`[keys] export`).

It is replaced by renaming, and keeps its owner and mode: chronyd and NTPsec's ntpd read theirs as users of their own.
"""

from __future__ import annotations

import shlex
import stat
import subprocess

from nts.base.errors import NO_HINT, ConfigError, FormatError
from nts.base.text import harmless
from nts.codec import foreign_keys
from nts.codec.keyring import CookieFormat, ForeignKey, KeyRing
from nts.server.config import ForeignFile
from nts.server.keystore import Random
from nts.system import files

_COMMAND_TIME = 60  # seconds


def write(file: ForeignFile, ring: KeyRing, random: Random, *, whole: bool = False) -> bool:
    """Write the keys of the ring, which must have one. Returns whether something else was there. ConfigError when that
    is not possible.

    The other server's own keys stay, as far as there is room: so it goes on to open its cookies. `whole`: as far as all
    keys of the ring leave room. Otherwise its own ones hold their places until a newer key of ours needs them.
    """
    kept = foreign_keys.to_keep(read(file))
    if whole:
        if not foreign_keys.fits(file.format, ring):
            raise ConfigError(f"{file.path} has no room for all keys until the oldest has gone", hint=NO_HINT)
        kept = foreign_keys.beside(file.format, ring, kept)
    try:
        text = foreign_keys.WRITERS[file.format](ring, kept, random)
        if file.path.exists() and file.path.read_bytes() == text.encode():
            return False
        files.replace(file.path, text)
    except FormatError as e:
        raise ConfigError(f"{file.path}: {e}") from None
    except OSError as e:
        raise ConfigError(f"cannot write {file.path}: {e.strerror}") from None
    return True


def tell(command: tuple[str, ...], option: str) -> None:
    """Run the command that has the other server read its file. ConfigError when it fails; `option` names it there."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=_COMMAND_TIME, check=False,
        )  # fmt: skip
        problem = harmless(" ".join(done.stdout.split())) or f"exit code {done.returncode}"
    except OSError as e:
        problem = str(e.strerror)
    except subprocess.TimeoutExpired:
        problem = f"it took more than {_COMMAND_TIME} seconds"
    else:
        if done.returncode == 0:
            return
    raise ConfigError(
        f"{option} = {shlex.join(command)} failed: {problem}",
        hint="the other server has not read its keys; once it can, try again, which goes on from here",
    )


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
