# SPDX-License-Identifier: MIT
"""ntpd-rs as the client under test, in a network of its own; and why it is not, where it cannot be.

Debian 12 has none: tools/peers.sh unpacks that of a later release.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nts.check import runner
from nts.check.client import CASES, ntpd_rs
from nts.check.client.ntpd_rs import NtpdRsClient
from nts.check.client.probe import ClientProbe
from nts.check.model import Grade, Result
from nts.check.peer import Authority
from nts.system import sandbox
from testkit.namespaces import own_loopback
from testkit.processes import ROOT

_UNPACKED = ROOT / ".tools/peers/trixie/bin"


def run_case(number: str, authority: Authority) -> Result[ClientProbe]:
    (result,) = runner.run(runner.select(CASES, [number], []), ClientProbe(NtpdRsClient(), authority))
    return result


@pytest.mark.interop
@pytest.mark.skipif(not _UNPACKED.exists(), reason="no ntpd-rs of Debian trixie: tools/peers.sh trixie unpacks it")
@pytest.mark.parametrize(
    ("number", "evidence"),
    [
        ("C02", "stripped-authenticator: takes no time"),
        ("C08", "forged-nak: takes no time"),
        ("C09", "nak-then-time: takes the time"),
    ],
)
def test_ntpd_rs_is_run_and_judged(
    number: str, evidence: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ntpd_rs, "_PATH", os.pathsep.join((str(_UNPACKED), ntpd_rs._PATH)))
    before = time.time() - time.monotonic()
    with own_loopback():
        result = run_case(number, authority)
    assert (result.grade, result.evidence.startswith(evidence)) == (Grade.PASS, True), result.evidence
    assert abs(time.time() - time.monotonic() - before) < 0.2  # nobody has set the clock


def test_a_machine_without_ntpd_rs_is_told_of(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntpd_rs, "_PATH", "")
    result = run_case("C02", authority)
    assert (result.grade, result.evidence) == (Grade.SKIP, "there is no ntp-daemon on this machine")


def test_it_never_runs_where_it_could_set_the_clock(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ntp-daemon").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "ntp-daemon").chmod(0o755)
    monkeypatch.setattr(ntpd_rs, "_PATH", str(tmp_path))
    monkeypatch.setattr(sandbox, "has_seccomp", lambda: False)
    result = run_case("C02", authority)
    assert (result.grade, "no libseccomp" in result.evidence) == (Grade.SKIP, True), result.evidence
    assert not (tmp_path / "ran").exists()
