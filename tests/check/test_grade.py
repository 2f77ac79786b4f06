# SPDX-License-Identifier: MIT
"""The grade of a server: each stated rule, and that a report's JSON alone decides."""

from __future__ import annotations

import copy
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.check.model import Grade, Result, Severity, conclude, failed, passed, skipped
from nts.check.output import as_json, summary
from nts.check.output.grade import CAPS, ESSENTIAL, LETTERS, grade
from nts.check.server import CHECKS
from testkit.packets import bounded
from testkit.processes import ROOT
from testkit.sample_checks import FACTS, SCHEMA

Report = dict[str, Any]


def whole() -> Report:
    """The JSON of a run in which every check passes."""
    results = tuple(conclude(check, [passed("fine")]) for check in CHECKS)
    report = summary.Report("server", "h:1", 0, 1, 1.0, planned=len(CHECKS), results=results, facts=FACTS)
    return as_json.dictionary(report, verbose=False)


WHOLE = whole()


def changed(verdict: str = "", severity: str = "", name: str = "ke-1024", *, facts: Report | None = None) -> Report:
    """That report with another verdict of one check, and other facts."""
    report = copy.deepcopy(WHOLE)
    if verdict:
        result = next(r for r in report["results"] if r["name"] == name)
        result |= {"verdict": verdict, "severity": severity, "evidence": "seen"}
        report["summary"]["conforms"] = not (verdict == "FAIL" and severity in ("CRIT", "MUST"))
        if verdict in ("SKIP", "PATH?") and severity in ("CRIT", "MUST"):
            result["open"], report["summary"]["conforms"] = severity, None
    for path, value in (facts or {}).items():
        part, name = path.split(".")
        report["facts"][part][name] = value
    return report


def letter(report: Report) -> str | None:
    given_grade = grade(report)
    return given_grade["letter"] if given_grade else None


def line(given_grade: dict[str, Any] | None, *results: Result[Any]) -> str:
    return summary.grade_line(summary.Report("server", "h:1", 0, 1, 1.0, 1, grade=given_grade, results=results))


def test_a_run_without_a_blemish_has_the_best_grade() -> None:
    assert grade(WHOLE) == {"letter": "A+", "caps": []}
    jsonschema.validate({**WHOLE, "grade": grade(WHOLE)}, SCHEMA)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (changed("FAIL", "CRIT"), "F"),
        (changed("FAIL", "MUST", "ntp-answers"), "D"),
        (changed("FAIL", "MUST"), "C"),
        (changed("FAIL", "SHOULD"), "B"),
        (changed("FAIL", "INFO"), "A"),
        (changed("WARN", "CRIT"), "A"),
        (changed("WARN", "MUST"), "A"),
        (changed("WARN", "SHOULD"), "A"),
        (changed("WARN", "INFO"), "A+"),
        (changed("SKIP", "SHOULD"), "A+"),
        (changed(facts={"ntp.stratum": 16}), "D"),
        (changed(facts={"ntp.stratum": 0}), "D"),
        (changed(facts={"ntp.stratum": None}), "A+"),
        (changed(facts={"certificate.days_left": 8.9}), "B"),
        (changed(facts={"certificate.days_left": 9.1}), "A+"),
        (changed(facts={"certificate.not_after": None, "certificate.days_left": None}), "A+"),
        (changed(facts={"ke.post_quantum": False}), "A+"),
    ],
)
def test_each_rule_caps_the_grade(report: Report, expected: str) -> None:
    assert letter(report) == expected
    caps = grade(report)["caps"]  # type: ignore[index]
    assert [cap["letter"] for cap in caps] == ([] if expected == "A+" else [expected])
    assert all(cap["reason"] for cap in caps)


def test_the_lowest_cap_counts_and_all_are_told_worst_first() -> None:
    report = changed("FAIL", "MUST", facts={"certificate.days_left": 1, "ntp.stratum": 16})
    given_grade = grade(report)
    assert given_grade is not None
    told = [(cap["letter"], cap["check"]) for cap in given_grade["caps"]]
    assert (given_grade["letter"], told) == ("D", [("D", None), ("C", "ke-1024"), ("B", None)])
    assert line(given_grade) == "Grade D: the clock is not synchronised: stratum 16."


