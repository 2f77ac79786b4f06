# SPDX-License-Identifier: MIT
"""A run as one JSON object. docs/nts_check.schema.json describes it, docs/nts_check.md explains it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import nts
from nts.check.model import Grade, Result, Severity
from nts.check.output.summary import ORDER, TOOL, Report
from nts.check.output.text import decoded
from nts.check.remedies import remedy
from nts.cli.results import utc

NAMES = {Grade.PATH: "path"}
"""keys of the summary that are not the verdict in lower case"""


def dictionary(report: Report, *, verbose: bool) -> dict[str, Any]:
    """The object. `verbose` adds to each result its findings and what went over the wire, decoded."""
    return {
        "tool": TOOL,
        "version": nts.__version__,
        "command": report.command,
        "target": report.target,
        "started": utc(report.started_ns),
        "seconds": round(report.seconds, 3),
        "seed": report.seed,
        "pace": report.pace,
        "ke_pace": report.ke_pace,
        "final_pace": report.final_pace,
        "final_ke_pace": report.final_ke_pace,
        "facts": json.loads(json.dumps(dataclasses.asdict(report.facts))) if report.facts else None,
        "grade": report.grade,
        "results": [_result(r, verbose) for r in report.results],
        "summary": {
            "planned": report.planned,
            "checks": len(report.results),
            **{NAMES.get(v, v.value.lower()): report.counts[v] for v in ORDER},
            "failures": {s.value: report.failures[s] for s in Severity},
            "conforms": report.conforms,
            "interrupted": report.interrupted,
            "exit_code": report.exit_code,
        },
    }


def _result(result: Result[Any], verbose: bool) -> dict[str, Any]:
    check = result.check
    values: dict[str, Any] = {
        "name": check.name,
        "id": check.id,
        "verdict": result.grade.value,
        "severity": result.severity.value,
        "section": check.section,
        "evidence": result.evidence,
        "group": check.group,
        "seconds": round(result.seconds, 3),
        "ref": check.ref,
        "open": result.open.value if result.open else None,
        "remedy": remedy(check.name, result.grade),
    }
    if verbose:
        values["findings"] = [
            {"verdict": f.grade.value, "severity": (f.severity or check.severity).value, "text": f.text}
            for f in result.findings
        ]
        values["exhibits"] = [
            {
                "direction": e.direction.value,
                "text": e.text,
                "protocol": e.protocol.value,
                "length": len(e.octets),
                "decoded": decoded(e),
            }
            for e in result.exhibits
        ]
    return values
