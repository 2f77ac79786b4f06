# SPDX-License-Identifier: MIT
"""The runner: whatever a check does or a peer causes becomes a result, and the next check runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nts.base.errors import ConnectError
from nts.check import runner
from nts.check.model import (
    Check,
    Finding,
    Grade,
    Group,
    PathTrouble,
    Severity,
    Silenced,
    Skipped,
    Transcript,
    failed,
    passed,
    warned,
)  # fmt: skip


class Probe:
    transcript = Transcript()


def check_of(name: str, findings: list[Finding], end: Exception | None = None, *, last: bool = False) -> Check[Probe]:
    group: Group[Probe] = Group("a group")

    def run(_probe: Probe) -> Iterator[Finding]:
        yield from findings
        if end is not None:
            raise end

    group.check(
        name, name, section="4", severity=Severity.MUST, ref="A01", sends="", expects="", rule="", last=last
    )(run)  # fmt: skip
    return group.checks[0]


@pytest.mark.parametrize(
    ("findings", "end", "verdict", "text"),
    [
        ([passed("good")], None, Grade.PASS, "good"),
        ([passed("good"), warned("hm"), failed("bad")], None, Grade.FAIL, "bad"),
        ([], Skipped("nothing to try it on"), Grade.SKIP, "nothing to try it on"),
        ([], PathTrouble("silence"), Grade.PATH, "silence"),
        ([passed("good")], Silenced("none after"), Grade.FAIL, "none after"),
        ([], ConnectError("refused"), Grade.SKIP, "refused"),
        ([], OSError("no route"), Grade.SKIP, "no route"),
        ([], ZeroDivisionError("oops"), Grade.SKIP, "ZeroDivisionError in test_runner.py line"),
        ([failed("bad")], ZeroDivisionError("oops"), Grade.FAIL, "bad"),
    ],
)
def test_whatever_happens_is_a_result_and_the_next_check_runs(
    findings: list[Finding], end: Exception | None, verdict: Grade, text: str
) -> None:
    first, second = runner.run([check_of("first", findings, end), check_of("second", [passed("good")])], Probe())
    assert first.grade is verdict
    assert text in first.evidence
    assert second.grade is Grade.PASS


def test_a_check_that_is_to_come_last_does() -> None:
    checks = [check_of("first", [passed("good")], last=True), check_of("second", [passed("good")])]
    assert [r.check.name for r in runner.run(checks, Probe())] == ["second", "first"]


def test_a_check_without_a_finding_is_a_mistake_that_shows() -> None:
    with pytest.raises(AssertionError, match="first found nothing"):
        list(runner.run([check_of("first", [])], Probe()))
