# SPDX-License-Identifier: MIT
"""Counters: where each is, what a reader of them sees, and what the NTS-KE server puts into which."""

from __future__ import annotations

import errno
import os

import pytest
from OpenSSL import SSL

from nts.codec.aead import Aead
from nts.protocol.ke_server import Verdict
from nts.server import ke_counters
from nts.server.counters import Counters, Family, Histogram, Layout
from nts.server.ke_counters import KeCounters
from nts.system import tls

COLOURS = Family("colours", "By colour.", "colour", ("red", "green"))
TIMES = Histogram("times", "How long.", (0.5, 10.0))


def test_families_follow_one_another_in_each_workers_block() -> None:
    layout = Layout(COLOURS, TIMES)
    assert layout.size == 6
    assert layout.offsets == {"colours": 0, "times": 2}
    assert TIMES.values == ("0.5", "10", "+Inf", "sum")
    counters = Counters(layout, 3)
    for worker in range(3):
        cells = counters.of(worker)
        assert len(cells) == 6
        for i in range(6):
            cells[i] = 10**i * (worker + 1)
    assert list(counters.sums()) == [(COLOURS, [6, 60]), (TIMES, [600, 6_000, 60_000, 600_000])]
    assert counters.totals() == {"red": 6, "green": 60}


def test_totals_leave_out_zeros() -> None:
    counters = Counters(Layout(COLOURS), 1)
    counters.of(0)[1] = 1
    assert counters.totals() == {"green": 1}


# --- of the NTS-KE server --------------------------------------------------------------------------------------------


class Cells:
    """The cells of a worker, by family and label."""

    def __init__(self) -> None:
        self._counters = Counters(ke_counters.LAYOUT, 1)
        self.count = KeCounters(self._counters.of(0))

    def seen(self) -> dict[str, dict[str, int]]:
        """All that are not zero."""
        pairs = (
            (f.name, {v: n for v, n in zip(f.values, cells, strict=True) if n}) for f, cells in self._counters.sums()
        )
        return {name: cells for name, cells in pairs if cells}


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_its_cell(verdict: Verdict) -> None:
    cells = Cells()
    cells.count.session(verdict)
    assert cells.seen() == {"nts_ke_sessions": {verdict.name.lower(): 1}}


@pytest.mark.parametrize("aead", Aead)
def test_every_algorithm_has_its_cell(aead: Aead) -> None:
    cells = Cells()
    cells.count.agreement(aead)
    assert cells.seen() == {"nts_ke_aeads": {str(int(aead)): 1}}


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.002"), (0.3, "0.5"), (5.0, "5"), (5.1, "+Inf"), (900.0, "+Inf")],
)
def test_handshakes_by_duration(seconds: float, bound: str) -> None:
    cells = Cells()
    cells.count.handshake(seconds, "x25519")
    total = {"sum": int(seconds * 1_000_000)} if seconds else {}
    assert cells.seen()["nts_ke_handshake_seconds"] == {bound: 1, **total}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("x25519", "x25519"),
        ("X25519", "x25519"),
        ("X25519MLKEM768", "X25519MLKEM768"),
        ("brainpool", "other"),
        ("", "other"),
    ],
)
def test_handshakes_by_group(name: str, group: str) -> None:
    cells = Cells()
    cells.count.handshake(0.0, name)
    assert cells.seen()["nts_ke_tls_groups"] == {group: 1}


def tls_error(reason: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", reason)])


FAILURES = {
    "http request": "not_tls", "wrong version number": "not_tls", "unsupported protocol": "version",
    "no shared cipher": "nothing_shared", "no suitable key share": "nothing_shared",
    "no suitable signature algorithm": "nothing_shared", "tlsv1 alert unknown ca": "certificate",
    "tls alert bad certificate": "certificate", "tls alert handshake failure": "alert",
    "tlsv1 alert protocol version": "alert", "length mismatch": "other", "unexpected message": "other",
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        *((tls_error(text), reason) for text, reason in FAILURES.items()),
        (SSL.SysCallError(errno.ECONNRESET, "ECONNRESET"), "lost"), (SSL.SysCallError(-1, "Unexpected EOF"), "lost"),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), "lost"), (SSL.Error(), "other"),
    ],
    ids=str,
)  # fmt: skip
def test_tls_failures_by_reason(error: Exception, reason: str) -> None:
    cells = Cells()
    cells.count.tls_failure(lost=tls.is_lost(error), reason=tls.reason(error))
    assert cells.seen() == {"nts_ke_tls_failures": {reason: 1}}
