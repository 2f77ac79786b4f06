# SPDX-License-Identifier: MIT
"""Which TLS groups a server offers, the favourite first: it is asked with ClientHellos that have no key share.

A server that has one of the groups names it in a HelloRetryRequest, any other sends an alert (RFC 8446 section 4.1.4).
Whatever chose the groups, the library or a configuration file: the answer tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from nts.base.registry import ALPN
from nts.base.wire import Reader, u16

NUMBERS = {
    "X25519MLKEM768": 0x11EC, "SecP256r1MLKEM768": 0x11EB, "SecP384r1MLKEM1024": 0x11ED, "MLKEM512": 0x0200,
    "MLKEM768": 0x0201, "MLKEM1024": 0x0202, "x25519": 29, "x448": 30, "secp256r1": 23, "secp384r1": 24,
    "secp521r1": 25, "brainpoolP256r1tls13": 31, "brainpoolP384r1tls13": 32, "brainpoolP512r1tls13": 33,
    "ffdhe2048": 0x0100, "ffdhe3072": 0x0101, "ffdhe4096": 0x0102, "ffdhe6144": 0x0103, "ffdhe8192": 0x0104,
}  # fmt: skip
"""those that servers may have, by OpenSSL's name, in the IANA registry"""

_SIGNATURES = (0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080A, 0x080B, 0x0401)
_CIPHERS = (0x1301, 0x1302, 0x1303)
_HANDSHAKE = 22  # a TLS record of that type, not an alert
_KEY_SHARE = 51


def offered(answer: Callable[[bytes], bytes]) -> tuple[str, ...]:
    """The groups of a server that answers so to the octets of a ClientHello, in its order of preference."""
    left, found = {number: name for name, number in NUMBERS.items()}, []
    while (selected := _selected(answer(_hello(left)))) in left:
        found.append(left.pop(selected))
    return tuple(found)


def _selected(answer: bytes) -> int:
    """The group that a HelloRetryRequest names; 0 if it is none."""
    if answer[:1] != bytes([_HANDSHAKE]):
        return 0
    message = Reader(answer)
    message.take(5 + 4 + 2 + 32)  # the headers of record and message, version, random
    message.take(message.take(1)[0])  # session
    message.take(2 + 1 + 2)  # cipher suite, compression, length of the extensions
    while message.remaining:
        kind, body = message.u16(), message.take(message.u16())
        if kind == _KEY_SHARE and len(body) == 2:
            return int.from_bytes(body, "big")
    return 0


def _hello(groups: Iterable[int]) -> bytes:
    extensions = b"".join((
        _extension(43, _vector8(u16(0x0304))),  # supported_versions: TLS 1.3
        _extension(10, _vector16(b"".join(map(u16, groups)))),  # supported_groups
        _extension(13, _vector16(b"".join(map(u16, _SIGNATURES)))),  # signature_algorithms
        _extension(_KEY_SHARE, _vector16(b"")),  # key_share
        _extension(16, _vector16(_vector8(ALPN))),  # application_layer_protocol_negotiation
    ))  # fmt: skip
    body = u16(0x0303) + os.urandom(32) + _vector8(b"") + _vector16(b"".join(map(u16, _CIPHERS))) + _vector8(b"\0")
    body += _vector16(extensions)
    message = b"\x01\0" + _vector16(body)
    return bytes([_HANDSHAKE, 3, 1]) + _vector16(message)


def _extension(kind: int, body: bytes) -> bytes:
    return u16(kind) + _vector16(body)


def _vector8(body: bytes) -> bytes:
    return bytes([len(body)]) + body


def _vector16(body: bytes) -> bytes:
    return u16(len(body)) + body
