# SPDX-License-Identifier: MIT
"""Packets of every kind for the native engine: those that it covers, bad ones, and those that it must hand over."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import product
from random import Random

from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import MasterKey
from testkit.packets import (
    AUTHENTICATOR,
    COOKIE,
    COVERED_AEADS,
    CURRENT_KEY,
    GCM_SIV,
    OLD_KEY,
    PLACEHOLDER,
    UNIQUE_IDENTIFIER,
    UNKNOWN_FIELD,
    Counter,
    authenticator,
    cookie_of,
    flipped,
    foreign_cookie,
    nonce_for,
    raw_field,
    session_keys,
)

CONTENTS = {(15, 66): 16, (16, 98): 16, (17, 130): 16, (30, 34): 12}
"""algorithm and length of a cookie's plaintext that the engine knows, and the nonce that it expects then"""
SESSIONS = {a: session_keys(a, f"parity-{int(a)}") for a in COVERED_AEADS}
STRANGER = MasterKey(CURRENT_KEY.id, bytes(range(32, 63)) + b"\0")  # the right identifier, another key
ABSENT = MasterKey(0x4321, bytes(range(32)))


def nts(
    keys: SessionKeys, *, cookie: bytes | None = None, placeholders: int = 0, uid: int = 32, header: bytes = b"",
    key: bytes | None = None, cookie_first: bool = False, spare: int = 0,
) -> bytes:  # fmt: skip
    """A request that the engine covers. `header` is up to 48 octets, whose version and mode are corrected."""
    head = bytearray(header.ljust(48, b"\x5a"))
    head[0] = head[0] & 0xC0 | 0x23
    cookie = cookie_of(keys) if cookie is None else cookie
    fields = [raw_field(UNIQUE_IDENTIFIER, Counter(uid)(uid)), raw_field(COOKIE, cookie)]
    packet = bytes(head) + b"".join(fields[::-1] if cookie_first else fields)
    packet += placeholders * raw_field(PLACEHOLDER, bytes(len(cookie)))
    nonce = Counter(header)(len(nonce_for(keys.aead)))
    return packet + authenticator(key or keys.c2s, nonce, b"", packet, spare, keys.aead)


def nonce_wanted(contents: bytes) -> int:
    """How long the engine wants a request's nonce to be if its cookie has these contents; 0: it does not know them."""
    if contents[:2] == b"\0\x1e" and len(contents) == 70 and contents[34:38] == b"\0\0\0\x0f":  # two pairs of keys
        return 12
    return CONTENTS.get((int.from_bytes(contents[:2], "big"), len(contents)), 0)


def bad_cookies(keys: SessionKeys) -> dict[str, bytes]:
    """Cookies that must bring a NAK: not ours, or damaged."""
    good, octets = cookie_of(keys), Counter("bad cookies")
    return {
        "unknown-key": cookie_of(keys, ABSENT),
        "wrong-key": cookie_of(keys, STRANGER),
        "random": octets(len(good)),
        "short": good[:12],
        "no-tag": good[:32],
        "least": foreign_cookie(b"")[:32] + bytes(4),
        "long": good + bytes(8),
        "longest": CURRENT_KEY.id.to_bytes(2, "big") + octets(1598),
        "tag": flipped(good, 8 * 18),
        "end": flipped(good, 8 * len(good) - 1),
    }


def foreign_cookies() -> list[bytes]:
    """Authentic cookies whose contents are not what the engine knows: they may be for other algorithms."""
    octets = Counter("foreign cookies")
    kinds, sizes = (0, 14, 15, 16, 17, 18, 30, 0x0F0F, 0x010F, 0xFFFF), (2, 6, 34, 58, 66, 70, 98, 130)
    return [
        foreign_cookie(struct.pack(">H", kind) + octets(size - 2))
        for kind, size in product(kinds, sizes)
        if (kind, size) not in CONTENTS
    ]


def naks() -> Iterator[bytes]:
    for keys in SESSIONS.values():
        for cookie in bad_cookies(keys).values():
            yield nts(keys, cookie=cookie)
        for key in (keys.s2c, bytes(len(keys.c2s)), keys.c2s[::-1]):
            yield nts(keys, key=key, placeholders=2)


def foreign() -> Iterator[bytes]:
    for keys in SESSIONS.values():
        for cookie in foreign_cookies():
            yield nts(keys, cookie=cookie)


def wholesome() -> Iterator[bytes]:
    """Plain requests, and NTS requests with all numbers of placeholders and lengths of identifiers."""
    for version, leap in product((3, 4), range(4)):
        yield bytes([leap << 6 | version << 3 | 3]) + Counter(leap)(47)
    for keys in SESSIONS.values():
        for placeholders in range(11):
            for master in (OLD_KEY, CURRENT_KEY):
                yield nts(keys, cookie=cookie_of(keys, master), placeholders=placeholders)
        for uid in range(32, 204, 4):
            yield nts(keys, uid=uid, header=Counter(uid)(48), placeholders=uid % 3, cookie_first=uid % 8 == 0)
        for spare in (4, 8, 100):
            yield nts(keys, placeholders=spare % 3, spare=spare)


