# SPDX-License-Identifier: MIT
"""A server whose workers do nothing, for test_workers.py. Files in its folder switch faults on:

    python -m testkit.supervised FOLDER COUNT PAUSE

- `set-up` and `system`: the set-up of the workers whose indexes the file holds fails, with our error or the system's;
- `slow`: the set-up of every worker lasts until it is told to stop;
- `serve`: workers whose indexes the file holds fail after their set-up;
- `hangs`: the parent believes that the workers whose indexes the file holds hang;
- `processes`: no more than so many processes can be made; each refusal adds an octet to `refused`;
- `later`: the parent believes that two hours have passed.

A worker leaves its process number in `worker0`, `worker1` ...
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from nts.base.errors import ConfigError, LibraryError
from nts.cli import script
from nts.server import workers
from nts.system import console

FOLDER = Path(sys.argv[1])
COUNT = int(sys.argv[2])
fork, monotonic = os.fork, time.monotonic
made = 0


def limited_fork() -> int:
    global made
    limit = content("processes")
    if limit and made >= int(limit[0]):
        with (FOLDER / "refused").open("a") as refused:
            refused.write("x")
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    made += 1
    return fork()


def shifted_monotonic() -> float:
    return monotonic() + 7200 * (FOLDER / "later").exists()


def content(name: str) -> list[str]:
    try:
        return (FOLDER / name).read_text().split()
    except FileNotFoundError:  # gone between two looks, perhaps
        return []


def meant(fault: str, index: int) -> bool:
    return str(index) in content(fault)


def set_up(index: int, stop: workers.StopSignal) -> Callable[[], None]:
    (FOLDER / f"worker{index}").write_text(str(os.getpid()))
    if meant("set-up", index):
        raise ConfigError("the set-up does not work", hint="repair it")
    if meant("system", index):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if (FOLDER / "slow").exists():
        select.select(stop.descriptors(), [], [])

    def serve() -> None:
        while not select.select(stop.descriptors(), [], [], 0.02)[0]:
            if meant("serve", index):
                raise LibraryError("serving does not work")

    return serve


def main() -> int:
    duties = workers.Duties(
        ready=lambda: console.say("all run"),
        signals={signal.SIGUSR1: lambda: console.say("signalled")},
        tick=lambda: map(int, content("hangs")),
        replaced=lambda: console.say("replaced"),
        stopping=lambda: console.say("stopping"),
    )
    workers.supervise(COUNT, set_up, duties)
    console.say("stopped")
    return 0


if __name__ == "__main__":
    with (
        mock.patch.object(workers, "_RESPAWN_PAUSE", float(sys.argv[3])),
        mock.patch.object(os, "fork", limited_fork),
        mock.patch.object(time, "monotonic", shifted_monotonic),
    ):
        script.run(main)
