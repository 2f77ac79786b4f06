# SPDX-License-Identifier: MIT
"""The subcommands of nts_check.py, each a module with `add(subparsers)` and `run(args) -> int`. Above all other parts.

What several of them share is here: which checks to run, and what is made of the results.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nts.check.model import Check
    from nts.check.output.render import Options
    from nts.check.runner import Recording

    R = TypeVar("R", bound=Recording)


def add_all(parser: argparse.ArgumentParser) -> None:
    """Every module of this folder is a subcommand."""
    subparsers = parser.add_subparsers(title="commands", dest="subcommand", metavar="COMMAND", required=True)
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}").add(subparsers)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options that say which checks to run."""
    group = parser.add_argument_group("which checks")
    group.add_argument("--list", action="store_true", help="explain the checks, and run none")
    text = "checks by name or number, separated by commas; ke-* is all that begin so"
    group.add_argument("--only", type=_names, default=(), metavar="NAMES", help=f"run only these {text}")
    group.add_argument("--skip", type=_names, default=(), metavar="NAMES", help="leave these out")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def selected(checks: Sequence[Check[R]], args: argparse.Namespace) -> list[Check[R]]:
    """The checks that the options of `add_selection` choose, those of a subject together."""
    from nts.base.errors import ConfigError
    from nts.check import runner
    from nts.check.output.summary import in_groups

    try:
        chosen = runner.select(checks, args.only, args.skip)
    except runner.UnknownCheck as e:
        raise ConfigError(str(e)) from None
    if not chosen:
        raise ConfigError("no check is left to run", hint="--only and --skip leave nothing")
    return in_groups(chosen)


def check_ports(host: str, ke: int, ntp: int) -> None:
    """See early that a server can listen there, TCP and UDP; 0 is any port. ConfigError when it cannot."""
    from nts.server import listen

    for kind, port in ((socket.SOCK_STREAM, ke), (socket.SOCK_DGRAM, ntp)):
        listen.close_all(listen.listening(kind, (host,), port))


def heed_sigterm() -> None:
    """From now on SIGTERM is like Ctrl-C: results are reported, and what was started here is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def add_reports(parser: argparse.ArgumentParser) -> None:
    """The options that say what is made of the results."""
    group = parser.add_argument_group("results")
    group.add_argument("--json", action="store_true", help="one JSON object on stdout (docs/nts_check.md)")
    group.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML, for CI systems")
    group.add_argument("--html", type=Path, metavar="FILE", help="also write one HTML page, for people")
    group.add_argument("--verbose", action="store_true", help="show for every check what went over the wire")
    group.add_argument("--strict", action="store_true", help="exit with 3, not 0, when nothing could be judged: for CI")


def report_options(args: argparse.Namespace) -> Options:
    """What `add_reports` was told."""
    from nts.check.output.render import Options

    return Options(json=args.json, junit=args.junit, html=args.html, verbose=args.verbose, strict=args.strict)
