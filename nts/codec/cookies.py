# SPDX-License-Identifier: MIT
"""Cookies (RFC 8915 section 6), in the layout that the suite shares with its ancestor's servers.

    key identifier, 16 bits | nonce, 16 octets | AES-SIV-CMAC-256 under the master key, with empty associated data, of
    (AEAD algorithm, 16 bits | S2C key | C2S key)

That is 100, 132, 164 and 68 octets for AEAD 15, 16, 17 and 30: one length for each algorithm, a multiple of four.

If the server does not know which exporter context a client of AEAD 30 uses (`aead.possible_contexts`), the cookie holds
both key pairs. Between them, the AEAD number of the second context takes 32 bits. This makes the cookie 104 octets
long: the ancestor takes any cookie of 100 octets for one of AEAD 15.
"""

from __future__ import annotations

from nts.base.errors import AuthError, FormatError
from nts.base.wire import Reader, u16
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing, MasterKey

NONCE_LENGTH = 16

Contents = tuple[SessionKeys, ...]
"""the key pair of a client, or the two pairs that it may use"""
_SECOND_CONTEXT = u16(0) + u16(Aead.AES_SIV_CMAC_256)


def seal(master: MasterKey, contents: Contents, nonce: bytes) -> bytes:
    """Make a cookie with these contents. The nonce has 16 random octets."""
    return u16(master.id) + nonce + master.cipher.seal(nonce, _plaintext(contents), b"")


def seal_many(master: MasterKey, contents: Contents, nonces: bytes) -> list[bytes]:
    """Make a cookie with these contents for every 16 octets of the nonces: the same as `seal`, by one call of C."""
    key_id, sealed = u16(master.id), master.cipher.seal_copies(nonces, NONCE_LENGTH, _plaintext(contents))
    return [key_id + nonces[i * NONCE_LENGTH : (i + 1) * NONCE_LENGTH] + s for i, s in enumerate(sealed)]


def _plaintext(contents: Contents) -> bytes:
    first, *others = contents
    plaintext = u16(first.aead) + first.s2c + first.c2s
    for keys in others:
        plaintext += _SECOND_CONTEXT + keys.s2c + keys.c2s
    return plaintext


def open_cookie(ring: KeyRing, cookie: bytes) -> Contents:
    """Return the contents of a cookie. AuthError unless a key of the ring sealed it."""
    reader = Reader(cookie)
    try:
        key_id, nonce = reader.u16(), reader.take(NONCE_LENGTH)
    except FormatError:
        raise AuthError("the cookie is too short") from None
    master = ring.get(key_id)
    if master is None:
        raise AuthError("the cookie was sealed with an unknown master key")
    try:
        return _parse(Reader(master.cipher.open(nonce, reader.rest(), b"")))
    except (FormatError, ValueError):
        raise AuthError("the cookie has unknown contents") from None


def key_id(cookie: bytes) -> int:
    """The identifier of the master key that sealed a cookie, which must not be shorter than that."""
    return Reader(cookie).u16()


def _parse(plaintext: Reader) -> Contents:
    """Parse what `seal` encrypts. FormatError or ValueError when it is anything else."""
    aead = Aead(plaintext.u16())
    contents = [_pair(plaintext, aead)]
    if plaintext.remaining and aead is Aead.AES_128_GCM_SIV and plaintext.take(4) == _SECOND_CONTEXT:
        contents.append(_pair(plaintext, aead))
    if plaintext.remaining:
        raise FormatError("octets after the keys")
    return tuple(contents)


def _pair(plaintext: Reader, aead: Aead) -> SessionKeys:
    s2c, c2s = plaintext.take(aead.key_length), plaintext.take(aead.key_length)
    return SessionKeys(aead, c2s, s2c)
