# SPDX-License-Identifier: MIT
"""Faults before the first record: TLS version, ALPN, certificates (RFC 8915 sections 3 and 4)."""

from __future__ import annotations

from dataclasses import replace

from nts.check.peer.faults.register import Expected, Register
from nts.check.peer.ke import TLS_1_2, no_alpn
from nts.system import tls

FAULTS = Register()

_TLS = "client and server negotiate TLS 1.3 or newer, or the handshake fails"
_ALPN = "without the application protocol ntske/1 there is no NTS-KE"
_CERTIFICATE = "the server's certificate must be valid, for the server's name, and from a CA that the client trusts"


_NAMES = ("localhost", "127.0.0.1", "::1")


def _refuse(_offered: list[bytes]) -> bytes | None:
    raise tls.AlpnRefused("ntske/1 refused")


FAULTS.change(
    "tls12-only", "speaks only TLS 1.2", "3", _TLS, Expected.SEND_NOTHING,
    lambda b, _: replace(b, oldest=TLS_1_2, newest=TLS_1_2),
)  # fmt: skip
FAULTS.change(
    "no-alpn", "ignores ALPN", "4", _ALPN, Expected.SEND_NOTHING,
    lambda b, _: replace(b, alpn=no_alpn, needs_alpn=False),
)  # fmt: skip
FAULTS.change(
    "alpn-refused", "refuses ntske/1 with alert 120", "4", _ALPN, Expected.SEND_NOTHING,
    lambda b, _: replace(b, alpn=_refuse),
)  # fmt: skip
FAULTS.change(
    "expired-certificate", "has a certificate that expired yesterday", "3", _CERTIFICATE, Expected.SEND_NOTHING,
    lambda b, a: replace(b, certificate=a.issue(names=_NAMES, days=(-2, -1))),
)  # fmt: skip
FAULTS.change(
    "future-certificate", "has a certificate that is valid from tomorrow", "3", _CERTIFICATE, Expected.SEND_NOTHING,
    lambda b, a: replace(b, certificate=a.issue(names=_NAMES, days=(1, 2))),
)  # fmt: skip
FAULTS.change(
    "wrong-name-certificate", "has a certificate for other.example", "3", _CERTIFICATE, Expected.SEND_NOTHING,
    lambda b, a: replace(b, certificate=a.issue(names=("other.example",))),
)  # fmt: skip
FAULTS.change(
    "common-name-certificate", "has a certificate with its name only in the common name", "3",
    "the names of a certificate are its subject alternative names (RFC 9525)", Expected.SEND_NOTHING,
    lambda b, a: replace(b, certificate=a.issue(names=(), common_name="localhost")),
)  # fmt: skip
FAULTS.change(
    "self-signed", "has a self-signed certificate", "3", _CERTIFICATE, Expected.SEND_NOTHING,
    lambda b, a: replace(b, certificate=a.issue(names=_NAMES, self_signed=True)),
)  # fmt: skip
