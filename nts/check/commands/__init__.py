# SPDX-License-Identifier: MIT
"""The subcommands of nts_check.py, each a module with `add(subparsers)` and `run(args) -> int`.

This module holds what they share: options for ports, for the choice of checks, and for reports.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import pkgutil
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nts.base.errors import NO_HINT
from nts.cli import options

_RANGE = re.compile(r"C?(\d{1,4})-C?(\d{1,4})")

if TYPE_CHECKING:
    from nts.check.model import Check
    from nts.check.output.render import Options
    from nts.check.runner import Recording

    R = TypeVar("R", bound=Recording)


def add_all(parser: argparse.ArgumentParser) -> None:
    """Add every module of this folder as a subcommand."""
    subparsers = parser.add_subparsers(title="commands", dest="subcommand", metavar="COMMAND", required=True)
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}").add(subparsers)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the checks to run."""
    group = parser.add_argument_group("which checks")
    group.add_argument("--list", action="store_true", help="explain the checks and run none")
    text = "checks by name, number or range (1-5), separated by commas; ke-* means all that begin so; may be repeated"
    for name, what in (("--only", f"run only these {text}"), ("--skip", "leave these out; may be repeated too")):
        group.add_argument(name, type=_names, action="extend", default=[], metavar="NAMES", help=what)


def _names(text: str) -> list[str]:
    return text.replace(",", " ").split()


def selected(checks: Sequence[Check[R]], args: argparse.Namespace) -> list[Check[R]]:
    """The checks that the options of `add_selection` choose, sorted by subject."""
    from nts.base.errors import ConfigError
    from nts.check import runner
    from nts.check.output.summary import in_groups

    try:
        chosen = runner.select(checks, _numbered(checks, args.only), _numbered(checks, args.skip))
    except runner.UnknownCheck as e:
        raise ConfigError(str(e), hint=_similar(checks, [*args.only, *args.skip])) from None
    if not chosen:
        raise ConfigError("no check is left to run", hint="--only and --skip leave nothing")
    return in_groups(chosen)


def _numbered(checks: Sequence[Check[R]], names: Sequence[str]) -> list[str]:
    """The names, with each range of numbers replaced by the numbers in it. A range that holds none stays, unknown."""
    found: list[str] = []
    for name in names:
        match = _RANGE.fullmatch(name)
        inside = [c.id for c in checks if match and int(match[1]) <= int(c.id.lstrip("C")) <= int(match[2])]
        found += inside or [name]
    return found


def _similar(checks: Sequence[Check[R]], names: Sequence[str]) -> str:
    """What somebody who gave an unknown name may have meant."""
    known = [c.name for c in checks]
    close = [c for name in names if name not in known for c in difflib.get_close_matches(name, known, 2)]
    return f"did you mean {' or '.join(close)}?" if close else NO_HINT


def add_ports(parser: argparse.ArgumentParser) -> None:
    """Add the options for the ports of our servers."""
    for name, kind in (("ke", "TCP"), ("ntp", "UDP")):
        text = f"{kind} port (default: any free one)"
        parser.add_argument(f"--{name}-port", type=options.port, default=0, metavar="N", help=text)


def check_ports(host: str, ke: int, ntp: int) -> None:
    """Check early that servers can listen there, on TCP and UDP; 0 is any port. ConfigError if not."""
    from nts.server import listen

    for kind, port in ((socket.SOCK_STREAM, ke), (socket.SOCK_DGRAM, ntp)):
        listen.close_all(listen.listening(kind, (host,), port))


def heed_sigterm() -> None:
    """Treat SIGTERM like Ctrl-C from now on: report the results, and stop what we started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the reports."""
    group = parser.add_argument_group("results")
    group.add_argument("--json", action="store_true", help="one JSON object on stdout (docs/nts_check.md)")
    group.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML, for CI systems")
    group.add_argument("--html", type=Path, metavar="FILE", help="also write one HTML page, for people")
    group.add_argument("--verbose", action="store_true", help="show what went over the wire for every check")
    group.add_argument("--strict", action="store_true", help="exit with 1, not 3, if a MUST could not be judged")


def report_options(args: argparse.Namespace) -> Options:
    """The choice made with the options of `add_reports`."""
    from nts.check.output.render import Options

    return Options(json=args.json, junit=args.junit, html=args.html, verbose=args.verbose, strict=args.strict)
