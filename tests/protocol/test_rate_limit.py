# SPDX-License-Identifier: MIT
"""The limit of requests per prefix, and what the time server says to those above it."""

from __future__ import annotations

import pytest

from nts.base.registry import Leap
from nts.codec import extensions
from nts.codec.ntp import Header
from nts.protocol import rate_limit, ts_server
from nts.protocol.rate_limit import NS, Limit, RateLimiter
from nts.protocol.ts_server import Limiter, Outcome, Verdict
from testkit.packets import (
    DEPARTED,
    RECEIVED,
    REQUEST,
    RING,
    SYSTEM,
    UNIQUE_IDENTIFIER,
    Counter,
    fields_of,
    flipped,
    open_reply,
    raw_field,
)

HERE, NEAR, FAR = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), bytes([198, 51, 100, 1])
START = 1000 * NS
PLAIN = Header(mode=3, transmit=1, poll=4)


def verdicts(limiter: RateLimiter, times: list[float], verdict: Verdict = Verdict.ANSWERED_PLAIN) -> str:
    """What becomes of requests at these seconds: "." passes, K is a kiss, D is dropped."""
    letters = {verdict: ".", Verdict.KISS_RATE: "K", Verdict.DROP_RATE: "D"}
    return "".join(letters[limiter.judge(verdict, HERE, START + round(t * NS))] for t in times)


def test_a_burst_passes_and_then_so_many_in_a_second() -> None:
    limiter = RateLimiter(Limit(rate=2, burst=3), Counter())
    assert verdicts(limiter, [0] * 5) == "...KD"
    assert verdicts(limiter, [0.49, 0.5, 0.51, 1, 1.4, 1.5]) == "D.D.D."
    assert verdicts(limiter, [100] * 4) == "...K"  # the bucket never has more than a burst


def test_a_kiss_comes_every_8_seconds_at_most() -> None:
    limiter = RateLimiter(Limit(rate=1, burst=1), Counter())
    assert verdicts(limiter, [0, 0, 0.1, 7.5, 7.6, 7.9, 7.99, 8, 8.1]) == ".KD.DDDKD"


def test_each_prefix_has_a_bucket_of_its_own() -> None:
    alone, together = (RateLimiter(Limit(rate=1, burst=1, prefix4=bits), Counter()) for bits in (32, 24))
    for limiter, neighbour in ((alone, Verdict.ANSWERED_PLAIN), (together, Verdict.KISS_RATE)):
        found = [limiter.judge(Verdict.ANSWERED_PLAIN, address, START) for address in (HERE, NEAR, FAR)]
        assert found == [Verdict.ANSWERED_PLAIN, neighbour, Verdict.ANSWERED_PLAIN]
    limiter = RateLimiter(Limit(rate=1, burst=1), Counter())
    hosts = [bytes.fromhex("20010db8") + bytes([0, 0, 0, net, *bytes(7), host]) for net in (1, 2) for host in (1, 2)]
    found = [limiter.judge(Verdict.ANSWERED_PLAIN, host, START) for host in hosts]
    assert found == [Verdict.ANSWERED_PLAIN, Verdict.KISS_RATE] * 2


def test_naks_take_tokens_and_bring_no_kiss() -> None:
    limiter = RateLimiter(Limit(rate=1, burst=2), Counter())
    assert verdicts(limiter, [0, 0, 0, 0], Verdict.NAK_COOKIE) == "..DD"
    assert verdicts(limiter, [0, 1], Verdict.ANSWERED_PLAIN) == "K."
    assert verdicts(limiter, [1], Verdict.NAK_AUTH) == "D"


def test_authenticated_requests_count_only_when_told_so() -> None:
    exempt, counted = (RateLimiter(Limit(rate=1, burst=1, nts=nts), Counter()) for nts in (False, True))
    assert verdicts(exempt, [0] * 3, Verdict.ANSWERED_NTS) == "..."
    assert verdicts(exempt, [0] * 2) == ".K"  # they have taken no token either
    assert verdicts(counted, [0] * 3, Verdict.ANSWERED_NTS) == ".KD"


def test_what_gets_no_reply_takes_no_token() -> None:
    limiter = RateLimiter(Limit(rate=1, burst=1), Counter())
    for verdict in (Verdict.DROP_LENGTH, Verdict.DROP_BUSY, Verdict.DROP_MAC):
        assert limiter.judge(verdict, HERE, START) is verdict
    assert verdicts(limiter, [0]) == "."


