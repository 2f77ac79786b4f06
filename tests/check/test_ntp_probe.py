# SPDX-License-Identifier: MIT
"""nts_check's NTP probe: what it makes of silence, that it is polite, and that no reply makes it raise or hang."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator

import pytest

from nts.check.context import Target
from nts.check.model import Grade, Severity
from nts.check.ntp.forge import UNKNOWN_FIELD, Forge, Ticket, raw_field
from nts.check.ntp.probe import MAX_REPLIES, SLOWEST, TRIES
from nts.check.peer import KeBehaviour, NtpBehaviour, Pair, craft, pair
from nts.check.peer.ke import KeTalk
from nts.check.peer.ntp import NtpTalk, sound
from nts.check.server.probe import ServerProbe
from testkit.ntp_faults import (
    AUTHENTICATOR,
    COOKIE,
    NAMES,
    NTS,
    PATIENCE,
    UNIQUE_IDENTIFIER,
    Answer,
    explained,
    forged,
    fragile,
    has,
    judged,
    kiss,
    only,
    probe_for,
    refused,
    results,
)
from testkit.processes import closed_udp_port, needs_v6


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as both:
        yield both


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_server_that_never_answers_is_the_path(servers: Pair) -> None:
    others = [name for name in NAMES if name != "ntp-answers"]
    assert not explained(judged(servers, lambda _talk: [], others, patience=0.05), but=Grade.PATH)


@pytest.mark.parametrize(
    ("condition", "text"),
    [(lambda t: len(t.datagram) > 48, "answers a plain request"), (lambda t: len(t.requests) > 1, "answered before")],
    ids=["a filter", "gone"],
)
def test_silence_with_an_innocent_cause_is_the_path(condition: Callable[[NtpTalk], bool], text: str) -> None:
    with pair(ntp=NtpBehaviour(only(condition, lambda _talk: []))) as both:
        probe = probe_for(both.ke.port, patience=0.05)
        probe.ntp.knock(Forge.usual)
        result = results(probe, ["ntp-answers"])["ntp-answers"]
    assert result.grade is Grade.PATH, result.evidence
    assert text in result.evidence


def test_a_path_that_drops_long_packets_is_seen(servers: Pair) -> None:
    dropping = only(lambda t: len(t.datagram) > 48, lambda _talk: [])
    result = judged(servers, dropping, ["ntp-plain"])["ntp-plain"]
    assert result.grade is Grade.PATH
    assert "48 octets are answered, NTS requests of 228 are not" in result.evidence
    assert not explained(judged(servers, dropping, ["ntp-basic"]), but=Grade.PATH)
    dropping = only(lambda t: len(t.datagram) > 500, lambda _talk: [])
    result = judged(servers, dropping, ["ntp-plain"])["ntp-plain"]
    assert result.grade is Grade.PATH
    assert "228 octets are answered, 540 are not" in result.evidence


@pytest.mark.parametrize(
    ("name", "deadly", "behind"),
    [("ntp-bitflip-sweep", forged, 0), ("ntp-cardinality", has(UNIQUE_IDENTIFIER, 2), 6)],
    ids=["sweep", "cardinality"],
)
def test_a_server_that_answers_again_after_some_rest_is_not_blamed(
    servers: Pair, name: str, deadly: Callable[[NtpTalk], bool], behind: int
) -> None:
    """As one does that limits the rate of requests: all of a control's tries are lost, but not all later ones.

    `behind` that packet come so many others of its block.
    """
    result = judged(servers, fragile(deadly, rest=behind + TRIES + 1), [name])[name]
    assert result.grade is Grade.PATH, result.evidence


@pytest.mark.parametrize("name", ["ntp-bitflip-sweep", "ntp-cardinality"])
def test_a_server_that_was_silent_before_the_stimulus_is_not_blamed(servers: Pair, name: str) -> None:
    result = judged(servers, lambda _talk: [], [name])[name]
    assert result.grade is Grade.PATH, result.evidence


def test_what_silenced_a_server_is_shown(servers: Pair) -> None:
    result = judged(servers, fragile(has(COOKIE, 2)), ["ntp-cardinality"])["ntp-cardinality"]
    assert result.grade is Grade.FAIL
    assert "two cookies" in result.evidence
    assert "two cookies" in [e.text for e in result.exhibits]


def test_a_port_that_nobody_listens_on_is_noted() -> None:
    with closed_udp_port() as port, pair(ke=KeBehaviour(ntp_port=port)) as both:
        found = results(probe_for(both.ke.port), ["ntp-basic", "ntp-key-swap"])
    assert not explained(found, but=Grade.PATH)
    assert any(e.text == "no reply: Connection refused" for e in found["ntp-basic"].exhibits)


def test_losses_are_made_up_for(servers: Pair) -> None:
    """Every second packet vanishes."""
    counter = itertools.count()
    assert not explained(judged(servers, lambda t: sound(t) if next(counter) % 2 else [], ["ntp-placeholders"]))


@pytest.mark.parametrize("name", ["ntp-key-swap", "ntp-malformed-sweep", "ntp-nonce-short-nopad"])
def test_a_server_that_serves_nobody_cannot_be_judged_by_its_refusals(servers: Pair, name: str) -> None:
    result = judged(servers, only(NTS, kiss()), [name])[name]
    assert result.grade is Grade.SKIP
    assert "a usual request gets NTSN" in result.evidence


def test_an_old_cookie_is_replaced(servers: Pair) -> None:
    """The server forgets its keys between two checks: the control request gets new cookies."""
    probe = probe_for(servers.ke.port)
    assert results(probe, ["ntp-basic"])["ntp-basic"].grade is Grade.PASS
    stale = Ticket(probe.ntp.forge.ticket.keys, bytes(100))
    probe.ntp._forge = probe.ntp.with_ticket(stale)
    probe.ntp.control()
    assert probe.ntp.forge.ticket != stale
    assert results(probe, ["ntp-basic"])["ntp-basic"].grade is Grade.PASS


def test_rate_is_obeyed(servers: Pair) -> None:
    servers.ntp.behave(answer=only(NTS, kiss(code=b"RATE")))
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=0.01)
    result = results(probe, ["ntp-basic"])["ntp-basic"]
    servers.ntp.behave(answer=sound)
    assert result.grade is Grade.SKIP
    assert "RATE" in result.evidence
    assert 0.1 < probe.ntp.pace.interval <= SLOWEST


def test_packets_are_paced(servers: Pair) -> None:
    interval = 0.05
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=interval, seed=1)
    before = len(servers.ntp.requests)
    started = time.monotonic()
    results(probe, ["ntp-placeholder-badlen", "nak-badtag"])
    sent = len(servers.ntp.requests) - before
    assert sent == len(probe.ntp.tally)
    assert time.monotonic() - started >= (sent - 1) * interval


def test_the_default_pace_stays_within_eight_minutes(servers: Pair) -> None:
    """With a server that is sound; counted, not waited for. The sweep is coarser as soon as there is a pace."""
    probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=1e-6, seed=1)
    assert not explained(results(probe))
    assert len(probe.ntp.tally) * 1.0 < 8 * 60


def test_a_seed_repeats_a_run(servers: Pair) -> None:
    def flips(seed: int) -> list[str]:
        probe = ServerProbe(Target("127.0.0.1", servers.ke.port, patience=PATIENCE), pace=0, seed=seed)
        results(probe, ["ntp-bitflip-sweep"])
        return [e.label for e in probe.ntp.tally]

    assert flips(1) == flips(1) != flips(2)


@needs_v6
def test_it_works_over_ipv6() -> None:
    with pair(KeBehaviour(host="::1"), NtpBehaviour(host="::1")) as both:
        probe = ServerProbe(Target("::1", both.ke.port, patience=PATIENCE), pace=0)
        assert not explained(results(probe))
        assert both.ntp.requests[0].client[0] == "::1"


# --- more replies than one -------------------------------------------------------------------------------------------

LATE = 0.03  # seconds from one reply to the next: less than the probe lingers


@pytest.mark.parametrize("name", ["nak-badtag", "nak-badcookie"])
def test_time_behind_a_refusal_is_seen(servers: Pair, name: str) -> None:
    result = judged(servers, only(refused, lambda t: [t.kiss(), LATE, t.header() + t.uid()]), [name])[name]
    assert (result.grade, result.severity) == (Grade.FAIL, Severity.CRIT), result.evidence
    assert "time without protection" in result.evidence


def test_a_second_reply_to_the_basic_request_counts(servers: Pair) -> None:
    servers.ntp.behave(answer=lambda t: [*sound(t), LATE, *sound(t)])
    probe = probe_for(servers.ke.port)
    started = time.monotonic()
    results(probe, ["ntp-basic"])
    assert time.monotonic() - started < 5
    servers.ntp.behave(answer=sound)
    (exchange,) = probe.ntp.tally
    assert exchange.received == 2 * exchange.sent


# --- hostile servers -------------------------------------------------------------------------------------------------

MOST = 65507  # octets of a UDP datagram over IPv4
HOSTILE: dict[str, Answer] = {
    "empty": lambda _t: [b""],
    "garbage": lambda t: [random.Random(len(t.requests)).randbytes(n) for n in (1, 47, 48, 49, 80, 300)],
    "truncated": lambda t: [r[:n] for r in sound(t) if isinstance(r, bytes) for n in (4, 47, 49, 60, 84, 100, 200)],
    "echo": lambda t: [t.datagram],
    "64-KB": lambda t: [t.datagram[:48].ljust(MOST, b"\1")],
    "64-KB-of-fields": lambda t: [(t.header() + t.uid() + raw_field(UNKNOWN_FIELD, bytes(12)) * 4090)[: MOST & ~3]],
    "64-KB-of-cookies": lambda t: [t.time(cookies=[bytes(100)] * 600)],
    "one-huge-cookie": lambda t: [t.time(cookies=[bytes(65000)])],
    "zero-fields": lambda t: [t.header() + bytes(400)],
    "many": lambda t: [*[t.header(origin=7)] * 500, *sound(t)],
    "bad-plaintext": lambda t: [t.time(cookies=[], inside=b"\1\2\0\3")],
    "authenticator-alone": lambda t: [t.header() + raw_field(AUTHENTICATOR, bytes(24))],
    "claims-too-much": lambda t: [t.header() + t.uid() + raw_field(AUTHENTICATOR, b"\xff" * 36)],
}  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_replies_end_in_a_verdict(servers: Pair, answer: Answer) -> None:
    servers.ntp.behave(answer=answer)
    probe = probe_for(servers.ke.port, patience=0.05)
    started = time.monotonic()
    found = results(probe)
    servers.ntp.behave(answer=sound)
    assert set(found) == set(NAMES)
    assert found["ntp-basic"].grade in (Grade.FAIL, Grade.PATH, Grade.PASS)
    assert time.monotonic() - started < 60
    assert max(e.received for e in probe.ntp.tally) <= MAX_REPLIES * MOST


@pytest.mark.parametrize("length", [0, 65000])
def test_cookies_that_fit_in_no_packet_are_not_sent(length: int) -> None:
    def odd_cookies(talk: KeTalk) -> None:
        talk.request()
        talk.send(craft.response(cookies=[bytes(length)]))

    with pair(ke=KeBehaviour(answer=odd_cookies)) as both:
        result = results(probe_for(both.ke.port), ["ntp-basic"])["ntp-basic"]
    assert result.grade is Grade.SKIP
    assert f"a cookie of {length} octets" in result.evidence
