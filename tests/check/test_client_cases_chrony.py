# SPDX-License-Identifier: MIT
"""C01 to C26 with a real chronyd as the client. What it does otherwise is pinned, with its evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from nts.check import runner
from nts.check.client import CASES
from nts.check.client.chronyd import ChronydClient
from nts.check.client.probe import ClientProbe
from nts.check.model import Grade, Result, Severity
from nts.check.peer import Authority
from testkit import chrony
from testkit.outcomes import Outcomes

pytestmark = pytest.mark.interop
PINNED = {(4, 3), (4, 6, 1)}  # the versions of Debian 12 and 13
PARALLEL = 6  # most of it is waiting


@dataclass(frozen=True)
class Deviation:
    """How a case ends that chronyd does not pass."""

    grade: Grade
    severity: Severity
    evidence: str
    """a regular expression for the whole of it"""


DEVIATIONS = {
    # A66: a field after the authenticator makes it drop the whole packet.
    "C07": Deviation(Grade.WARN, Severity.MUST, "trailing-cookies: takes no time from such replies.*"),
    # A76: it throws its cookies away at the first NAK and asks nobody until the next key exchange.
    "C10": Deviation(Grade.FAIL, Severity.SHOULD, r"nak: the client gives up its old cookies \(\d+ NTP requests?\)"),
    # B13: it knows RATE alone.
    "C11": Deviation(
        Grade.FAIL, Severity.MUST,
        r"kiss-deny after 4 genuine replies: \d+ more .*; kiss-rstr after 4 genuine replies: \d+ more .*",
    ),
    # A30: more than 1024 octets of extension fields are dropped; so are replies without a cookie, which break A68.
    "C13": Deviation(
        Grade.WARN, Severity.MUST,
        "reply-without-cookies: takes no time.*; twenty-cookies: takes no .*; cookie-length-change: takes no .*",
    ),
    # A09, A25: it looks at the last of two negotiation records.
    "C16": Deviation(
        Grade.FAIL, Severity.MUST, r"duplicate-record: goes on \(\d+ NTP .*; duplicate-aead: goes on \(\d+ NTP .*"
    ),
    # A11: it reads no more than 16384 octets.
    "C18": Deviation(Grade.FAIL, Severity.SHOULD, r"oversize-response: takes no time \(0 NTP requests\)"),
    # A81: its poll field tells how often it asks.
    "C23": Deviation(Grade.WARN, Severity.MUST, "the header varies in octet 2,.*"),
    # A76: after a NAK it waits longer than the case does before it runs another key exchange.
    "C26": Deviation(Grade.SKIP, Severity.SHOULD, "NTS NAKs: no key exchange within .*"),
}  # fmt: skip
WITH_GCM_SIV = {
    # A40: its servers from before record 1024 had 15 in the context, so without that record it has it too.
    "C24": Deviation(Grade.WARN, Severity.INFO, "AEAD 30 without record 1024: keys with 15 in the context.*"),
}


@pytest.fixture(scope="module", autouse=True)
def chronyd() -> None:
    chrony.require()
    if chrony.version() not in PINNED:
        pytest.skip(f"the table is of chronyd 4.3 and 4.6.1, and this is {'.'.join(map(str, chrony.version()))}")


def run_case(number: str, authority: Authority) -> Result[ClientProbe]:
    (result,) = runner.run(runner.select(CASES, [number], []), ClientProbe(ChronydClient(), authority))
    return result


@pytest.fixture(scope="module")
def results(authority: Authority) -> Iterator[Outcomes[str, Result[ClientProbe]]]:
    longest_first = sorted(CASES, key=lambda c: c.id not in ("C23", "C11", "C18", "C13"))
    jobs = {case.id: partial(run_case, case.id, authority) for case in longest_first}
    with Outcomes(jobs, parallel=PARALLEL, timeout=300) as outcomes:
        yield outcomes


@pytest.mark.parametrize("number", [case.id for case in CASES])
def test_verdict_is_the_known_one(results: Outcomes[str, Result[ClientProbe]], number: str) -> None:
    result = results[number]
    deviation = (DEVIATIONS | WITH_GCM_SIV if chrony.has_gcm_siv() else DEVIATIONS).get(number)
    findings = [(f.grade.value, f.text) for f in result.findings]
    if deviation is None:
        assert result.grade is Grade.PASS, findings
        return
    assert (result.grade, result.severity) == (deviation.grade, deviation.severity), findings
    assert re.fullmatch(deviation.evidence, result.evidence), findings
