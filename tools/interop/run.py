# SPDX-License-Identifier: MIT
"""Plays a cell of the matrix, and many."""

from __future__ import annotations

import concurrent.futures
import contextlib
import enum
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nts.system import certs
from testkit.processes import eventually
from tools.interop import network
from tools.interop.cases import PATIENCE, Case, Failed, Fault, Unsupported
from tools.interop.evidence import Evidence, Problem, collect
from tools.interop.network import Machine, Wire
from tools.interop.peers import KE_PORT, NOT_SUPPORTED, Peer

_START = 20.0  # seconds for a server to listen
_KEY_ID_OCTETS = {"ours": 2}  # of a cookie; others have 4
_KEYS = (
    ("keys", "--master-keys"), ("keys/ntskeys", "--chrony-keys"), ("nts-keys", "--ntpsec-keys"),
    ("keyset", "--ntpd-rs-keys"),
)  # fmt: skip


class Grade(enum.Enum):
    """How a cell ends."""

    OK = "succeeded"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Cell:
    """A server with a client in a case."""

    server: Peer
    client: Peer
    case: Case

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.server.name} > {self.client.name}: {self.case.name}"


@dataclass(frozen=True)
class Outcome:
    """What came of a cell."""

    cell: Cell
    grade: Grade
    why: str = ""
    """why it is not supported"""
    faults: tuple[Fault, ...] = ()
    """if it failed: who did not do what"""
    evidence: Evidence = field(default_factory=Evidence)
    seconds: float = 0.0

    @property
    def reason(self) -> str:
        """Why it did not succeed, in one line."""
        return self.why or "; ".join(f.text for f in self.faults)

    @property
    def problems(self) -> list[Problem]:
        """Rules that were broken in it, as the decoder says."""
        # A server that has lost its keys refuses what was authentic before.
        expected = "an NTS NAK, although" if self.cell.case.forgets else "\0"
        return sorted(p for p in self.evidence.problems if not p.text.startswith(expected))


class Play:
    """A stage: both peers at work in a folder, and what can be done to them."""

    def __init__(self, cell: Cell, folder: Path, certificate: Path, keylog: Path | None) -> None:
        self._cell, self.folder = cell, folder
        self._machines: dict[str, Machine] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._began = False
        self._common = {
            "CASE": cell.case.name, "NAME": network.NAME6 if cell.case.ipv6 else network.NAME,
            "CERT": certificate / "server.pem", "KEY": certificate / "server.key", "CA": certificate / "ca.pem",
            "NTP_PORT": cell.case.ntp_port, "TIME_HOST": cell.case.time_host, "AEAD": cell.case.aead or "",
            "KEYLOG_LIBRARY": keylog or "",
        }  # fmt: skip

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Both machines, the wire, and both peers, for the length of the block."""
        with contextlib.ExitStack() as stack:
            for role in ("server", "client"):
                (self.folder / role).mkdir(parents=True)
                self._machines[role] = Machine(self.folder / role)
                stack.callback(self._machines[role].close)
            server, client = self._machines.values()
            self.wire = Wire(server, client, self.folder / "capture.pcap", self._cell.case.ntp_port)
            stack.callback(self.wire.close)
            stack.callback(self._stop, "server")
            stack.callback(self._stop, "client")
            self._start_server()
            self._start("client")
            yield

    def _start(self, role: str, action: str = "") -> subprocess.Popen[bytes]:
        peer: Peer = getattr(self._cell, role)
        environment = peer.environment(**self._common, SSLKEYLOGFILE=self.folder / f"{role}.keys")
        log = self.folder / f"{role}.log"
        process = self._machines[role].start(peer.command(action or role), log, environment)
        if not action:
            self._processes[role] = process
        return process

    def _start_server(self) -> None:
        process, machine = self._start("server"), self._machines["server"]
        ports = (("tcp", KE_PORT), ("udp", self._cell.case.ntp_port))
        eventually(lambda: process.poll() is not None or all(machine.listens(*p) for p in ports), _START)
        self._check()
        if not all(machine.listens(*p) for p in ports):
            raise Failed(f"server: it does not listen within {_START:g} s")

    def _check(self) -> None:
        """Unsupported or Failed when a peer has ended."""
        for role, process in self._processes.items():
            code = process.poll()
            if code == NOT_SUPPORTED:
                raise Unsupported(f"{getattr(self._cell, role).version} as a {role} {self._last_line(role)}")
            if code is not None:
                raise Failed(f"{role}: it ends with exit code {code}")

    def _last_line(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(errors="replace").rpartition("\n")[0].rpartition("\n")[2]

    def _stop(self, role: str) -> None:
        process = self._processes.pop(role, None)
        if process is not None:
            self._machines[role].stop(process)

    def accepted(self) -> int:
        """How many answers the client has taken."""
        return (self.folder / "client.log").read_text(errors="replace").splitlines().count("accepted")

    def takes(self, answers: int, after: str) -> None:
        """Wait until the client has taken so many more answers. Failed."""
        goal = answers + (self.accepted() if self._began else 0)
        self._began = True

        def seen() -> bool:
            self._check()
            return self.accepted() >= goal

        if not eventually(seen, PATIENCE):
            got = answers - (goal - self.accepted())
            raise Failed(f"client: after {after} it takes {got or 'no'} of {answers} answers within {PATIENCE:g} s")

    def restart_server(self, *actions: str) -> None:
        """Stop it, have its program do these, start it again."""
        self._stop("server")
        for action in actions:
            self._do(action)
        self._start_server()

    def rotate(self) -> None:
        """Have the server make a new master key."""
        log = self.folder / "server.log"
        before = len(log.read_text(errors="replace"))
        self._do("rotate")
        if "restart" in log.read_text(errors="replace")[before:].splitlines():
            self.restart_server()

    def _do(self, action: str) -> None:
        process = self._start("server", action)
        if not eventually(lambda: process.poll() is not None, PATIENCE):
            self._machines["server"].stop(process)
            raise Failed(f"server: its program's {action} does not end within {PATIENCE:g} s")
        if process.returncode:
            raise Failed(f"server: its program's {action} ends with exit code {process.returncode}")

    def restart_client(self, between: Callable[[], None]) -> None:
        """Stop it, do something, start it again."""
        self._stop("client")
        between()
        self._start("client")


def play(cell: Cell, folder: Path, certificate: Path, keylog: Path | None) -> Outcome:
    """Run a cell; packets, keys, logs and what was decoded stay in the folder. NetworkError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start, stage = time.monotonic(), Play(cell, folder, certificate, keylog)
    faults: tuple[Fault, ...] = ()
    try:
        with stage.open():
            cell.case.play(stage)
    except Unsupported as e:
        return Outcome(cell, Grade.UNSUPPORTED, str(e), seconds=time.monotonic() - start)
    except Failed as e:
        faults = (Fault(str(e), cell.case.rule),)
    evidence = collect(folder, _keys(folder), cell.case.ntp_port, _KEY_ID_OCTETS.get(cell.server.program.name, 4))
    grade, why = Grade.FAILED, ""
    if not faults:
        try:
            faults = tuple(cell.case.judge(evidence, cell.case))
            grade = Grade.FAILED if faults else Grade.OK
        except Unsupported as e:
            grade, why = Grade.UNSUPPORTED, str(e)
    return Outcome(cell, grade, why, faults, evidence, time.monotonic() - start)


def _keys(folder: Path) -> list[str]:
    """Options of decode for the keys that a cell has left."""
    found = []
    for role in ("server", "client"):
        if (folder / f"{role}.keys").exists():
            found += ["--keylog", f"{role}.keys"]
    for name, option in _KEYS:
        path = folder / "server" / name
        if path.exists() and (option != "--master-keys" or list(path.glob("*.key"))):
            found += [option, f"server/{name}"]
    return found


def play_all(cells: list[Cell], folder: Path, parallel: int, each: Callable[[Outcome], None]) -> list[Outcome]:
    """Run cells, several at a time; `each` gets every outcome as it comes. All outcomes, in the order of the cells."""
    certificate = folder / "certificate"
    shutil.rmtree(certificate, ignore_errors=True)
    certificate.mkdir(parents=True)
    names = (network.NAME, network.NAME6)
    certs.make(names, cert=certificate / "server.pem", key=certificate / "server.key", ca=certificate / "ca.pem")
    keylog, lock, outcomes = _keylog_library(folder), threading.Lock(), {}
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:

        def one(cell: Cell) -> None:
            place = folder / cell.server.name / cell.client.name / cell.case.name
            outcome = play(cell, place, certificate, keylog)
            with lock:
                outcomes[cell] = outcome
                each(outcome)

        futures = [pool.submit(one, cell) for cell in cells]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [outcomes[cell] for cell in cells]


def _keylog_library(folder: Path) -> Path | None:
    """What makes a program that uses OpenSSL write its TLS secrets, where there is a compiler."""
    library = folder / "keylog.so"
    if shutil.which("cc") is None:
        return None
    source = Path(__file__).with_name("keylog.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", str(library), str(source)], check=True)
    return library
