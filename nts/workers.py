# SPDX-License-Identifier: MIT
"""Worker processes, and the counters they share with the process that watches over them.

The parent opens the sockets, forks the workers, and waits for signals. SIGINT and SIGTERM stop all; a worker that
dies is replaced, and said so. A worker also stops when its parent dies: it watches the read end of a pipe whose
only write end the parent holds.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from enum import IntEnum

from nts import cli

_STOP = (signal.SIGINT, signal.SIGTERM)
_STOP_GRACE = 5.0  # seconds
_RESPAWN_PAUSE = 1.0  # seconds between deaths of workers, so that a broken one does not become a fork bomb


class Counters:
    """One counter for each verdict and worker, in memory that parent and workers share."""

    def __init__(self, verdicts: type[IntEnum], workers: int) -> None:
        self._verdicts, self._workers = verdicts, workers
        self._cells = memoryview(mmap.mmap(-1, 8 * len(verdicts) * workers)).cast("Q")

    def of(self, worker: int) -> memoryview:
        """The counters of one worker, indexed by verdict; only that worker writes them."""
        size = len(self._verdicts)
        return self._cells[worker * size : (worker + 1) * size]

    def totals(self) -> dict[str, int]:
        """All workers' counts by verdict, those that are not zero."""
        sums = {v.name.lower(): sum(self.of(w)[v] for w in range(self._workers)) for v in self._verdicts}
        return {name: count for name, count in sums.items() if count}


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


def supervise(count: int, work: Callable[[int, StopSignal], None], announce: Callable[[], None]) -> None:
    """Run `work(index, stop)` in `count` processes until SIGINT or SIGTERM; returns when all have ended.

    `announce()` is called once they run: from then on, a signal stops them in good order.
    """
    watched = (*_STOP, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    lifeline, hold = os.pipe()
    running = {_start(i, work, lifeline, hold): i for i in range(count)}
    announce()
    last_death = 0.0
    while True:
        got = signal.sigwait(watched)
        if got in _STOP:
            break
        for index in _reap(running):
            if time.monotonic() < last_death + _RESPAWN_PAUSE:
                time.sleep(_RESPAWN_PAUSE)
            last_death = time.monotonic()
            running[_start(index, work, lifeline, hold)] = index
    _stop_all(list(running))
    os.close(hold)
    os.close(lifeline)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _stop_all(pids: list[int]) -> None:
    """Ask all workers to end; those that do not within the grace are made to."""
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + _STOP_GRACE
    while pids and time.monotonic() < end:
        pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
        time.sleep(0.005)
    for pid in pids:
        cli.warn(f"worker process {pid} does not stop: killed")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _reap(running: dict[int, int]) -> list[int]:
    """The indexes of workers that have died; each is said."""
    dead = []
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            dead.append(running.pop(pid))
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            cli.warn(f"worker process {pid} ended with {how}; starting another")
    return dead


def _start(index: int, work: Callable[[int, StopSignal], None], lifeline: int, hold: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.close(hold)
        stop = StopSignal(lifeline)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP, signal.SIGCHLD))
        work(index, stop)
        code = 0
    except Exception:  # our own bug: say where, end this worker, and let the parent start another
        cli.say(traceback.format_exc())
    finally:
        os._exit(code)
