# SPDX-License-Identifier: MIT
"""Our own servers with one fault each: that the tables of faults are long enough, and mutants that need both servers.

The tables themselves are run by test_ke_checks.py and test_ntp_checks.py: each fault against the check that should find
it, and each check against a sound server as the control.
"""

from __future__ import annotations

import os

import pytest

from nts.base.registry import RecordType
from nts.check import runner
from nts.check.context import Target
from nts.check.ke.forge import record
from nts.check.model import Grade, Result, Severity
from nts.check.peer import Authority, KeBehaviour, KeTalk, NtpBehaviour, pair
from nts.check.peer.craft import response
from nts.check.server import CHECKS
from nts.check.server.probe import ServerProbe
from nts.codec import records
from nts.codec.aead import Aead
from testkit import ke_faults, ntp_faults
from testkit.ntp_faults import NTS, only, shifted, time_


def one(servers_port: int, authority: Authority, name: str) -> Result[ServerProbe]:
    probe = ServerProbe(Target("127.0.0.1", servers_port, authority.ca, patience=0.4), pace=0, seed=1)
    (result,) = runner.run(runner.select(CHECKS, [name], []), probe)
    return result


def test_the_tables_have_faults_enough_for_every_check() -> None:
    fatal = {(name, label) for name, label, *_ in ke_faults.FAULTS + ntp_faults.FAULTS}
    assert len(fatal) >= 150
    assert {name for name, _ in fatal} | {"cert-chain", "ke-1024-record"} == {c.name for c in CHECKS}


@pytest.mark.parametrize("side", ["c2s", "s2c"])
def test_keys_in_clear_in_the_first_cookies_are_found(authority: Authority, side: str) -> None:
    def transparent(talk: KeTalk) -> None:
        talk.request()
        key = getattr(talk.export(Aead.AES_SIV_CMAC_256), side)
        port = record(RecordType.PORT, records.encode_u16s(talk.behaviour.ntp_port))
        talk.send(response(cookies=[os.urandom(20) + key + os.urandom(48) for _ in range(8)], more=port))

    with pair(KeBehaviour(transparent), authority=authority) as servers:
        result = one(servers.ke.port, authority, "cookie-opaque")
    assert (result.grade, result.severity) == (Grade.FAIL, Severity.CRIT), result.evidence
    assert "the NTS-KE response" in result.evidence


@pytest.mark.parametrize(
    ("days", "grade", "text"),
    [(0, Grade.PASS, " s from our clock"), (0.5, Grade.WARN, "within the"), (9000, Grade.FAIL, "outside the dates")],
)
def test_a_time_is_held_against_our_clock_and_the_certificate(
    authority: Authority, days: float, grade: Grade, text: str
) -> None:
    answer = only(NTS, time_(header=lambda t: shifted(t, int(days * 86400))))
    with pair(ntp=NtpBehaviour(answer), authority=authority) as servers:
        result = one(servers.ke.port, authority, "ntp-time")
    assert result.grade is grade, result.evidence
    assert text in result.evidence
