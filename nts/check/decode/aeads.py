# SPDX-License-Identifier: MIT
"""The AEAD algorithms that NTS traffic is protected with, by number: those of the suite, and AES-GCM-SIV (RFC 8452).

The suite's servers and clients do not speak AES-GCM-SIV, but chrony does, in packets and in cookies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from nts.base.errors import AuthError
from nts.base.registry import AeadId
from nts.check import gcm_siv
from nts.codec.aead import AesSiv

GCM_SIV = {gcm_siv.AEAD_ID: gcm_siv.KEY_LENGTH, 31: 32}
"""key lengths in octets"""
KEY_LENGTHS: dict[int, int] = {**{int(a): a.key_length for a in AeadId}, **GCM_SIV}


@dataclass(frozen=True)
class Keys:
    """The algorithm and the keys of an association."""

    aead: int
    c2s: bytes = field(repr=False)
    s2c: bytes = field(repr=False)


def open_sealed(aead: int, key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """The plaintext. AuthError when it is not authentic, or the algorithm is not to be had."""
    if aead not in GCM_SIV:
        return AesSiv(key).open(nonce, ciphertext, associated)
    try:
        return AESGCMSIV(key).decrypt(nonce, ciphertext, associated)
    except (InvalidTag, ValueError):  # ValueError: of a nonce that is too short or too long
        raise AuthError("the AEAD tag does not match") from None
    except UnsupportedAlgorithm:
        raise AuthError("this OpenSSL has no AES-GCM-SIV") from None
