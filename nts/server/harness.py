# SPDX-License-Identifier: MIT
"""What both servers have in common: workers with counters and master keys, from the first line to the last."""

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


@dataclass(frozen=True)
class Seat:
    """What a worker process is given."""

    index: int
    stop: workers.StopSignal
    counters: memoryview
    """this worker's, indexed by verdict"""
    watcher: KeyWatcher
    log: Callable[[str], None]
    """a line that only --verbose shows"""


class Harness:
    """Runs a server's workers. `counters` can be read at any time."""

    def __init__(self, keys: KeysConfig, workers: int, verdicts: type[IntEnum], *, verbose: bool) -> None:
        self._folder, self._workers = keys.master_keys_dir, workers
        self._log = console.say if verbose else console.ignore
        self.counters = Counters(verdicts, workers)

    def run(self, set_up: Callable[[Seat], Callable[[], None]], announce: Callable[[], None], unit: str) -> None:
        """Run `set_up(seat)()` in each worker until SIGINT or SIGTERM, then say what became of the `unit`s.

        `announce` is called once all workers are set up. NTSError when one cannot be.
        """

        def set_up_worker(index: int, stop: workers.StopSignal) -> Callable[[], None]:
            watcher = KeyWatcher(self._folder, console.warn if index == 0 else console.ignore)
            watcher.ring()  # reports problems with the keys now, and not with the first request
            self._log(f"worker {index} runs as process {os.getpid()}")
            return set_up(Seat(index, stop, self.counters.of(index), watcher, self._log))

        workers.supervise(self._workers, set_up_worker, announce)
        console.say(f"stopped; {unit}: {console.counts(self.counters.totals())}")


def plural(workers: int) -> str:
    """How many worker processes, for a person."""
    return f"{workers} worker{'s' if workers > 1 else ''}"
