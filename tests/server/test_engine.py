# SPDX-License-Identifier: MIT
"""The native engine over real sockets on loopback, without the daemon; and the time that it grants to handovers.

All in one thread: a client sends, the engine is told to wait and serve, the client reads.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from nts import _engine_build
from nts.base.errors import LibraryError
from nts.codec import ntp
from nts.codec.aead import Aead
from nts.codec.keyring import KeyRing, MasterKey
from nts.codec.ntp import Header
from nts.protocol import ts_client
from nts.protocol.ts_client import Query
from nts.protocol.ts_server import MAX_REQUEST, Verdict
from nts.server import engine, listen, ts_daemon
from nts.server.engine import Engine, Handover
from nts.server.keystore import KeyWatcher
from nts.system import udp
from nts.system.addresses import family_of
from testkit.engine import EngineForTests
from testkit.packets import (
    COVERED_AEADS,
    REQUEST,
    RING,
    SYSTEM,
    UNKNOWN_FIELD,
    Counter,
    cookie_of,
    open_reply,
    raw_field,
    respond,
    session_keys,
)
from testkit.processes import HAS_ENGINE, NO_ENGINE, V6_PARAM, needs_v6

NATIVE = pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)
BUFFER = 1 << 20
HANDOVER = replace(REQUEST, before=raw_field(UNKNOWN_FIELD, bytes(24)))  # good, but the engine does not cover it
PLAIN = Header(mode=3, transmit=1).encode()
SLACK = 1_000_000  # ns by which a transmit timestamp, which is a prediction, may be ahead of the clock
NO_FOLDER = (b"no folder", (0, 0))  # of master keys, and seen as such


class Bench:
    """An engine on sockets of its own, a client, and counters."""

    def __init__(self, *addresses: str) -> None:
        self.servers = [bound(a) for a in addresses]
        self.client = bound(addresses[0])
        self.wake_read, self.wake_write = os.pipe()
        self.cells = memoryview(bytearray(8 * len(Verdict))).cast("Q")
        self.engine = EngineForTests()
        self.engine.set_keys(RING)
        self.engine.set_system(SYSTEM)
        self.engine.count_into(self.cells)
        self.engine.attach(self.servers, [self.wake_read])

    def send(self, *datagrams: bytes, server: int = 0) -> None:
        for datagram in datagrams:
            self.client.sendto(datagram, self.servers[server].getsockname())

    def serve(self) -> None:
        """All that has come."""
        timeout = 1000
        while self.engine.wait(timeout) == 1:
            self.engine.serve()
            timeout = 0  # on loopback, what has been sent is there

    def handovers(self) -> list[Handover]:
        """The packets that wait for the reference, which get no reply."""
        found = []
        while (handover := self.engine.handover()) is not None:
            found.append(handover)
            self.engine.handover_done(None)
        return found

    def replies(self) -> list[tuple[bytes, int]]:
        """What the client has got, with the kernel's time of arrival in ns since 1970."""
        got: list[tuple[bytes, int]] = []
        while True:
            try:
                data, ancillary, _, peer = self.client.recvmsg(4096, 256)
            except BlockingIOError:
                return got
            assert peer[:2] in [s.getsockname()[:2] for s in self.servers]
            got.append((data, udp.arrival_ns(ancillary)))

    def exchange(self, *datagrams: bytes) -> list[bytes]:
        self.send(*datagrams)
        self.serve()
        return [data for data, _ in self.replies()]

    def counted(self) -> dict[str, int]:
        return {v.name: self.cells[v] for v in Verdict if self.cells[v]}

    def close(self) -> None:
        listen.close_all([*self.servers, self.client])
        os.close(self.wake_read)
        os.close(self.wake_write)


