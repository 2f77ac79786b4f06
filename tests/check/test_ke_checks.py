# SPDX-License-Identifier: MIT
"""nts_check's key exchange checks (1 to 32): each against sound and faulty servers, and against chronyd."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from nts.base.registry import ALPN, RecordType
from nts.check.ke.forge import record
from nts.check.model import Grade, Severity
from nts.check.peer import Authority, KeBehaviour, KeTalk, NtpBehaviour, NtpTalk, pair
from nts.check.peer.craft import response
from nts.check.server.probe import ServerProbe
from nts.codec import cookies, records
from nts.codec.aead import Aead
from testkit import chrony
from testkit.ke_faults import CLOSES, CRIT, EAGER, FAIL, FAULTS, KE_CHECKS, NAMES, PASS, SKIP, WARN, check, probe, split
from testkit.processes import Suite, free_port


def test_the_checks_are_those_of_the_list() -> None:
    assert [int(c.id) for c in KE_CHECKS][:32] == list(range(1, 33))
    assert len(set(NAMES)) == len(NAMES)
    for c in KE_CHECKS:
        assert c.sends.endswith("."), c.name
        assert c.expects.endswith("."), c.name
        assert c.rule.endswith("."), c.name


# --- sound servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_our_own_server_passes(suite: Suite, name: str) -> None:
    result = check(probe(suite.ke_port, suite.ca, timeout=10, silence=20), name)
    assert result.grade is PASS, result.evidence
    assert result.exhibits


@pytest.fixture(scope="module")
def sound(authority: Authority) -> Iterator[ServerProbe]:
    with pair(KeBehaviour(timeout=4), authority=authority) as servers:
        yield probe(servers.ke.port, authority.ca, timeout=10, silence=20)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_peer_passes(sound: ServerProbe, name: str) -> None:
    result = check(sound, name)
    assert result.grade is PASS, result.evidence


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "behaviour", "verdict", "severity", "text"),
    [(name, *rest) for name, _, *rest in FAULTS],
    ids=[f"{name}-{label}" for name, label, *_ in FAULTS],
)
def test_a_fault_is_found(
    authority: Authority, name: str, behaviour: KeBehaviour, verdict: Grade, severity: Severity, text: str
) -> None:
    with pair(behaviour, authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), name)
    assert (result.grade, result.severity) == (verdict, severity), result.evidence
    assert text in result.evidence
    assert result.exhibits


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({"days": (-3.0, -1.0)}, "it has expired"),
        ({"days": (1.0, 3.0)}, "it is not valid yet"),
        ({"names": ("elsewhere.example",)}, "not for 127.0.0.1"),
        ({"names": (), "common_name": "127.0.0.1"}, "not for 127.0.0.1"),
        ({"names": ("127.0.0.1",), "self_signed": True}, "self-signed"),
        ({"names": ("127.0.0.1",), "for_servers": False}, "not for servers"),
    ],
    ids=["expired", "future", "another name", "common name", "self-signed", "client's"],
)
def test_a_bad_certificate_is_found(authority: Authority, what: dict[str, object], text: str) -> None:
    certificate = authority.issue(**what)  # type: ignore[arg-type]
    with pair(KeBehaviour(certificate=certificate), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), "cert-chain")
        others = check(probe(servers.ke.port, authority.ca), "ke-basic")
    assert (result.grade, result.severity) == (FAIL, CRIT)
    assert text in result.evidence
    assert others.grade is PASS  # no other check minds the certificate


def test_every_check_has_a_fault() -> None:
    assert {name for name, *_ in FAULTS} | {"cert-chain", "ke-1024-record"} == set(NAMES)


@pytest.mark.parametrize("name", ["alpn-absent", "alpn-wrong"])
def test_a_server_that_refuses_all_cannot_be_judged_by_its_refusals(authority: Authority, name: str) -> None:
    with pair(CLOSES, authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), name)
    assert result.grade is SKIP
    assert "a usual request gets no cookies either" in result.evidence


def test_closing_after_a_while_is_waited_for(authority: Authority) -> None:
    """A server is not rushed: it has as long for its close_notify as for its response."""

    def slow(talk: KeTalk) -> None:
        talk.send(talk.respond(talk.request()))
        talk.wait(1.3)  # longer than the grace that other checks have for it

    with pair(KeBehaviour(slow), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), "ke-close-notify")
    assert result.grade is PASS, result.evidence


def test_a_server_that_selects_what_was_not_offered_is_no_good_one(authority: Authority) -> None:
    with pair(replace(EAGER, alpn=lambda offered: ALPN), authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca), "alpn-wrong")
    assert (result.grade, "broke TLS" in result.evidence) == (WARN, True), result.evidence


# --- AEAD 30 ---------------------------------------------------------------------------------------------------------


class GcmServer:
    """A pair of servers that speaks AEAD 30, with the exporter contexts and the echo it is told to use."""

    def __init__(self, context: Callable[[bool], int], *, echo: bool = True, deaf: bool = False) -> None:
        self._context, self._echo, self._deaf = context, echo, deaf
        self.ke, self.ntp = KeBehaviour(self._agree), NtpBehaviour(self._time)

    def _agree(self, talk: KeTalk) -> None:
        asked = RecordType.COMPLIANT_CONTEXT in dict(split(talk.request()))
        keys, master = talk.export(Aead.AES_128_GCM_SIV, self._context(asked)), talk.ring.current
        assert master is not None
        made = [cookies.seal(master, (keys,), os.urandom(16)) for _ in range(8)]
        more = record(RecordType.PORT, records.encode_u16s(talk.behaviour.ntp_port))
        if asked and self._echo:
            more += record(RecordType.COMPLIANT_CONTEXT, critical=False)
        talk.send(response(aeads=records.encode_u16s(Aead.AES_128_GCM_SIV), cookies=made, more=more))

    def _time(self, talk: NtpTalk) -> Iterable[bytes | float]:
        reply = talk.sound()
        return [] if self._deaf or reply is None else [reply]


@pytest.mark.parametrize(
    ("server", "verdict", "text"),
    [
        (GcmServer(lambda asked: 30), PASS, "with record 1024: context 30 (and record 1024 in the response)"),
        (GcmServer(lambda asked: 30, echo=False), PASS, "with record 1024: context 30"),
        (GcmServer(lambda asked: 30 if asked else 15), WARN, "without record 1024: context 15"),
        (GcmServer(lambda asked: 15, echo=False), WARN, "with record 1024: context 15"),
        (GcmServer(lambda asked: 15), FAIL, "with record 1024: context 15"),
        (GcmServer(lambda asked: 17), FAIL, "neither"),
        (GcmServer(lambda asked: 30, deaf=True), Grade.PATH, "no reply"),
    ],
    ids=["right", "right, silent about it", "chrony 4.6", "chrony 4.4", "liar", "neither", "no reply"],
)
def test_the_exporter_context_of_aead_30(authority: Authority, server: GcmServer, verdict: Grade, text: str) -> None:
    with pair(server.ke, server.ntp, authority=authority) as servers:
        result = check(probe(servers.ke.port, authority.ca, patience=0.2), "ke-1024-record")
    assert result.grade is verdict, result.evidence
    assert text in result.evidence


# --- chronyd ---------------------------------------------------------------------------------------------------------

# What Debian's chronyd, 4.3 and 4.6.1, does otherwise than the RFC has it; all else passes.
CHRONYD: dict[str, tuple[Grade, str]] = {
    "ke-eom-malformed": (WARN, "closes without an Error record"),
    "ke-truncated": (WARN, "closes without an Error record"),
    "ke-silence": (WARN, "closes after 2 s without an Error record"),
    "ke-aead-15-last": (FAIL, "reads no more than 128 algorithms"),
}
CHRONYD_WITH_GCM_SIV = CHRONYD | {
    "ke-1024-record": (WARN, "has 15 in the context for AEAD 30, as its first clients did, unless asked not to"),
}


@pytest.fixture(scope="module")
def chronyd(authority: Authority) -> Iterator[ServerProbe]:
    chrony.require()
    with chrony.short_folder() as folder:
        port = free_port()
        with chrony.running(folder, chrony.nts_server(authority, port, free_port(socket.SOCK_DGRAM))):
            yield probe(port, authority.ca, timeout=10, silence=20)


@pytest.mark.interop
@pytest.mark.parametrize("name", NAMES)
def test_chronyd(chronyd: ServerProbe, name: str) -> None:
    verdict, _why = (CHRONYD_WITH_GCM_SIV if chrony.has_gcm_siv() else CHRONYD).get(name, (PASS, ""))
    result = check(chronyd, name)
    assert result.grade is verdict, result.evidence
