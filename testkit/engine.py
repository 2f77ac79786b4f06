# SPDX-License-Identifier: MIT
"""The native engine as tests drive it: batches without sockets, and its loop step by step (`engine/testing.h`)."""

from __future__ import annotations

from collections.abc import Sequence

from nts.protocol.ts_server import Outcome, Verdict
from nts.server.engine import Engine


class EngineForTests(Engine):
    """An engine with the functions of testing.h."""

    @property
    def max_handovers(self) -> int:
        """How many packets can wait for the reference."""
        return int(self._lib.NTS_MAX_HANDOVERS)

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
        lengths = ffi.new("size_t[]", n)
        source = ffi.new("nts_test_octets *", {"octets": (held := ffi.from_buffer(octets)), "length": len(held)})
        lib.nts_test_draw_from(self._engine, source)
        lib.nts_test_answer(
            self._engine, packets, stride, list(map(len, datagrams)), list(received), n, transmit,
            verdicts, replies, lengths,
        )  # fmt: skip
        lib.nts_test_draw_from(self._engine, ffi.NULL)
        outcomes: list[Outcome | None] = []
        for i in range(n):
            reply = bytes(ffi.buffer(replies + i * lib.NTS_MAX_REQUEST, lengths[i])) if lengths[i] else None
            handed_over = verdicts[i] == lib.NTS_HANDOVER
            outcomes.append(None if handed_over else Outcome(Verdict(verdicts[i]), reply))
        return outcomes, int(source.drawn)
