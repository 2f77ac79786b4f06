# SPDX-License-Identifier: MIT
"""Master keys and cookies of other servers: chrony's and NTPsec's.

A cookie holds, in octets, before the ciphertext that the AEAD makes of the keys:

    chrony  key identifier 4 | nonce 16, or 12 for AES-GCM-SIV | C2S, S2C; associated data: none
    NTPsec  key identifier 4 | nonce 16 | algorithm 4, C2S, S2C; associated data: the first 20; numbers in host order

In a chrony cookie, the length of the keys tells the algorithm. chrony's key file begins with NKS1 and an age; then each
line is an identifier, a key and an AEAD algorithm. NKS0, up to chrony 4.3, has one algorithm beside the age instead.
NTPsec's key file has lines `I: identifier` and `K: key`, after lines with a time (T:) and a length (L:).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nts.base.errors import AuthError, FormatError
from nts.base.wire import Reader
from nts.codec.aead import Aead, SessionKeys

MAX_KEYS = 64  # of one file
# What NTPsec speaks, by the length of a key.
_NTPSEC_AEADS = {a.key_length: a for a in (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_384, Aead.AES_SIV_CMAC_512)}
# What chrony speaks, by the length of both keys.
_CHRONY_AEADS = {2 * a.key_length: a for a in (Aead.AES_SIV_CMAC_256, Aead.AES_128_GCM_SIV)}
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,64}")
_ID = re.compile(r"[0-9a-fA-F]{8}")
_NUMBER = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class ForeignKey:
    """One master key of another server."""

    id: int
    aead: Aead
    key: bytes = field(repr=False)

    def unseal(self, cookie: bytes, associated: bytes) -> bytes | None:
        """The plaintext of a cookie; None when it is not authentic under this key."""
        end = 4 + self.aead.nonce_length
        try:
            return self.aead.cipher(self.key).open(cookie[4:end], cookie[end:], associated)
        except AuthError:
            return None


# --- cookies ---------------------------------------------------------------------------------------------------------


def open_chrony(key: ForeignKey, cookie: bytes) -> SessionKeys | None:
    """The keys in a cookie of chronyd; None when it was not made with this key."""
    plaintext = key.unseal(cookie, b"") if cookie[:4] == key.id.to_bytes(4, "big") else None
    if plaintext is None or len(plaintext) not in _CHRONY_AEADS:
        return None
    half = len(plaintext) // 2
    return SessionKeys(_CHRONY_AEADS[len(plaintext)], plaintext[:half], plaintext[half:])


def open_ntpsec(key: ForeignKey, cookie: bytes) -> SessionKeys | None:
    """The keys in a cookie of NTPsec's ntpd; None when it was not made with this key."""
    if cookie[:4] not in (key.id.to_bytes(4, "little"), key.id.to_bytes(4, "big")):
        return None
    plaintext = key.unseal(cookie, cookie[: 4 + key.aead.nonce_length])
    if plaintext is None:
        return None
    reader = Reader(plaintext)
    try:
        number = reader.take(4)
        aead = Aead(int.from_bytes(number, "little" if number[0] else "big"))
        keys = SessionKeys(aead, reader.take(aead.key_length), reader.take(aead.key_length))
    except (FormatError, ValueError):
        return None
    return None if reader.remaining else keys


# --- key files -------------------------------------------------------------------------------------------------------


def read_chrony(text: str) -> tuple[ForeignKey, ...]:
    """The keys in chronyd's file `ntskeys`. FormatError when it is not one."""
    head, *lines = text.splitlines() or [""]
    words = [line.split() for line in lines if line.strip()]
    if head not in ("NKS0", "NKS1") or not words or len(words[0]) != (2 if head == "NKS0" else 1):
        raise FormatError("not a file of chrony's NTS server keys: it would begin with NKS0 or NKS1")
    common = [words[0][0]] if head == "NKS0" else []
    return _some([_chrony_key([*row, *common]) for row in words[1 : 1 + MAX_KEYS]])


def _chrony_key(row: list[str]) -> ForeignKey:
    if len(row) != 3 or not _ID.fullmatch(row[0]):
        raise FormatError("a line of chrony's key file is not an identifier, a key and an algorithm")
    if not _NUMBER.fullmatch(row[2]) or int(row[2]) not in set(Aead):
        raise FormatError("a key of chrony's has an unknown algorithm")
    aead = Aead(int(row[2]))
    return ForeignKey(int(row[0], 16), aead, _key(row[1], aead))


def read_ntpsec(text: str) -> tuple[ForeignKey, ...]:
    """The keys in an NTPsec server's file `nts-keys`. FormatError when it is not one."""
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
    return _some(keys)


def _key(text: str, aead: Aead) -> bytes:
    if not _HEX.fullmatch(text) or len(text) != 2 * aead.key_length:
        raise FormatError("a key is not hexadecimal, or not as long as its algorithm requires")
    return bytes.fromhex(text)


def _some(keys: list[ForeignKey]) -> tuple[ForeignKey, ...]:
    if not keys:
        raise FormatError("the file holds no key")
    return tuple(keys)
