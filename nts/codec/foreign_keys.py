# SPDX-License-Identifier: MIT
"""Master keys and cookies of other servers: chrony's and NTPsec's.

A cookie holds, in octets, before the ciphertext that the AEAD makes of the keys:

    chrony  key identifier 4 | nonce 16, or 12 for AES-GCM-SIV | C2S, S2C; associated data: none
    NTPsec  key identifier 4 | nonce 16 | algorithm 4, C2S, S2C; associated data: the first 20; numbers in host order

In a chrony cookie, the length of the keys tells the algorithm. chrony's key file begins with NKS1 and an age; then each
line is an identifier, a key and an AEAD algorithm. NKS0, up to chrony 4.3, has one algorithm beside the age instead.
NTPsec's key file has lines `I: identifier` and `K: key`, after lines with a time (T:) and a length (L:).

chronyd keeps four keys: two old ones, the current one, and the next, which opens cookies already. The two lowest bits
of an identifier are the key's place, and count up from key to key. NTPsec keeps ten, the current one first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from nts.base.errors import AuthError, FormatError
from nts.base.wire import Reader
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import COOKIE_AEAD, MASTER_KEY_LENGTH, CookieFormat, ForeignKey, KeyRing

MAX_KEYS = 64  # of one file
ID_LENGTH = 4
PLACES = 4
"""of chronyd's keys"""
_NTPSEC_KEYS = 10
ROOM = {CookieFormat.CHRONY: PLACES, CookieFormat.NTPSEC: _NTPSEC_KEYS}
"""how many keys another server has, those included that open only"""
MAX_OWN_ID = 0xFFFF
_TAG_LENGTH = 16
# What NTPsec speaks, by the length of a key.
_NTPSEC_AEADS = {a.key_length: a for a in (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_384, Aead.AES_SIV_CMAC_512)}
# What chrony speaks, by the length of both keys.
_CHRONY_AEADS = {2 * a.key_length: a for a in (Aead.AES_SIV_CMAC_256, Aead.AES_128_GCM_SIV)}
AEADS = {
    CookieFormat.CHRONY: tuple(_CHRONY_AEADS.values()),
    CookieFormat.NTPSEC: tuple(_NTPSEC_AEADS.values()),
}
"""the algorithms whose keys another server opens in its cookies"""
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,64}")
_ID = re.compile(r"[0-9a-fA-F]{8}")
_NUMBER = re.compile(r"[0-9]{1,5}")


# --- cookies ---------------------------------------------------------------------------------------------------------


def seal(key: ForeignKey, keys: SessionKeys, nonce: bytes) -> bytes:
    """Make a cookie with these keys. The nonce has 16 random octets, or 12 for AES-GCM-SIV."""
    head, plaintext = key.wire_id + nonce, keys.c2s + keys.s2c
    if key.format is CookieFormat.CHRONY:
        return head + key.cipher.seal(nonce, plaintext, b"")
    return head + key.cipher.seal(nonce, keys.aead.to_bytes(4, "little") + plaintext, head)


def cookie_length(cookie_format: CookieFormat, aead: Aead) -> int:
    """Octets of a cookie that a key of COOKIE_AEAD makes."""
    number = 4 if cookie_format is CookieFormat.NTPSEC else 0
    return ID_LENGTH + COOKIE_AEAD.nonce_length + _TAG_LENGTH + number + 2 * aead.key_length


def open_cookie(key: ForeignKey, cookie: bytes) -> SessionKeys | None:
    """The keys in a cookie; None when it was not made with this key."""
    head, ntpsec = cookie[: ID_LENGTH + key.aead.nonce_length], key.format is CookieFormat.NTPSEC
    if cookie[:ID_LENGTH] != key.wire_id:
        return None
    try:
        plaintext = key.cipher.open(head[ID_LENGTH:], cookie[len(head) :], head if ntpsec else b"")
    except AuthError:
        return None
    return _ntpsec_contents(plaintext) if ntpsec else _chrony_contents(plaintext)


def _chrony_contents(plaintext: bytes) -> SessionKeys | None:
    if len(plaintext) not in _CHRONY_AEADS:
        return None
    half = len(plaintext) // 2
    return SessionKeys(_CHRONY_AEADS[len(plaintext)], plaintext[:half], plaintext[half:])


