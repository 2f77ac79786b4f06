# SPDX-License-Identifier: MIT
"""The native engine's loop, its keys and its random octets; and what is said of an engine that is not there."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nts import _engine_build
from nts.base.errors import LibraryError
from nts.codec.keyring import KeyRing, MasterKey
from nts.protocol.ts_server import Verdict
from nts.server import engine, ts_daemon
from nts.server.engine import Engine
from nts.server.key_watcher import KeyWatcher
from testkit.engine import NATIVE, PLAIN, Bench, bound
from testkit.packets import REQUEST, RING, Counter, cookie_of, open_reply

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
        before = bench.counted()
        bench.engine.run(folder, watcher.seen, 1)
        return bench.counted() != before

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
    monkeypatch.setattr(_engine_build, "declarations", lambda _name: "enum { NTS_BATCH = 65 };")
    monkeypatch.setattr(engine, "fingerprint", _engine_build.fingerprint.__wrapped__)
    with pytest.raises(LibraryError, match="another version of this package"):
        Engine()
    native, line = ts_daemon.choose_engine("auto")
    assert not native
    assert "another version of this package; run ./bootstrap build" in line
