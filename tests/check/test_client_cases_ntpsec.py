# SPDX-License-Identifier: MIT
"""NTPsec's ntpd as the client under test, in a network of its own; and why it is not, where it cannot be."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from nts.check import runner
from nts.check.client import CASES, ntpsec
from nts.check.client.ntpsec import NtpsecClient
from nts.check.client.probe import ClientProbe
from nts.check.model import Grade, Result
from nts.check.peer import Authority
from testkit.namespaces import own_loopback


def run_case(number: str, authority: Authority) -> Result[ClientProbe]:
    (result,) = runner.run(runner.select(CASES, [number], []), ClientProbe(NtpsecClient(), authority))
    return result


@pytest.mark.interop
@pytest.mark.usefixtures("ntpd_command")
@pytest.mark.parametrize("number", ["C02", "C14", "C20", "C25"])
def test_ntpsec_is_run_and_judged(number: str, authority: Authority) -> None:
    before = time.time() - time.monotonic()
    with own_loopback():
        result = run_case(number, authority)
    # C20 wants port 123 too, which ntpd has itself.
    expected = Grade.SKIP if number == "C20" else Grade.PASS
    assert result.grade is expected, [(f.grade, f.text) for f in result.findings]
    assert abs(time.time() - time.monotonic() - before) < 0.2  # nobody has set the clock
    if number == "C20":
        skipped = [f.text for f in result.findings if f.grade is Grade.SKIP]
        assert skipped == ["no record: ntpd wants UDP port 123 of all addresses, and cannot have it here"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "there is no ntpd on this machine"),
        ("echo ntpd 4.2.8p15", "is not NTPsec's"),
        ('test "$1" = --version && echo ntpd ntpsec-9 || { echo unable to bind; exit 1; }', "wants UDP port 123"),
    ],
)
def test_a_machine_where_ntpd_cannot_run_is_told_of(
    script: str | None, why: str, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script:
        (tmp_path / "ntpd").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ntpd").chmod(0o755)
    (tmp_path / "setpriv").write_text('#!/bin/sh\nshift 2; exec "$@"\n')
    (tmp_path / "setpriv").chmod(0o755)
    monkeypatch.setattr(ntpsec, "_PATH", str(tmp_path))
    assert shutil.which("ntpd", path=ntpsec._PATH) == (str(tmp_path / "ntpd") if script else None)
    result = run_case("C02", authority)
    assert (result.grade, why in result.evidence) == (Grade.SKIP, True), result.evidence
