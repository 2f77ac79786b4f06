# SPDX-License-Identifier: MIT
"""The native engine beside the reference: whether both do the same with a packet.

Both get the same keys, clock and random octets. The engine draws octets for the packets of a batch in order, the
reference packet by packet, so both must draw equally many. `covered` decides, independently of both, which packets the
engine must not hand over.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from nts.codec.keyring import CookieFormat, KeyRing
from nts.protocol import ts_server
from nts.protocol.ts_server import MAX_REQUEST, Outcome, SystemVariables
from testkit.engine import EngineForTests
from testkit.engine_packets import nonce_wanted
from testkit.packets import AUTHENTICATOR, COOKIE, DEPARTED, PLACEHOLDER, RECEIVED, RING, SYSTEM, UNIQUE_IDENTIFIER

BATCH = 64
MOST_OCTETS = BATCH * (8 + 1) * 16  # that a batch can draw: nonces of eight cookies and of one reply each
OCTETS = hashlib.shake_128(b"stream").digest(MOST_OCTETS)
Outcomes = list[Outcome | None]
Candidates = list[tuple[bytes | None, list[bytes], int, bytes]]


@lru_cache(maxsize=1)
def engine() -> EngineForTests:
    return EngineForTests()


class Stream:
    """Draws the same octets as the engine, in the same order."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int) -> bytes:
        self.drawn += count
        assert self.drawn <= len(OCTETS)
        return OCTETS[self.drawn - count : self.drawn]


def _as_expected(authenticator: bytes) -> bool:
    """Whether an authenticator has a nonce of 12 or 16 octets, and nothing but a tag."""
    nonce, sealed = struct.unpack_from(">HH", authenticator)
    return nonce in (12, 16) and sealed == 16 and len(authenticator) >= 4 + nonce + sealed


def shape_of(packet: bytes) -> str:
    """One letter for each extension field of a packet: U, C, P or A if the field itself is as expected, else "?".

    Empty when the fields do not fill the packet exactly.
    """
    at, letters, cookie = 48, "", -1
    while at < len(packet):
        kind, length = struct.unpack_from(">HH", packet, at)
        if length < 16 or length % 4 or at + length > len(packet):
            return ""
        body = packet[at + 4 : at + length]
        if kind == COOKIE:
            cookie = length
        known = {
            UNIQUE_IDENTIFIER: ("U", length >= 36),
            COOKIE: ("C", True),
            PLACEHOLDER: ("P", length == cookie),
            AUTHENTICATOR: ("A", _as_expected(body)),
        }
        letter, fits = known.get(kind, ("?", False))
        letters += letter if fits else "?"
        at += length
    return letters


def fields(packet: bytes) -> dict[int, bytes]:
    """The bodies of a packet's extension fields, which fill it exactly, by type."""
    at, bodies = 48, {}
    while at < len(packet):
        kind, length = struct.unpack_from(">HH", packet, at)
        bodies[kind] = packet[at + 4 : at + length]
        at += length
    return bodies


def candidates(cookie: bytes, ring: KeyRing) -> Candidates:
    """What may have sealed a cookie: key (None: not AES-SIV-CMAC-256), nonces, octets of a number, associated data."""
    lengths = {64: (12,), 96: (12,), 104: (16, 20), 136: (20,), 168: (20,)}.get(len(cookie), (16,))
    own: Candidates = [(k.key, [cookie[2 : 2 + n] for n in lengths], 2, b"")
           for k in ring.openers if cookie[:2] == struct.pack(">H", k.id)]  # fmt: skip
    nonce, head = [cookie[4:20]], cookie[:20]
    chrony: Candidates = [(k.key, nonce, 0, b"") for k in ring.openers if cookie[:4] == struct.pack(">I", k.id)]
    ntpsec: Candidates = [(k.key, nonce, 4, head) for k in ring.openers if cookie[:4] == struct.pack("<I", k.id)]
    for k in ring.imported:
        if cookie[:4] == k.wire_id:
            found, number = (chrony, 0) if k.format is CookieFormat.CHRONY else (ntpsec, 4)
            found.insert(0, (k.key if k.aead == 15 else None, nonce, number, head if number else b""))
    return [c[-1] for c in (own, chrony, ntpsec) if c]  # of several with one identifier, the newest


def may_be_left(packet: bytes, ring: KeyRing) -> bool:
    """Whether the reference has to look: which key was it, or are there keys for the request's nonce?"""
    cookie, authenticator = (fields(packet)[kind] for kind in (COOKIE, AUTHENTICATOR))
    found = candidates(cookie, ring)
    if len(found) != 1:
        return len(found) > 1
    key, nonces, number, associated = found[0]
    if key is None:
        return True
    for nonce in nonces:
        sealed = cookie[len(nonce) + (2 if number == 2 else 4) :]
        with suppress(InvalidTag, ValueError):
            contents = AESSIV(key).decrypt(sealed, [associated, nonce])
            return nonce_wanted(as_ours(contents, number)) != int.from_bytes(authenticator[:2], "big")
    return False


def as_ours(contents: bytes, number: int) -> bytes:
    """What a cookie of ours would hold in place of these contents, whose algorithm has so many octets."""
    if number == 2:
        return contents
    aead = {32: 30, 64: 15}.get(len(contents), 0) if number == 0 else int.from_bytes(contents[:4], "little")
    return struct.pack(">H", aead if aead < 2**16 and (number, aead) != (4, 30) else 0) + contents[number:]


def covered(packet: bytes, ring: KeyRing) -> bool:
    """Whether the engine must judge the packet itself."""
    if not 48 <= len(packet) <= MAX_REQUEST or len(packet) % 4 or len(packet) == 48:
        return True
    version, mode = packet[0] >> 3 & 7, packet[0] & 7
    if version != 4 or mode != 3:
        return True
    return bool(re.fullmatch("(UC|CU)P*A", shape_of(packet))) and not may_be_left(packet, ring)


def judged(
    packets: Sequence[bytes], ring: KeyRing = RING, system: SystemVariables = SYSTEM, *,
    received: int = RECEIVED, transmit: int = DEPARTED,
) -> Outcomes:  # fmt: skip
    """The engine's outcomes for packets as one batch, after a comparison with the reference."""
    assert len(packets) <= BATCH
    arrivals = [(received + 977 * i) % 2**64 for i in range(len(packets))]
    stream = Stream()
    engine().set_keys(ring)
    engine().set_system(system)
    outcomes, drawn = engine().answer(packets, arrivals, transmit, OCTETS)
    for packet, arrival, outcome in zip(packets, arrivals, outcomes, strict=True):
        if outcome is None:
            assert not covered(packet, ring), f"handed over: {packet.hex()}"
            continue
        expected = ts_server.respond(
            packet, keys=ring, system=system, received=arrival, now=lambda: transmit, random=stream
        )
        assert outcome == expected, packet.hex()
    assert drawn == stream.drawn
    return outcomes


def judged_all(packets: Iterable[bytes], ring: KeyRing = RING) -> Outcomes:
    """The same for any number of packets, in batches of all sizes."""
    rest, outcomes, size = iter(packets), Outcomes(), 0
    while batch := list(islice(rest, size % BATCH + 1)):
        outcomes += judged(batch, ring)
        size += 29
    return outcomes


def tally(outcomes: Outcomes) -> Tally[str]:
    return Tally("HANDED_OVER" if o is None else o.verdict.name for o in outcomes)
