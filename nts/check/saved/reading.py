# SPDX-License-Identifier: MIT
"""Reads reports: a JSON object, or JSON Lines. Files come from anywhere, so nothing in them is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from nts.base.errors import ConfigError
from nts.check.model import Grade
from nts.system import inifile

Report = dict[str, Any]
"""as `nts_check.py server --json` prints it, or with `failure` instead of results: the server was not reached"""

MAX_NUMBER = 1e12
VERDICTS = {g.value for g in Grade}
_HINT = "nts_check.py server --json prints such reports, and --targets collects them"


def read(path: Path, text: str | None = None) -> list[Report]:
    """The reports in a file, or in a text of it, at least one. ConfigError names the file and what is wrong with it."""
    text = inifile.read_text(path) if text is None else text
    try:
        found = [json.loads(text)]
    except (ValueError, RecursionError):
        found = [_line(path, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise ConfigError(f"{path} is empty", hint=_HINT)
    for report in found:
        if problem := fault(report):
            raise ConfigError(f"{path} is not a report about a server: {problem}", hint=_HINT)
    return found


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}, line {number}: neither JSON nor JSON Lines", hint=_HINT) from None


def fault(report: Any) -> str:
    """Why this is not a report about a server, in words; empty if it is one."""
    if not isinstance(report, dict) or report.get("tool") != "nts_check":
        return "nts_check has not written it"
    if report.get("command") != "server":
        return f"it is about a {str(report.get('command'))[:20]}"
    if not isinstance(report.get("target"), str) or not _is_time(report.get("started")):
        return "it does not say what was checked, or when"
    failure = report.get("failure")
    if failure is not None:
        return "" if isinstance(failure, dict) and isinstance(failure.get("message"), str) else "its failure is odd"
    results, summary = report.get("results"), report.get("summary")
    if not isinstance(results, list) or not all(map(_is_result, results)) or not isinstance(summary, dict):
        return "it lacks results"
    return ""


def _is_time(text: Any) -> bool:
    try:
        return bool(moment(text))
    except (TypeError, ValueError):
        return False


def moment(started: str) -> datetime:
    """When a report was started."""
    return datetime.strptime(started, "%Y-%m-%dT%H:%M:%S.%f%z")


def _is_result(result: Any) -> bool:
    texts = ("name", "verdict", "severity", "evidence", "section", "group")
    return (
        isinstance(result, dict)
        and all(isinstance(result.get(t), str) for t in texts)
        and result["verdict"] in VERDICTS
    )


def member(report: Report, path: str, kind: Callable[[Any], bool] = lambda _: True) -> Any:
    """What stands at a path such as `facts.ke.group`; None if the report has nothing there."""
    value: Any = report
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if value is not None and kind(value) else None


def number(report: Report, path: str) -> float | None:
    """The number at this path. JSON may have any: what is not finite, or beyond all sense, is none."""
    value = member(report, path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER else None


def text(report: Report, path: str) -> str | None:
    """The text at this path."""
    value = member(report, path)
    return value if isinstance(value, str) else None


def letter(report: Report) -> str | None:
    """The grade, where the report has one."""
    return text(report, "grade.letter")


def conforms(report: Report) -> bool | None:
    """Whether the server conforms; None: nobody can say."""
    value = member(report, "summary.conforms")
    return value if isinstance(value, bool) else None
