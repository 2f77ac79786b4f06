# SPDX-License-Identifier: MIT
"""CPUs, and what the processes of a server have used."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testkit.processes import all_processes, children, stat_of

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD


@dataclass(frozen=True)
class Cpus:
    """Who runs where."""

    server: frozenset[int]
    load: frozenset[int]
    flood: frozenset[int]
    """for a second sender: the load's, where there are only two"""
    servers: frozenset[int]
    """for a server with several workers: up to half of them"""
    loads: frozenset[int]
    """for what asks such a server: as many"""

    @classmethod
    def usable(cls) -> Cpus:
        """The server has the first CPU that we may use, the load the last."""
        cpus = sorted(os.sched_getaffinity(0))
        half = max(1, len(cpus) // 2)
        second = cpus[-2:-1] if len(cpus) > 2 else cpus[-1:]
        return cls(*map(frozenset, (cpus[:1], cpus[-1:], second, cpus[:half], cpus[-half:])))


@contextlib.contextmanager
def running_on(cpus: frozenset[int]) -> Iterator[None]:
    """Processes that are started in this block stay on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process, its children, theirs, and so on."""
    return [pid, *(p for child in children(pid) for p in family(child))]


def cpu_seconds(pids: list[int]) -> float:
    """CPU time of processes with all their threads, by the scheduler's own accounting."""
    # What clock_getcpuclockid() of the C library makes of a process id.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def strangers_cpu_seconds() -> float:
    """CPU time that all other processes of this machine have used, as far as they are to be seen.

    With that of children which have ended, so it is the difference of two calls that tells something. Without that of
    the kernel's threads, which work for the servers too.
    """
    others = set(all_processes()) - set(family(os.getpid()))
    found = [stat_of(pid) for pid in others]
    ticks = sum(int(field) for stat in found if stat and not int(stat[6]) & _KERNEL_THREAD for field in stat[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Octets of memory that a process holds."""
    found = re.search(r"^Rss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
