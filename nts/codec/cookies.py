# SPDX-License-Identifier: MIT
"""Cookies (RFC 8915 section 6), in the layout that the suite shares with its ancestor's servers.

    key identifier, 16 bits | nonce, 16 octets | AES-SIV-CMAC-256 under the master key, with empty associated data, of
    (AEAD algorithm, 16 bits | S2C key | C2S key)

That is 100, 132, 164 and 68 octets for AEAD 15, 16, 17 and 30: one length for each algorithm, a multiple of four.

If the server does not know which exporter context a client of AEAD 30 uses (`aead.possible_contexts`), the cookie holds
both key pairs. Between them, the AEAD number of the second context takes 32 bits. This makes the cookie 104 octets
long: the ancestor takes any cookie of 100 octets for one of AEAD 15.

An association keeps the length of its cookies: no response may be longer than its request, and NTPsec's clients refuse
cookies of another length. A cookie that replaces one of a server whose cookies are four octets shorter or longer has a
nonce of 12 or 20 octets: then it has 64, 96, 104, 136 or 168.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from nts.base.errors import AuthError, FormatError
from nts.base.wire import Reader, u16
from nts.codec import aes_siv, foreign_keys
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import ForeignKey, KeyRing, MasterKey

NONCE_LENGTH = 16
_NONCE_LENGTHS = {64: (12,), 96: (12,), 104: (16, 20), 136: (20,), 168: (20,)}
"""that of the nonce, or those that it may have, by the length of a cookie; of all others NONCE_LENGTH"""

Contents = tuple[SessionKeys, ...]
"""the key pair of a client, or the two pairs that it may use"""
_SECOND_CONTEXT = u16(0) + u16(Aead.AES_SIV_CMAC_256)


class Opened(NamedTuple):
    """What a cookie holds, and which key sealed it."""

    contents: Contents
    key: MasterKey | ForeignKey
    key_age: int
    """how many keys are newer"""


def seal(master: MasterKey | ForeignKey, contents: Contents, nonce: bytes) -> bytes:
    """Make a cookie with these contents, which a key of another server's format must have room for (`sealer`).

    The nonce is random. It has 16 octets, or what `renewal` says.
    """
    if isinstance(master, ForeignKey):
        return foreign_keys.seal(master, contents[0], nonce)
    return u16(master.id) + nonce + master.cipher.seal(nonce, _plaintext(contents), b"")


def seal_many(master: MasterKey | ForeignKey, contents: Contents, nonces: bytes) -> list[bytes]:
    """Make a cookie with these contents for every 16 octets of the nonces: the same as `seal`, by one call of C."""
    each = [nonces[i : i + NONCE_LENGTH] for i in range(0, len(nonces), NONCE_LENGTH)]
    if isinstance(master, ForeignKey):
        return [seal(master, contents, nonce) for nonce in each]
    key_id, sealed = u16(master.id), master.cipher.seal_copies(nonces, NONCE_LENGTH, _plaintext(contents))
    return [key_id + nonce + s for nonce, s in zip(each, sealed, strict=True)]


def sealer(ring: KeyRing, contents: Contents) -> MasterKey | ForeignKey | None:
    """The key for new cookies with these contents; None when there is none.

    It makes cookies of the ring's format, or of our own if that one has no room for these contents.
    """
    current = ring.current
    if current and len(contents) == 1 and contents[0].aead in foreign_keys.AEADS.get(ring.format, ()):
        return current.foreign(ring.format)
    return current


def renewal(ring: KeyRing, old: bytes, contents: Contents) -> tuple[MasterKey | ForeignKey, int]:
    """The key for cookies that replace this one, with its contents, and the octets of their nonces: they are as long.

    They have the ring's format if that makes them as long, else our own. The ring must have a key.
    """
    key = sealer(ring, contents)
    assert key is not None
    if isinstance(key, ForeignKey) and foreign_keys.cookie_length(key.format, contents[0].aead) == len(old):
        return key, NONCE_LENGTH
    assert ring.current is not None
    return ring.current, len(old) - 2 - aes_siv.TAG_LENGTH - len(_plaintext(contents))


def _plaintext(contents: Contents) -> bytes:
    first, *others = contents
    plaintext = u16(first.aead) + first.s2c + first.c2s
    for keys in others:
        plaintext += _SECOND_CONTEXT + keys.s2c + keys.c2s
    return plaintext


def open_cookie(ring: KeyRing, cookie: bytes) -> Contents:
    """Return the contents of a cookie. AuthError unless a key of the ring sealed it."""
    return opened(ring, cookie).contents


def opened(ring: KeyRing, cookie: bytes) -> Opened:
    """The same, and which key it was."""
    for key, age in ring.foreign(cookie):
        if (keys := foreign_keys.open_cookie(key, cookie)) is not None:
            return Opened((keys,), key, age)
    reader = Reader(cookie)
    try:
        key_id, rest = reader.u16(), reader.rest()
    except FormatError:
        raise AuthError("the cookie is too short") from None
    master = ring.get(key_id)
    if master is None:
        raise AuthError("the cookie was sealed with an unknown master key")
    return Opened(_open(master, rest, len(cookie)), master, ring.age(key_id))


def _open(master: MasterKey, sealed: bytes, length: int) -> Contents:
    """What is behind the identifier of one of our cookies."""
    plaintext = None
    for nonce_length in _NONCE_LENGTHS.get(length, (NONCE_LENGTH,)):
        with suppress(AuthError):
            plaintext = master.cipher.open(sealed[:nonce_length], sealed[nonce_length:], b"")
    if plaintext is None:
        raise AuthError("the cookie is not authentic")
    try:
        return _parse(Reader(plaintext))
    except (FormatError, ValueError):
        raise AuthError("the cookie has unknown contents") from None


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
