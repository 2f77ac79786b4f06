# SPDX-License-Identifier: MIT
"""Opens cookies with the master keys of a server: this suite's, chrony's, NTPsec's or ntpd-rs's.

`foreign_keys` has the formats that our servers can share with others. That of ntpd-rs is read here alone:

    cookie    key identifier 4 | length of the ciphertext 2 | nonce 16 | AES-SIV-CMAC-512, with empty associated data,
              of (AEAD algorithm 2 | S2C | C2S) | perhaps more, which the server ignores
    key file  time 8 | identifier of the first key 4 | place of the current one 4 | number of keys 4 | 64 for each key

A key's identifier is that of the first plus its place, in 32 bits. All numbers are in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from nts.base.errors import AuthError, FormatError
from nts.base.wire import Reader
from nts.codec import cookies, foreign_keys
from nts.codec.aead import Aead, Cipher, SessionKeys
from nts.codec.cookies import Contents
from nts.codec.foreign_keys import MAX_KEYS
from nts.codec.keyring import ForeignKey, KeyRing

_NTPD_RS_AEAD = Aead.AES_SIV_CMAC_512


@dataclass(frozen=True)
class Opened:
    """What a cookie holds."""

    source: str
    """whose keys opened it"""
    key_id: str
    contents: Contents

    @property
    def keys(self) -> SessionKeys:
        """The pair of keys; if there are two, the one with the registered exporter context."""
        return self.contents[0]


class Opener(Protocol):
    """The master keys of one server."""

    def open(self, cookie: bytes) -> Opened | None:
        """What a cookie holds; None when it was not made with these keys."""
        ...


@dataclass(frozen=True)
class OurOpener:
    """A folder of master keys of this suite, or of its ancestor."""

    ring: KeyRing

    def open(self, cookie: bytes) -> Opened | None:
        try:
            contents, key, _ = cookies.opened(self.ring, cookie)
        except AuthError:
            return None
        return Opened("master keys", f"{key.id:04x}", contents)


@dataclass(frozen=True)
class ForeignOpener:
    """The keys of another server."""

    source: str
    keys: tuple[ForeignKey, ...] = field(repr=False)
    id_format: str
    """how that server writes a key identifier"""

    def open(self, cookie: bytes) -> Opened | None:
        for key in self.keys:
            for candidate in key.in_each_order:
                found = foreign_keys.open_cookie(candidate, cookie)
                if found is not None:
                    return Opened(self.source, format(key.id, self.id_format), (found,))
        return None


@dataclass(frozen=True)
class NtpdRsOpener:
    """The keys of an ntpd-rs server."""

    ciphers: dict[int, Cipher] = field(repr=False)
    """by identifier"""

    def open(self, cookie: bytes) -> Opened | None:
        reader = Reader(cookie)
        try:
            key_id, length = struct.unpack(">IH", reader.take(6))
            nonce = reader.take(_NTPD_RS_AEAD.nonce_length)
            plaintext = Reader(self.ciphers[key_id].open(nonce, reader.take(length), b""))
            aead = Aead(plaintext.u16())
            s2c, c2s = plaintext.take(aead.key_length), plaintext.take(aead.key_length)
        except (AuthError, FormatError, KeyError, ValueError):
            return None
        return None if plaintext.remaining else Opened("ntpd-rs's keys", str(key_id), (SessionKeys(aead, c2s, s2c),))


def chrony_opener(text: str) -> Opener:
    """An opener with the keys in chronyd's file `ntskeys`. FormatError when it is not one."""
    return ForeignOpener("chrony's keys", foreign_keys.read_chrony(text), "08X")


def ntpsec_opener(text: str) -> Opener:
    """An opener with the keys in an NTPsec server's file `nts-keys`. FormatError when it is not one."""
    return ForeignOpener("NTPsec's keys", foreign_keys.read_ntpsec(text), "d")


def ntpd_rs_opener(octets: bytes) -> Opener:
    """An opener with the keys in an ntpd-rs server's `key-storage-path`. FormatError when it is no such file."""
    reader = Reader(octets)
    try:
        first, current, count = struct.unpack(">8xIII", reader.take(20))
        if not current < count <= MAX_KEYS:
            raise FormatError("the number of keys is impossible")
        keys = [reader.take(_NTPD_RS_AEAD.key_length) for _ in range(count)]
    except FormatError as e:
        raise FormatError(f"not a file of ntpd-rs's keys: {e}") from None
    if reader.remaining:
        raise FormatError("not a file of ntpd-rs's keys: octets after the last key")
    return NtpdRsOpener({(first + place) % 2**32: _NTPD_RS_AEAD.cipher(key) for place, key in enumerate(keys)})


def _of_text(read: Callable[[str], Opener]) -> Callable[[bytes], Opener]:
    return lambda octets: read(octets.decode("ascii", errors="replace"))


OPENERS: dict[str, Callable[[bytes], Opener]] = {
    "chrony": _of_text(chrony_opener), "ntpsec": _of_text(ntpsec_opener), "ntpd_rs": ntpd_rs_opener,
}  # fmt: skip
"""what makes an opener of a key file's octets"""
