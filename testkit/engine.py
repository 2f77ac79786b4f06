# SPDX-License-Identifier: MIT
"""The native engine as tests drive it: step by step (`engine/testing.h`), in batches without sockets, on sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nts.codec.ntp import Header
from nts.protocol.ts_server import Outcome, Verdict
from nts.server import listen
from nts.server.engine import Engine, Handover
from nts.server.ts_daemon import Cell
from nts.system import udp
from nts.system.addresses import family_of
from testkit.packets import REQUEST, RING, SYSTEM, UNKNOWN_FIELD, raw_field
from testkit.processes import HAS_ENGINE, NO_ENGINE

NATIVE = pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE)
BUFFER = 1 << 20
HANDOVER = replace(REQUEST, before=raw_field(UNKNOWN_FIELD, bytes(24)))  # good, but the engine does not cover it
PLAIN = Header(mode=3, transmit=1).encode()


class EngineForTests(Engine):
    """An engine with the functions of testing.h."""

    @property
    def max_handovers(self) -> int:
        """How many packets can wait for the reference."""
        return int(self._lib.NTS_MAX_HANDOVERS)

    def limited(self, verdict: Verdict, address: bytes, now: int) -> Verdict:
        """What becomes of a request from this address; `RateLimiter.judge`."""
        return Verdict(self._lib.nts_test_limited(self._engine, address, len(address), now, verdict))

    def draw_from(self, octets: bytes) -> None:
        """Draw these in place of random octets, or random ones again if there are none."""
        self._source = self._ffi.new(
            "nts_test_octets *", {"octets": (held := self._ffi.from_buffer(octets)), "length": len(held)}
        )
        self._lib.nts_test_draw_from(self._engine, self._source if octets else self._ffi.NULL)

    def wait(self, timeout_ms: int) -> int:
        """1 when there are datagrams, 0 when none came in time, -1 when one of `wake` is readable."""
        return int(self._lib.nts_test_wait(self._engine, timeout_ms))

    def serve(self) -> int:
        """Answer what has come, as far as the queue has room for handovers. Returns how many datagrams came."""
        return int(self._lib.nts_test_serve(self._engine))

    def answer(
        self, datagrams: Sequence[bytes], received: Sequence[int], transmit: int, octets: bytes
    ) -> tuple[list[Outcome | None], int]:
        """Judge up to 64 datagrams as one batch, without sockets, with `octets` in place of random ones.

        The outcomes, None for a handover, and how many of the octets were drawn.
        """
        ffi, lib, n = self._ffi, self._lib, len(datagrams)
        assert n <= lib.NTS_BATCH
        stride = max(map(len, datagrams), default=0)
        packets = b"".join(d.ljust(stride, b"\0") for d in datagrams)
        verdicts, replies = ffi.new("uint32_t[]", n), ffi.new("uint8_t[]", n * lib.NTS_MAX_REQUEST)
        lengths, key_ages = ffi.new("size_t[]", n), ffi.new("int32_t[]", n)
        source = ffi.new("nts_test_octets *", {"octets": (held := ffi.from_buffer(octets)), "length": len(held)})
        lib.nts_test_draw_from(self._engine, source)
        lib.nts_test_answer(
            self._engine, packets, stride, list(map(len, datagrams)), list(received), n, transmit,
            verdicts, replies, lengths, key_ages,
        )  # fmt: skip
        lib.nts_test_draw_from(self._engine, ffi.NULL)
        outcomes: list[Outcome | None] = []
        for i in range(n):
            reply = bytes(ffi.buffer(replies + i * lib.NTS_MAX_REQUEST, lengths[i])) if lengths[i] else None
            handed_over = verdicts[i] == lib.NTS_HANDOVER
            key_age = key_ages[i] if key_ages[i] >= 0 else None
            outcomes.append(None if handed_over else Outcome(Verdict(verdicts[i]), reply, key_age))
        return outcomes, int(source.drawn)


class Bench:
    """An engine on sockets of its own, a client, and counters; all in one thread."""

    def __init__(self, *addresses: str) -> None:
        self.servers = [bound(a) for a in addresses]
        self.client = bound(addresses[0])
        self.wake_read, self.wake_write = os.pipe()
        self.cells = memoryview(bytearray(8 * (len(Verdict) + len(Cell)))).cast("Q")
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
