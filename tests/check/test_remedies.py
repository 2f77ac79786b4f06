# SPDX-License-Identifier: MIT
"""What nts_check says to do about findings: a remedy for each check, in short sentences, shown where it is wanted."""

from __future__ import annotations

import socket

import pytest

from nts.check import runner
from nts.check.context import Target
from nts.check.model import Grade
from nts.check.peer import Authority
from nts.check.remedies import ANY, IMPLEMENTATIONS, PATH, REMEDIES, remedy, told
from nts.check.server import CHECKS
from nts.check.server.probe import ServerProbe
from testkit import chrony
from testkit.processes import free_port
from testkit.sample_checks import SCHEMA

LONGEST = 230  # characters


def test_every_check_has_a_remedy_and_there_are_no_others() -> None:
    assert list(REMEDIES) == [c.name for c in CHECKS if int(c.id) <= 52] + [c.name for c in CHECKS if int(c.id) > 52]
    assert set(SCHEMA["$defs"]["result"]["properties"]["remedy"]["properties"]) == {ANY, *IMPLEMENTATIONS}


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_is_short_and_says_what_to_do(name: str) -> None:
    texts = REMEDIES[name]
    assert set(texts) <= {ANY, *IMPLEMENTATIONS}
    for text in texts.values():
        assert text[0].isupper()
        assert text.endswith(".")
        assert len(text) <= LONGEST
        assert text.count("`") % 2 == 0
    assert ANY in texts


def test_it_is_for_what_was_found() -> None:
    assert remedy("ke-basic", Grade.PASS) is None
    assert remedy("ke-basic", Grade.SKIP) is None
    assert remedy("C14", Grade.FAIL) is None, "a client's case has none"
    assert remedy("ke-basic", Grade.PATH) == {ANY: PATH}
    assert remedy("ke-segmented", Grade.FAIL) == remedy("ke-segmented", Grade.WARN) == REMEDIES["ke-segmented"]


def test_a_person_sees_that_of_the_software_or_of_all() -> None:
    found = REMEDIES["cert-chain"]
    assert [label for label, _ in told(found, None)] == ["remedy", *IMPLEMENTATIONS]
    assert told(found, "chrony") == [("remedy", found[ANY]), ("chrony", found["chrony"])]
    assert told(found, "this suite") == [("remedy", found[ANY])]
    assert told(None, "chrony") == []


FINDINGS = ("ke-eom-malformed", "ke-truncated", "ke-silence", "ke-aead-15-last", "ntp-ef-placement", "ntp-cardinality")
"""of chronyd, up to 4.8"""


@pytest.mark.interop
def test_what_a_real_chronyd_fails_in_has_a_remedy_for_it(authority: Authority) -> None:
    chrony.require()
    ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
    with chrony.short_folder() as folder, chrony.running(folder, chrony.nts_server(authority, ke_port, ntp_port)):
        probe = ServerProbe(Target("127.0.0.1", ke_port, authority.ca, patience=0.3, silence=5), pace=0, seed=1)
        found = list(runner.run(runner.select(CHECKS, FINDINGS, []), probe))
    for result in found:
        assert result.grade in (Grade.FAIL, Grade.WARN), result.check.name
        assert "chrony" in (remedy(result.check.name, result.grade) or {}), result.check.name
