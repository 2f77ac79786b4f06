# SPDX-License-Identifier: MIT
"""The service manager's side of a server: notifications, watchdog and passed sockets, as systemd defines them.

By hand, not with libsystemd's bindings: they need its C library and headers, and all there is to the protocol is one
datagram and a few environment variables (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)). Without a service
manager, nothing here does anything.
"""

from __future__ import annotations

import os
import socket
import time

from nts.base.errors import ConfigError
from nts.base.text import whole_number
from nts.system import console
from nts.system.addresses import format_address

_FIRST_PASSED = 3  # descriptor
_MAX_PASSED = 1024


def notify(*assignments: str) -> None:
    """Tell the service manager `READY=1`, `STATUS=...`, `STOPPING=1` or `WATCHDOG=1`; a warning when it cannot be told.

    Values hold no newline.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a name in the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto("\n".join(assignments).encode(), address)
    except OSError as e:
        console.warn(f"cannot notify the service manager: {e.strerror or e}")


def notify_reloading() -> None:
    """Tell the service manager that the configuration is being read again. `READY=1` ends that."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval() -> float | None:
    """Seconds from one `WATCHDOG=1` to the next: half the time after which the service manager ends this process.

    None when it does not watch this process. ConfigError when it says what makes no sense.
    """
    text = os.environ.get("WATCHDOG_USEC")
    if text is None or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = whole_number(text, 1, 2**63)
    if usec is None:
        raise ConfigError(f"WATCHDOG_USEC={text!r} in the environment is no number of microseconds")
    return usec / 2e6


def inherited_sockets(kind: socket.SocketKind) -> list[socket.socket]:
    """The sockets that the service manager passed to this process, in its order. Only the first call returns any.

    They do not block and are closed on exec, and the variables that announce them are removed: no child takes them for
    its own. ConfigError when one of them is not what a server of this kind can use.
    """
    variables = {n: os.environ.pop(n, "") for n in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")}
    if variables["LISTEN_PID"] != str(os.getpid()):
        return []
    count = whole_number(variables["LISTEN_FDS"], 1, _MAX_PASSED)
    if count is None:
        raise ConfigError(f"LISTEN_FDS={variables['LISTEN_FDS']!r} in the environment is no number of sockets")
    found: list[socket.socket] = []
    try:
        for descriptor in range(_FIRST_PASSED, _FIRST_PASSED + count):
            found.append(_passed_socket(descriptor, kind))
    except ConfigError:
        for sock in found:
            sock.close()
        raise
    return found


def _passed_socket(descriptor: int, kind: socket.SocketKind) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        raise _unusable(descriptor, kind) from None
    sock.setblocking(False)
    sock.set_inheritable(False)
    try:
        if not _is_server_socket(sock, kind):
            raise _unusable(descriptor, kind)
        if _serves_both_families(sock):  # IPv4 clients would appear with addresses in IPv6
            raise ConfigError(
                f"the service manager's socket {format_address(sock.getsockname())} serves IPv4 and IPv6 at once",
                hint="set BindIPv6Only=ipv6-only in the .socket unit, and list 0.0.0.0 and [::] there",
            )
    except ConfigError:
        sock.close()
        raise
    return sock


def _is_server_socket(sock: socket.socket, kind: socket.SocketKind) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != kind or not sock.getsockname()[1]:
        return False
    return kind != socket.SOCK_STREAM or bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _serves_both_families(sock: socket.socket) -> bool:
    if sock.family != socket.AF_INET6 or sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return False
    host = sock.getsockname()[0]
    return bool(host == "::" or host.startswith("::ffff:"))


def _unusable(descriptor: int, kind: socket.SocketKind) -> ConfigError:
    wanted = "a listening TCP socket" if kind == socket.SOCK_STREAM else "a bound UDP socket"
    return ConfigError(
        f"descriptor {descriptor} from the service manager is not {wanted} for IPv4 or IPv6",
        hint="correct the service manager's .socket unit, or start the server without it",
    )
