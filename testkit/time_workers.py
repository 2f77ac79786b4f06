# SPDX-License-Identifier: MIT
"""A worker of the time server in a thread of the test, which can so read its counters."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nts.protocol.rate_limit import Limit
from nts.protocol.ts_server import Verdict
from nts.server import listen
from nts.server.counters import Board, Counters
from nts.server.harness import WorkerContext
from nts.server.key_watcher import KeyWatcher
from nts.server.ts_daemon import LAYOUT, Cell, NativeWorker, PythonWorker
from nts.server.workers import StopSignal
from nts.system import console
from nts.system.clock import Clock

NO_LIMIT = Limit(rate=0)
WORKERS: dict[str, type[NativeWorker | PythonWorker]] = {"native": NativeWorker, "python": PythonWorker}


@dataclass(frozen=True)
class _Stop:
    """Ends the worker when the other end of the pipe closes."""

    lifeline: int

    def descriptors(self) -> list[int]:
        return [self.lifeline]


@dataclass(frozen=True)
class TimeWorker:
    """A worker on a port of its own on 127.0.0.1, and a client."""

    counters: Counters
    client: socket.socket

    def ask(self, *packets: bytes) -> list[bytes]:
        """The replies to packets, each of which gets one."""
        for packet in packets:
            self.client.send(packet)
        return [self.client.recv(65535) for _ in packets]

    def counted(self) -> dict[str, int]:
        """What is not zero."""
        names = [m.name for cells in (Verdict, Cell) for m in cells]
        return {name: count for name, count in zip(names, self.counters.of(0), strict=True) if count}


@contextlib.contextmanager
def time_worker(engine: str, master_keys: Path, limit: Limit = NO_LIMIT) -> Iterator[TimeWorker]:
    """A worker of either engine, until the end of the block."""
    lifeline, hold = os.pipe()
    (server,) = listen.listening(socket.SOCK_DGRAM, ("127.0.0.1",), 0)
    counters = Counters(LAYOUT, 1)
    context = WorkerContext(
        0,
        cast(StopSignal, _Stop(lifeline)),
        counters.of(0),
        KeyWatcher(master_keys, console.warn),
        False,
        Board(1),
    )
    thread = threading.Thread(target=WORKERS[engine]([server], Clock("local", 10), limit, context).run)
    with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(server.getsockname())
        thread.start()
        try:
            yield TimeWorker(counters, client)
        finally:
            os.close(hold)
            thread.join()
            os.close(lifeline)
