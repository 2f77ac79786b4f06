# SPDX-License-Identifier: MIT
"""The limit of requests in both engines: the same decisions, the same replies, and what clients of a worker see."""

from __future__ import annotations

from collections import Counter as Tally
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from nts.codec import cookies, extensions
from nts.codec.aead import Aead
from nts.codec.ntp import Header
from nts.protocol import ts_client, ts_server
from nts.protocol.rate_limit import NS, Limit, RateLimiter
from nts.protocol.ts_client import AnswerKind
from nts.protocol.ts_server import Verdict
from nts.server import keystore
from testkit.engine import EngineForTests
from testkit.packets import COVERED_AEADS, DEPARTED, RECEIVED, RING, SYSTEM, Counter, Request, session_keys
from testkit.processes import HAS_ENGINE, NO_ENGINE
from testkit.time_workers import time_worker

NATIVE = pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)
ENGINES = [pytest.param("native", marks=NATIVE), "python"]
PLAIN = Header(mode=3, transmit=1).encode()
UID = extensions.encode(0x0104, bytes(range(32)))
PEER = bytes([192, 0, 2, 1])  # of all packets in EngineForTests.answer

LIMITS = {
    "usual": Limit(rate=2),
    "one": Limit(rate=1, burst=1),
    "nts": Limit(rate=7, burst=3, nts=True),
    "short": Limit(rate=50, burst=5, prefix4=8, prefix6=16),
    "whole": Limit(rate=1_000_000, burst=10_000, prefix4=32, prefix6=128),
}


def both(limit: Limit, multipliers: bytes) -> tuple[EngineForTests, RateLimiter]:
    engine = EngineForTests()
    engine.draw_from(multipliers)
    engine.set_limit(limit)
    engine.draw_from(b"")
    return engine, RateLimiter(limit, lambda n: multipliers[:n])


def addresses(draw: Random, count: int) -> list[bytes]:
    """Neighbours and strangers of both families, and the addresses with which a table may confuse them."""
    near = [bytes([192, 0, 2, draw.randrange(256)]) for _ in range(count)]
    far = [draw.randbytes(4) for _ in range(count)]
    v6 = [bytes.fromhex("20010db8") + bytes([0, 0, draw.randrange(3), draw.randrange(256)]) + draw.randbytes(8)
          for _ in range(count)]  # fmt: skip
    return [*near, *far, *v6, bytes(16), bytes(15) + b"\1", bytes(10) + b"\xff\xff" + near[0]]


