# SPDX-License-Identifier: MIT
"""The packets that the native engine hands over, and the time that it grants to them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nts.codec import ntp
from testkit.engine import HANDOVER, NATIVE, PLAIN, Bench, bound
from testkit.packets import open_reply, respond

pytestmark = NATIVE
NO_FOLDER = (b"no folder", (0, 0))  # of master keys, and seen as such
WORK = 0.02
"""seconds that the reference takes for a handover"""


@pytest.fixture
def crowded() -> Iterator[Bench]:
    """A second socket, at which something waits and never goes away."""
    bench = Bench("127.0.0.1", "127.0.0.1")
    full, end = os.pipe()
    os.write(end, b"!")
    os.dup2(full, bench.servers[1].fileno())
    yield bench
    bench.close()
    os.close(full)
    os.close(end)


def turn(bench: Bench) -> int:
    """What the engine wants done within 5 ms. A handover is dealt with."""
    wanted = bench.engine.run(*NO_FOLDER, 5)
    if wanted == 1:
        time.sleep(WORK)
        bench.engine.handover_done(None)
    return wanted


def test_handovers_come_back_in_order_and_their_replies_get_through(bench: Bench) -> None:
    packets = [replace(HANDOVER, unique_ids=(bytes([i]) * 32,)).encode() for i in range(5)]
    before, stamps = time.time_ns(), []
    bench.send(*(x for p in packets for x in (p, PLAIN)))
    bench.serve()
    for packet in packets:
        handover = bench.engine.handover()
        assert handover is not None
        assert handover.datagram == packet
        stamps.append(ntp.unix_ns(handover.received, before))
        bench.engine.handover_done(respond(packet).reply)
    assert bench.engine.handover() is None
    assert before <= stamps[0]
    assert stamps == sorted(stamps)
    replies = [data for data, _ in bench.replies() if len(data) > 48]
    assert [open_reply(r, HANDOVER.keys).unique_id for r in replies] == [bytes([i]) * 32 for i in range(5)]
    assert bench.counted() == {"ANSWERED_PLAIN": 5}


def test_handovers_without_a_reply_and_none_at_all(bench: Bench) -> None:
    bench.engine.handover_done(b"to nobody")
    bench.send(HANDOVER.encode())
    bench.serve()
    assert len(bench.handovers()) == 1
    assert bench.handovers() == []
    assert bench.replies() == []


def test_handovers_for_which_there_is_no_room_are_dropped(bench: Bench) -> None:
    """The queue keeps those that came first, from whichever socket, and uses freed room again."""
    room = bench.engine.max_handovers
    other = bound("127.0.0.1")
    bench.engine.attach([*bench.servers, other], [])
    packets = [replace(HANDOVER, unique_ids=(i.to_bytes(32, "big"),)).encode() for i in range(room + 10)]
    for expected, dropped in ((packets[: room + 3], 3), (packets[-room:], 3), (packets[3:], 10)):
        bench.send(*expected[:40])
        bench.serve()
        for packet in expected[40:]:
            bench.client.sendto(packet, other.getsockname())
        bench.serve()
        assert [p.datagram for p in bench.handovers()] == expected[:room]
        assert bench.counted().get("DROP_BUSY", 0) == dropped
    other.close()


def test_handovers_have_every_turn_while_nothing_else_waits(bench: Bench) -> None:
    bench.send(*[HANDOVER.encode()] * 20)
    turns = [turn(bench) for _ in range(20)]
    assert turns == [1] * 20
    assert bench.engine.handover() is None


def test_handovers_have_a_share_of_the_time_while_something_else_waits(crowded: Bench) -> None:
    """After a turn, the next handover waits many times as long as that took; other packets do not wait."""
    crowded.send(*[HANDOVER.encode()] * 6)
    assert turn(crowded) == 1  # no turn came before the first one
    waited = []
    for _ in range(5):
        crowded.send(PLAIN)
        started = time.monotonic()
        while (wanted := turn(crowded)) == 0:
            assert time.monotonic() - started < 20
        assert wanted == 1
        waited.append(time.monotonic() - started - WORK)
        assert len(crowded.client.recv(100)) == len(PLAIN)
    assert 0.018 <= min(waited) < 0.1  # 19 times a millisecond, which is all that counts of a longer turn


def test_a_run_ends_in_time_or_with_a_wake_up_whatever_waits(bench: Bench, crowded: Bench) -> None:
    for one in (bench, crowded):
        alarm = threading.Timer(20, os.write, (one.wake_write, b"!"))
        alarm.start()
        started = time.monotonic()
        wanted = one.engine.run(*NO_FOLDER, 30)
        alarm.cancel()
        assert wanted == 0
        assert time.monotonic() - started >= 0.03
        os.write(one.wake_write, b"!")
        one.send(PLAIN, HANDOVER.encode())
        assert one.engine.run(*NO_FOLDER, 30) == -1
        assert one.counted() == {}