def bound(address: str, port: int = 0) -> socket.socket:
    """A non-blocking UDP socket that loses nothing of these tests, with timestamps."""
    sock = socket.socket(family_of(address), socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    udp.enable_timestamps(sock)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock


ADDRESSES = ["127.0.0.1", V6_PARAM]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench("127.0.0.1")
    yield bench
    bench.close()


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


def queries(count: int, aead: Aead = Aead.AES_SIV_CMAC_256, placeholders: int = 0) -> list[Query]:
    keys, draw = session_keys(aead), Counter(f"queries {aead}")
    return [ts_client.build_query(keys, cookie_of(keys), placeholders, draw) for _ in range(count)]


# --- replies ---------------------------------------------------------------------------------------------------------


@NATIVE
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


@NATIVE
def test_the_cookies_of_a_reply_work_in_next_requests(bench: Bench) -> None:
    (query,) = queries(1, placeholders=7)
    (reply,) = bench.exchange(query.packet)
    fresh = ts_client.judge(reply, query).cookies
    assert len(set(fresh)) == 8
    again = [ts_client.build_query(query.keys, c, 0, Counter(i)) for i, c in enumerate(fresh)]
    replies = bench.exchange(*(q.packet for q in again))
    verdicts = {ts_client.judge(r, q).kind for q, r in zip(again, replies, strict=True)}
    assert verdicts == {ts_client.AnswerKind.TIME}


@NATIVE
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


@NATIVE
def test_replies_leave_one_by_one_unless_a_batch_is_full(bench: Bench) -> None:
    """In steps of eight then. From each step the engine learns a little how long sending a reply takes."""
    assert [len(s) for s in steps(stamps_of_plain(bench, 63))] == [1] * 63
    stamps = stamps_of_plain(bench, 64 + 7)
    long = steps(stamps[:64])
    assert [len(s) for s in long] == [1, *[8] * 7, 7]
    for i, step in enumerate(long[1:]):
        assert all(0 <= b - a <= 16 * i + 1 for a, b in pairwise(step))
    assert [len(s) for s in steps(stamps[64:])] == [1] * 7


@NATIVE
def test_stamps_in_a_long_step_are_as_far_apart_as_sendings(bench: Bench) -> None:
    for _ in range(40):  # learning takes some hundred steps
        stamps = stamps_of_plain(bench, 64)
    within = statistics.median(stamps[i + 6] - stamps[i] for i in range(1, 64, 8)) / 6
    overall = (stamps[-1] - stamps[0]) / 63
    assert overall / 4 < within < overall * 4


@NATIVE
def test_no_socket_keeps_the_others_waiting() -> None:
    bench = Bench("127.0.0.1", "127.0.0.1")
    bench.send(*[PLAIN] * 300)
    bench.send(PLAIN, server=1)
    assert bench.engine.wait(1000) == 1
    assert bench.engine.serve() == 4 * 64 + 1
    assert bench.engine.wait(0) == 1
    assert bench.engine.serve() == 300 - 4 * 64
    bench.close()


@NATIVE
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


@NATIVE
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


@NATIVE
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


@NATIVE
@pytest.mark.parametrize("size", [0, 1, 47, 49, MAX_REQUEST + 1, MAX_REQUEST + 4, MAX_REQUEST + 5, 60_000])
def test_datagrams_of_odd_lengths_are_dropped(bench: Bench, size: int) -> None:
    datagram = REQUEST.encode().ljust(size, b"\0")[:size]
    assert len(bench.exchange(PLAIN, datagram, PLAIN)) == 2
    assert bench.counted() == {"ANSWERED_PLAIN": 2, "DROP_LENGTH": 1}


@NATIVE
def test_the_largest_request_is_answered(bench: Bench) -> None:
    packet = replace(REQUEST, unique_ids=(bytes(MAX_REQUEST - 48 - 4 - 104 - 40),)).encode()
    assert len(packet) == MAX_REQUEST
    (reply,) = bench.exchange(packet)
    assert len(reply) == MAX_REQUEST
    open_reply(reply, REQUEST.keys)


# --- handovers -------------------------------------------------------------------------------------------------------


@NATIVE
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


@NATIVE
def test_handovers_without_a_reply_and_none_at_all(bench: Bench) -> None:
    bench.engine.handover_done(b"to nobody")
    bench.send(HANDOVER.encode())
    bench.serve()
    assert len(bench.handovers()) == 1
    assert bench.handovers() == []
    assert bench.replies() == []


@NATIVE
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


@NATIVE
def test_handovers_have_every_turn_while_nothing_else_waits(bench: Bench) -> None:
    bench.send(*[HANDOVER.encode()] * 20)
    turns = [turn(bench) for _ in range(20)]
    assert turns == [1] * 20
    assert bench.engine.handover() is None


@NATIVE
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


@NATIVE
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


WORK = 0.02
"""seconds that the reference takes for a handover"""


def turn(bench: Bench) -> int:
    """What the engine wants done within 5 ms. A handover is dealt with."""
    wanted = bench.engine.run(*NO_FOLDER, 5)
    if wanted == 1:
        time.sleep(WORK)
        bench.engine.handover_done(None)
    return wanted


# --- the loop --------------------------------------------------------------------------------------------------------


@NATIVE
def test_a_wait_ends_in_time_with_datagrams_or_with_a_wake_up(bench: Bench) -> None:
    started = time.monotonic()
    assert bench.engine.wait(60) == 0
    assert 0.05 < time.monotonic() - started < 5
    assert bench.engine.serve() == 0
    bench.send(PLAIN)
    assert bench.engine.wait(-1) == 1
    os.write(bench.wake_write, b"!")
    assert bench.engine.wait(-1) == -1
    os.read(bench.wake_read, 1)
    bench.serve()
    assert bench.counted() == {"ANSWERED_PLAIN": 1}


@NATIVE
def test_a_wait_ends_when_the_other_end_of_a_wake_descriptor_closes(bench: Bench) -> None:
    lifeline, hold = os.pipe()
    bench.engine.attach(bench.servers, [bench.wake_read, lifeline])
    os.close(hold)
    assert bench.engine.wait(-1) == -1
    os.close(lifeline)


@NATIVE
def test_datagrams_wait_for_a_look_at_the_keys_when_the_folder_has_changed(bench: Bench, tmp_path: Path) -> None:
    """And while another change would not show. But between two looks they are answered."""
    folder, watcher = os.fsencode(tmp_path), KeyWatcher(tmp_path, lambda _: None)

    def answered() -> bool:
        before = sum(bench.cells)
        bench.engine.run(folder, watcher.seen, 1)
        return sum(bench.cells) > before

    for i in range(10):
        (tmp_path / str(i)).touch()
        watcher.ring()
        if watcher.seen == (0, 0):  # always, unless this process was interrupted
            for _ in range(3):
                bench.send(PLAIN)
                assert [answered(), answered()] == [False, True]
        time.sleep(0.03)  # longer than a step of the file times
        watcher.ring()
        for _ in range(3):
            bench.send(PLAIN)
            assert answered()
        (tmp_path / str(i)).unlink()
        bench.send(PLAIN)
        assert [answered(), answered()] == [False, True]
    assert 40 <= len(bench.replies()) <= 70


@NATIVE
def test_peers_that_cannot_be_reached_do_not_stop_the_others(bench: Bench) -> None:
    """Sockets that are closed before the replies leave: the kernel reports that as an error of ours."""
    for _ in range(3):
        for i in range(40):
            gone = bound("127.0.0.1")
            gone.sendto(PLAIN, bench.servers[0].getsockname())
            gone.close()
            if i % 4 == 0:
                bench.send(PLAIN)
        bench.serve()
        assert len(bench.replies()) == 10
    assert bench.counted() == {"ANSWERED_PLAIN": 150}


@NATIVE
def test_a_reply_that_the_kernel_refuses_to_send_does_not_keep_back_the_others() -> None:
    """Every second peer has port 0, to which nothing can be sent: only a raw socket can be such a peer."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError:
        pytest.skip("needs the right to open raw sockets")
    bench = Bench("127.0.0.1")
    port = bench.servers[0].getsockname()[1]
    for _ in range(80):  # more than a batch, so that replies leave several at a time
        raw.sendto(struct.pack(">HHHH", 0, port, 8 + len(PLAIN), 0) + PLAIN, ("127.0.0.1", 0))
        bench.send(PLAIN)
    bench.serve()
    assert len(bench.replies()) == 80
    assert bench.counted() == {"ANSWERED_PLAIN": 160}
    raw.close()
    bench.close()


@NATIVE
def test_attaching_what_cannot_be_served_is_an_error(bench: Bench) -> None:
    with pytest.raises(LibraryError, match="cannot serve these sockets"):
        bench.engine.attach([bench.client] * 65, [])
    with socket.socket() as closed:
        pass
    with pytest.raises(LibraryError):
        bench.engine.attach([closed], [])


# --- keys, random octets, and an engine that is not there -----------------------------------------------------------


@NATIVE
def test_of_too_many_keys_the_newest_128_count(bench: Bench) -> None:
    masters = [MasterKey(i, Counter(i)(32)) for i in range(129)]
    bench.engine.set_keys(KeyRing(tuple(masters)))
    requests = [replace(REQUEST, cookies=(cookie_of(REQUEST.keys, m),)).encode() for m in masters]
    bench.exchange(*requests)
    assert bench.counted() == {"ANSWERED_NTS": 128, "NAK_COOKIE": 1}
    (reply,) = bench.exchange(requests[-1])
    assert open_reply(reply, REQUEST.keys).cookies[0][:2] == masters[-1].id.to_bytes(2, "big")
    bench.engine.set_keys(RING)
    bench.exchange(requests[-1])
    assert bench.counted() == {"ANSWERED_NTS": 129, "NAK_COOKIE": 2}
    bench.engine.set_keys(KeyRing())
    bench.exchange(REQUEST.encode())
    assert bench.counted()["NAK_COOKIE"] == 3


@NATIVE
def test_nonces_never_repeat(bench: Bench) -> None:
    """Those of ten thousand replies and of their cookies; and nothing is left of the pool that was zeroed."""
    packet, seen = REQUEST.with_placeholders(3).encode(), set()
    for _ in range(200):
        for reply in bench.exchange(*[packet] * 50):
            seen.add(reply[48 + 36 + 8 :][:16])
    assert len(seen) == 10_000
    for reply in bench.exchange(*[packet] * 50):
        parts = open_reply(reply, REQUEST.keys)
        seen.update((parts.nonce, *(c[2:18] for c in parts.cookies)))
    assert len(seen) == 10_000 + 50 * 5
    assert not any(bytes(4) in (n[:4], n[4:8], n[8:12], n[12:]) for n in seen)  # one in 100,000 by chance
    ones = sum(n.bit_count() for n in (int.from_bytes(n, "big") for n in seen))
    assert abs(ones / (len(seen) * 128) - 0.5) < 0.005


@NATIVE
def test_two_engines_draw_different_octets() -> None:
    benches = [Bench("127.0.0.1"), Bench("127.0.0.1")]
    nonces = [open_reply(b.exchange(REQUEST.encode())[0], REQUEST.keys).nonce for b in benches]
    assert nonces[0] != nonces[1]
    for bench in benches:
        bench.close()


def test_without_the_module_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nts._engine", None)
    monkeypatch.delattr("nts._engine", raising=False)
    with pytest.raises(LibraryError, match="has not been built for this Python"):
        Engine()


@NATIVE
def test_an_engine_with_other_verdicts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where there are no sources to compare it with."""
    monkeypatch.setattr(engine, "fingerprint", lambda: None)
    Engine()
    monkeypatch.setattr("nts.server.engine.Verdict", list(Verdict)[:-1])
    with pytest.raises(LibraryError, match="another version of this package"):
        Engine()


@NATIVE
def test_a_module_that_was_built_from_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a `git pull` without `make build`; with engine = auto, the server goes on in Python and says so."""
    monkeypatch.setattr(_engine_build, "declarations", lambda: "enum { NTS_BATCH = 65 };")
    monkeypatch.setattr(engine, "fingerprint", _engine_build.fingerprint.__wrapped__)
    with pytest.raises(LibraryError, match="another version of this package"):
        Engine()
    native, line = ts_daemon.choose_engine("auto")
    assert not native
    assert "another version of this package; run ./bootstrap build" in line
