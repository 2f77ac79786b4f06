# SPDX-License-Identifier: MIT
"""Cases about the clients: how soon they are done, and how exact they are beside chronyd with the same server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from testkit.processes import ROOT, Suite, eventually
from tools.bench import tables
from tools.bench.bench import Bench
from tools.bench.servers import BenchError, Chronyd

RUNS = 10  # starts in a round
ALLOWED = {"key exchange": 250, "one query": 100}  # ms beyond one and a half starts of Python
SAMPLES = 200
TIMES_CHRONY = 2  # how large our offsets may be
_BARE = "python3 -c pass"
_POLL = -6  # chronyd asks each 2**-6 s; so does our client
_PATIENCE = 60.0  # seconds


def start(bench: Bench) -> None:
    """how soon the clients are done, from the start of Python to its end"""
    suite = bench.suite
    where = ("-c", suite.ca, "-o", suite.client_ini, "127.0.0.1", suite.ke_port)
    commands: dict[str, Sequence[object]] = {
        _BARE: ("-c", "pass"),
        "key exchange": (ROOT / "ntske_client.py", *where),
        "one query": (ROOT / "ntsts_client.py", "-f", suite.client_ini),
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(bench.settings.rounds * RUNS):
        for name, command in commands.items():
            took[name].append(_milliseconds(command))
    rows = [[name, *(f"{x:.0f}" for x in (median(t), min(t), max(t)))] for name, t in took.items()]
    bare = median(took[_BARE])
    goals = [
        tables.goal(f"{name}, ms,", 1.5 * bare + more, median(took[name]), most=True) for name, more in ALLOWED.items()
    ]
    tables.show("start: whole processes, ms", ["", "median", "lowest", "highest"], rows, goals)


def _milliseconds(command: Sequence[object]) -> float:
    line = [sys.executable, *map(str, command)]
    since = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    took = 1000 * (time.perf_counter() - since)
    if done.returncode:
        raise BenchError(f"{command[0]} fails: {done.stderr.strip() or done.returncode}")
    return took


def samples(bench: Bench) -> None:
    """offsets of our time client and of chronyd as a client of our server; all share a clock"""
    suite = bench.suite
    figures: dict[str, list[float]] = {"ntsts_client.py": []}
    chrony = None if bench.no_chrony else Chronyd.find()
    for i in range(bench.settings.rounds):
        if chrony is not None:
            name = f"chronyd {chrony.version}"
            figures.setdefault(name, []).append(_median(_of_chronyd(chrony, suite, bench.folder / f"client-{i}")))
        figures["ntsts_client.py"].append(_median(_of_ours(suite)))
    rows = [[n, *(f"{x:.2f}" for x in (median(v), min(v), max(v)))] for n, v in figures.items()]
    title = f"samples: median of the absolute offsets of {SAMPLES} queries, microseconds"
    notes = [
        tables.goal(f"ours / {rival}", TIMES_CHRONY, tables.ratio(figures, "ntsts_client.py", rival), most=True)
        for rival in list(figures)[1:]
    ]
    tables.show(title, ["", "median", "lowest", "highest"], rows, notes)


def _median(offsets: Sequence[float]) -> float:
    return 1e6 * median(map(abs, offsets))


def _of_ours(suite: Suite) -> list[float]:
    done = suite.ask("--json", "-n", SAMPLES, "-i", 2.0**_POLL)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(answers) < SAMPLES or any("failure" in a for a in answers):
        raise BenchError(f"ntsts_client.py fails: {done.stderr.strip()}")
    return [float(a["offset"]) for a in answers]


def _of_chronyd(chronyd: Chronyd, suite: Suite, folder: Path) -> list[float]:
    """What its log of measurements says. With noselect: else it steers a virtual clock, and shows what is left."""
    folder.mkdir(mode=0o700)
    log = folder / "measurements.log"
    process = chronyd.run(
        folder,
        f"server 127.0.0.1 nts ntsport {suite.ke_port} minpoll {_POLL} maxpoll {_POLL} noselect",
        f"port 0\nntstrustedcerts {suite.ca}\nlogdir {folder}\nlog measurements",
    )
    try:
        eventually(lambda: len(_offsets(log)) >= SAMPLES or process.popen.poll() is not None, _PATIENCE)
    finally:
        process.stop()
    offsets = _offsets(log)
    if len(offsets) < SAMPLES:
        raise BenchError(f"chronyd as a client has {len(offsets)} samples of {SAMPLES}")
    return offsets[:SAMPLES]


def _offsets(log: Path) -> list[float]:
    """The twelfth column, in lines that begin with a date."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [float(line.split()[11]) for line in lines if line[1:2].isdigit() and len(line.split()) > 11]
