# SPDX-License-Identifier: MIT
"""ntske_client.py --explain: a line for each step of the way, then what it comes to."""

from __future__ import annotations

import argparse
import json
import textwrap

from nts.base.errors import ExitCode
from nts.client import explain
from nts.client.explain import Report
from nts.client.ke_session import Options
from nts.client.state import ClientState
from nts.client.steps import Step

_WIDTH = 120


def run(args: argparse.Namespace, options: Options) -> ExitCode:
    """Explain, print, and store the result if --output says where. The exit code is that of the stage that failed."""
    store = ClientState(args.output) if args.output else None
    if store:
        store.check_writable(options.ca)

    def show(step: Step) -> None:
        if not args.json:
            print(_line(step), flush=True)

    report = explain.explain(options, show)
    stored = ""
    if store and report.association:
        store.save(report.association)
        stored = str(store.path)
    print(json.dumps(_dictionary(report, stored), indent=2) if args.json else _conclusion(report, stored), flush=True)
    return report.finding.exit_code


def _line(step: Step) -> str:
    return f"{step.mark.value:4}  {step.name:11}  {step.milliseconds:8.1f} ms  {step.seen}"


def _conclusion(report: Report, stored: str) -> str:
    finding = report.finding
    rows = (("finding", finding.id), ("meaning", finding.meaning), ("try", finding.advice), ("stored in", stored))
    texts = (f"{name + ':':11}{text}" for name, text in rows if text)
    return "\n" + "\n".join(textwrap.fill(t, _WIDTH, subsequent_indent=" " * 11, break_long_words=False) for t in texts)


def _dictionary(report: Report, stored: str) -> dict[str, object]:
    finding = report.finding
    steps = [
        {"name": s.name, "verdict": s.mark.name.lower(), "seen": s.seen, "milliseconds": s.milliseconds}
        for s in report.steps
    ]
    return {
        "steps": steps,
        "finding": finding.id,
        "meaning": finding.meaning,
        "advice": finding.advice,
        "exit_code": int(finding.exit_code),
        "stored": stored,
    }