def refused() -> Iterator[bytes]:
    """Packets that length, version and mode decide."""
    good = nts(SESSIONS[Aead.AES_SIV_CMAC_256])
    for length in (*range(53), 2044, 2045, 2047, 2048, 2049, 2052):
        yield good.ljust(length, b"\x5a")[:length]
    for odd in (1, 2, 3):  # fields that are not multiples of four, in a packet that is one
        head = good[:48] + raw_field(UNIQUE_IDENTIFIER, bytes(32 + odd)) + raw_field(COOKIE, bytes(104 - odd))
        yield head + authenticator(bytes(32), bytes(16), b"", head)
    for first in range(256):
        yield bytes([first]) + good[1:48]
        yield bytes([first]) + good[1:]


class Splicer:
    """Packets of good and bad fields in any order; authenticators are genuine or not."""

    def __init__(self, seed: object) -> None:
        self.draw = Random(f"{seed}")

    def __call__(self) -> bytes:
        draw = self.draw
        keys = SESSIONS[draw.choice(COVERED_AEADS)]
        cookie = cookie_of(keys, draw.choice((OLD_KEY, CURRENT_KEY, CURRENT_KEY, ABSENT)))
        good_order = ["U", "C", *"P" * draw.randrange(4), "A"]
        order = good_order if draw.random() < 0.7 else draw.choices("UCPA?upcax", k=draw.randrange(1, 8))
        for _ in range(draw.choice((0, 0, 0, 1, 2))):
            order[draw.randrange(len(order))] = draw.choice("UCPA?upcax")
        packet = bytes([0x23]) + draw.randbytes(47)
        for letter in order:
            packet += self.field(letter, keys, cookie, packet)
        return packet

    def field(self, letter: str, keys: SessionKeys, cookie: bytes, packet: bytes) -> bytes:
        draw = self.draw
        match letter:
            case "U":
                return raw_field(UNIQUE_IDENTIFIER, draw.randbytes(4 * draw.choice((8, 8, 9, 50))))
            case "u":  # too short
                return raw_field(UNIQUE_IDENTIFIER, draw.randbytes(4 * draw.randrange(8)))
            case "C":
                return raw_field(COOKIE, cookie)
            case "c":
                return raw_field(COOKIE, draw.randbytes(4 * draw.randrange(45)))
            case "P":
                return raw_field(PLACEHOLDER, draw.randbytes(len(cookie)))
            case "p":
                return raw_field(PLACEHOLDER, bytes(4 * draw.randrange(45)))
            case "A":
                return authenticator(keys.c2s, draw.randbytes(len(nonce_for(keys.aead))), b"", packet, aead=keys.aead)
            case "a":  # authentic, but not as the engine expects
                inside = draw.choice((b"", raw_field(PLACEHOLDER, bytes(len(cookie))), raw_field(COOKIE), b"odd"))
                nonce = draw.randbytes(12 if keys.aead == GCM_SIV else draw.choice((1, 12, 15, 16, 17, 24)))
                return authenticator(keys.c2s, nonce, inside, packet, 4 * draw.randrange(5), keys.aead)
            case "x":  # in its length
                return raw_field(draw.choice((UNIQUE_IDENTIFIER, COOKIE, AUTHENTICATOR)), bytes(36), draw.randrange(64))
            case _:
                return raw_field(UNKNOWN_FIELD, draw.randbytes(4 * draw.randrange(3, 10)))


def harmed(packets: Sequence[bytes], seed: object, count: int) -> Iterator[bytes]:
    """Mutations of packets, most of them in one or a few octets."""
    draw = Random(f"{seed}")
    for packet in (draw.choice(packets) for _ in range(count)):
        octets = bytearray(packet)
        for _ in range(draw.choice((1, 1, 1, 2, 8))):
            at = draw.choice((draw.randrange(len(octets) + 1), draw.randrange(48, max(len(octets), 49))))
            match draw.randrange(5):
                case 0 | 1 if at < len(octets):
                    octets[at] ^= 1 << draw.randrange(8)
                case 2:
                    octets[at : at + 2] = struct.pack(">H", draw.choice((0, 4, 16, 36, 40, 104, 0xFFFF)))
                case 3:
                    octets[at & ~3 : at & ~3] = draw.randbytes(4 * draw.randrange(1, 12))
                case _:
                    del octets[at & ~3 : (at & ~3) + 4 * draw.randrange(1, 12)]
        yield bytes(octets)
