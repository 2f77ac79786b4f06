# SPDX-License-Identifier: MIT
"""What both servers share: they run workers that count verdicts and follow the master keys."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from nts.server import workers
from nts.server.config import KeysConfig
from nts.server.keystore import KeyWatcher
from nts.system import console


class Counters:
    """A counter for each verdict and worker, in memory that parent and workers share."""

    def __init__(self, verdicts: type[IntEnum], worker_count: int) -> None:
        self._verdicts, self._worker_count = verdicts, worker_count
        self._cells = memoryview(mmap.mmap(-1, 8 * len(verdicts) * worker_count)).cast("Q")

    def of(self, worker: int) -> memoryview:
        """The counters of one worker, indexed by verdict. Only that worker writes them."""
        size = len(self._verdicts)
        return self._cells[worker * size : (worker + 1) * size]

    def totals(self) -> dict[str, int]:
        """The sum over all workers for each verdict, zeros left out."""
        sums = {v.name.lower(): sum(self.of(w)[v] for w in range(self._worker_count)) for v in self._verdicts}
        return {name: count for name, count in sums.items() if count}


@dataclass(frozen=True)
class WorkerContext:
    """What a worker process needs, whichever server it belongs to."""

    index: int
    stop: workers.StopSignal
    counters: memoryview
    """this worker's counters, indexed by verdict"""
    watcher: KeyWatcher
    log: Callable[[str], None]
    """prints a line if --verbose is given"""


class Harness:
    """Runs the workers of a server. `counters` can be read at any time."""

    def __init__(self, keys: KeysConfig, worker_count: int, verdicts: type[IntEnum], *, verbose: bool) -> None:
        self._folder, self._worker_count = keys.master_keys_dir, worker_count
        self._log = console.say if verbose else console.ignore
        self.counters = Counters(verdicts, worker_count)

    def run(
        self, set_up: Callable[[WorkerContext], Callable[[], None]], announce: Callable[[], None], unit: str
    ) -> None:
        """Run `set_up(worker)()` in each worker until SIGINT or SIGTERM, then print the counters of the `unit`s.

        `announce` is called when all workers are set up. NTSError when one of them fails before.
        """

        def set_up_worker(index: int, stop: workers.StopSignal) -> Callable[[], None]:
            watcher = KeyWatcher(self._folder, console.warn if index == 0 else console.ignore)
            watcher.ring()  # report problems with the keys now, not at the first request
            self._log(f"worker {index} runs as process {os.getpid()}")
            return set_up(WorkerContext(index, stop, self.counters.of(index), watcher, self._log))

        workers.supervise(self._worker_count, set_up_worker, announce)
        console.say(f"stopped; {unit}: {console.counts(self.counters.totals())}")


def format_worker_count(count: int) -> str:
    """The number of worker processes, for a person."""
    return f"{count} worker{'s' if count > 1 else ''}"
