# SPDX-License-Identifier: MIT
"""Give up root, and all ways to get it back, once the sockets are open and the private key is read."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
from pathlib import Path

from nts.base.errors import ConfigError, NTSError

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_BPF = 12, 13, 14, 39  # <linux/capability.h>
_CAPABILITY_VERSION, _CAPABILITY_HEADER = 0x20080522, ctypes.c_uint32 * 2


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def account(user: str) -> pwd.struct_passwd:
    """The account of this name. ConfigError when there is none."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"[server] user = {user}: this machine has no such user") from None


def drop(user: str) -> None:
    """Become `user` with its groups, for good. Nothing to do if we are already. NTSError when it cannot be done."""
    found = account(user)
    if (os.getuid(), os.geteuid()) == (found.pw_uid, found.pw_uid):
        return
    try:
        os.initgroups(user, found.pw_gid)
        os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
        os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)
    except PermissionError:
        raise NTSError(f"cannot become user {user}", hint=f"start the server as root or as {user}") from None


def harden() -> None:
    """No new privileges by running programs, and no core dumps: memory holds keys."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise NTSError(f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def give_up(*capabilities: int) -> None:
    """Lose these capabilities for good. NTSError when it cannot be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _CAPABILITY_HEADER(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()  # low and high: three sets each
    failed = libc.capget(ctypes.byref(header), sets)
    had = list(sets)
    for capability in capabilities:
        for each in range(3):
            sets[capability // 32 * 3 + each] &= ~(1 << capability % 32)
    if failed or (list(sets) != had and libc.capset(ctypes.byref(header), sets) != 0):
        raise NTSError(f"cannot give up capabilities: {os.strerror(ctypes.get_errno())}")


def give(user: str, *paths: Path) -> None:
    """Make `user`, if one is named, the owner of what we have just made as root. OSError if the file system refuses."""
    if user and is_root():
        found = account(user)
        for path in paths:
            os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)


def unreadable_for(user: str, paths: list[Path]) -> list[Path]:
    """Those of the files and folders that `user` cannot read. Tried out in a process of that user; wants root."""
    return [path for path in paths if not _can_read(user, path)]


def _can_read(user: str, path: Path) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            drop(user)
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