def test_the_line_of_a_grade_repeats_no_name_that_the_sentence_before_it_has() -> None:
    failure = conclude(CHECKS[0], [failed("bad")])
    caps = [{"letter": "F", "check": failure.check.name, "reason": "FAIL at CRIT"}]
    assert line({"letter": "F", "caps": caps}, failure) == "Grade F."
    other = [*caps, {"letter": "F", "check": None, "reason": "something else"}]
    assert line({"letter": "F", "caps": other}, failure) == f"Grade F: {failure.check.name}, something else."
    assert line(None) == ""


# --- where nobody can say --------------------------------------------------------------------------------------------


def with_open(verdict: str, severity: str, *, name: str, severity_open: str) -> Report:
    report = changed(verdict, severity)
    next(r for r in report["results"] if r["name"] == name)["open"] = severity_open
    return report


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (changed("SKIP", "MUST"), None),
        (changed("PATH?", "CRIT"), None),
        (with_open("FAIL", "CRIT", name="ntp-basic", severity_open="CRIT"), "F"),
        (with_open("FAIL", "MUST", name="ntp-basic", severity_open="CRIT"), None),
        (with_open("FAIL", "MUST", name="ntp-time", severity_open="MUST"), None),
        (with_open("FAIL", "MUST", name="ke-order", severity_open="MUST"), "C"),
        ({**WHOLE, "command": "client"}, None),
        ({**WHOLE, "results": WHOLE["results"][1:]}, None),
        ({**WHOLE, "results": []}, None),
    ],
    ids=["MUST", "CRIT", "F is the end", "it may be F", "it may be D", "C all the same", "client", "part", "none"],
)  # fmt: skip
def test_there_is_no_grade_where_it_could_be_lower(report: Report, expected: str | None) -> None:
    assert letter(report) == expected


@pytest.mark.parametrize(("verdict", "expected"), [("PASS", "A"), ("FAIL", "C"), ("SKIP", None)])
def test_an_older_report_has_a_grade_too(verdict: str, expected: str | None) -> None:
    """With 52 checks, without a fact sheet, and without what is open in each result."""
    report = changed(verdict, "MUST")
    for name in ("facts", "grade", "ke_pace", "final_pace", "final_ke_pace"):
        del report[name]
    report["results"] = [
        {k: v for k, v in r.items() if k not in ("open", "remedy")} for r in report["results"] if int(r["id"]) <= 52
    ]
    assert letter(report) == expected


# --- in general ------------------------------------------------------------------------------------------------------


VERDICTS = st.tuples(st.integers(0, len(CHECKS) - 1), st.sampled_from(Grade), st.sampled_from(Severity))


@bounded(200)
@given(st.lists(VERDICTS), st.integers(0, len(CHECKS) - 1), st.sampled_from(Severity))
def test_the_same_report_has_the_same_grade_and_another_failure_never_a_better_one(
    changes: list[tuple[int, Grade, Severity]], another: int, severity: Severity
) -> None:
    report = copy.deepcopy(WHOLE)
    for index, verdict, of in changes:
        report["results"][index] |= {"verdict": verdict.value, "severity": of.value}
    before = letter(report)
    assert letter(copy.deepcopy(report)) == before
    if report["results"][another]["verdict"] == "PASS":
        report["results"][another] |= {"verdict": "FAIL", "severity": severity.value}
        after = letter(report)
        assert before is None or (after is not None and LETTERS.index(after) >= LETTERS.index(before))


def test_json_tells_what_was_left_open() -> None:
    check = CHECKS[0]
    for severity, told in ((None, "CRIT"), (Severity.MUST, "MUST"), (Severity.INFO, None)):
        result = conclude(check, [passed("a"), failed("b", Severity.SHOULD), skipped("c", severity)])
        assert as_json._result(result, verbose=False)["open"] == told


def test_the_rules_are_those_of_the_document() -> None:
    chapter = (ROOT / "docs/nts_check.md").read_text().partition("## Grade")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([A-F]\+?) \| (.+) \|$", chapter, re.MULTILINE)
    assert [a for a, _ in rows] == ["F", "D", "D", "C", "B", "B", "A", "A"]
    for name in ESSENTIAL:
        assert f"`{name}`" in rows[1][1]
    for (verdict, severity), cap in CAPS.items():
        assert any(a == cap and verdict in words and severity in words for a, words in rows), (verdict, severity)
