# SPDX-License-Identifier: MIT
"""The command line of ntsts_client.py, and the servers that it names."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from nts.base.errors import ConfigError
from nts.base.registry import KE_PORT
from nts.base.text import whole_number
from nts.cli import options
from nts.client import rekey, ts_session
from nts.client.sources import Ask, Source
from nts.client.state import DEFAULT_AEADS, ClientState
from nts.client.ts_session import Exchange
from nts.system import console, files, places

MONITOR_INTERVAL = 64.0  # seconds
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITIES = ("offset", "age", "cookies", "certificate")
_WARN, _CRIT = "offset=50ms", "offset=1s"

Limits = dict[str, float]
"""seconds, or a number of cookies, by quantity"""


def arguments(doc: str | None) -> argparse.Namespace:
    """The command line. Options may stand between HOST and PORT."""
    try:
        return _arguments(doc)
    except SystemExit as e:
        if e.code == 2 and "--check" in sys.argv:
            raise SystemExit(3) from None  # to a monitoring system, 2 would be the server's fault
        raise


def _arguments(doc: str | None) -> argparse.Namespace:
    parser = options.parser(doc)
    parser.add_argument("host", nargs="?", type=options.text, help="time server (default: the one in client.ini)")
    parser.add_argument("port", nargs="?", type=options.port, help="UDP port (default: the one in client.ini)")
    parser.add_argument(
        "-f", "--file", type=options.text, action="append", metavar="FILE", dest="files",
        help="file written by ntske_client.py (default: client.ini); several: ask and compare their servers",
    )  # fmt: skip
    parser.add_argument(
        "--ke", type=options.text, action="append", metavar="HOST",
        help="key exchange server: its file is client.HOST.ini, which is made by a key exchange if it is missing",
    )  # fmt: skip
    parser.add_argument("--ke-port", type=options.port, default=KE_PORT, metavar="PORT", help="(default: 4460)")
    parser.add_argument("-c", "--ca", type=options.path, metavar="FILE", help="for --ke: CA certificates to trust")
    parser.add_argument("--verify-name", type=options.text, metavar="NAME", help="for --ke: name in the certificate")
    parser.add_argument("-n", "--count", type=options.count, metavar="N", help="queries of each server (default: 1)")
    parser.add_argument("-i", "--interval", type=options.duration, metavar="S", help="pause (default: 1)")
    parser.add_argument(
        "--no-rekey", action="store_true", help="no new key exchange when cookies are used up or refused"
    )
    parser.add_argument("--dump", action="store_true", help="show both packets")
    parser.add_argument("--timeout", type=options.duration, default=5.0, metavar="S", help="seconds (default: 5)")
    parser.add_argument("--monitor", action="store_true", help="query until stopped (default of -i: 64)")
    parser.add_argument("--metrics", type=options.path, metavar="FILE", help="keep metrics for Prometheus in FILE.prom")
    parser.add_argument("--plot", type=options.path, metavar="FILE", help="draw offset and delay, as FILE.svg or .png")
    parser.add_argument(
        "--chrony-sock", type=options.path, metavar="PATH", help="feed chronyd: the socket of its refclock SOCK"
    )
    parser.add_argument("--check", action="store_true", help="answer as a plugin for a monitoring system")
    for flag, default in (("--warn", _WARN), ("--crit", _CRIT)):
        parser.add_argument(flag, type=limits, metavar="LIMITS", help=f"limits of --check (default: {default})")
    options.add_family(parser)
    options.add_output(parser)
    args = parser.parse_intermixed_args()
    if problem := _problem(args):
        parser.error(problem)
    args.interval = args.interval or (MONITOR_INTERVAL if args.monitor else 1.0)
    args.count = args.count or 1
    args.warn, args.crit = {**limits(_WARN), **(args.warn or {})}, {**limits(_CRIT), **(args.crit or {})}
    return args


def _problem(args: argparse.Namespace) -> str:
    """What contradicts itself; empty if nothing does."""
    servers = max(len(args.files or ()), len(args.ke or ()))
    if servers > 1 and (args.host or args.verify_name):
        return "HOST and --verify-name are for one server"
    if servers > 1 and args.files and args.ke:
        return "--file with --ke is for one server, whose file it names"
    if args.monitor and args.count:
        return "--monitor goes on until stopped: leave out --count"
    if args.check and (args.monitor or args.json or args.dump or args.metrics or args.plot or args.chrony_sock):
        return "--check prints one line: leave out the other outputs"
    if not args.check and (args.warn or args.crit):
        return "--warn and --crit are for --check"
    if args.plot and args.plot.suffix not in (".svg", ".png"):
        return "--plot draws .svg and .png: give FILE one of these endings"
    if args.metrics and args.metrics.suffix != ".prom":
        return "--metrics: node_exporter reads only files whose names end in .prom"
    return ""


def limits(text: str) -> Limits:
    """A command-line argument: limits such as `50ms` or `offset=50ms,age=2d,cookies=4,certificate=14d`."""
    found: Limits = {}
    for part in text.split(","):
        quantity, _, value = part.partition("=") if "=" in part else ("offset", "", part)
        number = _amount(quantity, value)
        if quantity not in _QUANTITIES or number is None:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a limit such as 50ms, age=2d, cookies=4 or certificate=14d"
            )
        found[quantity] = number
    return found


def _amount(quantity: str, text: str) -> float | None:
    if quantity == "cookies":
        return whole_number(text, 0, 8)
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(us|ms|s|m|h|d)", text, re.ASCII)
    return float(match[1]) * _UNITS[match[2]] if match else None


def sources(args: argparse.Namespace) -> list[Source]:
    """The servers that the command line names, each with its file. ConfigError."""
    names = args.ke or args.files or [places.client_ini().name]
    paths = [Path(file) for file in args.files or ()] or [places.client_ini(ke) for ke in args.ke or [""]]
    stores = [ClientState(path) for path in paths]
    if len({store.path for store in stores}) < len(stores):
        raise ConfigError("the same client.ini is given twice", hint="a server compared with itself is always right")
    several = len(stores) > 1
    return [
        Source(name, _asker(args, name if several else "", store, name if args.ke else None))
        for name, store in zip(names, stores, strict=True)
    ]


def _asker(args: argparse.Namespace, name: str, store: ClientState, ke: str | None) -> Ask:
    """What makes a query, after a key exchange if it needs one. `name`: what lines of one of several begin with."""
    route = ts_session.Route(args.host, args.port, args.family)
    refusals = rekey.Refusals()
    pause = None if name and (args.monitor or args.count > 1) else args.interval  # None: the others need not wait
    tell, warn = (console.ignore, console.ignore) if args.check else (console.say, console.warn)
    prefix = f"{name}: " if name else ""

    def ask(timeout: float) -> Exchange:
        if ke and not store.path.exists():
            _begin(args, ke, store)
            tell(f"key exchange with {ke}; stored in {store.path}")
        if args.no_rekey:
            return ts_session.ask(store, route, timeout)
        return rekey.ask(store, route, timeout, refusals=refusals, pause=pause, say=lambda line: warn(prefix + line))

    return ask


def _begin(args: argparse.Namespace, ke: str, store: ClientState) -> None:
    from nts.client import ke_session  # here: most queries need no TLS

    wanted = ke_session.Options(
        host=ke, port=args.ke_port, aeads=DEFAULT_AEADS, ca=args.ca.resolve() if args.ca else None,
        verify_name=args.verify_name, family=args.family, timeout=args.timeout,
    )  # fmt: skip
    if not args.files:
        files.make_folder(store.path.parent, 0o700)
    rekey.begin(store, wanted)