def _ntpsec_contents(plaintext: bytes) -> SessionKeys | None:
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
    """The keys in chronyd's file `ntskeys`: old ones, the current, and the next. FormatError when it is not one."""
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
    return ForeignKey(CookieFormat.CHRONY, int(row[0], 16), _key(row[1], aead), aead)


def read_ntpsec(text: str) -> tuple[ForeignKey, ...]:
    """The keys in an NTPsec server's file `nts-keys`, the current one first. FormatError when it is not one."""
    number, keys = None, []
    for line in text.splitlines()[: 4 + 2 * MAX_KEYS]:
        name, _, rest = line.partition(":")
        value = rest.strip()
        if name == "I" and re.fullmatch(r"[0-9]{1,10}", value) and int(value) < 2**32:
            number = int(value)
        elif name == "K" and number is not None:
            aead = _NTPSEC_AEADS.get(len(value) // 2, Aead.AES_SIV_CMAC_256)
            keys.append(ForeignKey(CookieFormat.NTPSEC, number, _key(value, aead), aead))
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


def write_chrony(ring: KeyRing, kept: Iterable[ForeignKey], random: Callable[[int], bytes]) -> str:
    """The file `ntskeys` with the keys of the ring, as all versions read it. FormatError when they do not fit.

    `kept` are chronyd's own keys: they hold their places until keys of ours need them. Places that are left get keys of
    `random` octets, for chronyd reads no file with less than four.
    """
    newest, *others = [k.foreign(CookieFormat.CHRONY) for k in (*ring.staged[-1:], *reversed(ring.keys))]
    last = newest.id if ring.staged else newest.id + 1
    places: dict[int, ForeignKey] = {}
    for key in (newest, *kept, *others):
        places.setdefault(key.id % PLACES, key)
    if (last - 1) % PLACES not in places:
        raise FormatError("the identifier of the staged key does not follow that of the current one: stage another")
    lines = []
    for place in range(last - PLACES + 1, last + 1):
        key_id = int.from_bytes(random(ID_LENGTH), "big") | MAX_OWN_ID + 1
        filler = ForeignKey(CookieFormat.CHRONY, key_id - key_id % PLACES + place % PLACES, random(MASTER_KEY_LENGTH))
        key = places.get(place % PLACES, filler)
        lines.append(f"{key.id:08X} {key.key.hex().upper()}\n")
    return f"NKS0\n{int(COOKIE_AEAD)} 0.0\n" + "".join(lines)


def write_ntpsec(ring: KeyRing, kept: Iterable[ForeignKey], _: Callable[[int], bytes]) -> str:
    """NTPsec's file `nts-keys` with the keys of the ring, and then those of its own, as far as there is room.

    Of time 0: so NTPsec makes no key of its own later.
    """
    current, *older = reversed(ring.keys)
    keys = [*(k.foreign(CookieFormat.NTPSEC) for k in (current, *ring.staged, *older)), *kept][:_NTPSEC_KEYS]
    return f"T: 0\nL: {MASTER_KEY_LENGTH}\n" + "".join(f"I: {k.id}\nK: {k.key.hex()}\n" for k in keys)


def fits(cookie_format: CookieFormat, ring: KeyRing) -> bool:
    """Whether another server's file has room for all keys of the ring. chronyd's has if no two have the same place."""
    taken = {k.id % PLACES if cookie_format is CookieFormat.CHRONY else k.id for k in ring.openers}
    return len(ring.openers) == len(taken) <= ROOM[cookie_format]


def beside(cookie_format: CookieFormat, ring: KeyRing, kept: Iterable[ForeignKey]) -> tuple[ForeignKey, ...]:
    """Those of another server's own keys that leave room for all keys of the ring."""
    taken = {k.id % PLACES for k in ring.openers} if cookie_format is CookieFormat.CHRONY else ()
    return tuple(k for k in kept if k.id % PLACES not in taken)


def to_keep(keys: Iterable[ForeignKey]) -> tuple[ForeignKey, ...]:
    """Those of another server's own keys that its file can hold beside ours: all of one algorithm."""
    return tuple(k for k in keys if k.id > MAX_OWN_ID and k.aead is COOKIE_AEAD)


READERS = {CookieFormat.CHRONY: read_chrony, CookieFormat.NTPSEC: read_ntpsec}
WRITERS = {CookieFormat.CHRONY: write_chrony, CookieFormat.NTPSEC: write_ntpsec}
