# SPDX-License-Identifier: MIT
"""ntsts_client.py: its queries, and what it prints of each and of all of them together."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence

from nts.base.errors import ExitCode, Mismatch, NoAnswer, NotAuthentic, NTSError
from nts.base.text import counted
from nts.cli import comparison, results, script, time_arguments, time_outputs
from nts.cli.output import Output
from nts.client import sources
from nts.client.sources import Comparison, Report, Source
from nts.client.ts_session import Answer, Exchange
from nts.codec import aead
from nts.system import console

TRANSIENT = (NoAnswer, Mismatch, NotAuthentic)  # failures of one query after which the next may succeed


def main(doc: str | None) -> int:
    """Run the script with this docstring; the exit code."""
    args = time_arguments.arguments(doc)
    script.heed_ctrl_c()
    if args.check:
        from nts.cli import plugin_check

        return plugin_check.main(args)
    servers = time_arguments.sources(args)
    with Series(args, servers, time_outputs.wanted(args, servers)) as series:
        while series.round():
            time.sleep(args.interval)
    return series.conclude()


class Series:
    """A run of queries. A context manager, so that even Ctrl-C ends it with a summary, if it was to be more than one.

    stdout: for each query its packets (--dump) and its result, as lines or as one JSON object, or a table that follows
    all of them; then what they amount to. stderr: all else.
    """

    def __init__(self, args: argparse.Namespace, servers: Sequence[Source], outputs: Sequence[Output] = ()) -> None:
        """`args`: what `time_arguments.arguments` returns."""
        self._args, self._servers, self._outputs = args, servers, outputs
        self._active = list(servers)
        self._several = len(servers) > 1
        self._lines = not args.json and not time_outputs.wants_table(args)
        self._rounds = 0
        self._answers: defaultdict[Source, list[Answer]] = defaultdict(list)
        self._untold: NTSError | None = None
        self._comparison: Comparison | None = None
        self._warned = False

    def __enter__(self) -> Series:
        return self

    def __exit__(self, _kind: object, e: BaseException | None, _trace: object) -> None:
        for output in reversed(self._outputs):  # the table first, whatever becomes of the others
            output.close()
        if not self._args.monitor and not isinstance(e, OSError):  # then stdout is broken
            self._sum_up()

    def _sum_up(self) -> None:
        if self._several:
            self._print({"comparison": comparison.as_dict(self._comparison)})
        if self._args.json:
            return
        lines = []
        if self._args.count > 1:
            for s in self._servers:
                summary = results.summary_lines(self._answers[s], s.queries, s.filtered)
                lines += [self._label(s) + line for line in summary]
        if self._several:
            lines += comparison.lines(self._comparison)
        if lines:
            print("\n".join(lines), flush=True)

    def round(self) -> bool:
        """Query each server and print what comes of it. Returns whether there is another round.

        A server that refuses us is not asked again, except by a monitor: it waits for a new key exchange.
        """
        for report in sources.ask_all(self._active, self._args.timeout):
            self._add(report)
        self._rounds += 1
        self._compare()
        for output in self._outputs:
            output.end_round(self._comparison)
        if self._args.monitor:
            return True
        self._active = [s for s in self._active if s.last and isinstance(s.last.failure, (*TRANSIENT, type(None)))]
        return bool(self._active) and self._rounds < self._args.count

    def conclude(self) -> ExitCode:
        """The exit code. Of several queries, one answer makes a success; else the last failure is raised."""
        last = [s.last.failure for s in self._servers if s.last and s.last.failure]
        if last and not any(s.answers for s in self._servers):
            raise last[-1]
        if self._untold:
            console.warn(str(self._untold))
        return ExitCode.OK

    def _add(self, report: Report) -> None:
        source = report.source
        if self._untold:
            console.warn(str(self._untold))
        self._untold = report.failure
        if report.failure and (self._several or self._args.monitor):  # there may be long to go, or others to tell of
            console.warn(f"{self._label(source)}{report.failure}")
            self._untold = None
        if report.exchange:
            self._show(source, report.exchange)
        elif report.failure:
            self._print({"name": source.name, "failure": results.failure_dict(report.failure)})
        for output in self._outputs:
            output.add(report)

    def _show(self, source: Source, exchange: Exchange) -> None:
        args, association = self._args, exchange.association
        if not association.verify and not self._warned:
            console.warn("the keys come from a key exchange without certificate verification: anyone could answer")
            self._warned = True
        if args.verbose and source.queries == 1 and (note := aead.substitute()):
            console.say(note)
        if args.dump and not args.json:
            print("\n".join(results.exchange_lines(exchange, secrets=args.show_secrets)), flush=True)
        if exchange.answer is not None:
            if not args.monitor:  # which would never end to collect
                self._answers[source].append(exchange.answer)
            if self._lines:
                print(self._label(source) + results.answer_line(exchange.answer), flush=True)
            if args.verbose:
                fresh = counted(len(exchange.answer.judgement.cookies), "fresh cookie")
                console.say(f"{fresh}, {exchange.stock} in stock")
        shown = results.exchange_dict(exchange, dump=args.dump, secrets=args.show_secrets)
        self._print({"name": source.name, **shown})
        if exchange.context is not None:
            console.say(f"the server has {exchange.context} in its exporter context")
        if exchange.unstored:
            console.warn(f"the fresh cookies are lost: {exchange.unstored}")

    def _compare(self) -> None:
        before, self._comparison = self._comparison, sources.compare(self._servers)
        if not self._args.monitor or not self._several:
            return
        self._print({"comparison": comparison.as_dict(self._comparison)})
        if self._lines and comparison.verdict(before) != comparison.verdict(self._comparison):
            print("\n".join(comparison.lines(self._comparison)), flush=True)

    def _label(self, source: Source) -> str:
        return f"{source.name}: " if self._several else ""

    def _print(self, values: dict[str, object]) -> None:
        if self._args.json:
            print(json.dumps(values), flush=True)
