# SPDX-License-Identifier: MIT
"""nts_check's NTP checks: each against sound, faulty and hostile servers, and against chronyd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.check.model import Check, Grade, Severity
from nts.check.peer import Authority, Pair, pair
from nts.check.peer.ntp import sound
from nts.check.server import CHECKS
from nts.check.server.probe import ServerProbe
from testkit import chrony
from testkit.ntp_faults import (
    AUTHENTICATOR,
    FAULTS,
    NAMES,
    NTP_CHECKS,
    PATIENCE,
    WARNINGS,
    Answer,
    explained,
    judged,
    mode_is,
    only,
    plain,
    probe_for,
    results,
)
from testkit.processes import free_port, running_suite


def test_every_check_has_its_number_and_one_comes_last() -> None:
    assert [int(c.id) for c in NTP_CHECKS.values()][:20] == list(range(33, 53))
    assert [c.name for c in CHECKS if c.last] == ["ntp-no-amplify"]


@pytest.mark.parametrize("check", NTP_CHECKS.values(), ids=NAMES)
def test_every_check_explains_itself(check: Check[ServerProbe]) -> None:
    for text in (check.sends, check.expects, check.rule):
        assert text.endswith(".")
        assert "  " not in text
        assert 20 < len(text) < 300


# --- sound servers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as both:
        yield both


@pytest.mark.parametrize("name", NAMES)
def test_each_check_passes_by_itself_with_a_sound_server(servers: Pair, name: str) -> None:
    result = judged(servers, sound, [name], PATIENCE)[name]
    assert result.grade is Grade.PASS, result.evidence
    assert result.evidence
    assert result.exhibits


@pytest.mark.parametrize("engine", ["native", "python"])
def test_our_own_servers_pass_all(tmp_path: Path, engine: str) -> None:
    with running_suite(tmp_path, ntpv4={"engine": engine}) as suite:
        assert not explained(results(probe_for(suite.ke_port)))


# --- one fault for each check, at least ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answer", "severity", "text"),
    [(n, *rest) for n, _, *rest in FAULTS],
    ids=[f"{n}-{w}" for n, w, *_ in FAULTS],
)
def test_faults_are_found(servers: Pair, name: str, answer: Answer, severity: Severity, text: str) -> None:
    result = judged(servers, answer, [name])[name]
    assert (result.grade, result.severity) == (Grade.FAIL, severity), result.evidence
    assert text in result.evidence


def test_there_is_a_fault_for_every_check() -> None:
    assert {name for name, *_ in FAULTS} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "answer", "text"), [(n, *rest) for n, _, *rest in WARNINGS], ids=[f"{n}-{w}" for n, w, *_ in WARNINGS]
)
def test_what_is_allowed_but_not_as_it_should_be_is_a_warning(
    servers: Pair, name: str, answer: Answer, text: str
) -> None:
    result = judged(servers, answer, [name])[name]
    assert result.grade is Grade.WARN, result.evidence
    assert text in result.evidence


def test_plain_time_for_a_request_without_an_authenticator_breaks_nothing(servers: Pair) -> None:
    """The same packet is in two checks, and judged alike."""
    answer = only(lambda t: len(t.datagram) % 4 == 0 and bool(t.fields) and not t.bodies(AUTHENTICATOR), plain)
    found = judged(servers, answer, ["ntp-cardinality", "ntp-malformed-sweep"])
    assert not explained(found)
    assert "no authenticator: time without protection, 48 octets; the RFC leaves it open" in {
        f.text for f in found["ntp-cardinality"].findings
    }


def test_the_sweep_flips_a_bit_in_every_octet_of_the_header_and_in_the_fields(servers: Pair) -> None:
    probe, before = probe_for(servers.ke.port), len(servers.ntp.requests)
    results(probe, ["ntp-bitflip-sweep"])
    labels = [e.label for e in probe.ntp.tally if "flipped" in e.label]
    octets = [int(label.split()[4]) for label in labels]
    assert octets[:48] == list(range(48))
    assert [o for o in octets[48:] if 52 <= o < 84] == octets[48:52]  # the identifier's body
    assert [o for o in octets[48:] if 88 <= o < 188] == octets[52:60]  # the cookie's
    assert (octets[48], octets[51], octets[52], octets[59]) == (52, 83, 88, 187)
    changed = [r for r in servers.ntp.requests[before:] if not r.is_authentic]
    assert len(changed) == len(octets) == 60


def test_no_amplify_judges_all_exchanges_of_the_run(servers: Pair) -> None:
    """A fault that its own set does not meet, but that of another check does."""
    servers.ntp.behave(answer=only(lambda t: t.is_nts and mode_is(7)(t), lambda t: [bytes(480)]))
    probe = probe_for(servers.ke.port)
    found = results(probe, ["ntp-no-amplify", "ntp-modes-versions"])
    servers.ntp.behave(answer=sound)
    assert list(found) == ["ntp-modes-versions", "ntp-no-amplify"]
    assert found["ntp-no-amplify"].evidence == "mode 7: 480 octets in reply to 228"


def test_no_amplify_judges_what_was_seen_before_the_server_went_away(servers: Pair) -> None:
    """A server that amplified, and then answers nobody, has amplified."""
    servers.ntp.behave(answer=only(lambda t: t.is_nts and mode_is(7)(t), lambda t: [bytes(480)]))
    probe = probe_for(servers.ke.port)
    results(probe, ["ntp-modes-versions"])
    servers.ntp.behave(answer=lambda t: [])
    found = results(probe, ["ntp-no-amplify"])["ntp-no-amplify"]
    servers.ntp.behave(answer=sound)
    assert (found.grade, found.severity) == (Grade.FAIL, Severity.CRIT), found.evidence
    assert found.evidence == "mode 7: 480 octets in reply to 228"


# --- chronyd ---------------------------------------------------------------------------------------------------------

CHRONY = dict.fromkeys(NAMES, "PASS") | {
    "ntp-ef-placement": "FAIL",  # it drops requests with a field that it does not know behind the authenticator
    "ntp-cardinality": "FAIL",  # it takes two identifiers, and echoes both
    "ntp-plain": "WARN",  # it takes no more than 1024 octets of extension fields
}
CHRONY_EVIDENCE = {
    "ntp-ef-placement": "an unknown field after the authenticator: no reply instead of time",
    "ntp-cardinality": "which returns 2 of 2 identifiers",
    "ntp-plain": " octets are answered, 1200 are not",
    "nak-badtag": "NTSN, 84 octets",
    "nak-badcookie": "NTSN, 84 octets",
    "ntp-placeholder-badlen": "no reply",
    "ntp-nonce-short-nopad": "NTSN",
    "ntp-uid-lengths": "an identifier alone: no reply",
    "ntp-modes-versions": "mode 1, mode 2, mode 4, mode 5, mode 6, mode 7, version 1, version 2, version 3, ",
}


@pytest.mark.interop
def test_chronyd_gets_the_verdicts_that_are_known_of_it(authority: Authority) -> None:
    chrony.require()
    with chrony.short_folder() as folder:
        ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
        with chrony.running(folder, chrony.nts_server(authority, ke_port, ntp_port)):
            found = results(probe_for(ke_port))
    assert {name: r.grade.value for name, r in found.items()} == CHRONY, explained(found)
    for name, text in CHRONY_EVIDENCE.items():
        assert text in found[name].evidence
    # The longest one with eight cookies' worth: a nonce of 12 octets, instead of 16, makes a cookie of 96, not 100.
    longest = 48 + 36 + 8 * (4 + (96 if chrony.has_gcm_siv() else 100)) + 40
    assert found["ntp-plain"].evidence.startswith(f"{longest} octets are answered")
