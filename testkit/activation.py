# SPDX-License-Identifier: MIT
"""Processes to which sockets are passed, as a service manager does (sd_listen_fds(3))."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

# Makes these descriptors 3, 4, ... and becomes the command. Copies first: they may be among those numbers.
_LAUNCHER = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(d), fcntl.F_DUPFD, 100) for d in sys.argv[1].split(",")]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def activated(descriptors: Sequence[int], command: list[str]) -> list[str]:
    """The command, started with these descriptors passed; they must be inherited (`pass_fds`)."""
    return [sys.executable, "-c", _LAUNCHER, ",".join(map(str, descriptors)), *command]


def bound(kind: socket.SocketKind, host: str = "127.0.0.1") -> socket.socket:
    """A socket for servers, on a port that was free; IPv6 without IPv4."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock
