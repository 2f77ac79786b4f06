# SPDX-License-Identifier: MIT
"""Which servers take part, the requests they get, and one measurement of one server."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from nts.base.errors import NTSError
from nts.codec.aead import Aead
from testkit.processes import ROOT, Suite
from tools.bench import machine, requests, servers
from tools.bench.requests import Client, Kind
from tools.bench.servers import BenchError, Exchange, Server

WINDOW = 128  # requests in flight
SOCKETS = 4  # they come from so many ports
PROGRAMS = ROOT / "build" / "bench"
FLOOR = "floor (echo)"

Load = dict[str, float]
"""what load.c prints"""


@dataclass(frozen=True)
class Settings:
    """What the user asks for."""

    rounds: int = 5
    seconds: float = 1.0
    """of one measurement"""
    chrony: bool = True
    soak: int = 0
    """requests"""


@dataclass(frozen=True)
class Measurement:
    """One server under load from one program."""

    answers: float
    seconds: float
    cpu: float
    """CPU seconds that the server took"""
    lost: float


class Bench:
    """Starts servers when a case wants them, and stops them all in the end."""

    def __init__(self, settings: Settings, folder: Path, cpus: machine.Cpus | None = None) -> None:
        self.settings, self.folder = settings, folder
        self.cpus = cpus or machine.Cpus.usable()
        self.no_chrony = "" if settings.chrony else "--no-chrony was given"
        self._stack = contextlib.ExitStack()
        self._clients: dict[tuple[Exchange, Aead], list[Client]] = {}
        self._files: dict[tuple[Exchange, Kind], tuple[Path, int]] = {}
        self._checked: set[tuple[str, Kind]] = set()

    def __enter__(self) -> Bench:
        build = ["tools/cmake_build.sh", "tools/bench", "build/bench"]
        if subprocess.run(build, cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode:
            raise BenchError("the load generator cannot be built")
        self._stack.enter_context(machine.running_on(self.cpus.load))
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    # --- servers ----------------------------------------------------------------------------------------------------

    def started(self, start: Callable[[], Server], cpus: frozenset[int]) -> Server:
        """What `start` starts, on these CPUs; stopped in the end."""
        with machine.running_on(cpus):
            server = start()
        self._stack.callback(server.process.stop)
        return server

    def suite_server(self, name: str, cpus: frozenset[int], **ntpv4: object) -> Server:
        """A time server of this suite with these options of [ntpv4]."""
        folder = self.folder / name.replace(" ", "-")
        return self.started(lambda: servers.time_server(name, folder, self._key_exchange, **ntpv4), cpus)

    @cached_property
    def _key_exchange(self) -> Suite:
        suite = servers.key_exchange(self.folder / "ke")
        self._stack.callback(suite.stop)
        return suite

    @cached_property
    def suite(self) -> Suite:
        """Both servers of this suite, and a client.ini from them."""
        folder = self.folder / "suite"
        folder.mkdir()
        suite = Suite(folder)
        self._stack.callback(suite.stop)
        with machine.running_on(self.cpus.server), servers.starting("the suite"):
            suite.start_ke()
            suite.start_ts()
        if (done := suite.fetch()).returncode:
            raise BenchError(f"ntske_client.py fails: {done.stderr.strip()}")
        return suite

    @cached_property
    def native(self) -> Server:
        """The native engine, with one worker."""
        return self.suite_server("native engine", self.cpus.server, engine="native")

    @cached_property
    def python(self) -> Server:
        """The Python reference, with one worker."""
        return self.suite_server("Python reference", self.cpus.server, engine="python")

    @cached_property
    def floor(self) -> Server:
        """The echo server."""
        program, folder = PROGRAMS / "echo", self.folder / "echo"
        return self.started(lambda: servers.echo(FLOOR, program, folder, self._key_exchange), self.cpus.server)

    @cached_property
    def chrony(self) -> Server | None:
        """chronyd; None where there is none, and then `no_chrony` says why."""
        if self.no_chrony:
            return None
        try:
            chronyd = servers.Chronyd.find()
            return self.started(lambda: chronyd.start(self.folder / "chrony"), self.cpus.server)
        except BenchError as e:
            self.no_chrony = str(e)
            return None

    # --- load -------------------------------------------------------------------------------------------------------

    def requests(self, server: Server, kind: Kind) -> tuple[Path, int]:
        """A file of requests for a server, and how many octets the longest has. NTSError when a key exchange fails."""
        exchange = server.exchange
        if (exchange, kind.aead) not in self._clients:
            self._clients[exchange, kind.aead] = [Client(exchange, kind.aead) for _ in range(requests.CLIENTS)]
        clients = self._clients[exchange, kind.aead]
        if (exchange, kind) not in self._files:
            path = self.folder / f"{kind.name.lower()}-{exchange.port}"
            self._files[exchange, kind] = path, requests.write(path, kind, clients)
        if kind.answer == "nts" and server.name != FLOOR and (server.name, kind) not in self._checked:
            clients[0].check(server, kind)
            self._checked.add((server.name, kind))
        return self._files[exchange, kind]

    def speaks(self, server: Server, kind: Kind) -> bool:
        """Whether a server gives keys for such requests, and answers them."""
        try:
            self.requests(server, kind)
        except (BenchError, NTSError):
            return False
        return True

    def octets(self, kind: Kind) -> int:
        """How long a request to this suite's server is."""
        return self.requests(self.native, kind)[1]

    @contextlib.contextmanager
    def loading(
        self, mode: str, server: Server, kind: Kind, *arguments: float | str
    ) -> Iterator[subprocess.Popen[str]]:
        """load.c at work; it is stopped at the end of the block, if it still is."""
        path, _ = self.requests(server, kind)
        command = [PROGRAMS / "load", mode, server.host, server.port, path, *arguments]
        with subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.terminate()

    def load(self, mode: str, server: Server, kind: Kind, *arguments: float | str) -> Load:
        """What load.c found."""
        with self.loading(mode, server, kind, *arguments) as process:
            return result(process)

    def measure(self, server: Server, kind: Kind, *, requests: int = 0, sockets: int = SOCKETS) -> Measurement:
        """Closed loops for the usual time, or so many requests."""
        seconds = 3600 if requests else self.settings.seconds
        arguments = (seconds, requests, sockets, WINDOW // sockets)
        self.requests(server, kind)  # making them is no load
        pids = server.pids
        before = machine.cpu_seconds(pids)
        load = self.load("closed", server, kind, *arguments)
        cpu = machine.cpu_seconds(pids) - before
        return Measurement(answers(server, kind, load), load["seconds"], cpu, load["lost"])


def result(process: subprocess.Popen[str]) -> Load:
    """What load.c prints when it is through. BenchError when it fails."""
    printed, _ = process.communicate()
    if process.returncode:
        raise BenchError("the load generator failed")
    found: Load = json.loads(printed)
    return found


def answers(server: Server, kind: Kind, load: Load) -> float:
    """How many answers there were. BenchError where they are not of the right kind."""
    right = "other" if server.name == FLOOR else kind.answer
    wrong = sum(load[name] for name in ("nts", "plain", "nak", "other") if name != right)
    if wrong or not load[right]:
        raise BenchError(f"{server.name}: {load[right]:.0f} answers of the kind {right}, {wrong:.0f} of others")
    return load[right]
