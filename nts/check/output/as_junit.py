# SPDX-License-Identifier: MIT
"""A run as JUnit XML, which CI systems read: a suite for each group, a case for each check.

Only what decides the exit code is a failure. A lesser FAIL and a WARN pass, with the evidence in system-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from nts.check.model import Grade, Result
from nts.check.output.summary import TOOL, Report
from nts.check.output.text import decoded, section
from nts.cli.results import utc


def text(report: Report) -> str:
    """The XML document."""
    root = ET.Element("testsuites", {"name": f"{TOOL} {report.command} {report.target}", **_counts(report.results)})
    for group in dict.fromkeys(r.check.group for r in report.results):
        _suite(root, report, group, [r for r in report.results if r.check.group == group])
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(results: Sequence[Result[Any]]) -> dict[str, str]:
    return {
        "tests": str(len(results)),
        "failures": str(sum(r.fatal for r in results)),
        "errors": "0",
        "skipped": str(sum(r.grade.unjudged for r in results)),
        "time": f"{sum(r.seconds for r in results):.3f}",
    }


def _suite(root: ET.Element, report: Report, group: str, results: Sequence[Result[Any]]) -> None:
    timestamp = utc(report.started_ns).partition(".")[0]
    suite = ET.SubElement(root, "testsuite", {"name": group, "timestamp": timestamp, **_counts(results)})
    properties = ET.SubElement(suite, "properties")
    for name, value in (("target", report.target), ("seed", report.seed), ("pace", report.pace)):
        ET.SubElement(properties, "property", {"name": name, "value": "" if value is None else str(value)})
    for result in results:
        _case(suite, report.command, result)


def _case(suite: ET.Element, command: str, result: Result[Any]) -> None:
    check = result.check
    classname = f"{TOOL}.{command}.{check.group.replace('.', ' ')}"
    case = ET.SubElement(
        suite, "testcase", {"classname": classname, "name": check.name, "time": f"{result.seconds:.3f}"}
    )
    message = f"{result.severity.value}: {result.evidence}"
    if result.fatal:
        ET.SubElement(case, "failure", {"message": message, "type": result.severity.value}).text = _details(result)
    elif result.grade.unjudged:
        ET.SubElement(case, "skipped", {"message": f"{result.grade.value}: {result.evidence}"})
    elif result.grade is not Grade.PASS:
        ET.SubElement(case, "system-out").text = f"{result.grade.value} {message}\n{_details(result)}"


def _details(result: Result[Any]) -> str:
    check = result.check
    lines = [
        f"{section(check.section)}: {check.rule}", f"sends: {check.sends}", f"passes: {check.expects}",
        f"seen: {result.evidence}",
    ]  # fmt: skip
    for exhibit in result.exhibits:
        lines += ["", f"{exhibit.direction.value}: {exhibit.text}", *decoded(exhibit)]
    return "\n".join(lines)
