# SPDX-License-Identifier: MIT
"""Make a static site from reports about servers: a list sorted by grade; a page, a badge and a history for each.

examples:
  nts_check.py site public servers.jsonl               what --targets has found
  nts_check.py site public 2026-*.jsonl mine.json      many runs: with plots of how each server has fared

It opens in a browser without a network, needs no JavaScript, and may be put on any web server. A badge is
SERVER/badge.svg. What is no longer in the reports is not removed: make the site in a new folder for that.

exit codes: 0 done, 2 usage or file
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nts.base.text import counted
from nts.cli import options
from nts.system import console


def add(subparsers: Any) -> None:
    """Add the parser of this subcommand."""
    parser = options.subcommand(subparsers, "site", __doc__)
    parser.add_argument("folder", type=options.path, metavar="DIR", help="where to write it; made if it is not there")
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="JSON or JSON Lines of server runs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the site; the exit code."""
    from nts.check.site.make import make

    servers, reports = make(args.folder, args.reports)
    console.say(f"{counted(servers, 'server')}, {counted(reports, 'report')}: open {args.folder / 'index.html'}")
    return 0
