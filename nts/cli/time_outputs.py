# SPDX-License-Identifier: MIT
"""Where the time client's samples go besides lines and JSON: a table, a drawing, metrics, chronyd.

Each imports what it needs when it is asked for, and not before.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nts.cli.output import Output
from nts.client.sources import Comparison, Report, Source
from nts.codec.ntp import NS
from nts.system import console
from nts.system.chrony_sock import ChronySock


def wanted(args: argparse.Namespace, sources: Sequence[Source]) -> list[Output]:
    """The outputs that the command line asks for. ConfigError when one is not possible, before anything is sent."""
    outputs: list[Output] = []
    if args.metrics:
        from nts.cli.client_metrics import Textfile

        outputs.append(Textfile(args.metrics, sources))
    if args.plot:
        from nts.cli.plot import Plot

        outputs.append(Plot(args.plot))
    if args.chrony_sock:
        outputs.append(Feed(args.chrony_sock))
    if wants_table(args):
        from nts.cli.live_table import LiveTable

        outputs.append(LiveTable(sources, args.count))
    return outputs


def wants_table(args: argparse.Namespace) -> bool:
    """Whether a person looks on, and there is more than one sample to see."""
    several = args.count > 1 or max(len(args.files or ()), len(args.ke or ())) > 1
    plain = args.json or args.dump or args.monitor or os.environ.get("TERM", "dumb") == "dumb"
    return several and not plain and sys.stdout.isatty()


class Feed(Output):
    """Gives each good sample to a chronyd. Of several servers, only those that the majority agrees with are good."""

    def __init__(self, path: Path) -> None:
        self._sock = ChronySock(path)
        self._round: list[Report] = []

    def add(self, report: Report) -> None:
        self._round.append(report)

    def end_round(self, comparison: Comparison | None) -> None:
        reports, self._round = self._round, []
        for report in reports:
            if not (answer := report.answer) or (comparison and report.source not in comparison.truechimers):
                continue
            header = answer.judgement.header
            leap = header.leap if header else 0
            problem = self._sock.feed(answer.received_ns, answer.measurement.offset / NS, leap)
            if problem:
                console.warn_now_and_then("chronyd", problem)
