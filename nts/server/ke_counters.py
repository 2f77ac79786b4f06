# SPDX-License-Identifier: MIT
"""What the NTS-KE server counts: its families of counters, and the cells of one worker."""

from __future__ import annotations

from bisect import bisect_left

from nts.codec.aead import Aead
from nts.protocol.ke_server import Verdict
from nts.server.counters import Family, Gauge, Histogram, Layout, by_verdict

_NOT_TLS = ("wrong version number", "http request", "https proxy request")
_GROUPS = (
    "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
    "x25519", "x448", "secp256r1", "secp384r1", "secp521r1", "other",
)  # fmt: skip
_FAILURES = ("not_tls", "version", "nothing_shared", "certificate", "alert", "lost", "other")
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

SESSIONS = by_verdict("nts_ke_sessions", "Connections by what became of them.", Verdict)
AEADS = Family("nts_ke_aeads", "Sessions by the AEAD algorithm agreed on.", "aead", tuple(str(int(a)) for a in Aead))
GROUPS = Family("nts_ke_tls_groups", "TLS handshakes by the group of the key exchange.", "group", _GROUPS)
FAILURES = Family("nts_ke_tls_failures", "Sessions that ended as tls_failed, by reason.", "reason", _FAILURES)
HANDSHAKES = Histogram("nts_ke_handshake_seconds", "Time from accept to the end of the TLS handshake.", BOUNDS)
OPEN = Gauge("nts_ke_open_connections", "Connections that are open.")
HANDOVERS = Family("nts_ke_handovers", "Connections that the native loop left to the Python reference.")
LAYOUT = Layout(SESSIONS, AEADS, GROUPS, FAILURES, HANDSHAKES, OPEN, HANDOVERS)

AEAD_CELL = {aead: LAYOUT.offsets[AEADS.name] + i for i, aead in enumerate(Aead)}
_GROUP_CELL = {group.lower(): LAYOUT.offsets[GROUPS.name] + i for i, group in enumerate(_GROUPS)}
_FAILURE_CELL = {failure: LAYOUT.offsets[FAILURES.name] + i for i, failure in enumerate(_FAILURES)}
_HANDSHAKE_CELL = LAYOUT.offsets[HANDSHAKES.name]


class KeCounters:
    """The cells of one worker."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def session(self, verdict: Verdict) -> None:
        self._cells[verdict] += 1

    def connections(self, count: int) -> None:
        self._cells[LAYOUT.offsets[OPEN.name]] = count

    def handover(self) -> None:
        self._cells[LAYOUT.offsets[HANDOVERS.name]] += 1

    def agreement(self, aead: Aead) -> None:
        self._cells[AEAD_CELL[aead]] += 1

    def handshake(self, seconds: float, group: str) -> None:
        """A handshake that took so long and used this group, by OpenSSL's name."""
        self._cells[_GROUP_CELL.get(group.lower(), _GROUP_CELL["other"])] += 1
        self._cells[_HANDSHAKE_CELL + bisect_left(BOUNDS, seconds)] += 1
        self._cells[_HANDSHAKE_CELL + len(HANDSHAKES) - 1] += int(seconds * 1e6)

    def tls_failure(self, *, lost: bool, reason: str) -> None:
        """A session that failed, because the peer is gone (`lost`) or for a reason in OpenSSL's words."""
        self._cells[_FAILURE_CELL["lost" if lost else _failure(reason)]] += 1


def _failure(reason: str) -> str:
    if " alert " in reason:
        return "certificate" if "certificate" in reason or "unknown ca" in reason else "alert"
    if reason in _NOT_TLS:
        return "not_tls"
    if reason == "unsupported protocol":
        return "version"
    if reason.startswith(("no shared ", "no suitable ")):
        return "nothing_shared"
    return "other"
