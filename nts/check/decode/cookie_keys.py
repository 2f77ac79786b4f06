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
from nts.base.wire import Reader
from nts.codec import cookies
from nts.codec.aead import Aead, SessionKeys
from nts.codec.cookies import Contents
from nts.codec.keyring import KeyRing

MAX_KEYS = 64  # of one file
# What NTPsec speaks, by the length of a key.
_NTPSEC_AEADS = {a.key_length: a for a in (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_384, Aead.AES_SIV_CMAC_512)}
# What chrony speaks, by the length of both keys.
_CHRONY_AEADS = {2 * a.key_length: a for a in (Aead.AES_SIV_CMAC_256, Aead.AES_128_GCM_SIV)}


@dataclass(frozen=True)
class Opened:
    """What a cookie holds."""

    source: str
    """whose keys opened it"""
    key_id: str
    contents: Contents

    @property
    def keys(self) -> SessionKeys:
        """The pair of keys, or the registered one of two."""
        return self.contents[0]


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
            contents = cookies.open_cookie(self.ring, cookie)
        except AuthError:
            return None
        return Opened("master keys", f"{cookie[:2].hex()}", contents)


@dataclass(frozen=True)
class ForeignKey:
    """One key of another server."""

    id: int
    aead: Aead
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class ChronyOpener:
    """A chronyd's keys."""

    keys: tuple[ForeignKey, ...]

    def open(self, cookie: bytes) -> Opened | None:
        key_id = int.from_bytes(cookie[:4], "big")
        for key in self.keys:
            plaintext = _open(cookie, key, b"")
            if key.id == key_id and plaintext is not None and len(plaintext) in _CHRONY_AEADS:
                half = len(plaintext) // 2
                keys = SessionKeys(_CHRONY_AEADS[len(plaintext)], plaintext[:half], plaintext[half:])
                return Opened("chrony's keys", f"{key_id:08X}", (keys,))
        return None


@dataclass(frozen=True)
class NtpsecOpener:
    """An ntpd's keys, of NTPsec."""

    keys: tuple[ForeignKey, ...]

    def open(self, cookie: bytes) -> Opened | None:
        for key in self.keys:
            if cookie[:4] not in (key.id.to_bytes(4, "little"), key.id.to_bytes(4, "big")):
                continue
            plaintext = _open(cookie, key, cookie[: 4 + key.aead.nonce_length])
            keys = None if plaintext is None else _ntpsec_keys(plaintext)
            if keys is not None:
                return Opened("NTPsec's keys", str(key.id), (keys,))
        return None


def _open(cookie: bytes, key: ForeignKey, associated: bytes) -> bytes | None:
    end = 4 + key.aead.nonce_length
    try:
        return key.aead.cipher(key.key).open(cookie[4:end], cookie[end:], associated)
    except AuthError:
        return None


def _ntpsec_keys(plaintext: bytes) -> SessionKeys | None:
    reader = Reader(plaintext)
    try:
        number = reader.take(4)
        aead = Aead(int.from_bytes(number, "little" if number[0] else "big"))
        keys = SessionKeys(aead, reader.take(aead.key_length), reader.take(aead.key_length))
    except (FormatError, ValueError):
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
    if not _NUMBER.fullmatch(row[2]) or int(row[2]) not in set(Aead):
        raise FormatError("a key of chrony's with an unknown algorithm")
    aead = Aead(int(row[2]))
    return ForeignKey(int(row[0], 16), aead, _key(row[1], aead))


def read_ntpsec(text: str) -> NtpsecOpener:
    """An NTPsec server's file `nts-keys`. FormatError when it is none."""
    number, keys = None, []
    for line in text.splitlines()[: 4 + 2 * MAX_KEYS]:
        name, _, rest = line.partition(":")
        value = rest.strip()
        if name == "I" and re.fullmatch(r"[0-9]{1,10}", value) and int(value) < 2**32:
            number = int(value)
        elif name == "K" and number is not None:
            aead = _NTPSEC_AEADS.get(len(value) // 2, Aead.AES_SIV_CMAC_256)
            keys.append(ForeignKey(number, aead, _key(value, aead)))
        elif name not in ("T", "L") and line.strip():
            raise FormatError("not a file of NTPsec's NTS server keys: its lines begin with T:, L:, I: and K:")
    return NtpsecOpener(_some(keys))


def _key(text: str, aead: Aead) -> bytes:
    if not _HEX.fullmatch(text) or len(text) != 2 * aead.key_length:
        raise FormatError("a key that is not hexadecimal, or not as long as its algorithm wants")
    return bytes.fromhex(text)


def _some(keys: list[ForeignKey]) -> tuple[ForeignKey, ...]:
    if not keys:
        raise FormatError("no key in it")
    return tuple(keys)


READERS: dict[str, Callable[[str], Opener]] = {"chrony": read_chrony, "ntpsec": read_ntpsec}
