# SPDX-License-Identifier: MIT
"""Worker processes, and the process that watches over them.

The parent opens the sockets, forks the workers, and waits for signals. SIGINT and SIGTERM stop all. When the set-up of
one of the first workers meets an error, the server does not start; from then on a worker that dies is replaced, and
said so, and nothing that happens to one of them ends the others. A worker also stops when its parent dies: it watches
the read end of a pipe whose only write end the parent holds.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from nts.base.errors import NTSError
from nts.system import console

_STOP = (signal.SIGINT, signal.SIGTERM)
_WATCHED = (*_STOP, signal.SIGCHLD)
_STOP_GRACE = 5.0  # seconds
_RESPAWN_PAUSE = 1.0  # seconds from one start of a worker to the next, so that a broken one is no fork bomb
_START_POLL_MS = 10  # how soon a signal is seen that comes while the first workers start
_SAID = 3  # exit code of a worker that has said itself why it ends


class StopSignal:
    """In a worker: a file descriptor that becomes readable when it is time to stop."""

    def __init__(self, lifeline: int) -> None:
        self._lifeline = lifeline
        self._signalled, wake = socket.socketpair()
        wake.setblocking(False)
        self._wake = wake  # kept open
        signal.set_wakeup_fd(wake.fileno())
        for number in _STOP:
            signal.signal(number, lambda _number, _frame: None)  # what it does is to wake the descriptor

    def descriptors(self) -> list[int]:
        """Readable when the worker is to stop: after a signal, or when the parent is gone."""
        return [self._signalled.fileno(), self._lifeline]


SetUp = Callable[[int, StopSignal], Callable[[], None]]
"""Prepares the worker of this index, in its own process, and returns what serves until it is time to stop."""


def supervise(count: int, set_up: SetUp, announce: Callable[[], None]) -> None:
    """Run `set_up(index, stop)()` in `count` processes until SIGINT or SIGTERM; returns when all have ended.

    `announce()` is called once all are set up. Before that, the NTSError of a worker, or a machine that has no room
    for another process, ends all of them and is raised here.
    """
    crew = _Crew(set_up)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have had it ignored
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)  # for good: a second one must not cut short what ends in order
    try:
        crew.start(count)
        announce()
        crew.keep()
    finally:
        crew.stop()


class _StartReport:
    """How the set-up of the first workers went: a pipe that each of them holds until it is ready or has failed."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def ready(self) -> None:
        """In a worker: nothing is to be told any more."""
        os.close(self._read)
        os.close(self._write)

    def failed(self, error: NTSError) -> None:
        """In a worker, which then ends."""
        os.write(self._write, pickle.dumps(error))

    def wait(self) -> None:
        """In the parent: until all are ready, or a signal to stop waits for us. Raises what the first one tells."""
        os.close(self._write)
        told = select.poll()
        told.register(self._read, select.POLLIN)
        while not told.poll(_START_POLL_MS) and not signal.sigpending() & set(_STOP):
            pass
        error = os.read(self._read, 1 << 16) if told.poll(0) else b""
        os.close(self._read)
        if error:
            raise pickle.loads(error)


@dataclass(frozen=True)
class _Worker:
    index: int
    started: float


class _Crew:
    """The workers, as the parent sees them."""

    def __init__(self, set_up: SetUp) -> None:
        self._set_up = set_up
        self._lifeline, self._hold = os.pipe()
        self._running: dict[int, _Worker] = {}  # by process
        self._due: dict[int, float] = {}  # when a worker that has died is to be replaced, by index
        self._refused = False  # the machine has no room for another process, and that has been said

    def start(self, count: int) -> None:
        """Start the first workers, and wait until they are set up."""
        report = _StartReport()
        for index in range(count):
            try:
                self._fork(index, report)
            except OSError as e:
                hint = "set fewer workers in server.ini, or allow more processes (ulimit -u)"
                raise NTSError(f"cannot start worker process {index + 1} of {count}: {e.strerror}", hint=hint) from None
        report.wait()

    def keep(self) -> None:
        """Replace workers that die, until a signal says to stop."""
        while True:
            if self._due:
                got = signal.sigtimedwait(_WATCHED, max(0.0, min(self._due.values()) - time.monotonic()))
            else:
                got = signal.sigwaitinfo(_WATCHED)
            if got is not None and got.si_signo in _STOP:
                return
            self._reap()
            self._replace()

    def stop(self) -> None:
        """Ask all workers to end; those that do not within the grace are made to."""
        pids = list(self._running)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _STOP_GRACE
        while pids and time.monotonic() < end:
            pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(0.005)
        for pid in pids:
            console.warn(f"worker process {pid} does not stop: killed")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self._hold)
        os.close(self._lifeline)

    def _reap(self) -> None:
        """Note which workers have died; each is said."""
        for pid, worker in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._running[pid]
            self._due[worker.index] = worker.started + _RESPAWN_PAUSE  # long past, if it has lived long
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            if code != _SAID:
                console.warn(f"worker process {pid} ended with {how}; starting another")

    def _replace(self) -> None:
        """Start the workers that are due."""
        for index in [i for i, due in self._due.items() if due <= time.monotonic()]:
            try:
                self._fork(index)
            except OSError as e:
                self._due[index] = time.monotonic() + _RESPAWN_PAUSE
                if not self._refused:
                    console.warn(f"cannot start another worker process: {e.strerror}; trying again until it works")
                self._refused = True
            else:
                del self._due[index]
        self._refused = self._refused and bool(self._due)

    def _fork(self, index: int, report: _StartReport | None = None) -> None:
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._be_worker(index, report)
        self._running[pid] = _Worker(index, started)

    def _be_worker(self, index: int, report: _StartReport | None) -> NoReturn:
        code = 1
        try:
            os.close(self._hold)
            try:
                stop = StopSignal(self._lifeline)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
                serve = self._set_up(index, stop)
            except OSError as e:  # no descriptors left, for one
                raise NTSError(f"a worker process cannot start: {e.strerror}") from None
            if report:
                report.ready()
                report = None
            serve()
            code = 0
        except NTSError as e:
            if report:
                report.failed(e)
            else:
                console.warn(f"worker process {os.getpid()} ended: {e}; starting another")
                code = _SAID
        except Exception:  # our own bug: say where, end this worker, and let the parent start another
            console.say(traceback.format_exc())
        finally:
            os._exit(code)
