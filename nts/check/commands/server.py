# SPDX-License-Identifier: MIT
"""Check an NTS server from outside: its key exchange and its time service (RFC 8915).

examples:
  nts_check.py server time.example.net                    port 4460, the system's CAs, one packet a second
  nts_check.py server -c certs/ca.pem --fast localhost 4446    your own server, as fast as possible
  nts_check.py server --html report.html time.example.net      also a page to send to a colleague
  nts_check.py server --only 'ke-*' --skip ke-silence time.example.net
  nts_check.py server --facts time.example.net                 what the server is and offers, in a handful of packets
  nts_check.py server --json time.example.net > last-week.json
  nts_check.py server --baseline last-week.json time.example.net    what has changed since
  nts_check.py server --policy promises.ini time.example.net        is it as its operator promises?
  nts_check.py server --targets servers.txt               many servers at the same time, a report each in servers.jsonl
  nts_check.py server --cookie-life 12h time.example.net  how long cookies are accepted: a packet in five minutes
  nts_check.py server --list                              what is checked, and why

exit codes: 0 the server conforms, 1 it does not (a failure of severity MUST or CRIT), 2 usage or file, 3 nobody can say
because a rule of such severity could not be judged (with --strict: 1), 10 to 14 the server cannot be reached (10 name,
11 connect, 12 TLS, 14 ALPN; a bad certificate makes cert-chain fail), 130 interrupted. With --baseline, 1 means that
something is worse than it was, and with --policy that a promise is broken; nothing else then does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nts.base.errors import ConfigError, NTSError
from nts.base.registry import KE_PORT
from nts.base.text import span
from nts.check import commands
from nts.cli import options, results
from nts.system import addresses

if TYPE_CHECKING:
    from nts.check.context import Target
    from nts.check.model import Check
    from nts.check.saved.expected import Expected
    from nts.check.server.probe import ServerProbe

PACE = 1.0  # seconds
PATIENCE, SHORT_PATIENCE = 2.0, 0.5  # seconds
INTERVAL = 300  # seconds
PARALLEL = 50  # servers; all their threads together take little of a CPU


def add(subparsers: Any) -> None:
    """Add the parser of this subcommand."""
    parser = options.subcommand(subparsers, "server", __doc__)
    parser.add_argument("host", nargs="?", help="name or address of the NTS-KE server")
    parser.add_argument("port", nargs="?", type=options.port, default=KE_PORT, help="TCP port (default: 4460)")
    parser.add_argument(
        "-c", "--ca", type=Path, metavar="FILE", help="CA certificates to trust (default: the system's)"
    )
    parser.add_argument("-n", "--verify-name", metavar="NAME", help="name the certificate must be for (default: HOST)")
    options.add_family(parser)
    parser.add_argument(
        "--timeout", type=options.duration, default=5.0, metavar="S", help="seconds for a key exchange (default: 5)"
    )
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--pace",
        type=_pace,
        default=PACE,
        metavar="S",
        help="at most one packet and one connection in S seconds (default: 1); auto: slower if the server limits them",
    )
    speed.add_argument("--fast", action="store_true", help="no pauses, short waits: only for your own servers")
    parser.add_argument(
        "--ke-pace", type=options.pause, metavar="S", help="another pace for connections (default: as --pace)"
    )
    parser.add_argument("--seed", type=options.seed, metavar="N", help="repeat the random choices of an earlier run")
    parser.add_argument("--facts", action="store_true", help="only tell the facts about the server, and judge nothing")
    many = parser.add_argument_group("many servers")
    many.add_argument(
        "--targets", type=Path, metavar="FILE", help="check the servers in FILE: HOST or HOST:PORT a line"
    )
    many.add_argument(
        "--results", type=Path, metavar="FILE", help="their reports, a line each (default: as --targets, with .jsonl);"
        " servers that have one are not asked again",
    )  # fmt: skip
    many.add_argument(
        "--parallel", type=options.count, default=PARALLEL, metavar="N", help="at a time (default: 50)"
    )  # fmt: skip
    life = parser.add_argument_group("the life of cookies")
    life.add_argument(
        "--cookie-life", type=_span, metavar="TIME", help="only find out, in this time at most (as 90m, 12h), how long"
        " the server accepts its cookies",
    )  # fmt: skip
    life.add_argument(
        "--interval", type=_span, default=INTERVAL, metavar="TIME", help="from one question to the next (default: 5m)"
    )
    commands.add_selection(parser)
    commands.add_reports(parser)
    expected = parser.add_argument_group("what is expected")
    expected.add_argument("--baseline", type=Path, metavar="FILE", help="an older report: tell what has changed since")
    expected.add_argument("--policy", type=Path, metavar="FILE", help="INI file of what is promised about the server")
    parser.set_defaults(run=run, usage_error=parser.error)


def _pace(text: str) -> float | None:
    """Seconds, or None for "auto"."""
    return None if text == "auto" else options.pause(text)


def _span(text_: str) -> int:
    seconds = span(text_, 1, 30 * 86400)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text_!r} is not a number with the unit s, m, h or d, up to 30d")
    return seconds


def _check_ca(ca: Path | None) -> None:
    """Check early that the CA file can be used. ConfigError if not."""
    from nts.system import tls

    if ca is None:
        return
    if not ca.is_file():
        raise ConfigError(f"{ca} does not exist", hint="-c names the file of the CA that signed the server's")
    tls.ClientChannel(name="localhost", verify=True, ca=ca, keylog=None)


def plan(checks: list[Check[ServerProbe]], pace: float, ke_pace: float) -> str:
    """What a run will do, how fast, and about how long it takes with a server that answers."""
    from nts.base.text import counted
    from nts.check.server import effort

    parts = [counted(len(checks), "check") if checks else "only facts"]
    if pace:
        parts.append(f"at most one packet in {pace:g} s")
    if ke_pace != pace:
        parts.append(f"one connection in {ke_pace:g} s")
    took = effort.about(effort.seconds(checks, pace, ke_pace)) if pace or ke_pace else "without pauses"
    return ", ".join([*parts, took])


def run(args: argparse.Namespace) -> int:
    """Run the checks; the exit code."""
    from nts.check.output import catalogue
    from nts.check.saved.expected import Expected
    from nts.check.server import CHECKS

    checks = [] if args.facts else commands.selected(CHECKS, args)
    if args.list:
        catalogue.show(checks)
        return 0
    if args.host is None and args.targets is None:
        args.usage_error("the following arguments are required: host (or --targets, or --list)")
    if args.facts and (args.only or args.skip):
        args.usage_error("--facts judges nothing, so --only and --skip mean nothing")
    _check_ca(args.ca)
    if args.cookie_life is not None:
        return _watch_cookies(args)
    expected = Expected.load(args.baseline, args.policy)
    if args.targets is not None:
        return _check_many(args, checks, expected)
    return _check_one(args, checks, expected)


def _pace_of(args: argparse.Namespace) -> float:
    return 0.0 if args.fast else PACE if args.pace is None else args.pace


def _target(args: argparse.Namespace) -> Target:
    from nts.check.context import Target

    return Target(
        args.host or "", args.port, args.ca, args.verify_name, args.family, args.timeout,
        SHORT_PATIENCE if args.fast else PATIENCE,
    )  # fmt: skip


@contextlib.contextmanager
def _failure_told(args: argparse.Namespace) -> Iterator[None]:
    """Tell those who read JSON why a server cannot be reached, too."""
    try:
        yield
    except NTSError as e:
        if args.json:
            print(json.dumps({"failure": results.failure_dict(e)}, indent=2))
        raise


def _check_one(args: argparse.Namespace, checks: list[Check[ServerProbe]], expected: Expected) -> int:
    from nts.check import runner
    from nts.check.output.render import Reporter
    from nts.check.server import facts
    from nts.check.server.probe import ServerProbe

    pace, auto = _pace_of(args), args.pace is None and not args.fast
    probe = ServerProbe(_target(args), pace=pace, ke_pace=args.ke_pace, auto=auto, seed=args.seed)
    where = addresses.format_address((args.host, args.port))
    expected.require(where)
    ke_pace = probe.ke.pace.interval
    reporter = Reporter(
        "server", where, checks, commands.report_options(args), seed=probe.seed, pace=pace, ke_pace=ke_pace,
        expected=expected, intro=f"NTS server {where}, {plan(checks, pace, ke_pace)}, seed {probe.seed}",
    )  # fmt: skip
    commands.heed_sigterm()
    with _failure_told(args):
        first = probe.ke.reach()
    with reporter:
        reporter.tell(facts.gather(probe, first))
        for result in runner.run(reporter.checks, probe, reporter.start):
            reporter.add(result)
    reporter.slowed(probe.ntp.pace.interval, probe.ke.pace.interval)
    return reporter.finish()


def _check_many(args: argparse.Namespace, checks: list[Check[ServerProbe]], expected: Expected) -> int:
    from nts.check.context import Turns
    from nts.check.many.examine import Plan
    from nts.check.many.survey import Survey

    if args.host is not None or args.junit is not None or args.html is not None:
        args.usage_error("--targets goes without host, --junit and --html (nts_check.py site makes pages)")
    plan = Plan(
        _target(args), checks, _pace_of(args), args.ke_pace, args.pace is None and not args.fast, args.seed,
        args.verbose, Turns(),
    )  # fmt: skip
    results_file = args.results or args.targets.with_suffix(".jsonl")
    commands.heed_sigterm()
    return Survey(args.targets, results_file, plan, args.parallel, expected, args.strict, args.json).make()


def _watch_cookies(args: argparse.Namespace) -> int:
    import time

    from nts.check.lifetime.watch import Watch
    from nts.check.lifetime.wire import WiredServer
    from nts.check.output.summary import CANNOT_SAY, INTERRUPTED
    from nts.check.server.probe import ServerProbe
    from nts.system import console

    if args.targets is not None or args.facts or args.junit or args.html or args.baseline or args.policy:
        args.usage_error("--cookie-life goes with --json, but with no check and no other report")
    probe = ServerProbe(_target(args), pace=_pace_of(args), ke_pace=args.ke_pace)
    server = WiredServer(probe.ke, probe.ntp, args.family)
    commands.heed_sigterm()
    watch = Watch(server, args.interval, clock=time.monotonic, sleep=time.sleep, tell=console.say)
    with _failure_told(args):
        life = watch.run(args.cookie_life)
    where = addresses.format_address((args.host, args.port))
    if args.json:
        print(json.dumps({"target": where, "time_server": server.where, "cookie_life": life.json}, indent=2))
    else:
        print("\n".join([f"Cookies of {where}, used at {server.where}:", *life.lines]))
    if life.interrupted:
        return INTERRUPTED
    return CANNOT_SAY if life.accepted is None or life.used_once else 0
