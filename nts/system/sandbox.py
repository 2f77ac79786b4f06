# SPDX-License-Identifier: MIT
"""Take from a server what it never needs, so that whoever takes it over gains little. No privilege is needed for it.

Landlock (landlock(7)): no writing anywhere but into given folders, no running of programs, no new TCP connections or
listeners, no signals to other programs. Three system calls, which no kept Python library makes. seccomp: no system
calls that only administrators and debuggers use, refused with EPERM. libseccomp, which Debian's apt and systemd need
too, knows their numbers on every architecture.

Reading is left to the permissions of the user: Python loads modules late, and operators keep keys anywhere.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

from cffi import FFI

from nts.base.errors import NTSError

# <linux/landlock.h>
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 0, 1 << 1, 1 << 5, 1 << 8, 1 << 14
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_ALL_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many there are, by version
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1  # version 4
_SCOPE_SIGNAL = 1 << 1  # version 6
_IN_FOLDER = _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE

_FORBIDDEN = """
    execve execveat ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd perf_event_open bpf userfaultfd
    io_uring_setup io_uring_enter io_uring_register
    mount umount2 move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr pivot_root chroot unshare setns
    swapon swapoff acct quotactl quotactl_fd name_to_handle_at open_by_handle_at
    init_module finit_module delete_module kexec_load kexec_file_load reboot syslog
    add_key request_key keyctl
    settimeofday clock_settime sethostname setdomainname vhangup lookup_dcookie personality iopl ioperm mknod mknodat
"""
_CLOCK = "adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday stime"
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO
_PRETEND = 0x00050000  # the call returns 0, and nothing is done
_NO_SUCH_CALL = -1  # __NR_SCMP_ERROR

_ffi = FFI()
_ffi.cdef(
    """
    typedef void *scmp_filter_ctx;
    scmp_filter_ctx seccomp_init(uint32_t def_action);
    void seccomp_release(scmp_filter_ctx ctx);
    int seccomp_syscall_resolve_name(const char *name);
    int seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int syscall, unsigned int count, void *args);
    int seccomp_load(scmp_filter_ctx ctx);
    """
)


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("access_fs", ctypes.c_uint64), ("access_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def enter(writable: list[Path]) -> str:
    """Restrict this process and its children for good; `privileges.harden` comes first.

    Files in the folders `writable` can be made, changed and removed. Returns what is in force, for a person. A kernel
    or machine that lacks one of the two is served by the other.
    """
    return ", ".join((_landlock(writable), _seccomp()))


def _call(number: int, *arguments: Any) -> int:
    """A Landlock system call. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _landlock(writable: list[Path]) -> str:
    try:
        version = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    except OSError as e:
        return f"no Landlock ({e.strerror})"
    handled = (1 << _ALL_RIGHTS.get(version, 16)) - 1 & ~(_READ_FILE | _READ_DIR)
    attributes = _RulesetAttributes(
        handled, _BIND_TCP | _CONNECT_TCP if version >= 4 else 0, _SCOPE_SIGNAL if version >= 6 else 0
    )
    size = 8 if version < 4 else 16 if version < 6 else 24  # the structure grew
    try:
        ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
        try:
            for path, access in [*((p, _IN_FOLDER) for p in writable), (Path(os.devnull), _WRITE_FILE)]:
                _allow(ruleset, path, access & handled)
            _call(_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)
    except OSError as e:
        raise NTSError(f"Landlock: {e.strerror}", hint="set sandbox = no in server.ini") from None
    return f"Landlock {version}"


def _allow(ruleset: int, path: Path, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(access, descriptor)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def _seccomp() -> str:
    try:
        library = _libseccomp()
    except OSError:
        return "no seccomp (libseccomp.so.2 is not installed)"
    try:
        _filter(library, _FORBIDDEN, _REFUSE)
    except OSError as e:
        raise NTSError(f"seccomp: {e.strerror}", hint="set sandbox = no in server.ini") from None
    return "seccomp"


def still_clock() -> None:
    """Keep this process and its children from the clock for good, and let them believe that they set it.

    What would read how the clock is steered succeeds too, and tells nothing. OSError where that cannot be done.
    """
    _filter(_libseccomp(), _CLOCK, _PRETEND)


def has_seccomp() -> bool:
    """Whether this machine has libseccomp."""
    try:
        return bool(_libseccomp())
    except OSError:
        return False


def _libseccomp() -> Any:
    return _ffi.dlopen("libseccomp.so.2")


def _filter(library: Any, names: str, action: int) -> None:
    """Put a seccomp filter of system calls in force. OSError."""
    context = library.seccomp_init(_ALLOW)
    try:
        for name in names.split():
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != _NO_SUCH_CALL:  # unknown to this libseccomp
                library.seccomp_rule_add_array(context, action, number, 0, _ffi.NULL)
        error = library.seccomp_load(context)
    finally:
        library.seccomp_release(context)
    if error:
        raise OSError(-error, os.strerror(-error))
