# SPDX-License-Identifier: MIT
"""The real NTS-KE server process under a flood from one place: others are served, memory comes back, all is counted."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.ke_sessions import ask, check_agreement, own_server, reset, server_of, works
from testkit.processes import Suite, eventually, stat_of, workers_of
from testkit.raw_ke import GOOD_REQUEST, RawKe

pytestmark = pytest.mark.usefixtures("ke_engine")

FLOOD_FROM = "127.0.0.2"


class Flood:
    """Connections from another address that do nothing after their first octets, as fast as one thread can."""

    def __init__(self, port: int, sends: bytes, held: int = 300) -> None:
        self._port, self._sends, self._held = port, sends, held
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._run)
        self.made = 0

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        held: deque[socket.socket] = deque()
        while not self._stop.is_set():
            with contextlib.suppress(OSError):  # the server may close any of them at any time
                sock = socket.create_connection(("127.0.0.1", self._port), 5, (FLOOD_FROM, 0))
                held.append(sock)
                sock.sendall(self._sends)
                self.made += 1
            if len(held) > self._held:
                reset(held.popleft())  # leaves no port in TIME_WAIT, as thousands of closed ones would
        for sock in held:
            reset(sock)


@pytest.mark.parametrize("sends", [b"", b"\x16"], ids=["nothing", "an octet"])
def test_flood_from_one_address_costs_others_no_session(tmp_path: Path, sends: bytes) -> None:
    """Clients that take 0.2 s, while the flood fills the table ten times over. The oldest of all would be theirs."""
    with own_server(tmp_path, ntske={"max_sessions": 20}) as own, Flood(own.ke_port, sends) as flood:
        assert eventually(lambda: flood.made > 100)
        before = flood.made
        for _ in range(8):
            with RawKe(own.ke_port, timeout=5) as peer:
                peer.handshake()
                time.sleep(0.2)
                peer.send(GOOD_REQUEST)
                check_agreement(peer.receive(), own.ntp_port)
        assert flood.made - before > 8 * 200  # in sum: a SYN that finds a full queue is sent again after a second


def test_rate_is_limited_by_prefix(tmp_path: Path) -> None:
    """Connections beyond the rate are closed at once and counted; other prefixes are not affected."""
    with own_server(tmp_path, ntske={"rate_per_prefix": 3}) as own, contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_connection(("127.0.0.1", own.ke_port), 5, (FLOOD_FROM, 0)))
            for _ in range(30)
        ]
        for sock in made:
            with contextlib.suppress(ConnectionError):
                sock.sendall(b"\x16")
        assert works(own)
        refused = len(select.select(made, [], [], 0)[0])
        assert 30 - 2 * 3 <= refused <= 30 - 3  # the burst may lie in two seconds
        assert server_of(own).stop() == 0
        assert f"refused {refused}" in server_of(own).output().splitlines()[-1]


def test_without_descriptors_and_sessions_the_worker_waits_and_recovers(tmp_path: Path) -> None:
    """Nothing can be evicted: it must not spin, and serve again as soon as it can."""
    with own_server(tmp_path) as own:
        (worker,) = workers_of(server_of(own), 1)
        used = max(int(fd.name) for fd in Path(f"/proc/{worker}/fd").iterdir()) + 1
        before, most = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, most))
        with socket.create_connection(("127.0.0.1", own.ke_port)) as waiting:
            waiting.sendall(b"\x16")
            time.sleep(0.3)
            ticks = sum(int(t) for t in stat_of(worker)[11:13])
            time.sleep(1)
            assert sum(int(t) for t in stat_of(worker)[11:13]) - ticks < 0.2 * os.sysconf("SC_CLK_TCK"), "it spins"
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (before, most))
            assert works(own)


def test_every_connection_is_counted_once(tmp_path: Path) -> None:
    """Those, too, that end before or within the handshake."""
    with own_server(tmp_path, ntske={"workers": 2}) as own:
        for _ in range(250):
            socket.create_connection(("127.0.0.1", own.ke_port), 20).close()
        for how in 125 * (reset, socket.socket.close):
            sock = socket.create_connection(("127.0.0.1", own.ke_port), 20)
            sock.sendall(b"\x16\x03\x01")
            how(sock)
        assert works(own)
        assert server_of(own).stop() == 0
        assert server_of(own).output().splitlines()[-1].endswith("sessions: agreed 1, closed early 500")


# --- memory ----------------------------------------------------------------------------------------------------------


def client_hello(padding: int) -> bytes:
    """A ClientHello that a server answers, with a padding extension (RFC 7685), in records of 16 KB at most."""

    def extension(kind: int, body: bytes) -> bytes:
        return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body

    extensions = b"".join((
        extension(43, b"\x02\x03\x04"),  # TLS 1.3
        extension(10, b"\0\x02\0\x1d"), extension(51, b"\0\x24\0\x1d\0\x20" + os.urandom(32)),  # X25519
        extension(13, b"\0\x04\x04\x03\x08\x04"), extension(16, b"\0\x08\x07ntske/1"), extension(21, bytes(padding)),
    ))  # fmt: skip
    body = b"\x03\x03" + os.urandom(32) + b"\0\0\x02\x13\x01\x01\0" + len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    pieces = [message[i : i + 16384] for i in range(0, len(message), 16384)]
    return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)


def resident(pid: int) -> float:
    """MB of memory that a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with own_server(tmp_path_factory.mktemp("memory")) as suite:
        yield suite


@pytest.mark.parametrize("padding", [10, 16_000, 60_000])
def test_memory_of_a_burst_is_bounded_and_comes_back(own: Suite, padding: int) -> None:
    """500 clients at once that stop after a ClientHello, of which max_per_prefix stay."""
    (worker,) = workers_of(server_of(own), 1)
    assert ask(own.ke_port, GOOD_REQUEST)
    before, hello = resident(worker), client_hello(padding)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", own.ke_port), 5)) for _ in range(500)]
        for client in clients:
            client.sendall(hello)
        assert clients[-1].recv(5)[:1] == b"\x16"  # ServerHello: it has been processed
        assert resident(worker) < before + 25 + 300 * padding / 1e6
    assert eventually(lambda: resident(worker) < before + 8, 12), resident(worker)
