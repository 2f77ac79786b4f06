# SPDX-License-Identifier: MIT
"""How to run a client under test, and how to tell whether it took the time.

A recipe knows one client: `meet` runs it against the servers of a `Place` and returns the result. The servers see
everything that a client sends, but only the client can tell whether it believed an answer.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import nts

_TICK = 0.05  # seconds between two looks
_GRACE = 3.0  # seconds that a client may run on after we have seen enough
_STOP = 5.0  # seconds for a client to end
_OUTPUT = 20_000  # characters to keep


@dataclass(frozen=True)
class Place:
    """Where a client must go, and for how long."""

    host: str
    ke_port: int
    ntp_port: int
    ca: Path
    folder: Path
    """for whatever the client keeps; the same for all meetings of one scene"""
    count: int = 1
    """how many time requests are wanted"""
    wait: float = 1.0
    """seconds to wait for an answer, for clients that can be told"""
    seconds: float = 20.0
    """when to stop the client in any case"""

    @property
    def state(self) -> Path:
        """The client's state file, if it has one."""
        return self.folder / "state"


@dataclass(frozen=True)
class ClientResult:
    """What a client says about a meeting."""

    accepted: bool | None
    """whether it took the time; None: it does not say"""
    code: int | None = None
    """its exit code, if it ended by itself"""
    output: str = ""
    runs: int = 1
    """how often it was started"""


Enough = Callable[[bool | None], bool]
"""Takes whether the client has accepted time so far; returns whether we have seen enough."""


class Client(Protocol):
    """A client under test."""

    name: str
    resident: bool
    """whether it polls until it is stopped, like a daemon"""
    keeps: bool
    """whether it can start again with its old cookies, without a key exchange"""

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        """Run it against the servers at a place, until it ends or we have seen enough."""
        ...


class CommandClient:
    """Any client that a shell command runs. Exit code 0 means that it took the time.

    In a command, {ke_port}, {ntp_port}, {ca}, {host}, {state}, {dir}, {count} and {wait} stand for the place. `again`
    runs a client that has its state file already; without `again`, `first` runs each time.
    """

    def __init__(self, name: str, first: str, again: str | None = None) -> None:
        self.name, self.first, self.again = name, first, again
        self.resident, self.keeps = False, again is not None
        check_placeholders(first, again or "")

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        outcome, runs = ClientResult(None), 0
        command = self._command(place)
        for i in range(1 if "{count}" in command else place.count):
            if i and enough(outcome.accepted):
                break
            outcome, runs = run(filled(self._command(place), place), place, enough), runs + 1
        return replace(outcome, runs=runs)

    def _command(self, place: Place) -> str:
        return self.again if self.again and place.state.exists() else self.first


def ours() -> CommandClient:
    """The clients of this suite: a key exchange, then queries."""
    python = shlex.quote(sys.executable)
    ke, ts = (f"{python} {_script(name)}" for name in ("ntske_client", "ntsts_client"))
    query = f"{ts} -f {{state}} -n {{count}} -i 0.02 --timeout {{wait}} --json"
    return CommandClient("ours", f"{ke} -c {{ca}} -o {{state}} {{host}} {{ke_port}} && {query}", query)


def _script(name: str) -> str:
    """What makes Python run a script of the suite: its file, or where pip has installed it, its module."""
    path = nts.ROOT / f"{name}.py"
    return shlex.quote(str(path)) if path.exists() else f"-m nts.commands.{name}"


class ManualClient:
    """A client that a person starts and stops. We cannot see whether it takes the time."""

    name, resident, keeps = "by hand", False, False

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        self._say(f"let the client ask {place.host}, NTS-KE port {place.ke_port}, with the CA {place.ca}")
        wait_until(lambda: enough(None), max(place.seconds, 120))
        return ClientResult(None)


class UnknownPlaceholder(ValueError):
    """A command has braces around a name that stands for nothing."""


def filled(command: str, place: Place) -> str:
    """Fill in the place, quoted for the shell."""
    return command.format_map({k: shlex.quote(str(v)) for k, v in _values(place).items()})


def _values(place: Place) -> Mapping[str, object]:
    return {
        "ke_port": place.ke_port, "ntp_port": place.ntp_port, "ca": place.ca, "host": place.host,
        "state": place.state, "dir": place.folder, "count": place.count, "wait": f"{place.wait:g}",
    }  # fmt: skip


def check_placeholders(*commands: str) -> None:
    """UnknownPlaceholder if a command cannot be filled in."""
    for command in commands:
        try:
            filled(command, Place("", 0, 0, Path(), Path()))
        except (KeyError, IndexError, ValueError) as e:
            names = ", ".join(f"{{{n}}}" for n in _values(Place("", 0, 0, Path(), Path())))
            raise UnknownPlaceholder(f"{command!r}: {e} is none of {names}; write {{{{ for a brace") from None


def run(command: str, place: Place, enough: Enough) -> ClientResult:
    """Run a shell command until it ends. Stop it if it runs on after we have seen enough, or for too long."""
    with (place.folder / "output").open("a+b") as output:
        start = output.tell()
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place.folder,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = _await(process, place, enough)
        finally:
            stop(process)
        output.seek(start)
        text = output.read().decode(errors="replace")[-_OUTPUT:]
    return ClientResult(None if code is None else code == 0, code, text)


def _await(process: subprocess.Popen[bytes], place: Place, enough: Enough) -> int | None:
    end = time.monotonic() + place.seconds
    while process.poll() is None and time.monotonic() < end:
        if enough(None):
            end = min(end, time.monotonic() + _GRACE)
        time.sleep(_TICK)
    return process.poll()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP)
            return


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; whether it became true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_TICK)
    return True
