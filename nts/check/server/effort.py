# SPDX-License-Identifier: MIT
"""How many connections and packets the checks need with a server that answers, to say how long a run takes."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nts.check.model import Check
from nts.check.server.probe import ServerProbe

FACTS = (7, 3)
"""connections and packets of the fact sheet, with four algorithms"""
EFFORT = {
    "tls13-only": (2, 0), "alpn-absent": (2, 0), "alpn-wrong": (2, 0), "ke-segmented": (2, 0),
    "ke-noncrit-unknown": (3, 0), "ke-npn-malformed": (3, 0), "ke-aead-malformed": (2, 0), "ke-eom-malformed": (4, 0),
    "ke-truncated": (6, 0), "ke-client-forbidden": (3, 0), "ke-aead-menu": (5, 0), "ke-1024-record": (2, 2),
    "ke-server-port": (2, 0), "ntp-basic": (0, 1), "ntp-no-amplify": (0, 13), "ntp-placeholder-badlen": (0, 9),
    "ntp-cookie-chain": (0, 9), "ntp-bitflip-sweep": (0, 69), "ntp-nonce-short-nopad": (0, 7),
    "ntp-cardinality": (0, 34), "ntp-uid-lengths": (0, 10), "ntp-modes-versions": (0, 52),
    "ntp-malformed-sweep": (0, 87), "ntp-plain": (0, 6), "ntp-aeads": (4, 4), "cookie-opaque": (1, 1),
    "ntp-time": (1, 2),
}  # fmt: skip
_CONNECTION, _PACKETS = (1, 0), (0, 3)
"""of a check that is not in the table: of the key exchange, of NTP"""


def seconds(checks: Iterable[Check[ServerProbe]], pace: float, ke_pace: float) -> float:
    """The least time of a run, with its fact sheet. A server that is silent, or limits the rate, makes it longer."""
    usual = {True: _PACKETS, False: _CONNECTION}
    efforts = [FACTS, *(EFFORT.get(c.name, usual[c.name.startswith(("ntp-", "nak-"))]) for c in checks)]
    return sum(connections * ke_pace + packets * pace for connections, packets in efforts)


def about(seconds: float) -> str:
    """A time that is only an estimate, in words."""
    if seconds < 120:
        return f"about {math.ceil(seconds)} s"
    return f"about {round(seconds / 60)} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"
