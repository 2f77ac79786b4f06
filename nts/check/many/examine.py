# SPDX-License-Identifier: MIT
"""Checks one server of many, without a terminal, and makes its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nts
from nts.base.errors import NTSError
from nts.check import runner
from nts.check.context import Target, Turns
from nts.check.model import Check
from nts.check.output import as_json
from nts.check.output.grade import grade
from nts.check.output.summary import TOOL, Report
from nts.check.output.text import clean, printable
from nts.check.saved import reading
from nts.check.server import facts
from nts.check.server.probe import ServerProbe
from nts.cli import results


@dataclass(frozen=True)
class Plan:
    """How to check each server."""

    target: Target
    """of any server: host and port are replaced"""
    checks: Sequence[Check[ServerProbe]]
    pace: float
    ke_pace: float | None
    auto: bool
    seed: int | None
    verbose: bool
    turns: Turns


def examine(plan: Plan, label: str, host: str, port: int, on_start: Callable[[Any], None]) -> reading.Report:
    """The report about a server; one with `failure` if it cannot be reached."""
    started, begin = time.time_ns(), time.monotonic()
    target = replace(plan.target, host=host, port=port)
    probe = ServerProbe(
        target, pace=plan.pace, ke_pace=plan.ke_pace, auto=plan.auto, seed=plan.seed, turns=plan.turns
    )  # fmt: skip
    report = Report(
        "server", printable(label), started, probe.seed, plan.pace, planned=len(plan.checks),
        ke_pace=probe.ke.pace.interval,
    )  # fmt: skip
    try:
        first = probe.ke.reach()
    except NTSError as e:
        return _failure(report, e)
    told = facts.gather(probe, first)
    found = [clean(result) for result in runner.run(plan.checks, probe, on_start)]
    report = replace(
        report, facts=told, results=tuple(found), seconds=time.monotonic() - begin,
        final_pace=probe.ntp.pace.interval, final_ke_pace=probe.ke.pace.interval,
    )  # fmt: skip
    values = _harmless(as_json.dictionary(report, verbose=plan.verbose))
    return {**values, "grade": grade(values)}


def _harmless(value: Any) -> Any:
    """The same JSON with all texts printable: facts have names that the server chose."""
    if isinstance(value, dict):
        return {name: _harmless(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(member) for member in value]
    return printable(value) if isinstance(value, str) else value


def _failure(report: Report, error: NTSError) -> reading.Report:
    return {
        "tool": TOOL,
        "version": nts.__version__,
        "command": report.command,
        "target": report.target,
        "started": results.utc(report.started_ns),
        "failure": results.failure_dict(error),
    }
