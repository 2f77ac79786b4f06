# SPDX-License-Identifier: MIT
"""What is measured. Each case prints a table, and says whether its goals are met."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TypeVar

from tools.bench import clients, machine, sessions, tables, xdp
from tools.bench.bench import FLOOR, SOCKETS, WINDOW, Bench, Load, Measurement, answers, result
from tools.bench.requests import Kind
from tools.bench.servers import BenchError, Server, last_line

QUERIES, GAP_US = 2000, 300  # for timestamps
MAX_LOST = 0.01  # of those; if more are lost, the others tell nothing
BACKGROUND = 32  # requests in flight beside them
STAMPS = {"user": "for a client that reads the clock", "kernel": "for a client that has the kernel stamp"}
ERRORS = {"median": "median", "p99": "99 %"}  # as load.c and the tables call them
PORTS = 128  # source ports, where it matters how requests are spread
SOAK = 10_000_000  # requests, where no number was asked for
WARM_UP = 20_000  # requests before, after which every buffer has been touched
PAGE = 4096
HEAD_START = 0.3  # seconds, for a load that runs beside what is measured

Measurements = dict[str, list[Measurement]]
T = TypeVar("T")


def _in_turns(bench: Bench, runs: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Every run once in every round."""
    found: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(bench.settings.rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def _serving(bench: Bench, kind: Kind, *servers: Server | None) -> dict[str, Callable[[], Measurement]]:
    """For each server that takes part, what measures it."""

    def run(server: Server) -> Callable[[], Measurement]:
        return lambda: bench.measure(server, kind)

    return {s.name: run(s) for s in servers if s is not None}


def _rivals(bench: Bench) -> list[str]:
    return [*([bench.chrony.name] if bench.chrony else []), FLOOR]


def _per_cpu_second(measured: Measurements) -> dict[str, list[float]]:
    return {name: [m.answers / m.cpu for m in values] for name, values in measured.items()}


def _lost(measured: Measurements) -> list[str]:
    """A note for each server that left many requests unanswered."""
    shares = {
        name: sum(m.lost for m in values) / sum(m.lost + m.answers for m in values) for name, values in measured.items()
    }
    return _loss_notes(shares)


def _loss_notes(shares: Mapping[str, float]) -> list[str]:
    return [f"{name}: {share:.1%} of the requests were lost" for name, share in shares.items() if share > 0.001]


def _goal(bench: Bench, rival: Server | None, figures: tables.Figures, least: float) -> list[str]:
    """How many times the rival's figures the native engine's are to be, if that rival takes part."""
    if rival is None:
        return []
    found = tables.ratio(figures, bench.native.name, rival.name)
    return [tables.goal(f"{bench.native.name} / {rival.name}", least, found)]


# --- answers per CPU second ------------------------------------------------------------------------------------------


def nts(bench: Bench) -> None:
    """NTS requests, one cookie back, by each engine, and under AEAD 30"""
    runs = _serving(bench, Kind.NTS, bench.native, bench.python, bench.chrony, bench.floor)
    with_30 = [bench.native, *([bench.chrony] if bench.chrony and bench.speaks(bench.chrony, Kind.AEAD_30) else [])]
    runs |= {f"{name}, AEAD 30": run for name, run in _serving(bench, Kind.AEAD_30, *with_30).items()}
    measured = _in_turns(bench, runs)
    figures = _per_cpu_second(measured)
    notes = [*_lost(measured), last_line(bench.native.process).partition(": ")[2]]
    notes += [f"{bench.chrony.name} does not speak AEAD 30"] if bench.chrony and bench.chrony not in with_30 else []
    notes += _goal(bench, bench.chrony, figures, 1.8) + _goal(bench, bench.floor, figures, 0.85)
    found = tables.ratio(figures, f"{bench.native.name}, AEAD 30", bench.native.name)
    octets = " and ".join(str(bench.octets(k)) for k in (Kind.NTS, Kind.AEAD_30))
    title = f"nts: NTS requests answered per CPU second (AEAD 15 and 30, {octets} octets)"
    tables.compare(title, figures, _rivals(bench), [*notes, tables.goal("AEAD 30 / AEAD 15", 1, found)])


def refill(bench: Bench) -> None:
    """NTS requests with 7 placeholders, eight cookies back"""
    measured = _in_turns(bench, _serving(bench, Kind.REFILL, bench.native, bench.chrony, bench.floor))
    figures = _per_cpu_second(measured)
    title = f"refill: NTS requests with 7 placeholders per CPU second ({bench.octets(Kind.REFILL)} octets)"
    tables.compare(title, figures, _rivals(bench), _lost(measured) + _goal(bench, bench.chrony, figures, 1.8))


def plain(bench: Bench) -> None:
    """plain NTP requests"""
    measured = _in_turns(bench, _serving(bench, Kind.PLAIN, bench.native, bench.chrony, bench.floor))
    figures = _per_cpu_second(measured)
    title = f"plain: plain NTP requests answered per CPU second ({bench.octets(Kind.PLAIN)} octets)"
    tables.compare(title, figures, _rivals(bench), _lost(measured) + _goal(bench, bench.chrony, figures, 1))


def nak(bench: Bench) -> None:
    """cookies that cannot be opened, beside good ones"""
    good = f"{bench.native.name}, good cookies"
    runs = _serving(bench, Kind.BAD, bench.native, bench.chrony)
    runs[good] = lambda: bench.measure(bench.native, Kind.NTS)
    measured = _in_turns(bench, runs)
    figures = _per_cpu_second(measured)
    notes = [tables.goal("NTS NAK / good cookies", 1, tables.ratio(figures, bench.native.name, good))]
    title = f"nak: bad cookies answered with an NTS NAK per CPU second ({bench.octets(Kind.BAD)} octets)"
    tables.compare(title, figures, [*_rivals(bench)[:-1], good], _lost(measured) + notes)


def limit(bench: Bench) -> None:
    """a limit of requests that is never reached, and none"""
    limited = bench.suite_server(
        "with a limit",
        bench.cpus.server,
        engine="native",
        rate_limit=1_000_000,
        rate_burst=10_000,
        rate_limit_nts="yes",
    )
    for kind in (Kind.PLAIN, Kind.NTS):
        measured = _in_turns(bench, _serving(bench, kind, limited, bench.native, bench.chrony))
        figures = _per_cpu_second(measured)
        rivals = [bench.native.name, *_rivals(bench)[:-1]]
        title = f"limit: {kind.name.lower()} requests per CPU second, from a single address"
        tables.compare(title, figures, rivals, _lost(measured))


# --- odd packets -----------------------------------------------------------------------------------------------------

_ALONE, _STEADY, _FLOOD = "alone", "beside 100,000/s", "beside a flood"
_TO_NOBODY, _OF_ODD_ONES = " to nobody", " of odd ones"
FLOODS = {_STEADY: 100_000, _FLOOD: 0}
"""how the table calls them; and requests per second, 0 for as many as can be sent"""


@dataclass(frozen=True)
class _Flooded:
    """The usual load, and a flood that runs beside it."""

    usual: Measurement
    flood: Load | None = None


@contextlib.contextmanager
def _nobody(like: Server) -> Iterator[Server]:
    """A port where nobody reads what comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield replace(like, port=sock.getsockname()[1])


def _flooded(bench: Bench, server: Server, target: Server | None = None, rate: int = 0) -> _Flooded:
    """The usual load on a server, with one request in flight from each port, while `target` is flooded."""
    bench.requests(server, Kind.NTS)
    if target is None:
        return _Flooded(bench.measure(server, Kind.NTS, sockets=PORTS))
    bench.requests(server, Kind.ODD)
    with contextlib.ExitStack() as stack:
        with machine.running_on(bench.cpus.flood):
            seconds = bench.settings.seconds + 2 * HEAD_START
            flood = stack.enter_context(bench.loading("flood", target, Kind.ODD, seconds, SOCKETS, rate))
        time.sleep(HEAD_START)
        usual = bench.measure(server, Kind.NTS, sockets=PORTS)
        return _Flooded(usual, result(flood))


def odd(bench: Bench) -> None:
    """a flood of odd packets, which the Python reference must answer, beside the usual load"""
    for server in (bench.native, bench.chrony):
        if server is not None:
            _odd(bench, server)


def _odd(bench: Bench, server: Server) -> None:
    with _nobody(server) as nobody:
        runs = {_ALONE: partial(_flooded, bench, server)}
        for name, rate in FLOODS.items():
            runs[name + _TO_NOBODY] = partial(_flooded, bench, server, nobody, rate)
            runs[name + _OF_ODD_ONES] = partial(_flooded, bench, server, server, rate)
        found = _in_turns(bench, runs)
    rates = {name: [f.usual.answers / f.usual.seconds for f in measured] for name, measured in found.items()}
    rows = [
        [
            name,
            f"{median(rates[name]):,.0f}",
            f"{tables.hundredths(tables.ratio(rates, name, _ALONE))}",
            f"{median(f.usual.lost / (f.usual.lost + f.usual.answers) for f in measured):.1%}",
            f"{median(f.usual.cpu / f.usual.seconds for f in measured):.0%}",
            *_odd_ones([f.flood for f in measured if f.flood is not None]),
        ]
        for name, measured in found.items()
    ]
    notes = _odd_notes(rates) if server is bench.native else []
    head = ["usual load", "answered/s", "kept", "lost", "server's CPU", "odd/s", "answered/s", "share"]
    tables.show(f"odd: {server.name}, NTS requests per second beside a flood of odd ones", head, rows, notes)


def _odd_notes(rates: tables.Figures) -> list[str]:
    """The goals; and without one what is left beside a flood of odd ones, since to send it takes time off the load."""
    steady, flood, to_nobody = _STEADY + _OF_ODD_ONES, _FLOOD + _OF_ODD_ONES, _FLOOD + _TO_NOBODY
    kept, kept_anyway = (tables.hundredths(tables.ratio(rates, name, _ALONE)) for name in (flood, to_nobody))
    return [
        tables.goal(f"{steady} / {_ALONE}", 0.5, tables.ratio(rates, steady, _ALONE)),
        tables.goal(f"{flood} / {to_nobody}", 0.5, tables.ratio(rates, flood, to_nobody)),
        f"{flood} / {_ALONE}: {kept}; what is left beside the same flood to nobody is {kept_anyway}",
    ]


def _odd_ones(floods: Sequence[Load]) -> list[str]:
    """Sent and answered per second, and the share of those answered."""
    if not floods:
        return ["", "", ""]
    sent, answered = (median(f[key] / f["seconds"] for f in floods) for key in ("sent", "nts"))
    return [f"{sent:,.0f}", f"{answered:,.0f}", f"{answered / sent:.1%}"]


# --- several workers -------------------------------------------------------------------------------------------------


def _spread(bench: Bench, server: Server) -> tuple[float, float, list[float]]:
    """Answers per second and per CPU second, and each worker's share of the CPU time."""
    pids = server.pids
    arguments = (bench.settings.seconds, 0, PORTS, WINDOW // PORTS)
    before = [machine.cpu_seconds([pid]) for pid in pids]
    with contextlib.ExitStack() as stack, machine.running_on(bench.cpus.loads):
        running = [stack.enter_context(bench.loading("closed", server, Kind.NTS, *arguments)) for _ in bench.cpus.loads]
        loads = [result(load) for load in running]
    used = [machine.cpu_seconds([pid]) - was for pid, was in zip(pids, before, strict=True)]
    total = sum(answers(server, Kind.NTS, load) for load in loads)
    workers = used[1:]  # the first process only looks after the others
    return total / max(load["seconds"] for load in loads), total / sum(used), [u / sum(workers) for u in workers]


def scale(bench: Bench) -> None:
    """one worker and several"""
    cpus = len(bench.cpus.servers)
    servers = {
        n: bench.suite_server(f"{n} workers", bench.cpus.servers, engine="native", workers=n)
        for n in sorted({1, 2, cpus})
    }
    found: dict[int, list[tuple[float, float, list[float]]]] = {n: [] for n in servers}
    for server in servers.values():
        bench.requests(server, Kind.NTS)
    for _ in range(bench.settings.rounds):
        for n, server in servers.items():
            found[n].append(_spread(bench, server))
    rates = {str(n): [rate for rate, _, _ in runs] for n, runs in found.items()}
    rows = []
    for n, runs in found.items():
        shares = [median(shares) for shares in zip(*(shares for _, _, shares in runs), strict=True)]
        row = [f"{median(rates[str(n)]):,.0f}", f"{tables.hundredths(tables.ratio(rates, str(n), '1'))}"]
        row += [f"{median(rate for _, rate, _ in runs):,.0f}", " ".join(f"{s:.0%}" for s in shares)]
        rows.append([str(n), *row])
    notes = [f"requests come from {PORTS * len(bench.cpus.loads)} ports; a worker's share is that of the CPU time"]
    if cpus == 1:
        notes.append("all workers share one CPU here, since the load needs the other: more per second cannot be seen")
    head = ["workers", "answers/s", "x 1 worker", "per CPU second", "shares"]
    tables.show(f"scale: NTS requests, workers on {cpus} CPU{'s' * (cpus > 1)}", head, rows, notes)


# --- timestamps ------------------------------------------------------------------------------------------------------


def _offsets(bench: Bench, server: Server, stamp: str, loaded: bool) -> Load:
    """Errors of the offset in microseconds, with or without other requests. BenchError when many queries are lost."""
    bench.requests(server, Kind.NTS)
    with contextlib.ExitStack() as stack:
        if loaded:
            arguments = (3600, 0, SOCKETS, BACKGROUND // SOCKETS)
            stack.enter_context(bench.loading("closed", server, Kind.NTS, *arguments))
            time.sleep(HEAD_START)
        found = bench.load("offset", server, Kind.NTS, QUERIES, GAP_US, stamp)
    if found["lost"] > MAX_LOST * found["sent"]:
        raise BenchError(f"{server.name}: {found['lost']:.0f} of {found['sent']:.0f} queries for timestamps were lost")
    return found


def timestamps(bench: Bench) -> None:
    """error of the served time, idle and loaded, for clients that stamp themselves or have the kernel do it"""
    servers = [s for s in (bench.native, bench.chrony) if s is not None]
    for stamp, title in STAMPS.items():
        rows, notes = [], []
        for loaded in (False, True):
            mode = f"{BACKGROUND} in flight" if loaded else "idle"
            found = _in_turns(bench, {s.name: partial(_offsets, bench, s, stamp, loaded) for s in servers})
            figures = {e: {s: [x[key] for x in runs] for s, runs in found.items()} for key, e in ERRORS.items()}
            for name in found:
                rows.append([f"{name}, {mode}", *(cell for f in figures.values() for cell in _range(f[name]))])
            sums = {name: [sum(x[key] for x in runs) for key in ("lost", "sent")] for name, runs in found.items()}
            notes += _loss_notes({f"{name}, {mode}": lost / sent for name, (lost, sent) in sums.items()})
            for error, values in figures.items():
                notes += _no_worse(bench, stamp, f"{mode}, {error}", values)
        head = ["", *(cell for error in ERRORS.values() for cell in (error, "range"))]
        tables.show(f"timestamps: offset error in microseconds, {title}", head, rows, notes)


def _no_worse(bench: Bench, stamp: str, what: str, figures: tables.Figures) -> list[str]:
    """The errors beside chrony's. Not to exceed them is a goal for clients that read the clock themselves."""
    if bench.chrony is None:
        return []
    name = f"{bench.native.name} / {bench.chrony.name}, {what}"
    found = tables.ratio(figures, bench.native.name, bench.chrony.name)
    if stamp == "user":
        return [tables.goal(name, 1, found, most=True)]
    return [f"{name}: {tables.hundredths(found, up=True)}"]


def _range(values: Sequence[float]) -> tuple[str, str]:
    return f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"


# --- key exchange ----------------------------------------------------------------------------------------------------


def ke(bench: Bench) -> None:
    """key exchanges, by loop and TLS group"""
    native = sessions.server(bench, "native loop", "native", "X25519")
    python = sessions.server(bench, "Python loop", "python", "X25519")
    post_quantum = sessions.server(bench, "Python, X25519MLKEM768", "python", "X25519MLKEM768")
    handed_over = sessions.server(bench, "native loop, any group", "native", "")
    running = [s for s in (native, python, post_quantum, handed_over, bench.chrony) if s is not None]
    figures = _in_turns(bench, {s.name: partial(sessions.sessions_per_cpu_second, bench, s) for s in running})
    notes = []
    if bench.chrony:
        found = tables.ratio(figures, native.name, bench.chrony.name)
        notes.append(tables.goal(f"{native.name} / {bench.chrony.name}", 1.1, found))
    title = f"ke: NTS-KE sessions per CPU second ({sessions.CLIENTS} at a time)"
    tables.compare(title, figures, [native.name, python.name, *_rivals(bench)], notes)


# --- memory ----------------------------------------------------------------------------------------------------------


def _soak(bench: Bench, server: Server, count: int) -> None:
    """So many requests, half of them NTS and half plain, at the same time."""
    bench.requests(server, Kind.PLAIN)
    with bench.loading("closed", server, Kind.PLAIN, 3600, count // 2, SOCKETS, WINDOW // SOCKETS) as plain_load:
        bench.measure(server, Kind.NTS, requests=count // 2)
        answers(server, Kind.PLAIN, result(plain_load))


def memory(bench: Bench) -> None:
    """memory before and after many requests (only with --soak, or when named)"""
    server = bench.suite_server("fresh native engine", bench.cpus.server, engine="native")
    count = bench.settings.soak or SOAK
    pids = server.pids
    readings = [[machine.resident(pid) for pid in pids]]
    for requests in (WARM_UP, count):
        _soak(bench, server, requests)
        readings.append([machine.resident(pid) for pid in pids])
    names = ["parent", *(f"worker {i}" for i in range(1, len(pids)))]
    rows = [[name, *_kib(values)] for name, values in zip(names, zip(*readings, strict=True), strict=True)]
    rows.append(["all", *_kib([sum(values) for values in readings])])
    head = ["resident, KiB", "after start", f"{WARM_UP:,} requests", f"{count:,} more", "pages more"]
    tables.show("memory: the native engine's processes, NTS and plain requests mixed", head, rows)


def _kib(octets: Sequence[int]) -> list[str]:
    return [*(f"{o // 1024:,}" for o in octets), f"{(octets[-1] - octets[-2]) // PAGE:+}"]


CASES: dict[str, Callable[[Bench], None]] = {
    case.__name__: case
    for case in (
        nts,
        refill,
        plain,
        nak,
        limit,
        odd,
        scale,
        timestamps,
        xdp.xdp,
        ke,
        clients.samples,
        clients.start,
        memory,
    )
}
