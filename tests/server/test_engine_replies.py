# SPDX-License-Identifier: MIT
"""What the native engine answers over real sockets on loopback, when it does, and from where."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from nts.codec import ntp
from nts.codec.aead import Aead
from nts.codec.ntp import Header
from nts.protocol import ts_client
from nts.protocol.ts_client import Query
from nts.protocol.ts_server import MAX_REQUEST
from nts.server import listen
from testkit.engine import HANDOVER, NATIVE, PLAIN, Bench, bound
from testkit.packets import COVERED_AEADS, REQUEST, Counter, cookie_of, open_reply, respond, session_keys
from testkit.processes import V6_PARAM, needs_v6

pytestmark = NATIVE
SLACK = 1_000_000  # ns by which a transmit timestamp, which is a prediction, may be ahead of the clock
ADDRESSES = ["127.0.0.1", V6_PARAM]


def queries(count: int, aead: Aead = Aead.AES_SIV_CMAC_256, placeholders: int = 0) -> list[Query]:
    keys, draw = session_keys(aead), Counter(f"queries {aead}")
    return [ts_client.build_query(keys, cookie_of(keys), placeholders, draw) for _ in range(count)]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("aead", COVERED_AEADS)
def test_a_query_gets_time_and_cookies_and_true_timestamps(address: str, aead: Aead) -> None:
    bench = Bench(address)
    (query,) = queries(1, aead, placeholders=4)
    before = time.time_ns()
    (reply,) = bench.exchange(query.packet)
    judgement = ts_client.judge(reply, query)
    assert judgement.kind == ts_client.AnswerKind.TIME
    assert len(judgement.cookies) == 5
    header = judgement.header
    assert header is not None
    expected = respond(query.packet).reply
    assert expected is not None
    assert header == replace(Header.decode(expected), receive=header.receive, transmit=header.transmit)
    assert len(reply) == len(expected)
    arrived, left = (ntp.unix_ns(s, before) for s in (header.receive, header.transmit))
    assert before <= arrived <= left <= time.time_ns() + SLACK
    bench.close()


def test_the_cookies_of_a_reply_work_in_next_requests(bench: Bench) -> None:
    (query,) = queries(1, placeholders=7)
    (reply,) = bench.exchange(query.packet)
    fresh = ts_client.judge(reply, query).cookies
    assert len(set(fresh)) == 8
    again = [ts_client.build_query(query.keys, c, 0, Counter(i)) for i, c in enumerate(fresh)]
    replies = bench.exchange(*(q.packet for q in again))
    verdicts = {ts_client.judge(r, q).kind for q, r in zip(again, replies, strict=True)}
    assert verdicts == {ts_client.AnswerKind.TIME}


@pytest.mark.parametrize("count", [1, 8, 64, 200])
def test_timestamps_of_a_burst(bench: Bench, count: int) -> None:
    """The last replies are as well stamped as the first: near the time at which the client's kernel gets them."""
    distances = []
    for _ in range(3):
        burst = queries(count)
        sent = []
        for query in burst:
            sent.append(time.time_ns())
            bench.send(query.packet)
        sent.append(time.time_ns())
        bench.serve()
        done = time.time_ns()
        got = bench.replies()
        headers = [Header.decode(r) for r, _ in got]
        assert [h.origin for h in headers] == [q.transmit for q in burst]
        arrived = [ntp.unix_ns(h.receive, done) for h in headers]
        left = [ntp.unix_ns(h.transmit, done) for h in headers]
        for i in range(count):
            assert sent[i] <= arrived[i] <= sent[i + 1]
            assert sent[-1] <= left[i] <= done + SLACK
        assert all(b >= a - SLACK for a, b in pairwise(left))
        distances += [abs(seen - stamp) for (_, seen), stamp in zip(got, left, strict=True)]
    assert statistics.median(distances) < 2_000_000
    assert statistics.median(distances[count - min(count, 8) :: count]) < 2_000_000


def stamps_of_plain(bench: Bench, count: int) -> list[int]:
    """Transmit timestamps in ns, of replies to so many requests that come at once."""
    return [ntp.unix_ns(Header.decode(r).transmit, time.time_ns()) for r in bench.exchange(*[PLAIN] * count)]


def steps(stamps: Sequence[int]) -> list[list[int]]:
    """What was stamped by one reading of the clock. From there to the next, a reply is sealed and sent."""
    found = [[stamps[0]]]
    for before, stamp in pairwise(stamps):
        if stamp - before > 150:
            found.append([])
        found[-1].append(stamp)
    return found


