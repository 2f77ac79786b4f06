# SPDX-License-Identifier: MIT
"""The grade of a server, from a report's JSON alone: each rule caps it, and the lowest cap is the grade. Pure.

`docs/nts_check.md` tells the rules to people. A report from before there were grades gets one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

LETTERS = ("A+", "A", "B", "C", "D", "F")
"""best first"""
WHOLE = 52
"""checks of the first version. A report that has them, and no gap in its numbers, is of a whole run."""
ESSENTIAL = ("ke-basic", "ntp-answers", "ntp-time", "ke-server-port")
"""checks at MUST without which no client gets the time, or gets a wrong one"""
CAPS = {
    ("FAIL", "CRIT"): "F", ("FAIL", "MUST"): "C", ("FAIL", "SHOULD"): "B", ("FAIL", "INFO"): "A",
    ("WARN", "CRIT"): "A", ("WARN", "MUST"): "A", ("WARN", "SHOULD"): "A",
}  # fmt: skip
"""by verdict and severity; what is not here caps nothing"""
LAST_DAYS = 0.1
"""of a certificate's life, before its end"""
SYNCHRONISED = range(1, 16)

Report = dict[str, Any]
Cap = dict[str, Any]


def grade(report: Report) -> dict[str, Any] | None:
    """The letter, and the caps that explain it, worst first. None: it is no server, or nobody can say.

    Nobody can say when the run was not whole, or when a rule that was left open could lower the letter.
    """
    if report["command"] != "server" or report["summary"]["conforms"] is None or not _is_whole(report):
        return None
    caps = [*_caps_of_results(report), *_caps_of_facts(report)]
    caps.sort(key=lambda cap: LETTERS.index(cap["letter"]), reverse=True)
    letter = caps[0]["letter"] if caps else LETTERS[0]
    if any(LETTERS.index(lowest) > LETTERS.index(letter) for lowest in _open(report)):
        return None
    return {"letter": letter, "caps": caps}


def _is_whole(report: Report) -> bool:
    numbers = sorted(int(result["id"]) for result in report["results"])
    return len(numbers) >= WHOLE and numbers == list(range(1, len(numbers) + 1))


def _cap(verdict: str, severity: str, name: str) -> str | None:
    letter = CAPS.get((verdict, severity))
    return "D" if letter == "C" and name in ESSENTIAL else letter


def _open(report: Report) -> Iterator[str]:
    """The letters of the rules at CRIT or MUST that were left open, if they were broken.

    A report from before there was `open` does not tell parts of checks.
    """
    for result in report["results"]:
        severity = result.get("open", result["severity"] if result["verdict"] in ("SKIP", "PATH?") else None)
        if severity in ("CRIT", "MUST"):
            yield _cap("FAIL", severity, result["name"]) or LETTERS[0]


def _caps_of_results(report: Report) -> Iterator[Cap]:
    for result in report["results"]:
        name, verdict, severity = result["name"], result["verdict"], result["severity"]
        letter = _cap(verdict, severity, name)
        if letter:
            yield {"letter": letter, "check": name, "reason": f"{verdict} at {severity}"}


def _caps_of_facts(report: Report) -> Iterator[Cap]:
    facts = report.get("facts")
    if not facts:
        yield {"letter": "A", "check": None, "reason": "there is no fact sheet"}
        return
    stratum = facts["ntp"]["stratum"]
    if stratum is not None and stratum not in SYNCHRONISED:
        yield {"letter": "D", "check": None, "reason": f"the clock is not synchronised: stratum {stratum}"}
    certificate = facts["certificate"]
    start, end, left = (certificate[name] for name in ("not_before", "not_after", "days_left"))
    if start and end and 0 <= left < LAST_DAYS * _days(start, end):
        yield {"letter": "B", "check": None, "reason": "less than a tenth of the certificate's life is left"}


def _days(start: str, end: str) -> float:
    first, last = (datetime.fromisoformat(moment.removesuffix("Z")) for moment in (start, end))
    return (last - first).total_seconds() / 86400
