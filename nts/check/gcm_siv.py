# SPDX-License-Identifier: MIT
"""NTP under AEAD_AES_128_GCM_SIV, which the suite does not speak: just enough to see which keys a server uses. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from nts.base.errors import FormatError
from nts.base.registry import MIN_UNIQUE_ID, FieldType, Mode
from nts.codec import extensions
from nts.codec.ntp import Header

AEAD_ID = 30
KEY_LENGTH = 16  # octets
NONCE_LENGTH = 12  # octets, as for every request with this algorithm (RFC 8915 section 5.6: N_MAX is 12)


@dataclass(frozen=True)
class Keys:
    """Both keys of a session."""

    c2s: bytes = field(repr=False)
    s2c: bytes = field(repr=False)


def seal(key: bytes, nonce: bytes, plaintext: bytes, head: bytes) -> bytes:
    """An authenticator field over the octets in front of it (RFC 8915 section 5.6)."""
    ciphertext = AESGCMSIV(key).encrypt(nonce, plaintext, head)
    return extensions.encode(FieldType.AUTHENTICATOR, extensions.encode_authenticator(nonce, ciphertext))


def request(keys: Keys, cookie: bytes, draw: Callable[[int], bytes]) -> bytes:
    """A time request; `draw(n)` returns n random octets."""
    header = Header(mode=Mode.CLIENT, transmit=int.from_bytes(draw(8), "big")).encode()
    uid = extensions.encode(FieldType.UNIQUE_IDENTIFIER, draw(MIN_UNIQUE_ID))
    head = header + uid + extensions.encode(FieldType.COOKIE, cookie)
    return head + seal(keys.c2s, draw(NONCE_LENGTH), b"", head)


def is_authentic(keys: Keys, reply: bytes) -> bool:
    """Whether a reply has an authenticator that is good under the S2C key."""
    return sealed_with(keys.s2c, reply)


def sealed_with(key: bytes, packet: bytes) -> bool:
    """Whether a packet has an authenticator that is good under this key."""
    try:
        for f in extensions.walk(packet)[0]:
            if f.type == FieldType.AUTHENTICATOR:
                parts = extensions.decode_authenticator(f.body)
                AESGCMSIV(key).decrypt(parts.nonce, parts.ciphertext, packet[: f.offset])
                return True
    except (FormatError, InvalidTag, ValueError):
        pass
    return False