def test_the_fullest_bucket_of_a_set_makes_room() -> None:
    """With multipliers of 0, all prefixes share a set."""
    limiter = RateLimiter(Limit(rate=1, burst=2), bytes)
    for last, times in ((1, 2), (2, 1), (3, 2), (4, 2), (5, 2)):  # 2 has a token left, so it goes
        for _ in range(times):
            assert limiter.judge(Verdict.ANSWERED_PLAIN, bytes([10, 0, 0, last]), START) is Verdict.ANSWERED_PLAIN
    for last in (1, 3, 4, 5):
        assert limiter.judge(Verdict.ANSWERED_PLAIN, bytes([10, 0, 0, last]), START) is Verdict.KISS_RATE
    assert limiter.judge(Verdict.ANSWERED_PLAIN, bytes([10, 0, 0, 2]), START) is Verdict.ANSWERED_PLAIN


def test_prefixes_spread_over_the_sets() -> None:
    """A thousand neighbours in 8192 sets of four: none loses its bucket to another."""
    limiter = RateLimiter(Limit(rate=1, burst=1), Counter("spread"))
    addresses = [(10 << 24 | i).to_bytes(4, "big") for i in range(1000)]
    first, second = ([limiter.judge(Verdict.ANSWERED_PLAIN, a, START) for a in addresses] for _ in range(2))
    assert set(first) == {Verdict.ANSWERED_PLAIN}
    assert second.count(Verdict.KISS_RATE) > 995
    assert rate_limit.WAYS << rate_limit.SETS_LOG2 == 32768


# --- replies ---------------------------------------------------------------------------------------------------------


def always(verdict: Verdict) -> Limiter:
    return lambda _: verdict


def ask(packet: bytes, limit: Limiter) -> Outcome:
    return ts_server.respond(
        packet, keys=RING, system=SYSTEM, received=RECEIVED, now=lambda: DEPARTED, random=Counter(), limit=limit
    )


def check_kiss(header: Header, poll: int) -> None:
    """RFC 5905 section 7.4."""
    assert (header.mode, header.stratum, header.leap) == (4, 0, Leap.UNSYNCHRONISED)
    assert (header.reference_id, header.poll) == (b"RATE", poll)


@pytest.mark.parametrize(("poll", "expected"), [(-6, 6), (4, 6), (6, 6), (7, 7), (17, 17), (-128, 6), (127, 127)])
def test_a_plain_kiss_asks_for_a_slower_pace_and_echoes_what_a_reply_does(poll: int, expected: int) -> None:
    uid = raw_field(UNIQUE_IDENTIFIER, bytes(range(32)))
    for more in (b"", uid):
        packet = Header(mode=3, transmit=77, poll=poll).encode() + more
        outcome = ask(packet, always(Verdict.KISS_RATE))
        assert outcome.verdict is Verdict.KISS_RATE
        assert outcome.key_age is None
        assert outcome.reply is not None
        header = Header.decode(outcome.reply)
        check_kiss(header, expected)
        assert header.origin == 77
        assert outcome.reply[48:] == more


def test_an_nts_kiss_is_authentic_and_brings_cookies() -> None:
    """RFC 8915 section 5.7: a client may believe it, and does not run out of cookies."""
    outcome = ask(REQUEST.with_placeholders(2).encode(), always(Verdict.KISS_RATE))
    assert (outcome.verdict, outcome.key_age) == (Verdict.KISS_RATE, 0)
    assert outcome.reply is not None
    reply = open_reply(outcome.reply, REQUEST.keys)
    check_kiss(reply.header, 6)
    assert len(reply.cookies) == 3


@pytest.mark.parametrize(
    "packet", [PLAIN.encode(), REQUEST.encode(), flipped(REQUEST.encode(), 8 * 120)], ids=["plain", "nts", "nak"]
)
def test_what_is_dropped_gets_nothing(packet: bytes) -> None:
    assert ask(packet, always(Verdict.DROP_RATE)) == Outcome(Verdict.DROP_RATE)


def test_the_limit_is_asked_once_for_what_gets_a_reply_and_knows_what_it_is() -> None:
    asked: list[Verdict] = []

    def limit(verdict: Verdict) -> Verdict:
        asked.append(verdict)
        return verdict

    nak = REQUEST.encode()[:-1] + bytes([REQUEST.encode()[-1] ^ 1])
    for packet in (PLAIN.encode(), REQUEST.encode(), nak, b"odd", extensions.encode(1, bytes(60))):
        ask(packet, limit)
    assert asked == [Verdict.ANSWERED_PLAIN, Verdict.ANSWERED_NTS, Verdict.NAK_AUTH]
    assert fields_of(nak)
