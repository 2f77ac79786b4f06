# SPDX-License-Identifier: MIT
"""Made-up reports about servers, as nts_check.py writes them, for tests of what reads them again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from nts.check.model import Grade
from nts.check.remedies import remedy
from nts.check.server import CHECKS

BEGIN = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
FACTS: dict[str, Any] = {
    "ke": {
        "host": "time.example.net", "port": 4460, "addresses": ["192.0.2.1", "2001:db8::1"], "tls_version": "TLSv1.3",
        "group": "X25519MLKEM768", "post_quantum": True, "cipher": "TLS_AES_256_GCM_SHA384",
    },
    "certificate": {
        "subject": "CN=time.example.net", "names": ["time.example.net", "time2.example.net"], "issuer": "CN=Some CA",
        "not_before": "2025-12-01T00:00:00.000000Z", "not_after": "2026-03-01T00:00:00.000000Z", "days_left": 58,
    },
    "nts": {
        "aeads": [15, 30], "preference": "server", "cookies": 8, "cookie_length": 104, "record_order": [1, 4, 5, 0],
    },
    "ntp": {
        "address": "192.0.2.1", "port": 123, "stratum": 1, "refid": "GPS", "root_distance_s": 0.0004,
        "offset_s": 0.000123, "offset_bound_s": 0.004, "processing_s": 0.00002, "plain": {"3": False, "4": True},
    },
    "implementation": {"name": "chrony", "evidence": ["cookies of 100 octets"]},
}  # fmt: skip


def started(day: float) -> str:
    """The time so many days after the first of all reports."""
    return (BEGIN + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def report(
    target: str = "time.example.net:4460",
    day: float = 0,
    *,
    facts: dict[str, Any] | None = None,
    grade: str | None = None,
    **verdicts: str,
) -> dict[str, Any]:
    """A report with these verdicts: `ke_basic="FAIL"`; with a severity: `ke_basic="FAIL MUST"`. All others are PASS."""
    given = {name.replace("_", "-"): verdict for name, verdict in verdicts.items()}
    results = [
        {
            "name": c.name, "id": c.id, "section": c.section, "group": c.group, "seconds": 1.0, "ref": c.ref,
            "verdict": given.get(c.name, "PASS").split()[0],
            "severity": (given.get(c.name, "").split()[1:] or [c.severity.value])[0],
            "evidence": f"what was seen of {c.name}",
        }
        for c in CHECKS
    ]  # fmt: skip
    for result in results:
        result["open"] = result["severity"] if result["verdict"] in ("SKIP", "PATH?") else None
        result["remedy"] = remedy(str(result["name"]), Grade(result["verdict"]))
    counts = {k: sum(r["verdict"] == v for r in results) for k, v in (
        ("pass", "PASS"), ("warn", "WARN"), ("fail", "FAIL"), ("path", "PATH?"), ("skip", "SKIP"))}  # fmt: skip
    failures = {s: sum((r["verdict"], r["severity"]) == ("FAIL", s) for r in results)
                for s in ("CRIT", "MUST", "SHOULD", "INFO")}  # fmt: skip
    conforms = None if counts["skip"] or counts["path"] else not failures["CRIT"] + failures["MUST"]
    summary = {
        "planned": len(results), "checks": len(results), **counts, "failures": failures, "conforms": conforms,
        "interrupted": False, "exit_code": {True: 0, False: 1, None: 3}[conforms],
    }  # fmt: skip
    made: dict[str, Any] = {
        "tool": "nts_check", "version": "0.1.0", "command": "server", "target": target, "started": started(day),
        "seconds": 300.0, "seed": 1, "pace": 1.0, "ke_pace": 1.0, "final_pace": 1.0, "final_ke_pace": 1.0,
        "facts": facts, "grade": None, "results": results, "summary": summary,
    }  # fmt: skip
    if grade is not None:
        caps = [] if grade == "A+" else [{"letter": grade, "check": "ke-basic", "reason": "why it is no better"}]
        made["grade"] = {"letter": grade, "caps": caps}
    return made


def unreachable(target: str = "time.example.net:4460", day: float = 0) -> dict[str, Any]:
    """A report about a server that was not there."""
    message = "cannot connect to time.example.net port 4460 (192.0.2.1:4460: timed out)"
    failure = {"code": 11, "stage": "connect", "message": message, "hint": "is the server running?"}
    head = {"tool": "nts_check", "version": "0.1.0", "command": "server", "target": target, "started": started(day)}
    return {**head, "failure": failure}


def write(path: Path, *reports: dict[str, Any]) -> Path:
    """As a JSON object, or as JSON Lines if there are several."""
    path.write_text("".join(json.dumps(r) + "\n" for r in reports) if len(reports) != 1 else json.dumps(reports[0]))
    return path


def with_facts(changes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The facts, with other values at some paths: `("ke.group", "X25519")`."""
    facts: dict[str, Any] = json.loads(json.dumps(FACTS))
    for path, value in changes:
        *folders, name = path.split(".")
        place = facts
        for folder in folders:
            place = place[folder]
        place[name] = value
    return facts
