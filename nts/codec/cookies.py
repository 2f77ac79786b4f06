# SPDX-License-Identifier: MIT
"""Cookies (RFC 8915 section 6), in the layout that this suite shares with its ancestor's servers.

    key identifier, 16 bits | nonce, 16 octets | AES-SIV-CMAC-256 under the master key, with empty associated data, of
    (AEAD algorithm, 16 bits | S2C key | C2S key)

That is 100, 132 or 164 octets for AEAD 15, 16 and 17: one length for each algorithm, a multiple of four.
"""

from __future__ import annotations

from nts.base.errors import AuthError, FormatError
from nts.base.registry import TAG_LENGTH, AeadId
from nts.base.wire import Reader, u16
from nts.codec.aead import SessionKeys
from nts.codec.keyring import KeyRing, MasterKey

NONCE_LENGTH = 16
_OVERHEAD = 2 + NONCE_LENGTH + TAG_LENGTH + 2


def cookie_length(aead: AeadId) -> int:
    """The length of a cookie for a session with this algorithm, in octets."""
    return _OVERHEAD + 2 * aead.key_length


def seal(master: MasterKey, keys: SessionKeys, nonce: bytes) -> bytes:
    """A cookie that carries `keys`, under a nonce of 16 random octets."""
    plaintext = u16(keys.aead) + keys.s2c + keys.c2s
    return u16(master.id) + nonce + master.siv.seal(nonce, plaintext, b"")


def open_cookie(ring: KeyRing, cookie: bytes) -> SessionKeys:
    """The keys in a cookie. AuthError when no key of the ring has sealed it, for whatever reason."""
    reader = Reader(cookie)
    try:
        key_id, nonce = reader.u16(), reader.take(NONCE_LENGTH)
    except FormatError:
        raise AuthError("a cookie that is too short") from None
    master = ring.get(key_id)
    if master is None:
        raise AuthError("a cookie under an unknown master key")
    plaintext = Reader(master.siv.open(nonce, reader.rest(), b""))
    try:
        aead = AeadId(plaintext.u16())
        s2c, c2s = plaintext.take(aead.key_length), plaintext.take(aead.key_length)
    except (FormatError, ValueError):
        raise AuthError("a cookie with foreign contents") from None
    if plaintext.remaining:
        raise AuthError("a cookie with foreign contents")
    return SessionKeys(aead, c2s, s2c)