def test_replies_leave_one_by_one_unless_a_batch_is_full(bench: Bench) -> None:
    """In steps of eight then. From each step the engine learns a little how long sending a reply takes."""
    assert [len(s) for s in steps(stamps_of_plain(bench, 63))] == [1] * 63
    stamps = stamps_of_plain(bench, 64 + 7)
    long = steps(stamps[:64])
    assert [len(s) for s in long] == [1, *[8] * 7, 7]
    for i, step in enumerate(long[1:]):
        assert all(0 <= b - a <= 16 * i + 1 for a, b in pairwise(step))
    assert [len(s) for s in steps(stamps[64:])] == [1] * 7


def test_stamps_in_a_long_step_are_as_far_apart_as_sendings(bench: Bench) -> None:
    for _ in range(40):  # learning takes some hundred steps
        stamps = stamps_of_plain(bench, 64)
    within = statistics.median(stamps[i + 6] - stamps[i] for i in range(1, 64, 8)) / 6
    overall = (stamps[-1] - stamps[0]) / 63
    assert overall / 4 < within < overall * 4


def test_no_socket_keeps_the_others_waiting() -> None:
    bench = Bench("127.0.0.1", "127.0.0.1")
    bench.send(*[PLAIN] * 300)
    bench.send(PLAIN, server=1)
    assert bench.engine.wait(1000) == 1
    assert bench.engine.serve() == 4 * 64 + 1
    assert bench.engine.wait(0) == 1
    assert bench.engine.serve() == 300 - 4 * 64
    bench.close()


def test_the_reply_leaves_from_the_address_asked() -> None:
    bench = Bench("0.0.0.0")
    port = bench.servers[0].getsockname()[1]
    for address in ("127.0.0.1", "127.0.0.2", "127.8.8.8"):
        bench.client.sendto(PLAIN, (address, port))
        bench.client.sendto(HANDOVER.encode(), (address, port))
        bench.serve()
        bench.engine.handover_done(b"the reference's")
        assert [bench.client.recvfrom(100)[1] for _ in range(2)] == [(address, port)] * 2
    bench.close()


@needs_v6
def test_sockets_of_both_families_are_served_side_by_side() -> None:
    bench = Bench("0.0.0.0", "::")
    assert bench.servers[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) == 1
    peers = [bound("127.0.0.1"), bound("::1")]
    for peer, server, host in zip(peers, bench.servers, ("127.0.0.1", "::1"), strict=True):
        peer.sendto(PLAIN, (host, server.getsockname()[1]))
    bench.serve()
    for peer, server, host in zip(peers, bench.servers, ("127.0.0.1", "::1"), strict=True):
        data, source = peer.recvfrom(100)
        assert len(data) == len(PLAIN)
        assert source[:2] == (host, server.getsockname()[1])
    assert bench.counted() == {"ANSWERED_PLAIN": 2}
    listen.close_all([*peers])
    bench.close()


def test_every_verdict_is_counted_where_it_belongs(bench: Bench) -> None:
    (query,) = queries(1)
    bad_cookie, bad_tag = bytearray(query.packet), bytearray(query.packet)
    bad_cookie[48 + 36 + 30] ^= 1
    bad_tag[-1] ^= 1
    datagrams = {
        "ANSWERED_PLAIN": PLAIN, "ANSWERED_NTS": query.packet, "NAK_COOKIE": bytes(bad_cookie),
        "NAK_AUTH": bytes(bad_tag), "DROP_LENGTH": b"odd", "DROP_VERSION": bytes(48), "DROP_MODE": b"\x24" + bytes(47),
        "DROP_MAC": b"\x1b" + bytes(67), "DROP_BUSY": HANDOVER.encode(),
    }  # fmt: skip
    bench.exchange(*[HANDOVER.encode()] * bench.engine.max_handovers)
    for i, (name, datagram) in enumerate(datagrams.items()):
        assert len(bench.exchange(*[datagram] * (i + 1))) == (i + 1) * (not name.startswith("DROP"))
    assert bench.counted() == {name: i + 1 for i, name in enumerate(datagrams)}


@pytest.mark.parametrize("size", [0, 1, 47, 49, MAX_REQUEST + 1, MAX_REQUEST + 4, MAX_REQUEST + 5, 60_000])
def test_datagrams_of_odd_lengths_are_dropped(bench: Bench, size: int) -> None:
    datagram = REQUEST.encode().ljust(size, b"\0")[:size]
    assert len(bench.exchange(PLAIN, datagram, PLAIN)) == 2
    assert bench.counted() == {"ANSWERED_PLAIN": 2, "DROP_LENGTH": 1}


def test_the_largest_request_is_answered(bench: Bench) -> None:
    packet = replace(REQUEST, unique_ids=(bytes(MAX_REQUEST - 48 - 4 - 104 - 40),)).encode()
    assert len(packet) == MAX_REQUEST
    (reply,) = bench.exchange(packet)
    assert len(reply) == MAX_REQUEST
    open_reply(reply, REQUEST.keys)
