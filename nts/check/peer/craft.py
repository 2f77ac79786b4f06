# SPDX-License-Identifier: MIT
"""Octets that break rules on purpose, which the suite's own codecs refuse to make. Pure, except for random cookies."""

from __future__ import annotations

import os

from nts.base.registry import Protocol, RecordType
from nts.base.wire import pad4
from nts.check.ke.forge import record
from nts.check.ntp.forge import raw_field
from nts.codec.aead import Aead
from nts.codec.records import encode_u16s

__all__ = ["END", "field", "random_cookies", "record", "response"]

END = record(RecordType.END_OF_MESSAGE)


def field(kind: int, body: bytes) -> bytes:
    """An extension field, padded to four octets but not to any minimum."""
    return raw_field(kind, pad4(body))


def random_cookies(count: int = 8, length: int = 100) -> list[bytes]:
    """Octets that look like cookies, but that no server can open."""
    return [os.urandom(length) for _ in range(count)]


def response(
    *, protocols: bytes | None = encode_u16s(Protocol.NTPV4),
    aeads: bytes | None = encode_u16s(Aead.AES_SIV_CMAC_256), cookies: list[bytes] | None = None,
    more: bytes = b"", end: bytes = END,
) -> bytes:  # fmt: skip
    """An NTS-KE response, by default a valid one. None leaves a record out."""
    parts = [
        b"" if protocols is None else record(RecordType.NEXT_PROTOCOL, protocols),
        b"" if aeads is None else record(RecordType.AEAD_ALGORITHM, aeads),
        more,
        *(record(RecordType.NEW_COOKIE, c, critical=False) for c in (random_cookies() if cookies is None else cookies)),
        end,
    ]
    return b"".join(parts)
