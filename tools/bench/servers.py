# SPDX-License-Identifier: MIT
"""The servers that are measured, each started as a user starts it, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nts.system import certs
from testkit.processes import Process, Suite, eventually, free_port
from tools.bench import machine

_SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


class BenchError(Exception):
    """It cannot go on: one line for a person."""


@dataclass(frozen=True)
class Exchange:
    """Where keys and cookies are to be had: an NTS-KE server, and the CA of its certificate."""

    port: int
    ca: Path


@dataclass(frozen=True)
class Server:
    """A running time server."""

    name: str
    port: int
    process: Process
    exchange: Exchange
    """gives the cookies that it understands"""
    host: str = "127.0.0.1"
    kernel_threads: tuple[int, ...] = ()
    """that work for it"""

    @property
    def pids(self) -> list[int]:
        """All its processes, the first one first."""
        if self.process.popen.poll() is not None:
            raise BenchError(f"{self.name} has ended: {last_line(self.process)}")
        return [*machine.family(self.process.popen.pid), *self.kernel_threads]


def last_line(process: Process) -> str:
    """What a process said last."""
    return (process.output().strip() or "it said nothing").splitlines()[-1]


@contextlib.contextmanager
def starting(what: str) -> Iterator[None]:
    """Where a server's start fails, a BenchError says so."""
    try:
        yield
    except AssertionError as e:  # of testkit.processes: it holds the server's output
        lines = str(e).strip().splitlines() or ["?"]
        raise BenchError(f"{what} does not start: {lines[-1]}") from None


def key_exchange(folder: Path) -> Suite:
    """This suite's key exchange server; its time servers share its master keys."""
    folder.mkdir()
    suite = Suite(folder, options={"ntske": {"aeads": "15, 30"}})
    with starting("ntske_server.py"):
        suite.start_ke()
    return suite


def time_server(name: str, folder: Path, ke: Suite, **ntpv4: object) -> Server:
    """A time server of this suite, with these options in the section [ntpv4] of its server.ini."""
    folder.mkdir()
    suite = Suite(folder, options={"ntpv4": ntpv4, "keys": {"master_keys_dir": ke.keys}})
    with starting("ntsts_server.py"):
        process = suite.start_ts()
    return Server(name, suite.ntp_port, process, Exchange(ke.ke_port, ke.ca))


def echo(name: str, program: Path, folder: Path, ke: Suite) -> Server:
    """The floor: an echo server in C."""
    folder.mkdir()
    port = free_port(socket.SOCK_DGRAM)
    process = Process([str(program), str(port)], folder / "echo.log")
    with starting(str(program)):
        process.wait_for("ready")
    return Server(name, port, process, Exchange(ke.ke_port, ke.ca))


@dataclass(frozen=True)
class Chronyd:
    """An installed chronyd with NTS."""

    program: str
    version: str

    @classmethod
    def find(cls) -> Chronyd:
        """The one on the path. BenchError when there is none of use."""
        program = shutil.which("chronyd", path=_SBIN)
        if program is None:
            raise BenchError("chronyd is not installed")
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        found = re.search(r"version (\S+)", said)
        if found is None or "+NTS" not in said:
            raise BenchError(f"{program} has no NTS")
        return cls(program, found[1])

    def start(self, folder: Path, where: str = "bindaddress 127.0.0.1\nallow 127.0.0.1") -> Server:
        """A time server with NTS. BenchError when it does not run here."""
        folder.mkdir(mode=0o700)
        ca, cert, key = (folder / name for name in ("ca.pem", "cert.pem", "cert.key"))
        certs.make(certs.LOCAL_NAMES, cert=cert, key=key, ca=ca)
        ntp_port, ke_port = free_port(socket.SOCK_DGRAM), free_port()
        process = self.run(
            folder,
            f"{where}\nlocal stratum 10\nport {ntp_port}\nntsport {ke_port}",
            f"ntsservercert {cert}\nntsserverkey {key}\nmaxntsconnections 1000",
        )
        if not eventually(lambda: process.popen.poll() is not None or _accepts(ke_port)) or process.popen.poll():
            process.stop()
            raise BenchError(f"chronyd does not start: {last_line(process)}")
        return Server(f"chrony {self.version}", ntp_port, process, Exchange(ke_port, ca))

    def run(self, folder: Path, *lines: str) -> Process:
        """A chronyd with this configuration. It runs with -x, so it never touches the clock."""
        own = f"cmdport 0\nbindcmdaddress /\npidfile {folder / 'pid'}"
        conf = folder / "chrony.conf"
        conf.write_text("\n".join([*lines, own, ""]))
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise BenchError("chronyd runs only as a user with a name") from None
        own_user = ["-U"] if os.geteuid() else []
        command = [self.program, "-x", "-d", *own_user, "-u", user, "-f", str(conf)]
        return Process(command, folder / "chronyd.log")


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
