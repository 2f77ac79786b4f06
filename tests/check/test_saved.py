# SPDX-License-Identifier: MIT
"""Reports read again: what has changed since an older one, and what a policy says of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nts.base.errors import ConfigError
from nts.check.saved import policy, reading
from nts.check.saved.changes import Changes, compare, grade_rank
from nts.check.saved.expected import Expected, Judgement
from testkit.sample_checks import SCHEMA
from testkit.saved_reports import FACTS, report, unreachable, with_facts, write

# --- reading ---------------------------------------------------------------------------------------------------------


def test_reports_are_one_object_or_json_lines(tmp_path: Path) -> None:
    one, two = report(), unreachable("other.example.net:4460")
    assert reading.read(write(tmp_path / "one.json", one)) == [one]
    (tmp_path / "indented.json").write_text(json.dumps(one, indent=2))
    assert reading.read(tmp_path / "indented.json") == [one]
    assert reading.read(write(tmp_path / "two.jsonl", one, two)) == [one, two]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("{}", "nts_check has not written it"),
        ("[1]", "nts_check has not written it"),
        ('{"tool": "nts_check"}\nnothing', "line 2: neither JSON nor JSON Lines"),
        ('{"tool": "nts_check", "command": "client"}', "it is about a client"),
        ('{"tool": "nts_check", "command": "server", "target": "x", "started": "now"}', "what was checked, or when"),
        ('{"failure": {"code": 11}}', "nts_check has not written it"),
        ("[" * 100_000, "neither JSON"),
    ],
)
def test_what_is_no_report_is_one_clear_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        reading.read(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("results", None), ("results", [{"name": "x"}]), ("summary", []), ("failure", "no"), ("target", 1)],
)
def test_a_report_with_an_odd_member_is_none(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match="is not a report about a server"):
        reading.read(write(tmp_path / "r.json", {**report(), name: value}))


# --- changes ---------------------------------------------------------------------------------------------------------


def names(changes: Changes) -> dict[str, list[str]]:
    """The names of what has changed, by the way in which it has."""
    rows = {label: changes.json[label] for label in ("regressed", "fixed", "unclear", "new", "gone", "facts")}
    return {label: [r if isinstance(r, str) else r["name"] for r in found] for label, found in rows.items() if found}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("PASS", "PASS", {}),
        ("PASS", "FAIL MUST", {"regressed": ["ke-basic"]}),
        ("PASS", "WARN", {"regressed": ["ke-basic"]}),
        ("FAIL SHOULD", "FAIL CRIT", {"regressed": ["ke-basic"]}),
        ("FAIL CRIT", "FAIL MUST", {"fixed": ["ke-basic"]}),
        ("FAIL CRIT", "PASS", {"fixed": ["ke-basic"]}),
        ("WARN", "PASS", {"fixed": ["ke-basic"]}),
        ("PASS", "SKIP", {"unclear": ["ke-basic"]}),
        ("PATH?", "FAIL MUST", {"unclear": ["ke-basic"]}),
        ("SKIP", "PATH?", {"unclear": ["ke-basic"]}),
    ],
)
def test_a_verdict_is_compared_with_the_older_one(before: str, now: str, expected: dict[str, list[str]]) -> None:
    assert names(compare(report(ke_basic=before), report(ke_basic=now))) == expected


def test_checks_come_and_go_without_a_regression() -> None:
    old, new = report(), report(ntp_basic="FAIL CRIT")
    old["results"] = [r for r in old["results"] if r["name"] != "ntp-basic"]
    new["results"] = [r for r in new["results"] if r["name"] != "ke-basic"]
    changes = compare(old, new)
    assert names(changes) == {"new": ["ntp-basic"], "gone": ["ke-basic"]}
    assert Judgement(changes).exit_code(1) == 0


def test_a_server_that_is_no_longer_there_has_regressed() -> None:
    changes = compare(report(), unreachable())
    assert names(changes) == {"regressed": ["reachable"]}
    assert "cannot connect" in changes.lines[1]
    assert names(compare(unreachable(), report())) == {"fixed": ["reachable"]}
    assert names(compare(unreachable(), unreachable())) == {}


def test_facts_that_are_never_the_same_twice_are_no_news() -> None:
    measured = [("ntp.offset_s", 1.0), ("ntp.root_distance_s", 2), ("certificate.days_left", 57)]
    told = [("ke.group", "X25519"), ("ke.post_quantum", False), ("ntp.plain.4", None)]
    changes = compare(report(facts=FACTS), report(facts=with_facts([*measured, *told])))
    assert names(changes) == {"facts": ["ke.group", "ke.post_quantum", "ntp.plain.4"]}
    assert "ntp.plain.4, yes before, is unknown" in changes.lines[-1]
    assert names(compare(report(), report(facts=FACTS))) == {}


def test_a_worse_grade_is_a_regression() -> None:
    assert names(compare(report(grade="A"), report(grade="B"))) == {"regressed": ["grade"]}
    assert names(compare(report(grade="F"), report(grade="A+"))) == {"fixed": ["grade"]}
    assert names(compare(report(), report(grade="F"))) == {"new": ["grade"]}
    order = ["A+", "A", "A-", "B+", "B", "C", "F"]
    assert sorted(order, key=grade_rank) == order


# --- policies --------------------------------------------------------------------------------------------------------


def held(tmp_path: Path, about: dict[str, Any], *lines: str) -> dict[str, bool | None]:
    """Each promise of [policy], and whether the report shows it kept."""
    (tmp_path / "p.ini").write_text("\n".join(["[policy]", *lines]))
    return {p.option: p.kept for p in policy.load(tmp_path / "p.ini").hold(about)}


@pytest.mark.parametrize(
    ("promise", "kept"),
    [
        ("conforms = yes", True), ("conforms = no", False),
        ("grade = A", True), ("grade = B", True), ("grade = A+", False),
        ("passes = ke-*", False), ("passes = tls13-only, ntp-*", True), ("passes = nothing", None),
        ("passes = ke-basic", None),
        ("aeads = 15", True), ("aeads = 15, 30", True), ("aeads = 16", False),
        ("groups = X25519MLKEM768 X25519", True), ("groups = x25519mlkem768", True), ("groups = X25519", False),
        ("post_quantum = yes", True), ("post_quantum = no", False),
        ("cookies = 8", True), ("cookies = 9", False),
        ("certificate_days = 58", True), ("certificate_days = 59", False),
        ("certificate_names = Time.example.net", True), ("certificate_names = other.example.net", False),
        ("stratum = 1", True), ("stratum = 0", False),
        ("root_distance = 0.001", True), ("root_distance = 0", False),
        ("offset = 0.001", True), ("offset = 0.0001", False),
        ("plain_ntp = yes", True), ("plain_ntp = no", False),
    ],
)  # fmt: skip
def test_a_promise_is_held_against_what_was_seen(tmp_path: Path, promise: str, kept: bool | None) -> None:
    about = report(facts=FACTS, grade="A", ke_no_aead="WARN", ke_basic="SKIP")
    about["summary"]["conforms"] = True
    assert list(held(tmp_path, about, promise).values()) == [kept]


def test_what_an_old_report_does_not_tell_is_neither_kept_nor_broken(tmp_path: Path) -> None:
    examples = {"passes": "ke-nothing", "aeads": "15", "grade": "A", "offset": "1", "root_distance": "1"}
    flags = {"conforms", "post_quantum", "plain_ntp"}
    lines = [f"{o} = {examples.get(o, 'yes' if o in flags else '1')}" for o in policy.OPTIONS]
    assert set(held(tmp_path, report(ke_basic="SKIP"), *lines).values()) == {None}
    assert held(tmp_path, unreachable(), *lines) == {"reachable": False}


def test_odd_facts_are_unknown(tmp_path: Path) -> None:
    facts = {"nts": {"aeads": 15, "cookies": True}, "ke": [], "ntp": {"stratum": "1"}, "certificate": {"names": "x"}}
    lines = ["aeads = 15", "cookies = 1", "groups = x", "stratum = 1", "certificate_names = x"]
    assert set(held(tmp_path, report(facts=facts), *lines).values()) == {None}


def test_a_server_may_have_a_section_of_its_own(tmp_path: Path) -> None:
    sections = [
        "[policy]",
        "stratum = 1",
        "cookies = 8",
        "[time.example.net]",
        "stratum = 2",
        "[[::1]:4460]",
        "stratum=3",
    ]
    (tmp_path / "p.ini").write_text("\n".join([*sections, "[time.example.net:4461]", "stratum = 4"]))
    loaded = policy.load(tmp_path / "p.ini")
    promised = {
        target: {p.option: p.promised for p in loaded.hold(report(target))}
        for target in ("time.example.net:4460", "TIME.example.net:4461", "[::1]:4460", "other.example.net:4460")
    }
    assert [p["stratum"] for p in promised.values()] == ["2", "4", "3", "1"]
    assert {p["cookies"] for p in promised.values()} == {"8"}


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ("", "promises nothing", "aeads"),
        ("[policy]\n", "promises nothing", "aeads"),
        ("[policy]\nstratums = 1", r"\[policy\] has the unknown option stratums", "stratum"),
        ("[policy]\nstratum = one", r"\[policy\] stratum must be a number", ""),
        ("[policy]\nstratum =", r"\[policy\] stratum must not be empty", ""),
        ("[policy]\nconforms = maybe", "must be yes or no", ""),
        ("[policy]\noffset = nan", "must be a number of seconds", ""),
        ("[policy]\ngrade = best", "must be a grade", ""),
        ("[x]\naeads = 15 x", r"\[x\] aeads must be a number", ""),
        ("stratum = 1", "line 1: not a", ""),
    ],
)
def test_a_mistake_in_a_policy_is_named(tmp_path: Path, text: str, complaint: str, hint: str) -> None:
    (tmp_path / "p.ini").write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        policy.load(tmp_path / "p.ini")
    assert hint in str(caught.value.hint)


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "promise", "strict", "code"),
    [
        ("FAIL MUST", "", False, 1), ("PASS", "", False, 0),
        ("PASS", "stratum = 1", False, 3), ("PASS", "stratum = 1", True, 1), ("FAIL MUST", "stratum = 1", False, 1),
        ("PASS", "passes = ke-basic", False, 0), ("PASS", "passes = ntp-time", False, 1),
    ],
)  # fmt: skip
def test_regressions_and_promises_decide_the_exit_code(
    tmp_path: Path, now: str, promise: str, strict: bool, code: int
) -> None:
    old = write(tmp_path / "old.json", report(ntp_time="FAIL CRIT"))
    if promise:
        (tmp_path / "p.ini").write_text(f"[policy]\n{promise}")
    expected = Expected.load(old, tmp_path / "p.ini" if promise else None)
    judgement = expected.judge(report(day=1, ke_basic=now, ntp_time="FAIL CRIT"))
    assert judgement.exit_code(99, strict=strict) == code
    assert Expected().judge(report()).exit_code(99) == 99


def test_the_schema_knows_what_is_added(tmp_path: Path) -> None:
    (tmp_path / "p.ini").write_text("[policy]\nstratum = 1\npasses = ke-*")
    old = write(tmp_path / "old.json", report(facts=FACTS, ke_basic="FAIL MUST", ntp_time="PASS"))
    about = report(facts=with_facts([("ntp.stratum", 2)]), grade="F", ntp_time="FAIL CRIT")
    added = Expected.load(old, tmp_path / "p.ini").judge(about).json
    assert added.keys() == {"changes", "policy"}
    members = {name: SCHEMA["$defs"]["report"]["properties"][name] for name in added}
    schema = {"$defs": SCHEMA["$defs"], "properties": members}
    jsonschema.validate(json.loads(json.dumps(added)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"policy": [{"option": "stratum"}]}, schema)
