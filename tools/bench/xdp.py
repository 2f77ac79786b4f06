# SPDX-License-Identifier: MIT
"""The case of AF_XDP: requests over a veth pair, where what the kernel does for a server is counted with the server.

The interfaces have threaded NAPI: a kernel thread of its own does the work of each, on the CPU of the server or of the
load. Without that, soft interrupts would run wherever the sender is, on nobody's account. The socket engine and chronyd
have an interface of their own, since a BPF program costs those who pass it. Clients make the checksums themselves, as
if there were a wire.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from testkit import namespaces
from testkit.namespaces import OtherNetwork
from testkit.processes import all_processes
from tools.bench import machine, servers, tables
from tools.bench.bench import SOCKETS, WINDOW, Bench, Load
from tools.bench.requests import Kind
from tools.bench.servers import BenchError, Server

PAST, THROUGH = "AF_XDP", "sockets"
_PAIRS = {PAST: 77, THROUGH: 78}
QUERIES, GAP_US = 2000, 300
BACKGROUND = 32
PORTS = 128
HEAD_START = 0.3  # seconds, for a load that runs beside what is measured
STAMPS = {"user": "client reads the clock", "kernel": "kernel stamps"}
T = TypeVar("T")


@dataclass(frozen=True)
class _Way:
    """How requests get to a server."""

    interface: str
    host: str
    threads: tuple[int, ...]
    """the kernel's, on the server's side"""


def _napi_threads() -> set[int]:
    found = set()
    for pid in all_processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith("napi/"):
                found.add(pid)
    return found


def _thread(interface: str, cpus: frozenset[int]) -> tuple[int, ...]:
    """Give the interface of this network threads on these CPUs, and say which."""
    before = _napi_threads()
    namespaces.ethtool(interface, namespaces.GRO, 1)  # without a BPF program, a veth uses NAPI only with this,
    namespaces.ethtool(interface, namespaces.SEGMENTATION, 0)  # and for what comes from one without that
    command = f"mount -t sysfs sysfs /sys && echo 1 >/sys/class/net/{interface}/threaded"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, check=False)
    found = tuple(_napi_threads() - before)
    if done.returncode or not found:
        raise BenchError(f"no threaded NAPI: {done.stderr.strip()}")
    for pid in found:
        os.sched_setaffinity(pid, cpus)
    return found


def _joined(bench: Bench, other: OtherNetwork, net: int) -> _Way:
    near, far = f"near{net}", f"far{net}"
    namespaces.join(other, near, far, net)
    with other.inside():
        namespaces.ethtool(far, namespaces.CHECKSUMS, 0)
        _thread(far, bench.cpus.load)
    return _Way(near, f"10.{net}.0.1", _thread(near, bench.cpus.server))


@contextlib.contextmanager
def _servers(outer: Bench) -> Iterator[tuple[Bench, OtherNetwork, list[Server]]]:
    """The servers in a network of their own, and the one that their clients are in."""
    folder = outer.folder / "xdp"
    folder.mkdir()
    with namespaces.other_network() as other, Bench(outer.settings, folder, outer.cpus) as bench:
        ways = {name: _joined(bench, other, net) for name, net in _PAIRS.items()}

        def on(way: str, server: Server) -> Server:
            return replace(server, host=ways[way].host, kernel_threads=ways[way].threads)

        past = bench.suite_server(PAST, bench.cpus.server, engine="native", xdp=ways[PAST].interface)
        found = [on(PAST, past), on(THROUGH, bench.suite_server(THROUGH, bench.cpus.server, engine="native"))]
        if bench.settings.chrony:
            chronyd = servers.Chronyd.find()
            chrony = bench.started(lambda: chronyd.start(folder / "chrony", "allow all"), bench.cpus.server)
            found.append(on(THROUGH, chrony))
        for server in found:
            for kind in (Kind.NTS, Kind.ODD):
                bench.requests(server, kind)
        yield bench, other, found


def xdp(outer: Bench) -> None:
    """AF_XDP beside sockets, on a veth pair (needs root)"""
    if os.geteuid() != 0:
        print("\nxdp: left out, since only root can make networks of its own", flush=True)
        return
    with _servers(outer) as (bench, other, running), other.inside():
        _requests(bench, running)
        _odd(bench, running)
        _timestamps(bench, running)


def _in_turns(bench: Bench, running: list[Server], run: Callable[[Server], T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {server.name: [] for server in running}
    for _ in range(bench.settings.rounds):
        for server in running:
            found[server.name].append(run(server))
    return found


def _requests(bench: Bench, running: list[Server]) -> None:
    measured = _in_turns(bench, running, lambda server: bench.measure(server, Kind.NTS))
    figures = {name: [m.answers / m.cpu for m in values] for name, values in measured.items()}
    goals = {THROUGH: 2.0, **{s.name: 3.5 for s in running[2:]}}
    notes = [tables.goal(f"{PAST} / {name}", least, tables.ratio(figures, PAST, name)) for name, least in goals.items()]
    title = f"xdp: NTS requests per CPU second of server and kernel threads ({WINDOW} in flight)"
    tables.compare(title, figures, list(figures)[1:], notes)


def _odd(bench: Bench, running: list[Server]) -> None:
    """The usual load beside requests that only the Python reference answers."""

    def run(rate: int | None, server: Server) -> float:
        with contextlib.ExitStack() as stack:
            if rate is not None:
                with machine.running_on(bench.cpus.flood):
                    arguments = (bench.settings.seconds + 2 * HEAD_START, SOCKETS, rate)
                    stack.enter_context(bench.loading("flood", server, Kind.ODD, *arguments))
                time.sleep(HEAD_START)
            measured = bench.measure(server, Kind.NTS, sockets=PORTS)
        return measured.answers / measured.seconds

    loads: dict[str, int | None] = {"alone": None, "beside 100,000/s of odd ones": 100_000, "beside a flood of them": 0}
    found = {name: _in_turns(bench, running, partial(run, rate)) for name, rate in loads.items()}
    rows = [[name, *(f"{median(values):,.0f}" for values in figures.values())] for name, figures in found.items()]
    tables.show(
        "xdp: NTS requests per second beside a flood of odd ones", ["", *(server.name for server in running)], rows
    )


def _offset(bench: Bench, stamp: str, loaded: bool, server: Server) -> Load:
    with contextlib.ExitStack() as stack:
        if loaded:
            arguments = (3600, 0, SOCKETS, BACKGROUND // SOCKETS)
            stack.enter_context(bench.loading("closed", server, Kind.NTS, *arguments))
            time.sleep(HEAD_START)
        return bench.load("offset", server, Kind.NTS, QUERIES, GAP_US, stamp)


def _timestamps(bench: Bench, running: list[Server]) -> None:
    """For both kinds of client; what counts is the one that sees more of an error."""
    rows, notes = [], []
    for loaded in (False, True):
        mode = f"{BACKGROUND} in flight" if loaded else "idle"
        runs = {stamp: _in_turns(bench, running, partial(_offset, bench, stamp, loaded)) for stamp in STAMPS}
        for error in ("median", "p99"):
            seen = {s: {name: [x[error] for x in loads] for name, loads in found.items()} for s, found in runs.items()}
            for stamp, figures in seen.items():
                rows.append([f"{mode}, {STAMPS[stamp]}, {error}", *(f"{median(v):.2f}" for v in figures.values())])
            worse = {
                name: [max(pair) for pair in zip(*(f[name] for f in seen.values()), strict=True)]
                for name in (PAST, THROUGH)
            }
            what = f"{PAST} / {THROUGH}, {mode}, {error} of the client that sees more"
            notes.append(tables.goal(what, 1, tables.ratio(worse, PAST, THROUGH), most=True))
    tables.show("xdp: offset error in microseconds", ["", *(server.name for server in running)], rows, notes)
