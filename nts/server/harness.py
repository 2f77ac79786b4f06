# SPDX-License-Identifier: MIT
"""What both servers share: confinement, signals, and workers that count verdicts and follow the master keys."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nts.server import metrics, workers
from nts.server.config import ServerConfig
from nts.server.counters import Board, Counters, Layout
from nts.server.imported_keys import ImportedKeys
from nts.server.key_watcher import KeyWatcher
from nts.system import console, privileges, sandbox, service

_HANGS = 30  # seconds without a sign of life from a worker


@dataclass(frozen=True)
class WorkerContext:
    """What a worker process needs, whichever server it belongs to."""

    index: int
    stop: workers.StopSignal
    counters: memoryview
    """this worker's cells; those of the verdicts come first"""
    watcher: KeyWatcher
    verbose: bool
    """whether to print a line for each session"""
    board: Board

    def beat(self) -> None:
        """Give a sign of life. A worker that gives none for half a minute is killed."""
        self.board.beat(self.index)

    @property
    def say(self) -> Callable[..., None]:
        """Prints a status line, from the first worker alone: the others would say the same."""
        return console.say if self.index == 0 else console.ignore

    @property
    def warn(self) -> Callable[[str], None]:
        """The same for a warning."""
        return console.warn if self.index == 0 else console.ignore


SetUp = Callable[[WorkerContext], Callable[[], None]]


class Harness:
    """Runs the workers of a server. `counters` can be read at any time.

    Make it when the sockets are open and the certificate is loaded: afterwards this process has no rights but those
    that serving needs. NTSError when it cannot give them up.
    """

    def __init__(
        self,
        config: ServerConfig,
        worker_count: int,
        layout: Layout,
        *,
        verbose: bool,
        files: Iterable[Path] = (),
        writable: Iterable[Path] = (),
        metrics_at: tuple[str, int] | None = None,
        sources: Iterable[metrics.Source] = (),
    ) -> None:
        """`files` are read again later, when they change.

        Files in the folders `writable` are made and removed later.

        Prometheus may ask at `metrics_at` for the counters and what else `sources` give.
        """
        self._worker_count = worker_count
        self._verbose = verbose
        self._log = console.say if verbose else console.ignore
        self._reports = True
        self._last_tick = time.monotonic()
        self.counters = Counters(layout, worker_count)
        self.board = Board(worker_count + 1)
        keys = config.keys
        self.watcher = KeyWatcher(keys.master_keys_dir, self._report, ImportedKeys(keys.import_), keys.cookie_format)
        self.watcher.ring()  # read the keys, and report problems with them, while we may still be root
        general = (
            metrics.of_workers(self.board, worker_count),
            metrics.of_counters(self.counters),
            metrics.of_keys(self.watcher),
        )
        self._exporter = metrics.Exporter(metrics_at, (*general, *sources)) if metrics_at else None
        self._confine(config, [self.watcher.folder, *(f.path for f in keys.import_), *files], list(writable))

    def run(
        self,
        set_up: SetUp,
        announce: Callable[[], None],
        unit: str,
        *,
        reload: str,
        look: Callable[[], None] = workers.nothing,
        stopping: Callable[[], None] = workers.nothing,
    ) -> None:
        """Run `set_up(worker)()` in each worker until SIGINT or SIGTERM, then print the verdicts on the `unit`s.

        `announce` is called when all workers are set up. `reload` is what SIGHUP prints. `look` is called every second.
        `stopping` is called before the workers are stopped. NTSError when a worker fails before all are set up.
        """

        def set_up_worker(index: int, stop: workers.StopSignal) -> Callable[[], None]:
            self._reports = index == 0
            if index == self._worker_count:
                assert self._exporter is not None
                return partial(self._exporter.serve, stop, partial(self.board.beat, index))
            worker = WorkerContext(index, stop, self.counters.of(index), self.watcher, self._verbose, self.board)
            worker.beat()
            self._log(f"worker {index} runs as process {os.getpid()}")
            return set_up(worker)

        def ready() -> None:
            announce()
            service.notify("READY=1")

        def tick() -> Iterable[int]:
            now, before, self._last_tick = time.monotonic(), self._last_tick, time.monotonic()
            look()
            if watchdog is not None:
                service.notify("WATCHDOG=1")
            # If we were stopped ourselves, so were the workers.
            return self.board.silent_since(now - _HANGS) if now - before < _HANGS / 2 else ()

        def hang_up() -> None:
            if was_terminal and not os.isatty(2):  # the terminal has been closed
                os.kill(os.getpid(), signal.SIGTERM)
                return
            service.notify_reloading()
            console.say(reload)
            self.board.reload()
            service.notify("READY=1")

        def stop_everything() -> None:
            service.notify("STOPPING=1")
            stopping()

        def show(prefix: str = "") -> None:
            totals = self.counters.totals()
            console.say(f"{prefix}{unit}: {console.counts(totals)}", counters=totals)

        was_terminal = os.isatty(2)
        watchdog = service.watchdog_interval()
        duties = workers.Duties(
            ready=ready,
            signals={signal.SIGHUP: hang_up, signal.SIGUSR1: show},
            tick=tick,
            replaced=self.board.replaced,
            stopping=stop_everything,
        )
        gc.freeze()  # what is there now stays: the workers share it, and their garbage collectors need not look at it
        count = self._worker_count + (self._exporter is not None)  # the last one answers Prometheus
        workers.supervise(count, set_up_worker, duties)
        show("stopped; ")

    def _report(self, problem: str) -> None:
        """A problem with the master keys: one process of us is enough to print it."""
        if self._reports:
            console.warn(problem)

    def _confine(self, config: ServerConfig, followed: list[Path], writable: list[Path]) -> None:
        """Give up root and whatever else serving does not need."""
        server = config.server
        if server.user:
            privileges.drop(server.user)
            for path in followed:
                if not os.access(path, os.R_OK):
                    console.warn(f"user {server.user} cannot read {path}: changes to it will go unnoticed")
        elif privileges.is_root():
            console.warn("runs as root: name another user in server.ini, [server] user")
        privileges.harden()
        if server.sandbox:
            self._log(f"confined by {sandbox.enter(writable)}")
