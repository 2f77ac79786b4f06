# SPDX-License-Identifier: MIT
"""Faults before the first record: TLS version, ALPN, certificates (RFC 8915 sections 3 and 4)."""

from __future__ import annotations

from dataclasses import replace

from nts.check.peer.faults.register import Expected, Register
from nts.check.peer.ke import TLS_1_2, no_alpn
from nts.system import tls

FAULTS = Register()

_NAMES = ("localhost", "127.0.0.1", "::1")


def _refuse(_offered: list[bytes]) -> bytes | None:
    raise tls.AlpnRefused("ntske/1 refused")


FAULTS.change(
    "3", "client and server negotiate TLS 1.3 or newer, or the handshake fails", Expected.SEND_NOTHING,
    ("tls12-only", "speaks only TLS 1.2", lambda b, _: replace(b, oldest=TLS_1_2, newest=TLS_1_2)),
)  # fmt: skip
FAULTS.change(
    "4", "without the application protocol ntske/1 there is no NTS-KE", Expected.SEND_NOTHING,
    ("no-alpn", "ignores ALPN", lambda b, _: replace(b, alpn=no_alpn, needs_alpn=False)),
    ("alpn-refused", "refuses ntske/1 with alert 120", lambda b, _: replace(b, alpn=_refuse)),
)  # fmt: skip
FAULTS.change(
    "3", "the server's certificate must be valid, for the server's name, and from a CA that the client trusts",
    Expected.SEND_NOTHING,
    ("expired-certificate", "has a certificate that expired yesterday",
     lambda b, a: replace(b, certificate=a.issue(names=_NAMES, days=(-2, -1)))),
    ("future-certificate", "has a certificate that is valid from tomorrow",
     lambda b, a: replace(b, certificate=a.issue(names=_NAMES, days=(1, 2)))),
    ("wrong-name-certificate", "has a certificate for other.example",
     lambda b, a: replace(b, certificate=a.issue(names=("other.example",)))),
    ("self-signed", "has a self-signed certificate",
     lambda b, a: replace(b, certificate=a.issue(names=_NAMES, self_signed=True))),
)  # fmt: skip
FAULTS.change(
    "3", "names are subject alternative names; RFC 6125 allows the common name as a last resort",
    Expected.EITHER,
    ("common-name-certificate", "has a certificate with its name only in the common name",
     lambda b, a: replace(b, certificate=a.issue(names=(), common_name="localhost"))),
)  # fmt: skip
