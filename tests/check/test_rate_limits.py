# SPDX-License-Identifier: MIT
"""nts_check against servers that limit the rate, chronyd with its defaults above all: no verdict is false."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterable, Iterator

import pytest

from nts.base.errors import TLSError
from nts.check import runner
from nts.check.context import Pace, Target
from nts.check.model import Grade
from nts.check.peer import Authority, KeBehaviour, KePeer, Pair, pair
from nts.check.peer.ntp import NtpTalk, sound
from nts.check.server import CHECKS
from nts.check.server.probe import ServerProbe
from testkit import chrony
from testkit.ntp_faults import Answer, explained, results
from testkit.processes import free_port, run

UNJUDGED = {Grade.SKIP, Grade.PATH}
KNOWN = {"ntp-ef-placement", "ntp-cardinality", "ke-aead-15-last"}  # what chronyd does otherwise than the RFC has it


@pytest.mark.interop
def test_chronyd_with_its_default_limits_gets_no_false_verdict(authority: Authority) -> None:
    """A packet in 8 s and a key exchange in 64, in bursts of 8; a quarter of the rest is answered, at random."""
    chrony.require()
    with chrony.short_folder() as folder:
        ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
        lines = [*chrony.nts_server(authority, ke_port, ntp_port), "ratelimit", "ntsratelimit"]
        with chrony.running(folder, lines):
            target = Target("127.0.0.1", ke_port, authority.ca, timeout=5, patience=0.05, silence=3)
            probe = ServerProbe(target, pace=0.01, seed=1)
            probe.ke.reach()
            found = list(runner.run(CHECKS, probe))
    false = {r.check.name: r.evidence for r in found if r.grade is Grade.FAIL and r.check.name not in KNOWN}
    assert not false
    unjudged = [r for r in found if r.grade in UNJUDGED]
    assert any("limits their rate" in r.evidence for r in unjudged)
    assert all(r.open for r in unjudged if r.check.severity.value in ("CRIT", "MUST"))


MILD = [
    ("ratelimit interval -3 burst 8 leak 1", "ntsratelimit interval -2 burst 4 leak 1", 0.02),  # which we exceed
    ("ratelimit interval -4 burst 16", "ntsratelimit interval -4 burst 16", 0.07),  # which we keep to
]
"""limits of packets and connections, as powers of two in seconds, and the pace of the probe"""
SOME = ("tls13-only", "cert-chain", "ke-no-npn", "ke-npn-malformed", "ke-truncated", "ke-aead-15-last", "ntp-basic",
        "ntp-placeholders", "nak-badtag", "ntp-key-swap", "ntp-nonce-short-nopad", "ntp-ef-placement",
        "ntp-cardinality", "ntp-plain")  # fmt: skip
NOT_PASSED = {
    "ke-truncated": Grade.WARN, "ke-aead-15-last": Grade.FAIL, "ntp-ef-placement": Grade.FAIL,
    "ntp-cardinality": Grade.FAIL, "ntp-plain": Grade.WARN,
}  # fmt: skip
"""of those, what a chronyd without limits does not pass"""


@pytest.mark.interop
@pytest.mark.parametrize(("packets", "connections", "pace"), MILD, ids=["exceeded", "kept"])
def test_chronyd_with_mild_limits_gets_no_false_pass_either(
    authority: Authority, packets: str, connections: str, pace: float
) -> None:
    chrony.require()
    ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
    lines = [*chrony.nts_server(authority, ke_port, ntp_port), packets, connections]
    with chrony.short_folder() as folder, chrony.running(folder, lines):
        probe = ServerProbe(Target("127.0.0.1", ke_port, authority.ca, timeout=5, patience=0.1, silence=3), pace=pace)
        probe.ke.reach()
        found = {r.check.name: r for r in runner.run(runner.select(CHECKS, SOME, []), probe)}
    wrong = [
        f"{name}: {r.grade.value}: {r.evidence}" for name, r in found.items()
        if r.grade not in {NOT_PASSED.get(name, Grade.PASS), *UNJUDGED}
    ]  # fmt: skip
    assert not wrong
    judged = sum(r.grade not in UNJUDGED for r in found.values())
    assert judged >= len(SOME) // 3, "some of it can be judged all the same"


def limited(share: float) -> Answer:
    """Answers only this share of all packets, by chance."""
    chance = random.Random(1)

    def answer(talk: NtpTalk) -> Iterable[bytes | float]:
        return sound(talk) if chance.random() < share else []

    return answer


@pytest.mark.parametrize("share", [0.25, 0.4, 0.6])
def test_chance_makes_no_verdict(share: float) -> None:
    with pair() as servers:
        servers.ntp.behave(answer=limited(share))
        probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=0.02), pace=0, seed=1)
        found = results(probe)
    assert not [r.evidence for r in found.values() if r.grade is Grade.FAIL], explained(found)


class Bucket:
    """A server that drops connections before TLS, after the first few and until it has rested."""

    def __init__(self, server: KePeer, burst: int, rest: float) -> None:
        self.left, self.rest, self.talk, self.last = burst, rest, server._talk, 0.0
        server._talk = self.limited  # type: ignore[method-assign]

    def limited(self, sock: socket.socket, session: object) -> None:
        now = time.monotonic()
        self.left = self.left - 1 if now - self.last < self.rest else max(self.left - 1, 0)
        rested, self.last = now - self.last >= self.rest, now
        if self.left >= 0 or rested:
            self.talk(sock, session)  # type: ignore[arg-type]


@pytest.fixture
def servers(authority: Authority) -> Iterator[Pair]:
    with pair(KeBehaviour(), authority=authority) as both:
        yield both


@pytest.mark.parametrize("name", ["tls13-only", "alpn-select", "cert-chain", "ke-basic", "ke-no-npn"])
def test_a_limit_of_connections_is_named(servers: Pair, authority: Authority, name: str) -> None:
    Bucket(servers.ke, 1, 60)
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, authority.ca), pace=0, seed=1)
    probe.ke.reach()
    (result,) = runner.run(runner.select(CHECKS, [name], []), probe)
    assert result.grade is Grade.SKIP, result.evidence
    assert "ntsratelimit" in result.evidence
    with pytest.raises(TLSError) as caught:
        ServerProbe(Target("127.0.0.1", servers.ke.port, authority.ca), pace=0).ke.reach()
    assert "limits the rate" in str(caught.value.hint)


def test_with_pace_auto_it_goes_slower_until_it_is_served(servers: Pair, authority: Authority) -> None:
    Bucket(servers.ke, 1, 0.1)
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, authority.ca), pace=0.02, auto=True, seed=1)
    probe.ke.reach()
    (result,) = runner.run(runner.select(CHECKS, ["ke-basic"], []), probe)
    assert result.grade is Grade.PASS, result.evidence


def test_json_tells_the_pace_at_the_end(servers: Pair, authority: Authority) -> None:
    Bucket(servers.ke, 1, 0.3)
    options = ("--pace", "auto", "--ke-pace", "0.2", "--only", "ke-basic", "--json")
    done = run("nts_check.py", "server", "-c", authority.ca, *options, "127.0.0.1", servers.ke.port)
    values = json.loads(done.stdout)
    assert (done.returncode, values["results"][0]["verdict"]) == (0, "PASS"), done.stderr
    assert (values["pace"], values["ke_pace"], values["final_pace"]) == (1.0, 0.2, 1.0)
    assert values["final_ke_pace"] > 0.3


def test_a_pace_has_an_end() -> None:
    pace = Pace(3.0, auto=True, slowest=8.0)
    assert [pace.slow_down() for _ in range(3)] == [True, True, False]
    assert pace.interval == 8.0
    assert not Pace(1.0).slow_down()
