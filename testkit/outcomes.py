# SPDX-License-Identifier: MIT
"""Many slow jobs at the same time, so that their waits do not add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Outcomes(Generic[K, T]):
    """Starts every job, `parallel` of them at a time. `outcomes[key]` waits for one, up to `timeout` seconds."""

    def __init__(self, jobs: Mapping[K, Callable[[], T]], *, parallel: int, timeout: float) -> None:
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(parallel)
        self._futures = {key: self._pool.submit(job) for key, job in jobs.items()}

    def __getitem__(self, key: K) -> T:
        return self._futures[key].result(self._timeout)

    def __enter__(self) -> Outcomes[K, T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
