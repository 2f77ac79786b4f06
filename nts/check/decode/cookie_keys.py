# SPDX-License-Identifier: MIT
"""Opens cookies with the master keys of a server: our own, chrony's, ntpsec's.

The formats of the others, by their numbers in octets (each is followed by what the AEAD makes of the keys):

    chrony  key identifier 4 | nonce 16, or 12 under AES-GCM-SIV | C2S, S2C; associated data: none
    ntpsec  key identifier 4 | nonce 16 | algorithm 4, C2S, S2C; associated data: the first 20; numbers in host order

chrony tells the algorithm by the keys' length. Its key file begins with NKS1 and an age; then each line is an
identifier, a key and an AEAD algorithm. NKS0, up to chrony 4.3, has the algorithm beside the age. ntpsec's has lines
`I: identifier` and `K: key`, both after a time and a length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from nts.base.errors import AuthError, FormatError
from nts.base.registry import AeadId
from nts.base.wire import Reader
from nts.check import gcm_siv
from nts.check.decode.aeads import GCM_SIV, KEY_LENGTHS, Keys, open_sealed
from nts.codec import cookies
from nts.codec.keyring import KeyRing

MAX_KEYS = 64  # of one file
_SIV_NONCE = 16
_CHRONY_AEADS = {
    2 * 32: int(AeadId.AES_SIV_CMAC_256),
    2 * gcm_siv.KEY_LENGTH: gcm_siv.AEAD_ID,
}  # by the length of both keys


@dataclass(frozen=True)
class Opened:
    """What a cookie holds."""

    source: str
    """whose keys opened it"""
    key_id: str
    keys: Keys


class Opener(Protocol):
    """The master keys of one server."""

    def open(self, cookie: bytes) -> Opened | None:
        """What a cookie holds; None when it was not made with these keys."""
        ...


@dataclass(frozen=True)
class OurOpener:
    """Our own folder of master keys, or the ancestor's."""

    ring: KeyRing

    def open(self, cookie: bytes) -> Opened | None:
        try:
            keys = cookies.open_cookie(self.ring, cookie)
        except AuthError:
            return None
        return Opened("master keys", f"{cookie[:2].hex()}", Keys(int(keys.aead), keys.c2s, keys.s2c))


@dataclass(frozen=True)
class ForeignKey:
    """One key of another server."""

    id: int
    aead: int
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class ChronyOpener:
    """A chronyd's keys."""

    keys: tuple[ForeignKey, ...]

    def open(self, cookie: bytes) -> Opened | None:
        key_id = int.from_bytes(cookie[:4], "big")
        for key in self.keys:
            plaintext = _open(cookie, key, gcm_siv.NONCE_LENGTH if key.aead in GCM_SIV else _SIV_NONCE, b"")
            if key.id == key_id and plaintext is not None and len(plaintext) in _CHRONY_AEADS:
                half = len(plaintext) // 2
                keys = Keys(_CHRONY_AEADS[len(plaintext)], plaintext[:half], plaintext[half:])
                return Opened("chrony's keys", f"{key_id:08X}", keys)
        return None


@dataclass(frozen=True)
class NtpsecOpener:
    """An ntpd's keys, of NTPsec."""

    keys: tuple[ForeignKey, ...]

    def open(self, cookie: bytes) -> Opened | None:
        for key in self.keys:
            if cookie[:4] not in (key.id.to_bytes(4, "little"), key.id.to_bytes(4, "big")):
                continue
            plaintext = _open(cookie, key, _SIV_NONCE, cookie[: 4 + _SIV_NONCE])
            keys = None if plaintext is None else _ntpsec_keys(plaintext)
            if keys is not None:
                return Opened("NTPsec's keys", str(key.id), keys)
        return None


def _open(cookie: bytes, key: ForeignKey, nonce_length: int, associated: bytes) -> bytes | None:
    nonce, ciphertext = cookie[4 : 4 + nonce_length], cookie[4 + nonce_length :]
    try:
        return open_sealed(key.aead, key.key, nonce, ciphertext, associated)
    except AuthError:
        return None


def _ntpsec_keys(plaintext: bytes) -> Keys | None:
    reader = Reader(plaintext)
    try:
        number = reader.take(4)
        aead = int.from_bytes(number, "little" if number[0] else "big")
        size = KEY_LENGTHS.get(aead, -1)
        keys = Keys(aead, reader.take(size), reader.take(size)) if size > 0 else None
    except FormatError:
        return None
    return None if reader.remaining else keys


# --- key files --------------------------------------------------------------------------------------------------------

_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,64}")
_ID = re.compile(r"[0-9a-fA-F]{8}")
_NUMBER = re.compile(r"[0-9]{1,5}")


def read_chrony(text: str) -> ChronyOpener:
    """A chronyd's file `ntskeys`. FormatError when it is none."""
    head, *lines = text.splitlines() or [""]
    words = [line.split() for line in lines if line.strip()]
    if head not in ("NKS0", "NKS1") or not words or len(words[0]) != (2 if head == "NKS0" else 1):
        raise FormatError("not a file of chrony's NTS server keys: it would begin with NKS0 or NKS1")
    common = [words[0][0]] if head == "NKS0" else []
    keys = [_chrony_key([*row, *common]) for row in words[1 : 1 + MAX_KEYS]]
    return ChronyOpener(_some(keys))


def _chrony_key(row: list[str]) -> ForeignKey:
    if len(row) != 3 or not _ID.fullmatch(row[0]):
        raise FormatError("a line of chrony's key file is not an identifier, a key and an algorithm")
    aead = int(row[2]) if _NUMBER.fullmatch(row[2]) else 0
    return ForeignKey(int(row[0], 16), aead, _key(row[1], KEY_LENGTHS.get(aead, 0)))


def read_ntpsec(text: str) -> NtpsecOpener:
    """An NTPsec server's file `nts-keys`. FormatError when it is none."""
    number, keys = None, []
    for line in text.splitlines()[: 4 + 2 * MAX_KEYS]:
        name, _, rest = line.partition(":")
        value = rest.strip()
        if name == "I" and re.fullmatch(r"[0-9]{1,10}", value) and int(value) < 2**32:
            number = int(value)
        elif name == "K" and number is not None:
            aead = {int(a.key_length): int(a) for a in AeadId}.get(len(value) // 2, 0)
            keys.append(ForeignKey(number, aead, _key(value, KEY_LENGTHS.get(aead, 0))))
        elif name not in ("T", "L") and line.strip():
            raise FormatError("not a file of NTPsec's NTS server keys: its lines begin with T:, L:, I: and K:")
    return NtpsecOpener(_some(keys))


def _key(text: str, length: int) -> bytes:
    if not _HEX.fullmatch(text) or len(text) != 2 * length:
        raise FormatError("a key that is not hexadecimal, or not as long as its algorithm wants")
    return bytes.fromhex(text)


def _some(keys: list[ForeignKey]) -> tuple[ForeignKey, ...]:
    if not keys:
        raise FormatError("no key in it")
    return tuple(keys)


READERS: dict[str, Callable[[str], Opener]] = {"chrony": read_chrony, "ntpsec": read_ntpsec}
