# SPDX-License-Identifier: MIT
"""Asks many servers at the same time, each at its pace: a thread for each server, which sleeps nearly all the time.

A check waits for its turn between two packets, so one CPU serves many servers. All threads share the turns, so two
names of one address are not asked twice as fast. Only the main thread writes results.
"""

from __future__ import annotations

import queue
import resource
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from nts.check.context import Turns

T = TypeVar("T")
R = TypeVar("R")
_DESCRIPTORS = 128  # of a server: a sweep keeps a socket open for each of its packets
_JOIN = 2.0  # seconds for all threads together to notice that the run is over


def bearable(parallel: int) -> int:
    """So many at a time, or as many as this process may have descriptors for, which it then takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = parallel * _DESCRIPTORS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, most // _DESCRIPTORS)


def each(items: Iterable[T], work: Callable[[T], R], turns: Turns, parallel: int) -> Generator[R, None, None]:
    """What `work` returns for each item, as it comes, from at most so many threads. What it raises is raised here.

    When the caller stops, nothing more is sent. Threads that wait for a peer, up to a minute, end with the process.
    """
    todo: queue.SimpleQueue[T] = queue.SimpleQueue()
    done: queue.SimpleQueue[R | BaseException] = queue.SimpleQueue()
    wanted = 0
    for wanted, item in enumerate(items, 1):  # noqa: B007 - the number of items
        todo.put(item)

    def labour() -> None:
        try:
            while True:
                done.put(work(todo.get_nowait()))
        except queue.Empty:
            pass
        except BaseException as e:
            done.put(e)

    threads = [threading.Thread(target=labour, daemon=True) for _ in range(min(wanted, parallel))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(wanted):
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        turns.end()
        for thread in threads:
            thread.join(_JOIN / len(threads))