@NATIVE
@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("shared", [False, True], ids=["spread", "one-set"])
def test_both_engines_decide_alike(limit: Limit, shared: bool) -> None:
    """In the end, buckets of a set make room for others: with multipliers of 0, all prefixes share one."""
    engine, limiter = both(limit, bytes(40) if shared else Counter("multipliers")(40))
    draw = Random(f"{limit}")
    pool, now, seen = addresses(draw, 3 if shared else 60), 5 * NS, Tally[Verdict]()
    for _ in range(30_000):
        now += 9 * NS if draw.random() < 0.0005 else draw.randrange(NS // limit.rate // len(pool) // 4 + 1)
        verdict = draw.choice([Verdict.ANSWERED_PLAIN] * 3 + list(Verdict))
        address = draw.choice(pool)
        decided = limiter.judge(verdict, address, now)
        assert engine.limited(verdict, address, now) is decided
        seen[decided] += decided is not verdict or decided is Verdict.ANSWERED_PLAIN
    assert seen[Verdict.ANSWERED_PLAIN] > 100
    assert (seen[Verdict.KISS_RATE] > 0) == (limit.rate < 1_000_000)


def requests(draw: Random) -> list[bytes]:
    """Requests that the engine answers, one way or another."""
    packets = [Header(mode=3, version=draw.choice((3, 4)), transmit=9, poll=draw.randrange(-128, 128)).encode()]
    for aead in COVERED_AEADS:
        packet = Request(keys=session_keys(aead)).with_placeholders(draw.randrange(4)).encode()
        packets += [packet, packet[:-1] + bytes([packet[-1] ^ 1]), packet[:150] + b"\0" + packet[151:], packet[:-3]]
    return packets


@NATIVE
@pytest.mark.parametrize("nts", [False, True])
def test_kisses_and_silence_are_the_same_octet_for_octet(nts: bool) -> None:
    seen = Tally[Verdict]()
    for seed in range(100):
        draw = Random(seed)
        engine, limiter = both(Limit(rate=1, burst=draw.randrange(1, 8), nts=nts), Counter(seed)(40))
        engine.set_keys(RING)
        engine.set_system(SYSTEM)
        octets, packets = Counter("octets")(64 * 9 * 16), draw.choices(requests(draw), k=draw.randrange(1, 65))
        outcomes, drawn = engine.answer(packets, [RECEIVED] * len(packets), DEPARTED, octets)
        stream, limit = BytesIO(octets), partial(limiter.judge, address=PEER, now=1)
        for packet, outcome in zip(packets, outcomes, strict=True):
            expected = ts_server.respond(
                packet,
                keys=RING,
                system=SYSTEM,
                received=RECEIVED,
                now=lambda: DEPARTED,
                random=stream.read,
                limit=limit,
            )
            assert outcome == expected
            seen[expected.verdict] += 1
        assert stream.tell() == drawn
    assert min(seen[v] for v in (Verdict.KISS_RATE, Verdict.DROP_RATE, Verdict.NAK_AUTH, Verdict.NAK_COOKIE)) > 10


# --- over sockets ----------------------------------------------------------------------------------------------------

SLOW = Limit(rate=1, burst=3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("packet", [PLAIN, PLAIN + UID], ids=["usual", "handed-over"])
def test_a_client_that_asks_too_often_gets_a_kiss_and_then_silence(tmp_path: Path, engine: str, packet: bytes) -> None:
    """Also if its requests are such as the engine hands over."""
    keystore.ensure_key(tmp_path, 3, Counter())
    with time_worker(engine, tmp_path, SLOW) as worker:
        for _ in range(12):
            worker.client.send(packet)
        headers = [Header.decode(worker.client.recv(100)) for _ in range(4)]
        assert [h.stratum for h in headers] == [10, 10, 10, 0]
        assert headers[-1].reference_id == b"RATE"
    assert worker.counted()["ANSWERED_PLAIN"] == 3
    assert worker.counted()["KISS_RATE"] == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("aead", [Aead.AES_SIV_CMAC_256, Aead.AES_128_GCM_SIV])
def test_authenticated_requests_pass_unless_they_count_too(tmp_path: Path, engine: str, aead: Aead) -> None:
    """Also under AEAD 30, whose requests the engine hands over."""
    made = keystore.ensure_key(tmp_path, 3, Counter())
    assert made is not None
    keys = session_keys(aead)
    query = ts_client.build_query(keys, cookies.seal(made.key, (keys,), bytes(16)), 1, Counter())
    with time_worker(engine, tmp_path, SLOW) as worker:
        for _ in range(3):
            worker.ask(PLAIN)
        replies = worker.ask(*[query.packet] * 6)
        assert [ts_client.judge(r, query).kind for r in replies] == [AnswerKind.TIME] * 6
    with time_worker(engine, tmp_path, Limit(rate=1, burst=3, nts=True)) as worker:
        *replies, kiss = worker.ask(*[query.packet] * 4)
        assert [ts_client.judge(r, query).kind for r in replies] == [AnswerKind.TIME] * 3
        judgement = ts_client.judge(kiss, query)
        assert (judgement.kind, judgement.reason) == (AnswerKind.UNUSABLE, "kiss-o'-death RATE")  # which is authentic
        assert len(judgement.cookies) == 2
    assert worker.counted() | {"HANDOVERS": 0} == worker.counted() | {"KISS_RATE": 1, "KEY_AGE_0": 4, "HANDOVERS": 0}
