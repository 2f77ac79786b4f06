# SPDX-License-Identifier: MIT
"""Worker processes, and the parent that supervises them.

The parent opens the sockets, forks the workers and waits for signals. SIGINT and SIGTERM stop everything. If the set-up
of one of the first workers fails, the server does not start. Later, a worker that dies is reported and replaced, and
the others go on. A worker also stops when its parent dies: it watches the read end of a pipe, the lifeline, whose only
write end the parent holds. Between signals, the parent does its `Duties`.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from nts.base.errors import NTSError
from nts.system import console

_STOP = (signal.SIGINT, signal.SIGTERM)
_WATCHED = (*_STOP, signal.SIGCHLD)
_TICK = 1.0  # seconds
_STOP_GRACE = 5.0  # seconds
_RESPAWN_PAUSE = 1.0  # seconds from one start of a worker to the next, so that a broken one is no fork bomb
_START_POLL_MS = 10  # how often to check for signals while the first workers start
_REPORTED = 3  # exit code of a worker that has reported why it ends


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Duties:
    """What the parent does besides: short functions that raise nothing."""

    ready: Callable[[], None]
    """all workers are set up"""
    signals: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    """signals and what to do about them; workers ignore them"""
    tick: Callable[[], Iterable[int]] = tuple
    """called every second; returns the indexes of workers that hang, which are killed and replaced"""
    replaced: Callable[[], None] = nothing
    """a worker has died and another one runs in its place"""
    stopping: Callable[[], None] = nothing
    """a stop signal has arrived; the workers are told next"""


class StopSignal:
    """In a worker: file descriptors, one of which becomes readable when it is time to stop."""

    def __init__(self, lifeline: int) -> None:
        self._lifeline = lifeline
        self._signalled, wake = socket.socketpair()
        wake.setblocking(False)
        self._wake = wake  # keep it open
        signal.set_wakeup_fd(wake.fileno())
        for number in _STOP:
            signal.signal(number, lambda _number, _frame: None)  # any handler makes Python write to the wake-up fd

    def descriptors(self) -> list[int]:
        """One for signals, one for the death of the parent."""
        return [self._signalled.fileno(), self._lifeline]


SetUp = Callable[[int, StopSignal], Callable[[], None]]
"""Sets up the worker with this index, in its own process. Returns a function that serves until it is time to stop."""


def supervise(count: int, set_up: SetUp, duties: Duties) -> None:
    """Run `set_up(index, stop)()` in `count` processes until SIGINT or SIGTERM. Returns when all have ended.

    NTSError when a worker fails before all are set up, or cannot be forked; then all are stopped.
    """
    pool = _Pool(set_up, duties)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the caller may have had it ignored
    signal.pthread_sigmask(signal.SIG_BLOCK, pool.watched)  # for good: a second signal must not interrupt the shutdown
    try:
        pool.start(count)
        duties.ready()
        pool.supervise()
        duties.stopping()
    finally:
        pool.stop()


class _StartReport:
    """The result of the first workers' set-up: a pipe that each of them holds open until it is ready or has failed."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def ready(self) -> None:
        """In a worker: the set-up has succeeded."""
        os.close(self._read)
        os.close(self._write)

    def failed(self, error: NTSError) -> None:
        """In a worker, which then ends: the set-up has failed."""
        os.write(self._write, pickle.dumps(error))

    def wait(self) -> None:
        """In the parent: wait until all are ready, or a stop signal is pending. Raises the first error reported."""
        os.close(self._write)
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        while not poller.poll(_START_POLL_MS) and not signal.sigpending() & set(_STOP):
            pass
        error = os.read(self._read, 1 << 16) if poller.poll(0) else b""
        os.close(self._read)
        if error:
            raise pickle.loads(error)


@dataclass(frozen=True)
class _Worker:
    index: int
    started: float


class _Pool:
    """The workers, in the parent."""

    def __init__(self, set_up: SetUp, duties: Duties) -> None:
        self._set_up, self._duties = set_up, duties
        self.watched = (*_WATCHED, *duties.signals)
        self._lifeline, self._lifeline_write = os.pipe()
        self._running: dict[int, _Worker] = {}  # by process id
        self._due: dict[int, float] = {}  # when to replace a dead worker, by index
        self._fork_failed = False  # reported already

    def start(self, count: int) -> None:
        """Start the first workers and wait until they are set up."""
        report = _StartReport()
        for index in range(count):
            try:
                self._fork(index, report)
            except OSError as e:
                hint = "set fewer workers in server.ini, or allow more processes (ulimit -u)"
                raise NTSError(f"cannot start worker process {index + 1} of {count}: {e.strerror}", hint=hint) from None
        report.wait()

    def supervise(self) -> None:
        """Do the duties and replace workers that die, until a stop signal arrives."""
        next_tick = time.monotonic() + _TICK
        while True:
            until = min(next_tick, *self._due.values()) if self._due else next_tick
            received = signal.sigtimedwait(self.watched, max(0.0, until - time.monotonic()))
            if received is not None and received.si_signo in _STOP:
                return
            if received is not None and received.si_signo in self._duties.signals:
                self._duties.signals[received.si_signo]()
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + _TICK
                self._kill(set(self._duties.tick()))
            self._reap()
            self._replace()

    def _kill(self, indexes: set[int]) -> None:
        for pid, worker in self._running.items():
            if worker.index in indexes:
                console.warn(f"worker process {pid} hangs: killed")
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ask all workers to end, and kill those that have not ended in time."""
        pids = list(self._running)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _STOP_GRACE
        while pids and time.monotonic() < end:
            pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(0.005)
        for pid in pids:
            console.warn(f"worker process {pid} did not stop: killed")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self._lifeline_write)
        os.close(self._lifeline)

    def _reap(self) -> None:
        """Report the workers that have died, and mark them for replacement."""
        for pid, worker in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._running[pid]
            self._due[worker.index] = worker.started + _RESPAWN_PAUSE  # in the past unless it died young
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            if code != _REPORTED:
                console.warn(f"worker process {pid} ended with {how}; starting another")

    def _replace(self) -> None:
        """Start the replacements that are due."""
        for index in [i for i, due in self._due.items() if due <= time.monotonic()]:
            try:
                self._fork(index)
            except OSError as e:
                self._due[index] = time.monotonic() + _RESPAWN_PAUSE
                if not self._fork_failed:
                    console.warn(f"cannot start another worker process: {e.strerror}; trying again until it works")
                self._fork_failed = True
            else:
                del self._due[index]
                self._duties.replaced()
        self._fork_failed = self._fork_failed and bool(self._due)

    def _fork(self, index: int, report: _StartReport | None = None) -> None:
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._run_worker(index, report)
        self._running[pid] = _Worker(index, started)

    def _run_worker(self, index: int, report: _StartReport | None) -> NoReturn:
        code = 1
        try:
            os.close(self._lifeline_write)
            try:
                stop = StopSignal(self._lifeline)
                for number in self._duties.signals:
                    signal.signal(number, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, self.watched)
                serve = self._set_up(index, stop)
            except OSError as e:  # for example, no descriptors left
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
                code = _REPORTED
        except Exception:  # a bug of ours: print it, and let the parent replace this worker
            console.say(traceback.format_exc())
        finally:
            os._exit(code)
